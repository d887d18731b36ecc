//! What a client asks for, and what it notes of the answers, also of those that never came.

use capsule_proto::v1::{
    ActionResult, CancelRequest, EditRequest, Options, PruneRequest, RetryRequest,
    SubmitBatchRequest, SubmitReply, SubmitRequest, Targets, TargetsRequest,
    TriggerScheduleRequest,
};
use capsule_tests::rpc;
use tonic::Code;

use super::client::{Asked, Away, Calls, Client};
use super::model::{Gone, Hold, Known};
use super::plan::Plan;

/// How many groups of tasks a client has.
const GROUPS: u64 = 4;
/// The most submits in one batch.
const BATCH: u64 = 12;

impl Client {
    /// Asks for one thing.
    pub(super) async fn ask(&mut self, calls: &mut Calls) -> Asked {
        match self.random.below(22) {
            0..=4 => self.submit_any(calls).await,
            5 | 6 => self.submit_batch(calls).await,
            7 => self.submit_held(calls).await,
            8 | 20 | 21 => self.submit_merging(calls).await,
            9 | 10 => self.submit_keyed(calls).await,
            11 => self.cancel_one(calls).await,
            12 => self.cancel_group(calls).await,
            13 => self.retry(calls).await,
            14 => self.remove(calls).await,
            15 => self.prune(calls).await,
            16 => {
                let paused = self.random.one_in(3);
                self.pause(calls, paused).await
            }
            17 => self.edit_held(calls).await,
            18 => self.trigger(calls).await,
            _ => self.look(calls).await,
        }
    }

    fn request(&self, plan: Plan, group: Option<u64>, more: Options) -> SubmitRequest {
        let mut request = plan.request(&self.name, &self.folder, self.labels(group));
        if let Some(options) = &mut request.options {
            (options.key, options.hold, options.queue) = (more.key, more.hold, more.queue);
        }
        request
    }

    async fn submit(
        &mut self,
        calls: &mut Calls,
        request: SubmitRequest,
    ) -> Result<SubmitReply, Away> {
        let reply = calls.tasks.submit(request).await?.into_inner();
        self.count("submit");
        Ok(reply)
    }

    /// Notes a submitted task, or one that stands for it.
    fn note(&mut self, reply: &SubmitReply, known: Known) {
        let view = reply.task.as_ref().unwrap();
        self.known.entry(view.id).or_insert(known).learn(view);
    }

    async fn submit_any(&mut self, calls: &mut Calls) -> Asked {
        let plan = Plan::any(&mut self.random);
        let group = Some(self.random.below(GROUPS));
        let queued = self.random.one_in(3);
        let queue = if queued { self.queue() } else { String::new() };
        let request = self.request(plan, group, Options { queue, ..Options::default() });
        let reply = self.submit(calls, request).await?;
        self.fresh(&reply, Known { queued, ..Known::new(plan, group) });
        Ok(())
    }

    /// Notes a task that must be new.
    fn fresh(&mut self, reply: &SubmitReply, known: Known) {
        let view = reply.task.as_ref().unwrap();
        assert!(!reply.merged && !reply.existing, "{reply:?}");
        assert!(!self.known.contains_key(&view.id), "{} was given twice", view.id);
        self.note(reply, known);
    }

    async fn submit_batch(&mut self, calls: &mut Calls) -> Asked {
        let group = Some(self.random.below(GROUPS));
        let count = 1 + self.random.below(BATCH);
        let plans: Vec<Plan> = (0..count).map(|_| Plan::any(&mut self.random)).collect();
        let row = |plan: &Plan| self.request(*plan, group, Options::default());
        let submits = plans.iter().map(row).collect();
        let reply = calls.tasks.submit_batch(SubmitBatchRequest { submits }).await?.into_inner();
        assert_eq!(reply.results.len(), plans.len());
        for (result, plan) in reply.results.iter().zip(plans) {
            assert_eq!(result.error, "");
            let former = self.known.insert(result.id, Known::new(plan, group));
            assert!(former.is_none(), "{} was given twice", result.id);
        }
        self.count("batch");
        Ok(())
    }

    async fn submit_held(&mut self, calls: &mut Calls) -> Asked {
        let plan = Plan::any(&mut self.random);
        let request = self.request(plan, None, Options { hold: true, ..Options::default() });
        let reply = self.submit(calls, request).await?;
        self.fresh(&reply, Known { hold: Hold::Yes, ..Known::new(plan, None) });
        Ok(())
    }

    async fn submit_merging(&mut self, calls: &mut Calls) -> Asked {
        let plan = Plan::Locked { key: 0, merge: true };
        let request = self.request(plan, None, Options::default());
        let reply = self.submit(calls, request).await?;
        self.note(&reply, Known::new(plan, None));
        if reply.merged {
            self.count("merged");
        }
        Ok(())
    }

    /// Submits under a new key, or again under one that was used.
    async fn submit_keyed(&mut self, calls: &mut Calls) -> Asked {
        let count = self.keys.len();
        let unanswered = self.keys.iter().position(|(_, id)| id.is_none());
        let number = match unanswered {
            Some(number) => number,
            None if count > 0 && self.random.one_in(2) => {
                usize::try_from(self.random.below(count as u64)).unwrap()
            }
            None => {
                self.keys.push((Plan::any(&mut self.random), None));
                count
            }
        };
        self.submit_key(calls, number).await
    }

    pub(super) async fn submit_key(&mut self, calls: &mut Calls, number: usize) -> Asked {
        let (plan, before) = self.keys[number];
        let key = format!("{}-{number}", self.name);
        let request = self.request(plan, None, Options { key, ..Options::default() });
        let reply = self.submit(calls, request).await?;
        let id = reply.task.as_ref().unwrap().id;
        if let Some(before) = before {
            assert!(reply.existing && id == before, "the key of {before} gave {reply:?}");
        }
        self.note(&reply, Known::new(plan, None));
        self.keys[number].1 = Some(id);
        self.count(if reply.existing { "same key" } else { "new key" });
        Ok(())
    }

    /// One of its tasks that is there and that `fits`.
    fn pick(&mut self, fits: impl Fn(&Known) -> bool) -> Option<u64> {
        let there = self.known.iter().filter(|(_, known)| known.gone == Gone::No && fits(known));
        let ids: Vec<u64> = there.map(|(id, _)| *id).collect();
        // The newest ones: most others have ended.
        let newest = ids.len().saturating_sub(20);
        self.random.any(&ids[newest..])
    }

    async fn cancel_one(&mut self, calls: &mut Calls) -> Asked {
        let Some(id) = self.pick(|known| known.hold == Hold::No) else { return Ok(()) };
        self.cancel(calls, rpc::targets([id]), &[id]).await?;
        self.count("cancel");
        Ok(())
    }

    async fn cancel_group(&mut self, calls: &mut Calls) -> Asked {
        let group = Some(self.random.below(GROUPS));
        let filter = Some(self.filter(group));
        let ids = self.group(group);
        self.cancel(calls, Some(Targets { filter, ..Targets::default() }), &ids).await?;
        self.count("bulk cancel");
        Ok(())
    }

    fn group(&self, group: Option<u64>) -> Vec<u64> {
        let of = self.known.iter().filter(|(_, it)| it.group == group && it.gone == Gone::No);
        of.map(|(id, _)| *id).collect()
    }

    /// Cancels; until it is answered, each of `ids` may be stopped.
    async fn cancel(&mut self, calls: &mut Calls, targets: Option<Targets>, ids: &[u64]) -> Asked {
        let request = CancelRequest { targets, grace_ms: Some(0), ..CancelRequest::default() };
        match calls.tasks.cancel(request).await {
            Ok(reply) => {
                for result in reply.into_inner().results {
                    if let Some(known) = self.known.get_mut(&result.id) {
                        known.cancelled(&result.outcome);
                        known.learn(&result.task.unwrap());
                    }
                }
                Ok(())
            }
            Err(status) => {
                for id in ids {
                    if let Some(known) = self.known.get_mut(id).filter(|it| !it.has_ended()) {
                        known.cancelled("cancelling");
                    }
                }
                Err(status.into())
            }
        }
    }

    /// Runs a task again that failed by itself.
    async fn retry(&mut self, calls: &mut Calls) -> Asked {
        use capsule_proto::v1::Status::{Failed, Timeout};
        let failed = |known: &Known| {
            let status = known.seen.map(|seen| seen.status);
            !known.is_stopped() && matches!(status, Some(Failed | Timeout))
        };
        let Some(id) = self.pick(failed) else { return Ok(()) };
        let known = self.known.get_mut(&id).unwrap();
        known.retry_asked = true;
        let request = RetryRequest { targets: rpc::targets([id]), ..RetryRequest::default() };
        let reply = calls.tasks.retry(request).await?.into_inner();
        let result = only(reply.results);
        assert_eq!(result.outcome, "retried", "{result:?}");
        let known = self.known.get_mut(&id).unwrap();
        (known.retry_asked, known.cancel) = (false, None);
        known.retries += 1;
        known.learn(&result.task.unwrap());
        self.count("retry");
        Ok(())
    }

    async fn remove(&mut self, calls: &mut Calls) -> Asked {
        let removable = |known: &Known| known.has_ended() && known.group.is_some();
        let Some(id) = self.pick(removable) else { return Ok(()) };
        self.known.get_mut(&id).unwrap().gone = Gone::Asked;
        let request = TargetsRequest { targets: rpc::targets([id]), dry_run: false };
        let reply = calls.tasks.remove(request).await?.into_inner();
        self.note_removed(&[id], &reply.results);
        self.count("remove");
        Ok(())
    }

    async fn prune(&mut self, calls: &mut Calls) -> Asked {
        let group = Some(self.random.below(GROUPS));
        let ids = self.group(group);
        for id in &ids {
            self.known.get_mut(id).unwrap().gone = Gone::Asked;
        }
        let filter = Some(self.filter(group));
        let request = PruneRequest { filter, ..PruneRequest::default() };
        let reply = calls.tasks.prune(request).await?.into_inner();
        self.note_removed(&ids, &reply.results);
        self.count("prune");
        Ok(())
    }

    fn note_removed(&mut self, asked: &[u64], results: &[ActionResult]) {
        for id in asked {
            self.known.get_mut(id).unwrap().gone = Gone::No;
        }
        for result in results {
            if let Some(known) = self.known.get_mut(&result.id)
                && result.outcome == "removed"
            {
                known.gone = Gone::Yes;
            }
        }
    }

    /// Changes a held task, or lets it go.
    async fn edit_held(&mut self, calls: &mut Calls) -> Asked {
        let Some(id) = self.pick(|known| known.hold == Hold::Yes) else { return Ok(()) };
        if self.random.one_in(2) {
            return self.release(calls, id).await;
        }
        let priority = i32::try_from(self.random.below(100)).unwrap();
        let targets = rpc::targets([id]);
        let request = EditRequest { targets, priority: Some(priority), ..EditRequest::default() };
        self.known.get_mut(&id).unwrap().priority = None;
        let reply = calls.tasks.edit(request).await?.into_inner();
        assert_eq!(only(reply.results).outcome, "changed");
        self.known.get_mut(&id).unwrap().priority = Some(priority);
        self.count("edit");
        Ok(())
    }

    pub(super) async fn release(&mut self, calls: &mut Calls, id: u64) -> Asked {
        let targets = rpc::targets([id]);
        let request = EditRequest { targets, hold: Some(false), ..EditRequest::default() };
        if let Some(known) = self.known.get_mut(&id) {
            known.hold = Hold::Asked;
        }
        let reply = calls.tasks.edit(request).await?.into_inner();
        assert_eq!(only(reply.results).outcome, "changed");
        if let Some(known) = self.known.get_mut(&id) {
            known.hold = Hold::No;
        }
        self.count("release");
        Ok(())
    }

    /// Runs the app's schedule now, unless its run before goes on.
    async fn trigger(&mut self, calls: &mut Calls) -> Asked {
        let request = TriggerScheduleRequest {
            schedule: "app/quick".to_owned(),
            ..TriggerScheduleRequest::default()
        };
        match calls.schedules.trigger_schedule(request).await {
            Ok(reply) => {
                self.triggered.push(reply.into_inner().task.unwrap().id);
                self.count("trigger");
                Ok(())
            }
            Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
            Err(status) => Err(status.into()),
        }
    }
}

fn only(results: Vec<ActionResult>) -> ActionResult {
    let [result] = results.try_into().unwrap();
    result
}
