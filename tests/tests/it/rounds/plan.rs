//! What is submitted, and what must become of it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use capsule_proto::v1::submit_request::Work;
use capsule_proto::v1::{Delivery, LockPolicy, Options, Status, SubmitRequest};
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

    pub(super) fn any<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let chosen = self.below(all.len().max(1) as u64);
        all.get(usize::try_from(chosen).unwrap()).copied()
    }
}

/// One task. Each of its attempts notes that it began, and that it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Writes lines and ends by a code; never to be run again.
    Once { lines: u64, code: u64 },
    /// Ends at once, but does not begin so.
    Later { millis: u64 },
    /// Fails once and then does not.
    Flaky,
    /// Notes when it enters and leaves what only one may be in; waits for it, or merges into who
    /// waits or is in there.
    Locked { key: u64, merge: bool },
    /// Kills itself.
    Signal,
    /// Runs for too long.
    Timeout,
    /// There is no such program.
    Absent,
    /// Counts what it is given, too much for a record.
    Large,
}

/// As many bytes are not kept in a task's record.
const LARGE: usize = 20_000;

impl Plan {
    pub(super) fn any(random: &mut Random) -> Self {
        match random.below(16) {
            0 | 1 => Self::Later { millis: random.below(600) },
            2 | 3 => Self::Flaky,
            4 | 5 => Self::Locked { key: random.below(2), merge: false },
            6 => Self::Signal,
            7 => Self::Timeout,
            8 => Self::Absent,
            9 => Self::Large,
            _ => Self::Once { lines: random.below(12), code: random.below(3) },
        }
    }

    /// As `client` submits it, with these labels.
    pub(super) fn request(
        self,
        client: &str,
        folder: &Path,
        labels: HashMap<String, String>,
    ) -> SubmitRequest {
        let body = match self {
            Self::Once { lines, .. } => {
                format!(
                    "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.01; done"
                )
            }
            Self::Later { .. } | Self::Absent => ":".to_owned(),
            Self::Flaky => {
                "seen=seen-$CAPSULE_TASK_ID; [ -e $seen ] || { : > $seen; code=9; }".to_owned()
            }
            Self::Locked { key, merge } => {
                let file = lock_file(client, key, merge);
                format!("echo in $me >> {file}; sleep 0.04; echo out $me >> {file}")
            }
            Self::Signal => "kill -9 $$".to_owned(),
            Self::Timeout => "sleep 30".to_owned(),
            Self::Large => "wc -c".to_owned(),
        };
        let script = format!(
            "cd {}; me=\"$CAPSULE_TASK_ID $CAPSULE_ATTEMPT\"; code={}; \
             echo \"begin $me\" >> notes; {body}; echo \"end $me\" >> notes; exit $code",
            folder.display(),
            if let Self::Once { code, .. } = self { code } else { 0 }
        );
        let options = Options { labels, ..self.options(client) };
        let mut request = rpc::script(&script, options);
        if let Some(Work::Program(program)) = &mut request.work {
            match self {
                Self::Absent => program.argv = vec!["/there/is/no/program".to_owned()],
                Self::Large => program.stdin = Some(vec![b'x'; LARGE]),
                Self::Once { .. }
                | Self::Later { .. }
                | Self::Flaky
                | Self::Locked { .. }
                | Self::Signal
                | Self::Timeout => {}
            }
        }
        request
    }

    fn options(self, client: &str) -> Options {
        let plain = Options { grace_ms: Some(0), ..Options::default() };
        match self {
            Self::Once { .. } | Self::Signal | Self::Absent | Self::Large => plain,
            Self::Later { millis } => Options { delay_ms: Some(millis), ..plain },
            Self::Flaky => Options {
                retries: Some(2),
                backoff: "fixed:100ms".to_owned(),
                delivery: Delivery::AtLeastOnce.into(),
                ..plain
            },
            Self::Locked { key, merge } => Options {
                lock: Some(lock_file(client, key, merge)),
                lock_policy: if merge { LockPolicy::Merge } else { LockPolicy::Wait }.into(),
                ..plain
            },
            Self::Timeout => Options { timeout_ms: Some(150), ..plain },
        }
    }

    /// How its last attempt ends: status, exit code, signal.
    pub(super) fn end(self) -> (Status, Option<i32>, Option<i32>) {
        match self {
            Self::Once { code: 0, .. }
            | Self::Later { .. }
            | Self::Flaky
            | Self::Locked { .. }
            | Self::Large => (Status::Completed, Some(0), None),
            Self::Once { code, .. } => (Status::Failed, Some(i32::try_from(code).unwrap()), None),
            Self::Signal => (Status::Failed, None, Some(9)),
            Self::Timeout => (Status::Timeout, None, None),
            Self::Absent => (Status::Failed, None, None),
        }
    }

    /// How many attempts begin, and how many of them note their end.
    pub(super) fn attempts(self) -> (u32, u32) {
        match self {
            Self::Flaky => (2, 2),
            Self::Signal | Self::Timeout => (1, 0),
            Self::Absent => (0, 0),
            Self::Once { .. } | Self::Later { .. } | Self::Locked { .. } | Self::Large => (1, 1),
        }
    }

    /// What it writes to its stdout.
    pub(super) fn output(self) -> String {
        match self {
            Self::Once { lines, .. } => (1..=lines)
                .fold(String::new(), |text, line| text + "line " + &line.to_string() + "\n"),
            Self::Large => format!("{LARGE}\n"),
            Self::Later { .. }
            | Self::Flaky
            | Self::Locked { .. }
            | Self::Signal
            | Self::Timeout
            | Self::Absent => String::new(),
        }
    }
}

/// Where those under a lock note that they enter and leave; also the lock's name.
fn lock_file(client: &str, key: u64, merge: bool) -> String {
    // Tasks of all clients wait for the same, but merge only into their own.
    if merge { format!("lock-{client}-{key}") } else { format!("lock-{key}") }
}
