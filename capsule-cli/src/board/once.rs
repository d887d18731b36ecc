//! The board once: as text, drawn like the live one, or as JSON.

use capsule_proto::v1::{Filter, PageView, TaskView};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use serde_json::{Value, json};
use tonic::Streaming;
use unicode_width::UnicodeWidthStr as _;

use super::model::Board;
use super::model::column::Column;
use super::model::sheet::Sheet;
use super::view::{self, Look};
use crate::client::Client;
use crate::error::{CliError, Exit};
use crate::ui::{columns, shape};

/// The width of a board without a terminal.
const WIDTH: usize = 120;
/// Rows that are drawn: what is longer belongs into `list`.
const HEIGHT: u16 = 48;
/// Rows besides the columns.
const AROUND: u16 = 4;

/// Prints the boards of a page, or the first one.
pub(super) async fn show(
    client: &Client,
    (sheets, filter): (Vec<Sheet>, Filter),
    page: Option<&PageView>,
    look: &Look,
) -> Result<Exit, CliError> {
    let width = columns().unwrap_or(WIDTH).clamp(30, 1000);
    let size = (u16::try_from(width).unwrap_or(120), HEIGHT);
    let wanted = |sheet: &Sheet| page.is_none_or(|page| sheet.page == page.name);
    let most = if page.is_some() { sheets.len() } else { 1 };
    let mut boards = Vec::new();
    for sheet in sheets.into_iter().filter(wanted).take(most) {
        let mut board = Board::new(vec![sheet], filter.clone(), size);
        fill(client, &mut board).await?;
        boards.push(board);
    }
    let ui = &look.ui;
    if ui.is_json() {
        ui.value(&value(page, &boards))?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for line in page.into_iter().flat_map(|page| &page.widgets).filter(|it| it.board.is_none()) {
        text.push_str(&look.safe(format!("{} {}", line.r#type, line.title).trim_end()));
        text.push('\n');
    }
    for board in &mut boards {
        text.push_str(&drawn(board, look));
    }
    ui.block(&text)?;
    Ok(Exit::Done)
}

/// Takes in the first picture.
async fn fill(client: &Client, board: &mut Board) -> Result<(), CliError> {
    let mut stream: Streaming<_> = client.answer(client.tasks().watch(board.watch())).await?;
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                if board.apply(event) {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(status) => return Err(client.explain(status).await),
        }
    }
}

/// The cells of a board as lines of text, without what only a terminal needs.
fn drawn(board: &mut Board, look: &Look) -> String {
    let (width, _) = board.size();
    let longest = board.columns.iter().map(|column| column.total).max().unwrap_or_default();
    let rows = u16::try_from(longest.saturating_mul(2)).unwrap_or(u16::MAX);
    board.resize(width, rows.saturating_add(AROUND).clamp(20, HEIGHT));
    let (width, height) = board.size();
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(frame) = terminal.draw(|frame| view::draw(frame, board, look));
    let text = text(frame.buffer);
    let lines: Vec<&str> = text.lines().collect();
    let kept = lines.get(..lines.len().saturating_sub(1)).unwrap_or_default();
    let empty = |line: &&&str| line.trim_matches(['│', '|', ' ']).is_empty();
    let end = kept.len() - kept.iter().rev().take_while(empty).count();
    let mut text = String::new();
    for line in kept.iter().take(end) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The text of cells; the second half of a wide character has none.
pub(super) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let (mut line, mut skip) = (String::new(), 0);
        for x in 0..buffer.area.width {
            let symbol = buffer.cell((x, y)).map_or(" ", |cell| cell.symbol());
            if skip == 0 {
                line.push_str(symbol);
                skip = symbol.width().saturating_sub(1);
            } else {
                skip -= 1;
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn value(page: Option<&PageView>, boards: &[Board]) -> Value {
    let column = |board: &Board, column: &Column| {
        let tasks: Vec<&TaskView> = column.ids.iter().filter_map(|id| board.card(*id)).collect();
        json!({
            "label": column.label,
            "statuses": column.statuses.iter().map(|it| shape::status(*it)).collect::<Vec<_>>(),
            "total": column.total,
            "tasks": tasks.into_iter().map(shape::task).collect::<Vec<_>>(),
        })
    };
    let board = |board: &Board| {
        let columns: Vec<Value> = board.columns.iter().map(|it| column(board, it)).collect();
        json!({
            "title": board.shown_sheet().map(|sheet| sheet.title.clone()),
            "not_filtered_by": board.shown_sheet().map(|sheet| sheet.ignored.clone()),
            "seq": board.seq,
            "columns": columns,
        })
    };
    json!({
        "page": page.map(|page| page.name.clone()),
        "icon": page.map(|page| page.icon.clone()),
        "order": page.map(|page| page.order),
        "boards": boards.iter().map(board).collect::<Vec<_>>(),
    })
}
