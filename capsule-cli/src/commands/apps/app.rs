//! `app`: what is deployed, and its revisions.

use capsule_proto::v1::{
    AppView, ListAppsRequest, RemoveAppRequest, RollbackRequest, ShowAppReply, ShowAppRequest,
};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{deploy, python, tasks};
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, Ui, escape, json, shape};

/// Show deployed apps, go back to an earlier revision, remove
#[derive(Debug, Subcommand)]
pub(crate) enum AppVerb {
    /// Show deployed apps
    #[command(visible_alias = "ls")]
    List,
    /// Show an app, its tasks and revisions
    Show {
        /// Name of the app
        #[arg(value_name = "APP")]
        name: String,
    },
    /// Show the revisions of an app
    Revisions {
        /// Name of the app
        #[arg(value_name = "APP")]
        name: String,
    },
    /// Make an earlier revision the present one
    Rollback {
        /// Name of the app
        #[arg(value_name = "APP")]
        name: String,
        /// The revision [default: the one before the present]
        #[arg(value_name = "REVISION", value_parser = revision)]
        revision: Option<u32>,
    },
    /// Remove an app; its waiting tasks wait until it is deployed again
    #[command(visible_alias = "rm")]
    Remove {
        /// Name of the app
        #[arg(value_name = "APP")]
        name: String,
    },
}

/// `7` or `r7`.
fn revision(text: &str) -> Result<u32, String> {
    match text.trim_start_matches('r').parse() {
        Ok(0) | Err(_) => Err("expected a revision such as 7 or r7".to_owned()),
        Ok(revision) => Ok(revision),
    }
}

impl AppVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let ui = &context.ui;
        match self {
            Self::List => {
                let reply = client.answer(client.apps().list_apps(ListAppsRequest {})).await?;
                ui.listing(apps(ui, &reply.apps))?;
            }
            Self::Show { name } => {
                let request = ShowAppRequest { app: name.clone() };
                show(ui, &client.answer(client.apps().show_app(request)).await?)?;
            }
            Self::Revisions { name } => {
                let request = ShowAppRequest { app: name.clone() };
                let reply = client.answer(client.apps().show_app(request)).await?;
                ui.listing(revisions(ui, &reply))?;
            }
            Self::Rollback { name, revision } => {
                let revision = revision.unwrap_or_default();
                let request = RollbackRequest { app: name.clone(), revision };
                let reply = client.answer(client.apps().rollback(request)).await?;
                deploy::print(context, &reply)?;
            }
            Self::Remove { name } => {
                let request = ShowAppRequest { app: name.clone() };
                let reply = client.answer(client.apps().show_app(request)).await?;
                let count = reply.definitions.len();
                let question =
                    format!("About to remove the app {name} with {count} task definitions.");
                ui.confirm(&context.globals, &question)?;
                let request = RemoveAppRequest { app: name.clone() };
                let reply = client.answer(client.apps().remove_app(request)).await?;
                if ui.is_json() {
                    ui.value(&json!({"app": name, "removed": true, "waiting": reply.waiting}))?;
                } else if !ui.quiet {
                    ui.say(&format!("removed {name}"))?;
                    if reply.waiting > 0 {
                        let count = reply.waiting;
                        ui.talk(&format!("{count} of its tasks wait until it is deployed again"));
                    }
                }
            }
        }
        Ok(Exit::Done)
    }
}

pub(crate) fn apps(ui: &Ui, apps: &[AppView]) -> Listing {
    let mut table = Table::new(vec!["APP", "REVISION", "TASKS", "DEPLOYED", "BY", "DIR"]);
    for app in apps {
        table.push(vec![
            Cell::new(&app.name),
            Cell::new(format!("r{}", app.revision)),
            Cell::new(app.tasks.to_string()),
            Cell::new(ui.times.told(app.deployed_us)),
            Cell::new(&app.deployed_by),
            Cell::new(&app.dir),
        ]);
    }
    let json = apps.iter().map(shape::app).collect();
    let ids = apps.iter().map(|app| app.name.clone()).collect();
    Listing { table, json, ids }
}

fn revisions(ui: &Ui, reply: &ShowAppReply) -> Listing {
    let mut table = Table::new(vec!["REVISION", "", "DEPLOYED", "BY", "CHANGES"]);
    for it in &reply.revisions {
        table.push(vec![
            Cell::new(format!("r{}", it.revision)),
            Cell::new(if it.current { "current" } else { "" }),
            Cell::new(ui.times.told(it.deployed_us)),
            Cell::new(&it.deployed_by),
            Cell::new(it.diff.join(", ")),
        ]);
    }
    let json = revisions_json(reply);
    let ids = reply.revisions.iter().map(|it| it.revision.to_string()).collect();
    Listing { table, json, ids }
}

fn revisions_json(reply: &ShowAppReply) -> Vec<Value> {
    let revisions = reply.revisions.iter().map(|it| {
        json!({
            "revision": it.revision,
            "deployed_at": json::at(it.deployed_us),
            "deployed_by": json::text(&it.deployed_by),
            "current": it.current,
            "diff": it.diff,
        })
    });
    revisions.collect()
}

fn show(ui: &Ui, reply: &ShowAppReply) -> Result<(), CliError> {
    let app = reply.app.clone().unwrap_or_default();
    if ui.is_json() {
        let mut value = shape::app(&app);
        if let Value::Object(object) = &mut value {
            object.insert("revisions".to_owned(), revisions_json(reply).into());
            let definitions: Vec<Value> = reply.definitions.iter().map(shape::definition).collect();
            object.insert("definitions".to_owned(), definitions.into());
            let about = reply.python.as_ref().map(shape::python_app);
            object.insert("python".to_owned(), about.unwrap_or(Value::Null));
        }
        return ui.value(&value);
    }
    ui.say(&format!(
        "{}@r{}  deployed {} by {}  {}",
        escape::line(&app.name),
        app.revision,
        ui.times.told(app.deployed_us),
        escape::line(&app.deployed_by),
        escape::line(&app.dir),
    ))?;
    if let Some(about) = &reply.python {
        ui.say(&python::shown(ui, about))?;
    }
    ui.listing(tasks::listing(&reply.definitions))?;
    ui.say("")?;
    ui.listing(revisions(ui, reply))
}
