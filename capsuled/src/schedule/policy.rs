//! What a schedule does besides its plan: when fires meet, come late, or are not wanted.

use capsule_core::time::{Span, Timestamp};
use minicbor::{Decode, Encode};

/// Ticks that wait for the run before, at the most; more are skipped.
pub const BUFFER_MAX: usize = 100;

/// Ticks caught up at once, at the most; older ones are missed.
pub const CATCH_UP_MAX: u32 = 1000;

/// The longest jitter: a day.
pub const JITTER_MAX: Span = Span::from_secs(86_400);

/// What goes for all fires of a schedule. Fields are numbered for the disk: never reuse a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Policy {
    /// What happens while the run of the fire before has not ended.
    #[n(0)]
    #[cbor(default)]
    pub overlap: Overlap,
    /// Which ticks are carried out when nobody was there for them.
    #[n(1)]
    #[cbor(default)]
    pub catch_up: CatchUp,
    /// Each fire comes up to so much later, by the same time whenever it is worked out.
    #[n(2)]
    #[cbor(default)]
    pub jitter: Span,
    /// No tick before.
    #[n(3)]
    pub start: Option<Timestamp>,
    /// No tick after.
    #[n(4)]
    pub end: Option<Timestamp>,
    /// So many fires, and no more.
    #[n(5)]
    pub limit: Option<u32>,
    /// Paused after so many failures in a row.
    #[n(6)]
    pub pause_after_failures: Option<u32>,
    /// What has to end before the next fire does not overlap.
    #[n(7)]
    #[cbor(default)]
    pub counts: Counted,
}

/// What happens to a fire while the run of the one before has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Overlap {
    /// It is skipped.
    #[default]
    #[n(0)]
    Skip,
    /// One waits until that has ended; what comes meanwhile is skipped.
    #[n(1)]
    BufferOne,
    /// Each waits for its turn; at most [`BUFFER_MAX`].
    #[n(2)]
    BufferAll,
    /// The run before is cancelled, and this one starts when that has ended.
    #[n(3)]
    CancelOther,
    /// Both run.
    #[n(4)]
    Allow,
}

/// Which ticks are carried out when nobody was there for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum CatchUp {
    /// The last one, when it is neither older than its period nor than a day.
    #[default]
    #[n(0)]
    Latest,
    /// None.
    #[n(1)]
    Skip,
    /// The last ones, at most so many.
    #[n(2)]
    All(#[n(0)] u32),
}

/// What has to end before the next fire does not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Counted {
    /// The run itself.
    #[default]
    #[n(0)]
    Run,
    /// The run, and all tasks that it submitted.
    #[n(1)]
    Submitted,
}

/// A schedule that does not fire until it is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Paused {
    /// Since when.
    #[n(0)]
    pub since: Timestamp,
    /// By whom; empty = by itself, after failures.
    #[n(1)]
    pub by: String,
    /// Why.
    #[n(2)]
    pub note: String,
    /// A backfill was asked for since: that goes on all the same.
    #[n(3)]
    #[cbor(default)]
    pub backfills: bool,
}

impl Overlap {
    /// Every word with its meaning, as manifests and flags write them.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("skip", Self::Skip),
        ("buffer_one", Self::BufferOne),
        ("buffer_all", Self::BufferAll),
        ("cancel_other", Self::CancelOther),
        ("allow", Self::Allow),
    ];

    /// From its word; dashes are as good as underscores.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.replace('-', "_");
        Self::WORDS.into_iter().find(|(name, _)| *name == word).map(|(_, overlap)| overlap)
    }

    /// How many ticks may wait.
    pub const fn room(self) -> usize {
        match self {
            Self::Skip | Self::Allow => 0,
            Self::BufferOne | Self::CancelOther => 1,
            Self::BufferAll => BUFFER_MAX,
        }
    }
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = Self::WORDS.into_iter().find(|(_, overlap)| overlap == self);
        f.write_str(word.map_or("", |(name, _)| name))
    }
}

impl CatchUp {
    /// From `latest`, `skip`, `all` or `all(12)`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "latest" => Some(Self::Latest),
            "skip" => Some(Self::Skip),
            "all" => Some(Self::All(CATCH_UP_MAX)),
            _ => {
                let count = word.strip_prefix("all(")?.strip_suffix(')')?.trim().parse().ok()?;
                (1..=CATCH_UP_MAX).contains(&count).then_some(Self::All(count))
            }
        }
    }
}

impl Counted {
    /// From `run` or `submitted`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "run" => Some(Self::Run),
            "submitted" => Some(Self::Submitted),
            _ => None,
        }
    }
}

impl std::fmt::Display for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Skip => f.write_str("skip"),
            Self::All(count) => write!(f, "all({count})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_as_they_are_said() {
        for (word, overlap) in Overlap::WORDS {
            assert_eq!(overlap.to_string(), word);
            assert_eq!(Overlap::parse(&word.replace('_', "-")), Some(overlap));
        }
        assert_eq!(Overlap::parse("none"), None);
        for catch_up in [CatchUp::Latest, CatchUp::Skip, CatchUp::All(7)] {
            assert_eq!(CatchUp::parse(&catch_up.to_string()), Some(catch_up));
        }
        assert_eq!(CatchUp::parse("all"), Some(CatchUp::All(CATCH_UP_MAX)));
        for wrong in ["all(0)", "all(1001)", "all()", "any"] {
            assert_eq!(CatchUp::parse(wrong), None);
        }
    }
}
