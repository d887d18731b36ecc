//! A form made of a task's definition; what it sends is checked by the daemon as any submit is.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use capsule_core::time::Span;
use capsule_proto::v1::submit_request::Work;
use capsule_proto::v1::{Call, Definition, Options, Param, Parameter, SubmitRequest};

use super::apps::{Task, task};
use super::{Page, html};
use crate::web::Site;
use crate::web::ask::Refusal;
use crate::web::guard::{Fields, Visitor};
use crate::web::words;

/// Which task.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    #[serde(default)]
    app: String,
    #[serde(default)]
    task: String,
}

#[derive(Debug, Template)]
#[template(path = "choose.html")]
struct Choose {
    page: Page,
    tasks: Vec<Task>,
}

#[derive(Debug, Template)]
#[template(path = "submit.html")]
struct Form {
    page: Page,
    app: String,
    task: String,
    help: String,
    fields: Vec<Field>,
    more: bool,
    payload: String,
    priority: String,
    delay: String,
    error: String,
}

/// A parameter in the form.
#[derive(Clone, Debug)]
struct Field {
    /// In the form: `p.` and the parameter's name.
    key: String,
    name: String,
    kind: String,
    help: String,
    required: bool,
    default: String,
    choices: Vec<String>,
    value: String,
}

impl Field {
    fn of(param: &Parameter, given: &Fields) -> Self {
        let key = format!("p.{}", param.name);
        let truth = ["true", "false"].map(str::to_owned).to_vec();
        Self {
            name: words::line(&param.name),
            kind: param.r#type.clone(),
            help: words::line(&param.help),
            required: param.required,
            default: words::line(param.default_json.as_deref().unwrap_or_default()),
            choices: if param.r#type == "bool" { truth } else { param.choices.clone() },
            value: given.get(&key).to_owned(),
            key,
        }
    }

    /// Whether it takes several lines.
    fn is_long(&self) -> bool {
        matches!(self.kind.as_str(), "list" | "json")
    }

    /// What browsers call such a field.
    fn input(&self) -> &'static str {
        if matches!(self.kind.as_str(), "int" | "float") { "number" } else { "text" }
    }

    /// What is said beside it.
    fn hint(&self) -> String {
        let default = match (self.required, self.default.as_str()) {
            (true, _) => "required".to_owned(),
            (false, "") => String::new(),
            (false, default) => format!("default {default}"),
        };
        let parts = [self.kind.as_str(), default.as_str(), self.help.as_str()];
        let told: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        told.join(" · ")
    }
}

/// Shows what can be submitted, or the form of one task.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    if asked.task.is_empty() {
        let page = Page::new(&site, &visitor, "submit", "Submit a task").await?;
        let tasks = site.definitions(&asked.app, "").await?.iter().map(task).collect();
        return html(&Choose { page, tasks });
    }
    let form = form(&site, &visitor, &asked, &Fields::default()).await?;
    html(&form)
}

async fn form(
    site: &Site,
    visitor: &Visitor,
    asked: &Asked,
    given: &Fields,
) -> Result<Form, Refusal> {
    let definition = definition(site, asked).await?;
    let title = format!("Submit {}", words::line(&definition.name));
    let page = Page::new(site, visitor, "submit", title).await?;
    Ok(Form {
        page,
        help: words::block(&definition.help).into_owned(),
        fields: definition.params.iter().map(|param| Field::of(param, given)).collect(),
        more: definition.more_params,
        payload: given.get("payload").to_owned(),
        priority: given.get("priority").to_owned(),
        delay: given.get("delay").to_owned(),
        error: String::new(),
        app: definition.app,
        task: definition.name,
    })
}

async fn definition(site: &Site, asked: &Asked) -> Result<Definition, Refusal> {
    let found = site.definitions(&asked.app, &asked.task).await?.into_iter().next();
    found.ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "there is no such task").hint("capsule tasks")
    })
}

/// Submits; a form that is refused is shown again with what was typed and why.
pub(in crate::web) async fn submit(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Extension(given): Extension<Fields>,
) -> Result<Response, Refusal> {
    let (app, task) = (given.get("app").to_owned(), given.get("task").to_owned());
    let asked = Asked { app, task };
    let submitted = match request(&asked, &given) {
        Ok(request) => site.submit(request).await,
        Err(refusal) => Err(refusal),
    };
    match submitted {
        Ok(reply) => {
            let id = reply.task.unwrap_or_default().id;
            Ok(Redirect::to(&format!("/tasks/{id}")).into_response())
        }
        Err(refusal) => {
            let mut form = form(&site, &visitor, &asked, &given).await?;
            refusal.text().clone_into(&mut form.error);
            let mut response = html(&form)?;
            *response.status_mut() = refusal.code();
            Ok(response)
        }
    }
}

/// What a form asks for. A field that was left empty was not given.
fn request(asked: &Asked, given: &Fields) -> Result<SubmitRequest, Refusal> {
    let named = given.0.iter().filter_map(|(key, value)| Some((key.strip_prefix("p.")?, value)));
    let params = named.filter(|(_, value)| !value.is_empty()).map(|(name, value)| Param {
        name: name.to_owned(),
        value: value.clone(),
        json: false,
    });
    let call = Call {
        app: asked.app.clone(),
        task: asked.task.clone(),
        params: params.collect(),
        payload_json: given.get("payload").trim().to_owned(),
        ..Call::default()
    };
    let priority = Some(given.get("priority").trim()).filter(|text| !text.is_empty());
    let priority = priority.map(str::parse).transpose();
    let priority =
        priority.map_err(|_| Refusal::of_a_form("priority is a number from -100 to 100"))?;
    let delay = Some(given.get("delay").trim()).filter(|text| !text.is_empty());
    let delay = delay.map(Span::parse).transpose();
    let delay =
        delay.map_err(|_| Refusal::of_a_form("the delay is a time such as 10m or 1h30m"))?;
    let delay_ms = delay.map(|span| span.0);
    let options = Options { priority, delay_ms, ..Options::default() };
    Ok(SubmitRequest {
        work: Some(Work::Call(call)),
        options: Some(options),
        ..SubmitRequest::default()
    })
}
