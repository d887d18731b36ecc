//! Who gets in, and who does not.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use capsule_tests::web::{Browser, form};
use capsule_tests::{Home, processes};
use nix::sys::signal::Signal;

#[test]
fn nothing_listens_until_somebody_asks() {
    let home = Home::new();
    let daemon = home.start();
    let sockets = || {
        let shown = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
        let inodes = processes::sockets(daemon.pid());
        shown
            .lines()
            .filter(|line| inodes.iter().any(|it| line.contains(&format!(" {it} "))))
            .count()
    };
    assert_eq!(sockets(), 0);
    let mut browser = Browser::enter(&home);
    assert_eq!(sockets(), 1);
    assert!(browser.host.starts_with("127.0.0.1:"), "{}", browser.host);
    drop(browser.get("/").has(200));
}

#[test]
fn a_link_is_good_once() {
    let home = Home::new();
    let _daemon = home.start();
    let link = home.capsule(["web", "--json"]).run().exits(0).json();
    let link = link["url"].as_str().unwrap().to_owned();
    let (host, path) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let path = format!("/{path}");
    let mut browser = Browser::new(host);
    // What only looks ahead does not use it up.
    drop(browser.ask("HEAD", &path, &[], "").has(403));
    drop(browser.ask("GET", &path, &[("Sec-Purpose", "prefetch")], "").has(403));
    let entered = browser.get(&path).has(200);
    let cookie = entered.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let secret = path.rsplit('/').next().unwrap();
    assert!(!cookie.contains(secret), "the link and the cookie are two secrets");
    drop(browser.get("/").has(200));
    let mut other = browser.stranger();
    drop(other.get(&path).has(403));
    let refused = other.get("/").has(401);
    assert!(refused.text.contains("capsule web"), "{}", refused.text);
}

#[test]
fn a_wrong_secret_opens_nothing() {
    let home = Home::new();
    let _daemon = home.start();
    let browser = Browser::enter(&home);
    let id = home.submit(["--hold", "--", "true"]);
    let task = format!("/tasks/{id}");
    let mut stranger = browser.stranger();
    for path in ["/", &task, "/tasks", "/live/board", "/nowhere", "//", "/assets"] {
        drop(stranger.get(path).has(401));
    }
    drop(stranger.post(&format!("{task}/remove"), &[("mark", "")]).has(401));
    drop(stranger.get(&format!("/enter/{}", "0".repeat(64))).has(403));
    let name = cookie_name(&home);
    for wrong in ["", "0", &"0".repeat(64), "a=b", "\u{e4}"] {
        let cookie = format!("{name}={wrong}");
        drop(stranger.ask("GET", "/", &[("Cookie", &cookie)], "").has(401));
    }
    assert_eq!(home.show(id)["status"], "pending");
}

fn cookie_name(home: &Home) -> String {
    let uuid = home.status()["store_uuid"].as_str().unwrap().replace('-', "");
    format!("capsule-{}", &uuid[24..])
}

#[test]
fn another_name_for_this_machine_is_refused() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let port = browser.host.rsplit(':').next().unwrap().to_owned();
    for host in
        ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example", "0.0.0.0"]
    {
        let refused = browser.ask("GET", "/", &[("Host", host)], "").has(421);
        assert!(!refused.text.contains("Running"), "{}", refused.text);
    }
    drop(browser.ask("GET", "/", &[("Host", &format!("localhost:{port}"))], "").has(200));
}

#[test]
fn a_form_of_another_site_is_refused() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let id = home.submit(["--hold", "--", "true"]);
    let path = format!("/tasks/{id}/cancel");
    let mark = browser.get(&path).has(200).mark();
    let body = form(&[("mark", &mark)]);
    let own = format!("http://{}", browser.host);
    let other_port = "http://127.0.0.1:1";
    let refused: [&[(&str, &str)]; 7] = [
        &[],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Origin", other_port), ("Sec-Fetch-Site", "same-site")],
        &[("Origin", &own), ("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "none")],
    ];
    for headers in refused {
        drop(browser.ask("POST", &path, headers, &body).has(403));
    }
    let from_here = [("Origin", own.as_str())];
    for wrong in ["", "mark=", &form(&[("mark", &"0".repeat(64))])] {
        drop(browser.ask("POST", &path, &from_here, wrong).has(403));
    }
    // Nothing is done by looking.
    drop(browser.get(&path).has(200));
    drop(browser.get(&format!("/tasks/{id}/retry")).has(404));
    assert_eq!(home.show(id)["status"], "pending");
    let done = browser.ask("POST", &path, &from_here, &body).has(303);
    assert_eq!(done.header("location"), format!("/tasks/{id}"));
    assert_eq!(home.show(id)["status"], "cancelled");
}

#[test]
fn every_answer_says_what_a_browser_may_do_with_it() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let page = browser.get("/").has(200);
    let asset = page.text.split("src=\"/assets/").nth(1).unwrap().split('"').next().unwrap();
    let asset = browser.get(&format!("/assets/{asset}")).has(200);
    assert!(asset.header("cache-control").contains("immutable"));
    let refused = browser.stranger().get("/").has(401);
    for answer in [&page, &asset, &refused] {
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(refused.header("cache-control"), "no-store");
}

#[test]
fn a_browser_stays_in_over_a_restart_at_the_same_address() {
    let home = Home::new();
    // The usual port, free while the daemon is away, could become another test's.
    let daemon = home.start_with(&["--web", "127.0.0.1:0"]);
    let mut browser = Browser::enter(&home);
    let link = home.capsule(["web"]).run().exits(0).text();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    let _daemon = home.start();
    drop(browser.get("/").has(200));
    let path = link.trim().rsplit_once("/enter/").unwrap().1.to_owned();
    drop(browser.stranger().get(&format!("/enter/{path}")).has(403));
    let mark = browser.get("/").mark();
    drop(browser.post("/leave", &[("mark", &mark)]).has(303));
    drop(browser.get("/").has(401));
}

#[test]
fn it_is_served_where_it_is_told_to_be() {
    let home = Home::new();
    let off = home.start_with(&["--web", "off"]);
    let refused = home.capsule(["web"]).run().exits(5);
    assert!(refused.errors().contains("capsuled run --web"), "{}", refused.errors());
    off.kill();

    let socket = home.path("board");
    let daemon = home.start_with(&["--web", &socket.display().to_string()]);
    let told = home.capsule(["web", "--json"]).run().exits(0).json();
    assert_eq!(told["socket"], socket.display().to_string());
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.kill();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let daemon = home.start_with(&["--web", &address]);
    let refused = home.capsule(["web"]).run().exits(5);
    assert!(refused.errors().contains(&address), "{}", refused.errors());
    drop(taken);
    assert_eq!(Browser::enter(&home).host, address);
    daemon.kill();

    let mut open = home.launch(&["--web", "0.0.0.0:0"]);
    let code = capsule_tests::wait_for("it refuses", || open.ended());
    assert!(!code.success() && home.log().contains("--web-name"), "{}", home.log());
}
