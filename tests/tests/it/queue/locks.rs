//! Locks: at most one attempt runs under a key, and what a second submit becomes.

use std::fs;

use serde_json::{Value, json};

use super::{Queue, gates};

/// Runs until the file `go-{who}` is there; for each `--again N` it submits itself first.
fn tasks(policy: &str) -> String {
    format!(
        "[tasks.t]\n\
         command = [\"sh\", \"-c\", '''\n\
         who=$1; shift 2; for n; do capsule submit t --who $who --n $n --json >> inside; done\n\
         until [ -e go-$who ]; do sleep 0.02; done\n\
         ''', \"t\", \"{{who}}\", \"{{n}}\", \"{{again}}\"]\n\
         timeout = \"1m\"\nlock = \"owner:{{who}}\"\nlock_policy = \"{policy}\"\n\
         [tasks.t.params]\nwho = \"str\"\nn = {{ type = \"int\", default = 0 }}\n\
         again = {{ type = \"list\", default = [] }}\n"
    )
}

impl Queue {
    /// Lets the tasks of this lock end.
    fn release(&self, who: &str) {
        fs::write(self.dir().join(format!("go-{who}")), "").unwrap();
    }

    /// What the submits made inside of a task were answered.
    fn inside(&self, count: usize) -> Vec<Value> {
        let replies = || -> Vec<Value> {
            let text = fs::read_to_string(self.dir().join("inside")).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        capsule_tests::wait_for("it submits", || (replies().len() == count).then(replies))
    }
}

fn id(reply: &Value) -> u64 {
    reply["id"].as_u64().unwrap()
}

#[test]
fn merge_makes_a_duplicate_the_one_that_is_there() {
    let queue = Queue::with(&tasks("merge"));
    let first = queue.submitted("t --who acme");
    assert_eq!((&first["merged"], &first["lock_policy"]), (&json!(false), &json!("merge")));
    assert_eq!(first["lock"], "owner:acme");
    queue.home.running(id(&first));
    let same = queue.submitted("t --who acme");
    assert_eq!((id(&same), &same["merged"]), (id(&first), &json!(true)));
    assert_eq!(same["arguments_differ"], false);
    let other = queue.submitted("t --who acme --n 5");
    assert_eq!((id(&other), &other["arguments_differ"]), (id(&first), &json!(true)));
    let off_tty = queue.say("submit t --who acme").run().exits(0);
    assert_eq!(off_tty.text(), format!("{}\n", id(&first)));
    // Another key runs beside it, another owner waits for it.
    let beside = queue.submit("t --who initech");
    queue.home.running(beside);
    let bob = queue.submitted("t --who acme --owner bob");
    assert_eq!(bob["merged"], false);
    let waits = queue.home.show(id(&bob));
    assert_eq!((&waits["status"], gates(&waits)), (&json!("pending"), vec!["lock"]));
    let bobs = queue.submitted("t --who acme --owner bob --n 2");
    assert_eq!((id(&bobs), &bobs["merged"]), (id(&bob), &json!(true)));
    for who in ["acme", "initech"] {
        queue.release(who);
    }
    for task in [id(&first), id(&bob), beside] {
        assert_eq!(queue.home.ended(task)["status"], "completed");
    }
    // The lock is free again: the next is a task of its own.
    assert_ne!(queue.submit("t --who acme"), id(&first));
}

#[test]
fn merge_pulls_a_scheduled_task_forward_and_leaves_a_pause_alone() {
    let queue = Queue::with(&format!(
        "{}[tasks.fails]\ncommand = [\"false\"]\nlock = \"f\"\nretries = 1\nbackoff = \"fixed:1h\"\ntimeout = \"1m\"\n",
        tasks("merge")
    ));
    let later = queue.submitted("t --who a --in 2h");
    let latest = queue.submitted("t --who a --in 3h");
    assert_eq!((id(&latest), &latest["due_at"]), (id(&later), &later["due_at"]));
    let sooner = queue.submitted("t --who a --in 1h");
    assert_eq!((id(&sooner), &sooner["status"]), (id(&later), &json!("scheduled")));
    assert!(sooner["due_at"].as_str() < later["due_at"].as_str(), "{sooner}");
    let now = queue.submitted("t --who a");
    assert_eq!((id(&now), &now["merged"]), (id(&later), &json!(true)));
    queue.home.running(id(&later));
    queue.release("a");
    queue.home.ended(id(&later));

    let failing = queue.submit("fails");
    let pause = queue.until(failing, "retry")["due_at"].clone();
    let merged = queue.submitted("fails");
    assert_eq!((id(&merged), &merged["merged"]), (failing, &json!(true)));
    assert_eq!(queue.home.show(failing)["due_at"], pause);
}

#[test]
fn a_submit_from_inside_the_holder_waits_under_every_policy() {
    for policy in ["merge", "wait", "reject"] {
        let queue = Queue::with(&tasks(policy));
        let holder = queue.submit("t --who me --again 7");
        let reply = queue.inside(1).remove(0);
        assert_ne!(id(&reply), holder, "{policy}");
        assert_eq!((&reply["merged"], &reply["status"]), (&json!(false), &json!("pending")));
        let waits = queue.home.show(id(&reply));
        assert_eq!(gates(&waits), ["lock"], "{policy}: {waits}");
        assert!(waits["gates"][0]["text"].as_str().unwrap().contains(&holder.to_string()));
        queue.release("me");
        assert_eq!(queue.home.ended(holder)["status"], "completed");
        assert_eq!(queue.home.ended(id(&reply))["status"], "completed", "{policy}");
    }
    // Under replace the second takes the place of the first that waits, never of the holder.
    let queue = Queue::with(&tasks("replace"));
    let holder = queue.submit("t --who me --again 7 --again 8");
    let replies = queue.inside(2);
    assert_eq!(queue.home.show(id(&replies[0]))["status"], "cancelled");
    assert_eq!(queue.home.show(holder)["status"], "running");
    queue.release("me");
    assert_eq!(queue.home.ended(id(&replies[1]))["status"], "completed");
}

#[test]
fn wait_queues_each_and_never_runs_two() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"mkdir busy || echo two >> overlaps; echo $0 >> order; \
         sleep 0.02; rmdir busy\", \"{n}\"]\nlock = \"one\"\nlock_policy = \"wait\"\nparams.n = \"int\"\n\
         timeout = \"1m\"\n\
         [tasks.u]\ncommand = [\"sh\", \"-c\", \"mkdir busy || echo two >> overlaps; sleep 0.02; rmdir busy\"]\n\
         lock = \"one\"\ntimeout = \"1m\"\n",
    );
    let mut ids: Vec<u64> = (0..8).map(|n| queue.submit(&format!("t --n {n}"))).collect();
    // Another task name and another owner come under the same key too, and a scheduled one.
    ids.push(queue.submit("u"));
    ids.push(queue.submit("t --n 8 --owner bob"));
    ids.push(queue.submit("t --n 9 --in 100ms"));
    let distinct: std::collections::BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), ids.len());
    for id in &ids {
        assert_eq!(queue.home.ended(*id)["status"], "completed");
    }
    assert!(!queue.dir().join("overlaps").exists());
    let order = fs::read_to_string(queue.dir().join("order")).unwrap();
    let order: Vec<u32> = order.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(order[..8], [0, 1, 2, 3, 4, 5, 6, 7], "first come, first served: {order:?}");
    assert_eq!(order.len(), 10);
}

#[test]
fn replace_takes_the_place_of_the_one_that_waits() {
    let queue = Queue::with(&tasks("replace"));
    let holder = queue.submit("t --who a");
    queue.home.running(holder);
    let second = queue.submit("t --who a --n 2");
    assert_eq!(queue.home.show(second)["status"], "pending");
    let bob = queue.submit("t --who a --owner bob");
    let third = queue.submitted("t --who a --n 3");
    let replaced = queue.home.show(second);
    assert_eq!(replaced["status"], "cancelled");
    assert!(replaced["reason"].as_str().unwrap().contains("replaced"), "{replaced}");
    assert_eq!(queue.home.show(holder)["status"], "running", "one that runs goes on");
    assert_eq!(queue.home.show(bob)["status"], "pending", "another owner's goes on waiting");
    queue.release("a");
    for id in [holder, id(&third), bob] {
        assert_eq!(queue.home.ended(id)["status"], "completed");
    }
    let scheduled = queue.submit("t --who b --in 1h");
    let sooner = queue.submit("t --who b --in 30m --n 4");
    assert_eq!(queue.home.show(scheduled)["status"], "cancelled");
    assert_eq!(queue.home.show(sooner)["status"], "scheduled");
}

#[test]
fn reject_refuses_and_queues_nothing() {
    let queue = Queue::with(&tasks("reject"));
    let holder = queue.submit("t --who a");
    queue.home.running(holder);
    let count = queue.count();
    for words in ["", " --n 5", " --in 1h"] {
        let refused = queue.say(&format!("submit t --who a{words}")).run().exits(5).errors();
        assert!(refused.contains("owner:a") && refused.contains(&holder.to_string()), "{refused}");
        assert!(refused.contains(&format!("capsule wait {holder}")), "{refused}");
    }
    assert_eq!(queue.count(), count);
    let bob = queue.submit("t --who a --owner bob");
    assert_eq!(gates(&queue.home.show(bob)), ["lock"], "another owner waits");
    let scheduled = queue.submit("t --who s --in 1h");
    let refused = queue.say("submit t --who s").run().exits(5).errors();
    assert!(refused.contains(&scheduled.to_string()), "{refused}");
    // The submit may ask for another policy.
    let merged = queue.submitted("t --who a --lock-policy merge");
    assert_eq!(id(&merged), holder);
    queue.release("a");
    queue.home.ended(bob);
}

#[test]
fn the_key_of_a_lock_and_who_holds_it_are_shown() {
    let queue = Queue::with(
        "[tasks.pair]\ncommand = [\"sleep\", \"1000\"]\nlock = \"k:{a}:{b}\"\ntimeout = \"1m\"\n\
         params = { a = \"str\", b = \"str\" }\n",
    );
    let one = queue.submit("pair --a x:y --b z");
    let two = queue.submit("pair --a x --b y:z");
    assert_ne!(one, two, "two argument lists never make one key");
    queue.home.running(one);
    queue.home.running(two);
    let waiter = queue.submit("pair --a x --b y:z --owner bob");
    let locks = queue.json("lock list");
    assert_eq!(locks.as_array().unwrap().len(), 2, "{locks}");
    let key = queue.home.show(two)["lock"].as_str().unwrap().to_owned();
    let lock = &queue.json(&format!("lock show {key}"))[0];
    assert_eq!((&lock["holder"], &lock["waiters"]), (&json!(two), &json!([waiter])));
    // A program under a lock of its own.
    let alone = queue.submit("--lock mine -- sleep 1000");
    queue.home.running(alone);
    assert_eq!(queue.submitted("--lock mine -- sleep 1000")["merged"], true);
    queue.say(&format!("cancel {one} {two} {waiter} {alone} --now")).run().exits(0);
    assert_eq!(queue.json("lock list"), json!([]));
    queue.say("lock show mine").run().exits(4);
}

#[test]
fn an_idempotency_key_stands_for_one_task() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"true\"]\nparams.n = \"int\"\n[tasks.u]\ncommand = [\"true\"]\n",
    );
    let first = queue.submitted("t --n 1 --key order-7");
    assert_eq!((&first["existing"], &first["key"]), (&json!(false), &json!("order-7")));
    let again = queue.submitted("t --n 1 --key order-7");
    assert_eq!((id(&again), &again["existing"]), (id(&first), &json!(true)));
    queue.home.ended(id(&first));
    assert_eq!(queue.submit("t --n 1 --key order-7"), id(&first), "also when it has ended");
    let refused = queue.say("submit t --n 2 --key order-7").run().exits(5).errors();
    assert!(refused.contains("order-7") && refused.contains("other arguments"), "{refused}");
    assert_ne!(queue.submit("u --key order-7"), id(&first), "another task, another key");
    assert_eq!(queue.count(), 2);
}
