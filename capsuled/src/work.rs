//! What an attempt is to run, as it is kept in a task's payload.

use minicbor::{Decode, Encode};

/// The label that names the chat session a task is bound to.
pub const SESSION_LABEL: &str = "session";

/// The payload of a task.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Work {
    /// Any program.
    #[n(0)]
    Program(#[n(0)] Program),
    /// A call of a task definition.
    #[n(1)]
    Call(#[n(0)] Call),
}

/// Any program, as submitted.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Program {
    /// The program and its arguments.
    #[n(0)]
    pub argv: Vec<String>,
    /// `argv[0]` is text for `/bin/sh -c`.
    #[n(1)]
    pub shell: bool,
    /// Where it runs.
    #[n(2)]
    pub cwd: String,
    /// Its environment.
    #[n(3)]
    pub env: Vec<(String, String)>,
    /// Its input; `None` = nothing.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub stdin: Option<Vec<u8>>,
}

/// The arguments of a call.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Call {
    /// A JSON object, defaults filled in.
    #[n(0)]
    pub arguments: String,
}

impl Work {
    /// As bytes for a task's payload.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to memory does not fail")
    }

    /// From the bytes of a task's payload; `None` when they are something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

/// Arguments and environment may hold secrets, so neither is printed.
impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Program(program) => program.fmt(f),
            Self::Call(call) => call.fmt(f),
        }
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("argv0", &self.argv.first()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl Work {
    /// A digest of what is asked for, to tell whether two submits ask for the same. The
    /// environment is left out: it differs between two shells of one user.
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv::default();
        match self {
            Self::Program(program) => {
                for word in &program.argv {
                    hash.write(word.as_bytes());
                    hash.write(&[0]);
                }
                hash.write(&[u8::from(program.shell)]);
                hash.write(program.cwd.as_bytes());
                hash.write(program.stdin.as_deref().unwrap_or_default());
            }
            Self::Call(call) => hash.write(call.arguments.as_bytes()),
        }
        hash.0
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): short, and the same on every machine.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
