//! What very many tasks cost: waiting, ended, or gone.

pub(super) mod churn;
pub(super) mod history;
pub(super) mod million;
