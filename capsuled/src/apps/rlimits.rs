//! `rlimits` of a task in a manifest.

/// The kernel's numbers of the resources that people limit (getrlimit(2)).
const RESOURCES: [(&str, u32); 9] = [
    ("cpu", libc::RLIMIT_CPU),
    ("fsize", libc::RLIMIT_FSIZE),
    ("data", libc::RLIMIT_DATA),
    ("stack", libc::RLIMIT_STACK),
    ("core", libc::RLIMIT_CORE),
    ("nproc", libc::RLIMIT_NPROC),
    ("nofile", libc::RLIMIT_NOFILE),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("as", libc::RLIMIT_AS),
];

/// The kernel's number and the limit of each; an error is the option and why it makes no sense.
pub(super) fn read(table: toml::Table) -> Result<Vec<(u32, u64)>, (String, String)> {
    let mut limits = Vec::with_capacity(table.len());
    for (name, value) in table {
        let option = format!("rlimits.{name}");
        let Some((_, resource)) = RESOURCES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = RESOURCES.iter().map(|(name, _)| *name).collect();
            return Err((option, format!("the resources are {}", names.join(", "))));
        };
        let limit = match &value {
            toml::Value::Integer(number) => u64::try_from(*number).ok(),
            toml::Value::String(word) if word == "unlimited" => Some(u64::MAX),
            toml::Value::String(word) => size(word),
            toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => None,
        };
        let why = "a limit is a number, a size as \"512M\", or \"unlimited\"";
        limits.push((*resource, limit.ok_or_else(|| (option, why.to_owned()))?));
    }
    Ok(limits)
}

fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..)?.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(scale)
}
