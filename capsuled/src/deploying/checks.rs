//! What must hold of an app beyond what its import shows.

use capsule_core::time::Timestamp;

use super::introspect::Fault;
use crate::schedule::Rule;

/// Why a schedule's expression is none.
pub(super) fn cron_fault(name: &str, cron: &str, (file, line): (&str, u32)) -> Option<Fault> {
    let error = Rule::parse(cron, "", name, Timestamp(0)).err()?;
    Some(Fault {
        kind: "cron".to_owned(),
        message: format!("the schedule {name}: {error}"),
        file: file.to_owned(),
        line,
        traceback: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_read_as_everywhere_else() {
        let fault = |cron| cron_fault("nightly", cron, ("app.py", 7));
        for good in ["0 * * * *", "*/10 * * * * *", "@hourly", "@every 90s", "~ 3 * * fri-sun"] {
            assert_eq!(fault(good), None, "{good}");
        }
        let fault = fault("61 * * * *").unwrap();
        assert_eq!((fault.file.as_str(), fault.line), ("app.py", 7));
        assert!(fault.message.starts_with("the schedule nightly: cron \"61 * * * *\": minute"));
    }
}
