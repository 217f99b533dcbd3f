//! Model of the note: its real code over a futex of the model.
#![cfg(loom)]

use gort_scheduler::note::Note;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn a_sleeper_misses_neither_of_two_wakers() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let shared = Arc::new((Note::new(), [AtomicBool::new(false), AtomicBool::new(false)]));
        let wakers: Vec<_> = (0..2)
            .map(|i| {
                let shared = shared.clone();
                thread::spawn(move || {
                    // Relaxed: the note alone must carry it over.
                    shared.1[i].store(true, Ordering::Relaxed);
                    shared.0.wakeup();
                })
            })
            .collect();
        // Sleeps until it has seen both, as an M or a parked thread does for its own condition.
        while !shared.1.iter().all(|flag| flag.load(Ordering::Relaxed)) {
            shared.0.sleep();
        }
        wakers.into_iter().for_each(|t| t.join().unwrap());
    });
}
