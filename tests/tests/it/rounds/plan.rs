//! What is submitted, and what must become of it.

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use capsule_proto::v1::{Delivery, LockPolicy, Options, SubmitRequest};
use capsule_tests::rpc;

/// Choices that a seed repeats (splitmix64).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

/// A seed that no run had before.
pub(super) fn any_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(super) fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

/// One task. Each of its attempts notes that it began, and that it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Writes lines and ends by a code; never to be run again.
    Once { lines: u64, code: u64 },
    /// As that, but not at once.
    Later { millis: u64 },
    /// Fails once and then does not.
    Flaky,
    /// Notes when it enters and leaves what only one may be in.
    Locked { key: u64 },
}

impl Plan {
    pub(super) fn any(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Later { millis: random.below(600) },
            1 => Self::Flaky,
            2 => Self::Locked { key: random.below(2) },
            _ => Self::Once { lines: random.below(12), code: random.below(3) },
        }
    }

    pub(super) fn may_be_cancelled(self) -> bool {
        !matches!(self, Self::Locked { .. })
    }

    pub(super) fn request(self, folder: &Path) -> SubmitRequest {
        let body = match self {
            Self::Once { lines, .. } => {
                format!(
                    "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.02; done"
                )
            }
            Self::Later { .. } => ":".to_owned(),
            Self::Flaky => "[ $CAPSULE_ATTEMPT -ge 2 ] || code=9".to_owned(),
            Self::Locked { key } => {
                format!("echo in $$ >> lock-{key}; sleep 0.03; echo out $$ >> lock-{key}")
            }
        };
        let script = format!(
            "cd {}; me=\"$CAPSULE_TASK_ID $CAPSULE_ATTEMPT\"; code={}; \
             echo \"begin $me\" >> notes; {body}; echo \"end $me\" >> notes; exit $code",
            folder.display(),
            self.code()
        );
        rpc::script(&script, self.options())
    }

    fn options(self) -> Options {
        let plain = Options::default();
        match self {
            Self::Once { .. } => plain,
            Self::Later { millis } => Options { delay_ms: Some(millis), ..plain },
            Self::Flaky => Options {
                retries: Some(2),
                backoff: "fixed:200ms".to_owned(),
                delivery: Delivery::AtLeastOnce.into(),
                ..plain
            },
            Self::Locked { key } => Options {
                lock: Some(format!("key {key}")),
                lock_policy: LockPolicy::Wait.into(),
                ..plain
            },
        }
    }

    /// The exit code that its last attempt ends with.
    pub(super) fn code(self) -> u64 {
        match self {
            Self::Once { code, .. } => code,
            Self::Later { .. } | Self::Flaky | Self::Locked { .. } => 0,
        }
    }

    /// How many attempts it takes.
    pub(super) fn attempts(self) -> u32 {
        if self == Self::Flaky { 2 } else { 1 }
    }

    /// What it writes to its stdout.
    pub(super) fn output(self) -> String {
        match self {
            Self::Once { lines, .. } => (1..=lines)
                .fold(String::new(), |text, line| text + "line " + &line.to_string() + "\n"),
            Self::Later { .. } | Self::Flaky | Self::Locked { .. } => String::new(),
        }
    }
}
