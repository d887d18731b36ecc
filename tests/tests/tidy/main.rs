//! What the project promises about its own shape, read from its files: who may depend on whom, how
//! large things may grow, which words are used, what documents claim, what may come from outside.

mod dependencies;
mod documents;
mod invariants;
mod shape;
mod tree;
mod units;
