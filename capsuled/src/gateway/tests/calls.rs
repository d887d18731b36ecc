//! Unary calls, as our own host makes them.

use capsule_core::task::Status as TaskStatus;
use capsule_proto::sdk;
use serde_json::json;
use tonic::Code;

use super::*;

fn submit(task: &str, kwargs: &serde_json::Value) -> sdk::SubmitTaskRequest {
    sdk::SubmitTaskRequest {
        app_id: "leads".to_owned(),
        task_name: task.to_owned(),
        kwargs_json: kwargs.to_string().into_bytes(),
        ..Default::default()
    }
}

async fn submitted(bench: &Bench, request: &sdk::SubmitTaskRequest) -> String {
    let reply: sdk::SubmitTaskResponse =
        bench.call("TaskService/SubmitTask", request).await.unwrap();
    assert!(reply.ok);
    reply.task_id
}

#[tokio::test]
async fn a_submit_is_a_task_of_its_definition() {
    let bench = Bench::new().await;
    let request = sdk::SubmitTaskRequest {
        session_id: "s1".to_owned(),
        user_id: "bob".to_owned(),
        display_name: "Leads of acme".to_owned(),
        timeout: 60,
        ..submit("sync_leads", &json!({"owner_id": "acme"}))
    };
    let id = submitted(&bench, &request).await;
    let task = bench.gateway.engine().task(id.parse().unwrap()).unwrap().unwrap();
    assert_eq!((task.spec.owner.as_str(), task.spec.retries), ("bob", 2));
    assert_eq!(task.spec.timeout.map(|span| span.0), Some(60_000));
    assert_eq!(task.status(), TaskStatus::Pending);
    let asked = sdk::GetTaskRequest { task_id: id.clone(), ..Default::default() };
    let reply: sdk::GetTaskResponse = bench.call("TaskService/GetTask", &asked).await.unwrap();
    let record = reply.task.unwrap();
    assert_eq!(record.task_id, id);
    assert_eq!(record.status(), sdk::TaskStatus::Pending);
    assert_eq!((record.session_id.as_str(), record.max_retries, record.timeout), ("s1", 2, 60));
    assert_eq!(record.kwargs_json, br#"{"owner_id":"acme"}"#);
    assert!(record.created_at.ends_with('Z'), "{}", record.created_at);
    assert_eq!(record.started_at, "");
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_a_code_that_raises_in_the_app() {
    let bench = Bench::new().await;
    for (task, kwargs, code) in [
        ("sync_leads", json!({"owner": "acme"}), Code::InvalidArgument),
        ("sync_leads", json!({}), Code::InvalidArgument),
        ("nothing", json!({}), Code::NotFound),
    ] {
        let refused = bench
            .call::<sdk::SubmitTaskResponse>("TaskService/SubmitTask", &submit(task, &kwargs))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let other = sdk::SubmitTaskRequest {
        app_id: "other".to_owned(),
        ..submit("sync_leads", &json!({"owner_id": "acme"}))
    };
    let refused = bench.call::<sdk::SubmitTaskResponse>("TaskService/SubmitTask", &other).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let unknown = sdk::GetTaskRequest { task_id: "77".to_owned(), ..Default::default() };
    let refused = bench.call::<sdk::GetTaskResponse>("TaskService/GetTask", &unknown).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    for method in ["TaskService/Nothing", "CapsuleService/Deploy", "nonsense"] {
        let refused = bench.call::<sdk::GetTaskResponse>(method, &unknown).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_duplicate_under_a_lock_is_the_task_that_stands() {
    let bench = Bench::new().await;
    let request = sdk::SubmitTaskRequest {
        // What the client made of the template is not what counts.
        lock_key: "owner:somebody".to_owned(),
        ..submit("rebuild_index", &json!({"owner_id": "acme"}))
    };
    let first = submitted(&bench, &request).await;
    assert_eq!(submitted(&bench, &request).await, first);
    let other = submit("rebuild_index", &json!({"owner_id": "bolt"}));
    assert_ne!(submitted(&bench, &other).await, first);
    // The attempt that holds the lock submits its own successor.
    let holder = Caller { task: Some((first.parse().unwrap(), AttemptNumber(1))), ..caller() };
    let reply: sdk::SubmitTaskResponse =
        bench.call_as(&holder, "TaskService/SubmitTask", &request).await.unwrap();
    assert_ne!(reply.task_id, first);
}

#[tokio::test]
async fn tasks_are_found_counted_and_cancelled_by_name_status_session_and_arguments() {
    let bench = Bench::new().await;
    for (owner, session) in [("acme", "s1"), ("bolt", "s1"), ("acme", "s2")] {
        let request = sdk::SubmitTaskRequest {
            session_id: session.to_owned(),
            ..submit("sync_leads", &json!({"owner_id": owner}))
        };
        submitted(&bench, &request).await;
    }
    let later = sdk::SubmitTaskRequest {
        scheduled_at: "2099-11-22T14:29:07.010502+00:00".to_owned(),
        ..submit("rebuild_index", &json!({"owner_id": "acme"}))
    };
    submitted(&bench, &later).await;
    let find = async |request: sdk::FindTasksRequest| {
        let reply: sdk::FindTasksResponse =
            bench.call("TaskService/FindTasks", &request).await.unwrap();
        reply.tasks.into_iter().map(|task| task.task_id).collect::<Vec<_>>()
    };
    let all = sdk::FindTasksRequest { kwargs_filter_json: b"{}".to_vec(), ..Default::default() };
    assert_eq!(find(all.clone()).await, ["4", "3", "2", "1"]);
    assert_eq!(
        find(sdk::FindTasksRequest { limit: 2, offset: 1, ..all.clone() }).await,
        ["3", "2"]
    );
    let acme = sdk::FindTasksRequest {
        task_name: "sync_leads".to_owned(),
        kwargs_filter_json: br#"{"owner_id":"acme"}"#.to_vec(),
        ..all.clone()
    };
    assert_eq!(find(acme.clone()).await, ["3", "1"]);
    assert_eq!(find(sdk::FindTasksRequest { session_id: "s1".to_owned(), ..acme }).await, ["1"]);
    let scheduled = sdk::FindTasksRequest { status: sdk::TaskStatus::Scheduled.into(), ..all };
    assert_eq!(find(scheduled).await, ["4"]);
    let count =
        sdk::CountTasksRequest { status: sdk::TaskStatus::Pending.into(), ..Default::default() };
    let reply: sdk::CountTasksResponse =
        bench.call("TaskService/CountTasks", &count).await.unwrap();
    assert_eq!(reply.count, 3);
    let cancel = async |request: sdk::CancelTasksRequest| {
        let reply: sdk::CancelTasksResponse =
            bench.call("TaskService/CancelTasks", &request).await.unwrap();
        reply.cancelled
    };
    let one = sdk::CancelTasksRequest { task_id: "4".to_owned(), ..Default::default() };
    assert_eq!(cancel(one.clone()).await, 1);
    assert_eq!(cancel(one).await, 0, "it has ended");
    let gone = sdk::CancelTasksRequest { task_id: "99".to_owned(), ..Default::default() };
    assert_eq!(cancel(gone).await, 0);
    assert_eq!(cancel(sdk::CancelTasksRequest::default()).await, 3);
}

#[tokio::test]
async fn only_a_running_task_gets_its_timeout_anew() {
    let bench = Bench::new().await;
    let id = submitted(&bench, &submit("sync_leads", &json!({"owner_id": "acme"}))).await;
    let request = sdk::RefreshTaskTimeoutRequest { task_id: id, ..Default::default() };
    let refused =
        bench.call::<sdk::RefreshTaskTimeoutResponse>("TaskService/RefreshTaskTimeout", &request);
    assert_eq!(refused.await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn documents_of_serve_are_apart_and_secrets_are_files() {
    let bench = Bench::new().await;
    let insert = sdk::InsertOneRequest {
        app_id: "leads".to_owned(),
        collection: "things".to_owned(),
        document_json: br#"{"n":1}"#.to_vec(),
    };
    let reply: sdk::InsertOneResponse = bench.call("DataService/InsertOne", &insert).await.unwrap();
    assert_eq!(reply.id.len(), 24);
    let find = |app: &str| sdk::FindOneRequest {
        app_id: app.to_owned(),
        collection: "things".to_owned(),
        filter_json: Vec::new(),
    };
    let found: sdk::FindOneResponse =
        bench.call("DataService/FindOne", &find("leads")).await.unwrap();
    assert!(!found.document_json.is_empty());
    let found: sdk::FindOneResponse =
        bench.call("DataService/FindOne", &find("leads_dev")).await.unwrap();
    assert!(found.document_json.is_empty());
    let refused = bench.call::<sdk::FindOneResponse>("DataService/FindOne", &find("other")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    std::fs::create_dir(bench.dir.path().join("secrets")).unwrap();
    std::fs::write(bench.dir.path().join("secrets/API_KEY"), "hush").unwrap();
    let get = |name: &str| sdk::GetSecretRequest { name: name.to_owned() };
    let reply: sdk::GetSecretResponse =
        bench.call("SecretService/GetSecret", &get("API_KEY")).await.unwrap();
    assert_eq!((reply.ok, reply.value.as_str()), (true, "hush"));
    for name in ["OTHER", "../appdata.redb", "", "a/b"] {
        let reply: sdk::GetSecretResponse =
            bench.call("SecretService/GetSecret", &get(name)).await.unwrap();
        assert!(!reply.ok && !reply.err_msg.is_empty(), "{name}");
    }
}
