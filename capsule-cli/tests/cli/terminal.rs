//! The command on a terminal: colours, width, questions, and what it keeps from the terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use capsule_proto::v1::Status;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::{Fake, chunk, task};

/// A command on a terminal of this width.
struct Terminal {
    child: Child,
    screen: File,
    shown: String,
}

impl Terminal {
    fn start(fake: &Fake, words: &[&str], width: u16) -> Self {
        let size = Winsize { ws_row: 24, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let mut command = fake.command(words);
        command
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(pty.slave.try_clone().unwrap()))
            .stdout(Stdio::from(pty.slave.try_clone().unwrap()))
            .stderr(Stdio::from(pty.slave));
        let child = command.spawn().unwrap();
        Self { child, screen: File::from(pty.master), shown: String::new() }
    }

    /// Reads until the text is on the screen; the end of the command ends it too.
    fn until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.shown.contains(text) {
            match self.screen.read(&mut bytes) {
                // The last holder of the other side is gone.
                Ok(0) | Err(_) => panic!("{text:?} never came: {}", self.shown),
                Ok(count) => self.shown.push_str(&String::from_utf8_lossy(&bytes[..count])),
            }
        }
    }

    fn write(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// Exit code, and all that was shown.
    fn end(mut self) -> (i32, String) {
        let mut bytes = [0; 4096];
        while let Ok(count) = self.screen.read(&mut bytes) {
            if count == 0 {
                break;
            }
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, self.shown.replace("\r\n", "\n"))
    }
}

fn with_tasks() -> Fake {
    let fake = Fake::start();
    let mut failed = task(1842, "sync_leads", Status::Failed);
    failed.reason = "a reason that is longer than any narrow terminal is wide".to_owned();
    fake.lock().tasks.push(failed);
    fake.lock().tasks.push(task(1843, "report", Status::Running));
    fake
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        rest = &after[end + 1..];
    }
    plain + rest
}

#[test]
fn a_list_fits_a_narrow_terminal() {
    let fake = with_tasks();
    for width in [40_u16, 60] {
        let (code, shown) = Terminal::start(&fake, &["list"], width).end();
        assert_eq!(code, 0);
        assert!(shown.contains("\x1b[31mfailed"), "{shown:?}");
        for line in plain(&shown).lines() {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        }
    }
    let (_, shown) = Terminal::start(&fake, &["list", "--color", "never"], 80).end();
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn a_submit_tells_people_what_to_do_next() {
    let fake = Fake::start();
    let (code, shown) =
        Terminal::start(&fake, &["submit", "--color=never", "--", "true"], 80).end();
    assert_eq!((code, shown.as_str()), (0, "submitted 1842  true\n  follow: capsule tail 1842\n"));
    let (_, shown) = Terminal::start(&fake, &["submit", "-q", "--", "true"], 80).end();
    assert_eq!(shown, "1843\n");
}

#[test]
fn a_log_passes_colours_only() {
    let fake = with_tasks();
    fake.lock().log = vec![chunk("out", b"\x1b[2J\x1b[31mred\x1b]0;title\x07\n")];
    let (_, shown) = Terminal::start(&fake, &["tail", "1842", "--no-follow"], 80).end();
    assert_eq!(shown, "\x1b[31mred\n\x1b[0m");
}

#[test]
fn many_are_asked_for() {
    let fake = with_tasks();
    let words = ["cancel", "--status", "running", "--all"];
    let mut terminal = Terminal::start(&fake, &words, 80);
    terminal.until("About to cancel 1 task (report ×1). Continue? [y/N] ");
    terminal.write("n\n");
    let (code, shown) = terminal.end();
    assert!(code == 7 && shown.contains("nothing was done"), "{shown}");
    let mut terminal = Terminal::start(&fake, &words, 80);
    terminal.until("[y/N] ");
    terminal.write("y\n");
    let (code, shown) = terminal.end();
    assert!(code == 0 && shown.contains("1843  cancelled (killed)"), "{shown}");
}

#[test]
fn a_second_ctrl_c_leaves_the_task_alone() {
    let fake = Fake::start();
    fake.lock().endless = true;
    fake.lock().deaf = true;
    fake.lock().log = vec![chunk("out", b"begun\n")];
    let mut terminal = Terminal::start(&fake, &["run", "--", "sleep", "9"], 80);
    terminal.until("begun");
    terminal.until("pending 1842 sleep");
    terminal.interrupt();
    terminal.until("cancelling 1842 (Ctrl-C again leaves it alone)");
    terminal.interrupt();
    let (code, shown) = terminal.end();
    assert_eq!(code, 130, "{shown}");
    assert!(shown.ends_with("1842 goes on: capsule tail 1842\n"), "{shown}");
}

#[test]
fn the_board_gives_the_terminal_back() {
    let fake = with_tasks();
    fake.lock().endless = true;
    let mut terminal = Terminal::start(&fake, &["board"], 120);
    terminal.until("1843 report");
    terminal.interrupt();
    let (code, shown) = terminal.end();
    assert!(code == 0 && shown.contains("\x1b[?25h\x1b[?1049l"), "{shown:?}");
}

#[test]
fn capsule_alone_says_how_things_stand() {
    let fake = with_tasks();
    let (code, shown) = Terminal::start(&fake, &["--color=never"], 120).end();
    assert_eq!(code, 0);
    assert!(shown.starts_with("capsuled 0.0.9 runs since 3h 5m"), "{shown}");
    assert!(shown.contains("1843  running") && shown.ends_with("capsule show ID\n"), "{shown}");
}
