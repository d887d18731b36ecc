//! A real terminal multiplexer, with a screen that can be read.

use std::sync::atomic::{AtomicU32, Ordering};

use capsule_tests::{Home, wait_for};

/// A terminal of a size; everything in it ends when it is dropped.
pub(super) struct Terminal<'a> {
    home: &'a Home,
    socket: String,
}

impl<'a> Terminal<'a> {
    /// A terminal in which a shell shows the board, then says its exit code and waits. None when
    /// there is no tmux, which is said.
    pub(super) fn open(home: &'a Home, (width, height): (u16, u16)) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !home.shell("command -v tmux").run().text().contains("tmux") {
            eprintln!("SKIPPED: tmux is not installed; on Debian: apt install tmux");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = home.path(format!("t{number}")).display().to_string();
        let terminal = Self { home, socket };
        let capsule = home.program("capsule");
        let line = format!("echo before; {capsule} board; echo \"code $?\"; read end");
        let start = format!("-f /dev/null new-session -d -x {width} -y {height} -- sh -c '{line}'");
        terminal.tmux(&start);
        Some(terminal)
    }

    fn tmux(&self, words: &str) -> String {
        self.home.shell(&format!("tmux -S {} {words}", self.socket)).run().exits(0).text()
    }

    /// What is on the screen.
    pub(super) fn screen(&self) -> String {
        self.tmux("capture-pane -p")
    }

    /// Presses keys, as tmux names them.
    pub(super) fn press(&self, keys: &str) {
        self.tmux(&format!("send-keys {keys}"));
    }

    /// Types a text.
    pub(super) fn write(&self, text: &str) {
        self.tmux(&format!("send-keys -l '{text}'"));
    }

    pub(super) fn resize(&self, width: u16, height: u16) {
        self.tmux(&format!("resize-window -x {width} -y {height}"));
    }

    /// Waits until all these texts are on the screen.
    pub(super) fn until(&self, texts: &[&str]) -> String {
        let mut last = String::new();
        wait_for(&format!("{texts:?} on the screen"), || {
            last = self.screen();
            texts.iter().all(|text| last.contains(text)).then(|| last.clone())
        })
    }

    /// The process of the program that runs in the shell.
    pub(super) fn program(&self, name: &str) -> i32 {
        let shell = self.tmux("display-message -p \"#{pane_pid}\"");
        let find = format!("pgrep -P {} {name}", shell.trim());
        wait_for("the program runs", || self.home.shell(&find).run().text().trim().parse().ok())
    }

    /// Takes the terminal away, as a closed window does.
    pub(super) fn close(&self) {
        self.tmux("kill-server");
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        drop(self.home.shell(&format!("tmux -S {} kill-server", self.socket)).run());
    }
}
