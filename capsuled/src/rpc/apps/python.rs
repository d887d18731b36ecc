//! What an app of the SDK has besides its definitions, on the wire.

use capsule_proto::v1;

use crate::apps::{App, AppSchedule, Page, Python, TaskBoard, Widget};
use crate::deploying::lacking;
use crate::rpc::{Api, convert};

/// The view of the revision in force; none = of a `capsule.toml`.
pub(super) fn of(api: &Api, app: &App) -> Option<v1::PythonApp> {
    app.in_force()?.python.as_deref().map(|python| view(api, python))
}

pub(super) fn view(api: &Api, python: &Python) -> v1::PythonApp {
    let schedule = |schedule: &AppSchedule| v1::AppSchedule {
        name: schedule.name.clone(),
        cron: schedule.cron.clone(),
    };
    v1::PythonApp {
        entry: python.entry.clone(),
        interpreter: python.interpreter.clone(),
        interpreter_why: python.interpreter_why.clone(),
        python: python.python.clone(),
        sdk: python.sdk.clone(),
        mode: python.mode.word().to_owned(),
        mode_why: python.mode_why.clone(),
        sync_tasks: python.sync_tasks.word().to_owned(),
        source: python.source.clone(),
        dir: python.dir.clone(),
        serve: python.serve,
        venv: python.venv.clone(),
        packages: python.packages.clone(),
        schedules: python.schedules.iter().map(schedule).collect(),
        pages: python.pages.iter().map(|page| page.name.clone()).collect(),
        handlers: python.handlers.names(),
        secrets: python.secrets.clone(),
        secrets_missing: api.deployer.secrets().missing(&python.secrets),
        lacking: lacking(&python.uses)
            .into_iter()
            .map(|part| v1::Part {
                name: part.name.clone(),
                title: part.title.clone(),
                state: part.state.word().to_owned(),
                how: part.how.clone(),
            })
            .collect(),
    }
}

/// Pages in their order.
pub(super) fn pages(python: &Python) -> Vec<v1::PageView> {
    let mut pages: Vec<&Page> = python.pages.iter().collect();
    pages.sort_by_key(|page| page.order);
    let view = |page: &Page| v1::PageView {
        name: page.name.clone(),
        icon: page.icon.clone(),
        order: page.order,
        widgets: page.widgets().into_iter().map(widget).collect(),
    };
    pages.into_iter().map(view).collect()
}

fn widget(widget: Widget) -> v1::Widget {
    let Widget { kind, title, board } = widget;
    v1::Widget { r#type: kind, title, board: board.map(board_view) }
}

fn board_view(board: TaskBoard) -> v1::TaskBoard {
    let words = |statuses: Vec<capsule_core::task::Status>| {
        statuses.into_iter().map(|status| convert::status(status).into()).collect()
    };
    v1::TaskBoard {
        filter_json: board.filter,
        columns: board
            .columns
            .into_iter()
            .map(|(label, statuses)| v1::Column { label, statuses: words(statuses) })
            .collect(),
        refresh_ms: board.refresh_ms,
        task_name: board.task_name,
        statuses: words(board.statuses),
        ignored: board.ignored,
    }
}

/// All secrets by name, each with the apps that ask for it.
pub(super) fn secrets(api: &Api) -> Vec<v1::SecretView> {
    let apps = api.engine.apps();
    let asks = |app: &App, name: &String| {
        let python = app.in_force().and_then(|revision| revision.python.as_ref());
        python.is_some_and(|python| python.secrets.contains(name))
    };
    let view = |(name, set_us): (String, i64)| {
        let apps = apps.iter().filter(|(_, app)| asks(app, &name));
        v1::SecretView { apps: apps.map(|(app, _)| app.clone()).collect(), name, set_us }
    };
    api.deployer.secrets().list().into_iter().map(view).collect()
}
