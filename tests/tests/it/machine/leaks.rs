//! Very many short tasks: afterwards nothing of them is left, in the kernel, on disk or in memory.
//!
//! `CAPSULE_LEAK_TASKS` says how many; the long run is 100,000.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capsule_proto::v1::{Options, SubmitBatchRequest};
use capsule_tests::{Home, processes, rpc, wait_for_within};

const MIB: u64 = 1 << 20;
/// History that is kept: so little that it does not grow while the test looks.
const KEPT: u64 = 50;
/// Processes at once.
const SLOTS: usize = 8;
/// So many tasks fill what has a bound: the database's cache of 32 MiB, by 5 KiB a task at first, and
/// the ring of changes.
const WARM: u64 = 10_000;
/// Tasks submitted at once.
const BULK: u64 = 250;

/// Everything that may leak, at one moment.
#[derive(Debug)]
struct Seen {
    /// Open descriptors of daemon, keeper and guard.
    files: [usize; 3],
    /// Bytes of memory of the same.
    memory: [u64; 3],
    /// Processes of this home that have ended and that nobody waits for, and those that live.
    zombies: Vec<i32>,
    alive: usize,
    cgroups: usize,
    /// Files in state and runtime directories, without the database's own.
    paths: BTreeSet<PathBuf>,
}

impl Seen {
    fn of(home: &Home, pids: [i32; 3]) -> Self {
        let mut paths = BTreeSet::new();
        for folder in [home.state_dir(), home.runtime_dir()] {
            walk(&folder, &mut paths);
        }
        let queue = home.state_dir().join("queue");
        paths.retain(|path| !path.starts_with(&queue));
        Self {
            files: pids.map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()),
            memory: pids.map(processes::resident_bytes),
            zombies: pids.iter().flat_map(|pid| processes::zombies(*pid)).collect(),
            alive: home.processes().len(),
            cgroups: home.cgroups().iter().map(|folder| folders(folder)).sum(),
            paths,
        }
    }
}

fn walk(folder: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, into);
        } else {
            into.insert(path);
        }
    }
}

/// Folders under a cgroup, itself too.
fn folders(cgroup: &Path) -> usize {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    1 + entries.filter(|it| it.path().is_dir()).map(|it| folders(&it.path())).sum::<usize>()
}

fn wanted() -> u64 {
    let told = std::env::var("CAPSULE_LEAK_TASKS").ok();
    told.map_or(2000, |text| text.parse().expect("CAPSULE_LEAK_TASKS is a number"))
}

/// What the tasks do: nothing, write, fail, leave a child behind, give a result.
const KINDS: [&str; 5] = [
    "true",
    "echo out; echo err >&2",
    "exit 3",
    "sleep 0.01 & exit 0",
    "echo '\"done\"' > \"$CAPSULE_RESULT_FILE\"",
];

/// Runs so many tasks to their ends.
async fn churn(home: &Home, count: u64) {
    let mut tasks = rpc::connect(&home.socket()).await.unwrap();
    let mut left = count;
    while left > 0 {
        let now = left.min(BULK);
        let submit = |number: u64| {
            let kind = KINDS[usize::try_from(number).unwrap() % KINDS.len()];
            let name = format!("kind-{}", number % 5);
            rpc::script(kind, Options { name, ..Options::default() })
        };
        let submits = (0..now).map(submit).collect();
        let reply = tasks.submit_batch(SubmitBatchRequest { submits }).await.unwrap().into_inner();
        assert!(reply.results.iter().all(|result| result.error.is_empty()), "{reply:?}");
        left -= now;
    }
    let limit = Duration::from_secs(60 + count / 50);
    wait_for_within("all tasks have ended and old ones are forgotten", limit, || {
        let by_status = &home.status()["by_status"];
        let of = |name: &str| by_status[name].as_u64().unwrap_or(0);
        let open: u64 =
            ["scheduled", "pending", "claimed", "running", "retry"].map(of).iter().sum();
        let ended: u64 = ["completed", "failed", "timeout", "cancelled"].map(of).iter().sum();
        (open == 0 && ended <= KEPT).then_some(())
    });
}

/// What was not there before, in words.
fn leaked(before: &Seen, after: &Seen, logs: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |fine: bool, what: &str| {
        if !fine {
            wrong.push(what.to_owned());
        }
    };
    let files = before.files.iter().zip(after.files).all(|(before, after)| after <= before + 5);
    check(files, "descriptors");
    let memory = before.memory.iter().zip(after.memory);
    check(memory.into_iter().all(|(before, after)| after < before + 10 * MIB), "memory");
    check(after.zombies.is_empty(), "zombies");
    check(after.alive <= before.alive, "processes");
    // So many are kept for use again.
    check(after.cgroups <= before.cgroups.max(2 * SLOTS + 4), "cgroups");
    let of_logs = after.paths.iter().filter(|path| path.starts_with(logs)).count();
    check(of_logs <= usize::try_from(KEPT).unwrap(), "logs");
    for path in after.paths.difference(&before.paths).filter(|path| !path.starts_with(logs)) {
        check(false, &path.display().to_string());
    }
    wrong
}

#[tokio::test]
async fn many_short_tasks_leave_nothing_behind() {
    let home = Home::new();
    let (slots, keep) = (SLOTS.to_string(), KEPT.to_string());
    let daemon = home.start_with(&["--slots", &slots, "--keep-ended", &keep]);
    let (keeper, guard) = home.keeper();
    let pids = [daemon.pid(), keeper, guard];
    let all = wanted();
    // A fifth, or more where a fifth fills no cache.
    let warm = (all / 5).max(WARM.min(all / 2));
    churn(&home, warm).await;
    let before = Seen::of(&home, pids);
    churn(&home, all - warm).await;
    let logs = home.state_dir().join("logs");
    let deadline = Instant::now() + Duration::from_secs(20);
    // What ended last may still be on its way out.
    let (after, wrong) = wait_for_within("nothing is left over", Duration::from_secs(60), || {
        let after = Seen::of(&home, pids);
        let wrong = leaked(&before, &after, &logs);
        (wrong.is_empty() || Instant::now() > deadline).then_some((after, wrong))
    });
    eprintln!("{all} tasks: descriptors {:?}, then {:?}", before.files, after.files);
    eprintln!("bytes of memory {:?}, then {:?}", before.memory, after.memory);
    eprintln!("cgroups {}, then {}", before.cgroups, after.cgroups);
    assert!(wrong.is_empty(), "these leak: {wrong:#?}");
}
