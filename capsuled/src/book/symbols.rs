//! Names that many tasks share, kept once.

use std::collections::HashMap;
use std::sync::Arc;

/// A name, by number. Two equal names have one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(pub u32);

/// All names seen since the start. Apps, task names, queues and owners are few, so none is ever
/// forgotten; what may be unique to a task (keys, labels) must not come here.
#[derive(Debug, Default)]
pub struct Symbols {
    by_name: HashMap<Arc<str>, Symbol>,
    names: Vec<Arc<str>>,
}

impl Symbols {
    /// The number of a name, a new one if need be.
    pub fn intern(&mut self, name: &str) -> Symbol {
        if let Some(symbol) = self.by_name.get(name) {
            return *symbol;
        }
        let symbol = Symbol(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.by_name.insert(name, symbol);
        symbol
    }

    /// The number of a name that was seen.
    pub fn find(&self, name: &str) -> Option<Symbol> {
        self.by_name.get(name).copied()
    }

    /// All names with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Symbol, &str)> {
        (0..).map(Symbol).zip(self.names.iter().map(|name| &**name))
    }

    /// The name behind a number.
    pub fn name(&self, symbol: Symbol) -> &str {
        usize::try_from(symbol.0).ok().and_then(|n| self.names.get(n)).map_or("", |name| name)
    }
}
