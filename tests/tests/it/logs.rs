//! Output: endless, held open, cut, in two streams.

use capsule_proto::v1::TailRequest;
use capsule_proto::v1::tail_event::Event;
use capsule_tests::{Home, processes, rpc, wait_for};

const MIB: u64 = 1 << 20;
const FLOOD: u64 = 300 * MIB;

/// The bytes of `seq 1 …` from an offset on, without writing down what lies before.
struct Numbers {
    next: u64,
    rest: Vec<u8>,
}

impl Numbers {
    fn from(offset: u64) -> Self {
        let (mut left, mut digits, mut first) = (offset, 1, 1);
        // All numbers of as many digits fill so many bytes.
        while left >= (digits + 1) * 9 * first {
            left -= (digits + 1) * 9 * first;
            (digits, first) = (digits + 1, first * 10);
        }
        let mut numbers = Self { next: first + left / (digits + 1), rest: Vec::new() };
        numbers.take(usize::try_from(left % (digits + 1)).unwrap());
        numbers
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.rest.len() < count {
            self.rest.extend(format!("{}\n", self.next).into_bytes());
            self.next += 1;
        }
        self.rest.drain(..count).collect()
    }
}

#[test]
fn a_flood_keeps_head_and_tail_and_does_not_grow_the_daemon() {
    let home = Home::new();
    let daemon = home.start();
    home.capsule(["run", "--", "echo", "warm"]).run().exits(0);
    let before = processes::resident_bytes(daemon.pid());
    let script = format!("seq 1 100000000 | head -c {FLOOD}");
    let id = home.submit(["--shell", "--", &script]);
    let mut most = 0;
    wait_for("the flood is over", || {
        most = most.max(processes::resident_bytes(daemon.pid()));
        (home.show(id)["status"] == "completed").then_some(())
    });
    assert!(most < before + 16 * MIB, "from {before} to {most} bytes");
    let receipt = &home.show(id)["attempts"][0]["receipt"];
    assert_eq!(receipt["output_bytes"], FLOOD);
    assert_eq!(receipt["dropped_bytes"], 0, "a cut log is no lost output: {receipt}");

    let (kept, gaps) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(compare(&home, id));
    assert_eq!(kept + gaps, FLOOD);
    assert!((20 * MIB..40 * MIB).contains(&kept), "{kept} bytes were kept");
    let after = processes::resident_bytes(daemon.pid());
    assert!(after < before + 16 * MIB, "reading it: from {before} to {after} bytes");
}

/// Compares each chunk of the log with what stands at its place; gives the bytes kept and those in
/// gaps.
async fn compare(home: &Home, id: u64) -> (u64, u64) {
    let mut client = rpc::connect(&home.socket()).await.unwrap();
    let request = TailRequest { id: id.to_string(), ..TailRequest::default() };
    let mut events = client.tail(request).await.unwrap().into_inner();
    let (mut numbers, mut kept, mut gaps) = (Numbers::from(0), 0, 0);
    while let Some(event) = events.message().await.unwrap() {
        let Some(Event::Chunk(chunk)) = event.event else { continue };
        if chunk.gap > 0 {
            gaps += chunk.gap;
            numbers = Numbers::from(kept + gaps);
        }
        assert!(chunk.data == numbers.take(chunk.data.len()), "at byte {}", kept + gaps);
        kept += chunk.data.len() as u64;
    }
    (kept, gaps)
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_delay_the_verdict() {
    let home = Home::new();
    let _daemon = home.start();
    let script = "sleep 1000 & setsid sleep 1000 & echo done; exit 5";
    let run = home.capsule(["run", "--shell", "--", script]).run().exits(5);
    assert_eq!(run.text(), "done\n");
    wait_for("the grandchildren are gone", || {
        home.processes().iter().all(|process| process.name != "sleep").then_some(())
    });
}

#[test]
fn a_log_is_followed_while_it_is_written() {
    let home = Home::new();
    let _daemon = home.start();
    let script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo out $i; echo err $i >&2; \
                  sleep 0.01; done; until [ -e go ]; do sleep 0.05; done; printf last";
    let id = home.submit(["--shell", "--", script]);
    let follow = home.capsule(["tail", &id.to_string(), "--follow"]).start();
    let out = home.capsule(["tail", &id.to_string(), "--follow", "--stream", "out"]).start();
    home.running(id);
    std::fs::write(home.path("h/go"), "").unwrap();
    let (all, out) = (follow.end().exits(0), out.end().exits(0));
    let wanted =
        |word: &str| (1..=50).fold(String::new(), |text, i| text + &format!("{word} {i}\n"));
    assert_eq!(out.text(), wanted("out") + "last");
    let lines = |word: &str| {
        let text = all.text() + "\n" + &all.errors();
        text.lines().filter(|line| line.starts_with(word)).fold(String::new(), |t, l| t + l + "\n")
    };
    assert_eq!((lines("out"), lines("err")), (wanted("out"), wanted("err")));
    let last = home.capsule(["tail", &id.to_string(), "-n", "2", "--no-follow"]).run().exits(0);
    assert!(last.text().ends_with("last"), "{}", last.text());
}

#[test]
fn the_log_stays_when_the_program_dies_at_once() {
    let home = Home::new();
    let _daemon = home.start();
    let script = "head -c 200000 /dev/zero | tr '\\0' x; kill -9 $$";
    let run = home.capsule(["run", "--shell", "--", script]).run().exits(137);
    assert_eq!(run.out.len(), 200_000);
    assert_eq!(home.output(1).len(), 200_000);
}
