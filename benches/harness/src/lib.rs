//! What is the same for gort and for the libraries beside it: how a row is measured, and the programs.
//!
//! [`Row`] and [`Runner`] run Go's own benchmarks as Go's `testing` package does. [`programs`] has the larger ones,
//! written once for every [`Library`] whose operations block. [`child`] is the command line of a process that measures
//! one of them. Nothing here knows gort.

pub mod child;
mod library;
pub mod programs;
mod row;
mod runner;
pub mod usage;
mod work;

pub use library::{Library, Metronome};
pub use row::{Bench, Metric, Op, Row, Share, Shares};
pub use runner::{Host, Job, Outcome, Runner, procs_from_env};
pub use work::{double_and_halve, local_work};
