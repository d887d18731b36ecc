//! What an app of the SDK has besides its tasks, for people.

use capsule_proto::v1::PythonApp;

use crate::ui::{Ui, color, escape, time};

/// What a deploy found out.
pub(super) fn deployed(ui: &Ui, about: &PythonApp, took_ms: u64) -> String {
    let mut lines = running(about);
    lines.push(("took", time::millis(took_ms)));
    let mut text = told(&lines);
    text.push_str(&lacks(ui, about));
    text.trim_end().to_owned()
}

/// All about an app.
pub(super) fn shown(ui: &Ui, about: &PythonApp) -> String {
    let mut lines = vec![("entry", about.entry.clone()), ("project", about.source.clone())];
    lines.extend(running(about));
    lines.push(("pages", about.pages.join(", ")));
    let schedules = about.schedules.iter().map(|it| format!("{} ({})", it.name, it.cron));
    lines.push(("schedules", schedules.collect::<Vec<_>>().join(", ")));
    lines.push(("handlers", about.handlers.join(", ")));
    lines.push(("secrets", about.secrets.join(", ")));
    let mut text = told(&lines);
    text.push_str(&lacks(ui, about));
    text.trim_end().to_owned()
}

fn running(about: &PythonApp) -> Vec<(&'static str, String)> {
    let plain = match (about.mode.as_str(), about.sync_tasks.as_str()) {
        ("stock", _) => "plain functions run in its threads",
        (_, "thread") => "plain functions run in threads (sync_tasks)",
        _ => "plain functions run as processes",
    };
    let place = if about.serve { "served from" } else { "runs in" };
    vec![
        ("python", format!("{} {} ({})", about.python, about.interpreter, about.interpreter_why)),
        ("sdk", format!("cpsl {}", about.sdk)),
        ("packages", about.packages.join(" ")),
        ("mode", format!("{}: {}; {plain}", about.mode, about.mode_why)),
        (place, about.dir.clone()),
    ]
}

fn told(lines: &[(&str, String)]) -> String {
    let some = lines.iter().filter(|(_, text)| !text.is_empty());
    some.fold(String::new(), |told, (label, text)| {
        told + &format!("  {label:<12} {}\n", escape::line(text))
    })
}

/// What is missing, so that it is seen.
fn lacks(ui: &Ui, about: &PythonApp) -> String {
    let mut lines = Vec::new();
    for name in &about.secrets_missing {
        let hint = format!("capsule secret set {name}");
        lines.push(("no secret", format!("{name}    {hint}")));
    }
    for part in &about.lacking {
        let label = if part.state == "partly" { "partly" } else { "not here" };
        lines.push((label, format!("{}: {}", part.title, part.how)));
    }
    let paint = |(label, text): &(&str, String)| {
        format!("  {} {}\n", ui.paint(color::YELLOW, &format!("{label:<12}")), escape::line(text))
    };
    lines.iter().map(paint).collect::<Vec<_>>().concat()
}
