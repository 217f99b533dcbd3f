//! Go's `once_test.go` and `oncefunc_test.go`, under the same names. What Go makes of `OnceFunc` and `OnceValue` is a `LazyLock`
//! here.
//!
//! Differs from Go: a function that panics is not done. `Once` and `LazyLock` are poisoned, and every later use panics, as in
//! `std::sync`.
//!
//! Left out, with the reason: `OnceValues` is `OnceValue` of a tuple; `OnceFuncGoexit`: there is no Goexit; `OnceFuncPanicTraceback`: a
//! panic's trace is std's; the parts about allocations of `OnceFunc`.

mod common;

use common::{Ledger, on_both, panic_message};
use gort::sync::{LazyLock, Once};
use gort::{chan, go};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

#[test]
fn test_once() {
    on_both(|| {
        const N: u32 = 10;
        let (o, once, c) = (Arc::new(AtomicU32::new(0)), Arc::new(Once::new()), chan::<bool>(0));
        for _ in 0..N {
            let (o, once, c) = (o.clone(), once.clone(), c.clone());
            go!(move || {
                once.call_once(|| _ = o.fetch_add(1, SeqCst));
                assert_eq!(o.load(SeqCst), 1, "once failed inside");
                c.send(true);
            });
        }
        for _ in 0..N {
            c.recv();
        }
        assert_eq!(o.load(SeqCst), 1, "once failed outside");
    });
}

#[test]
fn test_once_panic() {
    on_both(|| {
        let once = Once::new();
        assert_eq!(panic_message(|| once.call_once(|| panic!("failed"))), "failed");
        let again = panic_message(|| once.call_once(|| unreachable!("called twice")));
        assert_eq!(again, "Once instance has previously been poisoned");
    });
}

#[test]
fn test_once_func() {
    on_both(|| {
        let calls = AtomicU32::new(0);
        let f = LazyLock::new(|| _ = calls.fetch_add(1, SeqCst));
        for _ in 0..10 {
            LazyLock::force(&f);
        }
        assert_eq!(calls.load(SeqCst), 1);
    });
}

#[test]
fn test_once_value() {
    on_both(|| {
        let calls = AtomicU32::new(0);
        let f = LazyLock::new(|| calls.fetch_add(1, SeqCst) + 1);
        for _ in 0..10 {
            assert_eq!(*f, 1);
        }
        assert_eq!(calls.load(SeqCst), 1);
    });
}

#[test]
fn test_once_func_panic() {
    on_both(|| {
        let calls = AtomicU32::new(0);
        let f = LazyLock::new(|| -> u32 {
            calls.fetch_add(1, SeqCst);
            panic!("x")
        });
        assert_eq!(panic_message(|| *f), "x");
        for _ in 0..3 {
            assert_eq!(panic_message(|| *f), "LazyLock instance has previously been poisoned");
        }
        assert_eq!(calls.load(SeqCst), 1);
    });
}

#[test]
fn test_once_xgc() {
    // The function goes after its first call, whether it returned or panicked.
    on_both(|| {
        for panics in [false, true] {
            let ledger = Ledger::default();
            let token = ledger.token();
            let f = LazyLock::new(move || {
                let _token = token;
                assert!(!panics, "test panic");
            });
            assert_eq!(ledger.dropped(), 0, "it went too early");
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| LazyLock::force(&f)));
            ledger.assert_settled();
        }
    });
}
