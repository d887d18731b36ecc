//! `secret`: what apps must know and nobody else.
//!
//! A value comes from the terminal without echo, or from stdin; never from the command line, where
//! every process of the machine could read it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use capsule_proto::v1::{ListSecretsRequest, RemoveSecretRequest, SecretView, SetSecretRequest};
use clap::Subcommand;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, Ui, escape, json};

/// More than the daemon takes, to be refused by it.
const VALUE_MAX: u64 = 1 << 20;

/// Keep what apps must know and nobody else: keys, tokens, passwords
#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Set a secret; the value is asked for, or read from stdin
    #[command(
        after_help = "Examples:\n  capsule secret set API_KEY\n  pass show api-key | capsule secret set API_KEY"
    )]
    Set {
        /// Name of the secret, as the app asks for it
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show the names of secrets and who asks for them
    #[command(visible_alias = "ls")]
    List,
    /// Remove a secret
    #[command(visible_alias = "remove")]
    Rm {
        /// Name of the secret
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl SecretVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let ui = &context.ui;
        match self {
            Self::Set { name } => {
                let Some(value) = value(context, name)? else { return Ok(Exit::Interrupted) };
                let request = SetSecretRequest { name: name.clone(), value };
                let reply = client.answer(client.apps().set_secret(request)).await?;
                let verb = if reply.replaced { "replaced" } else { "set" };
                if ui.is_json() {
                    ui.value(&json!({"name": name, "replaced": reply.replaced}))?;
                } else if !ui.quiet {
                    ui.say(&format!("{verb} {}", escape::line(name)))?;
                    ui.talk("apps see it when their next process starts");
                }
            }
            Self::List => {
                let reply =
                    client.answer(client.apps().list_secrets(ListSecretsRequest {})).await?;
                ui.listing(listing(ui, &reply.secrets))?;
            }
            Self::Rm { name } => {
                let request = RemoveSecretRequest { name: name.clone() };
                let reply = client.answer(client.apps().remove_secret(request)).await?;
                if !reply.removed {
                    let message = format!("there is no secret {name}");
                    return Err(CliError::new(Exit::Missing, "not_found", message)
                        .hint("capsule secret list"));
                }
                if ui.is_json() {
                    ui.value(&json!({"name": name, "removed": true}))?;
                } else if !ui.quiet {
                    ui.say(&format!("removed {}", escape::line(name)))?;
                }
            }
        }
        Ok(Exit::Done)
    }
}

fn listing(ui: &Ui, secrets: &[SecretView]) -> Listing {
    let mut table = Table::new(vec!["SECRET", "VALUE", "SET", "APPS"]);
    for it in secrets {
        table.push(vec![
            Cell::new(&it.name),
            Cell::new("••••••••"),
            Cell::new(ui.times.told(it.set_us)),
            Cell::new(it.apps.join(", ")),
        ]);
    }
    let shape =
        |it: &SecretView| json!({"name": it.name, "set_at": json::at(it.set_us), "apps": it.apps});
    let ids = secrets.iter().map(|it| it.name.clone()).collect();
    Listing { table, json: secrets.iter().map(shape).collect(), ids }
}

/// The value, without a line end behind it; nothing after Ctrl-C.
fn value(context: &Context, name: &str) -> Result<Option<String>, CliError> {
    if io::stdin().is_terminal() {
        if context.globals.no_input || !io::stderr().is_terminal() {
            let message = format!("the value of {name} must come from stdin, nobody can be asked");
            return Err(CliError::new(Exit::Declined, "not_confirmed", message));
        }
        return ask(name);
    }
    let mut text = String::new();
    io::stdin().take(VALUE_MAX).read_to_string(&mut text)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

/// The terminal as it was, put back at the end.
struct Silent(Termios);

impl Silent {
    fn new() -> Result<Self, CliError> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut silent = before.clone();
        // Without signals, Ctrl-C is a byte and cannot leave the terminal silent.
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent).map_err(io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // The terminal is gone when this fails.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0).ok();
    }
}

fn ask(name: &str) -> Result<Option<String>, CliError> {
    write!(io::stderr().lock(), "value of {}: ", escape::line(name))?;
    let typed = {
        let _silent = Silent::new()?;
        typed(io::stdin().lock())
    };
    writeln!(io::stderr().lock())?;
    let Some(bytes) = typed? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| CliError::usage("the value is not UTF-8"))
}

/// Reads a line as it is typed: Ctrl-C, Ctrl-D and the rub-out key are ours to understand.
fn typed(mut input: impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        match byte {
            [b'\n' | b'\r' | 4] => break,
            [3] => return Ok(None),
            [8 | 127] => while line.pop().is_some_and(|last| (0x80..0xC0).contains(&last)) {},
            [21] => line.clear(),
            [other] => line.push(other),
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_typed() {
        let read =
            |bytes: &[u8]| typed(bytes).unwrap().map(|line| String::from_utf8(line).unwrap());
        assert_eq!(read(b"key\nmore").as_deref(), Some("key"));
        assert_eq!(read("käx\u{7f}\u{7f}ey\r".as_bytes()).as_deref(), Some("key"));
        assert_eq!(read(b"wrong\x15key").as_deref(), Some("key"));
        assert_eq!(read(b"ke\x03"), None);
    }
}
