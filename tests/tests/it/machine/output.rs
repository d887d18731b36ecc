//! A gigabyte of output: it neither blocks the task nor grows the daemon or the keeper.

use capsule_tests::{Home, processes, wait_for};

const MIB: u64 = 1 << 20;

#[test]
fn a_gigabyte_grows_neither_the_daemon_nor_the_keeper() {
    let home = Home::new();
    let daemon = home.start();
    home.capsule(["run", "--", "echo", "warm"]).run().exits(0);
    let (keeper, guard) = home.keeper();
    let all = [daemon.pid(), keeper, guard];
    let before = all.map(processes::resident_bytes);
    let mut most = before;
    let id = home.submit(["--shell", "--", "yes | head -c 1G; exit 3"]);
    wait_for("a gigabyte is written", || {
        for (most, pid) in most.iter_mut().zip(all) {
            *most = processes::resident_bytes(pid).max(*most);
        }
        (home.show(id)["status"] == "failed").then_some(())
    });
    for (before, most) in before.iter().zip(most) {
        assert!(most < before + 16 * MIB, "from {before} to {most} bytes");
    }
    let task = home.show(id);
    assert_eq!(task["reason"], "exit 3");
    assert_eq!(task["attempts"][0]["receipt"]["output_bytes"], 1 << 30);
    // The end of it can be read at once.
    let words = ["tail", &id.to_string(), "-n", "3", "--no-follow"];
    assert_eq!(home.capsule(words).run().exits(0).text(), "y\ny\ny\n");
}
