//! Greets people: a Rust program that runs as a task, with the standard library and `serde_json`.
#![expect(unused_crate_dependencies, reason = "it shares the dependencies of a test crate")]
#![expect(clippy::print_stdout, reason = "its stdout is the log of the task")]

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write as _;

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    // A parameter may come in argv...
    let greeting = std::env::args()
        .find_map(|word| word.strip_prefix("--greeting=").map(str::to_owned))
        .ok_or("--greeting is missing")?;
    // ... and all of them stand in the payload file.
    let payload = fs::read_to_string(std::env::var("CAPSULE_PAYLOAD_FILE")?)?;
    let payload: Value = serde_json::from_str(&payload)?;
    let names = payload.get("names").and_then(Value::as_array).ok_or("names is no list")?;

    let descriptor = std::env::var("CAPSULE_EVENT_FD")?;
    let mut events = OpenOptions::new().append(true).open(format!("/dev/fd/{descriptor}"))?;
    for (done, name) in (1..).zip(names) {
        println!("{greeting}, {}", name.as_str().unwrap_or("nobody"));
        writeln!(events, "{}", json!({"done": done, "total": names.len(), "text": "people"}))?;
    }

    let attempt: u32 = std::env::var("CAPSULE_ATTEMPT")?.parse()?;
    let result = json!({"greeted": names.len(), "attempt": attempt});
    fs::write(std::env::var("CAPSULE_RESULT_FILE")?, result.to_string())?;
    Ok(())
}
