//! Histories built from the task's own state.
