//! The board in a real Chromium, by the scripts in `tests/web`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use capsule_tests::Home;
use capsule_tests::python::root;

/// What a browser needs for all of it, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn the_board_in_a_browser() {
    let modules = built().join("web");
    let Some(chromium) = on_path("chromium").filter(|_| on_path("node").is_some()) else {
        eprintln!("SKIPPED the_board_in_a_browser: chromium or node is not installed");
        return;
    };
    if !modules.join("node_modules/playwright-core").is_dir() {
        eprintln!(
            "SKIPPED the_board_in_a_browser: scripts/needs.sh test has not fetched what drives it"
        );
        return;
    }
    let home = Home::new();
    let script = Path::new(&root()).join("tests/web/board.mjs");
    let program = home.program("capsule");
    let programs = Path::new(&program).parent().unwrap();
    let shots = std::env::var("SCREENSHOTS").unwrap_or_default();
    let ran = home
        .shell(&format!("exec node --test --test-reporter=spec {}", script.display()))
        .env("MODULES", &modules)
        .env("PROGRAMS", programs)
        .env("PLACE", home.path("h"))
        .env("CHROMIUM", chromium)
        .env("SHOTS", shots)
        .within(LIMIT)
        .run();
    eprintln!("{}", ran.text());
    assert_eq!(ran.code(), 0, "{}{}", ran.text(), ran.errors());
}

/// The folder of the build, beside which what the tests need is kept.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}
