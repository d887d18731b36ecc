//! The service `Apps`: revisions and task definitions.

use std::sync::Arc;

use capsule_core::task::Status as TaskStatus;
use capsule_proto::v1;
use capsule_proto::v1::apps_server::Apps;
use tonic::{Request, Response, Status};

use super::request::{call, submit};
use super::status::Refused;
use super::{Api, convert};
use crate::apps::{App, Definition, Param, Parsed, Revision, diff, parse};
use crate::book::Filter;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Apps for Api {
    async fn deploy(&self, request: Request<v1::DeployRequest>) -> Answer<v1::DeployReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let Parsed { app: named, definitions, python } =
            parse(&request.manifest).map_err(|error| {
                let place =
                    if request.path.is_empty() { "capsule.toml" } else { request.path.as_str() };
                Refused::invalid(format!("{place}: {error}")).hint("capsule help manifest")
            })?;
        let app = if request.name.is_empty() { named } else { request.name };
        capsule_core::spec::name("app", &app).map_err(Refused::from)?;
        let before = self.engine.apps().get(&app).and_then(|app| app.in_force()).cloned();
        let old = before.as_ref().map(|revision| revision.definitions.clone()).unwrap_or_default();
        let mut lines = diff(&old, &definitions);
        if let Some(before) = before.as_ref().filter(|before| before.dir != request.dir) {
            lines.push(format!("~ folder {} → {}", before.dir, request.dir));
        }
        let warnings = warnings(&definitions);
        let changed = before.is_none() || !lines.is_empty();
        let number = match before.as_ref().filter(|_| !changed) {
            Some(revision) => revision.number,
            None => self.engine.apps().get(&app).map_or(1, App::next_number),
        };
        let mut reply = v1::DeployReply {
            app: app.clone(),
            revision: number,
            changed,
            diff: lines,
            warnings,
            dry_run: request.dry_run,
        };
        if changed && !request.dry_run {
            let revision = Revision {
                number: 0,
                deployed: self.engine.now(),
                by: peer.name,
                uid: peer.uid,
                dir: request.dir,
                manifest: request.manifest,
                python,
                definitions,
            };
            reply.revision = self.engine.deploy(app, revision).await.map_err(Refused::from)?;
        }
        Ok(Response::new(reply))
    }

    async fn list_apps(&self, _: Request<v1::ListAppsRequest>) -> Answer<v1::ListAppsReply> {
        let apps = self.engine.apps();
        let apps = apps.iter().filter_map(|(name, app)| app_view(name, app)).collect();
        Ok(Response::new(v1::ListAppsReply { apps }))
    }

    async fn show_app(&self, request: Request<v1::ShowAppRequest>) -> Answer<v1::ShowAppReply> {
        let wanted = request.into_inner().app;
        let apps = self.engine.apps();
        let name = call::app_name(&apps, &wanted)?;
        let app = apps.get(&name).ok_or_else(|| unknown_app(&name))?;
        Ok(Response::new(v1::ShowAppReply {
            app: app_view(&name, app),
            revisions: revisions(app),
            definitions: definitions(&name, app, ""),
        }))
    }

    async fn remove_app(
        &self,
        request: Request<v1::RemoveAppRequest>,
    ) -> Answer<v1::RemoveAppReply> {
        let app = request.into_inner().app;
        if self.engine.apps().get(&app).is_none() {
            return Err(unknown_app(&app).into());
        }
        self.engine.remove_app(app.clone()).await.map_err(Refused::from)?;
        let statuses = vec![TaskStatus::Scheduled, TaskStatus::Pending, TaskStatus::Retry];
        let waiting = self.engine.book().count(&Filter { statuses, app, ..Filter::default() });
        Ok(Response::new(v1::RemoveAppReply { waiting }))
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Answer<v1::DeployReply> {
        let v1::RollbackRequest { app, revision } = request.into_inner();
        let (number, lines, changed) = {
            let apps = self.engine.apps();
            let name = call::app_name(&apps, &app)?;
            let known = apps.get(&name).ok_or_else(|| unknown_app(&name))?;
            let number = match revision {
                0 => known.revisions.range(..known.current).next_back().map(|(number, _)| *number),
                number => Some(number),
            };
            let target = number.and_then(|number| known.revisions.get(&number));
            let (Some(target), Some(current)) = (target, known.in_force()) else {
                let message = format!("app {name} has no such revision to go back to");
                let hint = format!("capsule app revisions {name}");
                return Err(Refused::not_found(message).hint(hint).into());
            };
            let lines = diff(&current.definitions, &target.definitions);
            (target.number, lines, target.number != known.current)
        };
        self.engine.rollback(app.clone(), number).await.map_err(Refused::from)?;
        Ok(Response::new(v1::DeployReply {
            app,
            revision: number,
            changed,
            diff: lines,
            warnings: Vec::new(),
            dry_run: false,
        }))
    }

    async fn definitions(
        &self,
        request: Request<v1::DefinitionsRequest>,
    ) -> Answer<v1::DefinitionsReply> {
        let request = request.into_inner();
        let apps = self.engine.apps();
        let mut found = Vec::new();
        for (name, app) in apps.iter() {
            if request.app.is_empty() || request.app == *name {
                found.extend(definitions(name, app, &request.name));
            }
        }
        if found.is_empty() && !request.name.is_empty() {
            return Err(call::unknown_task(&apps, &request.app, &request.name).into());
        }
        Ok(Response::new(v1::DefinitionsReply { definitions: found }))
    }
}

fn unknown_app(app: &str) -> Refused {
    Refused::not_found(format!("there is no app {app:?}")).hint("capsule app list")
}

/// What works but may surprise.
fn warnings(definitions: &std::collections::BTreeMap<String, Arc<Definition>>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, definition) in definitions {
        if definition.timeout.is_none() && definition.lock.is_some() {
            lines.push(format!("task {name} has a lock and no timeout: a hung attempt holds it"));
        }
    }
    lines
}

fn app_view(name: &str, app: &App) -> Option<v1::AppView> {
    let revision = app.in_force()?;
    Some(v1::AppView {
        name: name.to_owned(),
        revision: revision.number,
        dir: revision.dir.clone(),
        deployed_us: revision.deployed.0,
        deployed_by: revision.by.clone(),
        tasks: u32::try_from(revision.definitions.len()).unwrap_or(u32::MAX),
    })
}

fn revisions(app: &App) -> Vec<v1::RevisionView> {
    let mut before = None::<&Arc<Revision>>;
    let mut views = Vec::with_capacity(app.revisions.len());
    for revision in app.revisions.values() {
        let old = before.map(|before| before.definitions.clone()).unwrap_or_default();
        views.push(v1::RevisionView {
            revision: revision.number,
            deployed_us: revision.deployed.0,
            deployed_by: revision.by.clone(),
            current: revision.number == app.current,
            diff: diff(&old, &revision.definitions),
        });
        before = Some(revision);
    }
    views.reverse();
    views
}

fn definitions(app: &str, known: &App, only: &str) -> Vec<v1::Definition> {
    let Some(revision) = known.in_force() else { return Vec::new() };
    revision
        .definitions
        .values()
        .filter(|definition| only.is_empty() || definition.name == only)
        .map(|definition| definition_view(app, revision.number, definition))
        .collect()
}

fn definition_view(app: &str, revision: u32, definition: &Definition) -> v1::Definition {
    let longest = definition.timeout.map(|timeout| {
        let pauses: u64 = (1..=definition.retries).map(|n| definition.backoff.longest(n).0).sum();
        timeout.0.saturating_mul(u64::from(definition.retries) + 1).saturating_add(pauses)
    });
    v1::Definition {
        app: app.to_owned(),
        revision,
        name: definition.name.clone(),
        help: definition.help.clone(),
        params: definition.params.iter().map(param_view).collect(),
        command: definition.command.written().to_vec(),
        retries: definition.retries,
        backoff: definition.backoff.to_string(),
        timeout_ms: definition.timeout.map(|span| span.0),
        grace_ms: definition.grace.0,
        lock: definition.lock.clone().unwrap_or_default(),
        lock_policy: convert::lock_policy(definition.lock_policy).into(),
        delivery: convert::delivery(definition.delivery).into(),
        queue: definition.queue.clone(),
        priority: definition.priority.into(),
        cwd: definition.cwd.clone(),
        concurrency: definition.concurrency,
        longest_ms: longest,
        no_retry_exit_codes: definition.no_retry_exit_codes.clone(),
        no_retry_on: definition
            .no_retry_on
            .iter()
            .map(|class| submit::class_word(*class).to_owned())
            .collect(),
    }
}

fn param_view(param: &Param) -> v1::Parameter {
    v1::Parameter {
        name: param.name.clone(),
        r#type: param.kind.word().to_owned(),
        required: param.required,
        default_json: param.default.as_ref().map(ToString::to_string),
        choices: param.choices.clone(),
        help: param.help.clone(),
    }
}
