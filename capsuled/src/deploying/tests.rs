use std::fs;

use parking_lot::Mutex as Lock;

use super::*;
use crate::jail::Plan;

/// What a child of a test does.
type Act = Box<dyn Fn(&Told) -> End + Send + Sync>;

/// Plays children: notes what they were told, and does what the test says.
struct Fake {
    told: Lock<Vec<Told>>,
    act: Act,
}

/// A plan as a test reads it.
#[derive(Clone, Debug)]
struct Told {
    argv: Vec<String>,
    cwd: PathBuf,
    env: Vec<String>,
}

impl Told {
    fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    fn answers(&self, text: &str) -> End {
        fs::write(self.var("CAPSULE_RESULT_FILE").unwrap(), text).unwrap();
        End { exit_code: Some(0), ..End::default() }
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Children for Fake {
    fn run<'a>(&'a self, plan: Plan, _what: &'a str) -> Running<'a> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let told = Told {
            argv: plan.argv.iter().map(|word| text(word)).collect(),
            cwd: PathBuf::from(text(&plan.cwd)),
            env: plan.env.iter().map(|entry| text(entry)).collect(),
        };
        let end = (self.act)(&told);
        self.told.lock().push(told);
        Box::pin(async move { Ok(end) })
    }
}

struct Bench {
    root: tempfile::TempDir,
    fake: Arc<Fake>,
    deployer: Deployer,
}

fn bench(act: impl Fn(&Told) -> End + Send + Sync + 'static) -> Bench {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("project/app.py", "app = App('leads', secrets=['API_KEY'])\n"),
        ("project/.env", "COLOUR=red\n"),
        ("bin/python3", ""),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let fake = Arc::new(Fake { told: Lock::default(), act: Box::new(act) });
    let children: Arc<dyn Children> = Arc::clone(&fake) as Arc<dyn Children>;
    let state = root.path().join("state");
    let deployer = Deployer::new(&state, root.path().join("host"), children);
    Bench { root, fake, deployer }
}

impl Bench {
    fn order(&self) -> Order {
        let path = self.root.path().join("bin").display().to_string();
        Order {
            entry: "app.py:app".to_owned(),
            dir: self.root.path().join("project"),
            shell: Shell { cwd: self.root.path().to_owned(), environment: None, path },
            user: "ada".to_owned(),
            ..Order::default()
        }
    }

    async fn prepare(&self) -> Result<Draft, DeployError> {
        self.deployer.prepare(&self.order()).await
    }

    fn told(&self) -> Vec<Told> {
        self.fake.told.lock().clone()
    }

    /// What lies in the folder of apps.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path().join("state/apps")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

const GOOD: &str = r#"{"format":1,"kind":"python","app":"leads","entry":"app.py:app","sdk":"0.3.181",
    "python":"3.11.7","tasks":[{"name":"sync","async":true}],"uses":["tasks","asgi"],
    "secrets":["API_KEY","OTHER"],"schedules":[{"name":"hourly","cron":"0 * * * *","line":7}]}"#;

#[tokio::test]
async fn an_app_is_described_in_a_copy_and_kept_read_only() {
    let bench = bench(|told| told.answers(GOOD));
    bench.deployer.secrets().set("API_KEY", "k").unwrap();
    let draft = bench.prepare().await.unwrap();
    assert_eq!((draft.app.as_str(), draft.size().0), ("leads", 1));
    assert_eq!(draft.missing, ["OTHER"]);
    assert_eq!(draft.lacking.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["asgi"]);
    let told = bench.told();
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].argv[1..],
        ["-u", &bench.root.path().join("host").display().to_string(), "introspect"]
    );
    assert!(told[0].cwd.starts_with(bench.root.path().join("state/apps")));
    for (name, value) in [
        ("CAPSULE_ENTRY", "app.py:app"),
        ("COLOUR", "red"),
        ("API_KEY", "k"),
        ("CAPSULE_USER_ID", "ada"),
    ] {
        assert_eq!(told[0].var(name), Some(value), "{name}");
    }

    let manifest = draft.keep(&bench.deployer, 3).unwrap();
    let crate::apps::Parsed { app, python, .. } = crate::apps::parse(&manifest).unwrap();
    let python = python.unwrap();
    let dir = bench.root.path().join("state/apps/leads/r3");
    assert_eq!((app.as_str(), python.dir.as_str()), ("leads", dir.to_str().unwrap()));
    assert_eq!(python.mode, crate::apps::Mode::Host);
    assert!(dir.join("app.py").metadata().unwrap().permissions().readonly());
    assert!(bench.root.path().join("state/data/leads").is_dir());
    assert_eq!(bench.left(), ["leads"]);

    let again = bench.prepare().await.unwrap();
    assert!(again.is_same(&manifest));
    fs::write(bench.root.path().join("project/app.py"), "app = 2\n").unwrap();
    assert!(!bench.prepare().await.unwrap().is_same(&manifest));
    drop(again);
    bench.deployer.sweep("leads", |number| number > 3);
    assert!(!dir.exists());
}

#[tokio::test]
async fn what_is_no_app_is_refused_with_its_place_and_leaves_nothing() {
    let fault = r#"{"error":{"kind":"lock","message":"the lock names nobody","file":"app.py","line":4,"traceback":"a\nb"}}"#;
    let bench1 = bench(move |told| told.answers(fault));
    let error = bench1.prepare().await.unwrap_err();
    assert_eq!(error.to_string(), "app.py:4: the lock names nobody\n  a\n  b");
    assert!(error.hint().contains("owner:{owner_id}"));
    assert!(bench1.left().is_empty());

    let cron = GOOD
        .replace("0 * * * *", "61 * * * *")
        .replace("\"line\":7", "\"line\":7,\"file\":\"app.py\"");
    let error = bench(move |told| told.answers(&cron)).prepare().await.unwrap_err().to_string();
    assert!(
        error.starts_with("app.py:7: the schedule hourly: cron \"61 * * * *\": minute"),
        "{error}"
    );

    let long = GOOD.replace("leads", &"x".repeat(DESCRIPTION_MAX));
    let error = bench(move |told| told.answers(&long)).prepare().await.unwrap_err();
    assert!(matches!(error, DeployError::TooLong { .. }), "{error}");

    let mut order = bench1.order();
    order.entry = "app.py".to_owned();
    assert!(matches!(bench1.deployer.prepare(&order).await, Err(DeployError::Entry(_))));
}

#[tokio::test]
async fn a_crash_is_named_with_the_last_lines() {
    let end =
        End { signal: Some(11), output: vec!["Fatal Python error".to_owned()], exit_code: None };
    let crash = bench(move |_| end.clone());
    let error = crash.prepare().await.unwrap_err().to_string();
    assert!(error.contains("was ended by SIGSEGV\n  Fatal Python error"), "{error}");
    let silent = bench(|_| End { exit_code: Some(0), ..End::default() });
    let error = silent.prepare().await.unwrap_err().to_string();
    assert!(error.contains("left no description"), "{error}");
}

#[tokio::test]
async fn an_app_without_the_sdk_gets_an_environment_once() {
    let no_sdk = r#"{"error":{"kind":"no_sdk","message":"cpsl is not installed"}}"#;
    let bench = bench(move |told| {
        let program = &told.argv[0];
        let good = End { exit_code: Some(0), ..End::default() };
        match told.argv[1].as_str() {
            "-u" if program.contains("venvs") => told.answers(GOOD),
            "-u" => told.answers(no_sdk),
            "-I" => {
                fs::write(told.argv.last().unwrap(), r#"["httpx"]"#).unwrap();
                good
            }
            _ => {
                let root = PathBuf::from(told.argv.last().unwrap());
                if told.argv[2] == "venv" {
                    fs::create_dir_all(root).unwrap();
                }
                good
            }
        }
    });
    let draft = bench.prepare().await.unwrap();
    let said: Value = serde_json::from_str(&draft.description()).unwrap();
    assert_eq!(said["packages"], serde_json::json!(["cpsl==0.3.181", "httpx"]));
    assert!(said["interpreter"].as_str().unwrap().contains("/venvs/"));
    let install =
        bench.told().into_iter().find(|told| told.argv.contains(&"pip".to_owned())).unwrap();
    assert_eq!(install.argv[install.argv.len() - 3..], ["--", "cpsl==0.3.181", "httpx"]);
    let before = bench.told().len();
    drop(bench.prepare().await.unwrap());
    // Looking, reading the Image, looking again.
    assert_eq!(bench.told().len() - before, 3);
}

#[tokio::test]
async fn a_served_app_runs_where_it_lies() {
    let bench = bench(|told| told.answers(GOOD));
    let order = Order { serve: true, ..bench.order() };
    let draft = bench.deployer.prepare(&order).await.unwrap();
    let manifest = draft.keep(&bench.deployer, 1).unwrap();
    let python = crate::apps::parse(&manifest).unwrap().python.unwrap();
    assert_eq!(python.dir, bench.root.path().join("project").display().to_string());
    assert!(python.serve && bench.left().is_empty());
    assert_eq!(bench.told()[0].var("CAPSULE_VERSION_TYPE"), Some("serve"));
}
