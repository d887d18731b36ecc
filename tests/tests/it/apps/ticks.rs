//! Schedules of an app's code whose file beside it says what goes for their fires.

use std::fs;

use capsule_tests::wait_for;
use serde_json::{Value, json};

use super::Deployed;

const APP: &str = r#"
import asyncio
import os
import cpsl

app = cpsl.App("counted", image=cpsl.Image())

@app.task()
async def slow():
    while not os.path.exists(os.environ["HOME"] + "/go"):
        await asyncio.sleep(0.05)
    return "done"

@app.schedule("@every 1s")
async def beat():
    await slow.submit()
"#;

const POLICY: &str = "[schedules.beat]\noverlap_counts = \"submitted\"\n\
                      [schedules.nightly]\ntask = \"slow\"\ncron = \"30 3 * * *\"\ntz = \"Asia/Tokyo\"\n";

fn history(app: &Deployed) -> Vec<Value> {
    app.json(&["schedule", "history", "beat", "--json"]).as_array().unwrap().clone()
}

#[test]
fn what_a_run_submitted_counts_when_its_policy_says_so() {
    let Some(app) = Deployed::beside(Some(POLICY), APP) else { return };
    let (first, met) = wait_for("a fire meets what the one before submitted", || {
        let rows = history(&app);
        let first = rows.iter().rev().find(|row| row["what"] == "fired")?.clone();
        let met = rows.iter().find(|row| row["what"] == "skipped")?.clone();
        (first["status"] == "completed").then_some((first, met))
    });
    assert_eq!(met["task"], first["task"], "it was skipped for the run that is over");
    let submitted = &first["submitted"][0];
    assert_eq!((&submitted["name"], &submitted["status"]), (&json!("slow"), &json!("running")));
    assert_eq!(history(&app).iter().filter(|row| row["what"] == "fired").count(), 1);
    let told = app.says(&["schedule", "history", "beat"]);
    assert!(told.contains("submitted slow"), "{told}");
    assert_eq!(app.json(&["schedule", "audit", "beat", "--json"])["gaps"], 0);

    fs::write(app.home.path("h/go"), "").unwrap();
    let rows = wait_for("it fires again", || {
        let rows = history(&app);
        (rows.iter().filter(|row| row["what"] == "fired").count() > 1).then_some(rows)
    });
    let again = rows.iter().find(|row| row["task"] == first["task"] && row["what"] == "fired");
    assert_eq!(again.unwrap()["submitted"][0]["status"], "completed");

    let nightly = app.json(&["schedule", "show", "nightly", "--json"]);
    assert_eq!((&nightly["origin"], &nightly["zone"]), (&json!("manifest"), &json!("Asia/Tokyo")));
    let wrong = "[schedules.beat]\ncron = \"0 * * * *\"\n";
    fs::write(app.home.path("app/capsule.toml"), wrong).unwrap();
    let refused = app.deploy(APP).exits(2).errors();
    assert!(refused.contains("[schedules.beat] cron: the app's code says when"), "{refused}");
    fs::write(app.home.path("app/capsule.toml"), "[schedules.beat]\noverlap = \"allow\"\n")
        .unwrap();
    let changed = app.deploy(APP).exits(0).text();
    assert!(changed.contains("~ schedule beat: its policy"), "{changed}");
    assert!(changed.contains("- schedule nightly"), "{changed}");
}
