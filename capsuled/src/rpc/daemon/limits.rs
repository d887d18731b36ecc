//! Every bound of the daemon in one list, from the constants that it is kept by.

use capsule_core::spec;
use capsule_core::time::Span;
use capsule_proto::v1::Limit;

use crate::rpc::Api;
use crate::rpc::request::incoming;
use crate::{
    appdata, apps, book, callback, engine, gateway, logs, rpc, schedule, secrets, store, web,
};

/// All limits, those that a flag sets first.
pub(super) fn all(api: &Api) -> Vec<Limit> {
    let mut limits = settable(api);
    limits.extend(of_tasks(api));
    limits.extend(of_the_past());
    limits.extend(of_connections());
    limits.extend(of_apps(api));
    limits
}

fn settable(api: &Api) -> Vec<Limit> {
    let (keep, default) = (api.engine.keep(), logs::LOGS_MAX);
    let (used, most) = api.logs.tally().map_or((None, default), |(used, most)| (Some(used), most));
    let book = api.engine.book();
    vec![
        count("slots", book.slots, "processes of tasks at once")
            .set_by("--slots")
            .used(book.slots_used()),
        age("keep_completed", keep.completed, "age of completed and cancelled tasks")
            .set_by("--keep-completed"),
        age("keep_failed", keep.failed, "age of failed and timed out tasks")
            .set_by("--keep-failed"),
        count("keep_ended", keep.ended, "ended tasks")
            .set_by("--keep-ended")
            .used(book.ended.count()),
        Row { used, ..bytes("keep_logs", most, "logs of ended attempts together") }
            .set_by("--keep-logs"),
    ]
    .into_iter()
    .map(Row::into)
    .collect()
}

fn of_tasks(api: &Api) -> Vec<Limit> {
    let open = {
        let counts = &api.engine.book().counts;
        counts.iter().filter(|(status, _)| !status.is_ended()).map(|(_, count)| count).sum::<u64>()
    };
    rows([
        count("tasks", engine::TASKS_MAX, "unfinished tasks").used(open),
        bytes("payload", size(engine::PAYLOAD_MAX), "what a task is submitted with"),
        bytes("result", size(engine::RESULT_MAX), "what a task returns"),
        bytes("name", size(spec::NAME_MAX), "the name of a task, app, queue or owner"),
        bytes("key", size(spec::KEY_MAX), "a lock key or an idempotency key"),
        count("labels", size(spec::LABELS_COUNT_MAX), "labels of a task"),
        bytes("labels_size", size(spec::LABELS_MAX), "all labels of a task together"),
        bytes("texts", size(spec::TEXTS_MAX), "names, keys and labels of a task together"),
        count("after", size(spec::AFTER_MAX), "tasks that a task waits for"),
        count("retries", spec::RETRIES_MAX, "retries of a task"),
        count("exit_codes", size(spec::EXIT_CODES_MAX), "exit codes that are not retried"),
        age("timeout", Some(spec::TIMEOUT_MAX), "timeout, grace, backoff and start_within"),
        bytes("log_head", logs::LogCaps::default().head, "the kept beginning of an attempt's log"),
        bytes("log_tail", logs::LogCaps::default().tail, "the kept end of an attempt's log"),
        count("queues", size(engine::QUEUES_MAX), "queues with settings of their own"),
    ])
}

fn of_the_past() -> Vec<Limit> {
    rows([
        count("last", size(book::LAST_KEPT), "ended tasks of each definition that always stay"),
        count("attempts", engine::ATTEMPTS_KEPT, "kept attempts of a task besides its last"),
        count("tombstones", size(engine::STONES_MAX), "removed tasks of which the end is told"),
        age("tombstone_age", Some(engine::STONES_KEPT), "how long that is told"),
        age("key_age", Some(engine::KEY_KEPT), "an idempotency key after the end of its task"),
        count("ticks", schedule::TICKS_MAX, "kept fires of a schedule"),
        age("tick_age", Some(schedule::TICKS_KEPT), "a kept fire of a schedule"),
        count("revisions", size(apps::REVISIONS_KEPT), "kept revisions of an app"),
        count("feed", size(engine::RING), "changes that a watcher may be behind"),
        bytes("reserve", store::RESERVED_BYTES, "space that is kept back to open a full disk"),
        bytes("disk_floor", engine::DISK_FLOOR, "free space below which nothing is accepted"),
    ])
}

fn of_connections() -> Vec<Limit> {
    rows([
        count("connections", size(incoming::most()), "connections at once"),
        count("streams", rpc::STREAMS_MAX, "calls at once on one connection"),
        bytes("message", size(rpc::MESSAGE_MAX), "one message to or from the daemon"),
        count("requests", size(engine::WAITING_MAX), "requests that wait for the engine"),
        count("page", size(rpc::tasks::PAGE_MAX), "tasks in one answer"),
        count("windows", size(rpc::stream::WINDOWS_MAX), "columns of one board"),
        count("window", size(rpc::stream::WINDOW_MAX), "tasks of a column that are told at once"),
        count("web_connections", size(web::CONNECTIONS_MAX), "connections of browsers at once"),
        count("web_browsers", size(web::BROWSERS_MAX), "browsers that are in at once"),
        count("web_cards", web::WINDOW, "cards of a column on a page"),
        count("web_bulk", size(web::BULK_MAX), "tasks that a page does one thing with at once"),
        bytes("web_form", size(web::FORM_MAX), "one form of a page"),
    ])
}

fn of_apps(api: &Api) -> Vec<Limit> {
    let schedules = size(api.engine.book().schedules.count());
    let apps = size(api.engine.apps().iter().count());
    rows([
        count("apps", size(engine::APPS_MAX), "apps").used(apps),
        count("schedules", size(engine::SCHEDULES_MAX), "schedules").used(schedules),
        bytes("manifest", size(apps::MANIFEST_MAX), "a capsule.toml"),
        count("shared", book::SHARED_MAX, "attempts at once inside app hosts"),
        bytes("secret", size(secrets::VALUE_MAX), "a secret"),
        bytes("gateway_message", size(gateway::MESSAGE_MAX), "one message of an app"),
        bytes("document", size(appdata::DOCUMENT_MAX), "a document of an app"),
        bytes("app_data", appdata::FILE_MAX, "what all apps keep together"),
        count("history", appdata::HISTORY_MAX, "kept messages of a session"),
        count("callbacks", size(callback::WAITING_MAX), "callbacks that wait"),
    ])
}

/// A limit in the making.
struct Row {
    name: &'static str,
    value: Option<u64>,
    unit: &'static str,
    text: &'static str,
    flag: &'static str,
    used: Option<u64>,
}

impl Row {
    fn set_by(self, flag: &'static str) -> Self {
        Self { flag, ..self }
    }

    fn used(self, used: impl Into<u64>) -> Self {
        Self { used: Some(used.into()), ..self }
    }
}

impl From<Row> for Limit {
    fn from(row: Row) -> Self {
        let Row { name, value, unit, text, flag, used } = row;
        let (name, unit, text) = (name.to_owned(), unit.to_owned(), text.to_owned());
        Self { name, value, unit, text, flag: flag.to_owned(), used }
    }
}

fn rows<const N: usize>(rows: [Row; N]) -> Vec<Limit> {
    rows.into_iter().map(Row::into).collect()
}

fn count(name: &'static str, value: impl Into<u64>, text: &'static str) -> Row {
    Row { name, value: Some(value.into()), unit: "", text, flag: "", used: None }
}

fn bytes(name: &'static str, value: u64, text: &'static str) -> Row {
    Row { unit: "bytes", ..count(name, value, text) }
}

fn age(name: &'static str, value: Option<Span>, text: &'static str) -> Row {
    Row { value: value.map(|span| span.0), unit: "ms", ..count(name, 0_u64, text) }
}

fn size(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
