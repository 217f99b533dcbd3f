//! What announcing a blocking call costs, when nobody waits for the P.

use criterion::{Criterion, criterion_group, criterion_main};
use gort::Runtime;
use std::hint::black_box;
use std::time::Instant;

fn blocking(c: &mut Criterion) {
    let rt = Runtime::builder().max_procs(2).build().expect("two Ps can be had");
    c.bench_function("blocking_uncontended", |b| {
        b.iter_custom(|n| {
            rt.run(|| {
                let begin = Instant::now();
                for _ in 0..n {
                    gort::blocking(|| black_box(()));
                }
                begin.elapsed()
            })
        });
    });
}

criterion_group!(benches, blocking);
criterion_main!(benches);
