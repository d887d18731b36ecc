//! `run`: submit, follow, exit by its code.

use super::follow::{self, Data, How};
use super::{asks_help, definition, request, send, show_plan};
use crate::args::submit::RunArgs;
use crate::args::words::Work;
use crate::commands::Context;
use crate::error::{CliError, Exit};

impl RunArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if asks_help(&self.what) {
            return definition::help(context, &self.what, "run").await;
        }
        let program = matches!(self.what.work, Work::Program(_));
        self.queue_and_follow(context, program).await.map_err(|error| match error {
            // Whoever reads the exit code must tell our failure from the program's.
            CliError::Told(mut told) if program && told.exit != Exit::Usage => {
                told.exit = Exit::CannotStart;
                CliError::Told(told)
            }
            CliError::Told(_) | CliError::Usage(_) | CliError::BrokenPipe => error,
        })
    }

    async fn queue_and_follow(&self, context: &Context, program: bool) -> Result<Exit, CliError> {
        let request = request(context, &self.what)?;
        let client = context.client().await?;
        let interrupts = follow::interrupts()?;
        let reply = send(context, &client, &self.what, request).await?;
        if self.what.dry_run {
            return show_plan(context, &reply);
        }
        let task = reply.task.clone().unwrap_or_default();
        if reply.merged || reply.existing {
            context.ui.talk(&crate::ui::task::submitted(&context.ui, &reply));
        }
        let by_code = self.exit_code || matches!(self.what.work, Work::Program(_));
        let data = if program { Data::Output } else { Data::Result };
        // One that was there before is somebody else's to cancel.
        let detach = self.detach_on_interrupt || reply.merged || reply.existing;
        let how = How { detach, by_code, data };
        Box::pin(follow::follow(context, &client, task, how, interrupts)).await
    }
}
