//! From a `capsule.toml`, or from an app of the SDK, to the next revision.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use capsule_core::time::Timestamp;
use capsule_proto::v1;

use super::python;
use crate::apps::{App, Definition, Kind, Parsed, Planned, Revision, diff, parse};
use crate::deploying::{DeployError, Draft, Order, Shell};
use crate::engine::APPS_MAX;
use crate::rpc::Api;
use crate::rpc::request::peer::Peer;
use crate::rpc::status::{Refused, chain};

/// Registers what is asked for, unless it is what is in force.
pub(super) async fn deploy(
    api: &Api,
    peer: Peer,
    request: v1::DeployRequest,
) -> Result<v1::DeployReply, Refused> {
    let started = Instant::now();
    let mut reply = if request.entry.is_empty() {
        manifest(api, peer, request).await?
    } else {
        app(api, peer, request).await?
    };
    reply.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(reply)
}

/// A revision as its text says, and what it changes.
struct Change {
    parsed: Parsed,
    before: Option<Arc<Revision>>,
    lines: Vec<String>,
}

impl Change {
    fn new(api: &Api, parsed: Parsed) -> Self {
        let before = api.engine.apps().get(&parsed.app).and_then(App::in_force).cloned();
        let old = before.as_ref().map(|before| before.definitions.clone()).unwrap_or_default();
        let mut lines = diff(&old, &parsed.definitions);
        let planned = before.as_ref().map_or(&[][..], |before| &before.schedules);
        lines.extend(diff_schedules(planned, &parsed.schedules));
        if let Some(new) = &parsed.python {
            lines.extend(new.changes(before.as_ref().and_then(|before| before.python.as_deref())));
        }
        Self { parsed, before, lines }
    }

    /// The answer, as long as nothing is registered.
    fn reply(&self, api: &Api, changed: bool, dry_run: bool) -> v1::DeployReply {
        let app = &self.parsed.app;
        let number = match self.before.as_ref().filter(|_| !changed) {
            Some(before) => before.number,
            None => api.engine.apps().get(app).map_or(1, App::next_number),
        };
        v1::DeployReply {
            app: app.clone(),
            revision: number,
            changed,
            diff: self.lines.clone(),
            warnings: self.warnings(),
            dry_run,
            ..v1::DeployReply::default()
        }
    }

    fn warnings(&self) -> Vec<String> {
        let of_tasks = self.parsed.definitions.values().filter_map(warning);
        let now = Timestamp::default();
        let handlers = self.parsed.python.iter().flat_map(|python| &python.schedules);
        let of_code = handlers.map(|it| (&it.name, it.rule(now)));
        let planned = self.parsed.schedules.iter().map(|it| (&it.name, it.rule(now)));
        let of_schedules = of_code.chain(planned).flat_map(|(name, rule)| {
            let cron = rule.and_then(|rule| rule.cron());
            let lints = cron.map_or_else(Vec::new, |cron| cron.lints());
            lints.into_iter().map(move |lint| format!("schedule {name}: {lint}"))
        });
        of_tasks.chain(of_schedules).collect()
    }
}

/// What changes of the schedules of a manifest.
fn diff_schedules(old: &[Planned], new: &[Planned]) -> Vec<String> {
    let find = |all: &[Planned], name: &str| all.iter().find(|it| it.name == name).cloned();
    let gone = old.iter().filter(|it| find(new, &it.name).is_none());
    let gone = gone.map(|it| format!("- schedule {}", it.name));
    let come = new.iter().filter_map(|it| match find(old, &it.name) {
        None => Some(format!("+ schedule {}", it.name)),
        Some(before) if before != *it => Some(format!("~ schedule {}", it.name)),
        Some(_) => None,
    });
    come.chain(gone).collect()
}

/// What works but may surprise.
fn warning(definition: &Arc<Definition>) -> Option<String> {
    let hangs =
        definition.kind == Kind::Task && definition.timeout.is_none() && definition.lock.is_some();
    let name = &definition.name;
    hangs.then(|| format!("task {name} has a lock and no timeout: a hung attempt holds it"))
}

async fn manifest(
    api: &Api,
    peer: Peer,
    request: v1::DeployRequest,
) -> Result<v1::DeployReply, Refused> {
    let mut parsed = parse(&request.manifest).map_err(|error| {
        let place = if request.path.is_empty() { "capsule.toml" } else { request.path.as_str() };
        Refused::invalid(format!("{place}: {error}")).hint("capsule help manifest")
    })?;
    if !request.name.is_empty() {
        parsed.app = request.name;
    }
    capsule_core::spec::name("app", &parsed.app)?;
    let _turn = api.deployer.turn().await;
    let mut change = Change::new(api, parsed);
    if let Some(before) = change.before.as_ref().filter(|before| before.dir != request.dir) {
        change.lines.push(format!("~ folder {} → {}", before.dir, request.dir));
    }
    let changed = change.before.is_none() || !change.lines.is_empty();
    let mut reply = change.reply(api, changed, request.dry_run);
    if changed && !request.dry_run {
        reply.revision = register(api, peer, change.parsed, request.manifest, request.dir).await?;
    }
    Ok(reply)
}

async fn app(
    api: &Api,
    peer: Peer,
    request: v1::DeployRequest,
) -> Result<v1::DeployReply, Refused> {
    check_name(&request.name)?;
    let order = order(&request, &peer)?;
    let draft = api.deployer.prepare(&order).await?;
    let parsed = parse(&draft.description()).map_err(|error| {
        let hint = "each name has letters, digits, _ and -; of the app: capsule deploy --name NAME";
        Refused::invalid(error.to_string()).hint(hint)
    })?;
    check_name(&parsed.app)?;
    if request.strict && !draft.lacking.is_empty() {
        return Err(not_here(&draft));
    }
    let _turn = api.deployer.turn().await;
    let change = Change::new(api, parsed);
    let changed = !change.before.as_ref().is_some_and(|before| draft.is_same(&before.manifest));
    let mut reply = change.reply(api, changed, request.dry_run);
    reply.warnings.extend(draft.warnings.iter().cloned());
    reply.python = change.parsed.python.as_deref().map(|python| python::view(api, python));
    if let Some(view) = reply.python.as_mut().filter(|view| !view.serve) {
        // The draft's own folder goes with it.
        view.dir = change.before.as_ref().map(|before| before.dir.clone()).unwrap_or_default();
    }
    if changed && !request.dry_run {
        let app = change.parsed.app;
        let manifest = draft.keep(&api.deployer, reply.revision)?;
        let parsed = parse(&manifest).map_err(|error| Refused::invalid(error.to_string()))?;
        let dir = parsed.python.as_ref().map(|python| python.dir.clone()).unwrap_or_default();
        if let Some(view) = &mut reply.python {
            view.dir.clone_from(&dir);
        }
        reply.revision = register(api, peer, parsed, manifest, dir).await?;
        let apps = api.engine.apps();
        let kept = |number| apps.get(&app).is_some_and(|app| app.revisions.contains_key(&number));
        api.deployer.sweep(&app, kept);
    }
    Ok(reply)
}

/// Its folders have its name.
fn check_name(app: &str) -> Result<(), Refused> {
    if app.starts_with('.') || app.contains('/') {
        let message =
            format!("app {app:?}: the name of an app of the SDK begins with no dot and has no /");
        return Err(Refused::invalid(message).hint("capsule deploy --name NAME"));
    }
    Ok(())
}

fn order(request: &v1::DeployRequest, peer: &Peer) -> Result<Order, Refused> {
    let dir = PathBuf::from(&request.dir);
    if !dir.is_absolute() || !dir.is_dir() {
        let message = format!("the project {:?} is no folder", request.dir);
        return Err(Refused::invalid(message).hint("capsule deploy --help"));
    }
    let v1::Shell { cwd, environment, path } = request.shell.clone().unwrap_or_default();
    let given = |text: &str| Some(PathBuf::from(text)).filter(|_| !text.is_empty());
    Ok(Order {
        entry: request.entry.clone(),
        name: request.name.clone(),
        python: given(&request.python),
        shell: Shell {
            cwd: given(&cwd).unwrap_or_else(|| dir.clone()),
            environment: given(&environment),
            path,
        },
        dir,
        serve: request.serve,
        user: peer.name.clone(),
    })
}

fn not_here(draft: &Draft) -> Refused {
    let parts: Vec<String> = draft
        .lacking
        .iter()
        .map(|part| format!("{} ({}): {}", part.title, part.state.word(), part.how))
        .collect();
    let message = format!("{} uses what is not wholly here: {}", draft.app, parts.join("; "));
    Refused::precondition("not_here", message).hint("deploy it all the same, without --strict")
}

async fn register(
    api: &Api,
    peer: Peer,
    parsed: Parsed,
    manifest: String,
    dir: String,
) -> Result<u32, Refused> {
    let Parsed { app, definitions, schedules, python } = parsed;
    let apps = api.engine.apps();
    let count = apps.iter().count();
    if apps.get(&app).is_none() && count >= APPS_MAX {
        let message = format!("there are {count} apps, the limit is {APPS_MAX}");
        return Err(Refused::exhausted("apps_full", message).hint("capsule app list"));
    }
    let revision = Revision {
        number: 0,
        deployed: api.engine.now(),
        by: peer.name,
        uid: peer.uid,
        dir,
        manifest,
        python,
        schedules,
        definitions,
    };
    Ok(api.engine.deploy(app, revision).await?)
}

impl From<DeployError> for Refused {
    fn from(error: DeployError) -> Self {
        let (hint, message) = (error.hint(), chain(&error));
        let refused = match error {
            DeployError::Io { .. } | DeployError::Child(_) => {
                Self::new(tonic::Code::Internal, "internal", message, 1)
            }
            DeployError::Entry(_)
            | DeployError::NoInterpreter { .. }
            | DeployError::Settings { .. }
            | DeployError::Snapshot(_)
            | DeployError::Crashed { .. }
            | DeployError::Fault { .. }
            | DeployError::TooLong { .. } => {
                Self::new(tonic::Code::InvalidArgument, "bad_app", message, 2)
            }
        };
        refused.hint(hint)
    }
}
