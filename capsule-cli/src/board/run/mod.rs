//! The life of a board on a terminal: keys in, changes in, pictures out.
//!
//! Nothing is asked for at intervals: it sleeps until a key, a change or, for the ages, the next
//! second. Invariant: the terminal is given back however this ends.

mod ask;
mod errands;
mod open;
mod terminal;

use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyEventKind};
use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::StreamExt as _;

use self::errands::{Errand, Errands, Reply};
use self::open::Open;
use self::terminal::Screen;
use super::model::{Ask, Board, Link};
use super::view::{self, Look};
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Pictures that come together are drawn together; a key is drawn at once.
const FRAME: Duration = Duration::from_millis(16);
/// For ages and running times.
const SECOND: Duration = Duration::from_secs(1);

/// Shows the board until it is left.
pub(super) async fn run(
    context: &Context,
    client: Client,
    board: Board,
    look: Look,
    page: Option<String>,
) -> Result<Exit, CliError> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::open()?;
    let mut keys = EventStream::new();
    let errands = Errands::default();
    let open = Open::new(context.clone(), client, page);
    let mut live = Live { board, look, open, errands, dirty: true };
    let mut drawn = Instant::now().checked_sub(FRAME).unwrap_or_else(Instant::now);
    loop {
        live.open.keep_up(&mut live.board, &mut live.errands);
        if live.dirty && drawn.elapsed() >= FRAME {
            live.look.ui.times.now = jiff::Timestamp::now();
            screen.draw(|frame| view::draw(frame, &mut live.board, &live.look))?;
            (live.dirty, drawn) = (false, Instant::now());
            // What is seen may have another size now, and other windows.
            continue;
        }
        let pause = if live.dirty { FRAME.saturating_sub(drawn.elapsed()) } else { SECOND };
        tokio::select! {
            biased;
            ending = signals.next() => match ending {
                Ending::Stop => live.suspend(&mut screen)?,
                Ending::Quit => return Ok(Exit::Done),
            },
            key = keys.next() => match key {
                Some(Ok(event)) => match live.input(event) {
                    Some(Ask::Quit) => return Ok(Exit::Done),
                    Some(Ask::Suspend) => live.suspend(&mut screen)?,
                    Some(ask) => live.open.ask(ask, &live.board, &mut live.errands),
                    None => {}
                },
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(Exit::Done),
            },
            reply = live.errands.next() => live.reply(reply)?,
            changed = live.open.next(&mut live.board) => live.dirty |= changed,
            () = tokio::time::sleep(pause) => live.dirty = true,
        }
    }
}

/// A board with all that feeds it.
struct Live {
    board: Board,
    look: Look,
    open: Open,
    errands: Errands,
    /// What is drawn is not what there is.
    dirty: bool,
}

impl Live {
    fn input(&mut self, event: Event) -> Option<Ask> {
        self.dirty = true;
        let now_us = jiff::Timestamp::now().as_microsecond();
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.board.press(key, now_us),
            Event::Paste(text) => {
                self.board.paste(&text, now_us);
                None
            }
            Event::Resize(width, height) => {
                self.board.resize(width, height);
                None
            }
            Event::Key(_) | Event::Mouse(_) | Event::FocusGained | Event::FocusLost => None,
        }
    }

    fn reply(&mut self, reply: Reply) -> Result<(), CliError> {
        self.dirty = true;
        let first = self.board.link == Link::Opening;
        match reply {
            // Before the first picture an error is the answer to the command.
            Reply::Watch(Err(error)) if first && error.exit() != Exit::Unreachable => Err(error),
            reply @ (Reply::Watch(_)
            | Reply::Show(..)
            | Reply::Tail(..)
            | Reply::Table(_)
            | Reply::Sheets(_)
            | Reply::Done(_)) => {
                self.open.take(reply, &mut self.board, &mut self.errands);
                Ok(())
            }
        }
    }

    /// Gives the terminal to the shell until it continues us.
    fn suspend(&mut self, screen: &mut Screen) -> Result<(), CliError> {
        screen.while_away(|| nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP))?;
        self.dirty = true;
        Ok(())
    }
}

/// What a signal asks for.
enum Ending {
    Quit,
    Stop,
}

/// Signals that would leave the terminal as it is now.
struct Signals {
    quit: [Signal; 4],
    stop: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let quit = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ];
        Ok(Self { quit, stop: signal(SignalKind::from_raw(libc::SIGTSTP))? })
    }

    async fn next(&mut self) -> Ending {
        let [interrupt, terminate, hangup, quit] = &mut self.quit;
        tokio::select! {
            _ = interrupt.recv() => Ending::Quit,
            _ = terminate.recv() => Ending::Quit,
            _ = hangup.recv() => Ending::Quit,
            _ = quit.recv() => Ending::Quit,
            _ = self.stop.recv() => Ending::Stop,
        }
    }
}

/// An errand that is boxed.
fn errand(future: impl Future<Output = Reply> + 'static) -> Errand {
    Box::pin(future)
}
