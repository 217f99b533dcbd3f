//! The goroutine rows of Go's `runtime/proc_test.go`.

use crate::harness::{Bench, Op, Row};
use gort::sync::WaitGroup;
use gort::{Chan, chan, go, select};
use std::hint::{black_box, spin_loop};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// In the order of Go's file.
pub const ROWS: &[Row] = &[
    Row::new("ping_pong_hog", "PingPongHog", ping_pong_hog).on_ps(1),
    Row::new("create_goroutines", "CreateGoroutines", |b| create_goroutines(b, 1)),
    Row::new("create_goroutines_parallel", "CreateGoroutinesParallel", |b| {
        create_goroutines(b, gort::max_procs());
    }),
    Row::new("create_goroutines_capture", "CreateGoroutinesCapture", create_goroutines_capture),
    Row::new("create_goroutines_single", "CreateGoroutinesSingle", create_goroutines_single),
    wakeup("wakeup_parallel_spinning_0", "WakeupParallelSpinning/0s", |b| wakeup_parallel(b, 0, spin)),
    wakeup("wakeup_parallel_spinning_1us", "WakeupParallelSpinning/1µs", |b| wakeup_parallel(b, 1, spin)),
    wakeup("wakeup_parallel_spinning_2us", "WakeupParallelSpinning/2µs", |b| wakeup_parallel(b, 2, spin)),
    wakeup("wakeup_parallel_spinning_5us", "WakeupParallelSpinning/5µs", |b| wakeup_parallel(b, 5, spin)),
    wakeup("wakeup_parallel_spinning_10us", "WakeupParallelSpinning/10µs", |b| wakeup_parallel(b, 10, spin)),
    wakeup("wakeup_parallel_spinning_20us", "WakeupParallelSpinning/20µs", |b| wakeup_parallel(b, 20, spin)),
    wakeup("wakeup_parallel_spinning_50us", "WakeupParallelSpinning/50µs", |b| wakeup_parallel(b, 50, spin)),
    wakeup("wakeup_parallel_spinning_100us", "WakeupParallelSpinning/100µs", |b| {
        wakeup_parallel(b, 100, spin)
    }),
    wakeup("wakeup_parallel_syscall_0", "WakeupParallelSyscall/0s", |b| wakeup_parallel(b, 0, nanosleep)),
    wakeup("wakeup_parallel_syscall_1us", "WakeupParallelSyscall/1µs", |b| wakeup_parallel(b, 1, nanosleep)),
    wakeup("wakeup_parallel_syscall_2us", "WakeupParallelSyscall/2µs", |b| wakeup_parallel(b, 2, nanosleep)),
    wakeup("wakeup_parallel_syscall_5us", "WakeupParallelSyscall/5µs", |b| wakeup_parallel(b, 5, nanosleep)),
    wakeup("wakeup_parallel_syscall_10us", "WakeupParallelSyscall/10µs", |b| {
        wakeup_parallel(b, 10, nanosleep)
    }),
    wakeup("wakeup_parallel_syscall_20us", "WakeupParallelSyscall/20µs", |b| {
        wakeup_parallel(b, 20, nanosleep)
    }),
    wakeup("wakeup_parallel_syscall_50us", "WakeupParallelSyscall/50µs", |b| {
        wakeup_parallel(b, 50, nanosleep)
    }),
    wakeup("wakeup_parallel_syscall_100us", "WakeupParallelSyscall/100µs", |b| {
        wakeup_parallel(b, 100, nanosleep)
    }),
    Row::new("matmult", "Matmult", matmult),
];

const fn wakeup(name: &'static str, go: &'static str, op: Op) -> Row {
    Row::new(name, go, op).in_parallel()
}

/// Two goroutines play ping-pong beside one that never waits, all on one P.
fn ping_pong_hog(b: &Bench) {
    let n = b.n;
    let (stop, done) = (chan::<bool>(0), chan::<bool>(0));
    let (hog_stop, hog_done) = (stop.clone(), done.clone());
    go!(move || {
        loop {
            select! {
                recv(hog_stop) -> _ => {
                    hog_done.send(true);
                    return;
                }
                default => {}
            }
        }
    });
    let (ping, pong) = (chan::<bool>(0), chan::<bool>(0));
    let (from, to, ponger_stop, ponger_done) = (ping.clone(), pong.clone(), stop.clone(), done.clone());
    go!(move || {
        for _ in 0..n {
            to.send(from.recv() == Some(true));
        }
        ponger_stop.close();
        ponger_done.send(true);
    });
    let (from, to, pinger_done) = (pong, ping.clone(), done.clone());
    go!(move || {
        for _ in 0..n {
            to.send(from.recv() == Some(true));
        }
        pinger_done.send(true);
    });
    b.reset_timer();
    ping.send(true);
    stop.recv();
    b.stop_timer();
    ping.recv();
    for _ in 0..3 {
        done.recv();
    }
}

/// Goroutines each of which starts the next one and ends: so many chains.
fn create_goroutines(b: &Bench, chains: usize) {
    fn link(n: u64, c: Chan<bool>) {
        if n == 0 {
            c.send(true);
        } else {
            go!(move || link(n - 1, c));
        }
    }
    let c = chan::<bool>(0);
    for _ in 0..chains {
        go!(link(b.n / chains as u64, c.clone()));
    }
    for _ in 0..chains {
        c.recv();
    }
}

/// Four goroutines with some captured variables, and a wait for them.
fn create_goroutines_capture(b: &Bench) {
    const N: usize = 4;
    static BAD: AtomicBool = AtomicBool::new(false);
    let bad: &'static AtomicBool = black_box(&BAD);
    for _ in 0..b.n {
        let wg = WaitGroup::new();
        wg.add(N as isize);
        for i in 0..N {
            let wg = wg.clone();
            go!(move || {
                if black_box(i) >= N {
                    bad.store(true, Ordering::Relaxed);
                }
                wg.done();
            });
        }
        wg.wait();
    }
}

/// Many goroutines, all started by one.
fn create_goroutines_single(b: &Bench) {
    warm_up_scheduler();
    b.reset_timer();
    let wg = WaitGroup::new();
    wg.add(b.n as isize);
    for _ in 0..b.n {
        let wg = wg.clone();
        go!(move || wg.done());
    }
    wg.wait();
}

/// Gets all Ps to run at once.
pub(crate) fn warm_up_scheduler() {
    let procs = gort::max_procs();
    let running = Arc::new(AtomicUsize::new(0));
    let wg = WaitGroup::new();
    for _ in 0..procs {
        let running = running.clone();
        wg.go(move || {
            running.fetch_add(1, Ordering::SeqCst);
            while running.load(Ordering::SeqCst) < procs {
                spin_loop();
            }
            spin(Duration::from_millis(1));
        });
    }
    wg.wait();
}

/// Computes for that long.
pub(crate) fn spin(d: Duration) {
    let end = Instant::now() + d;
    while Instant::now() < end {}
}

/// A call that blocks the thread for that long.
fn nanosleep(d: Duration) {
    let time = libc::timespec { tv_sec: d.as_secs() as _, tv_nsec: d.subsec_nanos() as _ };
    // SAFETY: it reads one value and writes nothing; being interrupted does not matter.
    gort::blocking(|| unsafe { libc::nanosleep(&time, ptr::null_mut()) });
}

/// Two goroutines that pass some µs, and then one waits for the other, in turns.
fn wakeup_parallel(b: &Bench, micros: u64, pass: fn(Duration)) {
    let delay = Duration::from_micros(micros);
    let longer = delay + Duration::from_micros(5);
    let n = b.n;
    let (ping, pong, start, done) = (chan::<()>(0), chan::<()>(0), chan::<()>(0), chan::<()>(0));
    let (tx, rx, begin, end) = (ping.clone(), pong.clone(), start.clone(), done.clone());
    go!(move || {
        begin.recv();
        for _ in 0..n {
            pass(longer);
            tx.send(());
            pass(delay);
            rx.recv();
        }
        end.send(());
    });
    let (tx, rx, end) = (pong, ping, done.clone());
    go!(move || {
        for _ in 0..n {
            pass(delay);
            rx.recv();
            pass(longer);
            tx.send(());
        }
        end.send(());
    });
    b.reset_timer();
    start.send(());
    done.recv();
    done.recv();
}

/// C += A * B. As in Go, each step of a sum goes through memory: that is all that the atomics are for.
struct Matrices {
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
    c: Vec<Vec<AtomicU64>>,
}

/// From and to: rows of A, columns of B, and what is summed over.
#[derive(Clone, Copy)]
struct Block {
    i: (usize, usize),
    j: (usize, usize),
    k: (usize, usize),
}

fn halves((from, to): (usize, usize)) -> ((usize, usize), (usize, usize)) {
    let middle = from + (to - from) / 2;
    ((from, middle), (middle, to))
}

/// Matrices are multiplied, with a goroutine for one half of each half. One operation is one product of numbers.
fn matmult(b: &Bench) {
    let n = (b.n as f64).cbrt() as usize + 1;
    let full = || -> Vec<Vec<f64>> { (0..n).map(|i| (0..n).map(|j| (i * n + j) as f64).collect()).collect() };
    let bits = |row: &Vec<f64>| row.iter().map(|v| AtomicU64::new(v.to_bits())).collect();
    let m = Arc::new(Matrices { a: full(), b: full(), c: full().iter().map(bits).collect() });
    b.reset_timer();
    multiply(&m, Block { i: (0, n), j: (0, n), k: (0, n) });
    b.stop_timer();
    black_box(m);
}

fn multiply(m: &Arc<Matrices>, block: Block) {
    const THRESHOLD: usize = 8;
    let Block { i, j, k } = block;
    let (di, dj, dk) = (i.1 - i.0, j.1 - j.0, k.1 - k.0);
    if di >= dj && di >= dk && di >= THRESHOLD {
        let (first, second) = halves(i);
        fork(m, Block { i: first, ..block }, Block { i: second, ..block });
    } else if dj >= dk && dj >= THRESHOLD {
        let (first, second) = halves(j);
        fork(m, Block { j: first, ..block }, Block { j: second, ..block });
    } else if dk >= THRESHOLD {
        // One after the other: both halves add to the same sums.
        let (first, second) = halves(k);
        multiply(m, Block { k: first, ..block });
        multiply(m, Block { k: second, ..block });
    } else {
        for i in i.0..i.1 {
            for j in j.0..j.1 {
                for k in k.0..k.1 {
                    let sum = f64::from_bits(m.c[i][j].load(Ordering::Relaxed)) + m.a[i][k] * m.b[k][j];
                    m.c[i][j].store(sum.to_bits(), Ordering::Relaxed);
                }
            }
        }
    }
}

fn fork(m: &Arc<Matrices>, first: Block, second: Block) {
    let done = chan::<()>(1);
    let (its, tell) = (m.clone(), done.clone());
    go!(move || {
        multiply(&its, first);
        tell.send(());
    });
    multiply(m, second);
    done.recv();
}
