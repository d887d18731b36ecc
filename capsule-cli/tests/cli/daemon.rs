//! The services of the fake daemon.

use std::pin::Pin;

use capsule_proto::v1::apps_server::Apps;
use capsule_proto::v1::daemon_server::Daemon;
use capsule_proto::v1::submit_request::Work;
use capsule_proto::v1::tasks_server::Tasks;
use capsule_proto::v1::*;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Result};

use crate::fake::{Served, State, refusal, task};

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

fn sent<T: Send + 'static>(items: Vec<T>) -> Sent<T> {
    Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))
}

fn ended(view: &TaskView) -> bool {
    matches!(
        view.status(),
        Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled
    )
}

impl State {
    fn find(&self, id: &str) -> Result<TaskView> {
        let newest = || self.tasks.last().cloned();
        let found = match id {
            "@last" => newest(),
            id => self.tasks.iter().find(|task| task.id.to_string() == id).cloned(),
        };
        found.ok_or_else(|| {
            refusal(Code::NotFound, "not_found", &format!("no task {id}"), "capsule list --all", 4)
        })
    }

    /// The task as it ends.
    fn end(&mut self, id: u64) -> TaskView {
        let ending = self.ending.clone();
        let view = self.tasks.iter_mut().find(|task| task.id == id).unwrap();
        if !ended(view) {
            view.status = ending.status;
            view.reason = ending.reason;
            view.exit_code = ending.exit_code;
            view.signal = ending.signal;
        }
        view.clone()
    }

    fn matching(&self, targets: &Targets) -> Result<Vec<TaskView>> {
        if !targets.all {
            return targets.ids.iter().map(|id| self.find(id)).collect();
        }
        let filter = targets.filter.clone().unwrap_or_default();
        Ok(self.filtered(&filter))
    }

    fn filtered(&self, filter: &Filter) -> Vec<TaskView> {
        let fits = |task: &&TaskView| {
            (filter.statuses.is_empty() || filter.statuses.contains(&task.status))
                && (filter.names.is_empty() || filter.names.contains(&task.name))
        };
        self.tasks.iter().filter(fits).cloned().collect()
    }

    fn accept(&mut self, request: &SubmitRequest) -> Result<SubmitReply> {
        let name = match request.work.as_ref().unwrap() {
            Work::Program(program) => program.argv[0].clone(),
            Work::Call(call) => {
                let found = self.definitions.iter().find(|it| it.name == call.task);
                let Some(definition) = found else {
                    let text = format!("no task {}", call.task);
                    return Err(refusal(Code::NotFound, "not_found", &text, "capsule tasks", 4));
                };
                validate(definition, call)?;
                call.task.clone()
            }
        };
        if self.merged {
            let mut standing = self.tasks.first().cloned().unwrap();
            standing.lock = "owner:acme".to_owned();
            return Ok(SubmitReply {
                task: Some(standing),
                merged: true,
                ..SubmitReply::default()
            });
        }
        let id = 1842 + u64::try_from(self.tasks.len()).unwrap();
        let view = task(id, &name, Status::Pending);
        if !request.dry_run {
            self.tasks.push(view.clone());
        }
        Ok(SubmitReply {
            task: Some(view),
            payload_json: "{\"a\":1}".into(),
            ..SubmitReply::default()
        })
    }
}

fn validate(definition: &Definition, call: &Call) -> Result<()> {
    let flag = |name: &str| name.replace('_', "-");
    if let Some(taken) =
        call.taken.iter().find(|taken| definition.params.iter().any(|it| flag(&it.name) == **taken))
    {
        let text = format!("--{taken} is a parameter of {}", definition.name);
        return Err(refusal(Code::InvalidArgument, "shadowed", &text, "", 2));
    }
    let given: Vec<String> = call
        .raw
        .iter()
        .filter_map(|word| word.strip_prefix("--"))
        .map(|word| word.split('=').next().unwrap().to_owned())
        .collect();
    let unknown =
        given.iter().find(|name| !definition.params.iter().any(|it| flag(&it.name) == **name));
    let missing = definition
        .params
        .iter()
        .find(|it| it.required && !given.contains(&flag(&it.name)))
        .filter(|it| !call.params.iter().any(|param| param.name == it.name))
        .filter(|_| call.payload_json.is_empty());
    let text = match (unknown, missing) {
        (Some(name), _) => format!("unknown parameter {name}"),
        (None, Some(it)) => format!("missing parameter {}", it.name),
        (None, None) if call.payload_json.contains("bad") => "bad row".to_owned(),
        (None, None) => return Ok(()),
    };
    Err(refusal(Code::InvalidArgument, "invalid_argument", &text, "", 2))
}

#[tonic::async_trait]
impl Tasks for Served {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitReply>> {
        let request = request.into_inner();
        self.0.lock().submits.push(request.clone());
        self.0.check("submit")?;
        Ok(Response::new(self.0.lock().accept(&request)?))
    }

    type SubmitStreamStream = tokio_stream::Empty<Result<SubmitResult>>;

    async fn submit_stream(
        &self,
        _: Request<tonic::Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>> {
        Err(tonic::Status::unimplemented("no command asks for this"))
    }

    async fn submit_batch(
        &self,
        request: Request<SubmitBatchRequest>,
    ) -> Result<Response<SubmitBatchReply>> {
        let submits = request.into_inner().submits;
        let mut state = self.0.lock();
        state.heard.push(format!("batch {}", submits.len()));
        let results = submits
            .iter()
            .map(|submit| match state.accept(submit) {
                Ok(reply) => SubmitResult { id: reply.task.unwrap().id, ..SubmitResult::default() },
                Err(status) => SubmitResult {
                    error: status.message().to_owned(),
                    error_code: "invalid_argument".to_owned(),
                    ..SubmitResult::default()
                },
            })
            .collect();
        Ok(Response::new(SubmitBatchReply { results }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>> {
        self.0.check("list")?;
        let request = request.into_inner();
        let state = self.0.lock();
        let mut found = state.filtered(&request.filter.unwrap_or_default());
        found.reverse();
        let total = u64::try_from(found.len()).unwrap();
        found.retain(|task| request.before.is_none_or(|before| task.id < before));
        let limit = if request.limit == 0 { 20 } else { usize::try_from(request.limit).unwrap() };
        let next_before = found.get(limit).map(|task| task.id + 1);
        found.truncate(if request.count_only { 0 } else { limit });
        Ok(Response::new(ListReply { tasks: found, total, next_before }))
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<ShowReply>> {
        let state = self.0.lock();
        let task = Some(state.find(&request.into_inner().id)?);
        let receipt = Receipt {
            wall_us: Some(4_100_000),
            cpu_user_us: Some(1_000_000),
            cpu_system_us: Some(500_000),
            peak_memory_bytes: Some(3 << 20),
            exit_code: Some(3),
            ..Receipt::default()
        };
        let attempt = AttemptView {
            number: 1,
            verdict: "failed".to_owned(),
            reason: "exit 3".to_owned(),
            receipt: Some(receipt),
            stopped: "killed".to_owned(),
            ..AttemptView::default()
        };
        let (error, result_json) = (state.error.clone(), state.result_json.clone());
        Ok(Response::new(ShowReply {
            task,
            attempts: vec![attempt],
            error,
            result_json,
            ..ShowReply::default()
        }))
    }

    type TailStream = Sent<TailEvent>;
    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Sent<TailEvent>>> {
        let request = request.into_inner();
        let (view, endless) = {
            let mut state = self.0.lock();
            state.heard.push(format!("tail {} follow={}", request.id, request.follow));
            (state.find(&request.id)?, state.endless)
        };
        let shared = self.0.clone();
        let (events, stream) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            for chunk in shared.lock().log.clone() {
                drop(events.send(Ok(TailEvent { event: Some(tail_event::Event::Chunk(chunk)) })));
            }
            if !request.follow {
                return;
            }
            if endless {
                shared.cancelled.notified().await;
            }
            let view = shared.lock().end(view.id);
            drop(events.send(Ok(TailEvent { event: Some(tail_event::Event::Task(view)) })));
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::UnboundedReceiverStream::new(stream))))
    }

    type WaitStream = Sent<TaskView>;
    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<Sent<TaskView>>> {
        let targets = request.into_inner().targets.unwrap_or_default();
        let mut state = self.0.lock();
        let found = state.matching(&targets)?;
        if state.endless && found.iter().any(|task| !ended(task)) {
            let there = found.into_iter().filter(ended).collect();
            return Ok(Response::new(Box::pin(sent(there).chain(tokio_stream::pending()))));
        }
        Ok(Response::new(sent(found.iter().map(|task| state.end(task.id)).collect())))
    }

    async fn result(&self, request: Request<ResultRequest>) -> Result<Response<ResultReply>> {
        let state = self.0.lock();
        let task = Some(state.find(&request.into_inner().id)?);
        let (error, result_json) = (state.error.clone(), state.result_json.clone());
        Ok(Response::new(ResultReply { task, result_json, error }))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<ActionReply>> {
        let request = request.into_inner();
        let mut state = self.0.lock();
        state.heard.push(format!("cancel grace={:?} dry={}", request.grace_ms, request.dry_run));
        let found = state.matching(&request.targets.unwrap_or_default())?;
        let acts = !request.dry_run && !state.deaf;
        if acts {
            state.endless = false;
            state.ending = TaskView { status: Status::Cancelled.into(), ..TaskView::default() };
        }
        let results = found
            .into_iter()
            .map(|task| ActionResult {
                id: task.id,
                outcome: if ended(&task) { "already_ended" } else { "cancelling" }.to_owned(),
                text: if ended(&task) {
                    format!("{} already ended", task.id)
                } else {
                    String::new()
                },
                task: Some(task),
                exit: 0,
            })
            .collect();
        if acts {
            self.0.cancelled.notify_waiters();
        }
        Ok(Response::new(ActionReply { results }))
    }

    async fn retry(&self, request: Request<RetryRequest>) -> Result<Response<ActionReply>> {
        let request = request.into_inner();
        let heard = format!("retry timeout={:?} new={}", request.timeout_ms, request.as_new);
        self.act(&request.targets.unwrap_or_default(), heard, "retried")
    }

    async fn promote(&self, request: Request<TargetsRequest>) -> Result<Response<ActionReply>> {
        self.act(&request.into_inner().targets.unwrap_or_default(), "promote".into(), "promoted")
    }

    async fn edit(&self, request: Request<EditRequest>) -> Result<Response<ActionReply>> {
        let request = request.into_inner();
        let heard = format!("edit priority={:?} hold={:?}", request.priority, request.hold);
        self.act(&request.targets.unwrap_or_default(), heard, "changed")
    }

    async fn remove(&self, request: Request<TargetsRequest>) -> Result<Response<ActionReply>> {
        let request = request.into_inner();
        let heard = format!("remove dry={}", request.dry_run);
        self.act(&request.targets.unwrap_or_default(), heard, "removed")
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<ActionReply>> {
        let request = request.into_inner();
        let heard = format!("prune older={:?} dry={}", request.older_than_ms, request.dry_run);
        let targets = Targets { filter: request.filter, all: true, ..Targets::default() };
        self.act(&targets, heard, "removed")
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyReply>> {
        let task = Some(self.0.lock().find(&request.into_inner().id)?);
        let gate = Gate {
            kind: "lock".to_owned(),
            text: "lock owner:acme held by 1840 (running 12s)".to_owned(),
            ..Gate::default()
        };
        let text = "It waits for a lock.".to_owned();
        Ok(Response::new(WhyReply { task, gates: vec![gate], earliest_us: None, text }))
    }

    type WatchStream = Sent<WatchEvent>;
    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Sent<WatchEvent>>> {
        let request = request.into_inner();
        let found = self.0.lock().filtered(&request.filter.unwrap_or_default());
        let event =
            |seq, event| WatchEvent { seq, event: Some(event), at_us: 1_790_000_000_000_000 };
        if !request.windows.is_empty() {
            let column = |window: &Window| {
                let of = found.iter().rev().filter(|task| window.statuses.contains(&task.status));
                let ids: Vec<u64> = of.map(|task| task.id).collect();
                ColumnView { total: ids.len() as u64, skip: 0, ids }
            };
            let columns = Columns { columns: request.windows.iter().map(column).collect() };
            let mut events: Vec<WatchEvent> =
                found.into_iter().map(|task| event(1, watch_event::Event::Task(task))).collect();
            events.push(event(2, watch_event::Event::Columns(columns)));
            return Ok(Response::new(Box::pin(sent(events).chain(tokio_stream::pending()))));
        }
        let mut events: Vec<WatchEvent> =
            found.into_iter().map(|task| event(1, watch_event::Event::Task(task))).collect();
        events.push(event(2, watch_event::Event::Ready(Counts::default())));
        events.push(event(3, watch_event::Event::Removed(7)));
        if self.0.lock().endless {
            return Ok(Response::new(Box::pin(sent(events).chain(tokio_stream::pending()))));
        }
        Ok(Response::new(sent(events)))
    }
}

impl Served {
    fn act(
        &self,
        targets: &Targets,
        heard: String,
        outcome: &str,
    ) -> Result<Response<ActionReply>> {
        let mut state = self.0.lock();
        state.heard.push(heard);
        let results = state
            .matching(targets)?
            .into_iter()
            .map(|task| ActionResult {
                id: task.id,
                outcome: outcome.to_owned(),
                task: Some(task),
                ..ActionResult::default()
            })
            .collect();
        Ok(Response::new(ActionReply { results }))
    }
}

#[tonic::async_trait]
impl Daemon for Served {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>> {
        Ok(Response::new(HelloReply { version: "0.0.9".to_owned(), api_major: 1, api_minor: 0 }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>> {
        self.0.check("status")?;
        Ok(Response::new(StatusReply {
            version: "0.0.9".to_owned(),
            pid: 812,
            uptime_ms: 11_100_000,
            slots: 8,
            slots_used: 1,
            by_status: [("running".to_owned(), 1)].into(),
            ..StatusReply::default()
        }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>> {
        let draining = request.into_inner().on;
        self.0.lock().heard.push(format!("drain {draining}"));
        Ok(Response::new(DrainReply { draining, running: 0 }))
    }

    async fn limits(&self, _: Request<LimitsRequest>) -> Result<Response<LimitsReply>> {
        let limit = |name: &str, value, unit: &str, used, flag: &str| Limit {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            text: "what it bounds".to_owned(),
            flag: flag.to_owned(),
            used,
        };
        let limits = vec![
            limit("payload", Some(1 << 20), "bytes", None, ""),
            limit("keep_completed", None, "ms", None, "--keep-completed"),
            limit("tasks", Some(1_000_000), "", Some(12), ""),
        ];
        Ok(Response::new(LimitsReply { limits }))
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesReply>> {
        let queue = QueueView { name: "default".to_owned(), waiting: 2, ..QueueView::default() };
        Ok(Response::new(ListQueuesReply { queues: vec![queue] }))
    }

    async fn set_queue(&self, request: Request<SetQueueRequest>) -> Result<Response<QueueView>> {
        let it = request.into_inner();
        Ok(Response::new(QueueView {
            name: it.name,
            paused: it.paused.unwrap_or_default(),
            note: it.note,
            limit: it.limit,
            ..QueueView::default()
        }))
    }

    async fn create_backup(
        &self,
        request: Request<CreateBackupRequest>,
    ) -> Result<Response<BackupView>> {
        let path = format!("/state/backups/{}.capsule", request.into_inner().name);
        let left_out = vec!["secrets".to_owned(), "logs".to_owned()];
        Ok(Response::new(BackupView {
            path,
            tasks: 3,
            bytes: 4096,
            left_out,
            ..Default::default()
        }))
    }

    async fn web_link(&self, _: Request<WebLinkRequest>) -> Result<Response<WebLinkReply>> {
        let url = "http://127.0.0.1:7788/enter/5ec4e7".to_owned();
        Ok(Response::new(WebLinkReply { url, until_us: 1, socket: String::new() }))
    }

    async fn list_locks(
        &self,
        request: Request<ListLocksRequest>,
    ) -> Result<Response<ListLocksReply>> {
        let lock = LockView {
            key: "owner:acme".to_owned(),
            holder: Some(1842),
            holder_name: "sync_leads".to_owned(),
            waiters: vec![1843],
            ..LockView::default()
        };
        let key = request.into_inner().key;
        let locks = if key.is_empty() || key == lock.key { vec![lock] } else { Vec::new() };
        Ok(Response::new(ListLocksReply { locks }))
    }
}

#[tonic::async_trait]
impl Apps for Served {
    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<DeployReply>> {
        let it = request.into_inner();
        let what = if it.entry.is_empty() { it.manifest.trim() } else { it.entry.as_str() };
        self.0.lock().heard.push(format!("deploy {what} in {}", it.dir));
        Ok(Response::new(DeployReply {
            app: "leads".to_owned(),
            revision: 8,
            changed: true,
            diff: vec!["+ task report".to_owned()],
            warnings: vec!["limit is odd".to_owned()],
            dry_run: it.dry_run,
            ..DeployReply::default()
        }))
    }

    async fn list_apps(&self, _: Request<ListAppsRequest>) -> Result<Response<ListAppsReply>> {
        Ok(Response::new(ListAppsReply { apps: vec![leads()] }))
    }

    async fn show_app(&self, request: Request<ShowAppRequest>) -> Result<Response<ShowAppReply>> {
        if request.into_inner().app != "leads" {
            return Err(refusal(Code::NotFound, "not_found", "no such app", "capsule app list", 4));
        }
        let definitions = self.0.lock().definitions.clone();
        let revision = RevisionView { revision: 7, current: true, ..RevisionView::default() };
        Ok(Response::new(ShowAppReply {
            app: Some(leads()),
            revisions: vec![revision],
            definitions,
            python: None,
        }))
    }

    async fn remove_app(&self, _: Request<RemoveAppRequest>) -> Result<Response<RemoveAppReply>> {
        Ok(Response::new(RemoveAppReply { waiting: 2 }))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<DeployReply>> {
        let revision = request.into_inner().revision;
        let app = "leads".to_owned();
        Ok(Response::new(DeployReply { app, revision, changed: true, ..DeployReply::default() }))
    }

    async fn definitions(
        &self,
        request: Request<DefinitionsRequest>,
    ) -> Result<Response<DefinitionsReply>> {
        let name = request.into_inner().name;
        let all = self.0.lock().definitions.clone();
        let definitions = all.into_iter().filter(|it| name.is_empty() || it.name == name).collect();
        Ok(Response::new(DefinitionsReply { definitions }))
    }

    async fn pages(&self, _: Request<PagesRequest>) -> Result<Response<PagesReply>> {
        let column = |label: &str, statuses: &[Status]| Column {
            label: label.to_owned(),
            statuses: statuses.iter().map(|status| (*status).into()).collect(),
        };
        let board = TaskBoard {
            columns: vec![
                column("Now", &[Status::Running]),
                column("Other", &[Status::Pending, Status::Completed]),
            ],
            refresh_ms: 100,
            ..TaskBoard::default()
        };
        let widget = |kind: &str, title: &str, board: Option<TaskBoard>| Widget {
            r#type: kind.to_owned(),
            title: title.to_owned(),
            board,
        };
        let widgets = vec![
            widget("text", "Hello", None),
            widget("task_board", "Background work", Some(board)),
        ];
        let page = PageView { name: "Tasks".to_owned(), widgets, ..PageView::default() };
        Ok(Response::new(PagesReply {
            app: "leads".to_owned(),
            revision: 7,
            pages: vec![page],
            ticks: Vec::new(),
        }))
    }

    async fn set_secret(
        &self,
        request: Request<SetSecretRequest>,
    ) -> Result<Response<SetSecretReply>> {
        let it = request.into_inner();
        self.0.lock().heard.push(format!("secret {}={}", it.name, it.value));
        Ok(Response::new(SetSecretReply::default()))
    }

    async fn list_secrets(
        &self,
        _: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsReply>> {
        let secret = SecretView { name: "API_KEY".to_owned(), ..SecretView::default() };
        Ok(Response::new(ListSecretsReply { secrets: vec![secret] }))
    }

    async fn remove_secret(
        &self,
        request: Request<RemoveSecretRequest>,
    ) -> Result<Response<RemoveSecretReply>> {
        let removed = request.into_inner().name == "API_KEY";
        Ok(Response::new(RemoveSecretReply { removed }))
    }
}

fn leads() -> AppView {
    AppView { name: "leads".to_owned(), revision: 7, tasks: 1, ..AppView::default() }
}
