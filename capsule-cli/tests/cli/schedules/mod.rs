//! `schedule`: what a person is shown, and what the daemon is asked.

use capsule_proto::v1::schedules_server::Schedules;
use capsule_proto::v1::*;
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Result};

use crate::fake::{Fake, Served, refusal, task};

/// 2026-09-21T14:13:20Z.
const PLANNED: i64 = 1_790_000_000_000_000;

fn hourly() -> ScheduleView {
    let fired = TickView {
        planned_us: PLANNED,
        generation: 2,
        outcome: "fired".to_owned(),
        task: Some(1842),
        ..TickView::default()
    };
    ScheduleView {
        id: 7,
        app: "leads".to_owned(),
        name: "hourly_sync".to_owned(),
        label: "hourly_sync".to_owned(),
        rule: "0 * * * *".to_owned(),
        generation: 2,
        origin: "app".to_owned(),
        owner: "ann".to_owned(),
        created_us: PLANNED,
        next_us: Some(PLANNED + 3_600_000_000),
        ended_us: None,
        last: Some(fired),
    }
}

fn recurrence() -> ScheduleView {
    ScheduleView {
        id: 1850,
        name: "poll".to_owned(),
        label: "1850".to_owned(),
        rule: "every 1m30s".to_owned(),
        origin: "sdk".to_owned(),
        next_us: None,
        ended_us: Some(PLANNED),
        last: None,
        ..hourly()
    }
}

fn ticks() -> Vec<TickView> {
    let fired = hourly().last.unwrap();
    let mut view = task(1842, "hourly_sync", Status::Failed);
    view.reason = "exit 1".to_owned();
    vec![
        TickView { at_us: Some(PLANNED + 1), task_view: Some(view), ..fired.clone() },
        TickView { outcome: "skipped".to_owned(), task: Some(1840), ..fired.clone() },
        TickView {
            outcome: "missed".to_owned(),
            task: None,
            until_us: Some(PLANNED + 7_200_000_000),
            count: 3,
            ..fired.clone()
        },
        TickView {
            outcome: "refused".to_owned(),
            task: None,
            why: "the store is full".to_owned(),
            ..fired
        },
    ]
}

#[tonic::async_trait]
impl Schedules for Served {
    async fn list_schedules(
        &self,
        request: Request<ListSchedulesRequest>,
    ) -> Result<Response<ListSchedulesReply>> {
        let ListSchedulesRequest { app, all } = request.into_inner();
        self.0.lock().heard.push(format!("list app={app} all={all}"));
        let mut schedules = vec![hourly()];
        schedules.extend(all.then(recurrence));
        Ok(Response::new(ListSchedulesReply { schedules }))
    }

    async fn schedule_history(
        &self,
        request: Request<ScheduleHistoryRequest>,
    ) -> Result<Response<ScheduleHistoryReply>> {
        let ScheduleHistoryRequest { schedule, limit, .. } = request.into_inner();
        if schedule != "hourly_sync" {
            let text = format!("there is no schedule {schedule:?}");
            return Err(refusal(Code::NotFound, "not_found", &text, "capsule schedule list", 4));
        }
        self.0.lock().heard.push(format!("history limit={limit}"));
        Ok(Response::new(ScheduleHistoryReply { schedule: Some(hourly()), ticks: ticks() }))
    }

    async fn next_fires(
        &self,
        request: Request<NextFiresRequest>,
    ) -> Result<Response<NextFiresReply>> {
        let count = request.into_inner().count;
        let fires_us = (0..count).map(|n| PLANNED + i64::from(n) * 3_600_000_000).collect();
        Ok(Response::new(NextFiresReply { schedule: Some(hourly()), fires_us }))
    }

    async fn trigger_schedule(
        &self,
        request: Request<TriggerScheduleRequest>,
    ) -> Result<Response<TriggerScheduleReply>> {
        self.0.lock().heard.push(format!("trigger {}", request.into_inner().schedule));
        let task = Some(task(1851, "hourly_sync", Status::Pending));
        Ok(Response::new(TriggerScheduleReply { task }))
    }

    async fn end_schedule(
        &self,
        request: Request<EndScheduleRequest>,
    ) -> Result<Response<EndScheduleReply>> {
        self.0.lock().heard.push(format!("end {}", request.into_inner().schedule));
        Ok(Response::new(EndScheduleReply { schedule: Some(recurrence()) }))
    }
}

#[test]
fn a_list_has_the_next_fire_in_utc_and_in_the_own_zone() {
    let fake = Fake::start();
    let mut command = fake.command(&["schedule", "list", "--all", "--app", "leads"]);
    command.env("TZ", "Europe/Zurich").env("CAPSULE_TIME", "iso");
    let ended = crate::fake::ended(command.spawn().unwrap());
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(fake.lock().heard, ["list app=leads all=true"]);
    for (line, parts) in lines.iter().zip([
        &["SCHEDULE", "NEXT (UTC)", "NEXT (LOCAL)", "LAST"][..],
        &["hourly_sync", "0 * * * *", "2026-09-21 15:13:20", "17:13:20 CEST", "fired 1842"],
        &["1850", "poll every 1m30s", "ended"],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    let json: Value = serde_json::from_str(&fake.run(&["schedule", "ls", "--json"]).out).unwrap();
    assert_eq!(json[0]["next_at"], "2026-09-21T15:13:20Z");
    assert_eq!(json[0]["last"]["what"], "fired");
    let ids = fake.run(&["schedule", "list", "-q"]);
    assert_eq!((ids.code, ids.out.as_str()), (0, "7\n"), "{ids:?}");
}

#[test]
fn a_history_tells_what_became_of_each_fire() {
    let fake = Fake::start();
    let told = fake.run(&["schedule", "history", "hourly_sync", "-n", "9"]);
    assert_eq!(fake.lock().heard, ["history limit=9"]);
    let lines: Vec<&str> = told.out.lines().skip(1).collect();
    for (line, parts) in lines.iter().zip([
        &["2026-09-21 14:13:20", "fired", "1842", "failed: exit 1"][..],
        &["skipped", "1840", "removed"],
        &["missed 3 until 2026-09-21 16:13:20"],
        &["refused: the store is full"],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert_eq!(lines.len(), 4);
    let json = fake.run(&["schedule", "history", "hourly_sync", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["status"], &json[2]["count"]), (&json!("failed"), &json!(3)));
    let nobody = fake.run(&["schedule", "history", "nightly"]);
    assert_eq!(nobody.code, 4, "{nobody:?}");
}

#[test]
fn the_next_fires_and_a_run_by_hand() {
    let fake = Fake::start();
    let next = fake.run(&["schedule", "next", "hourly_sync", "-n", "3"]);
    assert_eq!(next.out.lines().count(), 4, "{next:?}");
    assert_eq!(fake.run(&["schedule", "trigger", "hourly_sync"]).out, "1851\n");
    assert_eq!(fake.run(&["schedule", "end", "1850"]).out, "ended 1850\n");
    assert_eq!(fake.lock().heard, ["trigger hourly_sync", "end 1850"]);
    assert_eq!(fake.run(&["schedule", "next", "hourly_sync", "-n", "0"]).code, 2);
}
