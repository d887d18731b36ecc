//! Cards that appear, change, move and go.

use std::collections::HashSet;

use askama::Template as _;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::time::{Duration, Instant};
use tokio_stream::{StreamExt as _, StreamMap};

use super::{Gone, Page, part, seen};
use crate::web::Site;
use crate::web::ask::{Refusal, WatchStream};
use crate::web::guard::Visitor;
use crate::web::pages::board::{self, Asked, Board, Boards, Column, Picture, Plan};

/// How often who cannot see the board is told of it, at the most.
const SUMMARY: Duration = Duration::from_secs(10);

/// The stream of a board.
pub(in crate::web) async fn board(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let plans = board::plans(&site, &asked).await?;
    let mut streams = StreamMap::new();
    for (at, plan) in plans.iter().enumerate() {
        streams.insert(at, site.watch(plan.watch()).await?);
    }
    let seen = seen(&headers).and_then(|id| id.parse().ok()).or(asked.seen);
    let (page, response) = Page::open();
    let pictures = vec![Picture::default(); plans.len()];
    let live = Live { site, mark: visitor.mark, plans, pictures, page };
    tokio::spawn(async move {
        let ending = live.site.api.ending.clone();
        ending.run_until_cancelled(live.run(streams, seen)).await;
    });
    Ok(response)
}

struct Live {
    site: Site,
    mark: String,
    plans: Vec<Plan>,
    pictures: Vec<Picture>,
    page: Page,
}

impl Live {
    /// Tells what changes until the page is gone; the watch says when, and not too often.
    async fn run(
        mut self,
        mut streams: StreamMap<usize, WatchStream>,
        seen: Option<u64>,
    ) -> Result<(), Gone> {
        let mut whole = HashSet::new();
        while whole.len() < self.plans.len() {
            whole.insert(self.next(&mut streams).await?);
        }
        let mut boards = self.draw();
        let now = board::seen(&self.pictures);
        if seen != Some(now) {
            self.page.say(now.to_string(), &all(&boards)).await?;
        }
        let mut summary = Instant::now();
        loop {
            self.next(&mut streams).await?;
            let now = self.draw();
            let mut markup = changes(&boards, &now);
            boards = now;
            if markup.is_empty() {
                continue;
            }
            if summary.elapsed() >= SUMMARY {
                summary = Instant::now();
                markup.push_str(&part("summary", "textContent", &board::summary(&boards)));
            }
            self.page.say(board::seen(&self.pictures).to_string(), &markup).await?;
        }
    }

    /// Waits until a picture is whole again, and says which.
    async fn next(&mut self, streams: &mut StreamMap<usize, WatchStream>) -> Result<usize, Gone> {
        loop {
            let (at, told) = tokio::select! {
                told = streams.next() => told.ok_or(Gone)?,
                () = self.page.gone() => return Err(Gone),
            };
            let told = told.map_err(|_| Gone)?;
            if self.pictures.get_mut(at).is_some_and(|picture| picture.take(told)) {
                return Ok(at);
            }
        }
    }

    fn draw(&self) -> Vec<Board> {
        board::draw(&self.plans, &self.pictures, &self.mark, self.site.now().0)
    }
}

/// The whole page anew.
fn all(boards: &[Board]) -> String {
    let markup = Boards { boards }.render().unwrap_or_default();
    part("boards", "innerMorph", &markup)
}

/// What makes of a page that shows `old` one that shows `new`.
fn changes(old: &[Board], new: &[Board]) -> String {
    let alike = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.is_like(new));
    if !alike {
        return all(new);
    }
    let mut markup = String::new();
    for (old, new) in old.iter().zip(new) {
        for (old, new) in old.columns.iter().zip(&new.columns) {
            column(old, new, &mut markup);
        }
    }
    markup
}

fn column(old: &Column, new: &Column, markup: &mut String) {
    let had: HashSet<&str> = old.cards.iter().map(|card| card.key.as_str()).collect();
    let has: HashSet<&str> = new.cards.iter().map(|card| card.key.as_str()).collect();
    for card in old.cards.iter().filter(|card| !has.contains(card.key.as_str())) {
        markup.push_str(&part(&card.key, "delete", ""));
    }
    let mut stays = old.cards.iter().filter(|card| has.contains(card.key.as_str()));
    // Cards come behind one that stays, or to the top: places are looked up before anything moves.
    let (mut place, mut fresh) = ((new.key.as_str(), "afterbegin"), String::new());
    for card in &new.cards {
        if !had.contains(card.key.as_str()) {
            fresh.push_str(&card.to_string());
            continue;
        }
        if !fresh.is_empty() {
            markup.push_str(&part(place.0, place.1, &std::mem::take(&mut fresh)));
        }
        place = (card.key.as_str(), "afterend");
        if stays.next().is_none_or(|before| !before.reads_like(card)) {
            markup.push_str(&part(&card.key, "outerMorph", &card.to_string()));
        }
    }
    if !fresh.is_empty() {
        markup.push_str(&part(place.0, place.1, &fresh));
    }
    if old.count() != new.count() {
        markup.push_str(&part(&format!("{}n", new.key), "textContent", &new.count()));
    }
    if old.more() != new.more() {
        markup.push_str(&part(&format!("{}m", new.key), "textContent", &new.more()));
    }
}

#[cfg(test)]
mod tests {
    use capsule_proto::v1::{Status, TaskView};

    use super::*;
    use crate::web::pages::card::Card;

    fn shown(ids: &[(u64, u64)]) -> Column {
        let card = |(id, seq): &(u64, u64)| {
            let task = TaskView {
                id: *id,
                seq: *seq,
                name: "<b>".to_owned(),
                status: Status::Running.into(),
                ..TaskView::default()
            };
            Card::new(&task, "b0", "mark", 0)
        };
        let cards = ids.iter().map(card).collect();
        Column { key: "b0c0".to_owned(), total: ids.len() as u64, cards, ..Column::default() }
    }

    /// Target and swap of each part, and the cards in it.
    fn parts(old: &[(u64, u64)], new: &[(u64, u64)]) -> Vec<String> {
        let mut markup = String::new();
        column(&shown(old), &shown(new), &mut markup);
        assert!(!markup.contains("<b>"), "{markup}");
        let told = markup.split("<hx-partial hx-target=\"#").skip(1).map(|part| {
            let (target, rest) = part.split_once("\" hx-swap=\"").unwrap();
            let (swap, rest) = rest.split_once("\">").unwrap();
            let cards = rest.split("<li id=\"").skip(1).map(|card| card.split('"').next().unwrap());
            format!("{target} {swap} {}", cards.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
        });
        told.filter(|part| !part.starts_with("b0c0n")).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        assert_eq!(parts(&[(2, 1), (1, 1)], &[(2, 1), (1, 1)]), [""; 0]);
        assert_eq!(parts(&[(2, 1), (1, 1)], &[(2, 5), (1, 1)]), ["b0-2 outerMorph b0-2"]);
        assert_eq!(parts(&[], &[(2, 1), (1, 1)]), ["b0c0 afterbegin b0-2 b0-1"]);
        assert_eq!(parts(&[(2, 1), (1, 1)], &[(1, 1)]), ["b0-2 delete"]);
        let told =
            parts(&[(9, 1), (5, 1), (3, 1)], &[(10, 1), (9, 1), (7, 1), (6, 1), (3, 1), (2, 1)]);
        let wanted = [
            "b0-5 delete",
            "b0c0 afterbegin b0-10",
            "b0-9 afterend b0-7 b0-6",
            "b0-3 afterend b0-2",
        ];
        assert_eq!(told, wanted);
    }
}
