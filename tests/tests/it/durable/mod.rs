//! Acknowledged means on disk: before the answer, after a power cut, on a bad disk.

mod bad_disk;
mod churn;
mod damage;
mod harm;
mod order;
mod replay;
