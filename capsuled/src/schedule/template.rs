//! What each fire of a schedule submits, as it is on disk: ten thousand wait in memory, and few of
//! them are looked at.

use capsule_core::spec::TaskSpec;
use minicbor::decode::Error as Unreadable;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::Schedule;

/// A task as each fire submits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[u8]>);

impl Template {
    /// Of this task.
    pub fn of(spec: &TaskSpec) -> Self {
        // Writing into memory does not fail.
        Self(minicbor::to_vec(spec).unwrap_or_default().into_boxed_slice())
    }

    /// The task.
    ///
    /// # Errors
    /// This version cannot read it.
    pub fn spec(&self) -> Result<TaskSpec, Unreadable> {
        decode(&self.0)
    }
}

impl Schedule {
    /// What each fire submits; `None` = a handler's run, or this version cannot read it.
    pub fn submits(&self) -> Option<TaskSpec> {
        self.template.as_ref()?.spec().ok()
    }
}

impl<C> Encode<C> for Template {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.writer_mut().write_all(&self.0).map_err(encode::Error::write)
    }
}

impl<'b, C> Decode<'b, C> for Template {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Unreadable> {
        let from = d.position();
        // Read now, so that a damaged record is found when the store is opened, not when it fires.
        drop(d.decode::<TaskSpec>()?);
        let bytes = d.input().get(from..d.position());
        Ok(Self(bytes.ok_or_else(Unreadable::end_of_input)?.into()))
    }
}
