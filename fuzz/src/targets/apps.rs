//! What a deploy reads: a `capsule.toml`, the description of a Python app, an app's fault.

use std::sync::Arc;

use capsule_core::time::Timestamp;
use capsuled::apps::{Apps, By, Given, Parsed, Revision, diff, parse};
use capsuled::deploying::{Fault, dotenv};
use capsuled::work::Work;

use super::text;

/// A `capsule.toml`. What stands behind a line `#!` is given to each of its tasks, word by word.
pub fn manifest(data: &[u8]) {
    let text = text(data);
    let (text, words) = text.split_once("\n#!").unwrap_or((&text, ""));
    if !text.starts_with('{')
        && let Ok(parsed) = parse(text)
    {
        called(text, parsed, words);
    }
}

/// The description of a Python app, in the same way.
pub fn description(data: &[u8]) {
    let text = text(data);
    let (text, words) = text.split_once("\n#!").unwrap_or((&text, ""));
    let text = if text.starts_with('{') { text.to_owned() } else { format!("{{{text}") };
    if let Ok(parsed) = parse(&text) {
        called(&text, parsed, words);
    }
}

/// Deploys it and calls each of its tasks.
fn called(text: &str, parsed: Parsed, words: &str) {
    assert_eq!(diff(&parsed.definitions, &parsed.definitions), [""; 0], "it differs from itself");
    let raw: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let params = raw.iter().filter_map(|word| word.split_once('='));
    let params: Vec<(String, String, bool)> = params
        .map(|(name, value)| (name.to_owned(), value.to_owned(), value.starts_with('{')))
        .collect();
    let payload = words.trim_start().starts_with('{').then(|| words.trim().to_owned());
    let cwd = "/srv".to_owned();
    let given = [
        Given { raw, cwd: cwd.clone(), ..Given::default() },
        Given { params, payload: payload.unwrap_or_default(), cwd, ..Given::default() },
    ];
    if let Some(python) = &parsed.python {
        let _names = python.handlers.names();
        assert_eq!(python.changes(Some(&**python)), [""; 0], "it differs from itself");
        let _widgets = python.pages.iter().map(|page| page.widgets().len()).sum::<usize>();
    }
    let mut apps = Apps::default();
    let revision = Revision {
        number: 1,
        deployed: Timestamp(0),
        by: "ann".to_owned(),
        uid: 1000,
        dir: "/srv".to_owned(),
        manifest: text.to_owned(),
        python: parsed.python,
        schedules: parsed.schedules,
        definitions: parsed.definitions,
    };
    apps.put(&parsed.app, revision);
    apps.set_current(&parsed.app, 1);
    let app = apps.get(&parsed.app).unwrap();
    for (name, definition) in &app.in_force().unwrap().definitions {
        for given in &given {
            let by = By { owner: "ann".to_owned(), uid: 1000 };
            let Ok((work, _)) = app.call(name, &Arc::clone(definition), given, by) else {
                continue;
            };
            let Work::Call(call) = &work else { continue };
            let arguments: serde_json::Map<_, _> = serde_json::from_str(&call.arguments).unwrap();
            let _argv = definition.command.with(&arguments);
            assert_eq!(definition.refit(&arguments), Ok(()), "{name}: {}", call.arguments);
            assert_eq!(Work::decode(&work.encode()), Some(work));
        }
    }
}

/// What an introspection says is wrong with an app; also as the `.env` of a project.
pub fn fault(data: &[u8]) {
    if let Ok(fault) = serde_json::from_slice::<Fault>(data) {
        let _shown = fault.placed();
    }
    let dir = super::disk::scratch();
    std::fs::write(dir.join(".env"), data).unwrap();
    for (name, _) in dotenv(&dir) {
        assert!(!name.is_empty() && !name.contains('='), "{name:?} is no name");
    }
}
