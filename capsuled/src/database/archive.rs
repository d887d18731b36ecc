//! `capsuled db export|import|check|restore|backups`: files that hold a whole state.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::{Value, json};

use super::now;
use crate::appdata::AppData;
use crate::backup::{self, LEFT_OUT, Listed, Made, Sources};
use crate::clock::SystemClock;
use crate::daemon::state_dir;
use crate::engine::keep_ids;
use crate::store::archive::{ArchiveError, Checked, Placed, Restoring, Tail, check};
use crate::store::{LiveCopy, SideFiles, SledStore, StateDir, StoreError, store_id, store_reached};
use crate::telemetry::{Hint, helped};
use crate::{keeper, socket};

/// How far the sequence numbers jump at a restore: beyond any that was used since the backup.
const JUMP: u64 = 1 << 32;

/// After a restore ids go on at a multiple of this, so that people see where it was.
const IDS: u64 = 1_000_000_000;

/// A file, and where the state is.
#[derive(Clone, Debug, clap::Args)]
pub struct FileArgs {
    /// A file, or the name of a backup.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub state: StateArgs,
}

/// Where the state is, and how to answer.
#[derive(Clone, Debug, clap::Args)]
pub struct StateArgs {
    /// The daemon's state directory [default: that of `capsuled run`].
    #[arg(long, value_name = "DIR", env = "CAPSULE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

impl FileArgs {
    /// The file itself, else the backup of that name.
    fn found(&self, root: &Path) -> anyhow::Result<PathBuf> {
        if self.file.exists() {
            return Ok(self.file.clone());
        }
        let named = self.file.to_str().and_then(|name| {
            let path = backup::path_of(root, Some(name), Timestamp::UNIX_EPOCH);
            path.ok().filter(|path| path.exists())
        });
        named.map_or_else(
            || {
                let hint = format!("capsuled db backups --state-dir {}", root.display());
                let error = anyhow::anyhow!("there is no backup {}", self.file.display());
                Err(error.context(Hint(hint)))
            },
            Ok,
        )
    }
}

/// Writes the state of a daemon that does not run into a file.
pub(super) fn export(args: &FileArgs) -> anyhow::Result<ExitCode> {
    let state = StateDir::open_existing(&state_dir(args.state.state_dir.as_deref())?);
    let state = state.map_err(helped)?;
    let opened = SledStore::open(&state, now()?).map_err(helped)?;
    let store = Arc::new(opened.store);
    let sources = Sources {
        root: state.root().to_path_buf(),
        store: opened.found.uuid,
        records: Arc::clone(&store) as Arc<dyn LiveCopy>,
        side: SideFiles::new(&state),
        data: AppData::start(state.root(), Arc::new(SystemClock))?,
    };
    let made = backup::take(&sources, &args.file, now()?, &AtomicBool::new(false))?;
    let Made { path, bytes, tail, .. } = &made;
    let text = format!(
        "{}, {} in {}\nnot in it: {}",
        counted(tail),
        size(*bytes),
        path.display(),
        LEFT_OUT.join(", ")
    );
    say(args.state.json, &told(path, *bytes, tail), &text)
}

/// Takes a file as the state of a daemon that has none yet; numbers go on as they were.
pub(super) fn import(args: &FileArgs) -> anyhow::Result<ExitCode> {
    let state = StateDir::open(&state_dir(args.state.state_dir.as_deref())?).map_err(helped)?;
    let restoring = read(&args.file, &state)?;
    if !restoring.is_first() {
        restoring.discard().map_err(helped)?;
        let (root, file) = (state.root().display(), args.file.display());
        let hint = format!("capsuled db restore {file} --state-dir {root}");
        let error = StoreError::Unfit {
            dir: state.root().to_path_buf(),
            why: "it holds a state already".to_owned(),
        };
        return Err(anyhow::Error::new(error).context(Hint(hint)));
    }
    let tail = restoring.tail.clone();
    restoring.place(now()?).map_err(helped)?;
    let text = format!("{} imported into {}", counted(&tail), state.root().display());
    say(args.state.json, &told(state.root(), 0, &tail), &text)
}

/// Puts the state back that a file holds; the one that is there is put aside.
pub(super) fn restore(args: &FileArgs) -> anyhow::Result<ExitCode> {
    let dir = state_dir(args.state.state_dir.as_deref())?;
    let file = args.found(&dir)?;
    let state = StateDir::open(&dir).map_err(helped)?;
    no_keeper(&state)?;
    let restoring = read(&file, &state)?;
    let (tail, taken) = (restoring.tail.clone(), restoring.head.taken);
    let reached = store_reached(state.root()).unwrap_or(0).max(tail.high_water);
    let ids = reached.saturating_add(IDS / 2).div_ceil(IDS).saturating_mul(IDS);
    restoring.jump(reached.saturating_add(JUMP)).map_err(helped)?;
    keep_ids(&restoring.store, ids).map_err(helped)?;
    let Placed { aside } = restoring.place(now()?).map_err(helped)?;
    let mut text = format!("{} of {taken} restored\nnew ids follow {ids}", counted(&tail));
    if let Some(aside) = &aside {
        text.push_str("\nwhat was there is in ");
        text.push_str(&aside.display().to_string());
    }
    let mut value = told(&file, 0, &tail);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("aside".to_owned(), json!(aside));
        fields.insert("ids_follow".to_owned(), json!(ids));
    }
    say(args.state.json, &value, &text)
}

/// Reads a file to its end and compares every sum.
pub(super) fn verify(args: &FileArgs) -> anyhow::Result<ExitCode> {
    let file = args.found(&state_dir(args.state.state_dir.as_deref())?)?;
    let Checked { head, tail } = check(&file)?;
    let text = format!("whole: {} of {}", counted(&tail), head.taken);
    say(args.state.json, &told(&file, 0, &tail), &text)
}

/// Shows the backups of a state directory.
pub(super) fn backups(args: &StateArgs) -> anyhow::Result<ExitCode> {
    let dir = state_dir(args.state_dir.as_deref())?;
    let found = backup::list(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let rows: Vec<[String; 4]> = found.iter().map(row).collect();
    let mut text = format!("{:<24} {:<20} {:>10} {:>8}", "NAME", "TAKEN", "SIZE", "TASKS");
    for [name, taken, size, tasks] in &rows {
        writeln!(text)?;
        write!(text, "{name:<24} {taken:<20} {size:>10} {tasks:>8}")?;
    }
    if rows.is_empty() {
        "no backups yet: capsule backup create".clone_into(&mut text);
    }
    let value = found
        .iter()
        .map(|listed| {
            let about = listed.about.as_ref().ok();
            json!({
                "name": listed.name,
                "bytes": listed.bytes,
                "taken": about.map(|about| about.head.taken.to_string()),
                "tasks": about.map(|about| about.tail.tasks),
                "error": listed.about.as_ref().err().map(ToString::to_string),
            })
        })
        .collect();
    say(args.json, &Value::Array(value), &text)
}

fn row(listed: &Listed) -> [String; 4] {
    let (taken, tasks) = match &listed.about {
        Ok(Checked { head, tail }) => {
            (head.taken.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), tail.tasks.to_string())
        }
        Err(_) => ("damaged".to_owned(), "-".to_owned()),
    };
    [listed.name.clone(), taken, size(listed.bytes), tasks]
}

fn read(file: &Path, state: &StateDir) -> anyhow::Result<Restoring> {
    Restoring::read(file, state, now()?).map_err(|error| match error {
        ArchiveError::Store(error) => helped(error),
        other @ (ArchiveError::Damaged { .. }
        | ArchiveError::Newer { .. }
        | ArchiveError::Io { .. }) => other.into(),
    })
}

/// Refuses while the keeper of the old state still has processes: they would run beside the
/// restored ones, under the same locks.
fn no_keeper(state: &StateDir) -> anyhow::Result<()> {
    let Ok(Some(uuid)) = store_id(state.root()) else { return Ok(()) };
    let path = keeper::socket_path(&socket::runtime_dir(), uuid);
    let Ok(connected) = std::os::unix::net::UnixStream::connect(path) else { return Ok(()) };
    let pid = getsockopt(&connected, PeerCredentials).map_or(0, |peer| peer.pid());
    let error = anyhow::anyhow!(
        "the keeper (process {pid}) still has tasks of the state in {}",
        state.root().display()
    );
    bail!(error.context(Hint(format!("end it with all its tasks: kill -9 {pid}"))));
}

fn told(path: &Path, bytes: u64, tail: &Tail) -> Value {
    json!({
        "path": path,
        "bytes": (bytes > 0).then_some(bytes),
        "tasks": tail.tasks,
        "records": tail.sum.0,
        "files": tail.files,
        "last_change": tail.high_water,
    })
}

fn counted(tail: &Tail) -> String {
    format!("{} tasks, {} records, {} files", tail.tasks, tail.sum.0, tail.files)
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

pub(super) fn say(as_json: bool, value: &Value, text: &str) -> anyhow::Result<ExitCode> {
    let text = if as_json { value.to_string() } else { text.to_owned() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
