//! The keeper: the small process that owns every child, so that running work survives the daemon.
//!
//! Owns starting, stopping, attribution, deadlines, output and verdicts of attempts, and the socket
//! on which one daemon at a time commands it. Knows nothing of tasks, retries, the store or the
//! network. Invariants: no process of an attempt outlives both the keeper and its guard; a verdict
//! is kept until the daemon has acknowledged it; the control thread never waits for a disk.

mod cgroup;
mod control;
mod guard;
mod home;
mod life;
mod session;
pub mod wire;
mod writer;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use nix::errno::Errno;
use uuid::Uuid;

pub use home::{log_path, socket_path};

use self::{
    cgroup::Base,
    home::{Home, Registry},
};

/// Exit code of a keeper that found another one serving the same store.
pub const EXIT_ALREADY_RUNNING: u8 = 3;

/// What a keeper is told.
#[derive(Clone, Debug)]
pub struct KeeperArgs {
    /// Private folder of the socket.
    pub runtime_dir: PathBuf,
    /// The store that the keeper serves.
    pub uuid: Uuid,
    /// How processes are attributed to attempts.
    pub attribution: Choice,
    /// Seconds without session, attempts and verdicts after which the keeper ends.
    pub linger_secs: u64,
}

impl KeeperArgs {
    /// The arguments that start this keeper, from `keeper` on.
    pub fn argv(&self) -> Vec<std::ffi::OsString> {
        let attribution = match self.attribution {
            Choice::Auto => "auto",
            Choice::Cgroup => "cgroup",
            Choice::Reaper => "reaper",
        };
        vec![
            "keeper".into(),
            "--runtime-dir".into(),
            self.runtime_dir.clone().into(),
            "--uuid".into(),
            self.uuid.to_string().into(),
            "--attribution".into(),
            attribution.into(),
            "--linger-secs".into(),
            self.linger_secs.to_string().into(),
        ]
    }
}

/// The attribution asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// A cgroup per attempt where one can be made, else a reaper.
    Auto,
    /// Cgroups, or do not start.
    Cgroup,
    /// Reapers.
    Reaper,
}

/// A keeper that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another one serves this store.
    #[error("another keeper serves this store")]
    AlreadyRunning,
    /// The runtime folder cannot be trusted.
    #[error("runtime folder {} {wrong}", dir.display())]
    Unsafe {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// Cgroups were demanded.
    #[error("attribution by cgroup is not possible: {0}")]
    NoCgroup(String),
    /// It ended before it listened; its log says why.
    #[error("the keeper died at its start; its log in the runtime folder says why")]
    DiedAtStart,
    /// A file could not be used.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        source: Errno,
    },
}

impl KeeperError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    fn system(doing: &'static str, source: Errno) -> Self {
        Self::System { doing, source }
    }
}

/// A keeper ready to leave its starter.
#[derive(Debug)]
struct Keeper {
    home: Home,
    cgroups: Option<Base>,
    registry: Registry,
    linger: Duration,
}

/// Runs `capsuled keeper`: returns in the starter once the keeper listens, and in the keeper and its
/// guard when they end. Must be called before any other thread is started.
pub fn run(args: &KeeperArgs) -> Result<ExitCode, KeeperError> {
    let Some((keeper, log)) = prepare(args)? else {
        return Ok(ExitCode::from(EXIT_ALREADY_RUNNING));
    };
    guard::detach(keeper, &log)
}

/// Like [`run`], but this process becomes the guard, for a service manager that watches it. Such a
/// keeper does not end for want of work.
pub fn run_here(args: &KeeperArgs) -> Result<ExitCode, KeeperError> {
    let Some((mut keeper, log)) = prepare(args)? else {
        return Ok(ExitCode::from(EXIT_ALREADY_RUNNING));
    };
    keeper.linger = Duration::MAX;
    guard::stay(keeper, &log)
}

/// Takes the keeper's place and clears what a former one left; none when another has the place.
fn prepare(args: &KeeperArgs) -> Result<Option<(Keeper, OwnedFd)>, KeeperError> {
    let home = match Home::claim(&args.runtime_dir, args.uuid) {
        Err(KeeperError::AlreadyRunning) => return Ok(None),
        claimed => claimed?,
    };
    let log = home.open_log()?;
    let short = home::short(args.uuid);
    let former = home.former();
    if let Some(base) = former.cgroup.as_deref().and_then(|path| Base::open(path).ok()) {
        base.clear();
    }
    former.kill_processes();
    let cgroups = match args.attribution {
        Choice::Reaper => None,
        Choice::Auto => Base::prepare(&short).ok(),
        Choice::Cgroup => Some(Base::prepare(&short).map_err(KeeperError::NoCgroup)?),
    };
    if let Some(base) = &cgroups {
        base.clear();
    }
    let registry = home.register(cgroups.as_ref().map(Base::path))?;
    let linger = Duration::from_secs(args.linger_secs);
    Ok(Some((Keeper { home, cgroups, registry, linger }, log)))
}
