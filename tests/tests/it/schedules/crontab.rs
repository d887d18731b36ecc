//! `schedule import crontab`.

use std::fs;

use capsule_tests::wait_for;
use serde_json::json;

use super::{listed, shown};
use crate::queue::Queue;

const CRONTAB: &str = "\
# what the machine does
PATH=/opt/none:/usr/bin:/bin
MAILTO=ops@example.org
CRON_TZ=Europe/Berlin
KIND=test

30 3 * * mon-fri  cat >>\"$HOME/said\"; echo $KIND $PATH >>\"$HOME/said\"%one%two
@hourly flock -n /var/lock/sync.lock sleep 0.01
@reboot /srv/start
";

#[test]
fn it_is_shown_first_and_added_when_told_to() {
    let queue = Queue::bare();
    fs::write(queue.dir().join("tab"), CRONTAB).unwrap();
    let told = queue.say("schedule import crontab tab").run().exits(0);
    let text = told.text();
    for part in [
        "cat --cron '30 3 * * mon-fri' --tz Europe/Berlin",
        "no mail goes to ops@example.org",
        "sleep --cron '@hourly' --tz Europe/Berlin --lock sync",
        "flock becomes the lock sync",
        "@reboot",
        "nothing fires at a reboot",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(told.errors().contains("--yes"), "{}", told.errors());
    assert_eq!(listed(&queue, "--all"), [""; 0], "nothing was added");
    let rows = queue.json("schedule import crontab tab");
    assert_eq!(
        (&rows[0]["stdin"], &rows[0]["env"]["KIND"]),
        (&json!("one\ntwo\n"), &json!("test"))
    );
    assert!(rows[2]["error"].as_str().unwrap().contains("reboot"), "{rows}");

    // Two are added, the third cannot be.
    let added = queue.say("schedule import crontab tab --yes").run().exits(1);
    assert!(added.errors().contains("line 9: nothing fires at a reboot"), "{}", added.errors());
    assert_eq!(listed(&queue, ""), ["cat", "sleep"]);
    assert_eq!(shown(&queue, "cat")["zone"], "Europe/Berlin");
    let id = queue.say("schedule trigger cat").run().exits(0).text().trim().parse().unwrap();
    assert_eq!(queue.home.ended(id)["status"], "completed");
    let said = wait_for("it has written", || fs::read_to_string(queue.dir().join("said")).ok());
    // The folder of our own programs goes before.
    assert!(said.starts_with("one\ntwo\ntest /"), "{said}");
    assert!(said.ends_with(":/opt/none:/usr/bin:/bin\n"), "{said}");
    let id = queue.say("schedule trigger sleep").run().exits(0).text().trim().parse().unwrap();
    assert_eq!(queue.home.ended(id)["lock"], "sync");

    // Once more, from stdin, changes nothing but what is written there.
    let again = queue.say("schedule import crontab - --yes").stdin("@daily sleep 0.01\n");
    again.run().exits(0);
    assert_eq!(listed(&queue, ""), ["cat", "sleep"]);
    assert_eq!(shown(&queue, "sleep")["rule"], "@daily");
}
