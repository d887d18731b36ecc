//! Lock templates: `owner:{owner_id}` and the arguments of a call make the key.
//!
//! Two different argument lists never make the same key of one template: what could be read as
//! part of the template, or as the end of a value, is escaped in the values.

use crate::spec::KEY_MAX;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Param(String),
}

/// Why a template or a key made of it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// A `{` without `}` or the other way round.
    #[error("lock {0:?} has an unbalanced brace")]
    Unbalanced(String),
    /// `{}` or `{a.b}`: only names of parameters stand in braces.
    #[error("lock {template:?}: {{{name}}} is not the name of a parameter")]
    BadName {
        /// The whole template.
        template: String,
        /// What stands in the braces.
        name: String,
    },
    /// Nothing at all.
    #[error("a lock template is empty")]
    Empty,
    /// The key has more than [`KEY_MAX`] bytes.
    #[error("the lock key has {0} bytes, the limit is {KEY_MAX}")]
    TooLong(usize),
    /// No value for a parameter that the template names.
    #[error("the lock needs the parameter {0}")]
    Missing(String),
}

impl Template {
    /// Reads a template. `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// Unbalanced braces, something other than a parameter's name in braces, nothing at all.
    pub fn parse(template: &str) -> Result<Self, LockError> {
        if template.is_empty() {
            return Err(LockError::Empty);
        }
        let unbalanced = || LockError::Unbalanced(template.to_owned());
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    text.push(c);
                }
                '}' => return Err(unbalanced()),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some('{') | None => return Err(unbalanced()),
                            Some(other) => name.push(other),
                        }
                    }
                    let first = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
                    if !first || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                        return Err(LockError::BadName { template: template.to_owned(), name });
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::Param(name));
                }
                other => text.push(other),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { parts })
    }

    /// The parameters it names, in order, with repetitions.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Param(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Makes the key, asking `value` for each parameter.
    ///
    /// # Errors
    /// A parameter without a value, or a key over [`KEY_MAX`] bytes.
    pub fn render(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, LockError> {
        let mut key = String::new();
        let mut behind_value = false;
        for (place, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Param(name) => {
                    if behind_value && !self.separates(place) {
                        key.push_str("%+");
                    }
                    let value = value(name).ok_or_else(|| LockError::Missing(name.clone()))?;
                    self.escape(&value, &mut key);
                    behind_value = true;
                }
            }
        }
        if key.len() > KEY_MAX { Err(LockError::TooLong(key.len())) } else { Ok(key) }
    }

    /// Whether the text before the parameter at `place` holds a character that no value does.
    fn separates(&self, place: usize) -> bool {
        match place.checked_sub(1).and_then(|before| self.parts.get(before)) {
            Some(Part::Text(text)) => text.chars().any(|c| !c.is_alphanumeric()),
            Some(Part::Param(_)) | None => false,
        }
    }

    /// Keeps letters, digits and the few marks that ids use, as long as the template does not
    /// use those marks itself; every other byte becomes `%XX`.
    fn escape(&self, value: &str, key: &mut String) {
        for c in value.chars() {
            let kept = c.is_alphanumeric() || ("-_.@".contains(c) && !self.uses(c));
            if kept {
                key.push(c);
            } else {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    key.push('%');
                    for nibble in [byte >> 4, byte & 15] {
                        key.extend(char::from_digit(u32::from(nibble), 16));
                    }
                }
            }
        }
    }

    fn uses(&self, c: char) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(text) => text.contains(c),
            Part::Param(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(template: &str, values: &[(&str, &str)]) -> Result<String, LockError> {
        Template::parse(template)?.render(|name| {
            values.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn keys_are_made_of_templates() {
        for (template, values, expected) in [
            ("owner:{owner_id}", &[("owner_id", "acme")][..], "owner:acme"),
            ("owner:{owner_id}", &[("owner_id", "a:b c")], "owner:a%3ab%20c"),
            ("owner:{id}", &[("id", "org-7_x.y@z")], "owner:org-7_x.y@z"),
            ("{a}-{b}", &[("a", "x-y"), ("b", "z")], "x%2dy-z"),
            ("{a}{b}", &[("a", "x"), ("b", "y")], "x%+y"),
            ("{a}n{b}", &[("a", "x"), ("b", "y")], "xn%+y"),
            ("{a}", &[("a", "%+{ü")], "%25%2b%7bü"),
            ("{{{a}}}", &[("a", "1")], "{1}"),
            ("all", &[], "all"),
        ] {
            assert_eq!(key(template, values).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn bad_templates_are_refused() {
        for template in ["{", "}", "a{b", "a}b", "{a{b}}"] {
            assert_eq!(
                key(template, &[]),
                Err(LockError::Unbalanced(template.into())),
                "{template}"
            );
        }
        for (template, name) in [("{}", ""), ("{a.b}", "a.b"), ("{0}", "0"), ("{a!r}", "a!r")] {
            let error = LockError::BadName { template: template.into(), name: name.into() };
            assert_eq!(key(template, &[]), Err(error), "{template}");
        }
        assert_eq!(key("", &[]), Err(LockError::Empty));
        assert_eq!(key("x:{a}", &[]), Err(LockError::Missing("a".into())));
        let fits = "x".repeat(KEY_MAX);
        assert_eq!(key("{a}", &[("a", &fits)]).map(|k| k.len()), Ok(KEY_MAX));
        assert_eq!(key("{a}y", &[("a", &fits)]), Err(LockError::TooLong(KEY_MAX + 1)));
        let template = Template::parse("a{b}c{d}").expect("it is well formed");
        assert_eq!(template.params().collect::<Vec<_>>(), ["b", "d"]);
    }

    proptest! {
        #[test]
        fn two_argument_lists_never_share_a_key(
            template in prop::sample::select(vec![
                "{a}:{b}", "{a}{b}", "{a}-{b}", "{a}x{b}", "o:{a}_{b}.", "{a}%{b}", "{a} {b}",
            ]),
            a in "[a-cx%:._@ +-]{0,4}", b in "[a-cx%:._@ +-]{0,4}",
            c in "[a-cx%:._@ +-]{0,4}", d in "[a-cx%:._@ +-]{0,4}",
        ) {
            let first = key(template, &[("a", &a), ("b", &b)]);
            let second = key(template, &[("a", &c), ("b", &d)]);
            prop_assert_eq!(first == second, (a, b) == (c, d), "{}", template);
        }
    }
}
