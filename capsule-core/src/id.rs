//! Ids. People type the counter; machines that compare two stores use the UUID.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use minicbor::{Decode, Encode};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

counter! {
    /// The daemon-wide counter of a task: never reused, typed by people (`1842`).
    TaskId
}

counter! {
    /// The daemon-wide id of a schedule, from the counter of tasks: no task has the same.
    ScheduleId
}

counter! {
    /// The number of a change. Rises by one for each change and never goes back.
    Seq
}

/// The number of an attempt, from 1. It is the fencing token: a report that names another number
/// than the live one changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct AttemptNumber(#[n(0)] pub u32);

impl AttemptNumber {
    /// The number of the attempt after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 bits: the `UUIDv7` of a task (RFC 9562), or the random id of one life of a keeper.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Uuid(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl Uuid {
    /// The first and the second half, as numbers: a source of deterministic chance.
    pub fn halves(self) -> (u64, u64) {
        let whole = u128::from_be_bytes(self.0);
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
        ((whole >> 64) as u64, whole as u64)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a UUID of 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct NotAUuid;

impl FromStr for Uuid {
    type Err = NotAUuid;

    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotAUuid);
        }
        u128::from_str_radix(&digits, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| NotAUuid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_uuid_is_read_back_as_printed(bytes: [u8; 16]) {
            let uuid = Uuid(bytes);
            prop_assert_eq!(uuid.to_string().parse::<Uuid>(), Ok(uuid));
            prop_assert_eq!(format!("{uuid:?}"), uuid.to_string());
        }
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        for text in
            ["", "zz", "0123456789abcdef0123456789abcdeg", "+123456789abcdef0123456789abcdef"]
        {
            assert_eq!(text.parse::<Uuid>(), Err(NotAUuid), "{text}");
        }
        assert_eq!(NotAUuid.to_string(), "not a UUID");
        assert_eq!(Uuid([1; 16]).to_string(), "01010101-0101-0101-0101-010101010101");
        let (high, low) = Uuid([1; 16]).halves();
        assert_eq!((high, low), (0x0101_0101_0101_0101, 0x0101_0101_0101_0101));
    }

    #[test]
    fn attempts_are_counted_up() {
        assert_eq!(AttemptNumber(1).next(), AttemptNumber(2));
        assert_eq!(AttemptNumber(7).to_string(), "7");
        assert_eq!(TaskId(7).to_string(), "7");
        assert_eq!("7".parse(), Ok(TaskId(7)));
    }
}
