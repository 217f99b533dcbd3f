//! What the public API promises of `goroutine_local!`.

mod common;

use common::{Ledger, SIZES, Token, at_each_size, on_both};
use gort::{AccessError, Runtime, chan, go, goroutine_local, scope, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

goroutine_local! {
    /// Documented.
    static COUNT: Cell<u32> = const { Cell::new(0) };
    pub(crate) static LIST: RefCell<Vec<u32>> = RefCell::new(vec![1]);
    #[allow(dead_code, reason = "it is there to be declared")]
    static UNUSED: String = String::from("unused")
}

goroutine_local!(static LAST: Option<Box<u8>> = None);

goroutine_local! {}

fn bump() -> u32 {
    COUNT.set(COUNT.get() + 1);
    COUNT.get()
}

#[test]
fn every_goroutine_has_its_own() {
    on_both(|| {
        COUNT.set(0);
        assert_eq!((bump(), bump()), (1, 2));
        let others: Vec<_> = (0..100)
            .map(|_| {
                go(|| {
                    let first = bump();
                    yield_now();
                    (first, bump())
                })
            })
            .collect();
        for other in others {
            assert_eq!(other.join().unwrap(), (1, 2));
        }
        let thread = thread::spawn(|| (bump(), bump()));
        assert_eq!(gort::blocking(|| thread.join().unwrap()), (1, 2));
        assert_eq!(bump(), 3);
        assert!(LAST.with(Option::is_none));
    });
}

#[test]
fn it_follows_its_goroutine_over_waits() {
    at_each_size(|| {
        let ch = chan::<()>(0);
        let goroutines: Vec<_> = (0..200)
            .map(|n| {
                let ch = ch.clone();
                go(move || {
                    COUNT.set(n);
                    COUNT.with(|count| {
                        // Held over the wait, too.
                        ch.recv();
                        yield_now();
                        assert_eq!(count.get(), n);
                    });
                    COUNT.get()
                })
            })
            .collect();
        ch.close();
        for (n, goroutine) in goroutines.into_iter().enumerate() {
            assert_eq!(goroutine.join().unwrap(), n as u32);
        }
    });
}

#[test]
fn the_helpers_do_what_std_s_do() {
    on_both(|| {
        COUNT.set(5);
        assert_eq!((COUNT.get(), COUNT.replace(6), COUNT.take(), COUNT.get()), (5, 5, 6, 0));
        LIST.set(vec![1]);
        LIST.with_borrow_mut(|list| list.push(2));
        assert_eq!(LIST.with_borrow(|list| list.len()), 2);
        assert_eq!(LIST.replace(vec![9]), [1, 2]);
        assert_eq!(LIST.take(), [9]);
        assert_eq!(LIST.try_with(|list| list.borrow().len()), Ok(0));
    });
}

#[test]
fn it_is_made_once_at_its_first_use() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    goroutine_local! { static VALUE: u32 = MADE.fetch_add(1, SeqCst); }
    at_each_size(|| {
        let before = MADE.load(SeqCst);
        go(|| ()).join().unwrap();
        assert_eq!(MADE.load(SeqCst), before);
        go(|| (0..3).for_each(|_| VALUE.with(|_| ()))).join().unwrap();
        assert_eq!(MADE.load(SeqCst), before + 1);
    });
}

#[test]
fn set_does_not_run_the_initialiser() {
    goroutine_local! {
        static NEVER: Cell<u32> = panic!("not needed");
        static NEITHER: RefCell<u32> = panic!("not needed");
    }
    on_both(|| {
        NEVER.set(1);
        NEVER.set(2);
        NEITHER.set(3);
        assert_eq!((NEVER.get(), NEITHER.with_borrow(|n| *n)), (2, 3));
    });
}

/// A value whose ledger every goroutine is given.
struct Counted(RefCell<Option<Token>>);

impl Counted {
    const fn none() -> Counted {
        Counted(RefCell::new(None))
    }
}

goroutine_local! { static COUNTED: Counted = Counted::none(); }

fn keep(ledger: &Ledger) {
    COUNTED.with(|counted| *counted.0.borrow_mut() = Some(ledger.token()));
}

#[test]
fn it_is_dropped_when_its_goroutine_has_ended_and_before_join_returns() {
    at_each_size(|| {
        let ledger = Ledger::default();
        for n in 0..100 {
            let theirs = ledger.clone();
            let h = go(move || {
                keep(&theirs);
                assert!(n % 2 == 0, "as expected");
            });
            assert_eq!(h.join().is_ok(), n % 2 == 0);
            ledger.assert_settled();
        }
        // Nobody joins it.
        let (theirs, ch) = (ledger.clone(), chan::<()>(0));
        let rx = ch.clone();
        drop(go(move || {
            keep(&theirs);
            rx.recv();
        }));
        ch.send(());
        common::eventually("it is dropped", || ledger.dropped() == ledger.made());
        ledger.assert_settled();
    });
}

#[test]
fn main_and_scoped_goroutines_and_threads_have_theirs() {
    for procs in SIZES {
        let ledger = Ledger::default();
        let rt = Runtime::builder().max_procs(procs).build().unwrap();
        rt.run(|| keep(&ledger));
        ledger.assert_settled();
        rt.run(|| {
            keep(&ledger);
            scope(|s| s.go(|| keep(&ledger)).join().unwrap());
            assert_eq!((ledger.made(), ledger.dropped() + 1), (ledger.made(), ledger.made()));
        });
        ledger.assert_settled();
        thread::scope(|s| s.spawn(|| keep(&ledger)).join().unwrap());
        ledger.assert_settled();
    }
}

#[test]
fn nothing_leaks_into_the_next_goroutine() {
    at_each_size(|| {
        for n in 0..10_000 {
            let found = go(move || COUNT.replace(n + 1)).join().unwrap();
            assert_eq!(found, 0);
        }
    });
}

/// Says when it goes, and does something.
struct OnDrop<F: FnMut() + Send>(F);

impl<F: FnMut() + Send> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Drops = RefCell<Option<OnDrop<Box<dyn FnMut() + Send>>>>;

goroutine_local! {
    static FIRST: Drops = RefCell::new(None);
    static SECOND: Drops = RefCell::new(None);
    static LATE: Drops = RefCell::new(None);
}

fn on_drop(f: impl FnMut() + Send + 'static) -> Option<OnDrop<Box<dyn FnMut() + Send>>> {
    Some(OnDrop(Box::new(f)))
}

#[test]
fn a_destructor_may_park_and_use_other_values_but_not_its_own() {
    at_each_size(|| {
        let (ch, log) = (chan::<&str>(0), Arc::new(Mutex::new(Vec::new())));
        let (tx, log1, log2) = (ch.clone(), log.clone(), log.clone());
        let h = go(move || {
            FIRST.set(on_drop(move || {
                log1.lock().unwrap().push("first");
                // It was made later, so it is gone by now.
                let gone: AccessError = SECOND.try_with(|_| ()).unwrap_err();
                assert!(gone.to_string().contains("destruction"));
                assert!(FIRST.try_with(|_| ()).is_err());
            }));
            SECOND.set(on_drop(move || {
                log2.lock().unwrap().push("second");
                assert!(FIRST.try_with(|_| ()).is_ok());
                assert!(SECOND.try_with(|_| ()).is_err());
                tx.send("from a destructor");
                yield_now();
                let log3 = log2.clone();
                LATE.set(on_drop(move || log3.lock().unwrap().push("late")));
            }));
        });
        assert_eq!(ch.recv(), Some("from a destructor"));
        h.join().unwrap();
        assert_eq!(*log.lock().unwrap(), ["second", "late", "first"]);
    });
}

#[test]
fn a_destructor_that_panics_is_reported_and_the_others_run() {
    at_each_size(|| {
        let ledger = Ledger::default();
        let theirs = ledger.clone();
        let h = go(move || {
            keep(&theirs);
            FIRST.set(on_drop(|| panic!("as expected")));
            5
        });
        assert_eq!(h.join().unwrap(), 5);
        ledger.assert_settled();
    });
}

#[test]
fn the_value_of_a_thread_is_dropped_when_it_ends_and_may_wait_then() {
    on_both(|| {
        let (ch, ledger) = (chan::<bool>(1), Ledger::default());
        let (tx, theirs) = (ch.clone(), ledger.clone());
        let thread = thread::spawn(move || {
            let token = theirs.token();
            FIRST.set(on_drop(move || {
                let _ = &token;
                tx.send(FIRST.try_with(|_| ()).is_err() && SECOND.try_with(|_| ()).is_ok());
            }));
        });
        gort::blocking(|| thread.join().unwrap());
        assert_eq!(ch.recv(), Some(true));
        ledger.assert_settled();
    });
}

#[test]
fn an_initialiser_may_use_other_values_and_park() {
    goroutine_local! {
        static OUTER: u32 = {
            yield_now();
            INNER.with(|n| n + 1)
        };
        static INNER: u32 = 1;
    }
    on_both(|| assert_eq!(OUTER.with(|n| *n), 2));
}

#[test]
fn an_initialiser_that_comes_back_to_its_own_key_replaces_what_it_left() {
    static DEPTH: AtomicUsize = AtomicUsize::new(0);
    goroutine_local! {
        static SELF: (usize, Box<usize>) = {
            let depth = DEPTH.fetch_add(1, SeqCst);
            if depth < 3 {
                SELF.with(|inner| assert_eq!(inner.0, *inner.1));
            }
            (depth, Box::new(depth))
        };
    }
    at_each_size(|| {
        DEPTH.store(0, SeqCst);
        go(|| assert_eq!(SELF.with(|s| (s.0, *s.1)), (0, 0))).join().unwrap();
    });
}

#[test]
fn an_initialiser_that_panics_leaves_nothing() {
    static FAILS: AtomicU32 = AtomicU32::new(0);
    goroutine_local! {
        static TRIED: u32 = {
            assert!(FAILS.fetch_add(1, SeqCst) > 0, "as expected");
            7
        };
    }
    at_each_size(|| {
        FAILS.store(0, SeqCst);
        go(|| {
            assert_eq!(common::panic_message(|| TRIED.with(|n| *n)), "as expected");
            assert_eq!(TRIED.with(|n| *n), 7);
        })
        .join()
        .unwrap();
    });
}

#[test]
fn what_a_result_makes_as_it_is_dropped_is_dropped_too() {
    /// Makes a value when it is dropped.
    struct Makes(Ledger);
    impl Drop for Makes {
        fn drop(&mut self) {
            COUNTED.with(|counted| {
                assert!(counted.0.borrow().is_none(), "a value that should be gone");
                *counted.0.borrow_mut() = Some(self.0.token());
            });
        }
    }
    at_each_size(|| {
        let ledger = Ledger::default();
        // The handle goes before the function has returned.
        let (theirs, ch) = (ledger.clone(), chan::<()>(0));
        let rx = ch.clone();
        drop(go(move || {
            rx.recv();
            Makes(theirs)
        }));
        ch.send(());
        common::eventually("all is dropped", || ledger.made() == 1 && ledger.dropped() == 1);
        // The handle goes when the values are being dropped, and the result is not there for it yet.
        let (theirs, begun, go_on) = (ledger.clone(), chan::<()>(0), chan::<()>(0));
        let (tx, rx) = (begun.clone(), go_on.clone());
        let h = go(move || {
            keep(&theirs);
            FIRST.set(on_drop(move || {
                tx.send(());
                rx.recv();
            }));
            Makes(theirs)
        });
        begun.recv();
        drop(h);
        go_on.send(());
        common::eventually("all is dropped", || ledger.made() == 3 && ledger.dropped() == 3);
        ledger.assert_settled();
    });
}

#[test]
fn many_keys_in_many_goroutines() {
    macro_rules! keys {
        ($($name:ident)*) => {
            goroutine_local! { $(static $name: Cell<usize> = Cell::new(0);)* }
            fn all() -> Vec<&'static gort::LocalKey<Cell<usize>>> { vec![$(&$name),*] }
        };
    }
    keys!(A B C D E F G H I J K L M N O P);
    at_each_size(|| {
        let hs: Vec<_> = (0..200_usize)
            .map(|seed| {
                go(move || {
                    let mut want = HashMap::new();
                    let mut rng = common::Rng(seed as u64);
                    for _ in 0..100 {
                        let (key, value) = (rng.below(16), rng.below(1000));
                        want.insert(key, value);
                        all()[key].set(value);
                        if value % 7 == 0 {
                            yield_now();
                        }
                    }
                    (0..16).all(|key| all()[key].get() == want.get(&key).copied().unwrap_or(0))
                })
            })
            .collect();
        assert!(hs.into_iter().all(|h| h.join().unwrap()));
    });
}
