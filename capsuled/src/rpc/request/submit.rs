//! From a submit on the wire to a task for the engine.

use capsule_core::retry::Backoff;
use capsule_core::spec::{
    Delivery, Dependency, DependencyOn, FailureClass, LockPolicy, Payload, SUMMARY_MAX, TaskSpec,
};
use capsule_core::time::{Span, Timestamp};
use capsule_proto::v1;

use super::peer::Peer;
use super::{call, targets};
use crate::engine::{Engine, How, NewTask};
use crate::rpc::status::Refused;
use crate::text::bounded;
use crate::work::{Program, Work};

/// Between SIGTERM and SIGKILL, unless said otherwise.
pub(in crate::rpc) const GRACE: Span = Span::from_secs(10);

/// Makes a task of a submit.
pub(in crate::rpc) fn new_task(
    engine: &Engine,
    request: v1::SubmitRequest,
    peer: &Peer,
) -> Result<NewTask, Refused> {
    let options = request.options.unwrap_or_default();
    let (work, defaults) = match request.work {
        Some(v1::submit_request::Work::Program(program)) => {
            let work = program_work(program)?;
            let defaults = program_defaults(&work, &options, peer);
            (Work::Program(work), defaults)
        }
        Some(v1::submit_request::Work::Call(work)) => call::work(engine, work, peer)?,
        None => {
            return Err(Refused::invalid("nothing to run: name a task or a program"));
        }
    };
    let mut spec = defaults;
    spec.arguments = work.digest();
    apply(engine, &mut spec, options, peer)?;
    let parent = request.parent_task.map(capsule_core::id::TaskId);
    Ok(NewTask { spec, payload: work.encode(), parent, dry_run: request.dry_run })
}

/// Submits many; each stands for itself, and has its result in its place.
pub(in crate::rpc) async fn each(
    engine: &Engine,
    peer: &Peer,
    rows: Vec<v1::SubmitRequest>,
) -> Result<Vec<v1::SubmitResult>, Refused> {
    let mut results = vec![v1::SubmitResult::default(); rows.len()];
    let mut submits = Vec::with_capacity(rows.len());
    let mut places = Vec::with_capacity(rows.len());
    for (row, result) in rows.into_iter().zip(&mut results) {
        match new_task(engine, row, peer) {
            Ok(new) => {
                submits.push(new);
                places.push(result);
            }
            Err(refused) => fail(result, refused),
        }
    }
    let submitted = engine.submit(submits).await.map_err(Refused::from)?;
    for (place, submitted) in places.into_iter().zip(submitted) {
        match submitted {
            Ok(submitted) => {
                place.id = submitted.task.id.0;
                place.merged = matches!(submitted.how, How::Merged { .. });
                place.existing = submitted.how == How::Existing;
            }
            Err(error) => fail(place, error.into()),
        }
    }
    Ok(results)
}

fn fail(result: &mut v1::SubmitResult, refused: Refused) {
    result.error = refused.message;
    refused.name.clone_into(&mut result.error_code);
}

fn program_work(program: v1::Program) -> Result<Program, Refused> {
    let v1::Program { argv, shell, cwd, env, stdin } = program;
    match argv.first() {
        None => {
            return Err(Refused::invalid("no program is named").hint("capsule submit -- echo hi"));
        }
        Some(first) if first.is_empty() => {
            return Err(Refused::invalid("the program's name is empty"));
        }
        Some(_) => {}
    }
    if shell && argv.len() != 1 {
        return Err(Refused::invalid("with --shell, give the command as one word"));
    }
    let strings = argv.iter().chain([&cwd]).chain(env.keys()).chain(env.values());
    if strings.into_iter().any(|text| text.contains('\0')) {
        return Err(Refused::invalid(
            "a NUL byte is in the command, its folder or its environment",
        ));
    }
    if env.keys().any(|name| name.is_empty() || name.contains('=')) {
        return Err(Refused::invalid("the name of an environment variable is empty or has a ="));
    }
    let mut env: Vec<(String, String)> = env.into_iter().collect();
    env.sort_unstable();
    Ok(Program { argv, shell, cwd, env, stdin })
}

fn program_defaults(program: &Program, options: &v1::Options, peer: &Peer) -> TaskSpec {
    let first = program.argv.first().map_or("", String::as_str);
    let word = if program.shell { first.split_whitespace().next().unwrap_or("sh") } else { first };
    let retried = options.retries.is_some_and(|retries| retries > 0);
    TaskSpec {
        app: String::new(),
        name: name_of(word),
        display_name: String::new(),
        owner: peer.name.clone(),
        uid: peer.uid,
        queue: "default".to_owned(),
        priority: 0,
        labels: std::collections::BTreeMap::new(),
        payload: Payload::Inline(Vec::new()),
        retries: 0,
        backoff: Backoff::default(),
        timeout: None,
        grace: GRACE,
        // Who asks for retries says that running twice does no harm.
        delivery: if retried { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
        lock: None,
        lock_policy: LockPolicy::Merge,
        key: None,
        start_within: None,
        after: Vec::new(),
        no_retry_exit_codes: Vec::new(),
        no_retry_on: Vec::new(),
        revision: 0,
        arguments: 0,
        summary: summary(&program.argv, program.shell),
        not_before: None,
        hold: false,
        tick: None,
        parent: None,
    }
}

/// The last part of a program's path, in the characters that names have.
fn name_of(program: &str) -> String {
    let last = program.rsplit('/').find(|part| !part.is_empty()).unwrap_or("program");
    let fits = |c: char| if c.is_alphanumeric() || "_.:@+-".contains(c) { c } else { '_' };
    let name: String = last.chars().map(fits).take(32).collect();
    if name.is_empty() { "program".to_owned() } else { name }
}

/// A command line for people, words quoted as a shell would want them, cut to its bound.
fn summary(argv: &[String], shell: bool) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "_./:=@%+,-".contains(c))
    };
    let words: Vec<String> = argv
        .iter()
        .map(|word| {
            if shell || plain(word) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    bounded(&words.join(" "), SUMMARY_MAX)
}

/// What was asked for on submit wins over the definition.
pub(in crate::rpc) fn apply(
    engine: &Engine,
    spec: &mut TaskSpec,
    options: v1::Options,
    peer: &Peer,
) -> Result<(), Refused> {
    let now = engine.now();
    for (field, value) in [
        (&mut spec.name, options.name),
        (&mut spec.display_name, options.display_name),
        (&mut spec.owner, options.owner),
        (&mut spec.queue, options.queue),
    ] {
        if !value.is_empty() {
            *field = value;
        }
    }
    if let Some(priority) = options.priority {
        spec.priority = i8::try_from(priority).map_err(|_| {
            Refused::invalid(format!("priority is {priority}, it goes from -100 to 100"))
        })?;
    }
    spec.labels.extend(options.labels);
    spec.not_before = match (options.delay_ms, options.at_us) {
        (Some(_), Some(_)) => return Err(Refused::invalid("--in and --at exclude each other")),
        (Some(delay), None) => Some(now.plus(Span(delay))),
        (None, at) => at.map(Timestamp),
    };
    spec.start_within = options.start_within_ms.map(Span);
    for dependency in options.after {
        let task = targets::one(engine, &dependency.id, peer)?;
        let on = match dependency.on.as_str() {
            "" | "ok" => DependencyOn::Ok,
            "any" => DependencyOn::Any,
            "failed" => DependencyOn::Failed,
            other => {
                return Err(Refused::invalid(format!("{other:?} is none of ok, any and failed")));
            }
        };
        spec.after.push(Dependency { task, on });
    }
    spec.hold = options.hold;
    spec.retries = options.retries.unwrap_or(spec.retries);
    if !options.backoff.is_empty() {
        spec.backoff = Backoff::parse(&options.backoff)
            .map_err(|error| Refused::invalid(error.to_string()))?;
    }
    if let Some(timeout) = options.timeout_ms {
        spec.timeout = Some(Span(timeout)).filter(|span| *span != Span::ZERO);
    }
    spec.grace = options.grace_ms.map_or(spec.grace, Span);
    if let Some(lock) = options.lock {
        spec.lock = Some(lock).filter(|lock| !lock.is_empty());
    }
    spec.key = Some(options.key).filter(|key| !key.is_empty());
    match v1::LockPolicy::try_from(options.lock_policy) {
        Ok(v1::LockPolicy::Merge) => spec.lock_policy = LockPolicy::Merge,
        Ok(v1::LockPolicy::Wait) => spec.lock_policy = LockPolicy::Wait,
        Ok(v1::LockPolicy::Replace) => spec.lock_policy = LockPolicy::Replace,
        Ok(v1::LockPolicy::Reject) => spec.lock_policy = LockPolicy::Reject,
        Ok(v1::LockPolicy::Unspecified) | Err(_) => {}
    }
    match v1::Delivery::try_from(options.delivery) {
        Ok(v1::Delivery::AtLeastOnce) => spec.delivery = Delivery::AtLeastOnce,
        Ok(v1::Delivery::AtMostOnce) => spec.delivery = Delivery::AtMostOnce,
        Ok(v1::Delivery::Unspecified) | Err(_) => {}
    }
    spec.no_retry_exit_codes.extend(options.no_retry_exit_codes);
    for word in options.no_retry_on {
        spec.no_retry_on.push(class_of(&word)?);
    }
    spec.check()?;
    Ok(())
}

/// The class of failure that a word names.
pub(in crate::rpc) fn class_of(word: &str) -> Result<FailureClass, Refused> {
    match word {
        "exit" => Ok(FailureClass::Exit),
        "signal" => Ok(FailureClass::Signal),
        "timeout" => Ok(FailureClass::Timeout),
        "memory" => Ok(FailureClass::Memory),
        _ => Err(Refused::invalid(format!("{word:?} is none of exit, signal, timeout and memory"))),
    }
}

/// The word for a class of failure.
pub(in crate::rpc) const fn class_word(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Exit => "exit",
        FailureClass::Signal => "signal",
        FailureClass::Timeout => "timeout",
        FailureClass::Memory => "memory",
    }
}
