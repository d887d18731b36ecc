//! How much disk a queue takes through which very many tasks have gone.

use std::sync::Arc;
use std::time::Instant;

use capsuled::store::{Batch, Change, Compactor, SledStore, StateDir, Store as _, Table};

use crate::bench::Bench;
use crate::limit::store::record;
use crate::report::Line;
use crate::sample::{Sample, rate};

/// Tasks that are there at any time.
const LIVE: u64 = 1000;
/// Tasks that come and go in one commit.
const TOGETHER: u64 = 500;

/// The store with its compactor, as the daemon has it; each task is written and later deleted.
pub(in crate::rows) fn churn(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let total = bench.amount(10_000_000, 500_000) as u64;
    let folder = bench.folder()?;
    let state = StateDir::open(&folder.path().join("state"))?;
    let store = Arc::new(SledStore::open(&state, jiff::Timestamp::now())?.store);
    let compactor = Compactor::start(&store)?;
    let (mut next, mut most) = (1, 0);
    let began = Instant::now();
    while next <= total {
        let come = next..next + TOGETHER;
        let go = next.saturating_sub(LIVE)..come.end.saturating_sub(LIVE);
        let puts = come.clone().map(|id| Change::put(Table::Task, id.to_be_bytes(), record(id)));
        let deletes = go.map(|id| Change::delete(Table::Task, id.to_be_bytes()));
        next = come.end;
        store.commit(&Batch { changes: puts.chain(deletes).collect(), high_water: next })?;
        most = most.max(store.size_on_disk()?);
    }
    let per_second = rate(usize::try_from(total).unwrap_or(usize::MAX), began.elapsed());
    let end = store.size_on_disk()?;
    drop(compactor);
    let mib = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0;
    Ok(vec![
        Line::new(
            format!("{total} tasks came and went, {LIVE} live: most on disk"),
            "MiB",
            Sample::one(mib(most)),
            "≤ 244 (256 MB)",
        )
        .note(format!("at the end {:.0} MiB; {per_second:.0} tasks/s", mib(end))),
    ])
}
