//! Boards over a pretended daemon, played by chance.

use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{ColumnView, Columns, Filter, Status, TaskView, WatchEvent, Window};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;

use super::sheet::Sheet;
use super::{Ask, Board, Overlay};

/// What a daemon with these tasks says of the windows.
fn picture(tasks: &[(u64, Status)], windows: &[Window]) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    let mut columns = Vec::new();
    let event = |event| WatchEvent { seq: 1, event: Some(event), at_us: 0 };
    for window in windows {
        let all: Vec<u64> = tasks
            .iter()
            .rev()
            .filter(|(_, status)| window.statuses.contains(&i32::from(*status)))
            .map(|(id, _)| *id)
            .collect();
        let total = all.len() as u64;
        let skip = window.skip.min(total);
        let ids: Vec<u64> =
            all.into_iter().skip(place(skip)).take(place(window.limit.into())).collect();
        for id in &ids {
            let (_, status) = tasks.iter().find(|(known, _)| known == id).unwrap();
            events.push(event(Event::Task(task(*id, *status))));
        }
        columns.push(ColumnView { total, skip, ids });
    }
    events.push(event(Event::Columns(Columns { columns })));
    events
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

pub(crate) fn task(id: u64, status: Status) -> TaskView {
    TaskView {
        id,
        name: format!("task_{id}"),
        status: status.into(),
        queue: "default".to_owned(),
        ..TaskView::default()
    }
}

/// Tells the board until it asks for nothing else.
pub(crate) fn feed(board: &mut Board, tasks: &[(u64, Status)]) {
    for _ in 0..5 {
        let windows = board.watch().windows;
        for event in picture(tasks, &windows) {
            board.apply(event);
        }
        if board.watch().windows == windows {
            return;
        }
    }
    panic!("the windows never settle: {:?}", board.columns);
}

pub(crate) fn board(size: (u16, u16)) -> Board {
    Board::new(vec![Sheet::all()], Filter::default(), size)
}

pub(crate) fn press(board: &mut Board, code: KeyCode) -> Option<Ask> {
    board.press(KeyEvent::new(code, KeyModifiers::NONE), 0)
}

pub(crate) fn type_keys(board: &mut Board, text: &str) -> Option<Ask> {
    text.chars().filter_map(|character| press(board, KeyCode::Char(character))).last()
}

const STATUSES: [Status; 9] = [
    Status::Scheduled,
    Status::Pending,
    Status::Claimed,
    Status::Running,
    Status::Retry,
    Status::Completed,
    Status::Failed,
    Status::Timeout,
    Status::Cancelled,
];

#[derive(Debug, Clone)]
enum Step {
    Key(KeyCode),
    Submit(u8),
    Move(prop::sample::Index, Status),
    Remove(prop::sample::Index),
    Resize(u16, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let codes = "hljkgGfwvbSQLAp1234567RHC".chars().map(KeyCode::Char).chain([
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::PageDown,
        KeyCode::PageUp,
        KeyCode::Down,
        KeyCode::Up,
    ]);
    let codes: Vec<KeyCode> = codes.collect();
    prop_oneof![
        6 => prop::sample::select(codes).prop_map(Step::Key),
        2 => (1u8..120).prop_map(Step::Submit),
        4 => (any::<prop::sample::Index>(), prop::sample::select(STATUSES.to_vec()))
            .prop_map(|(which, to)| Step::Move(which, to)),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => (0u16..320, 0u16..90).prop_map(|(width, height)| Step::Resize(width, height)),
    ]
}

fn check(board: &Board, tasks: &[(u64, Status)]) {
    for column in &board.columns {
        let all: Vec<u64> = tasks
            .iter()
            .rev()
            .filter(|(_, status)| column.statuses.contains(status))
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(column.total, all.len() as u64);
        let seen: Vec<Option<u64>> = column.seen().map(|place| column.at(place)).collect();
        let expected: Vec<Option<u64>> =
            column.seen().map(|place| all.get(self::place(place)).copied()).collect();
        assert_eq!(seen, expected, "what is seen is known");
        assert!(all.is_empty() || column.seen().contains(&column.cursor), "{column:?}");
        assert!(column.ids.iter().all(|id| board.card(*id).is_some()));
    }
    assert!(board.kept() <= board.columns.iter().map(|it| it.ids.len()).sum::<usize>() + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_board_shows_what_there_is(steps in prop::collection::vec(step(), 1..60)) {
        let mut board = board((120, 40));
        let mut tasks: Vec<(u64, Status)> = Vec::new();
        for step in steps {
            match step {
                Step::Key(code) => drop(press(&mut board, code)),
                Step::Submit(count) => {
                    let last = tasks.last().map_or(0, |(id, _)| *id);
                    tasks.extend((1..=u64::from(count)).map(|id| (last + id, Status::Pending)));
                }
                Step::Move(which, to) if !tasks.is_empty() => {
                    let at = which.index(tasks.len());
                    tasks[at].1 = to;
                }
                Step::Remove(which) if !tasks.is_empty() => drop(tasks.remove(which.index(tasks.len()))),
                Step::Move(..) | Step::Remove(_) => {}
                Step::Resize(width, height) => board.resize(width, height),
            }
            board.query.typed = None;
            feed(&mut board, &tasks);
            check(&board, &tasks);
        }
    }
}

#[test]
fn the_selection_stays_with_the_card_that_somebody_moved_to() {
    let mut board = board((200, 60));
    board.focus = 1;
    let mut tasks: Vec<(u64, Status)> = (1..=10).map(|id| (id, Status::Pending)).collect();
    feed(&mut board, &tasks);
    assert_eq!(board.selected().unwrap().id, 10, "the newest, as nobody has moved");
    tasks.push((11, Status::Pending));
    feed(&mut board, &tasks);
    assert_eq!(board.selected().unwrap().id, 11);
    press(&mut board, KeyCode::Down);
    tasks.extend([(12, Status::Pending), (13, Status::Pending)]);
    feed(&mut board, &tasks);
    assert_eq!(board.selected().unwrap().id, 10);
    type_keys(&mut board, "g");
    assert_eq!(board.selected().unwrap().id, 13);
}

#[test]
fn a_hundred_thousand_tasks_are_a_window() {
    let mut board = board((200, 60));
    board.focus = 3;
    let tasks: Vec<(u64, Status)> = (1..=100_000).map(|id| (id, Status::Completed)).collect();
    feed(&mut board, &tasks);
    press(&mut board, KeyCode::End);
    feed(&mut board, &tasks);
    assert_eq!(board.selected().unwrap().id, 1);
    for _ in 0..30 {
        press(&mut board, KeyCode::PageUp);
        let column = &board.columns[3];
        assert!(column.seen().all(|place| column.at(place).is_some()), "no page is empty");
        feed(&mut board, &tasks);
    }
    assert!(board.kept() < 400, "{}", board.kept());
}

#[test]
fn what_is_final_or_may_hit_another_is_asked_about() {
    let mut board = board((120, 40));
    feed(&mut board, &[(7, Status::Running), (8, Status::Failed)]);
    assert_eq!(type_keys(&mut board, "C"), None);
    let Overlay::Confirm(deed) = &board.overlay else { panic!("{:?}", board.overlay) };
    assert_eq!(deed.question(), "Cancel 7 task_7?");
    assert_eq!(type_keys(&mut board, "n"), None);
    assert_eq!(board.notice.as_ref().unwrap().text, "nothing was done");
    let Some(Ask::Do(deed)) = type_keys(&mut board, "CC") else { panic!() };
    assert_eq!(deed.question(), "Kill 7 task_7 without its grace?");
    assert_eq!(type_keys(&mut board, "R"), None);
    assert_eq!(board.notice.as_ref().unwrap().text, "7 has not ended yet");
    type_keys(&mut board, "ll");
    assert_eq!(type_keys(&mut board, "R"), None, "nobody has moved to this card");
    assert!(matches!(type_keys(&mut board, "y"), Some(Ask::Do(_))));
    press(&mut board, KeyCode::Down);
    assert!(matches!(type_keys(&mut board, "R"), Some(Ask::Do(_))));
    board.readonly = true;
    assert_eq!(type_keys(&mut board, "R"), None);
}

#[test]
fn a_filter_is_in_force_while_it_is_typed_and_makes_sense() {
    let mut board = board((120, 40));
    type_keys(&mut board, "/owner:acme");
    assert_eq!(board.watch().filter.unwrap().owner, "acme");
    type_keys(&mut board, " sta");
    assert_eq!(board.watch().filter.unwrap().text, "", "it may become state:");
    press(&mut board, KeyCode::Enter);
    assert_eq!(board.watch().filter.unwrap().text, "sta", "it did not");
    type_keys(&mut board, "/");
    type_keys(&mut board, " nope:");
    assert!(board.query.error.is_some());
    assert_eq!(board.watch().filter.unwrap().owner, "acme");
    press(&mut board, KeyCode::Enter);
    assert!(board.query.typed.is_some(), "it stays until it makes sense");
    press(&mut board, KeyCode::Esc);
    assert_eq!(board.watch().filter.unwrap(), Filter::default());
}
