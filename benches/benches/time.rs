//! The rows of Go's package `time`, but for those of lateness, which are not about the time that they take, with criterion.

use criterion::{Criterion, criterion_group, criterion_main};
use gort_benches::harness::{Gort, Metric, Runner, procs_from_env};

fn rows(c: &mut Criterion) {
    let runner = Runner::new(Gort::default(), procs_from_env());
    for row in gort_benches::time::ROWS.iter().filter(|row| row.metric == Metric::Time) {
        c.bench_function(row.name, |b| b.iter_custom(|n| runner.run(row, n)));
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
