//! The terminal, taken and given back.

use std::io::{self, Stdout, Write as _};
use std::sync::Once;

use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// The whole screen; given back when it is dropped, and by a panic before its message.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        take()?;
        match Terminal::new(CrosstermBackend::new(io::stdout())) {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Gives the terminal back while this goes on, then draws all of it anew.
    pub(super) fn while_away<E: Into<io::Error>>(
        &mut self,
        away: impl FnOnce() -> Result<(), E>,
    ) -> io::Result<()> {
        give_back();
        away().map_err(Into::into)?;
        take()?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    let taken = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste);
    if taken.is_err() {
        give_back();
    }
    taken
}

/// As it was; a terminal that went away needs nothing back.
fn give_back() {
    drop(execute!(io::stdout(), DisableBracketedPaste, Show, LeaveAlternateScreen));
    drop(io::stdout().flush());
    drop(disable_raw_mode());
}
