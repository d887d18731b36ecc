//! Every request passes here: who asks, from where, and what a browser may do with the answer.

use axum::extract::{Form, FromRequest as _, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Site;
use super::ask::Refusal;
use super::entrance::{STAY, form_mark, same};
use super::pages::{Door, html};

/// Bytes of a form: a payload of 1 MiB as a form writes it.
pub(crate) const FORM_MAX: usize = 3 << 20;

/// What a browser may do with a page of ours: nothing but what comes from here.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);

/// Who looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Visitor {
    /// What its forms are marked with.
    pub(super) mark: String,
    /// It may change something.
    pub(super) acts: bool,
    /// `light`, `dark` or `system`.
    pub(super) theme: &'static str,
    /// A script of ours asks: it wants no whole page.
    pub(super) scripted: bool,
    secret: String,
}

/// The fields of a form.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// The first field of this name; empty when there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// Lets through what may be answered, and says what the browser may do with the answer.
pub(super) async fn check(State(site): State<Site>, request: Request, next: Next) -> Response {
    let mut response = match admit(&site, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    let all = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // Not `no-referrer`: with that a browser hides from us where a form comes from.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    headers.extend(all);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn admit(site: &Site, mut request: Request) -> Result<Request, Refusal> {
    let headers = request.headers();
    let host = only(headers, &HOST).unwrap_or_default().to_owned();
    if !site.entrance.plan.is_reached_as(&host) {
        let text = format!("this is not {host:?}");
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, text)
            .hint("capsuled run --web-name NAME"));
    }
    let (changes, acts) = (request.method() == Method::POST, !site.entrance.plan.read_only);
    if !comes_from_here(headers, &host, changes) {
        let text = "another site asks for this, not a page of the board";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text));
    }
    let path = request.uri().path();
    if changes && !acts && !["/theme", "/leave"].contains(&path) {
        let text = "this board shows and changes nothing";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text).hint("capsule board"));
    }
    if path.starts_with("/enter/") || path.starts_with("/assets/") {
        return Ok(request);
    }
    let secret = cookie(headers, &site.entrance.cookie).unwrap_or_default().to_owned();
    if !site.entrance.admits(&secret, site.now()) {
        let text = "this browser is not in, or not any more";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, text).hint("capsule web"));
    }
    let theme = match cookie(headers, "capsule-theme") {
        Some("light") => "light",
        Some("dark") => "dark",
        Some(_) | None => "system",
    };
    let scripted = headers.contains_key("hx-request");
    let mark = form_mark(&secret);
    if changes {
        request = with_fields(request, &mark).await?;
    }
    request.extensions_mut().insert(Visitor { mark, acts, theme, scripted, secret });
    Ok(request)
}

/// Reads the form and checks that a page of this browser sent it.
async fn with_fields(request: Request, mark: &str) -> Result<Request, Refusal> {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, FORM_MAX).await else {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large"));
    };
    let copy = Request::from_parts(parts.clone(), body.into());
    let form = Form::<Vec<(String, String)>>::from_request(copy, &()).await;
    let Ok(Form(fields)) = form else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "this is no form"));
    };
    let fields = Fields(fields);
    if !same(fields.get("mark"), mark) {
        let text = "the form is not from a page of this browser; load the page again";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text));
    }
    parts.extensions.insert(fields);
    Ok(Request::from_parts(parts, axum::body::Body::empty()))
}

/// Whether no other site is behind a request. A link from elsewhere may open a page; nothing else
/// from elsewhere is answered, and a change must say that it comes from here.
fn comes_from_here(headers: &HeaderMap, host: &str, changes: bool) -> bool {
    let site = only(headers, &HeaderName::from_static("sec-fetch-site"));
    let origin = only(headers, &ORIGIN);
    let told = headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site");
    let own_origin = origin.is_none_or(|origin| {
        let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        name.is_some_and(|name| name.eq_ignore_ascii_case(host))
    });
    let whole = headers.get_all(ORIGIN).iter().count() <= 1;
    if changes {
        return told && whole && own_origin && site.is_none_or(|site| site == "same-origin");
    }
    let is = |name: &'static str, value: &str| {
        only(headers, &HeaderName::from_static(name)) == Some(value)
    };
    let opens = is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    whole && own_origin && site.is_none_or(|site| site == "same-origin" || site == "none" || opens)
}

/// The value of a header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

/// Takes a link and lets its holder in. What only looks ahead does not use the link up.
pub(super) async fn enter(
    State(site): State<Site>,
    Path(link): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let ahead = headers.contains_key("sec-purpose") || headers.contains_key("purpose");
    let secret =
        if method == Method::GET && !ahead { site.entrance.enter(&link, site.now()) } else { None };
    let Some(secret) = secret else {
        let text = "this link is not good, or not any more; each is good once, for ten minutes";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text).hint("capsule web"));
    };
    // A page that goes on by itself, not a redirect: a strict cookie is not shown to the target of
    // a redirect when the link was on a page of another site.
    let mut response = html(&Door)?;
    let cookie = format!(
        "{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        site.entrance.cookie,
        STAY.0 / 1000
    );
    let cookie = HeaderValue::try_from(cookie).map_err(|_| Refusal::internal())?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Lets this browser out.
pub(super) async fn leave(
    State(site): State<Site>,
    axum::Extension(visitor): axum::Extension<Visitor>,
) -> Response {
    site.entrance.leave(&visitor.secret, site.now());
    Redirect::to("/").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn here(changes: bool, pairs: &[(&'static str, &'static str)]) -> bool {
        comes_from_here(&headers(pairs), "127.0.0.1:7788", changes)
    }

    #[test]
    fn a_change_must_come_from_a_page_of_ours() {
        let own = ("origin", "http://127.0.0.1:7788");
        assert!(here(true, &[own]));
        assert!(here(true, &[own, ("sec-fetch-site", "same-origin")]));
        assert!(here(true, &[("sec-fetch-site", "same-origin")]));
        assert!(!here(true, &[]), "nobody says where it comes from");
        assert!(!here(true, &[own, ("sec-fetch-site", "same-site")]));
        assert!(!here(true, &[own, ("sec-fetch-site", "none")]));
        assert!(!here(true, &[own, own]));
        for other in [
            "null",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "http://evil.example",
            "file://127.0.0.1:7788",
            "http://127.0.0.1:7788.evil.example",
        ] {
            assert!(!here(true, &[("origin", other)]), "{other}");
        }
    }

    #[test]
    fn another_site_may_link_to_a_page_and_no_more() {
        let cross = ("sec-fetch-site", "cross-site");
        let (navigate, document) = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"));
        assert!(here(false, &[]));
        assert!(here(false, &[("sec-fetch-site", "none"), navigate, document]));
        assert!(here(false, &[cross, navigate, document]));
        assert!(!here(false, &[cross]));
        assert!(!here(false, &[cross, navigate, ("sec-fetch-dest", "iframe")]));
        assert!(!here(false, &[cross, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]));
        assert!(!here(false, &[("origin", "http://evil.example")]));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let headers = headers(&[("cookie", "a=1; capsule-xy=secret"), ("cookie", "b=2")]);
        assert_eq!(cookie(&headers, "capsule-xy"), Some("secret"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "capsule-x"), None);
    }
}
