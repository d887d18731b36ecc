//! What the project promises about its own shape, read from its files: who may depend on whom, how
//! large things may grow, which words are used, what documents claim, what may come from outside.

#[cfg(test)]
mod dependencies;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod units;
