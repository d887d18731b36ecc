//! `schedule`: what a person is shown, and what the daemon is asked.

mod backfill;

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
        last: Some(fired),
        prose: "every hour, UTC".to_owned(),
        zone: "UTC".to_owned(),
        ..ScheduleView::default()
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
        let NextFiresRequest { schedule, count, .. } = request.into_inner();
        let decided_us = (schedule == "early").then_some(PLANNED * 2);
        let fires_us: Vec<i64> =
            (0..count).map(|n| PLANNED + i64::from(n) * 3_600_000_000).collect();
        let fires = fires_us.iter().map(|at_us| FireView { at_us: *at_us, ..FireView::default() });
        let fires = fires.collect();
        Ok(Response::new(NextFiresReply {
            schedule: Some(ScheduleView { decided_us, ..hourly() }),
            fires_us,
            fires,
        }))
    }

    async fn trigger_schedule(
        &self,
        request: Request<TriggerScheduleRequest>,
    ) -> Result<Response<TriggerScheduleReply>> {
        self.0.lock().heard.push(format!("trigger {}", request.into_inner().schedule));
        let task = Some(task(1851, "hourly_sync", Status::Pending));
        Ok(Response::new(TriggerScheduleReply { task }))
    }

    async fn backfill_schedule(
        &self,
        request: Request<BackfillScheduleRequest>,
    ) -> Result<Response<BackfillScheduleReply>> {
        backfill::answer(self, &request.into_inner())
    }

    async fn end_schedule(
        &self,
        request: Request<EndScheduleRequest>,
    ) -> Result<Response<EndScheduleReply>> {
        self.0.lock().heard.push(format!("end {}", request.into_inner().schedule));
        Ok(Response::new(EndScheduleReply { schedule: Some(recurrence()) }))
    }

    async fn add_schedule(
        &self,
        request: Request<AddScheduleRequest>,
    ) -> Result<Response<AddScheduleReply>> {
        let AddScheduleRequest { name, when, policy, submit } = request.into_inner();
        let (when, policy) = (when.unwrap(), policy.unwrap_or_default());
        let work = match submit.unwrap().work.unwrap() {
            submit_request::Work::Program(program) => format!("{:?}", program.argv),
            submit_request::Work::Call(call) => format!("{} {:?}", call.task, call.params),
        };
        let SchedulePolicy { overlap, jitter_ms, .. } = policy;
        let heard = format!(
            "add {name} {:?} {} {overlap} {jitter_ms} {work}",
            when.rule.unwrap(),
            when.zone
        );
        self.0.lock().heard.push(heard);
        let warnings = vec!["there is no day 31 in February".to_owned()];
        let schedule = ScheduleView { label: name, ..hourly() };
        Ok(Response::new(AddScheduleReply { schedule: Some(schedule), created: true, warnings }))
    }

    async fn pause_schedule(
        &self,
        request: Request<PauseScheduleRequest>,
    ) -> Result<Response<ChangeScheduleReply>> {
        let PauseScheduleRequest { schedule, note, .. } = request.into_inner();
        self.0.lock().heard.push(format!("pause {schedule}: {note}"));
        Ok(Response::new(ChangeScheduleReply { schedule: Some(hourly()) }))
    }

    async fn resume_schedule(
        &self,
        request: Request<ResumeScheduleRequest>,
    ) -> Result<Response<ChangeScheduleReply>> {
        self.0.lock().heard.push(format!("resume {}", request.into_inner().schedule));
        Ok(Response::new(ChangeScheduleReply { schedule: Some(hourly()) }))
    }

    async fn skip_next_fire(
        &self,
        request: Request<SkipNextFireRequest>,
    ) -> Result<Response<ChangeScheduleReply>> {
        self.0.lock().heard.push(format!("skip {}", request.into_inner().schedule));
        let schedule = ScheduleView { skip_us: Some(PLANNED), ..hourly() };
        Ok(Response::new(ChangeScheduleReply { schedule: Some(schedule) }))
    }

    async fn preview_schedule(
        &self,
        request: Request<PreviewScheduleRequest>,
    ) -> Result<Response<PreviewScheduleReply>> {
        let PreviewScheduleRequest { when, count, .. } = request.into_inner();
        self.0.lock().heard.push(format!("preview {:?} {count}", when.unwrap().zone));
        let fire = FireView {
            at_us: PLANNED,
            wall: "2026-09-21 16:13 CEST".to_owned(),
            note: "it comes twice that day: the first".to_owned(),
            due_us: None,
        };
        Ok(Response::new(PreviewScheduleReply {
            prose: "every day".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            fires: vec![fire],
            warnings: Vec::new(),
            more: false,
        }))
    }

    async fn audit_schedule(
        &self,
        request: Request<AuditScheduleRequest>,
    ) -> Result<Response<AuditScheduleReply>> {
        let gaps = u32::from(request.into_inner().schedule == "broken");
        Ok(Response::new(AuditScheduleReply {
            schedule: Some(hourly()),
            from_us: PLANNED,
            to_us: PLANNED + 7_200_000_000,
            planned: 3,
            outcomes: [("fired".to_owned(), 3 - gaps)].into(),
            gaps_us: (0..gaps).map(|_| PLANNED).collect(),
            gaps,
        }))
    }
}

#[test]
fn a_task_or_a_program_is_added_with_its_policy() {
    let fake = Fake::start();
    let added = fake.run(&[
        "schedule",
        "add",
        "nightly",
        "--cron",
        "0 3 31 * *",
        "--tz",
        "Europe/Berlin",
        "--overlap",
        "buffer-one",
        "--jitter",
        "5m",
        "sync",
        "-p",
        "owner=acme",
    ]);
    assert_eq!(
        (added.code, added.out.as_str()),
        (0, "added nightly, next 2026-09-21 15:13:20 UTC\n")
    );
    assert!(added.err.contains("no day 31 in February"), "{added:?}");
    let program = fake.run(&["schedule", "add", "tick", "--every", "90s", "--", "echo", "--hi"]);
    assert_eq!(program.code, 0, "{program:?}");
    let heard = fake.lock().heard.clone();
    assert!(
        heard[0]
            .starts_with("add nightly Cron(\"0 3 31 * *\") Europe/Berlin buffer-one 300000 sync")
    );
    assert!(heard[0].contains("acme"), "{heard:?}");
    assert_eq!(heard[1], "add tick EveryMs(90000)  skip 0 [\"echo\", \"--hi\"]");
    for wrong in [
        &["schedule", "add", "x", "sync"][..],
        &["schedule", "add", "x", "--cron", "* * * * *"],
        &["schedule", "add", "x", "--cron", "* * * * *", "--every", "5s", "sync"],
        &["schedule", "add", "x", "--every", "5s", "--tz", "UTC", "sync"],
    ] {
        assert_eq!(fake.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn what_people_do_by_hand_is_said_back() {
    let fake = Fake::start();
    let said = |words: &[&str]| fake.run(words).out;
    assert_eq!(
        said(&["schedule", "pause", "hourly_sync", "--note", "move"]),
        "paused hourly_sync\n"
    );
    assert_eq!(
        said(&["schedule", "resume", "hourly_sync"]),
        "resumed hourly_sync, next 2026-09-21 15:13:20 UTC\n"
    );
    assert_eq!(
        said(&["schedule", "skip-next", "hourly_sync"]),
        "hourly_sync will pass 2026-09-21 14:13:20 UTC over\n"
    );
    let heard = fake.lock().heard.clone();
    assert_eq!(heard, ["pause hourly_sync: move", "resume hourly_sync", "skip hourly_sync"]);
    let shown = said(&["schedule", "show", "hourly_sync"]);
    assert!(
        shown.contains("every hour, UTC") && shown.contains("the code of app leads"),
        "{shown}"
    );
    assert!(!shown.contains("silent"), "{shown}");
    let early = said(&["schedule", "show", "early"]);
    assert!(early.contains("silent    until 2083-") && early.contains("set back"), "{early}");
}

#[test]
fn a_preview_tells_of_the_clocks_and_an_audit_of_gaps() {
    let fake = Fake::start();
    let words = ["schedule", "preview", "--cron", "30 2 * * *", "--tz", "Europe/Berlin", "-n", "3"];
    let preview = fake.run(&words).out;
    for part in ["NEXT (ITS ZONE)", "16:13 CEST", "comes twice"] {
        assert!(preview.contains(part), "{part} in {preview}");
    }
    assert_eq!(fake.lock().heard, ["preview \"Europe/Berlin\" 3"]);
    let whole = fake.run(&["schedule", "audit", "hourly_sync"]);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.out.ends_with("no gap\n"), "{whole:?}");
    let broken = fake.run(&["schedule", "audit", "broken"]);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.out.contains("no record of 2026-09-21 14:13:20 UTC"), "{broken:?}");
}

#[test]
fn a_crontab_is_shown_and_added_only_when_told_to() {
    let fake = Fake::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "PATH=/bin\n5 4 * * * flock -n /tmp/b.lock backup\n@reboot x\n")
        .unwrap();
    let path = file.path().display().to_string();
    let shown = fake.run(&["schedule", "import", "crontab", &path]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for part in ["backup --cron '5 4 * * *'", "--lock b", "nothing fires at a reboot"] {
        assert!(shown.out.contains(part), "{part} in {shown:?}");
    }
    assert!(fake.lock().heard.is_empty());
    let mut command = fake.command(&["schedule", "import", "crontab", &path, "--yes"]);
    command.env("TZ", "Europe/Zurich");
    let added = crate::fake::ended(command.spawn().unwrap());
    assert_eq!(added.code, 1, "one line cannot be taken over: {added:?}");
    assert!(added.out.starts_with("added backup, "), "{added:?}");
    let heard = fake.lock().heard.clone();
    assert_eq!(heard, ["add backup Cron(\"5 4 * * *\") Europe/Zurich  0 [\"backup\"]"]);
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
