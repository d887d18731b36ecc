//! What a board is like: the default one, or one that an app has declared.

use capsule_proto::v1::{Filter, PageView, PagesReply, Status};

/// A board: its title, its filter and its columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sheet {
    /// Name and icon of the page it stands on; empty = none.
    pub(crate) page: String,
    pub(crate) icon: String,
    pub(crate) title: String,
    pub(crate) filter: Filter,
    pub(crate) columns: Vec<Shape>,
    /// What the app filters by and nothing here has.
    pub(crate) ignored: Vec<String>,
}

/// What a column is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) label: String,
    pub(crate) statuses: Vec<Status>,
}

impl Sheet {
    /// All tasks, in columns by where they stand.
    pub(crate) fn all() -> Self {
        let column = |label: &str, statuses: &[Status]| Shape {
            label: label.to_owned(),
            statuses: statuses.to_vec(),
        };
        Self {
            title: "All tasks".to_owned(),
            columns: vec![
                column("WAITING", &[Status::Scheduled, Status::Retry]),
                column("PENDING", &[Status::Pending]),
                column("RUNNING", &[Status::Claimed, Status::Running]),
                column("COMPLETED", &[Status::Completed]),
                column("FAILED", &[Status::Failed, Status::Timeout, Status::Cancelled]),
            ],
            ..Self::default()
        }
    }

    /// The boards on an app's pages, in the order of the pages and from the top of each to its end.
    pub(crate) fn of_pages(reply: &PagesReply) -> Vec<Self> {
        reply.pages.iter().flat_map(|page| Self::of_page(reply, page)).collect()
    }

    fn of_page<'a>(
        reply: &'a PagesReply,
        page: &'a PageView,
    ) -> impl Iterator<Item = Self> + use<'a> {
        page.widgets.iter().filter_map(|widget| {
            let board = widget.board.as_ref()?;
            let names = [&board.task_name].into_iter().filter(|name| !name.is_empty());
            let columns = board.columns.iter().map(|column| Shape {
                label: column.label.clone(),
                statuses: column
                    .statuses
                    .iter()
                    .filter_map(|it| Status::try_from(*it).ok())
                    .collect(),
            });
            Some(Self {
                page: page.name.clone(),
                icon: page.icon.clone(),
                title: widget.title.clone(),
                filter: Filter {
                    app: reply.app.clone(),
                    names: names.cloned().collect(),
                    except_names: reply.ticks.clone(),
                    statuses: board.statuses.clone(),
                    ..Filter::default()
                },
                columns: columns.collect(),
                ignored: board.ignored.clone(),
            })
        })
    }

    /// The column to look at first: where something runs.
    pub(crate) fn first_focus(&self) -> usize {
        let runs = |shape: &Shape| shape.statuses.contains(&Status::Running);
        self.columns.iter().position(runs).unwrap_or_default()
    }
}
