//! What a chat looks like while it goes on: text as it comes, tasks as cards, a prompt.

use std::collections::BTreeMap;

use capsule_proto::v1::chat_event::Event;
use capsule_proto::v1::{Opened, ResultRequest, Status, TaskView};
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::{Context, outcome, patience};
use crate::error::{CliError, Exit};
use crate::ui::live::card::Cards;
use crate::ui::task::ended;
use crate::ui::{Ui, color, escape, json, shape, warn};

/// A chat on this terminal.
#[derive(Debug)]
pub(super) struct Talk<'a> {
    ui: &'a Ui,
    client: &'a Client,
    filter: escape::Filter,
    cards: Cards,
    /// The newest state of each task that was shown.
    tasks: BTreeMap<u64, TaskView>,
    /// The message that is being answered.
    turn: Option<String>,
    failed: bool,
    /// The last text did not end its line.
    open: bool,
}

impl<'a> Talk<'a> {
    pub(super) fn new(context: &'a Context, client: &'a Client, prompts: bool) -> Self {
        Self {
            ui: &context.ui,
            client,
            filter: escape::Filter::new(context.ui.colored),
            cards: Cards::new(context.ui.clone(), prompts),
            tasks: BTreeMap::new(),
            turn: None,
            failed: false,
            open: false,
        }
    }

    pub(super) fn opened(&self, opened: &Opened, once: bool) -> Result<(), CliError> {
        if self.ui.is_json() {
            return self.ui.event(&json!({
                "event": "opened", "app": opened.app, "session": opened.session,
                "user": opened.user, "owner_id": opened.owner_id,
            }));
        }
        for entry in &opened.history {
            let text = escape::block(&entry.text);
            let mark = if entry.sender == "user" { "> " } else { "" };
            self.ui.say(&self.ui.paint(color::DIM, &format!("{mark}{}", text.trim_end())))?;
        }
        if !once {
            let (app, user) = (escape::line(&opened.app), escape::line(&opened.user));
            let session = &opened.session;
            self.ui.talk(&format!("{app} as {user}, session {session}; Ctrl-D ends it"));
        }
        Ok(())
    }

    /// A message is being answered from now on.
    pub(super) fn turn(&mut self, request: String) {
        self.cards.typed();
        self.turn = Some(request);
    }

    pub(super) const fn in_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Nothing more is to come: no turn, and with `wait` no task either.
    pub(super) fn is_over(&self, wait: bool) -> bool {
        self.turn.is_none() && (!wait || self.live().is_empty())
    }

    pub(super) fn prompt(&mut self) {
        if self.turn.is_none() {
            self.cards.prompt();
        }
    }

    pub(super) fn redraw(&mut self) {
        self.cards.redraw();
    }

    /// Shows what happened.
    pub(super) async fn hear(&mut self, event: Event) -> Result<(), CliError> {
        if self.ui.is_json() {
            return self.hear_json(event);
        }
        match event {
            Event::Text(chunk) => self.text(&chunk.text)?,
            Event::Card(card) => {
                let task = card.task.unwrap_or_default();
                let result = self.result(&task).await;
                self.close()?;
                self.cards.show(&card.message, &task, &result)?;
                self.tasks.insert(task.id, task);
            }
            Event::Notification(said) => {
                let detail = escape::line(&said.detail);
                let text = format!("* {} {detail}", escape::line(&said.text));
                self.line(text.trim_end())?;
            }
            Event::Block(block) => {
                let text = format!("[{}] {}", escape::line(&block.r#type), escape::line(&block.id));
                self.line(&self.ui.paint(color::DIM, text.trim_end()))?;
            }
            Event::TurnEnd(end) => {
                self.close()?;
                if !end.error.is_empty() {
                    self.cards.leave_place();
                    warn(&format!("error: {}", escape::block(end.error.trim_end())));
                }
                self.ended(&end.request_id, !end.error.is_empty());
                self.prompt();
            }
            Event::Opened(_) => {}
        }
        Ok(())
    }

    fn hear_json(&mut self, event: Event) -> Result<(), CliError> {
        let shown: Value = match event {
            Event::Text(chunk) => {
                json!({"event": "text", "request_id": chunk.request_id, "text": chunk.text})
            }
            Event::Card(card) => {
                let task = card.task.unwrap_or_default();
                let shown = json!({
                    "event": "card", "message": json::text(&card.message),
                    "task": shape::task(&task),
                });
                self.tasks.insert(task.id, task);
                shown
            }
            Event::Notification(said) => json!({
                "event": "notification", "text": said.text, "detail": json::text(&said.detail),
            }),
            Event::Block(block) => json!({"event": "block", "block": json::embedded(&block.json)}),
            Event::TurnEnd(end) => {
                self.ended(&end.request_id, !end.error.is_empty());
                json!({
                    "event": "turn_end", "request_id": end.request_id,
                    "error": json::text(&end.error),
                })
            }
            Event::Opened(_) => return Ok(()),
        };
        self.ui.event(&shown)
    }

    fn ended(&mut self, request: &str, failed: bool) {
        if self.turn.as_deref() == Some(request) {
            self.turn = None;
            self.failed = failed;
        }
    }

    fn text(&mut self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        self.cards.leave_place();
        self.open = !text.ends_with('\n');
        let safe = self.filter.pass(text.as_bytes());
        self.ui.raw(safe.as_bytes())
    }

    fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.close()?;
        self.cards.leave_place();
        self.ui.say(text)?;
        self.prompt();
        Ok(())
    }

    /// Ends the line that text has left open.
    pub(super) fn close(&mut self) -> Result<(), CliError> {
        if std::mem::take(&mut self.open) {
            let lit = self.filter.finish();
            self.ui.say(lit)?;
        }
        Ok(())
    }

    async fn result(&self, task: &TaskView) -> String {
        if task.status() != Status::Completed {
            return String::new();
        }
        let request = ResultRequest { id: task.id.to_string() };
        let reply = self.client.answer(self.client.tasks().result(request)).await;
        reply.map(|reply| reply.result_json).unwrap_or_default()
    }

    fn live(&self) -> Vec<String> {
        let live = self.tasks.values().filter(|task| !ended(task.status()));
        live.map(|task| task.id.to_string()).collect()
    }

    /// Ctrl-C: the tasks are not touched.
    pub(super) fn leave(&mut self) -> Exit {
        self.cards.leave_place();
        // A terminal that went away needs no end of a line.
        drop(self.close());
        patience::leave(&self.live())
    }

    /// The end: says which tasks go on, or exits by how they ended.
    pub(super) fn conclude(&mut self, wait: bool) -> Result<Exit, CliError> {
        self.cards.leave_place();
        self.close()?;
        for id in self.live() {
            self.ui.talk(&format!("{id} goes on: capsule tail {id}"));
        }
        if self.failed {
            return Ok(Exit::Failure);
        }
        let outcomes = self.tasks.values().filter(|_| wait).map(outcome::of_task);
        Ok(outcomes.into_iter().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done))
    }
}
