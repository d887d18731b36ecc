//! Pages: each asks, makes rows of what it is told, and fills a template.

pub(super) mod apps;
pub(super) mod board;
pub(super) mod card;
pub(super) mod list;
pub(super) mod queues;
pub(super) mod schedules;
pub(super) mod submit;
pub(super) mod task;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};

use super::Site;
use super::ask::Refusal;
use super::entrance::hex;
use super::guard::Visitor;

/// Places besides boards: key, name, address.
const PLACES: [(&str, &str, &str); 6] = [
    ("tasks", "Tasks", "/tasks"),
    ("schedules", "Schedules", "/schedules"),
    ("queues", "Queues", "/queues"),
    ("locks", "Locks", "/locks"),
    ("apps", "Apps", "/apps"),
    ("submit", "Submit", "/submit"),
];

/// Fills a template.
pub(super) fn html(template: &impl Template) -> Result<Response, Refusal> {
    let text = template.render().map_err(|_| Refusal::internal())?;
    Ok(Html(text).into_response())
}

/// What every page has around what it shows.
#[derive(Clone, Debug)]
pub(super) struct Page {
    title: String,
    /// Which of the places it is.
    here: &'static str,
    theme: &'static str,
    /// What its forms are marked with.
    mark: String,
    /// Pages of apps.
    boards: Vec<Place>,
    /// All other places: key, name, address.
    places: &'static [(&'static str, &'static str, &'static str)],
    /// It may change something.
    acts: bool,
    /// Where its changes come from; empty = it does not change.
    live: String,
}

/// A page of an app.
#[derive(Clone, Debug)]
pub(super) struct Place {
    name: String,
    href: String,
    current: bool,
}

impl Page {
    /// What is around a page, the same for all.
    pub(super) async fn new(
        site: &Site,
        visitor: &Visitor,
        here: &'static str,
        title: impl Into<String>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            title: title.into(),
            here,
            theme: visitor.theme,
            mark: visitor.mark.clone(),
            boards: boards(site).await?,
            places: if visitor.acts { &PLACES } else { PLACES.split_at(PLACES.len() - 1).0 },
            acts: visitor.acts,
            live: String::new(),
        })
    }

    /// The list of places.
    pub(super) fn nav(&self) -> Nav<'_> {
        Nav { page: self }
    }

    /// Lets the page show how what is in its part `shown` changes: `shown` is that as it is now.
    pub(super) fn follow(&mut self, place: &[(&str, &str)], shown: &str, now: i64) {
        let (seen, now) = (digest(shown), now.to_string());
        let mut pairs = place.to_vec();
        pairs.extend([("now", now.as_str()), ("seen", seen.as_str())]);
        self.live = format!("/live/place?{}", address(&pairs));
    }

    /// A page of an app is shown.
    fn within(&self) -> bool {
        self.boards.iter().any(|place| place.current)
    }

    fn themes(&self) -> [(&'static str, bool); 3] {
        ["system", "light", "dark"].map(|theme| (theme, theme == self.theme))
    }
}

/// The pages of all apps in their order.
async fn boards(site: &Site) -> Result<Vec<Place>, Refusal> {
    let mut places = Vec::new();
    for app in site.apps().await? {
        for page in site.pages(&app.name).await?.pages {
            let icon = super::words::line(&page.icon);
            let name = super::words::line(&page.name);
            let named = if icon.chars().count() <= 2 { format!("{icon} {name}") } else { name };
            let href = format!("/?{}", address(&[("app", &app.name), ("page", &page.name)]));
            places.push(Place { name: named.trim().to_owned(), href, current: false });
        }
    }
    Ok(places)
}

/// Names and values as the part of an address behind `?`; those without a value are left out.
pub(super) fn address(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push('%');
                text.push_str(&hex(&[byte]).to_ascii_uppercase());
            }
        }
    }
    text
}

/// The list of places that a page can be left for.
#[derive(Debug, Template)]
#[template(path = "nav.html")]
pub(super) struct Nav<'a> {
    page: &'a Page,
}

/// Tells markup from other markup.
pub(super) fn digest(markup: &str) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    markup.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Fills the template of a part of a page.
fn part(template: &impl Template) -> Result<String, Refusal> {
    template.render().map_err(|_| Refusal::internal())
}

/// A page of which all changes that it shows.
#[derive(Debug, Template)]
#[template(path = "shown.html")]
struct Shown {
    page: Page,
    shown: String,
}

/// A page that lets in.
#[derive(Debug, Template)]
#[template(path = "door.html")]
pub(super) struct Door;

/// A page that says why there is none.
#[derive(Debug, Template)]
#[template(path = "refused.html")]
pub(super) struct Refused<'a> {
    pub(super) title: &'a str,
    pub(super) text: &'a str,
    pub(super) hint: &'a str,
}

/// There is no such page.
pub(super) async fn missing() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such page")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_what_is_typed_apart() {
        let pairs = [("app", "a&b=c"), ("page", ""), ("q", "ü \"x\" +")];
        assert_eq!(address(&pairs), "app=a%26b%3Dc&q=%C3%BC%20%22x%22%20%2B");
    }
}
