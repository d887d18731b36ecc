//! What the machine does to the queue, and the demo on it: a full disk, a gigabyte of output.

mod demo;
mod disk;
mod leaks;
mod output;
mod retention;
