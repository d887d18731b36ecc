//! From a call on the wire to a task: the definition says what fits and how it runs.

use capsule_core::spec::TaskSpec;
use capsule_proto::v1;

use super::peer::Peer;
use crate::apps::{Apps, By, CallError, Given, Kind};
use crate::engine::Engine;
use crate::rpc::status::Refused;
use crate::text::distance;
use crate::work::Work;

/// The work of a call and the spec that its definition makes of it.
pub(in crate::rpc) fn work(
    engine: &Engine,
    call: v1::Call,
    peer: &Peer,
) -> Result<(Work, TaskSpec), Refused> {
    let apps = engine.apps();
    let name = find(&apps, &call.app, &call.task)?;
    let unknown = || unknown_task(&apps, &name, &call.task);
    let app = apps.get(&name).ok_or_else(unknown)?;
    let definition = apps.definition(&name, &call.task).ok_or_else(unknown)?;
    if definition.kind == Kind::Tick {
        let message = format!("{} is the handler of a schedule, only its fires run it", call.task);
        return Err(Refused::precondition("schedule_handler", message)
            .hint(format!("capsule schedule trigger {}", call.task)));
    }
    let shadowed =
        |taken: &&String| definition.params.iter().any(|p| p.name == taken.replace('-', "_"));
    if let Some(taken) = call.taken.iter().find(shadowed) {
        let message = format!("--{taken} is a parameter of {}", definition.name);
        return Err(Refused::precondition("shadowed", message));
    }
    let params = call.params.into_iter().map(|param| (param.name, param.value, param.json));
    let given = Given {
        payload: call.payload_json,
        params: params.collect(),
        raw: call.raw,
        cwd: call.cwd,
    };
    let by = By { owner: peer.name.clone(), uid: peer.uid };
    app.call(&name, definition, &given, by).map_err(|error| match error {
        CallError::Arguments(error) => Refused::invalid(error.to_string())
            .hint(format!("capsule submit {} --help", definition.name)),
        CallError::Lock(error) => error.into(),
    })
}

/// The app that has the task: the named one, else the only one with such a task.
fn find(apps: &Apps, app: &str, task: &str) -> Result<String, Refused> {
    if !app.is_empty() {
        return app_name(apps, app);
    }
    let with: Vec<&String> = apps
        .iter()
        .filter(|(name, _)| apps.definition(name, task).is_some())
        .map(|(name, _)| name)
        .collect();
    match with.as_slice() {
        [] => Err(unknown_task(apps, "", task)),
        [one] => Ok((*one).clone()),
        [first, ..] => {
            let names: Vec<&str> = with.iter().map(|name| name.as_str()).collect();
            let message = format!("task {task} is in the apps {}", names.join(", "));
            Err(Refused::invalid(message).hint(format!("capsule submit --app {first} {task}")))
        }
    }
}

/// The named app, or the only one.
pub(in crate::rpc) fn app_name(apps: &Apps, app: &str) -> Result<String, Refused> {
    if app.is_empty() {
        return apps.only().map(str::to_owned).ok_or_else(|| {
            Refused::invalid("name an app, there is more than one or none").hint("capsule app list")
        });
    }
    if apps.get(app).is_some() {
        return Ok(app.to_owned());
    }
    Err(Refused::not_found(format!("there is no app {app:?}")).hint("capsule app list"))
}

/// The answer to a task that no definition has: exit code 2, as for a mistyped command.
pub(in crate::rpc) fn unknown_task(apps: &Apps, app: &str, task: &str) -> Refused {
    let place = if app.is_empty() { String::new() } else { format!(" in app {app}") };
    let message = format!("unrecognized task {task:?}{place}");
    let known = apps
        .iter()
        .filter(|(name, _)| app.is_empty() || *name == app)
        .filter_map(|(_, known)| known.in_force())
        .flat_map(|revision| revision.definitions.values())
        .filter(|definition| definition.kind == Kind::Task)
        .map(|definition| &definition.name);
    let near =
        known.map(|name| (distance(name, task), name)).min().filter(|(edits, _)| *edits <= 2);
    let hint = match near {
        Some((_, near)) => format!("capsule submit {near}"),
        None if apps.iter().next().is_none() => "capsule deploy".to_owned(),
        None => "capsule tasks".to_owned(),
    };
    Refused::new(tonic::Code::NotFound, "unknown_task", message, 2).hint(hint)
}
