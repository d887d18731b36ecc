//! From a call on the wire to a task: the definition says what fits and how it runs.

use capsule_core::spec::{Payload, SUMMARY_MAX, TaskSpec};
use capsule_proto::v1;
use serde_json::{Map, Value};

use super::peer::Peer;
use crate::apps::{Apps, Definition, Given, Kind};
use crate::engine::Engine;
use crate::rpc::status::Refused;
use crate::text::{bounded, distance};
use crate::work::{Call, Work};

/// The work of a call and the spec that its definition makes of it.
pub(in crate::rpc) fn work(
    engine: &Engine,
    call: v1::Call,
    peer: &Peer,
) -> Result<(Work, TaskSpec), Refused> {
    let apps = engine.apps();
    let app = find(&apps, &call.app, &call.task)?;
    let definition =
        apps.definition(&app, &call.task).ok_or_else(|| unknown_task(&apps, &app, &call.task))?;
    if definition.kind == Kind::Tick {
        let message = format!("{} is the handler of a schedule: only its ticks run it", call.task);
        let hint = format!("capsule schedule trigger {}", call.task);
        let code = tonic::Code::InvalidArgument;
        return Err(Refused::new(code, "schedule_handler", message, 2).hint(hint));
    }
    let in_force = apps.get(&app).and_then(|app| app.in_force());
    let revision = in_force.map_or(0, |revision| revision.number);
    let uid = in_force.map_or(peer.uid, |revision| revision.uid);
    let shadowed =
        |taken: &&String| definition.params.iter().any(|p| p.name == taken.replace('-', "_"));
    if let Some(taken) = call.taken.iter().find(shadowed) {
        let message = format!("--{taken} is a parameter of {}", definition.name);
        return Err(Refused::precondition("shadowed", message));
    }
    let given = Given {
        payload: call.payload_json,
        params: call
            .params
            .into_iter()
            .map(|param| (param.name, param.value, param.json))
            .collect(),
        raw: call.raw,
        cwd: call.cwd,
    };
    let arguments = definition.arguments(&given).map_err(|error| {
        Refused::invalid(error.to_string())
            .hint(format!("capsule submit {} --help", definition.name))
    })?;
    let lock = definition.lock_key(&arguments)?;
    let summary = summary(&arguments);
    let text = Value::Object(arguments).to_string();
    let spec = spec(definition, app, peer, Fixed { revision, uid, lock, summary });
    Ok((Work::Call(Call { arguments: text }), spec))
}

struct Fixed {
    revision: u32,
    uid: u32,
    lock: Option<String>,
    summary: String,
}

fn spec(definition: &Definition, app: String, peer: &Peer, fixed: Fixed) -> TaskSpec {
    TaskSpec {
        app,
        name: definition.name.clone(),
        display_name: String::new(),
        owner: peer.name.clone(),
        uid: fixed.uid,
        queue: definition.queue.clone(),
        priority: definition.priority,
        labels: std::collections::BTreeMap::new(),
        payload: Payload::Inline(Vec::new()),
        retries: definition.retries,
        backoff: definition.backoff,
        timeout: definition.timeout,
        grace: definition.grace,
        delivery: definition.delivery,
        lock: fixed.lock,
        lock_policy: definition.lock_policy,
        key: None,
        start_within: None,
        after: Vec::new(),
        no_retry_exit_codes: definition.no_retry_exit_codes.clone(),
        no_retry_on: definition.no_retry_on.clone(),
        revision: fixed.revision,
        arguments: 0,
        summary: fixed.summary,
        not_before: None,
        hold: false,
    }
}

fn summary(arguments: &Map<String, Value>) -> String {
    let pairs: Vec<String> = arguments
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => format!("{name}={value}"),
        })
        .collect();
    bounded(&pairs.join(" "), SUMMARY_MAX)
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
