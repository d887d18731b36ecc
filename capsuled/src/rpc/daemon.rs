//! The service `Daemon`: the daemon itself, its queues and locks.

mod limits;

use capsule_proto::v1;
use capsule_proto::v1::daemon_server::Daemon;
use capsule_proto::{API_MAJOR, API_MINOR};
use nix::sys::statvfs::statvfs;
use tonic::{Request, Response, Status};

use super::Api;
use super::status::Refused;
use crate::backup::LEFT_OUT;
use crate::book::Book;
use crate::engine::{QUEUES_MAX, QueueChange};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Daemon for Api {
    async fn hello(&self, _: Request<v1::HelloRequest>) -> Answer<v1::HelloReply> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (api_major, api_minor) = (API_MAJOR, API_MINOR);
        Ok(Response::new(v1::HelloReply { version, api_major, api_minor }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusReply> {
        let uptime = self.engine.now().since(self.about.started);
        let store_bytes = self.engine.store().size_on_disk().unwrap_or(0);
        let tally = self.logs.tally().map(|(bytes, _)| bytes);
        let log_bytes = tally.unwrap_or_else(|| self.logs.usage().unwrap_or(0));
        let free = statvfs(&self.about.state_dir);
        let book = self.engine.book();
        let keeper = book.keeper.as_ref();
        Ok(Response::new(v1::StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: uptime.0,
            state_dir: self.about.state_dir.display().to_string(),
            socket: self.about.socket.display().to_string(),
            store_uuid: self.about.store_uuid.clone(),
            store_bytes,
            log_bytes,
            by_status: counts(&book),
            slots: book.slots,
            slots_used: book.slots_used(),
            shared: crate::book::SHARED_MAX,
            shared_used: book.shared_used(),
            draining: book.draining,
            keeper: Some(v1::KeeperView {
                connected: keeper.is_some(),
                pid: keeper.map_or(0, |keeper| keeper.pid),
                instance: keeper.map(|keeper| keeper.instance.to_string()).unwrap_or_default(),
                attribution: keeper.map(|keeper| keeper.attribution.clone()).unwrap_or_default(),
            }),
            seq: self.engine.feed().latest().0,
            free_bytes: free
                .map_or(0, |free| free.blocks_available().saturating_mul(free.fragment_size())),
            degraded: book.degraded.values().cloned().collect(),
        }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainReply> {
        let on = request.into_inner().on;
        self.engine.drain(on).await.map_err(Refused::from)?;
        let book = self.engine.book();
        let (draining, running) = (book.draining, u64::from(book.running()));
        Ok(Response::new(v1::DrainReply { draining, running }))
    }

    async fn limits(&self, _: Request<v1::LimitsRequest>) -> Answer<v1::LimitsReply> {
        Ok(Response::new(v1::LimitsReply { limits: limits::all(self) }))
    }

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Answer<v1::BackupView> {
        let name = request.into_inner().name;
        let now = jiff::Timestamp::from_microsecond(self.engine.now().0).unwrap_or_default();
        let made = self.backups.create(Some(&name), now).await.map_err(Refused::from)?;
        Ok(Response::new(v1::BackupView {
            path: made.path.display().to_string(),
            taken_us: made.taken.as_microsecond(),
            bytes: made.bytes,
            tasks: made.tail.tasks,
            records: made.tail.sum.0,
            files: made.tail.files,
            left_out: LEFT_OUT.map(str::to_owned).to_vec(),
        }))
    }

    async fn web_link(&self, _: Request<v1::WebLinkRequest>) -> Answer<v1::WebLinkReply> {
        let link = self.entrance.link(self.engine.now()).await.map_err(Refused::from)?;
        let socket = link.socket.map(|path| path.display().to_string()).unwrap_or_default();
        Ok(Response::new(v1::WebLinkReply { url: link.url, until_us: link.until.0, socket }))
    }

    async fn list_queues(&self, _: Request<v1::ListQueuesRequest>) -> Answer<v1::ListQueuesReply> {
        let book = self.engine.book();
        let mut names: std::collections::BTreeSet<String> = book.queues.keys().cloned().collect();
        names.insert("default".to_owned());
        names.extend(book.queues_in_use().map(str::to_owned));
        let queues = names.into_iter().map(|name| queue_view(&book, name)).collect();
        Ok(Response::new(v1::ListQueuesReply { queues }))
    }

    async fn set_queue(&self, request: Request<v1::SetQueueRequest>) -> Answer<v1::QueueView> {
        let request = request.into_inner();
        capsule_core::spec::name("queue", &request.name).map_err(Refused::from)?;
        let limit = if request.no_limit { Some(None) } else { request.limit.map(Some) };
        if limit == Some(Some(0)) {
            return Err(Refused::invalid("a limit of 0 would stop the queue")
                .hint(format!("capsule queue pause {}", request.name))
                .into());
        }
        let (known, count) = {
            let book = self.engine.book();
            (book.queues.contains_key(&request.name), book.queues.len())
        };
        if !known && count >= QUEUES_MAX {
            let message =
                format!("{count} queues have settings of their own, the limit is {QUEUES_MAX}");
            return Err(Refused::exhausted("queues_full", message)
                .hint("capsule queue list")
                .into());
        }
        let change = QueueChange { paused: request.paused, note: request.note, limit };
        self.engine.set_queue(request.name.clone(), change).await.map_err(Refused::from)?;
        Ok(Response::new(queue_view(&self.engine.book(), request.name)))
    }

    async fn list_locks(
        &self,
        request: Request<v1::ListLocksRequest>,
    ) -> Answer<v1::ListLocksReply> {
        let wanted = request.into_inner().key;
        let book = self.engine.book();
        let mut locks: Vec<v1::LockView> = book
            .locks
            .iter()
            .map(|((app, key), holder, waiters)| ((app, book.keys.text(key)), holder, waiters))
            .filter(|((_, key), _, _)| wanted.is_empty() || *key == wanted)
            .map(|((app, key), holder, waiters)| {
                let entry = holder.and_then(|holder| book.entries.get(&holder));
                v1::LockView {
                    app: book.symbols.name(app).to_owned(),
                    key: key.to_owned(),
                    holder: holder.map(|holder| holder.0),
                    holder_name: entry
                        .map(|entry| book.symbols.name(entry.name).to_owned())
                        .unwrap_or_default(),
                    since_us: entry.map(|entry| entry.at.0),
                    waiters: waiters.into_iter().map(|task| task.0).collect(),
                }
            })
            .collect();
        locks.sort_by(|a, b| (&a.app, &a.key).cmp(&(&b.app, &b.key)));
        if !wanted.is_empty() && locks.is_empty() {
            let message = format!("nobody holds or waits for lock {wanted:?}");
            return Err(Refused::not_found(message).hint("capsule lock list").into());
        }
        Ok(Response::new(v1::ListLocksReply { locks }))
    }
}

pub(super) fn counts(book: &Book) -> std::collections::HashMap<String, u64> {
    book.counts.iter().map(|(status, count)| (status.word().to_owned(), count)).collect()
}

fn queue_view(book: &Book, name: String) -> v1::QueueView {
    let queue = book.queues.get(&name).cloned().unwrap_or_default();
    v1::QueueView {
        running: book.running_in_queue(&name).into(),
        paused: queue.paused,
        note: queue.note,
        limit: queue.limit,
        waiting: book.waiting_in_queue(&name),
        name,
    }
}
