//! Has one step happen, to those to whom it can.

use capsule_core::command::{Command, Edit};
use capsule_core::id::TaskId;
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, Dependency, DependencyOn, LockPolicy, TaskSpec};
use capsule_core::task::{State, Status, Task};
use capsule_core::time::{Span, Timestamp};

use super::super::{START, spec};
use super::steps::{Ask, Plan, Revise, Step, Wish};
use super::world::World;
use super::{Stop, ensure};
use crate::apps::{Revision, parse};
use crate::clock::Clock as _;
use crate::engine::{
    Acted, How, KEY_KEPT, NewRecurrence, NewTask, QueueChange, ScheduleChange, SubmitError,
};
use crate::work::{Call, Work};

/// An exit code that no retry makes good.
pub(super) const FINAL_CODE: i32 = 42;

/// The queues.
pub(super) const QUEUES: [&str; 3] = ["default", "slow", "other"];

/// The one among `all` that a chance picks.
pub(super) fn pick<T: Clone>(all: &[T], which: usize) -> Option<T> {
    all.get(which.checked_rem(all.len())?).cloned()
}

impl World {
    /// Has a step happen.
    pub(super) async fn play(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Submit(wishes) => self.submit(wishes).await,
            Step::Again { which, other_arguments } => self.again(*which, *other_arguments).await,
            Step::Ask { which, what } => self.ask(which, what).await,
            Step::Remove(which) => self.remove(which).await,
            Step::Queue { queue, paused, limit } => {
                let limit = limit.map(|limit| Some(limit).filter(|limit| *limit < 3));
                let change = QueueChange { paused: *paused, note: String::new(), limit };
                let name = QUEUES[usize::from(*queue)].to_owned();
                drop(self.engine.set_queue(name, change).await?);
                Ok(())
            }
            Step::Drain(on) => Ok(self.engine.drain(*on).await?),
            Step::StopAll => {
                self.engine.stop_all(Span::from_secs(1)).await?;
                Ok(())
            }
            Step::Refresh(which) => {
                let ids: Vec<TaskId> = self.record.tasks.keys().copied().collect();
                if let Some(id) = pick(&ids, *which) {
                    self.engine.refresh(id).await?;
                }
                Ok(())
            }
            Step::Deploy { tools, what } => self.redeploy(*tools, what).await,
            Step::Schedule(plan) => self.schedule(plan).await,
            Step::Runner(runner) => self.run(runner).await,
            Step::Advance(seconds) => {
                self.clock.advance(Span::from_secs(*seconds));
                if self.keeper.connected { self.keeper.put_back(&self.engine) } else { Ok(()) }
            }
            Step::Back(seconds) => {
                let back = i64::try_from(*seconds).unwrap_or(0) * 1_000_000;
                self.clock.set(Timestamp(self.clock.now().0 - back));
                Ok(())
            }
            Step::Restart => self.restart().await,
            Step::Crash { commits, how, with_keeper } => {
                self.store.crash_after(*commits, *how);
                self.crash_with = *with_keeper;
                Ok(())
            }
        }
    }

    fn spec_of(&self, wish: &Wish) -> TaskSpec {
        let (app, name) = match wish.work {
            0..4 => ("", "sim"),
            4 => ("", "other"),
            5 => ("leads", "host"),
            6 => ("leads", "plain"),
            _ => ("tools", "t"),
        };
        let ids: Vec<TaskId> = self.record.tasks.keys().copied().collect();
        let after = wish.after.iter().filter_map(|(which, on)| {
            let on = [DependencyOn::Ok, DependencyOn::Any, DependencyOn::Failed][usize::from(*on)];
            Some(Dependency { task: pick(&ids, *which)?, on })
        });
        let revision = self.engine.apps().get(app).map_or(1, |app| app.current);
        TaskSpec {
            app: app.to_owned(),
            revision: if app.is_empty() { 0 } else { revision },
            lock: wish.lock.map(|lock| format!("l:{lock}")),
            lock_policy: [
                LockPolicy::Merge,
                LockPolicy::Wait,
                LockPolicy::Replace,
                LockPolicy::Reject,
            ][usize::from(wish.policy)],
            key: wish.key.map(|key| format!("k{key}")),
            retries: wish.retries,
            backoff: Backoff::Fixed(Span::from_secs(5)),
            delivery: if wish.once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
            priority: wish.priority,
            not_before: (wish.delay > 0)
                .then(|| self.clock.now().plus(Span::from_secs(wish.delay))),
            start_within: wish.within.map(Span::from_secs),
            after: after.collect(),
            hold: wish.hold,
            queue: QUEUES[usize::from(wish.queue)].to_owned(),
            no_retry_exit_codes: vec![FINAL_CODE],
            timeout: Some(Span::from_secs(30)),
            ..spec(name)
        }
    }

    async fn submit(&mut self, wishes: &[Wish]) -> Result<(), Stop> {
        let live = self.keeper.running();
        let mut submits = Vec::new();
        for wish in wishes {
            let spec = self.spec_of(wish);
            let payload = match (spec.app.is_empty(), wish.large) {
                (false, _) => Work::Call(Call { arguments: "{}".to_owned() }).encode(),
                (true, large) => vec![b'x'; if large { 2000 } else { 4 }],
            };
            if spec.key.is_some() {
                self.record.keyed.push((spec.clone(), payload.clone()));
            }
            let parent = wish.parent.and_then(|which| pick(&live, which)).map(|key| key.0);
            submits.push(NewTask { spec, payload, parent, dry_run: false });
        }
        self.submit_all(submits).await
    }

    async fn again(&mut self, which: usize, other_arguments: bool) -> Result<(), Stop> {
        let Some((mut spec, payload)) = pick(&self.record.keyed, which) else { return Ok(()) };
        spec.arguments += u64::from(other_arguments);
        self.submit_all(vec![NewTask { spec, payload, parent: None, dry_run: false }]).await
    }

    async fn submit_all(&mut self, submits: Vec<NewTask>) -> Result<(), Stop> {
        let specs: Vec<TaskSpec> = submits.iter().map(|new| new.spec.clone()).collect();
        for spec in &specs {
            // It may pull a waiting one forward, or end it.
            self.touch_lock(spec);
        }
        let results = self.engine.submit(submits).await?;
        for (spec, result) in specs.iter().zip(results) {
            let key = spec.key.clone().map(|key| (format!("{}/{}", spec.app, named(spec)), key));
            let known = key.as_ref().and_then(|key| self.record.keys.get(key).copied());
            let known = known.filter(|known| !self.record.removed.contains(known));
            let submitted = match result {
                Ok(submitted) => submitted,
                Err(SubmitError::KeyConflict { id, .. }) => {
                    self.stands_for(known, id)?;
                    continue;
                }
                Err(_) => continue,
            };
            let task = &submitted.task;
            self.is_durable(task)?;
            match submitted.how {
                How::Created | How::Replaced(_) => {
                    ensure(self.record.given.insert(task.id), IDS, || format!("{}", task.id))?;
                    if let Some(known) = known {
                        self.key_is_over(known)?;
                    }
                }
                How::Existing => self.stands_for(known, task.id)?,
                How::Merged { .. } | How::Checked => continue,
            }
            if let Some(key) = key {
                self.record.keys.insert(key, task.id);
            }
        }
        Ok(())
    }

    /// A key is answered with this task. Another one than was told before can only be one that
    /// became durable in a crash, after the time of the other.
    fn stands_for(&self, known: Option<TaskId>, id: TaskId) -> Result<(), Stop> {
        known.filter(|known| *known != id).map_or(Ok(()), |known| self.key_is_over(known))
    }

    /// A new task was made although this one had the key: its time must be over.
    fn key_is_over(&self, known: TaskId) -> Result<(), Stop> {
        let task = self.record.tasks.get(&known);
        let latest = self.record.latest.max(self.clock.now());
        let since = |at| latest.since(at) > KEY_KEPT;
        let over = task.is_none_or(|it| matches!(it.state, State::Ended { at, .. } if since(at)));
        let asked = self.record.removed.contains(&known) || self.record.retried.contains(&known);
        ensure(over || asked, KEYS, || format!("{known} had the key and still stands"))
    }

    /// What is answered is durable.
    fn is_durable(&self, told: &Task) -> Result<(), Stop> {
        let found = self.task(told.id)?;
        let durable = found.as_ref().is_some_and(|found| found.seq >= told.seq);
        ensure(durable, "nothing is answered before it is durable", || {
            format!("{} was told at {}, the store has {found:?}", told.id, told.seq)
        })
    }

    fn touch_lock(&mut self, spec: &TaskSpec) {
        let same = |task: &&Task| task.spec.app == spec.app && task.spec.lock == spec.lock;
        let ids = self.record.tasks.values().filter(same).map(|task| task.id);
        self.record.moved.extend(ids.collect::<Vec<_>>());
    }

    async fn ask(&mut self, which: &[usize], what: &Ask) -> Result<(), Stop> {
        let all: Vec<&Task> = self.record.tasks.values().collect();
        let fits: Vec<TaskId> =
            all.iter().filter(|task| fits(what, task)).map(|task| task.id).collect();
        let ids: Vec<TaskId> = which.iter().filter_map(|which| pick(&fits, *which)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let edit = |edit: Edit| Command::Edit(Box::new(edit));
        let command = match what {
            Ask::Cancel { now } => {
                Command::Cancel { reason: String::new(), grace: now.then_some(Span::ZERO) }
            }
            Ask::Retry { retries } => {
                self.record.retried.extend(&ids);
                Command::Retry { retries: *retries, timeout: None }
            }
            Ask::Promote => Command::Promote,
            Ask::Hold(hold) => edit(Edit { hold: Some(*hold), ..Edit::default() }),
            Ask::Priority(to) => edit(Edit { priority: Some(*to), ..Edit::default() }),
            Ask::Queue(to) => {
                edit(Edit { queue: Some(QUEUES[usize::from(*to)].to_owned()), ..Edit::default() })
            }
            Ask::At(seconds) => edit(Edit {
                at: Some(self.clock.now().plus(Span::from_secs(*seconds))),
                ..Edit::default()
            }),
        };
        self.record.moved.extend(&ids);
        let acted: Vec<Acted> = self.engine.act(ids, command).await?;
        acted.iter().filter_map(|it| it.result.as_ref().ok()).try_for_each(|it| self.is_durable(it))
    }

    async fn remove(&mut self, which: &[usize]) -> Result<(), Stop> {
        let ended = self.record.tasks.values().filter(|task| task.status().is_ended());
        let ended: Vec<TaskId> = ended.map(|task| task.id).collect();
        // Often the newest: its id must not be given again.
        let one = |which: &usize| match which % 2 {
            0 => ended.last().copied(),
            _ => pick(&ended, *which),
        };
        let ids: Vec<TaskId> = which.iter().filter_map(one).collect();
        self.record.removed.extend(&ids);
        for acted in self.engine.remove(ids).await? {
            let gone = self.task(acted.id)?.is_none();
            ensure(gone == acted.result.is_ok() || gone, "a removed task is gone", || {
                format!("{acted:?}")
            })?;
        }
        Ok(())
    }

    async fn redeploy(&mut self, tools: bool, what: &Revise) -> Result<(), Stop> {
        let name = if tools { "tools" } else { "leads" }.to_owned();
        match what {
            Revise::Deploy(variant) => {
                self.engine.deploy(name, revision(tools, *variant)).await?;
            }
            Revise::Rollback(which) => {
                let apps = self.engine.apps();
                let numbers = apps.get(&name).map(|app| app.revisions.keys().copied());
                let numbers: Vec<u32> = numbers.into_iter().flatten().collect();
                if let Some(number) = pick(&numbers, *which) {
                    self.engine.rollback(name, number).await?;
                }
            }
            Revise::Remove => self.engine.remove_app(name).await?,
        }
        Ok(())
    }

    async fn schedule(&mut self, plan: &Plan) -> Result<(), Stop> {
        let known: Vec<_> = self.engine.book().schedules.iter().map(|it| it.id).collect();
        match plan {
            Plan::Recur { every, lock, first } => {
                let lock = lock.map(|lock| format!("r:{lock}"));
                let now = self.clock.now();
                let new = NewRecurrence {
                    spec: TaskSpec { lock, ..spec("again") },
                    payload: b"work".to_vec(),
                    every: Span::from_secs(*every),
                    first: first.map(|seconds| Timestamp(now.0 + seconds * 1_000_000)),
                };
                if let Ok(recurrence) = self.engine.recur(new).await?
                    && recurrence.created
                {
                    let id = TaskId(recurrence.schedule.id.0);
                    ensure(self.record.schedules.insert(id), IDS, || format!("schedule {id}"))?;
                    ensure(id > self.record.highest, IDS, || format!("schedule {id}"))?;
                }
            }
            Plan::End(which) => {
                if let Some(id) = pick(&known, *which) {
                    drop(self.engine.change_schedule(id, ScheduleChange::End).await?);
                }
            }
            Plan::Trigger(which) => {
                if let Some(id) = pick(&known, *which)
                    && let Ok(task) = self.engine.trigger(id).await?
                {
                    self.record.given.insert(task.id);
                    self.is_durable(&task)?;
                }
            }
        }
        Ok(())
    }
}

const KEYS: &str = "an idempotency key stands for one task";
pub(super) const IDS: &str = "an id is given once";

/// Ad hoc programs share their keys, whatever their names.
fn named(spec: &TaskSpec) -> &str {
    if spec.app.is_empty() { "" } else { &spec.name }
}

/// Whether it makes sense to ask this of the task.
fn fits(what: &Ask, task: &Task) -> bool {
    let status = task.status();
    match what {
        Ask::Retry { .. } => status.is_ended() && status != Status::Completed,
        Ask::Promote => matches!(status, Status::Scheduled | Status::Retry),
        Ask::Cancel { .. } | Ask::Hold(_) | Ask::Priority(_) | Ask::Queue(_) | Ask::At(_) => {
            !status.is_ended()
        }
    }
}

/// A revision of one of the two apps.
pub(super) fn revision(tools: bool, variant: u8) -> Revision {
    let manifest = match (tools, variant) {
        (true, 0) => "[app]\nname = \"tools\"\n[tasks.t]\ncommand = [\"true\"]\nconcurrency = 1\n",
        (true, 1) => "[app]\nname = \"tools\"\n[tasks.t]\ncommand = [\"true\"]\n",
        (true, _) => "[app]\nname = \"tools\"\n[tasks.gone]\ncommand = [\"true\"]\n",
        (false, 0) => {
            r#"{"format":1,"kind":"python","app":"leads",
            "tasks":[{"name":"host","async":true},{"name":"plain"}],
            "schedules":[{"name":"minutely","cron":"* * * * *"}]}"#
        }
        (false, 1) => {
            r#"{"format":1,"kind":"python","app":"leads",
            "tasks":[{"name":"host"},{"name":"plain"}],
            "schedules":[{"name":"minutely","cron":"*/7 * * * *"},{"name":"daily","cron":"@daily"}]}"#
        }
        (false, 2) => {
            r#"{"format":1,"kind":"python","app":"leads",
            "tasks":[{"name":"host","async":true},{"name":"plain"}]}"#
        }
        (false, _) => {
            r#"{"format":1,"kind":"python","app":"leads","tasks":[{"name":"host","async":true}]}"#
        }
    };
    let parsed = parse(manifest).unwrap();
    Revision {
        number: 0,
        deployed: START,
        by: "ann".to_owned(),
        uid: 1000,
        dir: "/srv".to_owned(),
        manifest: manifest.to_owned(),
        python: parsed.python,
        schedules: parsed.schedules,
        definitions: parsed.definitions,
    }
}
