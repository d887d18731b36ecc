//! The rules of documents and sessions, over a real file.

use std::sync::Arc;

use serde_json::{Value, json};

use super::query::Object;
use super::*;
use crate::clock::SystemClock;

fn open(dir: &Path) -> AppData {
    AppData::start(dir, Arc::new(SystemClock)).unwrap()
}

fn place() -> Place {
    Place { app: "leads".to_owned(), collection: "things".to_owned() }
}

fn object(value: Value) -> Object {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

fn find(filter: Value) -> Find {
    Find { filter: object(filter), ..Find::default() }
}

async fn found(data: &AppData, find: Find) -> Vec<Value> {
    let rows = data.find(place(), find).await.unwrap();
    rows.iter().map(|row| serde_json::from_slice(row).unwrap()).collect()
}

#[tokio::test]
async fn documents_are_found_in_the_order_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let documents = (0..50).map(|n| object(json!({"n": n, "even": n % 2 == 0}))).collect();
    let ids = data.insert(place(), documents).await.unwrap();
    assert_eq!(ids.len(), 50);
    let elsewhere = Place { collection: "thingz".to_owned(), ..place() };
    data.insert(elsewhere, vec![object(json!({"n": 99}))]).await.unwrap();
    let all = found(&data, find(json!({}))).await;
    let numbers: Vec<i64> = all.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    let sort = object(json!({"n": -1}));
    let page = Find { sort, skip: 1, limit: 2, ..find(json!({"even": true})) };
    let page: Vec<Value> =
        found(&data, page).await.into_iter().map(|row| row["n"].clone()).collect();
    assert_eq!(page, [json!(46), json!(44)]);
    assert_eq!(data.count(place(), object(json!({"n": {"$gte": 48}}))).await.unwrap(), 2);
    assert_eq!(data.delete(place(), object(json!({"even": true})), true).await.unwrap(), 25);
    let by_id = found(&data, find(json!({"_id": ids[1]}))).await;
    assert_eq!(by_id[0]["n"], 1);
}

#[tokio::test]
async fn updates_know_their_operators_and_an_upsert_starts_from_the_filter() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let key = object(json!({"_key": "seen", "_session_id": "s1"}));
    let first = object(json!({"$set": {"value": 1}, "$push": {"log": "a"}}));
    assert_eq!(data.update(place(), key.clone(), first, true).await.unwrap(), (0, 1));
    let then = object(json!({
        "$inc": {"value": 2, "deep.count": 1}, "$push": {"log": {"$each": ["b", "c"]}},
        "$unset": {"nothing": ""}, "$setOnInsert": {"value": 0},
    }));
    assert_eq!(data.update(place(), key.clone(), then, true).await.unwrap(), (1, 1));
    let row = found(&data, find(json!({"_key": "seen"}))).await.pop().unwrap();
    assert_eq!(row["value"], 3);
    assert_eq!(row["log"], json!(["a", "b", "c"]));
    assert_eq!(row["deep"]["count"], 1);
    assert_eq!(row["_session_id"], "s1");
    let same = object(json!({"value": 3}));
    assert_eq!(data.update(place(), key.clone(), same, false).await.unwrap(), (1, 0));
    let other = object(json!({"_key": "unseen"}));
    assert_eq!(data.update(place(), other, object(json!({"a": 1})), false).await.unwrap(), (0, 0));
    for wrong in [json!({"$rename": {"a": "b"}}), json!({"$inc": {"log": 1}}), json!({"_id": 1})] {
        let refused = data.update(place(), key.clone(), object(wrong), false).await;
        assert!(matches!(refused, Err(DataError::Invalid(_))), "{refused:?}");
    }
    let refused = data.find(place(), find(json!({"n": {"$near": 1}}))).await;
    assert!(matches!(refused, Err(DataError::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn a_key_of_the_app_is_not_that_of_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let kv = || Place { collection: "_kv".to_owned(), ..place() };
    let of_session = object(json!({"_key": "seen", "_session_id": "s1"}));
    let of_app = object(json!({"_key": "seen"}));
    let set = |value: i64, scope: &Object| {
        let mut fields = scope.clone();
        fields.insert("value".to_owned(), value.into());
        object(json!({ "$set": fields }))
    };
    for (value, scope) in [(1, &of_session), (2, &of_app), (3, &of_session)] {
        data.update(kv(), scope.clone(), set(value, scope), true).await.unwrap();
    }
    for (value, scope) in [(2, &of_app), (3, &of_session)] {
        let found = Find { filter: scope.clone(), ..Find::default() };
        let rows = data.find(kv(), found).await.unwrap();
        let rows: Vec<Value> =
            rows.iter().map(|row| serde_json::from_slice(row).unwrap()).collect();
        assert_eq!((rows.len(), &rows[0]["value"]), (1, &json!(value)));
    }
    assert_eq!(data.count(kv(), Object::new()).await.unwrap(), 2);
    assert_eq!(data.delete(kv(), of_app.clone(), false).await.unwrap(), 1);
    assert_eq!(data.delete(kv(), of_app, false).await.unwrap(), 0);
    let settings = Place { collection: "_settings".to_owned(), ..place() };
    let theme = object(json!({"_setting": "theme"}));
    let dark = object(json!({"$set": {"_setting": "theme", "value": "dark"}}));
    assert_eq!(data.update(settings.clone(), theme.clone(), dark, false).await.unwrap(), (0, 1));
    assert_eq!(data.count(settings, theme).await.unwrap(), 1);
}

#[tokio::test]
async fn patterns_are_those_of_the_sdks_lookups() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let documents = ["Acme Ltd.", "acme", "Bolt"].map(|name| object(json!({"name": name})));
    data.insert(place(), documents.to_vec()).await.unwrap();
    for (pattern, count) in [("^acme\\ ltd\\.", 1), ("CME", 2), ("d\\.$", 1), ("^cme", 0)] {
        let filter = object(json!({"name": {"$regex": pattern, "$options": "i"}}));
        assert_eq!(data.count(place(), filter).await.unwrap(), count, "{pattern}");
    }
    for wrong in [json!({"$regex": "("}), json!({"$regex": "a", "$options": "q"})] {
        let refused = data.count(place(), object(json!({"name": wrong}))).await;
        assert!(matches!(refused, Err(DataError::Invalid(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn an_insert_is_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    data.insert(place(), vec![object(json!({"_id": "one"}))]).await.unwrap();
    let again = vec![object(json!({"_id": "two"})), object(json!({"_id": "one"}))];
    let refused = data.insert(place(), again).await;
    assert!(matches!(refused, Err(DataError::Exists(_))), "{refused:?}");
    let twice = vec![object(json!({"_id": "three"})), object(json!({"_id": "three"}))];
    assert!(data.insert(place(), twice).await.is_err());
    assert_eq!(data.count(place(), Object::new()).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    data.insert(place(), vec![object(json!({"kept": true}))]).await.unwrap();
    data.begin("leads", "s1", Profile::default()).await.unwrap();
    data.say("leads", "s1", "user", "hello").await.unwrap();
    // A copy of the file at this moment stands for a kill: nothing is closed.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(data.path(), copy.path().join(FILE)).unwrap();
    let data = open(copy.path());
    assert_eq!(data.count(place(), object(json!({"kept": true}))).await.unwrap(), 1);
    let (session, history) = data.session("leads", "s1", 10).await.unwrap().unwrap();
    assert_eq!(session.last, "hello");
    assert_eq!(history[0].text, "hello");
}

#[tokio::test]
async fn two_writers_of_a_session_notice_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let missing = data.save("leads", "s1", Save::default()).await;
    assert!(matches!(missing, Err(DataError::Missing(_))), "{missing:?}");
    data.begin("leads", "s1", Profile::default()).await.unwrap();
    let save = |text: &str, base: i64, nonce: &str| Save {
        data: text.to_owned(),
        base_revision: base,
        nonce: nonce.to_owned(),
        ..Save::default()
    };
    let empty = data.save("leads", "s1", save("{}", 0, "n0")).await.unwrap();
    assert_eq!((empty.conflict, empty.revision), (false, 0), "nothing changed");
    let first = data.save("leads", "s1", save(r#"{"a":1}"#, 0, "n1")).await.unwrap();
    assert_eq!((first.conflict, first.revision), (false, 1));
    let late = data.save("leads", "s1", save(r#"{"b":2}"#, 0, "n2")).await.unwrap();
    assert_eq!((late.conflict, late.revision), (true, 1));
    let current: Value = serde_json::from_str(&late.data).unwrap();
    assert_eq!(current["a"], 1);
    assert_eq!(current["__cpsl_session_rev"], 1);
    let merged = r#"{"b":2,"a":1,"__cpsl_session_rev":1}"#;
    let merged = data.save("leads", "s1", save(merged, 1, "n3")).await.unwrap();
    assert_eq!((merged.conflict, merged.revision), (false, 2));
    let repeated = data.save("leads", "s1", save(r#"{"c":3}"#, 1, "n3")).await.unwrap();
    assert_eq!((repeated.conflict, repeated.revision), (false, 2), "the same save again");
    for wrong in ["[]", "{", "1"] {
        assert!(data.save("leads", "s1", save(wrong, 2, "n4")).await.is_err());
    }
}

#[test]
fn the_checksum_is_the_sdks() {
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(checksum(&Object::new()), empty);
    let one = object(json!({"b": [1, {"y": 1, "x": "<é&>"}], "a": null}));
    let other = object(json!({"a": null, "b": [1, {"x": "<é&>", "y": 1}]}));
    assert_eq!(checksum(&one), checksum(&other));
    assert_eq!(
        checksum(&one),
        "sha256:df161e6ba0d12e6ab1b409ef4d7f2862956b834e719102acd8ee4fe6928496c8",
    );
}

#[tokio::test]
async fn a_history_keeps_its_newest_entries() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    data.begin("leads", "s1", Profile::default()).await.unwrap();
    let says = (0..HISTORY_MAX + 5).map(|n| {
        let data = data.clone();
        tokio::spawn(async move { data.say("leads", "s1", "user", &n.to_string()).await })
    });
    for said in says.collect::<Vec<_>>() {
        said.await.unwrap().unwrap();
    }
    let (session, last) = data.session("leads", "s1", 3).await.unwrap().unwrap();
    assert_eq!(session.entries, HISTORY_MAX + 5);
    assert_eq!(last.len(), 3);
    let all = data.history("leads", "s1", u64::MAX, usize::MAX).await.unwrap();
    assert_eq!(all.len() as u64, HISTORY_MAX);
    assert_eq!(all.last(), last.last());
    let ann = Profile { user: "ann".to_owned(), ..Profile::default() };
    data.begin("leads", "s2", ann).await.unwrap();
    let hers = data.sessions("leads", "ann", 10).await.unwrap();
    assert_eq!(hers.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["s2"]);
}

/// What could not be read again is not written: it would take its whole collection with it.
#[tokio::test]
async fn what_is_too_deep_is_refused_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    data.insert(place(), vec![object(json!({"n": 1}))]).await.unwrap();
    let path = |fields: usize| vec!["a"; fields].join(".");
    let nested = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    for (field, value) in [
        (path(101), json!(1)),
        // As deep as a message can be long: following it must not end the daemon.
        (path(1 << 20), json!(1)),
        ("a".to_owned(), nested(100)),
        (path(60), nested(60)),
    ] {
        let refused =
            data.update(place(), Object::new(), object(json!({ (field): value })), true).await;
        assert!(matches!(refused, Err(DataError::Invalid(_))), "{refused:?}");
    }
    let deep = data.insert(place(), vec![object(json!({"a": nested(100)}))]).await;
    assert!(matches!(deep, Err(DataError::Invalid(_))), "{deep:?}");
    for (field, value) in [(path(100), json!(1)), ("b".to_owned(), nested(99))] {
        let update = object(json!({ (field): value }));
        assert_eq!(data.update(place(), Object::new(), update, false).await.unwrap(), (1, 1));
    }
    assert_eq!(found(&data, find(json!({}))).await[0]["n"], 1);
    let far = find(json!({ (path(1 << 20)): 1 }));
    assert_eq!(data.find(place(), far).await.unwrap(), [b""; 0]);
}
