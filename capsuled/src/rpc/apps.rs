//! The service `Apps`: revisions, task definitions, pages and secrets.

mod deploy;
mod python;

use std::sync::Arc;

use capsule_core::task::Status as TaskStatus;
use capsule_proto::v1;
use capsule_proto::v1::apps_server::Apps;
use tonic::{Request, Response, Status};

use super::request::{call, submit};
use super::status::Refused;
use super::{Api, convert};
use crate::apps::{App, Definition, Kind, Param, Revision, diff};
use crate::book::Filter;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Apps for Api {
    async fn deploy(&self, request: Request<v1::DeployRequest>) -> Answer<v1::DeployReply> {
        let peer = self.peers.of(&request)?;
        let reply = deploy::deploy(self, peer, request.into_inner()).await?;
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
            python: python::of(self, app),
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
            let mut lines = diff(&current.definitions, &target.definitions);
            if let Some(python) = &target.python {
                lines.extend(python.changes(current.python.as_deref()));
            }
            (target.number, lines, target.number != known.current)
        };
        self.engine.rollback(app.clone(), number).await.map_err(Refused::from)?;
        Ok(Response::new(v1::DeployReply {
            app,
            revision: number,
            changed,
            diff: lines,
            ..v1::DeployReply::default()
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

    async fn pages(&self, request: Request<v1::PagesRequest>) -> Answer<v1::PagesReply> {
        let apps = self.engine.apps();
        let name = call::app_name(&apps, &request.into_inner().app)?;
        let revision = apps.get(&name).and_then(App::in_force).ok_or_else(|| unknown_app(&name))?;
        Ok(Response::new(v1::PagesReply {
            app: name,
            revision: revision.number,
            pages: revision.python.as_deref().map(python::pages).unwrap_or_default(),
            ticks: revision
                .definitions
                .values()
                .filter(|definition| definition.kind == Kind::Tick)
                .map(|definition| definition.name.clone())
                .collect(),
        }))
    }

    async fn set_secret(
        &self,
        request: Request<v1::SetSecretRequest>,
    ) -> Answer<v1::SetSecretReply> {
        let v1::SetSecretRequest { name, value } = request.into_inner();
        let secrets = self.deployer.secrets();
        let replaced = secrets.get(&name).is_some();
        secrets.set(&name, &value).map_err(Refused::from)?;
        Ok(Response::new(v1::SetSecretReply { replaced }))
    }

    async fn list_secrets(
        &self,
        _: Request<v1::ListSecretsRequest>,
    ) -> Answer<v1::ListSecretsReply> {
        Ok(Response::new(v1::ListSecretsReply { secrets: python::secrets(self) }))
    }

    async fn remove_secret(
        &self,
        request: Request<v1::RemoveSecretRequest>,
    ) -> Answer<v1::RemoveSecretReply> {
        let name = request.into_inner().name;
        let removed = self.deployer.secrets().remove(&name).map_err(Refused::from)?;
        Ok(Response::new(v1::RemoveSecretReply { removed }))
    }
}

fn unknown_app(app: &str) -> Refused {
    Refused::not_found(format!("there is no app {app:?}")).hint("capsule app list")
}

fn app_view(name: &str, app: &App) -> Option<v1::AppView> {
    let revision = app.in_force()?;
    let tasks = revision.definitions.values().filter(|definition| definition.kind == Kind::Task);
    Some(v1::AppView {
        name: name.to_owned(),
        revision: revision.number,
        dir: revision.dir.clone(),
        deployed_us: revision.deployed.0,
        deployed_by: revision.by.clone(),
        tasks: u32::try_from(tasks.count()).unwrap_or(u32::MAX),
    })
}

fn revisions(app: &App) -> Vec<v1::RevisionView> {
    let mut before = None::<&Arc<Revision>>;
    let mut views = Vec::with_capacity(app.revisions.len());
    for revision in app.revisions.values() {
        let old = before.map(|before| before.definitions.clone()).unwrap_or_default();
        let mut lines = diff(&old, &revision.definitions);
        if let Some(python) = &revision.python {
            lines.extend(python.changes(before.and_then(|before| before.python.as_deref())));
        }
        views.push(v1::RevisionView {
            revision: revision.number,
            deployed_us: revision.deployed.0,
            deployed_by: revision.by.clone(),
            current: revision.number == app.current,
            diff: lines,
        });
        before = Some(revision);
    }
    views.reverse();
    views
}

fn definitions(app: &str, known: &App, only: &str) -> Vec<v1::Definition> {
    let Some(revision) = known.in_force() else { return Vec::new() };
    // Nobody submits the handler of a schedule.
    revision
        .definitions
        .values()
        .filter(|definition| definition.kind == Kind::Task)
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
        runner: definition.runner.word().to_owned(),
        more_params: definition.more_params,
        is_tick: definition.kind == Kind::Tick,
        callback_url: definition.callback_url.clone().unwrap_or_default(),
    }
}

fn param_view(param: &Param) -> v1::Parameter {
    v1::Parameter {
        name: param.name.clone(),
        r#type: param.kind.word().to_owned(),
        required: param.required,
        default_json: param
            .default
            .as_ref()
            .filter(|default| !default.is_null())
            .map(ToString::to_string),
        choices: param.choices.clone(),
        help: param.help.clone(),
    }
}
