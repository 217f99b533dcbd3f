//! All goroutines are asleep: when it is reported, how, and when it is not. Each case has a process of its own, because the
//! answer is a matter of the whole process. In such a process the main thread is the test harness's, which waits and
//! has never used the library: what is to be reported says that it wakes nobody ([`IDLE`]), what is not to be leaves it in doubt.
//! Programs without a harness are in `deadlock_alone.rs`.

mod common;

use common::child::{Ended, in_child, listen};
use common::until_parked;
use gort::sync::{Condvar, Mutex, RwLock, WaitGroup};
use gort::{Chan, Deadlock, OtherThreads, Runtime, chan, go, select};
use std::ffi::{c_int, c_void};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

const MESSAGE: &str = "all goroutines are asleep - deadlock!";
/// The harness's main thread wakes nobody.
const IDLE: &[(&str, &str)] = &[("GORT_OTHER_THREADS", "idle")];
/// Longer than it takes to find a deadlock.
const A_WHILE: Duration = Duration::from_millis(500);
/// Longer than it takes to find one and to list the goroutines for the first time, before which a report can still be taken back.
const LONGER: Duration = Duration::from_secs(2);

/// Does something, and then sends 1.
fn sends_after(ch: Chan<i32>, something: impl FnOnce()) {
    something();
    ch.send(1);
}

fn first_receives(from: Chan<i32>, to: Chan<i32>) {
    from.recv();
    to.send(1);
}

/// Runs `main` at several numbers of Ps; what it panicked with. In a child.
fn report_of(main: impl Fn() + Sync) -> Vec<String> {
    [1, 2, 64]
        .map(|procs| {
            let rt = Runtime::builder().max_procs(procs).build().unwrap();
            let panic = catch_unwind(AssertUnwindSafe(|| rt.run(&main))).unwrap_err();
            panic.downcast_ref::<String>().unwrap_or_else(|| panic!("no report")).clone()
        })
        .to_vec()
}

/// Says that `main` is reported, with the main goroutine in this state.
fn is_reported(test: &str, state: &str, main: impl Fn() + Sync) -> Ended {
    in_child(test, IDLE, || {
        for report in report_of(&main) {
            assert!(report.starts_with(MESSAGE), "{report}");
            assert!(report.contains(&format!("[{state}]: \"main\"")), "{report}");
        }
    })
    .with_status(0)
}

/// Says that `main` returns.
fn returns(test: &str, main: impl Fn() + Sync) {
    in_child(test, &[], || {
        for procs in [1, 2, 64] {
            Runtime::builder().max_procs(procs).build().unwrap().run(&main);
        }
    })
    .with_status(0);
}

#[test]
fn a_receive_that_nobody_serves_is_reported() {
    is_reported("a_receive_that_nobody_serves_is_reported", "chan receive", || {
        chan::<i32>(0).recv();
    });
}

#[test]
fn a_send_that_nobody_takes_is_reported() {
    is_reported("a_send_that_nobody_takes_is_reported", "chan send", || chan(0).send(1));
}

#[test]
fn nil_channels_and_empty_selects_are_reported() {
    is_reported("nil_channels_and_empty_selects_are_reported", "chan receive (nil chan)", || {
        gort::Chan::<i32>::nil().recv();
    });
}

#[test]
fn an_empty_select_is_reported() {
    is_reported("an_empty_select_is_reported", "select (no cases)", || select! {});
}

#[test]
fn a_select_that_nobody_serves_is_reported() {
    is_reported("a_select_that_nobody_serves_is_reported", "select", || {
        let (a, b) = (chan::<i32>(0), chan::<i32>(0));
        select! {
            recv(a) -> _ => {},
            send(b, 1) => {},
        }
    });
}

#[test]
fn goroutines_that_wait_for_each_other_are_reported_and_listed() {
    let test = "goroutines_that_wait_for_each_other_are_reported_and_listed";
    in_child(test, IDLE, || {
        let report = report_of(|| {
            let (a, b) = (chan::<i32>(0), chan::<i32>(0));
            go!(name = "other", first_receives(b.clone(), a.clone()));
            a.recv();
            b.send(1);
        });
        for report in report {
            assert!(
                report.contains("[chan receive]: \"main\"") && report.contains("[chan receive]: \"other\""),
                "{report}"
            );
        }
    })
    .with_status(0);
}

#[test]
fn a_wait_group_that_is_never_done_is_reported() {
    is_reported("a_wait_group_that_is_never_done_is_reported", "sync.WaitGroup.Wait", || {
        let wg = WaitGroup::new();
        wg.add(1);
        wg.wait();
    });
}

#[test]
fn a_mutex_that_is_locked_twice_is_reported() {
    is_reported("a_mutex_that_is_locked_twice_is_reported", "sync.Mutex.Lock", || {
        let m = Mutex::new(());
        let _held = m.lock();
        drop(m.lock());
    });
}

#[test]
fn reading_while_writing_is_reported() {
    is_reported("reading_while_writing_is_reported", "sync.RWMutex.RLock", || {
        let l = RwLock::new(());
        let _held = l.write();
        drop(l.read());
    });
}

#[test]
fn writing_while_reading_is_reported() {
    is_reported("writing_while_reading_is_reported", "sync.RWMutex.Lock", || {
        let l = RwLock::new(());
        let _held = l.read();
        drop(l.write());
    });
}

#[test]
fn writing_twice_is_reported() {
    is_reported("writing_twice_is_reported", "sync.RWMutex.Lock", || {
        let l = RwLock::new(());
        let _held = l.write();
        drop(l.write());
    });
}

#[test]
fn a_condition_that_nobody_changes_is_reported() {
    is_reported("a_condition_that_nobody_changes_is_reported", "sync.Cond.Wait", || {
        Condvar::new().wait(&mut Mutex::new(()).lock());
    });
}

#[test]
fn a_wait_with_a_deadline_is_no_deadlock() {
    returns("a_wait_with_a_deadline_is_no_deadlock", || {
        let (m, c) = (Mutex::new(()), Condvar::new());
        let mut held = m.lock();
        assert!(m.try_lock_for(A_WHILE).is_none());
        assert!(c.wait_for(&mut held, A_WHILE).timed_out());
    });
}

/// A goroutine begins something, sleeps until it is told to go on, and ends it. Meanwhile `waits` ends in a deadlock. Who
/// comes to wait after that goes on when it is ended.
fn passes_over(test: &str, begins_and_ends: fn(&Places, &Chan<()>), waits: fn(&Places), state: &str) {
    in_child(test, IDLE, || {
        for procs in [1, 2, 64] {
            let rt = Runtime::builder().max_procs(procs).build().unwrap();
            let places: &'static Places = Box::leak(Box::new(Places::new()));
            let go_on = chan::<()>(0);
            let dead = catch_unwind(AssertUnwindSafe(|| {
                rt.run(|| {
                    let go_on = go_on.clone();
                    go!(move || begins_and_ends(places, &go_on));
                    places.begun.recv();
                    waits(places);
                })
            }));
            let report = dead.unwrap_err().downcast_ref::<String>().unwrap().clone();
            assert!(report.contains(&format!("[{state}]: \"main\"")), "{report}");
            rt.run(|| {
                let after = go!(move || waits(places));
                until_parked(&after, state);
                go_on.send(());
                after.join().unwrap();
            });
        }
    })
    .with_status(0);
}

struct Places {
    begun: Chan<()>,
    mutex: Mutex<()>,
    rwlock: RwLock<()>,
    changed: Condvar,
    wg: WaitGroup,
}

impl Places {
    fn new() -> Places {
        Places {
            begun: chan(0),
            mutex: Mutex::new(()),
            rwlock: RwLock::new(()),
            changed: Condvar::new(),
            wg: WaitGroup::new(),
        }
    }

    fn begin(&self) {
        self.begun.send(());
    }
}

#[test]
fn a_mutex_passes_over_the_abandoned() {
    let holds = |p: &Places, go_on: &Chan<()>| {
        let _held = p.mutex.lock();
        p.begin();
        go_on.recv();
    };
    let waits = |p: &Places| drop(p.mutex.lock());
    passes_over("a_mutex_passes_over_the_abandoned", holds, waits, "sync.Mutex.Lock");
}

#[test]
fn readers_pass_over_the_abandoned() {
    let holds = |p: &Places, go_on: &Chan<()>| {
        let _held = p.rwlock.write();
        p.begin();
        go_on.recv();
    };
    let waits = |p: &Places| drop(p.rwlock.read());
    passes_over("readers_pass_over_the_abandoned", holds, waits, "sync.RWMutex.RLock");
}

#[test]
fn writers_pass_over_the_abandoned() {
    let holds = |p: &Places, go_on: &Chan<()>| {
        let held = p.rwlock.read();
        p.begin();
        go_on.recv();
        drop(held);
    };
    // The second one waits behind the first, which waits for readers.
    let waits = |p: &Places| drop(p.rwlock.write());
    passes_over("writers_pass_over_the_abandoned", holds, waits, "sync.RWMutex.Lock");
}

#[test]
fn a_notification_passes_over_the_abandoned() {
    let notifies = |p: &Places, go_on: &Chan<()>| {
        p.begin();
        go_on.recv();
        assert!(p.changed.notify_one());
    };
    let waits = |p: &Places| p.changed.wait(&mut p.mutex.lock());
    passes_over("a_notification_passes_over_the_abandoned", notifies, waits, "sync.Cond.Wait");
}

#[test]
fn a_wait_group_passes_over_the_abandoned() {
    let counts = |p: &Places, go_on: &Chan<()>| {
        p.wg.add(1);
        p.begin();
        go_on.recv();
        p.wg.done();
    };
    let waits = |p: &Places| p.wg.wait();
    passes_over("a_wait_group_passes_over_the_abandoned", counts, waits, "sync.WaitGroup.Wait");
}

#[test]
fn a_join_of_one_that_waits_for_ever_is_reported() {
    is_reported("a_join_of_one_that_waits_for_ever_is_reported", "join", || {
        let _ = go!(|| chan::<i32>(0).recv()).join();
    });
}

#[test]
fn a_future_whose_waker_nobody_has_is_reported() {
    is_reported("a_future_whose_waker_nobody_has_is_reported", "block on", || {
        gort::block_on(std::future::pending())
    });
}

#[test]
fn a_locked_goroutine_that_waits_for_ever_is_reported() {
    is_reported("a_locked_goroutine_that_waits_for_ever_is_reported", "chan receive", || {
        let _mine = gort::lock_os_thread();
        chan::<i32>(0).recv();
    });
}

#[test]
fn a_deadlock_after_a_hog_and_a_blocking_call_is_reported() {
    is_reported("a_deadlock_after_a_hog_and_a_blocking_call_is_reported", "chan receive", || {
        let ch = chan::<i32>(0);
        for _ in 0..3 {
            let ch = ch.clone();
            go!(move || {
                gort::blocking(|| thread::sleep(Duration::from_millis(50)));
                thread::sleep(Duration::from_millis(50));
                ch.recv();
            });
        }
        ch.recv();
    });
}

#[test]
fn exit_prints_as_go_does_and_ends_with_2() {
    in_child("exit_prints_as_go_does_and_ends_with_2", IDLE, || {
        let rt = Runtime::builder().deadlock(Deadlock::Exit).build().unwrap();
        rt.run(|| chan::<i32>(0).recv());
    })
    .with_status(2)
    .says(1, "fatal error: all goroutines are asleep - deadlock!")
    .says(1, "[chan receive]: \"main\"");
}

#[test]
fn ignore_says_nothing() {
    in_child("ignore_says_nothing", IDLE, || {
        thread::spawn(|| {
            let rt = Runtime::builder().deadlock(Deadlock::Ignore).build().unwrap();
            rt.run(|| chan::<i32>(0).recv());
        });
        thread::sleep(A_WHILE);
    })
    .with_status(0)
    .says(0, "deadlock");
}

#[test]
fn what_the_caller_of_run_lent_is_not_touched_any_more() {
    in_child("what_the_caller_of_run_lent_is_not_touched_any_more", IDLE, || {
        for procs in [1, 2, 64] {
            let rt = Runtime::builder().max_procs(procs).build().unwrap();
            let ch = chan::<i32>(0);
            let touched = AtomicBool::new(false);
            let dead = catch_unwind(AssertUnwindSafe(|| {
                rt.run(|| {
                    gort::scope(|s| {
                        s.go(|| {
                            ch.recv();
                            touched.store(true, SeqCst);
                        });
                        ch.recv();
                        touched.store(true, SeqCst);
                    });
                })
            }));
            assert!(dead.unwrap_err().downcast_ref::<String>().unwrap().contains(MESSAGE));
            // Nobody waits there any more.
            assert_eq!(ch.try_send(1), Err(gort::TrySendError::Full(1)));
            assert!(ch.try_close());
            thread::sleep(Duration::from_millis(20));
            assert!(!touched.load(SeqCst), "an abandoned goroutine ran");
            assert_eq!(rt.num_goroutines(), 0);
            // The runtime goes on.
            assert_eq!(rt.run(|| go!(|| 7).join().unwrap()), 7);
        }
    })
    .with_status(0);
}

#[test]
fn of_nested_runs_the_innermost_panics_and_can_be_caught() {
    in_child("of_nested_runs_the_innermost_panics_and_can_be_caught", IDLE, || {
        let n = gort::run(|| {
            let inner = catch_unwind(|| gort::run(|| chan::<i32>(0).recv()));
            assert!(inner.unwrap_err().downcast_ref::<String>().unwrap().contains(MESSAGE));
            7
        });
        assert_eq!(n, 7);
    })
    .with_status(0);
}

#[test]
fn a_sleeping_timer_is_no_deadlock() {
    returns("a_sleeping_timer_is_no_deadlock", || {
        let ch = chan(0);
        go!(sends_after(ch.clone(), || gort::time::sleep(A_WHILE)));
        assert_eq!(ch.recv(), Some(1));
        gort::time::after(A_WHILE).recv();
    });
}

#[test]
fn a_plain_thread_that_will_send_is_no_deadlock() {
    returns("a_plain_thread_that_will_send_is_no_deadlock", || {
        let ch = chan(0);
        // It has not used the library before it does.
        let sender = {
            let ch = ch.clone();
            thread::spawn(move || {
                thread::sleep(A_WHILE);
                ch.send(1);
            })
        };
        assert_eq!(ch.recv(), Some(1));
        sender.join().unwrap();
    });
}

#[test]
fn the_thread_that_made_the_channel_is_no_deadlock() {
    in_child("the_thread_that_made_the_channel_is_no_deadlock", IDLE, || {
        let ch = chan(0);
        let runs = {
            let ch = ch.clone();
            thread::spawn(move || gort::run(|| ch.recv()))
        };
        thread::sleep(A_WHILE);
        ch.send(1);
        assert_eq!(runs.join().unwrap(), Some(1));
    })
    .with_status(0);
}

#[test]
fn a_blocking_call_is_no_deadlock() {
    returns("a_blocking_call_is_no_deadlock", || {
        let ch = chan(0);
        go!(sends_after(ch.clone(), || gort::blocking(|| thread::sleep(A_WHILE))));
        assert_eq!(ch.recv(), Some(1));
    });
}

#[test]
fn a_thread_that_blocks_unannounced_is_no_deadlock() {
    returns("a_thread_that_blocks_unannounced_is_no_deadlock", || {
        let ch = chan(0);
        go!(sends_after(ch.clone(), || thread::sleep(A_WHILE)));
        assert_eq!(ch.recv(), Some(1));
    });
}

#[test]
fn a_waker_that_a_thread_holds_is_no_deadlock() {
    returns("a_waker_that_a_thread_holds_is_no_deadlock", || {
        let (waker, woken) =
            (Arc::new(std::sync::Mutex::new(None::<Waker>)), Arc::new(AtomicBool::new(false)));
        let holder = {
            let (waker, woken) = (waker.clone(), woken.clone());
            thread::spawn(move || {
                thread::sleep(A_WHILE);
                woken.store(true, SeqCst);
                waker.lock().unwrap().take().unwrap().wake();
            })
        };
        gort::block_on(poll_fn(|cx| {
            *waker.lock().unwrap() = Some(cx.waker().clone());
            if woken.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        }));
        holder.join().unwrap();
    });
}

#[test]
fn another_runtime_that_lives_is_no_deadlock() {
    in_child("another_runtime_that_lives_is_no_deadlock", IDLE, || {
        let other = Runtime::builder().build().unwrap();
        let ch = chan(0);
        other.go({
            let ch = ch.clone();
            move || {
                gort::time::sleep(A_WHILE);
                ch.send(1);
            }
        });
        assert_eq!(gort::run(|| ch.recv()), Some(1));
    })
    .with_status(0);
}

#[test]
fn a_deadlock_that_a_thread_leaves_behind_when_it_ends_is_reported() {
    let test = "a_deadlock_that_a_thread_leaves_behind_when_it_ends_is_reported";
    in_child(test, IDLE, || {
        let ch = chan::<i32>(0);
        let report = report_of(|| {
            let user = thread::spawn(|| {
                drop(chan::<i32>(0));
                thread::sleep(A_WHILE);
            });
            ch.recv();
            user.join().unwrap();
        });
        assert!(report.iter().all(|r| r.contains(MESSAGE)));
    })
    .with_status(0);
}

/// Says whether it has been dropped.
struct Canary(AtomicBool);

impl Canary {
    fn new() -> Canary {
        Canary(AtomicBool::new(false))
    }

    fn is_alive(&self) -> bool {
        !self.0.load(SeqCst)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn nobody_who_borrows_goes_on_when_run_was_left() {
    in_child("nobody_who_borrows_goes_on_when_run_was_left", IDLE, || {
        static WRONG: AtomicBool = AtomicBool::new(false);
        let rt = Runtime::builder().max_procs(2).build().unwrap();
        // A scoped goroutine of the outer run has one of its own, and catches its panic.
        let outcome = {
            let canary = Canary::new();
            let canary = &canary;
            catch_unwind(AssertUnwindSafe(|| {
                rt.run(|| {
                    gort::scope(|s| {
                        s.go(|| {
                            let inner = catch_unwind(AssertUnwindSafe(|| rt.run(|| chan::<i32>(0).recv())));
                            assert!(inner.is_err());
                            WRONG.fetch_or(!canary.is_alive(), SeqCst);
                        });
                    });
                    5
                })
            }))
        };
        // Only the innermost was deadlocked.
        assert_eq!(outcome.unwrap(), 5);
        thread::sleep(Duration::from_millis(50));
        assert!(!WRONG.load(SeqCst), "a goroutine used what its run's caller had dropped");
    })
    .with_status(0);
}

#[test]
fn a_run_whose_goroutine_waits_for_a_deadlocked_one_goes_on() {
    in_child("a_run_whose_goroutine_waits_for_a_deadlocked_one_goes_on", IDLE, || {
        let seven = gort::run(|| {
            let inner = || {
                let _ = catch_unwind(|| gort::run(|| chan::<i32>(0).recv()));
                7
            };
            go!(inner).join().unwrap()
        });
        assert_eq!(seven, 7);
    })
    .with_status(0);
}

#[test]
fn scopes_elsewhere_are_not_given_up_with_a_run() {
    in_child("scopes_elsewhere_are_not_given_up_with_a_run", IDLE, || {
        let rt = Runtime::builder().max_procs(2).build().unwrap();
        let ch = chan::<i32>(0);
        let elsewhere = rt.go({
            let ch = ch.clone();
            move || gort::scope(|s| s.go(|| ch.recv()).join().unwrap())
        });
        let dead = catch_unwind(AssertUnwindSafe(|| rt.run(|| chan::<i32>(0).recv())));
        assert!(dead.is_err());
        ch.send(9);
        assert_eq!(elsewhere.join().unwrap(), Some(9));
    })
    .with_status(0);
}

#[test]
fn what_goes_on_in_a_runtime_that_was_dropped_is_no_deadlock() {
    in_child("what_goes_on_in_a_runtime_that_was_dropped_is_no_deadlock", IDLE, || {
        let rt = Runtime::builder().build().unwrap();
        let ch = chan(0);
        let (begun, has_begun) = std::sync::mpsc::channel();
        rt.go({
            let ch = ch.clone();
            move || {
                begun.send(()).unwrap();
                thread::sleep(A_WHILE);
                ch.send(1);
            }
        });
        // One that had not started would be dropped with its runtime.
        has_begun.recv().unwrap();
        drop(rt);
        assert_eq!(gort::run(|| ch.recv()), Some(1));
    })
    .with_status(0);
}

#[test]
fn a_time_limit_that_was_not_needed_does_not_delay_the_report() {
    in_child("a_time_limit_that_was_not_needed_does_not_delay_the_report", IDLE, || {
        let begin = std::time::Instant::now();
        let rt = Runtime::builder().max_procs(4).build().unwrap();
        let dead = catch_unwind(AssertUnwindSafe(|| {
            rt.run(|| {
                let ch = chan(0);
                for i in 0..3 {
                    let ch = ch.clone();
                    go!(move || gort::blocking(|| {
                        thread::sleep(Duration::from_millis(20));
                        ch.send(i);
                    }));
                }
                for _ in 0..3 {
                    ch.recv_timeout(Duration::from_secs(3600)).unwrap();
                }
                ch.recv();
            });
        }));
        assert!(dead.is_err());
        assert!(begin.elapsed() < Duration::from_secs(60));
    })
    .with_status(0);
}

#[test]
fn a_deadlock_beside_another_runtime_is_reported_when_that_has_ended() {
    in_child("a_deadlock_beside_another_runtime_is_reported_when_that_has_ended", IDLE, || {
        let other = Runtime::builder().build().unwrap();
        other.go(|| gort::time::sleep(A_WHILE));
        assert!(catch_unwind(|| gort::run(|| chan::<i32>(0).recv())).is_err());
    })
    .with_status(0);
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that is older than the first use of the library, and does what it is sent.
fn old_pool() -> mpsc::Sender<Job> {
    let (jobs, pool) = mpsc::channel::<Job>();
    let (begun, has_begun) = mpsc::channel();
    thread::spawn(move || {
        begun.send(()).unwrap();
        pool.iter().for_each(|job| job());
    });
    has_begun.recv().unwrap();
    jobs
}

#[test]
fn a_job_for_a_pool_that_is_older_than_the_library_is_no_deadlock() {
    let test = "a_job_for_a_pool_that_is_older_than_the_library_is_no_deadlock";
    in_child(test, &[], || {
        let jobs = old_pool();
        for procs in [1, 2, 64] {
            let rt = Runtime::builder().max_procs(procs).build().unwrap();
            let got = rt.run(|| {
                let ch = chan(0);
                let tx = ch.clone();
                jobs.send(Box::new(|| sends_after(tx, || thread::sleep(LONGER)))).unwrap();
                ch.recv()
            });
            assert_eq!(got, Some(1));
        }
    })
    .with_status(0);
}

static IN_A_STATIC: std::sync::Mutex<Option<Chan<i32>>> = std::sync::Mutex::new(None);

fn send_to_the_static() {
    let ch = IN_A_STATIC.lock().unwrap().clone();
    ch.unwrap().send(1);
}

/// Waits for what is sent to the channel in the static.
fn receive_from_the_static() {
    // Made by a goroutine, so that this thread is none that has used it before.
    let ch = gort::run(|| chan(0));
    *IN_A_STATIC.lock().unwrap() = Some(ch.clone());
    assert_eq!(gort::run(|| ch.recv()), Some(1));
}

#[test]
fn a_thread_of_c_that_takes_a_handle_from_a_static_is_no_deadlock() {
    extern "C" fn of_c(_: *mut c_void) -> *mut c_void {
        thread::sleep(LONGER);
        send_to_the_static();
        ptr::null_mut()
    }
    let test = "a_thread_of_c_that_takes_a_handle_from_a_static_is_no_deadlock";
    in_child(test, &[], || {
        let mut id = 0;
        // SAFETY: the function is of the type that it is called with, and needs nothing.
        let failed = unsafe { libc::pthread_create(&raw mut id, ptr::null(), of_c, ptr::null_mut()) };
        assert_eq!(failed, 0);
        receive_from_the_static();
    })
    .with_status(0);
}

/// `struct sigevent` as the system has it, whose notification is a function.
#[cfg(target_env = "gnu")]
#[repr(C)]
struct CallOnAThread {
    value: usize,
    signal: c_int,
    notify: c_int,
    function: extern "C" fn(usize),
    attributes: *const c_void,
    rest: [usize; 4],
}

#[test]
#[cfg(target_env = "gnu")]
fn a_timer_of_the_system_that_calls_a_function_is_no_deadlock() {
    extern "C" fn ring(_: usize) {
        send_to_the_static();
    }
    let test = "a_timer_of_the_system_that_calls_a_function_is_no_deadlock";
    in_child(test, &[], || {
        const SIGEV_THREAD: c_int = 2;
        let mut event = CallOnAThread {
            value: 0,
            signal: 0,
            notify: SIGEV_THREAD,
            function: ring,
            attributes: ptr::null(),
            rest: [0; 4],
        };
        let mut timer = ptr::null_mut();
        // SAFETY: all zeroes is a value of this struct of numbers.
        let mut when: libc::itimerspec = unsafe { std::mem::zeroed() };
        when.it_value.tv_sec = LONGER.as_secs() as _;
        // SAFETY: `event` is a `sigevent`, the function needs nothing, and the others are places for what is said or answered.
        unsafe {
            let event = (&raw mut event).cast::<libc::sigevent>();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, event, &raw mut timer), 0);
            assert_eq!(libc::timer_settime(timer, 0, &raw const when, ptr::null_mut()), 0);
        }
        receive_from_the_static();
    })
    .with_status(0);
}

#[test]
fn a_handler_of_a_signal_is_no_deadlock_whatever_is_said_of_threads() {
    extern "C" fn handler(_: c_int) {
        let ch = IN_A_STATIC.try_lock().unwrap().clone();
        assert!(ch.unwrap().try_send(1).is_ok());
    }
    let test = "a_handler_of_a_signal_is_no_deadlock_whatever_is_said_of_threads";
    in_child(test, IDLE, || {
        let handler = handler as extern "C" fn(c_int) as libc::sighandler_t;
        // SAFETY: all zeroes is a value of this struct of numbers.
        let mut when: libc::itimerval = unsafe { std::mem::zeroed() };
        when.it_value.tv_sec = LONGER.as_secs() as _;
        // SAFETY: what the handler does is sound on a thread that sleeps in the kernel, with no lock of ours, and all do then:
        // this one, the harness's, and ours.
        unsafe {
            libc::signal(libc::SIGALRM, handler);
            assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const when, ptr::null_mut()), 0);
        }
        receive_from_the_static();
    })
    .with_status(0);
}

#[test]
fn a_waker_in_a_static_is_no_deadlock_whatever_is_said_of_threads() {
    static WAKER: std::sync::Mutex<Option<Waker>> = std::sync::Mutex::new(None);
    static WOKEN: AtomicBool = AtomicBool::new(false);
    let test = "a_waker_in_a_static_is_no_deadlock_whatever_is_said_of_threads";
    in_child(test, IDLE, || {
        let jobs = old_pool();
        let wake = || {
            thread::sleep(LONGER);
            WOKEN.store(true, SeqCst);
            WAKER.lock().unwrap().take().unwrap().wake();
        };
        jobs.send(Box::new(wake)).unwrap();
        gort::run(|| {
            gort::block_on(poll_fn(|cx| {
                *WAKER.lock().unwrap() = Some(cx.waker().clone());
                if WOKEN.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
            }))
        });
    })
    .with_status(0);
}

/// One note in a runtime with this policy, and the answer of `main` after it.
fn is_noted(test: &str, policy: Deadlock) {
    in_child(test, &[], || {
        let jobs = old_pool();
        let mut until_said = listen();
        let rt = Runtime::builder().deadlock(policy).build().unwrap();
        let got = rt.run(|| {
            let ch = chan(0);
            let tx = ch.clone();
            let answer = move || {
                until_said("the program goes on");
                // A second one would come within the next looks.
                thread::sleep(Duration::from_secs(3));
                tx.send(1);
            };
            jobs.send(Box::new(answer)).unwrap();
            ch.recv()
        });
        assert_eq!(got, Some(1));
    })
    .with_status(0)
    .says(1, MESSAGE)
    .says(1, "unless a thread of which nothing is known wakes one")
    .says(1, "GORT_OTHER_THREADS=idle")
    .says(1, "[chan receive]: \"main\"");
}

#[test]
fn in_doubt_there_is_one_note_and_the_program_goes_on() {
    is_noted("in_doubt_there_is_one_note_and_the_program_goes_on", Deadlock::Panic);
}

#[test]
fn in_doubt_exit_goes_on_as_well() {
    is_noted("in_doubt_exit_goes_on_as_well", Deadlock::Exit);
}

#[test]
fn in_doubt_ignore_says_nothing() {
    in_child("in_doubt_ignore_says_nothing", &[], || {
        let jobs = old_pool();
        let rt = Runtime::builder().deadlock(Deadlock::Ignore).build().unwrap();
        let got = rt.run(|| {
            let ch = chan(0);
            let tx = ch.clone();
            jobs.send(Box::new(|| sends_after(tx, || thread::sleep(LONGER)))).unwrap();
            ch.recv()
        });
        assert_eq!(got, Some(1));
    })
    .with_status(0)
    .says(0, "deadlock");
}

/// Ends the process when stderr has said this.
fn exit_when_said(what: &'static str) {
    let mut until_said = listen();
    thread::spawn(move || {
        until_said(what);
        std::process::exit(0);
    });
}

#[test]
fn a_handler_is_named_by_the_note() {
    extern "C" fn nothing(_: c_int) {}
    in_child("a_handler_is_named_by_the_note", IDLE, || {
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGUSR1, nothing as extern "C" fn(c_int) as libc::sighandler_t) };
        exit_when_said("the program goes on");
        gort::run(|| chan::<i32>(0).recv());
    })
    .with_status(0)
    .says(1, &format!("unless the handler of signal {} wakes one", libc::SIGUSR1));
}

#[test]
fn what_the_builder_says_of_threads_goes_before_the_environment() {
    let test = "what_the_builder_says_of_threads_goes_before_the_environment";
    in_child(test, &[("GORT_OTHER_THREADS", "doubt")], || {
        let rt = Runtime::builder().other_threads(OtherThreads::Idle).build().unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| rt.run(|| chan::<i32>(0).recv()))).is_err());
        exit_when_said("the program goes on");
        Runtime::builder().build().unwrap().run(|| chan::<i32>(0).recv());
    })
    .with_status(0);
}

#[test]
fn the_builders_doubt_goes_before_the_environments_idle() {
    in_child("the_builders_doubt_goes_before_the_environments_idle", IDLE, || {
        assert!(catch_unwind(|| gort::run(|| chan::<i32>(0).recv())).is_err());
        exit_when_said("the program goes on");
        let rt = Runtime::builder().other_threads(OtherThreads::Doubt).build().unwrap();
        rt.run(|| chan::<i32>(0).recv());
    })
    .with_status(0);
}

#[test]
fn an_unusable_value_of_the_environment_is_named_once() {
    let test = "an_unusable_value_of_the_environment_is_named_once";
    in_child(test, &[("GORT_OTHER_THREADS", "maybe")], || {
        assert_eq!(gort::run(|| 1), 1);
        assert_eq!(Runtime::builder().build().unwrap().run(|| 2), 2);
    })
    .with_status(0)
    .says(1, "GORT_OTHER_THREADS=\"maybe\" is not doubt or idle");
}

/// The processor time that the thread of this name has used.
fn cpu_time_of(name: &str) -> Duration {
    let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_it = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks.find(is_it).unwrap();
    let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn an_idle_program_in_doubt_costs_nothing_however_many_goroutines_wait() {
    let test = "an_idle_program_in_doubt_costs_nothing_however_many_goroutines_wait";
    in_child(test, &[], || {
        const MANY: usize = 100_000;
        let mut until_said = listen();
        thread::spawn(move || {
            // Then the goroutines are looked at, to be listed.
            until_said("the program goes on");
            let mut before = cpu_time_of("gort-sysmon");
            let mut used = |wait| {
                thread::sleep(Duration::from_secs(wait));
                let now = cpu_time_of("gort-sysmon");
                now - std::mem::replace(&mut before, now)
            };
            while used(1) > Duration::from_millis(100) {}
            // A search of all goroutines takes more than a millisecond, and there would be six.
            let used = used(6);
            let nothing = used < Duration::from_millis(3);
            eprintln!("sysmon used {used:?}");
            std::process::exit(i32::from(!nothing));
        });
        gort::run(|| {
            let ch = chan::<i32>(0);
            for _ in 0..MANY {
                let ch = ch.clone();
                go!(move || ch.recv());
            }
            ch.recv();
        });
    })
    .with_status(0);
}
