//! The `capsule` command as a user meets it, against a daemon that is part of the test.

#[cfg(test)]
mod chat;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod help;
#[cfg(test)]
mod output;
#[cfg(test)]
mod run;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod steer;
#[cfg(test)]
mod submit;
#[cfg(test)]
mod terminal;
