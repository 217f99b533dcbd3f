//! A panic for its caller's mistake names the caller's line, and not one of ours.

mod common;

use common::at_size;
use gort::context::background;
use gort::sync::{
    Barrier, Condvar, ErrGroup, LazyLock, Mutex, Once, OnceLock, RwLock, Semaphore, SingleFlight, WaitGroup,
};
use gort::time::{Ticker, sleep, timeout};
use gort::{
    Builder, Chan, Runtime, Select, Sender, block_on, chan, channel, go, lock_os_thread, no_suspend, scope,
    select, select_biased, set_max_procs,
};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex as StdMutex, MutexGuard, Once as StdOnce, PoisonError};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Where the last panic was, by file and line.
static LAST: StdMutex<(String, u32)> = StdMutex::new((String::new(), 0));
/// What the running test has found.
static WRONG: StdMutex<Vec<String>> = StdMutex::new(Vec::new());
/// A panic is expected, and not to be printed.
static EXPECTED: AtomicBool = AtomicBool::new(false);

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives no other test of this file runs. At its end it fails the test for what is wrong.
struct Alone(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

impl Drop for Alone {
    fn drop(&mut self) {
        let wrong = std::mem::take(&mut *lock(&WRONG));
        wrong.iter().for_each(|w| eprintln!("{w}"));
        assert!(wrong.is_empty() || std::thread::panicking(), "{} panics name another line", wrong.len());
    }
}

/// Keeps the other tests of this file away, and has panics noted.
fn alone() -> Alone {
    static ONE: StdMutex<()> = StdMutex::new(());
    static HOOK: StdOnce = StdOnce::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            let at = info.location().map_or_else(Default::default, |l| (l.file().to_owned(), l.line()));
            *lock(&LAST) = at;
            if !EXPECTED.load(SeqCst) {
                print(info);
            }
        }));
    });
    Alone(lock(&ONE))
}

/// Says that `mistake` panics with a text, and that the panic names a line from `from` on.
fn panics_at(from: u32, text: &str, mistake: impl FnOnce()) {
    EXPECTED.store(true, SeqCst);
    let outcome = catch_unwind(AssertUnwindSafe(mistake));
    EXPECTED.store(false, SeqCst);
    let said = outcome.map_or_else(|payload| common::message(&*payload), |()| "nothing".to_owned());
    let (file, line) = lock(&LAST).clone();
    if !said.contains(text) || file != file!() || !(from..from + 4).contains(&line) {
        lock(&WRONG).push(format!("line {from} panics with {said:?}, and names {file}:{line}"));
    }
}

/// Says that an expression panics with a text, and that the panic names the expression's line.
macro_rules! panics_here {
    ($text:expr, $mistake:expr) => {
        panics_at(line!(), $text, || {
            #[allow(clippy::diverging_sub_expression, reason = "a select without arms")]
            let _got = $mistake;
        })
    };
}

#[test]
fn mistakes_with_channels_name_the_callers_line() {
    let _alone = alone();
    panics_here!("makechan: size out of range", chan::<u64>(usize::MAX));
    panics_here!("makechan: size out of range", Chan::<u64>::new(usize::MAX / 8));
    panics_here!("makechan: size out of range", channel::<u64>(usize::MAX));
    panics_here!("close of nil channel", Chan::<u8>::nil().close());
    panics_here!("close of nil channel", Sender::<u8>::nil().close());
    let ch = chan(1);
    ch.close();
    panics_here!("close of closed channel", ch.close());
    panics_here!("close of closed channel", ch.sender().close());
    panics_here!("send on closed channel", ch.send(1));
    panics_here!("send on closed channel", select! { send(ch, 1) => {} });
    panics_here!("send on closed channel", select! { send(ch, 1) => {}, default => {} });
    panics_here!(
        "send on closed channel",
        select_biased! { send(ch, 1) => {}, recv(Chan::<u8>::nil()) -> _ => {} }
    );
    panics_here!("send on closed channel", select! { send(ch, 1) => {}, recv(Chan::<u8>::nil()) -> _ => {} });
    let mut place = Some(1);
    panics_here!("send on closed channel", select! { send(ch, from place) => {} });
}

#[test]
fn no_memory_for_a_channel_is_said_with_the_size_at_the_callers_line() {
    let _alone = alone();
    let most = isize::MAX as usize - 4096;
    panics_here!("makechan: no memory for a channel of 92233720368547", chan::<u8>(most));
    panics_here!("makechan: no memory for a channel of 92233720368547", channel::<u64>(most / 8));
}

#[test]
fn mistakes_with_a_dynamic_select_name_the_callers_line() {
    let _alone = alone();
    let ch = chan::<i32>(1);
    let mut select = Select::new();
    let sends = select.send(&ch, 1);
    panics_here!("unsent::<u8>: the arm carries i32", select.unsent::<u8>(sends));
    panics_here!("unsent: there is no arm 7", select.unsent::<i32>(7));
    let done = select.select();
    panics_here!("received::<i32>: arm 0 sends", done.received::<i32>());
    panics_here!("sent::<u8>: the arm carries i32", done.sent::<u8>());
    let mut select = Select::new();
    select.recv(&ch);
    panics_here!("sent::<i32>: arm 0 receives", select.select().sent::<i32>());
    let mut select = Select::new();
    for _ in 0..=1 << 16 {
        select.recv(&ch);
    }
    panics_here!("too many cases", select.try_select());
    panics_here!("too many cases", select.select());
    panics_here!("too many cases", select.select_timeout(SHORT));
}

#[test]
fn mistakes_with_goroutines_name_the_callers_line() {
    let _alone = alone();
    panics_here!("cannot start a goroutine: ", go!(stack_size = 1, || ()));
    panics_here!("max_procs of 5000", set_max_procs(5000));
    panics_here!("a scoped goroutine panicked", scope(|s| drop(s.go(|| panic!("in it")))));
    let rt = Runtime::builder().max_procs(1).build().unwrap();
    panics_here!(
        "in main",
        rt.run(|| if true {
            panic!("in main")
        })
    );
    rt.run(|| {
        let own = Runtime::builder().max_procs(1).build().unwrap();
        drop(own);
        panics_here!("lock_os_thread nests", {
            let guards: Vec<_> = (0..255).map(|_| lock_os_thread()).collect();
            (lock_os_thread(), guards)
        });
        panics_here!("no_suspend nests", {
            let guards: Vec<_> = (0..255).map(|_| no_suspend()).collect();
            (no_suspend(), guards)
        });
    });
    // A runtime that refuses goroutines.
    let h = rt.go(|| {
        while catch_unwind(|| go(|| ())).is_ok() {
            gort::yield_now();
        }
        panics_here!("cannot start a goroutine: ", go(|| ()));
        panics_here!("cannot start a goroutine: ", go!(drop(1)));
        panics_here!("cannot start a goroutine: ", go!(name = "named", {}));
        panics_here!("cannot start a goroutine: ", Builder::new().go(|| ()));
        panics_here!("cannot start a goroutine: ", scope(|s| _ = s.go(|| ())));
        panics_here!("cannot start a goroutine: ", WaitGroup::new().go(|| ()));
        panics_here!("cannot start a goroutine: ", ErrGroup::<()>::new().go(|| Ok(())));
        panics_here!("cannot start a goroutine: ", ErrGroup::<()>::new().try_go(|| Ok(())));
        panics_here!("cannot start a goroutine: ", ErrGroup::<()>::scope(|g| g.go(|| Ok(()))));
    });
    assert_eq!(rt.shutdown_timeout(Duration::from_secs(20)), 0);
    h.join().unwrap();
}

#[test]
fn mistakes_with_what_waits_name_the_callers_line() {
    let _alone = alone();
    let wg = WaitGroup::new();
    panics_here!("sync: negative WaitGroup counter", wg.done());
    panics_here!("sync: negative WaitGroup counter", wg.add(-2));
    panics_here!("sync: negative WaitGroup counter", wg.add(1 << 40));
    panics_here!("non-positive interval", Ticker::new(Duration::ZERO));
    let ticker = Ticker::new(LONG);
    panics_here!("non-positive interval", ticker.reset(Duration::ZERO));
    panics_here!("semaphore: too many permits", Semaphore::new(1).release(usize::MAX));
    let once = Once::new();
    panics_here!("recursively", once.call_once(|| once.call_once(|| ())));
    panics_here!("poisoned", once.call_once(|| ()));
    panics_here!("poisoned", once.wait());
    let cell = OnceLock::new();
    panics_here!("recursively", cell.get_or_init(|| *cell.get_or_init(|| 1)));
    let lazy: LazyLock<u8> = LazyLock::new(|| panic!("at first"));
    assert!(catch_unwind(AssertUnwindSafe(|| *lazy)).is_err());
    panics_here!("poisoned", *lazy);
    panics_here!("poisoned", LazyLock::force(&lazy));
    let flight = SingleFlight::<u8, u8>::new();
    panics_here!("a call waits for itself", flight.call(1, || flight.call(1, || 1).0));
    let group = ErrGroup::<()>::new();
    let hold = chan::<()>(0);
    let held = hold.clone();
    group.go(move || {
        held.recv();
        Ok(())
    });
    panics_here!("modify limit", group.set_limit(1));
    hold.close();
    group.wait().unwrap();
}

#[test]
fn a_sender_that_was_parked_names_its_line_when_the_channel_is_closed() {
    let _alone = alone();
    at_size(2, || {
        let ch = chan(0);
        let tx = ch.clone();
        let h = go!(move || panics_here!("send on closed channel", tx.send(1)));
        common::until_parked(&h, "chan send");
        ch.close();
        h.join().unwrap();
    });
}

/// What would park while a guard forbids it.
#[test]
fn what_must_not_park_names_the_callers_line() {
    const GUARD: &str = "would park while a NoSuspendGuard lives";
    let _alone = alone();
    at_size(2, || {
        let (ch, nil) = (chan::<i32>(0), Chan::<i32>::nil());
        let (tx, rx) = channel::<i32>(0);
        let hold = chan::<()>(0);
        let held = hold.clone();
        // What another goroutine holds, or has begun.
        static MUTEX: Mutex<u8> = Mutex::new(1);
        static RWLOCK: RwLock<u8> = RwLock::new(1);
        static ONCE: Once = Once::new();
        static CELL: OnceLock<u8> = OnceLock::new();
        static LAZY: LazyLock<u8> = LazyLock::new(|| {
            STARTED.wait();
            drop(RWLOCK.write());
            1
        });
        static STARTED: Barrier = Barrier::new(3);
        let holder = go!(move || {
            let (_m, _w) = (MUTEX.lock(), RWLOCK.write());
            ONCE.call_once(|| {
                CELL.get_or_init(|| {
                    STARTED.wait();
                    held.recv();
                    1
                });
            });
        });
        let lazy = go!(|| *LAZY);
        STARTED.wait();
        let (other, mutex, condvar) = (Mutex::new(1), Mutex::new(()), Condvar::new());
        let (wg, sem, barrier) = (WaitGroup::new(), Semaphore::new(0), Barrier::new(2));
        let (group, limited) = (ErrGroup::<()>::new(), ErrGroup::<()>::new());
        wg.add(1);
        limited.set_limit(0);
        let held = hold.clone();
        group.go(move || {
            held.recv();
            Ok(())
        });
        let flight = std::sync::Arc::new(SingleFlight::<u8, u8>::new());
        let (first, begun, held) = (flight.clone(), chan(0), hold.clone());
        let tell = begun.clone();
        let caller = go!(move || {
            first.call(1, || {
                tell.send(());
                held.recv();
                1
            })
        });
        begun.recv();
        let mut place = Some(1);
        let rt = Runtime::builder().max_procs(1).build().unwrap();
        let unjoined = || go!(hold.clone().recv());
        let _stay = no_suspend();
        {
            panics_here!(GUARD, ch.send(1));
            panics_here!(GUARD, ch.recv());
            panics_here!(GUARD, ch.send_timeout(1, LONG));
            panics_here!(GUARD, ch.recv_timeout(LONG));
            panics_here!(GUARD, tx.send(1));
            panics_here!(GUARD, tx.send_timeout(1, LONG));
            panics_here!(GUARD, rx.recv());
            panics_here!(GUARD, rx.recv_timeout(LONG));
            panics_here!(GUARD, ch.iter().next());
            panics_here!(GUARD, for _ in &rx {});
            panics_here!(GUARD, ch.clone().into_iter().next());
            panics_here!(GUARD, nil.send(1));
            panics_here!(GUARD, nil.recv());
            panics_here!(GUARD, nil.recv_timeout(LONG));
            panics_here!(GUARD, gort::time::after(LONG).recv());
            panics_here!(GUARD, Ticker::new(LONG).c().recv());
        }
        {
            panics_here!(GUARD, select! {});
            panics_here!(GUARD, select! { recv(ch) -> _ => {} });
            panics_here!(GUARD, select! { send(ch, 1) => {} });
            panics_here!(GUARD, select! { send(tx, 1) -> _ => {} });
            panics_here!(GUARD, select! { send(ch, from place) => {} });
            panics_here!(GUARD, select! { recv(nil) -> _ => {}, send(nil, 1) => {} });
            panics_here!(GUARD, select! { recv(ch) -> _ => {}, send(tx, 1) => {} });
            panics_here!(GUARD, select_biased! { recv(ch) -> _ => {}, send(tx, 1) => {} });
            let mut select = Select::new();
            panics_here!(GUARD, select.select());
            select.recv(&ch);
            panics_here!(GUARD, select.select());
            panics_here!(GUARD, select.select_timeout(LONG));
        }
        {
            panics_here!(GUARD, unjoined().join());
            panics_here!(GUARD, scope(|s| s.go(|| sleep(SHORT)).join()));
            panics_here!(GUARD, rt.run(|| ()));
            panics_here!(GUARD, gort::run(|| ()));
            panics_here!(GUARD, set_max_procs(3));
            panics_here!(GUARD, sleep(LONG));
            panics_here!(GUARD, gort::yield_now());
            panics_here!(GUARD, block_on(std::future::pending::<()>()));
            panics_here!(GUARD, timeout(LONG, std::future::pending::<()>()));
        }
        {
            panics_here!(GUARD, MUTEX.lock());
            panics_here!(GUARD, MUTEX.try_lock_for(LONG));
            panics_here!(GUARD, RWLOCK.read());
            panics_here!(GUARD, RWLOCK.write());
            panics_here!(GUARD, RWLOCK.try_read_for(LONG));
            panics_here!(GUARD, RWLOCK.try_write_for(LONG));
            panics_here!(GUARD, condvar.wait(&mut mutex.lock()));
            panics_here!(GUARD, condvar.wait_for(&mut mutex.lock(), LONG));
            panics_here!(GUARD, condvar.wait_while(&mut other.lock(), |n| *n == 1));
            panics_here!(GUARD, wg.wait());
            panics_here!(GUARD, barrier.wait());
            panics_here!(GUARD, sem.acquire(1));
            panics_here!(GUARD, sem.acquire_timeout(1, LONG));
            panics_here!(GUARD, sem.acquire_context(1, &background()));
            panics_here!(GUARD, sem.acquire_guard(1));
            panics_here!(GUARD, group.wait());
            panics_here!(GUARD, limited.go(|| Ok(())));
            panics_here!(GUARD, flight.call(1, || 2));
            panics_here!(GUARD, ONCE.call_once(|| ()));
            panics_here!(GUARD, ONCE.wait());
            panics_here!(GUARD, CELL.wait());
            panics_here!(GUARD, CELL.get_or_init(|| 2));
            panics_here!(GUARD, CELL.set(2));
            panics_here!(GUARD, *LAZY);
            panics_here!(GUARD, LazyLock::force(&LAZY));
            panics_here!(GUARD, background().wait());
        }
        drop(_stay);
        hold.close();
        group.wait().unwrap();
        holder.join().unwrap();
        lazy.join().unwrap();
        caller.join().unwrap();
    });
}
