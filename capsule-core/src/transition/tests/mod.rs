//! The state machine against its specification.
//!
//! [`table`] is the specification of single steps; [`ends`] that of the ends of attempts;
//! [`invariants`] holds what must be true of every history; [`history`] makes the histories.

mod ends;
mod history;
mod invariants;
mod picture;
mod table;
