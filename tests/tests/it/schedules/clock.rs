//! Schedules of the hour, with a daemon whose clock is turned to just before it.

use std::fs;
use std::path::Path;

use capsule_tests::python::{root, sdk};
use capsule_tests::{Daemon, Home, now, turned, wait_for};
use serde_json::{Value, json};

const HOUR: i64 = 3600;

const MANIFEST: &str = "[app]\nname = \"demo\"\n[tasks.report]\ncommand = [\"echo\", \"done\"]\n\
                        [schedules.hourly_report]\ntask = \"report\"\ncron = \"0 * * * *\"\n";

/// A daemon whose clock shows so many seconds before an hour; `None` where no clock can be turned.
fn start_before(home: &Home, hour: i64, seconds: i64) -> Option<Daemon> {
    let mut daemon = home.launch_told(&["--slots", "8"], &turned(hour - seconds - now())?);
    home.ready(&mut daemon);
    Some(daemon)
}

#[test]
fn what_is_due_at_the_full_hour_fires_then_and_its_history_says_so() {
    let Some(python) = sdk() else { return };
    let home = Home::new();
    let hour = now() / HOUR * HOUR;
    fs::create_dir(home.path("app")).unwrap();
    let seed = Path::new(&root()).join("tests/host/seed_app.py");
    fs::copy(seed, home.path("app/app.py")).unwrap();
    fs::write(home.path("h/capsule.toml"), MANIFEST).unwrap();

    // Half an hour before, time enough to deploy.
    let Some(daemon) = start_before(&home, hour, HOUR / 2) else { return };
    let python = python.display().to_string();
    let words = ["deploy", "app.py:app", "--python", &python];
    home.capsule(words).cwd(home.path("app")).run().exits(0);
    home.capsule(["deploy"]).run().exits(0);
    let planned = jiff::Timestamp::from_second(hour).unwrap().to_string();
    for name in ["hourly_sync", "hourly_report"] {
        let next = home.capsule(["schedule", "show", name, "--json"]).run().exits(0).json();
        assert_eq!((&next["next_at"], &next["last"]), (&json!(planned), &json!(null)));
    }
    daemon.kill();

    let Some(_daemon) = start_before(&home, hour, 3) else { return };
    for name in ["hourly_sync", "hourly_report"] {
        let row: Value = wait_for(&format!("{name} has fired"), || {
            let words = ["schedule", "history", name, "--json"];
            let rows = home.capsule(words).run().exits(0).json();
            (rows[0]["status"] == "completed").then(|| rows[0].clone())
        });
        assert_eq!(row["planned_at"], json!(planned), "{row}");
        assert_eq!(row["what"], "fired", "{row}");
        let task = row["task"].as_u64().unwrap();
        assert_eq!(home.show(task)["schedule"], name);
        let told = home.capsule(["schedule", "history", name]).run().exits(0).text();
        assert!(told.contains(&task.to_string()) && told.contains("completed"), "{told}");
        let audit = home.capsule(["schedule", "audit", name, "--json"]).run().exits(0).json();
        assert_eq!(audit["gaps"], 0, "{audit}");
    }
}
