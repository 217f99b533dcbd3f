//! The rows of Go's package `sync`, with criterion.

use criterion::{Criterion, criterion_group, criterion_main};
use gort_benches::harness::{Gort, Runner, procs_from_env};

fn rows(c: &mut Criterion) {
    let runner = Runner::new(Gort::default(), procs_from_env());
    for row in gort_benches::sync::ROWS {
        c.bench_function(row.name, |b| b.iter_custom(|n| runner.run(row, n)));
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
