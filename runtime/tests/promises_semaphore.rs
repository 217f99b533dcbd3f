//! What the public API promises of `Semaphore` and `ErrGroup`, beyond what Go's tests ask.

mod common;

use common::{Rng, SIZES, at_each_size, builder, eventually, on_both, panic_message, until_parked};
use gort::context::{Cause, ContextError, background, cause, with_cancel, with_timeout};
use gort::sync::{ErrGroup, ErrScope, Semaphore};
use gort::{chan, go, no_suspend, scope, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[test]
fn there_are_never_more_holders_than_permits() {
    on_both(|| {
        static SEM: Semaphore = Semaphore::new(5);
        let (held, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |seed: u64| {
            let mut rng = Rng(seed);
            for _ in 0..200 {
                let k = 1 + rng.below(5);
                match rng.below(4) {
                    0 if !SEM.try_acquire(k) => continue,
                    1 if !SEM.acquire_timeout(k, Duration::from_micros(rng.below(300) as u64)) => continue,
                    2 => {
                        let (ctx, cancel) =
                            with_timeout(&background(), Duration::from_micros(rng.below(300) as u64));
                        let got = SEM.acquire_context(k, &ctx);
                        cancel();
                        if got.is_err() {
                            continue;
                        }
                    }
                    3 => SEM.acquire(k),
                    _ => {}
                }
                assert!(held.fetch_add(k, SeqCst) + k <= 5);
                if rng.below(2) == 0 {
                    yield_now();
                }
                held.fetch_sub(k, SeqCst);
                rounds.fetch_add(1, SeqCst);
                SEM.release(k);
            }
        };
        scope(|s| {
            (0..8).for_each(|n| _ = s.go(move || work(n)));
            gort::blocking(|| {
                thread::scope(|s| (8..10).for_each(|n| _ = s.spawn(move || work(n))));
            });
        });
        // No permit was lost or doubled, by whatever way the waits ended.
        assert_eq!(SEM.available(), 5);
        assert!(rounds.load(SeqCst) > 0);
    });
}

#[test]
fn first_come_first_served() {
    on_both(|| {
        let (sem, order) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let waiting: Vec<_> = (0..20)
            .map(|n| {
                let (sem, order) = (sem.clone(), order.clone());
                let k = 1 + n % 3;
                let h = go(move || {
                    sem.acquire(k);
                    order.lock().unwrap().push(n);
                });
                until_parked(&h, "semacquire");
                (h, k)
            })
            .collect();
        for (n, (h, k)) in waiting.into_iter().enumerate() {
            // Not enough is not enough for anybody.
            sem.release(k - 1);
            assert!(!sem.try_acquire(1) || k == 1, "it has overtaken");
            assert_eq!(order.lock().unwrap().len(), n);
            sem.release(1);
            h.join().unwrap();
        }
        assert!(order.lock().unwrap().iter().copied().eq(0..20));
        assert_eq!(sem.available(), 0);
    });
}

#[test]
fn a_request_for_more_than_there_is_waits_until_there_is() {
    on_both(|| {
        let sem = Arc::new(Semaphore::new(1));
        let large = go({
            let sem = sem.clone();
            move || sem.acquire(3)
        });
        until_parked(&large, "semacquire");
        assert!(!sem.try_acquire(1), "it has overtaken");
        sem.release(2);
        large.join().unwrap();
        assert_eq!(sem.available(), 0);
    });
}

#[test]
fn who_gives_up_blocks_nobody_and_takes_nothing() {
    on_both(|| {
        let sem = Arc::new(Semaphore::new(1));
        let (ctx, cancel) = with_cancel(&background());
        let gives_up = go({
            let sem = sem.clone();
            move || sem.acquire_context(2, &ctx)
        });
        until_parked(&gives_up, "semacquire");
        let behind = go({
            let sem = sem.clone();
            move || sem.acquire(1)
        });
        until_parked(&behind, "semacquire");
        cancel();
        behind.join().unwrap();
        assert!(gives_up.join().unwrap().is_err());
        assert!(!sem.acquire_timeout(1, Duration::from_millis(1)));
        sem.release(1);
        assert!(sem.acquire_timeout(1, Duration::ZERO) && sem.available() == 0);
    });
}

#[test]
fn a_context_that_ends_under_a_plain_thread_ends_its_wait() {
    on_both(|| {
        let sem = Arc::new(Semaphore::new(0));
        let (ctx, cancel) = with_cancel(&background());
        let waits = thread::spawn({
            let sem = sem.clone();
            move || sem.acquire_context(1, &ctx)
        });
        eventually("it waits", || format!("{sem:?}").contains("waiting: 1"));
        cancel();
        assert!(gort::blocking(|| waits.join().unwrap()).is_err());
        assert_eq!(format!("{sem:?}"), "Semaphore { available: 0, waiting: 0 }");
    });
}

#[test]
fn who_must_not_be_suspended_leaves_the_queue() {
    at_each_size(|| {
        let sem = Semaphore::new(1);
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let _guard = no_suspend();
            sem.acquire(2);
        }));
        assert!(refused.is_err());
        assert!(sem.try_acquire(1));
    });
}

#[test]
fn a_guard_gives_its_permits_back() {
    on_both(|| {
        let sem = Semaphore::new(3);
        let guard = sem.acquire_guard(2);
        assert_eq!((sem.available(), sem.try_acquire(2)), (1, false));
        drop(guard);
        assert_eq!(
            panic_message(|| {
                let _guard = sem.acquire_guard(3);
                panic!("with a guard")
            }),
            "with a guard"
        );
        assert_eq!(sem.available(), 3);
    });
}

#[test]
fn a_group_gives_its_first_error_and_cancels_by_it() {
    on_both(|| {
        let (group, ctx) = ErrGroup::with_context(&background());
        for n in 0..10 {
            let done = ctx.done();
            group.go(move || {
                if n == 5 {
                    return Err(n);
                }
                done.recv();
                Err(100)
            });
        }
        assert_eq!(group.wait(), Err(5));
        assert!(ctx.err().is_some());
    });
}

#[test]
fn a_group_may_start_more_from_within() {
    on_both(|| {
        let (group, count) = (ErrGroup::<()>::new(), Arc::new(AtomicUsize::new(0)));
        fn tree(group: &ErrGroup<()>, count: &Arc<AtomicUsize>, depth: u32) {
            let (own, theirs) = (group.clone(), count.clone());
            group.go(move || {
                theirs.fetch_add(1, SeqCst);
                if depth > 0 {
                    tree(&own, &theirs, depth - 1);
                    tree(&own, &theirs, depth - 1);
                }
                Ok(())
            });
        }
        tree(&group, &count, 6);
        assert_eq!(group.wait(), Ok(()));
        assert_eq!(count.load(SeqCst), 127);
    });
}

#[test]
fn a_limit_is_not_changed_while_goroutines_run() {
    on_both(|| {
        let (group, ch) = (ErrGroup::<()>::new(), chan::<()>(0));
        group.set_limit(3);
        for _ in 0..2 {
            let ch = ch.clone();
            group.go(move || {
                ch.recv();
                Ok(())
            });
        }
        let message = panic_message(|| group.set_limit(5));
        assert_eq!(message, "errgroup: modify limit while 2 goroutines in the group are still active");
        ch.close();
        group.wait().unwrap();
        group.set_limit(5);
    });
}

#[test]
fn a_panic_cancels_and_comes_out_of_wait_when_all_have_ended() {
    on_both(|| {
        let (group, ctx) = ErrGroup::<u8>::with_context(&background());
        let ended = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            let (done, ended) = (ctx.done(), ended.clone());
            group.go(move || {
                done.recv();
                ended.fetch_add(1, SeqCst);
                Ok(())
            });
        }
        group.go(|| panic!("as expected"));
        assert_eq!(panic_message(|| group.wait()), "as expected");
        assert_eq!(ended.load(SeqCst), 5);
        eventually("it is done", || ctx.err().is_some());
    });
}

// -- Groups that borrow --

#[test]
fn a_group_in_a_scope_borrows_and_gives_what_its_body_returns() {
    on_both(|| {
        let (text, mut parts) = (String::from("a b c"), Vec::new());
        let lengths = Mutex::new(0);
        let got: Result<&str, ()> = ErrGroup::scope(|g| {
            parts.extend(text.split(' '));
            for part in &parts {
                g.go(|| {
                    *lengths.lock().unwrap() += part.len();
                    Ok(())
                });
            }
            &text[..1]
        });
        assert_eq!((got, lengths.into_inner().unwrap()), (Ok("a"), 3));
        parts.clear();
    });
}

#[test]
fn a_group_in_a_scope_gives_its_first_error_which_may_borrow() {
    on_both(|| {
        let words = [String::from("good"), String::from("bad")];
        let found: Result<usize, &str> = ErrGroup::scope(|g| {
            for word in &words {
                g.go(move || if word == "bad" { Err(word.as_str()) } else { Ok(()) });
            }
            words.len()
        });
        assert_eq!(found, Err("bad"));
    });
}

#[test]
fn the_first_error_cancels_the_context_of_the_scope_and_is_its_cause() {
    on_both(|| {
        let (parent, _cancel) = with_cancel(&background());
        let mut leaked = None;
        let got: Result<(), Cause> = ErrGroup::scope_context(&parent, |g, ctx| {
            leaked = Some(ctx.clone());
            for n in 0..8 {
                g.go(move || {
                    if n == 5 {
                        return Err(Arc::new(std::fmt::Error) as Cause);
                    }
                    assert_eq!(ctx.wait(), ContextError::Canceled);
                    assert!(cause(ctx).unwrap().is::<std::fmt::Error>());
                    ctx.check().map_err(|e| Arc::new(e) as Cause)
                });
            }
        });
        assert!(got.unwrap_err().is::<std::fmt::Error>());
        assert_eq!((leaked.unwrap().err(), parent.err()), (Some(ContextError::Canceled), None));
    });
}

#[test]
fn the_context_of_a_scope_is_cancelled_at_its_end_and_by_its_parent() {
    on_both(|| {
        let got = ErrGroup::<()>::scope_context(&background(), |g, ctx| {
            g.go(|| ctx.check().map_err(drop));
            ctx.clone()
        });
        assert_eq!(got.unwrap().check(), Err(ContextError::Canceled));
        let (parent, cancel) = with_cancel(&background());
        let got = ErrGroup::scope_context(&parent, |g, ctx| {
            g.go(|| Err(ctx.wait()));
            cancel();
        });
        assert_eq!(got, Err(ContextError::Canceled));
    });
}

#[test]
fn a_scope_of_a_group_waits_for_all_even_if_its_body_panics() {
    on_both(|| {
        let ended = AtomicUsize::new(0);
        let said = panic_message(|| {
            ErrGroup::<u8>::scope_context(&background(), |g, ctx| {
                for _ in 0..5 {
                    g.go(|| {
                        // Nothing else would wake them.
                        ctx.wait();
                        yield_now();
                        ended.fetch_add(1, SeqCst);
                        Err(1)
                    });
                }
                panic!("in the body")
            })
        });
        assert_eq!((said.as_str(), ended.load(SeqCst)), ("in the body", 5));
    });
}

#[test]
fn a_panic_comes_out_of_the_scope_of_a_group_when_all_have_ended() {
    on_both(|| {
        let ended = AtomicUsize::new(0);
        let said = panic_message(|| {
            ErrGroup::scope_context(&background(), |g, ctx| {
                for _ in 0..5 {
                    g.go(|| {
                        ctx.wait();
                        ended.fetch_add(1, SeqCst);
                        Err("an error, which counts less")
                    });
                }
                g.go(|| panic!("as expected"));
            })
        });
        assert_eq!((said.as_str(), ended.load(SeqCst)), ("as expected", 5));
    });
}

#[test]
fn a_scope_of_a_group_keeps_to_its_limit() {
    on_both(|| {
        let (running, most, total) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let done = ErrGroup::<()>::scope(|g| {
            g.set_limit(3);
            for _ in 0..100 {
                g.go(|| {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    yield_now();
                    running.fetch_sub(1, SeqCst);
                    total.fetch_add(1, SeqCst);
                    Ok(())
                });
            }
        });
        assert_eq!((done, total.load(SeqCst)), (Ok(()), 100));
        assert!(most.load(SeqCst) <= 3);

        let hold = chan::<()>(0);
        let started = ErrGroup::<()>::scope(|g| {
            g.set_limit(1);
            g.go(|| {
                hold.recv();
                Ok(())
            });
            let second = g.try_go(|| Ok(()));
            let message = panic_message(|| g.set_limit(5));
            assert_eq!(message, "errgroup: modify limit while 1 goroutines in the group are still active");
            hold.close();
            g.go(|| Ok(()));
            second
        });
        assert_eq!(started, Ok(false));
    });
}

#[test]
fn a_scope_of_a_group_may_start_more_from_within() {
    on_both(|| {
        fn tree<'scope>(g: &'scope ErrScope<'scope, '_, ()>, count: &'scope AtomicUsize, depth: u32) {
            g.go(move || {
                count.fetch_add(1, SeqCst);
                if depth > 0 {
                    tree(g, count, depth - 1);
                    tree(g, count, depth - 1);
                }
                Ok(())
            });
        }
        let count = AtomicUsize::new(0);
        assert_eq!(ErrGroup::scope(|g| tree(g, &count, 6)), Ok(()));
        assert_eq!(count.load(SeqCst), 127);
    });
}

#[test]
fn scopes_of_groups_nest_and_pass_errors_on() {
    at_each_size(|| {
        let wanted = 7;
        let found: Result<(), usize> = ErrGroup::scope_context(&background(), |g, ctx| {
            for row in 0..4 {
                let wanted = &wanted;
                g.go(move || {
                    ErrGroup::scope_context(ctx, |inner, ctx| {
                        for column in 0..4 {
                            inner.go(move || {
                                let n = row * 4 + column;
                                if n == *wanted {
                                    return Err(n);
                                }
                                ctx.wait();
                                Ok(())
                            });
                        }
                    })
                });
            }
        });
        assert_eq!(found, Err(7));
    });
}

#[test]
fn a_scope_of_a_group_in_which_nothing_can_be_started_ends() {
    for procs in SIZES {
        let rt = builder(procs).build().unwrap();
        let h = rt.go(|| {
            // Until the runtime, which is shut down meanwhile, refuses goroutines.
            while catch_unwind(|| go(|| ())).is_ok() {
                yield_now();
            }
            let (ended, owned) = (AtomicUsize::new(0), Arc::new(()));
            let said = panic_message(|| {
                ErrGroup::<()>::scope(|g| {
                    g.set_limit(1);
                    let refused = || {
                        let own = owned.clone();
                        let ended = &ended;
                        g.go(move || {
                            drop(own);
                            ended.fetch_add(1, SeqCst);
                            Ok(())
                        });
                    };
                    // What was refused has given its permit back.
                    panic_message(refused);
                    refused();
                })
            });
            assert_eq!((ended.load(SeqCst), Arc::strong_count(&owned)), (0, 1));
            said
        });
        assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0);
        let said = h.join().unwrap();
        assert!(said.starts_with("cannot start a goroutine"), "{said}");
    }
}
