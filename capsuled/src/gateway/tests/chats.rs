//! A person speaks, the app answers.

use capsule_proto::sdk;
use serde_json::json;
use tonic::Code;

use super::*;

fn opening() -> Opening {
    Opening {
        app: "leads".to_owned(),
        user: "ann".to_owned(),
        org: "acme".to_owned(),
        ..Opening::default()
    }
}

fn said(request: &str, session: &str) -> sdk::SubmitResultRequest {
    sdk::SubmitResultRequest {
        request_id: request.to_owned(),
        session_id: session.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_turn_streams_shows_a_card_ends_and_is_kept() {
    let bench = Bench::new().await;
    let (messages, mut inbox) = mpsc::unbounded_channel();
    let attached = bench.gateway.attach("leads", 1, messages);
    let mut chat = bench.gateway.open_chat(opening()).await.unwrap();
    let request = bench.gateway.say("leads", &chat.id, "sync").await.unwrap();
    let message = sdk::InboundMessage::decode(inbox.recv().await.unwrap().as_slice()).unwrap();
    assert_eq!((message.request_id.as_str(), message.text.as_str()), (request.as_str(), "sync"));
    assert_eq!((message.user_id.as_str(), message.owner_id.as_str()), ("ann", "org:acme"));
    let method = "RunnerService/SubmitResult";
    for (text, done) in [("on ", false), ("it", false), ("", true)] {
        let part = sdk::SubmitResultRequest {
            text: text.to_owned(),
            done,
            // The session may be missing where the request says it.
            ..said(&request, "")
        };
        if done {
            let block = json!({"id": "b1", "type": "task_card",
                "payload": {"task_id": "7", "message": "Lead sync started"}});
            let card = sdk::SubmitResultRequest {
                done: true,
                block_json: block.to_string(),
                ..said("another", &chat.id)
            };
            let _: sdk::SubmitResultResponse = bench.call(method, &card).await.unwrap();
        }
        let reply: sdk::SubmitResultResponse = bench.call(method, &part).await.unwrap();
        assert!(reply.ok);
    }
    let text = |text: &str| ChatEvent::Text { request: request.clone(), text: text.to_owned() };
    let card = ChatEvent::Card { task: "7".to_owned(), message: "Lead sync started".to_owned() };
    let ended = ChatEvent::TurnEnded { request: request.clone(), error: None };
    for wanted in [text("on "), text("it"), card, ended] {
        assert_eq!(chat.events.recv().await.unwrap(), wanted);
    }
    let asked = sdk::GetSessionRequest { session_id: chat.id.clone(), history_count: 50 };
    let session: sdk::GetSessionResponse =
        bench.call("SessionService/GetSession", &asked).await.unwrap();
    let history: Vec<(&str, &str)> =
        session.history.iter().map(|e| (e.sender.as_str(), e.text.as_str())).collect();
    assert_eq!(history.first(), Some(&("user", "sync")));
    assert_eq!(history.last(), Some(&("app", "on it")));
    assert_eq!(history[1].0, "block");
    assert_eq!((session.user_id.as_str(), session.org_id.as_str()), ("ann", "acme"));
    drop(attached);
}

#[tokio::test]
async fn a_turn_ends_with_its_runner_and_a_session_goes_on_with_another() {
    let bench = Bench::new().await;
    let (messages, mut inbox) = mpsc::unbounded_channel();
    let attached = bench.gateway.attach("leads", 1, messages);
    let mut chat = bench.gateway.open_chat(opening()).await.unwrap();
    let first = bench.gateway.say("leads", &chat.id, "one").await.unwrap();
    assert!(inbox.recv().await.is_some());
    drop(attached);
    let event = chat.events.recv().await.unwrap();
    let ChatEvent::TurnEnded { request, error: Some(_) } = event else { panic!("{event:?}") };
    assert_eq!(request, first);
    // A message waits for the next runner.
    let gateway = bench.gateway.clone();
    let id = chat.id.clone();
    let second = tokio::spawn(async move { gateway.say("leads", &id, "two").await });
    let (messages, mut inbox) = mpsc::unbounded_channel();
    let _attached = bench.gateway.attach("leads", 2, messages);
    let message = sdk::InboundMessage::decode(inbox.recv().await.unwrap().as_slice()).unwrap();
    assert_eq!(message.text, "two");
    let second = second.await.unwrap().unwrap();
    bench.gateway.turn_ended(&second, Some("ValueError: no".to_owned()));
    let error = Some("ValueError: no".to_owned());
    let ended = ChatEvent::TurnEnded { request: second, error };
    assert_eq!(chat.events.recv().await.unwrap(), ended);
    let again = Opening { session: "last".to_owned(), history: 10, ..opening() };
    let again = bench.gateway.open_chat(again).await.unwrap();
    assert_eq!(again.id, chat.id);
    assert_eq!(again.history.len(), 2);
    let unknown = Opening { session: "nothing".to_owned(), ..opening() };
    assert!(matches!(bench.gateway.open_chat(unknown).await, Err(ChatError::NoSession(_))));
}

#[tokio::test]
async fn a_task_speaks_in_its_session() {
    let bench = Bench::new().await;
    let mut chat = bench.gateway.open_chat(opening()).await.unwrap();
    let method = "SessionService/NotifySession";
    let notify = sdk::NotifySessionRequest {
        app_id: "leads".to_owned(),
        session_id: chat.id.clone(),
        request_id: "r".to_owned(),
        block_json: json!({"id": "n", "type": "notification", "payload": {"text": "halfway"}})
            .to_string(),
        ..Default::default()
    };
    let reply: sdk::NotifySessionResponse = bench.call(method, &notify).await.unwrap();
    assert!(reply.ok);
    let wanted = ChatEvent::Notification { text: "halfway".to_owned(), detail: String::new() };
    assert_eq!(chat.events.recv().await.unwrap(), wanted);
    let lost = sdk::NotifySessionRequest { session_id: "nothing".to_owned(), ..notify };
    let refused = bench.call::<sdk::NotifySessionResponse>(method, &lost).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    let save = sdk::SaveSessionDataRequest {
        session_id: chat.id.clone(),
        data_json: r#"{"step":1}"#.to_owned(),
        ..Default::default()
    };
    let saved: sdk::SaveSessionDataResponse =
        bench.call("SessionService/SaveSessionData", &save).await.unwrap();
    assert!(saved.ok && saved.data_json.contains("\"step\":1"), "{saved:?}");
}
