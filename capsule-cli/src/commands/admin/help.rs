//! `help`: of a command, or on a topic that is no command.

use clap::{Args, CommandFactory as _};

use crate::args::Cli;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Show help of a command or on a topic
#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// A command, or cron, data, exit-codes, environment, formatting, ids, manifest, states, time
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

/// Topics and their texts.
const TOPICS: [(&str, &str); 9] = [
    ("cron", include_str!("help/cron.txt")),
    ("data", include_str!("help/data.txt")),
    ("exit-codes", include_str!("help/exit-codes.txt")),
    ("environment", include_str!("help/environment.txt")),
    ("formatting", include_str!("help/formatting.txt")),
    ("ids", include_str!("help/ids.txt")),
    ("manifest", include_str!("help/manifest.txt")),
    ("states", include_str!("help/states.txt")),
    ("time", include_str!("help/time.txt")),
];

impl HelpArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if let [topic] = self.topic.as_slice()
            && let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == topic)
        {
            context.ui.block(text)?;
            return Ok(Exit::Done);
        }
        let mut command = Cli::command();
        command.build();
        let mut command = &mut command;
        for word in &self.topic {
            command = match command.find_subcommand_mut(word) {
                Some(found) => found,
                None => return Err(unknown(word)),
            };
        }
        context.ui.block(&command.render_long_help().to_string())?;
        Ok(Exit::Done)
    }
}

fn unknown(word: &str) -> CliError {
    let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
    CliError::usage(format!("there is no command or topic '{word}'"))
        .hint(format!("topics      capsule help {}", topics.join("|")))
        .hint("commands    capsule --help")
}
