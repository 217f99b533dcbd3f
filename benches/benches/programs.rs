//! The programs, with criterion and their smaller counts. What is late, and the memory, is not for criterion.

use criterion::{Criterion, criterion_group, criterion_main};
use gort_bench_harness::programs::{PROGRAMS, Says, measurement};
use gort_benches::harness::{Gort, procs_from_env};
use std::time::Duration;

fn programs(c: &mut Criterion) {
    let mut group = c.benchmark_group("programs");
    group.sample_size(10);
    for program in PROGRAMS {
        let times = program.figures.iter().enumerate().filter(|(_, figure)| figure.says == Says::Time);
        for (at, figure) in times {
            let measure = measurement::<Gort>(program.kind).expect("gort can do all");
            group.bench_function(figure.row, |b| {
                b.iter_custom(|n| {
                    // At least n operations, in whole runs; as long as n of them take.
                    let runs = n.div_ceil(program.operations(program.quick));
                    let one = |_| {
                        let took = measure(program.quick, procs_from_env())[at];
                        figure.nanos(took).expect("it is a time")
                    };
                    let mean = (0..runs).map(one).sum::<f64>() / runs as f64;
                    Duration::from_nanos((mean * n as f64) as u64)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, programs);
criterion_main!(benches);
