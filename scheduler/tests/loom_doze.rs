//! Models of sysmon's sleep (`doze`) against Ms that take Ps. A P that gets busy unseen is a sysmon that sleeps for ever,
//! which loom reports as a deadlock.
#![cfg(loom)]

use gort_scheduler::doze::Doze;
use gort_scheduler::idle::Idle;
use gort_scheduler::time::clock::Nanos;
use loom::sync::Arc;
use loom::thread;

/// sysmon falls asleep, again and again, until one of `nprocs` Ps is busy, while `ms` Ms take one each.
fn model(nprocs: usize, ms: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let world = Arc::new((Doze::new(), Idle::<usize>::try_new(nprocs).unwrap()));
        let ms: Vec<_> = (0..ms)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || {
                    let (doze, idle) = &*world;
                    assert!(idle.get_p().is_some());
                    // As `acquirep`.
                    doze.rouse();
                })
            })
            .collect();
        let (doze, idle) = &*world;
        let all_idle = || idle.npidle() as usize == nprocs;
        while all_idle() {
            doze.sleep_while(all_idle, Nanos::NEVER);
        }
        ms.into_iter().for_each(|m| m.join().unwrap());
    });
}

#[test]
fn sysmon_does_not_sleep_while_a_p_is_busy() {
    model(1, 1);
}

#[test]
fn sysmon_does_not_sleep_while_one_of_two_ps_is_busy() {
    model(2, 2);
}
