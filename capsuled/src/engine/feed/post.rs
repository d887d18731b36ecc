//! Brings answers to those who wait for them.
//!
//! A thread that wakes a task of a runtime makes a system call for each, and the runtime's thread
//! would wake, handle one answer and sleep again. So a group's answers travel together, and a task
//! of the runtime hands them out.

use std::sync::OnceLock;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Gives one answer to whoever waits for it.
pub(in crate::engine) type Delivery = Box<dyn FnOnce() + Send>;

/// The way from the engine's thread to the runtime.
#[derive(Debug, Default)]
pub(in crate::engine) struct Post {
    round: OnceLock<UnboundedSender<Vec<Delivery>>>,
}

impl Post {
    /// Hands answers to the runtime; where nobody runs the post, gives them out here.
    pub(in crate::engine) fn hand_out(&self, answers: Vec<Delivery>) {
        if answers.is_empty() {
            return;
        }
        let unsent = match self.round.get() {
            Some(round) => round.send(answers).err().map(|unsent| unsent.0),
            None => Some(answers),
        };
        for deliver in unsent.into_iter().flatten() {
            deliver();
        }
    }

    /// Gives out answers for as long as the runtime lives. Only the first call does anything.
    pub(in crate::engine) async fn run(&self) {
        let (round, mut inbox) = unbounded_channel();
        if self.round.set(round).is_err() {
            return;
        }
        while let Some(answers) = inbox.recv().await {
            for deliver in answers {
                deliver();
            }
        }
    }
}
