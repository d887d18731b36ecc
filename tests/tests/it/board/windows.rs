//! The watch of windows, which boards live on.

use std::time::{Duration, Instant};

use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{
    Columns, Filter, Options, Status, SubmitBatchRequest, TaskView, WatchEvent, WatchRequest,
    Window,
};
use capsule_tests::{Home, rpc};
use tonic::Streaming;

/// Submits so many tasks in batches.
pub(super) fn submit(home: &Home, count: u64, options: impl Fn() -> Options) {
    runtime().block_on(send(home, count, options));
}

async fn send(home: &Home, count: u64, options: impl Fn() -> Options) {
    let mut client = rpc::connect(&home.socket()).await.unwrap();
    let mut left = count;
    while left > 0 {
        let now = left.min(1000);
        let submits = (0..now).map(|_| rpc::script("exit 0", options())).collect();
        client.submit_batch(SubmitBatchRequest { submits }).await.unwrap();
        left -= now;
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn window(statuses: &[Status], skip: u64, limit: u32) -> Window {
    Window { statuses: statuses.iter().map(|it| i32::from(*it)).collect(), skip, limit }
}

/// The next picture: the views that came with it, and the columns.
async fn picture(stream: &mut Streaming<WatchEvent>) -> (Vec<TaskView>, Columns) {
    let mut views = Vec::new();
    let all = async {
        loop {
            match stream.message().await.unwrap().unwrap().event {
                Some(Event::Task(view)) => views.push(view),
                Some(Event::Columns(columns)) => return columns,
                other => panic!("{other:?}"),
            }
        }
    };
    let columns = tokio::time::timeout(Duration::from_secs(40), all).await.unwrap();
    (views, columns)
}

#[test]
fn a_picture_has_what_is_in_the_windows_and_no_more() {
    let home = Home::new();
    let _daemon = home.start();
    submit(&home, 300, || Options { hold: true, ..Options::default() });
    runtime().block_on(async {
        let mut client = rpc::connect(&home.socket()).await.unwrap();
        let windows = vec![
            window(&[Status::Pending], 100, 20),
            window(&[Status::Running, Status::Claimed], 0, 20),
            window(&[Status::Completed], 0, 20),
        ];
        let request = WatchRequest { windows, ..WatchRequest::default() };
        let mut stream = client.watch(request).await.unwrap().into_inner();
        let (views, columns) = picture(&mut stream).await;
        assert_eq!(views.len(), 20);
        let [pending, _, completed] = &columns.columns[..] else { panic!("{columns:?}") };
        assert_eq!((pending.total, pending.skip), (300, 100));
        assert_eq!(pending.ids, (181..=200).rev().collect::<Vec<u64>>());
        assert_eq!(completed.total, 0);
        send(&home, 1, Options::default).await;
        loop {
            let (views, columns) = picture(&mut stream).await;
            assert!(views.iter().all(|view| view.id > 180), "{views:?}");
            if columns.columns[2].total == 1 {
                assert_eq!(columns.columns[2].ids, [301]);
                break;
            }
        }
        let filter = Filter { text: "no such text".to_owned(), ..Filter::default() };
        let windows = vec![window(&[], 0, 20)];
        let request = WatchRequest { filter: Some(filter), windows, ..WatchRequest::default() };
        let mut stream = client.watch(request).await.unwrap().into_inner();
        assert_eq!(picture(&mut stream).await.1.columns[0].total, 0);
    });
}

/// A burst costs few pictures, and the last one has all of it.
#[test]
fn many_changes_are_few_pictures() {
    let home = Home::new();
    let _daemon = home.start();
    runtime().block_on(async {
        let mut client = rpc::connect(&home.socket()).await.unwrap();
        let request = WatchRequest {
            windows: vec![window(&[Status::Completed], 0, 10)],
            ..WatchRequest::default()
        };
        let mut stream = client.watch(request).await.unwrap().into_inner();
        assert_eq!(picture(&mut stream).await.1.columns[0].total, 0);
        let began = Instant::now();
        let reading = async {
            let mut pictures = 0;
            loop {
                let (views, columns) = picture(&mut stream).await;
                pictures += 1;
                assert!(views.len() <= 10);
                if columns.columns[0].total == 200 {
                    return pictures;
                }
            }
        };
        let ((), pictures) = tokio::join!(send(&home, 200, Options::default), reading);
        let most = began.elapsed().as_millis() / 20 + 2;
        assert!(pictures <= most, "{pictures} pictures in {:?}", began.elapsed());
    });
}
