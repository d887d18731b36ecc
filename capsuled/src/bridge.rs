//! Between the app hosts and the gateway: a host's calls are the SDK's calls.

use std::any::Any;

use tokio::sync::mpsc;

use crate::dispatcher::{Caller, Calls};
use crate::gateway::{self, Gateway};
use crate::runner::host::{Answer, Call, CallRefused};

/// Lets the gateway answer hosts.
#[derive(Clone, Debug)]
pub struct Bridge(pub Gateway);

impl Calls for Bridge {
    fn call(&self, caller: Caller, call: Call) -> Answer<'_> {
        let Caller { app, revision, user_id, serve, task } = caller;
        let caller = gateway::Caller { app, revision, user_id, serve, task };
        Box::pin(async move {
            let answer = self.0.call(&caller, &call.method, &call.body).await;
            answer.map_err(|status| CallRefused {
                code: i32::from(status.code()),
                message: status.message().to_owned(),
            })
        })
    }

    fn attach(
        &self,
        app: &str,
        revision: u32,
        messages: mpsc::UnboundedSender<Vec<u8>>,
    ) -> Box<dyn Any + Send + Sync> {
        Box::new(self.0.attach(app, revision, messages))
    }

    fn turn_ended(&self, request_id: &str, error: Option<String>) {
        self.0.turn_ended(request_id, error);
    }
}
