//! The JSON of each message of the protocol.

use capsule_proto::v1::{
    ActionResult, AppView, AttemptView, Definition, Delivery, Gate, LockPolicy, LockView, LogChunk,
    Parameter, PythonApp, QueueView, Receipt, ShowReply, Status, StatusReply, SubmitReply,
    TaskView,
};
use serde_json::{Value, json};

use super::json::{at, embedded, map, maybe_at, ms, name, text};

/// A row of `list`.
pub(crate) fn task(task: &TaskView) -> Value {
    let progress = task.progress.as_ref().map(
        |progress| json!({"done": progress.done, "total": progress.total, "text": text(&progress.text)}),
    );
    json!({
        "id": task.id,
        "uuid": text(&task.uuid),
        "app": text(&task.app),
        "name": text(&task.name),
        "display_name": text(&task.display_name),
        "revision": task.revision,
        "status": status(task.status()),
        "reason": text(&task.reason),
        "waiting": text(&task.waiting),
        "owner": text(&task.owner),
        "uid": task.uid,
        "queue": text(&task.queue),
        "priority": task.priority,
        "labels": map(&task.labels),
        "lock": text(&task.lock),
        "key": text(&task.key),
        "created_at": at(task.created_us),
        "due_at": maybe_at(task.due_us),
        "started_at": maybe_at(task.started_us),
        "ended_at": maybe_at(task.ended_us),
        "attempt": task.attempt,
        "failures": task.failures,
        "retries": task.retries,
        "exit_code": task.exit_code,
        "signal": task.signal,
        "pid": task.pid,
        "summary": text(&task.summary),
        "progress": progress,
        "hold": task.hold,
        "cancelling": task.cancelling,
        "schedule": text(&task.schedule),
        "seq": task.seq,
        "merged_into": task.merged_into,
    })
}

/// A task that may be missing.
pub(crate) fn maybe_task(view: Option<&TaskView>) -> Value {
    view.map_or(Value::Null, task)
}

/// The name of a status.
pub(crate) fn status(status: Status) -> Value {
    name(status.as_str_name())
}

/// A task with what the submit did.
pub(crate) fn submitted(reply: &SubmitReply) -> Value {
    let mut value = maybe_task(reply.task.as_ref());
    if let Value::Object(object) = &mut value {
        object.insert("merged".to_owned(), reply.merged.into());
        object.insert("existing".to_owned(), reply.existing.into());
        object.insert("arguments_differ".to_owned(), reply.arguments_differ.into());
        object.insert("note".to_owned(), text(&reply.note));
        object.insert("payload".to_owned(), embedded(&reply.payload_json));
        object.insert("lock_policy".to_owned(), name(reply.lock_policy().as_str_name()));
    }
    value
}

/// Everything about a task.
pub(crate) fn shown(reply: &ShowReply) -> Value {
    let mut value = maybe_task(reply.task.as_ref());
    let Value::Object(object) = &mut value else { return value };
    let program = reply.program.as_ref().map(
        |program| json!({"argv": program.argv, "shell": program.shell, "cwd": text(&program.cwd)}),
    );
    let timeline: Vec<Value> = reply
        .timeline
        .iter()
        .map(|entry| json!({"at": at(entry.at_us), "what": entry.what}))
        .collect();
    let options = reply.options.as_ref();
    object.extend([
        ("program".to_owned(), program.into()),
        ("payload".to_owned(), embedded(&reply.payload_json)),
        ("result".to_owned(), embedded(&reply.result_json)),
        ("error".to_owned(), text(&reply.error)),
        ("attempts".to_owned(), reply.attempts.iter().map(attempt).collect()),
        ("gates".to_owned(), reply.gates.iter().map(gate).collect()),
        ("timeline".to_owned(), timeline.into()),
        ("backoff".to_owned(), options.map_or(Value::Null, |it| text(&it.backoff))),
        ("timeout_ms".to_owned(), options.and_then(|it| it.timeout_ms).into()),
        ("grace_ms".to_owned(), options.and_then(|it| it.grace_ms).into()),
        (
            "delivery".to_owned(),
            options.map_or(Value::Null, |it| name(it.delivery().as_str_name())),
        ),
        ("longest_ms".to_owned(), reply.longest_ms.into()),
    ]);
    value
}

fn attempt(attempt: &AttemptView) -> Value {
    json!({
        "number": attempt.number,
        "verdict": text(&attempt.verdict),
        "reason": text(&attempt.reason),
        "claimed_at": maybe_at(attempt.claimed_us),
        "started_at": maybe_at(attempt.started_us),
        "ended_at": maybe_at(attempt.ended_us),
        "pid": attempt.pid,
        "receipt": attempt.receipt.as_ref().map(receipt),
        "revision": attempt.revision,
        "stopped": text(&attempt.stopped),
        "isolation": text(&attempt.isolation),
        "error": text(&attempt.error),
    })
}

fn receipt(receipt: &Receipt) -> Value {
    json!({
        "wall_ms": ms(receipt.wall_us),
        "cpu_user_ms": ms(receipt.cpu_user_us),
        "cpu_system_ms": ms(receipt.cpu_system_us),
        "peak_memory_bytes": receipt.peak_memory_bytes,
        "read_bytes": receipt.read_bytes,
        "written_bytes": receipt.written_bytes,
        "max_pids": receipt.max_pids,
        "exit_code": receipt.exit_code,
        "signal": receipt.signal,
        "out_of_memory": receipt.out_of_memory,
        "cpu_source": text(&receipt.cpu_source),
        "memory_source": text(&receipt.memory_source),
        "io_source": text(&receipt.io_source),
        "output_bytes": receipt.output_bytes,
        "error_bytes": receipt.error_bytes,
        "dropped_bytes": receipt.dropped_bytes,
        "result_refused": text(&receipt.result_refused),
    })
}

/// A gate of `why`.
pub(crate) fn gate(gate: &Gate) -> Value {
    json!({
        "kind": gate.kind,
        "text": text(&gate.text),
        "until_at": maybe_at(gate.until_us),
        "tasks": gate.tasks,
    })
}

/// What an action did to one task.
pub(crate) fn action(result: &ActionResult) -> Value {
    json!({
        "id": result.id,
        "outcome": text(&result.outcome),
        "text": text(&result.text),
        "exit": result.exit,
        "task": maybe_task(result.task.as_ref()),
    })
}

/// A piece of a log.
pub(crate) fn chunk(id: &str, chunk: &LogChunk) -> Value {
    json!({
        "id": id,
        "attempt": chunk.attempt,
        "time": at(chunk.time_us),
        "stream": text(&chunk.stream),
        "data": String::from_utf8_lossy(&chunk.data),
        "gap": chunk.gap,
        "cursor": text(&chunk.cursor),
        "pruned": chunk.pruned,
    })
}

/// A task definition.
pub(crate) fn definition(it: &Definition) -> Value {
    json!({
        "app": text(&it.app),
        "revision": it.revision,
        "name": it.name,
        "help": text(&it.help),
        "params": it.params.iter().map(parameter).collect::<Vec<_>>(),
        "command": it.command,
        "retries": it.retries,
        "backoff": text(&it.backoff),
        "timeout_ms": it.timeout_ms,
        "grace_ms": it.grace_ms,
        "lock": text(&it.lock),
        "lock_policy": name(LockPolicy::try_from(it.lock_policy).unwrap_or_default().as_str_name()),
        "delivery": name(Delivery::try_from(it.delivery).unwrap_or_default().as_str_name()),
        "queue": text(&it.queue),
        "priority": it.priority,
        "cwd": text(&it.cwd),
        "concurrency": it.concurrency,
        "longest_ms": it.longest_ms,
        "no_retry_exit_codes": it.no_retry_exit_codes,
        "no_retry_on": it.no_retry_on,
        "runner": text(&it.runner),
        "more_params": it.more_params,
        "callback_url": text(&it.callback_url),
    })
}

fn parameter(it: &Parameter) -> Value {
    json!({
        "name": it.name,
        "type": text(&it.r#type),
        "required": it.required,
        "default": it.default_json.as_deref().map_or(Value::Null, embedded),
        "choices": it.choices,
        "help": text(&it.help),
    })
}

/// An app.
pub(crate) fn app(it: &AppView) -> Value {
    json!({
        "name": it.name,
        "revision": it.revision,
        "dir": text(&it.dir),
        "deployed_at": at(it.deployed_us),
        "deployed_by": text(&it.deployed_by),
        "tasks": it.tasks,
    })
}

/// What an app of the SDK has besides its definitions.
pub(crate) fn python_app(it: &PythonApp) -> Value {
    let schedules = it.schedules.iter().map(|it| json!({"name": it.name, "cron": it.cron}));
    let lacking = it
        .lacking
        .iter()
        .map(|it| json!({"name": it.name, "title": it.title, "state": it.state, "how": it.how}));
    json!({
        "entry": it.entry,
        "interpreter": it.interpreter,
        "interpreter_why": it.interpreter_why,
        "python": it.python,
        "sdk": it.sdk,
        "mode": it.mode,
        "mode_why": it.mode_why,
        "sync_tasks": it.sync_tasks,
        "source": it.source,
        "dir": it.dir,
        "serve": it.serve,
        "venv": text(&it.venv),
        "packages": it.packages,
        "schedules": schedules.collect::<Vec<_>>(),
        "pages": it.pages,
        "handlers": it.handlers,
        "secrets": it.secrets,
        "secrets_missing": it.secrets_missing,
        "lacking": lacking.collect::<Vec<_>>(),
    })
}

/// A queue.
pub(crate) fn queue(it: &QueueView) -> Value {
    json!({
        "name": it.name,
        "paused": it.paused,
        "note": text(&it.note),
        "limit": it.limit,
        "waiting": it.waiting,
        "running": it.running,
    })
}

/// A lock.
pub(crate) fn lock(it: &LockView) -> Value {
    json!({
        "app": text(&it.app),
        "key": it.key,
        "holder": it.holder,
        "holder_name": text(&it.holder_name),
        "since_at": maybe_at(it.since_us),
        "waiters": it.waiters,
    })
}

/// The daemon.
pub(crate) fn daemon(it: &StatusReply) -> Value {
    let keeper = it.keeper.as_ref().map(|keeper| {
        json!({
            "connected": keeper.connected,
            "pid": keeper.pid,
            "instance": text(&keeper.instance),
            "attribution": text(&keeper.attribution),
        })
    });
    json!({
        "running": true,
        "version": it.version,
        "pid": it.pid,
        "uptime_ms": it.uptime_ms,
        "state_dir": text(&it.state_dir),
        "socket": text(&it.socket),
        "store_uuid": text(&it.store_uuid),
        "store_bytes": it.store_bytes,
        "log_bytes": it.log_bytes,
        "by_status": map(&it.by_status),
        "slots": it.slots,
        "slots_used": it.slots_used,
        "shared": it.shared,
        "shared_used": it.shared_used,
        "draining": it.draining,
        "keeper": keeper,
        "seq": it.seq,
        "free_bytes": it.free_bytes,
        "degraded": it.degraded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_every_key_in_this_order() {
        let view = TaskView {
            id: 1842,
            name: "sync_leads".to_owned(),
            status: Status::Running.into(),
            created_us: 1_000_000,
            labels: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            ..TaskView::default()
        };
        let expected = concat!(
            r#"{"id":1842,"uuid":null,"app":null,"name":"sync_leads","display_name":null,"#,
            r#""revision":0,"status":"running","reason":null,"waiting":null,"owner":null,"uid":0,"#,
            r#""queue":null,"priority":0,"labels":{"a":"1","b":"2"},"lock":null,"key":null,"#,
            r#""created_at":"1970-01-01T00:00:01Z","due_at":null,"started_at":null,"#,
            r#""ended_at":null,"attempt":0,"failures":0,"retries":0,"exit_code":null,"#,
            r#""signal":null,"pid":null,"summary":null,"progress":null,"hold":false,"#,
            r#""cancelling":false,"schedule":null,"seq":0,"merged_into":null}"#,
        );
        assert_eq!(task(&view).to_string(), expected);
    }

    #[test]
    fn a_receipt_leaves_the_unknown_null() {
        let it =
            Receipt { wall_us: Some(4_100_000), cpu_source: "rusage".into(), ..Receipt::default() };
        let expected = concat!(
            r#"{"wall_ms":4100,"cpu_user_ms":null,"cpu_system_ms":null,"peak_memory_bytes":null,"#,
            r#""read_bytes":null,"written_bytes":null,"max_pids":null,"exit_code":null,"#,
            r#""signal":null,"out_of_memory":false,"cpu_source":"rusage","memory_source":null,"#,
            r#""io_source":null,"output_bytes":0,"error_bytes":0,"dropped_bytes":0,"#,
            r#""result_refused":null}"#,
        );
        assert_eq!(receipt(&it).to_string(), expected);
    }
}
