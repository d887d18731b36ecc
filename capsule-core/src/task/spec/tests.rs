//! Each bound at its limit and one beyond, and the record that holds when all are at theirs.

use proptest::prelude::*;

use super::*;
use crate::attempt::{
    ATTRIBUTION_MAX, AttemptRecord, ERROR_MAX, Failure, How, Receipt, ResultRefusal, Source,
    Verdict,
};
use crate::fixture::{self, NOW, UUID};
use crate::id::{AttemptNumber, Seq};
use crate::task::{Cancellation, Outcome, REASON_MAX, State, Status, Task};

type Change = fn(&mut TaskSpec, usize);

fn changed(change: impl Fn(&mut TaskSpec)) -> Result<(), SpecError> {
    let mut spec = fixture::spec();
    change(&mut spec);
    spec.check()
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

#[test]
fn lengths_are_bounded() {
    let bounds: [(&str, usize, Change); 10] = [
        ("task name", NAME_MAX, |spec, n| spec.name = text(n)),
        ("queue", NAME_MAX, |spec, n| spec.queue = text(n)),
        ("app", NAME_MAX, |spec, n| spec.app = text(n)),
        ("owner", NAME_MAX, |spec, n| spec.owner = text(n)),
        ("display name", NAME_MAX, |spec, n| spec.display_name = text(n)),
        ("lock key", KEY_MAX, |spec, n| spec.lock = Some(text(n))),
        ("idempotency key", KEY_MAX, |spec, n| spec.key = Some(text(n))),
        ("summary", SUMMARY_MAX, |spec, n| spec.summary = text(n)),
        ("labels", LABELS_MAX, |spec, n| {
            spec.labels = [(text(n - 7), "seven b".into())].into();
        }),
        ("inline payload", INLINE_PAYLOAD_MAX, |spec, n| {
            spec.payload = Payload::Inline(vec![0; n]);
        }),
    ];
    for (what, limit, change) in bounds {
        assert_eq!(changed(|spec| change(spec, limit)), Ok(()), "{what}");
        let error = SpecError::TooLong { what, length: limit + 1, limit };
        assert_eq!(changed(|spec| change(spec, limit + 1)), Err(error), "{what}");
    }
    assert_eq!(changed(|spec| spec.payload = Payload::Side { length: u32::MAX }), Ok(()));
}

#[test]
fn all_short_texts_together_are_bounded() {
    let fill = |last: usize| {
        changed(|spec| {
            for field in [&mut spec.app, &mut spec.name, &mut spec.display_name] {
                *field = text(100);
            }
            (spec.owner, spec.queue) = (text(50), text(50));
            (spec.lock, spec.key) = (Some(text(150)), Some(text(150)));
            spec.labels = [(text(10), text(10)), (text(11), text(last))].into();
        })
    };
    let rest = TEXTS_MAX - 731;
    assert_eq!(fill(rest), Ok(()));
    let what = "all names, keys and labels together";
    let error = SpecError::TooLong { what, length: TEXTS_MAX + 1, limit: TEXTS_MAX };
    assert_eq!(fill(rest + 1), Err(error));
}

#[test]
fn names_are_not_empty_and_made_of_plain_characters() {
    let empty: [(&str, Change); 5] = [
        ("task name", |spec, _| spec.name.clear()),
        ("queue", |spec, _| spec.queue.clear()),
        ("owner", |spec, _| spec.owner.clear()),
        ("lock key", |spec, _| spec.lock = Some(String::new())),
        ("idempotency key", |spec, _| spec.key = Some(String::new())),
    ];
    for (what, change) in empty {
        assert_eq!(changed(|spec| change(spec, 0)), Err(SpecError::Empty { what }));
    }
    assert_eq!(changed(|spec| spec.app.clear()), Ok(()));
    for good in ["a", "Größe_9", "a.b:c@d+e/f-g"] {
        assert_eq!(name("task name", good), Ok(()), "{good}");
    }
    for bad in ["a b", "a\n", "a,b", "{a}", "a\0"] {
        let error = |what| Err(SpecError::BadName { what, text: bad.into() });
        assert_eq!(changed(|spec| spec.name = bad.into()), error("task name"));
        assert_eq!(changed(|spec| spec.queue = bad.into()), error("queue"));
        assert_eq!(changed(|spec| spec.app = bad.into()), error("app"));
    }
}

/// A field, its range, and how it is set.
type Ranged = (&'static str, i64, i64, fn(&mut TaskSpec, i64));

fn span(ms: i64) -> Span {
    Span(u64::try_from(ms).expect("the ranges of spans begin at 0"))
}

fn many<T: Clone>(item: T, count: i64) -> Vec<T> {
    vec![item; usize::try_from(count).expect("a list has no negative length")]
}

const YEAR: i64 = 366 * 86_400_000;

const NUMBERS: [Ranged; 11] = [
    ("priority", -100, 100, |spec, n| spec.priority = i8::try_from(n).expect("it is small")),
    ("retries", 0, 100, |spec, n| spec.retries = u32::try_from(n).expect("it is small")),
    ("timeout in milliseconds", 1, YEAR, |spec, n| spec.timeout = Some(span(n))),
    ("grace in milliseconds", 0, YEAR, |spec, n| spec.grace = span(n)),
    ("start_within in milliseconds", 0, YEAR, |spec, n| spec.start_within = Some(span(n))),
    ("longest backoff in milliseconds", 0, YEAR, |spec, n| spec.backoff = Backoff::Fixed(span(n))),
    ("first backoff in milliseconds", 0, 9, |spec, n| {
        spec.backoff = Backoff::Exponential { first: span(n), max: Span(9) };
    }),
    ("the number of labels", 0, 32, |spec, n| {
        spec.labels = (0..n).map(|label| (label.to_string(), String::new())).collect();
    }),
    ("the number of dependencies", 0, 16, |spec, n| {
        spec.after = many(Dependency { task: TaskId(1), on: DependencyOn::Ok }, n);
    }),
    ("the number of exit codes", 0, 16, |spec, n| spec.no_retry_exit_codes = many(1, n)),
    ("the number of failure classes", 0, 4, |spec, n| {
        spec.no_retry_on = many(FailureClass::Exit, n);
    }),
];

#[test]
fn numbers_have_ranges() {
    for (what, low, high, set) in NUMBERS {
        assert_eq!(changed(|spec| set(spec, low)), Ok(()), "{what}");
        assert_eq!(changed(|spec| set(spec, high)), Ok(()), "{what}");
        let error = |value| Err(SpecError::Range { what, value, low, high });
        assert_eq!(changed(|spec| set(spec, high + 1)), error(high + 1));
        if low != 0 {
            assert_eq!(changed(|spec| set(spec, low - 1)), error(low - 1));
        }
    }
    let endless = changed(|spec| spec.grace = Span(u64::MAX));
    let what = "grace in milliseconds";
    assert_eq!(endless, Err(SpecError::Range { what, value: i64::MAX, low: 0, high: YEAR }));
}

#[test]
fn at_most_once_allows_no_retries() {
    let once = |retries| {
        changed(|spec| {
            spec.delivery = Delivery::AtMostOnce;
            spec.retries = retries;
        })
    };
    assert_eq!(once(0), Ok(()));
    assert_eq!(once(1), Err(SpecError::AtMostOnceRetries(1)));
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (SpecError::Empty { what: "owner" }, "owner is empty"),
        (
            SpecError::TooLong { what: "labels", length: 513, limit: 512 },
            "labels has 513 bytes, the limit is 512",
        ),
        (
            SpecError::Range { what: "priority", value: 101, low: -100, high: 100 },
            "priority is 101, it goes from -100 to 100",
        ),
        (
            SpecError::AtMostOnceRetries(2),
            "delivery at_most_once allows no retries, 2 were asked for",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn the_longest_run_is_all_attempts_and_pauses() {
    let spec = fixture::spec();
    // Three times five minutes, and pauses of 5 s and 15 s.
    assert_eq!(spec.longest_run(), Some(Span::from_secs(920)));
    assert_eq!(TaskSpec { retries: 0, ..spec.clone() }.longest_run(), Some(Span::from_secs(300)));
    assert_eq!(TaskSpec { timeout: None, ..spec }.longest_run(), None);
}

#[test]
fn dependencies_are_satisfied_by_the_ends_they_name() {
    let ends = |on: DependencyOn| {
        Status::ALL.into_iter().filter(|status| on.satisfied_by(*status)).collect::<Vec<_>>()
    };
    let (done, others) = (Status::Completed, [Status::Failed, Status::Timeout, Status::Cancelled]);
    assert_eq!(ends(DependencyOn::Ok), [done]);
    assert_eq!(ends(DependencyOn::Failed), others);
    assert_eq!(ends(DependencyOn::Any), [[done].as_slice(), &others].concat());
}

/// Every field at its bound; of the texts, as many short ones as there can be.
fn largest_spec() -> TaskSpec {
    let year = TIMEOUT_MAX;
    let labels: BTreeMap<String, String> =
        (0..LABELS_COUNT_MAX).map(|label| (format!("{label:02}"), String::new())).collect();
    let rest = TEXTS_MAX - 2 * LABELS_COUNT_MAX - 2 * KEY_MAX - 3 - NAME_MAX;
    TaskSpec {
        app: text(rest),
        name: text(NAME_MAX),
        display_name: text(1),
        owner: text(1),
        uid: u32::MAX,
        queue: text(1),
        priority: -100,
        labels,
        payload: Payload::Inline(vec![0xff; INLINE_PAYLOAD_MAX]),
        retries: RETRIES_MAX,
        backoff: Backoff::Exponential { first: year, max: year },
        timeout: Some(year),
        grace: year,
        delivery: Delivery::AtLeastOnce,
        lock: Some(text(KEY_MAX)),
        lock_policy: LockPolicy::Reject,
        key: Some(text(KEY_MAX)),
        start_within: Some(year),
        after: vec![Dependency { task: TaskId(u64::MAX), on: DependencyOn::Failed }; AFTER_MAX],
        no_retry_exit_codes: vec![i32::MIN; EXIT_CODES_MAX],
        no_retry_on: vec![FailureClass::Memory; CLASSES_MAX],
        revision: u32::MAX,
        arguments: u64::MAX,
        summary: text(SUMMARY_MAX),
        not_before: Some(Timestamp(i64::MIN)),
        hold: true,
        tick: Some(TickRef { schedule: ScheduleId(u64::MAX), planned: Timestamp(i64::MIN) }),
        parent: Some(TaskId(u64::MAX)),
    }
}

fn largest(verdict: Verdict, outcome: Outcome, result: Option<Payload>) -> Task {
    let at = Timestamp(i64::MAX);
    let most = Some(u64::MAX);
    let receipt = Receipt {
        wall_us: most,
        cpu_user_us: most,
        cpu_system_us: most,
        cpu_source: Source::Rusage,
        peak_memory: most,
        memory_source: Source::Rusage,
        read_bytes: most,
        written_bytes: most,
        io_source: Source::Rusage,
        max_pids: most,
        exit_code: Some(i32::MIN),
        signal: Some(i32::MIN),
        output_bytes: u64::MAX,
        error_bytes: u64::MAX,
        dropped_bytes: u64::MAX,
        result_refused: Some(ResultRefusal::Unreadable),
        attribution: text(ATTRIBUTION_MAX),
    };
    let last = AttemptRecord {
        number: AttemptNumber(u32::MAX),
        claimed: at,
        started: Some(at),
        ended: Some(at),
        pid: Some(u32::MAX),
        verdict: Some(verdict),
        receipt,
        revision: u32::MAX,
    };
    Task {
        id: TaskId(u64::MAX),
        uuid: UUID,
        spec: largest_spec(),
        created: at,
        state: State::Ended { at, outcome },
        attempts: AttemptNumber(u32::MAX),
        failures: u32::MAX,
        losses: u32::MAX,
        last: Some(last),
        seq: Seq(u64::MAX),
        due_since: NOW,
        result,
    }
}

#[test]
fn the_largest_task_fits_its_record() {
    let failure = Failure::CannotStart { step: text(32), message: text(ERROR_MAX - 32) };
    let failed = Verdict::Failed(failure.clone());
    let reason = text(REASON_MAX);
    let stopped = Cancellation::Stopped { how: How::Killed, reason };
    let result = Payload::Inline(vec![0xff; INLINE_RESULT_MAX]);
    for task in [
        largest(failed, Outcome::Failed(failure), None),
        largest(Verdict::Stopped(How::Killed), Outcome::Cancelled(stopped), Some(result)),
    ] {
        assert_eq!(task.spec.check(), Ok(()));
        let bytes = minicbor::to_vec(&task).expect("writing to memory cannot fail");
        assert!(bytes.len() <= RECORD_MAX, "{} bytes of {RECORD_MAX}", bytes.len());
        assert!(bytes.len() > RECORD_MAX - 200, "{} bytes: room to raise a bound", bytes.len());
        assert_eq!(minicbor::decode::<Task>(&bytes).expect("it was just written"), task);
    }
}

proptest! {
    /// However the bytes are spread over the texts, what check() lets through fits the record.
    #[test]
    fn what_passes_the_check_fits_the_record(
        names in prop::array::uniform5(1usize..=NAME_MAX),
        keys in prop::array::uniform2(1usize..=KEY_MAX),
        labels in prop::collection::btree_map("[a-zü]{1,12}", "[a-zü]{0,30}", 0..40),
    ) {
        let stopped = Cancellation::Stopped { how: How::Killed, reason: text(REASON_MAX) };
        let result = Payload::Inline(vec![0xff; INLINE_RESULT_MAX]);
        let mut task =
            largest(Verdict::Completed, Outcome::Cancelled(stopped), Some(result));
        let spec = &mut task.spec;
        let [app, name, display_name, owner, queue] = names.map(text);
        let [lock, key] = keys.map(text);
        (spec.app, spec.name, spec.display_name) = (app, name, display_name);
        (spec.owner, spec.queue) = (owner, queue);
        (spec.lock, spec.key) = (Some(lock), Some(key));
        spec.labels = labels;
        if spec.check().is_ok() {
            let bytes = minicbor::to_vec(&task).expect("writing to memory cannot fail");
            prop_assert!(bytes.len() <= RECORD_MAX, "{} bytes", bytes.len());
        }
    }
}
