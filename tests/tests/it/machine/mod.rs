//! What the machine does to the queue, and the demo on it: a full disk, a gigabyte of output, rest.

mod demo;
mod disk;
mod leaks;
mod output;
mod retention;
mod wakes;
