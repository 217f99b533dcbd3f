//! One goroutine never stops another: those that spin, block, or hold their thread, against those that make progress.

mod common;

#[cfg(target_env = "gnu")]
use common::child::in_child;
use common::{at_each_size, builder};
use gort::{go, lock_os_thread};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `body` as [`at_each_size`] does, unless goroutines stay on their threads: then those that have started on a thread
/// that is locked, or held by a goroutine that does not come back, wait for it, the main one of a test as well. That has
/// tests of its own.
fn at_each_size_if_free(body: impl Fn() + Sync) {
    if std::env::var("GORT_MIGRATE").as_deref() != Ok("0") {
        at_each_size(body);
    }
}

/// Computes until told to stop, without a call to the library.
fn spin(stop: Arc<AtomicBool>) {
    while !stop.load(SeqCst) {
        black_box(0);
    }
}

/// Blocks its thread, again and again, until told to stop.
fn sleeps(stop: Arc<AtomicBool>) {
    while !stop.load(SeqCst) {
        thread::sleep(Duration::from_millis(200));
    }
}

/// Counts the rounds that a pair makes on an unbuffered channel until told to stop.
fn ping_pong(stop: Arc<AtomicBool>, rounds: Arc<AtomicUsize>) {
    let (ping, pong) = (gort::chan(0), gort::chan(0));
    let echo = {
        let (ping, pong) = (ping.clone(), pong.clone());
        go!(move || {
            for v in &ping {
                pong.send(v);
            }
        })
    };
    while !stop.load(SeqCst) {
        let n = rounds.fetch_add(1, SeqCst);
        ping.send(n);
        assert_eq!(pong.recv(), Some(n));
    }
    ping.close();
    echo.join().unwrap();
}

/// Counts ticks of 10 ms until told to stop.
fn tick(stop: Arc<AtomicBool>, ticks: Arc<AtomicUsize>) {
    while !stop.load(SeqCst) {
        gort::time::sleep(Duration::from_millis(10));
        ticks.fetch_add(1, SeqCst);
    }
}

/// A pair and a ticker make this progress beside `hogs`, which go on at least for so long. However long it takes: the
/// watchdog ends what does not get on.
fn progress_beside(
    hogs: Vec<gort::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    d: Duration,
    want: (usize, usize),
) {
    let (rounds, ticks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let pair = go!(ping_pong(stop.clone(), rounds.clone()));
    let ticker = go!(tick(stop.clone(), ticks.clone()));
    gort::time::sleep(d);
    while rounds.load(SeqCst) < want.0 || ticks.load(SeqCst) < want.1 {
        gort::time::sleep(Duration::from_millis(10));
    }
    stop.store(true, SeqCst);
    pair.join().unwrap();
    ticker.join().unwrap();
    for hog in hogs {
        hog.join().unwrap();
    }
}

#[test]
fn goroutines_that_spin_without_a_call_do_not_stop_the_others() {
    at_each_size_if_free(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let n = 2 * gort::max_procs();
        let hogs = (0..n).map(|_| go!(spin(stop.clone()))).collect();
        progress_beside(hogs, stop, Duration::from_secs(1), (100, 5));
    });
}

#[test]
fn goroutines_that_block_their_threads_do_not_stop_the_others() {
    at_each_size_if_free(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let n = 2 * gort::max_procs();
        let sleepers = (0..n).map(|_| go!(sleeps(stop.clone()))).collect();
        // They sleep again and again, until all others have got on.
        progress_beside(sleepers, stop, Duration::from_millis(300), (100, 3));
    });
}

#[test]
fn announced_blocking_calls_do_not_stop_the_others() {
    at_each_size(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let n = 2 * gort::max_procs();
        let begin = Instant::now();
        let sleepers =
            (0..n).map(|_| go!(gort::blocking(|| thread::sleep(Duration::from_millis(200))))).collect();
        progress_beside(sleepers, stop, Duration::from_millis(300), (100, 3));
        assert!(begin.elapsed() < Duration::from_secs(20), "blocking calls ran one after another");
    });
}

#[test]
fn a_std_lock_between_goroutines_does_not_stop_the_runtime() {
    at_each_size_if_free(|| {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.lock().unwrap();
        let n = gort::max_procs() + 1;
        let waiters: Vec<_> = (0..n)
            .map(|_| {
                let lock = lock.clone();
                go!(move || *lock.lock().unwrap() += 1)
            })
            .collect();
        // All Ps are blocked by now, in a lock that only a goroutine can open which needs one of them.
        let opener = gort::chan::<()>(0);
        let bell = {
            let opener = opener.clone();
            go!(move || opener.send(()))
        };
        opener.recv();
        bell.join().unwrap();
        drop(held);
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(*lock.lock().unwrap(), n);
    });
}

#[test]
fn blocking_gives_what_its_function_returns_and_panics_as_it_does() {
    at_each_size(|| {
        assert_eq!(gort::blocking(|| 6 * 7), 42);
        let nested = gort::blocking(|| gort::blocking(|| gort::blocking(|| "inside")));
        assert_eq!(nested, "inside");
        let panic = std::panic::catch_unwind(|| gort::blocking(|| panic!("inside"))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
    });
    // On a plain thread as well.
    assert_eq!(gort::blocking(|| 1), 1);
}

#[test]
fn a_blocking_call_may_use_the_library() {
    at_each_size(|| {
        let ch = gort::chan(0);
        let h = {
            let ch = ch.clone();
            go!(move || gort::blocking(|| {
                for i in 0..100 {
                    ch.send(i);
                    gort::yield_now();
                }
                go!(move || 5).join().unwrap()
            }))
        };
        for i in 0..100 {
            assert_eq!(ch.recv(), Some(i));
        }
        assert_eq!(h.join().unwrap(), 5);
    });
}

#[test]
fn a_hog_that_comes_back_goes_on_where_it_was() {
    at_each_size(|| {
        let done = Arc::new(AtomicUsize::new(0));
        let n = 2 * gort::max_procs().min(8);
        let ch = gort::chan(4);
        for i in 0..n {
            let (done, ch) = (done.clone(), ch.clone());
            go!(move || {
                for round in 0..3 {
                    let begin = Instant::now();
                    while begin.elapsed() < Duration::from_millis(15) {
                        black_box(0);
                    }
                    // Each way into the runtime, with a P that may be gone.
                    match (i + round) % 4 {
                        0 => ch.send((i, round)),
                        1 => go!(ch.clone().send((i, round))).join().unwrap(),
                        2 => {
                            gort::yield_now();
                            ch.send((i, round));
                        }
                        _ => gort::blocking(|| ch.send((i, round))),
                    }
                }
                done.fetch_add(1, SeqCst);
            });
        }
        let mut got: Vec<(usize, usize)> = ch.iter().take(3 * n).collect();
        got.sort_unstable();
        let all: Vec<_> = (0..n).flat_map(|i| (0..3).map(move |round| (i, round))).collect();
        assert_eq!(got, all, "lost or doubled");
        while done.load(SeqCst) < n {
            gort::yield_now();
        }
    });
}

#[test]
fn a_goroutine_that_ends_without_its_p_is_joined_and_counted() {
    at_each_size(|| {
        let n = 2 * gort::max_procs().min(8);
        let hogs: Vec<_> = (0..n)
            .map(|i| {
                go!(move || {
                    thread::sleep(Duration::from_millis(40));
                    i
                })
            })
            .collect();
        // Detached ones end another way.
        for _ in 0..n {
            go!(thread::sleep(Duration::from_millis(40)));
        }
        for (i, hog) in hogs.into_iter().enumerate() {
            assert_eq!(hog.join().unwrap(), i);
        }
    });
}

#[test]
fn more_threads_than_allowed_are_a_fatal_error_that_names_the_limit() {
    let ended = common::child::in_child(
        "more_threads_than_allowed_are_a_fatal_error_that_names_the_limit",
        &[],
        || {
            let rt = builder(2).max_threads(8).build().unwrap();
            rt.run(|| {
                for _ in 0..20 {
                    go!(name = "blocker", gort::blocking(|| thread::sleep(Duration::from_secs(60))));
                }
                gort::time::sleep(Duration::from_secs(60));
            });
        },
    )
    .with_status(2)
    .says(1, "fatal error: thread exhaustion")
    .says(1, "more than 8 OS threads (`max_threads`)");
    // Those that look the same have one first line.
    let blockers = ended.text.lines().filter(|l| l.contains("\"blocker\""));
    let all = blockers.map(|l| l.split_once(" goroutines [").map_or(1, |(n, _)| n.parse::<usize>().unwrap()));
    assert_eq!(all.sum::<usize>(), 20, "{}", ended.excerpt());
}

#[test]
fn a_thousand_goroutines_may_block_at_once() {
    at_each_size(|| {
        let handles: Vec<_> =
            (0..1000).map(|_| go!(gort::blocking(|| thread::sleep(Duration::from_millis(100))))).collect();
        handles.into_iter().for_each(|h| h.join().unwrap());
    });
}

#[test]
fn a_locked_goroutine_keeps_its_thread_and_has_it_for_itself() {
    at_each_size_if_free(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let others = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let noise: Vec<_> = (0..4)
            .map(|_| {
                let (stop, others) = (stop.clone(), others.clone());
                go!(move || {
                    while !stop.load(SeqCst) {
                        others.lock().unwrap().insert(thread::current().id());
                        gort::yield_now();
                    }
                })
            })
            .collect();
        let (locked, ready) = (gort::chan(0), gort::chan(0));
        let h = {
            let (locked, ready) = (locked.clone(), ready.clone());
            go!(move || {
                let outer = lock_os_thread();
                let home = thread::current().id();
                ready.send(());
                locked.recv();
                for i in 0..50 {
                    {
                        let _inner = lock_os_thread();
                        match i % 4 {
                            0 => gort::time::sleep(Duration::from_micros(200)),
                            1 => gort::yield_now(),
                            2 => gort::blocking(|| thread::sleep(Duration::from_micros(200))),
                            _ => {
                                go!(|| ()).join().unwrap();
                            }
                        }
                    }
                    assert_eq!(thread::current().id(), home, "moved while locked");
                }
                ready.send(());
                locked.recv();
                drop(outer);
                home
            })
        };
        ready.recv();
        // From here on the thread is the locked one's.
        others.lock().unwrap().clear();
        locked.send(());
        ready.recv();
        let seen = std::mem::take(&mut *others.lock().unwrap());
        locked.send(());
        let home = h.join().unwrap();
        assert!(!seen.contains(&home), "another goroutine ran on a locked thread");
        stop.store(true, SeqCst);
        noise.into_iter().for_each(|h| h.join().unwrap());
    });
}

#[test]
fn a_thread_whose_goroutine_ends_locked_is_never_used_again() {
    at_each_size(|| {
        let mut retired = Vec::new();
        for _ in 0..3 {
            let h = go!(|| {
                std::mem::forget(lock_os_thread());
                thread::current().id()
            });
            retired.push(h.join().unwrap());
        }
        for _ in 0..200 {
            let here = go!(|| {
                gort::yield_now();
                thread::current().id()
            });
            assert!(!retired.contains(&here.join().unwrap()), "a retired thread ran a goroutine");
        }
    });
}

#[test]
fn many_locked_goroutines_pass_values_to_each_other() {
    at_each_size_if_free(|| {
        const N: usize = 8;
        let first = gort::chan(0);
        let mut last = first.clone();
        let mut ring = Vec::new();
        for _ in 0..N {
            let (from, to) = (last.clone(), gort::chan(0));
            last = to.clone();
            ring.push(go!(move || {
                let _mine = lock_os_thread();
                for v in &from {
                    to.send(v + 1);
                }
                to.close();
            }));
        }
        for i in 0..50 {
            first.send(i);
            assert_eq!(last.recv(), Some(i + N));
        }
        first.close();
        assert_eq!(last.recv(), None);
        ring.into_iter().for_each(|h| h.join().unwrap());
    });
}

/// Receives while it unwinds; what it got, and whether its thread panicked then.
struct ReceivesInDrop {
    from: gort::Chan<u32>,
    got: Arc<Mutex<Vec<(u32, bool)>>>,
}

impl Drop for ReceivesInDrop {
    fn drop(&mut self) {
        for _ in 0..3 {
            let v = self.from.recv().unwrap();
            self.got.lock().unwrap().push((v, thread::panicking()));
            gort::yield_now();
        }
    }
}

#[test]
fn goroutines_that_park_while_they_unwind_do_not_disturb_each_other() {
    at_each_size_if_free(|| {
        const N: usize = 6;
        let (from, got) = (gort::chan(0), Arc::new(Mutex::new(Vec::new())));
        let calm = Arc::new(AtomicBool::new(true));
        let unwinding: Vec<_> = (0..N)
            .map(|_| {
                let receives = ReceivesInDrop { from: from.clone(), got: got.clone() };
                go!(move || {
                    let _receives = receives;
                    panic!("on purpose");
                })
            })
            .collect();
        let others: Vec<_> = (0..N)
            .map(|_| {
                let calm = calm.clone();
                go!(move || {
                    for _ in 0..200 {
                        if thread::panicking() {
                            calm.store(false, SeqCst);
                        }
                        // One that panics on a thread that panics already would end the process.
                        let caught = std::panic::catch_unwind(|| panic!("caught"));
                        assert!(caught.is_err());
                        gort::yield_now();
                    }
                })
            })
            .collect();
        for i in 0..3 * N {
            from.send(i as u32);
        }
        others.into_iter().for_each(|h| h.join().unwrap());
        for h in unwinding {
            assert_eq!(h.join().unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
        }
        assert!(calm.load(SeqCst), "a goroutine that did not unwind saw panicking()");
        let mut got = std::mem::take(&mut *got.lock().unwrap());
        assert!(got.iter().all(|(_, panicking)| *panicking), "panicking() was lost in a park");
        got.sort_unstable();
        assert_eq!(got.iter().map(|(v, _)| *v).collect::<Vec<_>>(), (0..3 * N as u32).collect::<Vec<_>>());
        assert!(!thread::panicking());
    });
}

/// What an operation panicked with.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
    panic.downcast_ref::<String>().expect("a panic with a text").clone()
}

#[test]
fn what_would_park_panics_while_suspending_is_forbidden() {
    at_each_size(|| {
        let (empty, full) = (gort::chan::<Arc<i32>>(0), gort::chan::<Arc<i32>>(1));
        let value = Arc::new(1);
        full.send(value.clone());
        let never = go!(empty.clone().recv());
        gort::yield_now();
        let line = line!() + 1;
        let guard = gort::no_suspend();
        let wg = gort::sync::WaitGroup::new();
        wg.add(1);
        let said = [
            panic_of(|| full.send(value.clone())),
            panic_of(|| drop(full.send_timeout(value.clone(), Duration::from_secs(1)))),
            panic_of(|| _ = gort::chan::<i32>(0).recv()),
            panic_of(|| _ = gort::chan::<i32>(0).recv_timeout(Duration::from_secs(1))),
            panic_of(|| _ = gort::Chan::<i32>::nil().recv()),
            panic_of(
                || gort::select! { send(full, value.clone()) => {}, recv(gort::chan::<i32>(0)) -> _ => {} },
            ),
            panic_of(|| gort::select! {}),
            panic_of(|| gort::time::sleep(Duration::from_millis(1))),
            panic_of(|| wg.wait()),
            panic_of(gort::yield_now),
            panic_of(|| gort::block_on(std::future::pending())),
            panic_of(|| drop(never.join())),
        ];
        for text in &said {
            assert!(text.contains(&format!("handoff.rs:{line}:")), "{text}");
            assert!(text.contains("NoSuspendGuard"), "{text}");
        }
        // Values that were to be sent are dropped, and nobody waits where a wait was refused.
        assert_eq!(Arc::strong_count(&value), 2);
        assert!(full.try_recv().is_ok() && full.try_recv().is_err());
        // What does not wait goes on.
        full.send(Arc::new(2));
        assert_eq!(full.recv().as_deref(), Some(&2));
        {
            let _nested = gort::no_suspend();
        }
        assert!(panic_of(|| gort::time::sleep(Duration::from_millis(1))).contains("NoSuspendGuard"));
        // For longer than a time slice, in operations that would give way.
        let here = thread::current().id();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(40) {
            full.send(Arc::new(3));
            full.recv();
        }
        gort::blocking(|| thread::sleep(Duration::from_millis(30)));
        assert_eq!(thread::current().id(), here, "suspended");
        drop(guard);
        gort::time::sleep(Duration::from_millis(1));
        empty.close();
    });
    // A plain thread is never suspended.
    let _nothing = gort::no_suspend();
    assert!(gort::chan::<i32>(0).recv_timeout(Duration::from_millis(1)).is_err());
}

#[test]
fn the_number_of_ps_changes_while_goroutines_run() {
    at_each_size_if_free(|| {
        let before = gort::max_procs();
        let stop = Arc::new(AtomicBool::new(false));
        let pairs: Vec<_> = (0..4)
            .map(|_| {
                let rounds = Arc::new(AtomicUsize::new(0));
                (rounds.clone(), go!(ping_pong(stop.clone(), rounds)))
            })
            .collect();
        let hogs: Vec<_> = (0..2).map(|_| go!(spin(stop.clone()))).collect();
        let mut last = before;
        for n in [1, 3, 70, 2, 1, 5, before] {
            assert_eq!(gort::set_max_procs(n), last);
            assert_eq!((gort::max_procs(), gort::set_max_procs(0)), (n, n));
            last = n;
            gort::time::sleep(Duration::from_millis(5));
        }
        stop.store(true, SeqCst);
        for (rounds, pair) in pairs {
            pair.join().unwrap();
            assert!(rounds.load(SeqCst) > 0);
        }
        hogs.into_iter().for_each(|h| h.join().unwrap());
    });
}

#[test]
fn after_a_lower_limit_no_more_goroutines_run_at_once() {
    at_each_size(|| {
        let before = gort::set_max_procs(4);
        let warm: Vec<_> = (0..50).map(|_| go!(gort::time::sleep(Duration::from_micros(100)))).collect();
        gort::set_max_procs(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted: Vec<_> = (0..200)
            .map(|_| {
                let (now, most) = (now.clone(), most.clone());
                go!(move || {
                    // Short enough that nobody takes the P away.
                    let n = now.fetch_add(1, SeqCst) + 1;
                    most.fetch_max(n, SeqCst);
                    (0..2000).for_each(|i| _ = black_box(i));
                    now.fetch_sub(1, SeqCst);
                })
            })
            .collect();
        counted.into_iter().chain(warm).for_each(|h| h.join().unwrap());
        // One more may be on a thread that the system has kept from its core for so long that its P was taken.
        assert!(most.load(SeqCst) <= 2 + 1, "{} at once on 2 Ps", most.load(SeqCst));
        gort::set_max_procs(before);
    });
}

#[test]
fn several_may_change_the_number_of_ps_at_once() {
    at_each_size(|| {
        let before = gort::max_procs();
        let changers: Vec<_> = (0..4)
            .map(|i| {
                go!(move || {
                    for n in 0..20 {
                        gort::set_max_procs(1 + (i + n) % 9);
                    }
                })
            })
            .collect();
        changers.into_iter().for_each(|h| h.join().unwrap());
        gort::set_max_procs(before);
        assert_eq!(go!(gort::max_procs).join().unwrap(), before);
    });
}

#[test]
fn the_default_is_what_this_process_may_use() {
    common::child::in_child("the_default_is_what_this_process_may_use", &[], || {
        // SAFETY: sets the affinity of the process's first thread to one CPU.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(libc::getpid(), size_of_val(&set), &raw mut set), 0);
            let first = (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &set)).unwrap();
            libc::CPU_ZERO(&mut set);
            libc::CPU_SET(first, &mut set);
            assert_eq!(libc::sched_setaffinity(libc::getpid(), size_of_val(&set), &raw const set), 0);
        }
        assert_eq!(gort::run(gort::max_procs), 1);
    })
    .with_status(0);
}

#[test]
fn what_has_started_on_a_thread_that_is_locked_waits_for_it_if_it_may_not_migrate() {
    let rt = gort::Runtime::builder().max_procs(1).migrate(false).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let tell = |what: &'static str| {
        let order = order.clone();
        move || order.lock().unwrap().push(what)
    };
    let (bound, fresh, unlocks) = (tell("bound"), tell("fresh"), tell("unlocks"));
    let h = rt.go(move || {
        let ch = gort::chan(0);
        let rx = ch.clone();
        let bound = go!(move || {
            rx.recv();
            let here = thread::current().id();
            bound();
            here
        });
        // It starts here, on the only P, and waits.
        gort::yield_now();
        let home = thread::current().id();
        let mine = lock_os_thread();
        ch.send(());
        let fresh = go!(move || {
            fresh();
            thread::current().id()
        });
        assert_ne!(fresh.join().unwrap(), home, "a goroutine ran on a locked thread");
        gort::time::sleep(Duration::from_millis(20));
        unlocks();
        drop(mine);
        assert_eq!(bound.join().unwrap(), home, "one that has started has migrated");
    });
    h.join().unwrap();
    assert_eq!(*order.lock().unwrap(), ["fresh", "unlocks", "bound"]);
}

#[test]
fn what_has_not_started_goes_on_beside_a_hog_if_nothing_may_migrate() {
    let rt = gort::Runtime::builder().max_procs(1).migrate(false).build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let hog = rt.go({
        let stop = stop.clone();
        || spin(stop)
    });
    let others: Vec<_> = (0..100).map(|i| rt.go(move || i)).collect();
    for (i, other) in others.into_iter().enumerate() {
        assert_eq!(other.join().unwrap(), i);
    }
    stop.store(true, SeqCst);
    hog.join().unwrap();
}

#[test]
fn run_and_scope_do_not_leave_what_they_lent_where_suspending_is_forbidden() {
    at_each_size(|| {
        let rt = gort::Runtime::builder().max_procs(1).build().unwrap();
        let ran = AtomicBool::new(false);
        {
            let _stay = gort::no_suspend();
            assert!(panic_of(|| rt.run(|| ran.store(true, SeqCst))).contains("NoSuspendGuard"));
            assert!(panic_of(|| _ = gort::set_max_procs(gort::max_procs() + 1)).contains("NoSuspendGuard"));
        }
        assert!(!ran.load(SeqCst), "a goroutine was started that nobody waits for");
        // Nobody is locked out by the one that was refused.
        let procs = gort::max_procs();
        assert_eq!(gort::set_max_procs(procs + 1), procs);
        gort::set_max_procs(procs);
        // A guard that is taken within the scope.
        let said = loop {
            let lent = Arc::new(AtomicUsize::new(0));
            let left = catch_unwind(|| {
                let guard = gort::scope(|s| {
                    let lent = &lent;
                    s.go(move || {
                        thread::sleep(Duration::from_millis(5));
                        lent.fetch_add(1, SeqCst);
                    });
                    gort::no_suspend()
                });
                drop(guard);
            });
            assert_eq!(lent.load(SeqCst), 1, "the scope was left before its goroutine had ended");
            // Without a panic the goroutine had ended by then, and there was nothing to wait for.
            if let Err(payload) = left {
                break common::message(&*payload);
            }
        };
        assert!(said.contains("NoSuspendGuard"), "{said}");
        gort::yield_now();
        // So does a group's.
        let lent = AtomicUsize::new(0);
        let left = catch_unwind(AssertUnwindSafe(|| {
            gort::sync::ErrGroup::<()>::scope(|g| {
                g.go(|| {
                    thread::sleep(Duration::from_millis(5));
                    lent.fetch_add(1, SeqCst);
                    Ok(())
                });
                gort::no_suspend()
            })
        }));
        assert_eq!(lent.load(SeqCst), 1, "the scope was left before its goroutine had ended");
        drop(left);
    });
}

/// Takes a guard to another goroutine, as a thread-local could that both of them use.
struct Sent<G>(G);
// SAFETY: a guard does nothing where it is not at home; that is what is tested.
unsafe impl<G> Send for Sent<G> {}

#[test]
fn a_guard_does_nothing_on_a_goroutine_that_is_not_its_own() {
    at_each_size(|| {
        let mine = lock_os_thread();
        let home = thread::current().id();
        // Comes from another goroutine, and would undo this one's lock.
        drop(gort::run(|| Sent(lock_os_thread())));
        drop(gort::run(|| Sent(gort::no_suspend())));
        for _ in 0..20 {
            gort::yield_now();
            assert_eq!(thread::current().id(), home);
        }
        drop(mine);
        gort::time::sleep(Duration::from_millis(1));
    });
}

// -- Ps that are given up with work in their queues --

/// A generator of numbers, for programs that differ.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Locks its thread, blocks, waits for others, each of which makes others wait in line for a P.
fn does_a_bit_of_all(mut random: Random) {
    for _ in 0..3 + random.below(10) {
        match random.below(4) {
            0 => {
                let _locked = lock_os_thread();
                gort::yield_now();
            }
            1 => go!(|| ()).join().unwrap(),
            2 => {
                let child = go!(gort::yield_now);
                gort::blocking(|| {
                    let begin = Instant::now();
                    while begin.elapsed() < Duration::from_micros(5) {}
                });
                child.join().unwrap();
            }
            _ => {
                let (ping, pong) = (gort::chan(0), gort::chan(0));
                let echo = {
                    let (ping, pong) = (ping.clone(), pong.clone());
                    go!(move || ping.iter().for_each(|v| pong.send(v)))
                };
                (0..20).for_each(|i| {
                    ping.send(i);
                    assert_eq!(pong.recv(), Some(i));
                });
                ping.close();
                echo.join().unwrap();
            }
        }
    }
}

/// Of two Ps that are given up for one who waits in line, the second becomes idle: what was in its queue is run all the same.
#[test]
fn what_is_in_the_queue_of_a_p_that_is_given_up_is_run() {
    let rounds = if cfg!(debug_assertions) { 1_500 } else { 6_000 };
    for procs in [3, 4] {
        let _watchdog = common::Watchdog::arm("what_is_in_the_queue");
        let rt = builder(procs).build().unwrap();
        for round in 1..=rounds {
            rt.run(|| {
                let bits: Vec<_> = (1..2 + round % 7)
                    .map(|i| go!(move || does_a_bit_of_all(Random(round * 8 + i))))
                    .collect();
                bits.into_iter().for_each(|bit| bit.join().unwrap());
            });
        }
    }
}

/// The P of a blocking call goes to a new thread, and there is none to be had: who comes free runs what is in its queue.
#[test]
fn what_is_in_the_queue_of_a_p_that_no_thread_can_be_started_for_is_run() {
    use common::child::{in_child, limit, memory};
    let test = "what_is_in_the_queue_of_a_p_that_no_thread_can_be_started_for_is_run";
    let ended = in_child(test, &[], || {
        let rt = builder(2).build().unwrap();
        rt.run(|| {
            let (runs, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            // The other thread that there is; comes free when nobody can tell it of the work any more.
            let hog = {
                let (runs, stop) = (runs.clone(), stop.clone());
                go!(move || {
                    runs.store(true, SeqCst);
                    spin(stop);
                })
            };
            spin(runs);
            let has_run = Arc::new(AtomicBool::new(false));
            let child = {
                let has_run = has_run.clone();
                go!(move || has_run.store(true, SeqCst))
            };
            limit(libc::RLIMIT_AS, memory("VmSize") + (64 << 10));
            gort::blocking(|| {
                thread::sleep(Duration::from_millis(100));
                stop.store(true, SeqCst);
                // The call does not end before the child has run.
                while !has_run.load(SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            child.join().unwrap();
            hog.join().unwrap();
            eprintln!("it has run");
        });
    });
    ended.with_status(0).says(1, "it has run");
}

/// The last M leaves a P with work in its queue, and may start no other.
#[test]
fn a_runtime_that_has_all_its_threads_ends_with_work_in_its_queues() {
    let test = "a_runtime_that_has_all_its_threads_ends_with_work_in_its_queues";
    let ended = common::child::in_child(test, &[], || {
        let rt = gort::Runtime::builder().max_procs(1).max_threads(3).build().unwrap();
        let (blocked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for _ in 0..2 {
            let (blocked, stop) = (blocked.clone(), stop.clone());
            drop(rt.go(move || {
                gort::blocking(|| {
                    blocked.fetch_add(1, SeqCst);
                    sleeps(stop);
                });
            }));
        }
        let yielding = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            let yielding = yielding.clone();
            drop(rt.go(move || {
                loop {
                    yielding.fetch_add(1, SeqCst);
                    gort::yield_now();
                }
            }));
        }
        while blocked.load(SeqCst) < 2 || yielding.load(SeqCst) < 100 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(rt.shutdown_timeout(Duration::ZERO), 7);
        // Time for the last M to leave, as it may do later.
        thread::sleep(Duration::from_millis(300));
        stop.store(true, SeqCst);
        eprintln!("it has ended");
    });
    ended.with_status(0).says(1, "it has ended");
}

/// The part of the C++ runtime that `catch` blocks are made of.
#[cfg(target_env = "gnu")]
mod cxx {
    use std::ffi::c_void;
    use std::mem::transmute;
    use std::ptr;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// An exception of another language, as the C++ runtime takes it (`_Unwind_Exception`).
    #[repr(C, align(16))]
    pub struct Exception {
        class: u64,
        cleanup: extern "C" fn(i32, *mut Exception),
        private: [usize; 2],
        /// How often the C++ runtime was done with it.
        pub done: AtomicUsize,
    }

    impl Exception {
        pub fn new() -> Box<Exception> {
            extern "C" fn cleanup(_reason: i32, exception: *mut Exception) {
                // SAFETY: the runtime gives what `begin_catch` was given.
                unsafe { (*exception).done.fetch_add(1, SeqCst) };
            }
            Box::new(Exception { class: 1, cleanup, private: [0; 2], done: AtomicUsize::new(0) })
        }
    }

    type BeginCatch = unsafe extern "C" fn(*const Exception) -> *mut c_void;
    type EndCatch = unsafe extern "C" fn();
    type GetGlobals = unsafe extern "C" fn() -> *const *const Exception;

    #[derive(Clone, Copy)]
    pub struct Runtime {
        begin_catch: BeginCatch,
        end_catch: EndCatch,
        get_globals: GetGlobals,
    }

    impl Runtime {
        pub fn load() -> Runtime {
            // SAFETY: the functions have these types, by the ABI.
            unsafe {
                let library = libc::dlopen(c"libstdc++.so.6".as_ptr(), libc::RTLD_NOW);
                assert_ne!(library, ptr::null_mut(), "this test needs libstdc++.so.6");
                let find = |name: &std::ffi::CStr| {
                    let f = libc::dlsym(library, name.as_ptr());
                    assert_ne!(f, ptr::null_mut(), "{name:?}");
                    f
                };
                Runtime {
                    begin_catch: transmute::<*mut c_void, BeginCatch>(find(c"__cxa_begin_catch")),
                    end_catch: transmute::<*mut c_void, EndCatch>(find(c"__cxa_end_catch")),
                    get_globals: transmute::<*mut c_void, GetGlobals>(find(c"__cxa_get_globals")),
                }
            }
        }

        /// `catch (...) { f(); }`
        pub fn catch(self, exception: &Exception, f: impl FnOnce()) {
            // SAFETY: an exception that nobody else has; begun and ended.
            unsafe {
                (self.begin_catch)(exception);
                let mine = self.caught();
                f();
                if !ptr::eq(self.caught(), mine) {
                    // Not a panic: nobody would go on with the others, and the test would hang.
                    eprintln!("the thread has caught another exception");
                    std::process::exit(1);
                }
                (self.end_catch)();
            }
        }

        /// What the calling thread has caught.
        pub fn caught(self) -> *const Exception {
            // SAFETY: the first word that it points to.
            unsafe { *(self.get_globals)() }
        }
    }
}

/// Goroutines wait within `catch` blocks. The C++ runtime ends the process if a thread is in two such ones of another language.
#[cfg(target_env = "gnu")]
fn wait_in_catch_blocks(builder: fn() -> gort::RuntimeBuilder) {
    let cxx = cxx::Runtime::load();
    let rt = builder().max_procs(2).build().unwrap();
    rt.run(|| {
        let values = gort::chan::<u32>(0);
        let catching: Vec<_> = (0..4)
            .map(|_| {
                let values = values.clone();
                go!(move || {
                    let exception = cxx::Exception::new();
                    for i in 0..50 {
                        cxx.catch(&exception, || {
                            gort::yield_now();
                            values.send(i);
                        });
                        gort::yield_now();
                    }
                    exception.done.load(SeqCst)
                })
            })
            .collect();
        for i in 0..200 {
            if i % 2 == 0 {
                gort::yield_now();
            }
            if !cxx.caught().is_null() {
                eprintln!("a goroutine runs within another one's catch block");
                std::process::exit(1);
            }
            values.recv().unwrap();
        }
        for h in catching {
            assert_eq!(h.join().unwrap(), 50);
        }
    });
}

#[test]
#[cfg(target_env = "gnu")]
fn goroutines_that_park_in_a_catch_block_do_not_disturb_each_other() {
    let test = "goroutines_that_park_in_a_catch_block_do_not_disturb_each_other";
    in_child(test, &[], || {
        wait_in_catch_blocks(gort::Runtime::builder);
        wait_in_catch_blocks(|| gort::Runtime::builder().migrate_always());
    })
    .with_status(0);
}
