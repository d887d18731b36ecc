//! The rows: each measures one promise and its limit, in turn, on a daemon of its own.

mod board;
mod command;
mod cron;
mod idle;
mod output;
pub(crate) mod process;
mod python;
mod restart;
mod scale;
mod stop;
pub(crate) mod submit;

use crate::bench::Bench;
use crate::report::Line;

/// One row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Bench) -> anyhow::Result<Vec<Line>>,
}

/// All rows.
pub(crate) const fn all() -> &'static [Row] {
    &[
        Row { name: "unary", about: "durable submits, 64 in flight", run: submit::unary },
        Row {
            name: "stream",
            about: "durable submits on a stream, 64 in flight",
            run: submit::stream,
        },
        Row { name: "batch", about: "durable submits, 1,000 in a call", run: submit::batch },
        Row { name: "serial", about: "one durable submit", run: submit::serial },
        Row { name: "tasks", about: "process tasks end to end, 4 at once", run: process::tasks },
        Row { name: "start", about: "submit to first instruction, idle", run: process::start },
        Row { name: "command", about: "capsule submit as a whole process", run: command::submit },
        Row { name: "cancel", about: "cancel to a tree of 100 gone", run: stop::cancel },
        Row { name: "timeout", about: "how late a timeout ends a task", run: stop::timeout },
        Row { name: "restart", about: "kill -9 to all reconciled", run: restart::restart },
        Row { name: "million", about: "1 M queued tasks", run: scale::million::million },
        Row {
            name: "churn",
            about: "disk of 10 M tasks that came and went",
            run: scale::churn::churn,
        },
        Row {
            name: "history",
            about: "cost of a task as history grows",
            run: scale::history::history,
        },
        Row { name: "output", about: "capture of a large output", run: output::output },
        Row { name: "coroutines", about: "async Python tasks", run: python::coroutines },
        Row { name: "processes", about: "Python tasks with process=True", run: python::processes },
        Row { name: "cancels", about: "cancel of a running coroutine", run: python::cancels },
        Row { name: "chat", about: "a chat turn beside busy processes", run: python::chat },
        Row {
            name: "cron",
            about: "lateness of 10,000 schedules, and their rest",
            run: cron::cron,
        },
        Row { name: "board", about: "a change to an open board and page", run: board::board },
        Row { name: "idle", about: "wake-ups and memory of idle processes", run: idle::idle },
    ]
}
