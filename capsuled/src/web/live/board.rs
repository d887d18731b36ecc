//! Cards that appear, change, move and go.

use std::collections::HashSet;

use askama::Template as _;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::sync::watch;
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
    let around = site.api.engine.feed().around();
    let plans = board::plans(&site, &asked).await?;
    let seen = seen(&headers).and_then(|id| id.parse().ok()).or(asked.seen);
    let (page, response) = Page::open();
    let live = Live { site, visitor, asked, plans, pictures: Vec::new(), page, around };
    tokio::spawn(async move {
        let ending = live.site.api.ending.clone();
        ending.run_until_cancelled(live.run(seen)).await;
    });
    Ok(response)
}

type Streams = StreamMap<usize, WatchStream>;

struct Live {
    site: Site,
    visitor: Visitor,
    asked: Asked,
    plans: Vec<Plan>,
    pictures: Vec<Picture>,
    page: Page,
    around: watch::Receiver<u64>,
}

/// What a board waits for.
enum News {
    /// A picture is whole again.
    Picture,
    /// An app or a queue has changed.
    Around,
}

impl Live {
    /// Tells what changes until the page is gone; the watch says when, and not too often.
    async fn run(mut self, seen: Option<u64>) -> Result<(), Gone> {
        let mut streams = self.open().await?;
        let mut boards = self.draw();
        let now = board::seen(&self.pictures);
        if seen != Some(now) {
            self.page.say(now.to_string(), &all(&boards)).await?;
        }
        let mut summary = Instant::now();
        loop {
            if let News::Around = self.next(&mut streams).await? {
                if let Some(opened) = self.reshape().await? {
                    streams = opened;
                    boards = self.draw();
                }
                continue;
            }
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

    /// Opens a watch for each board and waits for their first pictures.
    async fn open(&mut self) -> Result<Streams, Gone> {
        let mut streams = StreamMap::new();
        for (at, plan) in self.plans.iter().enumerate() {
            streams.insert(at, self.site.watch(plan.watch()).await.map_err(|_| Gone)?);
        }
        self.pictures = vec![Picture::default(); self.plans.len()];
        let mut whole = HashSet::new();
        while whole.len() < self.plans.len() {
            // A change around comes again: it stays unseen until then.
            whole.insert(self.picture(&mut streams).await?);
        }
        Ok(streams)
    }

    /// Waits for the next thing to tell.
    async fn next(&mut self, streams: &mut Streams) -> Result<News, Gone> {
        let mut around = self.around.clone();
        let changed = async move { around.changed().await };
        tokio::select! {
            at = self.picture(streams) => at.map(|_| News::Picture),
            _ = changed => {
                self.around.mark_unchanged();
                Ok(News::Around)
            }
        }
    }

    /// Waits until a picture is whole again, and says which.
    async fn picture(&mut self, streams: &mut Streams) -> Result<usize, Gone> {
        loop {
            let told = async {
                if streams.is_empty() { std::future::pending().await } else { streams.next().await }
            };
            let (at, told) = tokio::select! {
                told = told => told.ok_or(Gone)?,
                () = self.page.gone() => return Err(Gone),
            };
            let told = told.map_err(|_| Gone)?;
            if self.pictures.get_mut(at).is_some_and(|picture| picture.take(told)) {
                return Ok(at);
            }
        }
    }

    /// Where an app has other boards than before, tells the page anew and watches for those.
    async fn reshape(&mut self) -> Result<Option<Streams>, Gone> {
        let around = board::around(&self.site, &self.visitor, &self.asked).await;
        let places = around.ok().and_then(|page| page.nav().render().ok()).unwrap_or_default();
        let mut markup = part("places", "innerMorph", &places);
        let (plans, why) = match board::plans(&self.site, &self.asked).await {
            Ok(plans) => (plans, None),
            // The page that is shown is no more.
            Err(refusal) => (Vec::new(), Some(refusal.text().to_owned())),
        };
        let streams = if plans == self.plans {
            None
        } else {
            self.plans = plans;
            let streams = self.open().await?;
            match why {
                Some(why) => {
                    let why = board::Lost { why: &why }.render().unwrap_or_default();
                    markup.push_str(&part("boards", "innerMorph", &why));
                }
                None => markup.push_str(&all(&self.draw())),
            }
            Some(streams)
        };
        self.page.say(board::seen(&self.pictures).to_string(), &markup).await?;
        Ok(streams)
    }

    fn draw(&self) -> Vec<Board> {
        board::draw(&self.plans, &self.pictures, &self.visitor, self.site.now().0)
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
            Card::new(&task, "b0", &Visitor::default(), 0)
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
