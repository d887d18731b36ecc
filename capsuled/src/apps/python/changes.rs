//! What a deploy changes of an app besides its definitions.

use std::collections::BTreeMap;

use super::Python;

impl Python {
    /// A line for each change since `before`, in the form of [`crate::apps::diff`].
    pub fn changes(&self, before: Option<&Self>) -> Vec<String> {
        let none = Self::default();
        let old = before.unwrap_or(&none);
        let mut lines = Vec::new();
        named(&mut lines, "cron of", &crons(old), &crons(self));
        for schedule in &self.schedules {
            let before = old.schedules.iter().find(|it| it.name == schedule.name);
            if before.is_some_and(|it| (&it.tz, &it.policy) != (&schedule.tz, &schedule.policy)) {
                lines.push(format!("~ schedule {}: its policy", schedule.name));
            }
        }
        named(&mut lines, "page", &pages(old), &pages(self));
        let handlers = |app: &Self| -> BTreeMap<String, String> {
            app.handlers.names().into_iter().map(|name| (name, String::new())).collect()
        };
        named(&mut lines, "handler", &handlers(old), &handlers(self));
        let Some(old) = before else { return lines };
        for (what, old, new) in [
            ("interpreter", &old.interpreter, &self.interpreter),
            ("python", &old.python, &self.python),
            ("cpsl", &old.sdk, &self.sdk),
            ("packages", &old.packages.join(" "), &self.packages.join(" ")),
            ("secrets", &old.secrets.join(" "), &self.secrets.join(" ")),
            ("entry", &old.entry, &self.entry),
            ("project", &old.source, &self.source),
            ("runs in", &place(old), &place(self)),
            ("mode", &old.mode.word().to_owned(), &self.mode.word().to_owned()),
            ("sync_tasks", &old.sync_tasks.word().to_owned(), &self.sync_tasks.word().to_owned()),
        ] {
            if old != new {
                lines.push(format!("~ {what} {} → {}", shown(old), shown(new)));
            }
        }
        if old.snapshot != self.snapshot {
            lines.push("~ files".to_owned());
        }
        lines
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn place(app: &Python) -> String {
    if app.serve { "the project's folder" } else { "a copy" }.to_owned()
}

fn crons(app: &Python) -> BTreeMap<String, String> {
    app.schedules.iter().map(|schedule| (schedule.name.clone(), schedule.cron.clone())).collect()
}

fn pages(app: &Python) -> BTreeMap<String, String> {
    let text = |page: &super::Page| format!("{} {} {}", page.icon, page.order, page.tree);
    app.pages.iter().map(|page| (page.name.clone(), text(page))).collect()
}

/// `+`, `-` and `~` by name.
fn named(
    lines: &mut Vec<String>,
    what: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) {
    for (name, value) in new {
        match old.get(name) {
            // A schedule that is new or gone has its own line already.
            None if what == "cron of" => {}
            None => lines.push(format!("+ {what} {name}")),
            Some(before) if before == value => {}
            Some(before) if what == "cron of" => {
                lines.push(format!("~ schedule {name}: cron {before} → {value}"));
            }
            Some(_) => lines.push(format!("~ {what} {name}")),
        }
    }
    if what != "cron of" {
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        lines.extend(gone.map(|name| format!("- {what} {name}")));
    }
}
