//! What the machine does to the queue, and the demo on it: a full disk, a gigabyte of output, rest.

mod demo;
mod disk;
mod output;
mod wakes;
