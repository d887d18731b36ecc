//! `schedule backfill`.

use capsule_proto::v1::{BackfillScheduleReply, BackfillScheduleRequest, FireView, ScheduleView};
use serde_json::{Value, json};
use tonic::{Code, Response, Result};

use super::{PLANNED, hourly};
use crate::fake::{Fake, Served, refusal};

/// Two fires are left, of which one starts; of `done` none is.
pub(super) fn answer(
    served: &Served,
    asked: &BackfillScheduleRequest,
) -> Result<Response<BackfillScheduleReply>> {
    let BackfillScheduleRequest { schedule, from_us, to_us, dry_run, .. } = asked;
    served.0.lock().heard.push(format!("{schedule} {from_us} {} {dry_run}", to_us - from_us));
    if schedule == "many" {
        let text = "999 fires are left to backfill, and there is room for 100";
        let hint = "capsule schedule backfill 7 --from a --to b";
        return Err(refusal(Code::ResourceExhausted, "no_room", text, hint, 5));
    }
    let fire =
        |hour: i64| FireView { at_us: PLANNED + hour * 3_600_000_000, ..FireView::default() };
    let fires = if schedule == "done" { Vec::new() } else { vec![fire(0), fire(2)] };
    Ok(Response::new(BackfillScheduleReply {
        started: u32::from(!dry_run && !fires.is_empty()),
        fires,
        fired: 1,
        waiting: 0,
        forgotten: if schedule == "done" { 1000 } else { 0 },
        schedule: Some(ScheduleView { label: schedule.clone(), ..hourly() }),
    }))
}

#[test]
fn what_is_backfilled_is_said_and_a_dry_run_lists_it() {
    let fake = Fake::start();
    let run = |name: &str, more: &[&str]| {
        let period = ["--from", "2026-09-21T14:00:00Z", "--to", "2026-09-21T17:00:00Z"];
        fake.run(&[&["schedule", "backfill", name], &period[..], more].concat())
    };
    let said = run("nightly", &[]);
    let period = "2026-09-21 14:13:20 to 2026-09-21 16:13:20 UTC";
    let told = format!("2 fires of nightly, {period}");
    let expected = format!("backfills {told}, one after another; fired before: 1\n");
    assert_eq!((said.code, said.out), (0, expected));
    let dry = run("nightly", &["--dry-run"]).out;
    assert!(dry.starts_with("PLANNED (UTC)"), "{dry}");
    assert!(dry.ends_with(&format!("would backfill {told}; fired before: 1\n")), "{dry}");
    assert_eq!(dry.lines().count(), 4, "{dry}");
    let done = run("done", &[]);
    assert_eq!(done.out, "nothing is left to backfill of done; fired before: 1\n");
    assert!(done.err.contains("1000 or more planned"), "{done:?}");
    let json: Value = serde_json::from_str(&run("nightly", &["--json"]).out).unwrap();
    assert_eq!(json["fires"][1]["planned_at"], "2026-09-21T16:13:20Z");
    assert_eq!((&json["started"], &json["dry_run"]), (&json!(1), &json!(false)));
    let refused = run("many", &[]);
    assert_eq!(refused.code, 5);
    assert!(refused.err.contains("capsule schedule backfill 7 --from a --to b"), "{refused:?}");
    let from = PLANNED - 800_000_000;
    assert_eq!(fake.lock().heard[0], format!("nightly {from} 10800000000 false"));
    assert_eq!(fake.run(&["schedule", "backfill", "nightly", "--from", "6h"]).code, 2);
}
