//! Boards as they look, on terminals of every size. `REWRITE_HELP=1` writes the pictures anew.

use std::path::Path;

use capsule_proto::v1::{
    AttemptView, ColumnView, Columns, LogChunk, Progress, QueueView, ShowReply, Status, TaskView,
    TimelineEntry, WatchEvent, watch_event::Event,
};
use crossterm::event::KeyCode;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::{Look, draw};
use crate::args::Globals;
use crate::board::model::table::Rows;
use crate::board::model::tests::{board, feed, press, type_keys};
use crate::board::model::{Board, Link};
use crate::board::once;
use crate::ui::Ui;

const NOW: i64 = 1_790_000_000_000_000;

fn look(colored: bool, ascii: bool) -> Look {
    let mut ui = Ui::new(&Globals { utc: true, ..Globals::default() });
    ui.times.now = jiff::Timestamp::from_microsecond(NOW).unwrap();
    Look { ui, colored, ascii }
}

fn ago(seconds: i64) -> i64 {
    NOW - seconds * 1_000_000
}

fn task(id: u64, name: &str, status: Status) -> TaskView {
    TaskView {
        id,
        name: name.to_owned(),
        status: status.into(),
        owner: "acme".to_owned(),
        queue: "default".to_owned(),
        created_us: NOW - 90_000_000,
        attempt: 1,
        ..TaskView::default()
    }
}

/// One task of each kind, as a daemon would tell them.
fn sample() -> Vec<TaskView> {
    let mut all = vec![
        TaskView { due_us: Some(NOW + 240_000_000), ..task(1850, "sync_leads", Status::Scheduled) },
        TaskView {
            waiting: "retry 2 of 3 in 30s".to_owned(),
            attempt: 2,
            retries: 3,
            ..task(1838, "sync_leads", Status::Retry)
        },
        TaskView {
            waiting: "lock owner:acme held by 1842 (running 48s)".to_owned(),
            lock: "owner:acme".to_owned(),
            ..task(1843, "sync_leads", Status::Pending)
        },
        TaskView {
            hold: true,
            waiting: "held back".to_owned(),
            ..task(1845, "rebuild_index", Status::Pending)
        },
        TaskView {
            started_us: Some(ago(48)),
            attempt: 2,
            retries: 2,
            pid: Some(48_213),
            progress: Some(Progress { done: 64.0, total: Some(100.0), text: "page 12".to_owned() }),
            ..task(1842, "sync_leads", Status::Running)
        },
        TaskView {
            started_us: Some(ago(12)),
            pid: Some(7),
            ..task(1841, "export", Status::Running)
        },
    ];
    for (id, status, reason) in [
        (1839, Status::Failed, "exit 3"),
        (1836, Status::Timeout, "ran longer than 10s"),
        (1837, Status::Cancelled, ""),
        (1844, Status::Completed, ""),
    ] {
        all.push(TaskView {
            started_us: Some(ago(70)),
            ended_us: Some(ago(66)),
            reason: reason.to_owned(),
            ..task(id, "rebuild_index", status)
        });
    }
    all
}

fn tell(board: &mut Board, tasks: &[TaskView]) {
    let columns = board.columns.iter().map(|column| {
        let of = |task: &&TaskView| column.statuses.contains(&task.status());
        let mut ids: Vec<u64> = tasks.iter().filter(of).map(|task| task.id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ColumnView { total: ids.len() as u64, skip: 0, ids }
    });
    let columns = Columns { columns: columns.collect() };
    for task in tasks {
        board.apply(WatchEvent { event: Some(Event::Task(task.clone())), ..WatchEvent::default() });
    }
    board.apply(WatchEvent { event: Some(Event::Columns(columns)), ..WatchEvent::default() });
}

fn filled(size: (u16, u16)) -> Board {
    let mut board = board(size);
    tell(&mut board, &sample());
    board
}

/// Opens the running task, as the daemon would show it.
fn open(board: &mut Board, data: &[u8]) {
    press(board, KeyCode::Enter);
    let detail = board.detail.as_mut().unwrap();
    let task = sample().into_iter().find(|task| task.id == detail.id);
    let attempt = AttemptView {
        number: 1,
        verdict: "failed".to_owned(),
        reason: "exit 3".to_owned(),
        error: "boom\nat line 3".to_owned(),
        ..AttemptView::default()
    };
    let entry = |seconds: i64, what: &str| TimelineEntry {
        at_us: NOW - seconds * 1_000_000,
        what: what.to_owned(),
    };
    detail.show = Some(ShowReply {
        task,
        attempts: vec![attempt],
        payload_json: r#"{"owner_id":"acme","limit":400}"#.to_owned(),
        timeline: vec![entry(90, "submitted by acme"), entry(48, "started")],
        ..ShowReply::default()
    });
    for stream in ["out", "err"] {
        let data = [data, b"\n"].concat();
        let (time_us, stream) = (NOW - 2_000_000, stream.to_owned());
        detail.push(&LogChunk { time_us, stream, data, ..LogChunk::default() });
    }
}

fn drawn(board: &mut Board, look: &Look, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, board, look)).unwrap().buffer.clone()
}

fn check(name: &str, board: &mut Board, look: &Look) {
    let size = board.size();
    let text = once::text(&drawn(board, look, size));
    let path = format!("{}/src/board/view/pictures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("REWRITE_HELP").is_some() {
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{name} looks otherwise; REWRITE_HELP=1 keeps this:\n{text}");
}

#[test]
fn pictures_at_three_sizes() {
    for (width, height) in [(40, 12), (80, 24), (300, 80)] {
        let mut board = filled((width, height));
        check(&format!("board-{width}x{height}"), &mut board, &look(true, false));
        open(&mut board, b"fetched page 12");
        check(&format!("open-{width}x{height}"), &mut board, &look(true, false));
        press(&mut board, KeyCode::Esc);
        type_keys(&mut board, "?");
        check(&format!("help-{width}x{height}"), &mut board, &look(true, false));
    }
}

#[test]
fn pictures_of_other_moments() {
    let size = (100, 20);
    let mut board = filled(size);
    check("ascii", &mut board, &look(false, true));
    type_keys(&mut board, "C");
    check("confirm", &mut board, &look(true, false));
    type_keys(&mut board, "n/state:fa");
    check("filter-that-makes-no-sense", &mut board, &look(true, false));
    press(&mut board, KeyCode::Esc);
    board.link = Link::Lost;
    check("reconnecting", &mut board, &look(true, false));
    type_keys(&mut board, "Q");
    let queue =
        QueueView { name: "default".to_owned(), waiting: 3, running: 2, ..QueueView::default() };
    board.table.as_mut().unwrap().fill(Rows::Queues(vec![queue]));
    check("queues", &mut board, &look(true, false));
    press(&mut board, KeyCode::Esc);
    for (key, name) in [('2', "payload"), ('3', "attempts"), ('4', "timeline"), ('5', "error")] {
        open(&mut board, b"");
        type_keys(&mut board, &key.to_string());
        check(name, &mut board, &look(true, false));
        type_keys(&mut board, "b");
    }
}

#[test]
fn without_colours_there_are_none_and_without_utf_8_only_ascii() {
    let mut board = filled((200, 40));
    open(&mut board, "größer\u{1f600}".as_bytes());
    let buffer = drawn(&mut board, &look(false, true), (200, 40));
    for cell in buffer.content() {
        assert!(cell.symbol().is_ascii(), "{:?}", cell.symbol());
        assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
    }
    let colored = drawn(&mut board, &look(true, false), (200, 40));
    let is_plain = |color: Color| !matches!(color, Color::Rgb(..) | Color::Indexed(_));
    assert!(colored.content().iter().all(|cell| is_plain(cell.fg) && is_plain(cell.bg)));
    assert!(colored.content().iter().any(|cell| cell.fg == Color::Cyan));
}

#[test]
fn hostile_text_steers_nothing() {
    let evil = "\u{1b}[2J\u{1b}]0;x\u{7}\r\n\u{202e}<script>\u{9b}31m\u{0}";
    let mut tasks = sample();
    for task in &mut tasks {
        for text in [
            &mut task.name,
            &mut task.display_name,
            &mut task.owner,
            &mut task.reason,
            &mut task.waiting,
            &mut task.queue,
            &mut task.lock,
        ] {
            *text = evil.to_owned();
        }
        task.progress = Some(Progress { done: f64::NAN, total: Some(1.0), text: evil.to_owned() });
    }
    let mut board = board((300, 80));
    tell(&mut board, &tasks);
    board.columns[0].label = evil.to_owned();
    type_keys(&mut board, "/");
    board.paste(evil, NOW);
    press(&mut board, KeyCode::Enter);
    open(&mut board, evil.as_bytes());
    let show = board.detail.as_mut().unwrap().show.as_mut().unwrap();
    show.task = tasks.into_iter().find(|task| task.id == 1842);
    (show.payload_json, show.error) = (evil.to_owned(), evil.to_owned());
    show.result_json = serde_json::Value::from(evil).to_string();
    show.attempts[0].error = evil.to_owned();
    show.timeline[0].what = evil.to_owned();
    for tab in '1'..='7' {
        type_keys(&mut board, &tab.to_string());
        let buffer = drawn(&mut board, &look(true, false), (300, 80));
        for cell in buffer.content() {
            let bad = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{9b}');
            assert!(!cell.symbol().contains(bad), "tab {tab}: {:?}", cell.symbol());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_size_breaks_it(
        width in 0u16..330,
        height in 0u16..90,
        keys in "[hljkgGfwvbSQLA1234567?]{0,12}",
        opened in any::<bool>(),
    ) {
        let mut board = filled((80, 24));
        if opened {
            open(&mut board, "a \u{4e16}\u{754c} line that is wider than narrow terminals are".as_bytes());
        }
        type_keys(&mut board, &keys);
        drawn(&mut board, &look(true, false), (width, height));
        let many: Vec<(u64, Status)> = (1..=500).map(|id| (id, Status::Running)).collect();
        feed(&mut board, &many);
        drawn(&mut board, &look(true, true), (width, height));
    }
}
