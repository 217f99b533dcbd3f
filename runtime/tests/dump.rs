//! The dump of all goroutines: what it says of each, what it costs, and that it disturbs nobody.
//!
//! Functions are looked for without their modules, which builds with little debug information do not name.

mod common;

use common::child::{in_child, limit, memory};
use common::{at_each_size, at_size, builder, dig_here, eventually, until_parked};
use gort::context::{background, with_timeout};
use gort::sync::{Barrier, Condvar, ErrGroup, Mutex, Once, RwLock, Semaphore, WaitGroup};
use gort::{Chan, JoinHandle, chan, go, goroutine_id, select, yield_now};
use gort_scheduler::proc::goroutines;
use gort_scheduler::throw::fatal;
use std::fmt::Display;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// The text of a dump.
fn dump() -> String {
    let mut text = Vec::new();
    gort::runtime::dump(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The part of a dump that is about a goroutine.
#[track_caller]
fn part(text: &str, id: impl Display) -> &str {
    let header = format!("goroutine {id} [");
    // Many have one first line, with the first of their numbers.
    let numbers = |line: &str| {
        line.split_once(']').and_then(|(_, rest)| rest.rsplit_once(": ")).map(|x| x.1.to_owned())
    };
    let in_list = |line: &str| {
        line.split(' ').nth(1) == Some("goroutines")
            && numbers(line).is_some_and(|ids| ids.split(", ").any(|other| other == id.to_string()))
    };
    let is_of = |part: &&str| part.lines().any(|l| l.starts_with(&header) || in_list(l));
    let mut parts = text.split("\n\n").filter(is_of);
    let part = parts.next().unwrap_or_else(|| panic!("no goroutine {id} in:\n{text}"));
    assert!(parts.next().is_none(), "goroutine {id} more than once in:\n{text}");
    part
}

/// Says that the text has these, in this order.
#[track_caller]
fn in_order(text: &str, what: &[&str]) {
    let mut rest = text;
    for what in what {
        let at = rest.find(what).unwrap_or_else(|| panic!("no {what:?} in its place in:\n{text}"));
        rest = &rest[at + what.len()..];
    }
}

/// How many goroutines of a dump were spawned at a line of this file.
fn count_of(text: &str, line: u32) -> usize {
    let here = format!("\tspawned at {}:{line}:", file!());
    let parts = text.split("\n\n").filter(|part| part.contains(&here));
    parts
        .map(|part| match part.split_once(" goroutines [") {
            Some((count, _)) => count.parse().unwrap(),
            None => part.lines().filter(|l| l.starts_with("goroutine ")).count(),
        })
        .sum()
}

/// Waits until so many goroutines of a line wait for this reason.
fn until_all_parked(n: usize, line: u32, reason: &str) {
    eventually(&format!("{n} wait"), || {
        let of_line = |g: &&_| {
            let g: &gort_scheduler::proc::GoroutineInfo = g;
            g.state == reason && g.spawned_at.is_some_and(|at| at.file() == file!() && at.line() == line)
        };
        goroutines().iter().filter(of_line).count() == n
    });
}

// Functions that are told apart in a stack: never inlined, and with something left to do when they are back.

#[inline(never)]
fn the_caller<T>(waits: fn(&Chan<i32>) -> T, ch: &Chan<i32>) -> T {
    black_box(the_middle(waits, ch))
}

#[inline(never)]
fn the_middle<T>(waits: fn(&Chan<i32>) -> T, ch: &Chan<i32>) -> T {
    black_box(waits(ch))
}

#[inline(never)]
fn receives(ch: &Chan<i32>) -> bool {
    black_box(ch.recv().is_none())
}

#[inline(never)]
fn sends(ch: &Chan<i32>) -> bool {
    ch.send(1);
    black_box(true)
}

#[inline(never)]
fn selects(ch: &Chan<i32>) -> bool {
    let other = Chan::<i32>::nil();
    let got = select! {
        recv(ch) -> v => v.is_none(),
        recv(other) -> v => v.is_some(),
    };
    black_box(got)
}

#[inline(never)]
fn sleeps(ch: &Chan<i32>) -> bool {
    while !ch.is_closed() {
        gort::time::sleep(Duration::from_millis(200));
    }
    black_box(true)
}

#[inline(never)]
fn joins(ch: &Chan<i32>) -> bool {
    let ch = ch.clone();
    let h = go!(move || ch.recv().is_none());
    black_box(h.join().unwrap())
}

#[inline(never)]
fn gives_way(ch: &Chan<i32>) -> bool {
    while !ch.is_closed() {
        yield_now();
    }
    black_box(true)
}

// -- What is said of a goroutine --

#[test]
fn a_parked_goroutine_shows_what_it_waits_for_and_where() {
    type Wait = (&'static str, &'static str, fn(&Chan<i32>) -> bool);
    let waits: [Wait; 5] = [
        ("chan receive", "receives(...)", receives),
        ("chan send", "sends(...)", sends),
        ("select", "selects(...)", selects),
        ("sleep", "sleeps(...)", sleeps),
        ("join", "joins(...)", joins),
    ];
    at_each_size(|| {
        for (reason, function, wait) in waits {
            let ch = chan(0);
            let for_it = ch.clone();
            let (line, h) = (line!(), go!(name = "a waiter", move || the_caller(wait, &for_it)));
            let mut text = String::new();
            // One that sleeps may be on its way to the next sleep.
            eventually("it waits, and is seen", || {
                until_parked(&h, reason);
                text = dump();
                part(&text, h.id()).starts_with(&format!("goroutine {} [{reason}]: \"a waiter\"\n", h.id()))
            });
            let part = part(&text, h.id());
            in_order(
                part,
                &[
                    &format!("{function}\n\t"),
                    "tests/dump.rs:",
                    "the_middle",
                    "the_caller",
                    "{closure",
                    &format!("\n\tspawned at {}:{line}:", file!()),
                ],
            );
            for inside in ["scheduler/src", "channel/src", "corosensei", "catch_unwind"] {
                assert!(!part.contains(inside), "{inside} in:\n{part}");
            }
            if reason == "chan send" {
                ch.recv();
            } else {
                ch.close();
            }
            assert!(h.join().unwrap());
        }
    });
}

/// Starts `waits`, which is seen to wait for this, has `opens` end the wait, and joins it.
#[track_caller]
fn waits_at(reason: &str, waits: impl FnOnce() + Send + 'static, opens: impl FnOnce()) {
    let h = go(waits);
    until_parked(&h, reason);
    let text = dump();
    let header = format!("goroutine {} [{reason}]:", h.id());
    assert!(part(&text, h.id()).starts_with(&header), "no {header} in {text}");
    opens();
    h.join().unwrap();
}

#[test]
fn what_waits_for_others_says_at_what() {
    const LONG: Duration = Duration::from_secs(1000);
    at_each_size(|| {
        let sem = Arc::new(Semaphore::new(0));
        let acquires: [fn(&Semaphore); 3] = [
            |sem| sem.acquire(1),
            |sem| assert!(sem.acquire_timeout(1, LONG)),
            |sem| assert!(sem.acquire_context(1, &with_timeout(&background(), LONG).0).is_ok()),
        ];
        for acquire in acquires {
            let own = sem.clone();
            waits_at("semacquire", move || acquire(&own), || sem.release(1));
        }

        let (group, ch) = (ErrGroup::<()>::new(), chan::<()>(0));
        group.set_limit(1);
        let (own, inner) = (group.clone(), ch.clone());
        group.go(move || {
            inner.recv();
            Ok(())
        });
        waits_at("semacquire", move || own.go(|| Ok(())), || ch.close());
        group.wait().unwrap();

        let ch = chan::<()>(0);
        let inner = ch.clone();
        waits_at("semacquire", move || gort::scope(|s| _ = s.go(|| inner.recv())), || ch.close());

        let lock = Arc::new(Mutex::new(()));
        let (own, held) = (lock.clone(), lock.lock());
        waits_at("sync.Mutex.Lock", move || drop(own.lock()), || drop(held));

        let lock = Arc::new(RwLock::new(()));
        let (own, held) = (lock.clone(), lock.read());
        waits_at("sync.RWMutex.Lock", move || drop(own.write()), || drop(held));
        let (own, held) = (lock.clone(), lock.write());
        waits_at("sync.RWMutex.RLock", move || drop(own.read()), || drop(held));

        let changed = Arc::new((Mutex::new(()), Condvar::new()));
        let own = changed.clone();
        waits_at("sync.Cond.Wait", move || own.1.wait(&mut own.0.lock()), || _ = changed.1.notify_one());

        let wg = WaitGroup::new();
        wg.add(1);
        let own = wg.clone();
        waits_at("sync.WaitGroup.Wait", move || own.wait(), || wg.done());

        let barrier = Arc::new(Barrier::new(2));
        let own = barrier.clone();
        waits_at("sync.Barrier.Wait", move || _ = own.wait(), || _ = barrier.wait());

        let (once, ch) = (Arc::new(Once::new()), chan::<()>(0));
        let (own, inner) = (once.clone(), ch.clone());
        let first = go(move || own.call_once(|| _ = inner.recv()));
        until_parked(&first, "chan receive");
        waits_at("sync.Once.Do", move || once.call_once(|| ()), || ch.close());
        first.join().unwrap();
    });
}

// Functions that take locks, told apart as those above.

#[inline(never)]
fn locks(lock: &Mutex<i32>) -> i32 {
    black_box(*lock.lock() + 1)
}

#[inline(never)]
fn reads(lock: &RwLock<i32>) -> i32 {
    black_box(*lock.read() + 1)
}

#[inline(never)]
fn writes(lock: &RwLock<i32>) -> i32 {
    black_box(*lock.write() + 1)
}

/// A goroutine that has something, which `takes` gives it, until it is told to let go of it.
fn holds<T>(name: &str, takes: impl FnOnce() -> T + Send + 'static) -> (JoinHandle<()>, Chan<()>) {
    let (till, own) = (chan::<()>(0), chan::<()>(0));
    let ends = till.clone();
    let ready = own.clone();
    let h = go!(name = name, move || {
        let has = takes();
        ready.close();
        ends.recv();
        drop(has);
    });
    own.recv();
    (h, till)
}

#[test]
fn who_waits_for_a_lock_names_who_has_it() {
    static LOCK: Mutex<i32> = Mutex::new(0);
    static SHARED: RwLock<i32> = RwLock::new(0);
    at_each_size(|| {
        let says = |h: &JoinHandle<i32>, reason: &str, function: &str, holder: &str| {
            until_parked(h, reason);
            let text = dump();
            // The user's function is the first that is shown.
            let first = format!("goroutine {} [{reason}]:\n", h.id());
            let part = part(&text, h.id());
            assert!(part.starts_with(&first), "{part}");
            let shown = part.lines().nth(1).unwrap();
            assert!(shown.ends_with(function), "{shown:?} is not {function} in:\n{part}");
            // Other builds keep no holders.
            if cfg!(debug_assertions) {
                in_order(part, &["\n\tlock held by ", holder, "\n\tspawned at "]);
            }
        };
        let (holder, till) = holds("the holder", || LOCK.lock());
        let by = format!("goroutine {} \"the holder\"", holder.id());
        let h = go(|| locks(&LOCK));
        says(&h, "sync.Mutex.Lock", "locks(...)", &by);
        till.close();
        holder.join().unwrap();
        h.join().unwrap();

        for (wait, reason, function) in [
            (reads as fn(&RwLock<i32>) -> i32, "sync.RWMutex.RLock", "reads(...)"),
            (writes, "sync.RWMutex.Lock", "writes(...)"),
        ] {
            let (holder, till) = holds("the writer", || SHARED.write());
            let by = format!("goroutine {} \"the writer\"", holder.id());
            let h = go(move || wait(&SHARED));
            says(&h, reason, function, &by);
            till.close();
            holder.join().unwrap();
            h.join().unwrap();
        }

        // Who was handed the lock, or woken for it, is its holder as well.
        let (first, till) = holds("the first", || LOCK.lock());
        let done = chan::<()>(0);
        let ends = done.clone();
        let second = go!(name = "the second", move || {
            let has = LOCK.lock();
            ends.recv();
            drop(has);
        });
        until_parked(&second, "sync.Mutex.Lock");
        till.close();
        first.join().unwrap();
        until_parked(&second, "chan receive");
        let h = go(|| locks(&LOCK));
        says(&h, "sync.Mutex.Lock", "locks(...)", &format!("goroutine {} \"the second\"", second.id()));
        done.close();
        second.join().unwrap();
        h.join().unwrap();
    });
}

#[test]
#[cfg(debug_assertions)]
fn a_plain_thread_that_has_a_lock_is_named_as_such() {
    static LOCK: Mutex<i32> = Mutex::new(0);
    let has = LOCK.lock();
    let h = go(|| locks(&LOCK));
    until_parked(&h, "sync.Mutex.Lock");
    let text = dump();
    in_order(part(&text, h.id()), &["locks(...)", "\tlock held by a plain thread\n"]);
    drop(has);
    h.join().unwrap();
}

#[test]
#[cfg(debug_assertions)]
fn who_locks_twice_is_told_that_it_has_the_lock() {
    let ended = in_child("who_locks_twice_is_told_that_it_has_the_lock", &[], || {
        static LOCK: Mutex<i32> = Mutex::new(0);
        let h = go(|| {
            let has = LOCK.lock();
            black_box(*has + locks(&LOCK))
        });
        until_parked(&h, "sync.Mutex.Lock");
        let text = dump();
        in_order(part(&text, h.id()), &["locks(...)", "\tlock held by this goroutine itself\n"]);
    });
    ended.with_status(0);
}

#[test]
fn readers_that_keep_a_writer_waiting_are_not_guessed() {
    static SHARED: RwLock<i32> = RwLock::new(0);
    at_each_size(|| {
        // One that had it as a writer before leaves no trace.
        go(|| drop(SHARED.write())).join().unwrap();
        let (reader, till) = holds("a reader", || SHARED.read());
        let h = go(|| writes(&SHARED));
        until_parked(&h, "sync.RWMutex.Lock");
        let text = dump();
        assert!(!part(&text, h.id()).contains("held by"), "{text}");
        till.close();
        reader.join().unwrap();
        h.join().unwrap();
    });
}

#[test]
fn a_dump_beside_locks_that_come_and_go_disturbs_nobody() {
    at_each_size(|| {
        let over = Arc::new(AtomicBool::new(false));
        let all: Vec<_> = (0..8)
            .map(|_| {
                let over = over.clone();
                go(move || {
                    while !over.load(SeqCst) {
                        // Locks that live for a moment, with others that wait for them.
                        let lock = Arc::new(Mutex::new(0));
                        let own: Vec<_> = (0..4).map(|_| (lock.clone(), lock.clone())).collect();
                        let all: Vec<_> = own
                            .into_iter()
                            .map(|(lock, _)| {
                                go(move || {
                                    let mut n = lock.lock();
                                    yield_now();
                                    *n += 1;
                                })
                            })
                            .collect();
                        all.into_iter().for_each(|h| h.join().unwrap());
                        assert_eq!(*lock.lock(), 4);
                    }
                })
            })
            .collect();
        let held = (0..30).map(|_| dump().matches("lock held by goroutine").count()).sum::<usize>();
        over.store(true, SeqCst);
        all.into_iter().for_each(|h| h.join().unwrap());
        println!("{held} times a holder was seen");
    });
}

#[test]
fn a_stack_says_how_much_of_it_was_needed() {
    at_each_size(|| {
        let ch = chan(0);
        for (dug, size) in [(60 << 10, 120 << 10), (700 << 10, 1 << 20)] {
            let own = ch.clone();
            let h = go!(stack_size = size, move || {
                dig_here(dug);
                receives(&own)
            });
            until_parked(&h, "chan receive");
            let text = dump();
            let part = part(&text, h.id());
            let water = part
                .lines()
                .find_map(|l| l.strip_prefix("\tstack high water "))
                .unwrap_or_else(|| panic!("{part}"));
            let kib: Vec<usize> =
                water.trim_end_matches(" KiB").split(" KiB of ").map(|n| n.parse().unwrap()).collect();
            assert!(kib[0] >= dug >> 10 && kib[0] <= kib[1] + 4 && kib[1] >= size >> 10, "{part}");
        }
        ch.close();
    });
}

#[test]
fn the_caller_shows_its_own_stack() {
    #[inline(never)]
    fn dumps() -> String {
        black_box(dump())
    }
    at_each_size(|| {
        let h = go!(|| (goroutine_id().unwrap(), dumps()));
        let (id, text) = h.join().unwrap();
        let part = part(&text, id);
        assert!(part.starts_with(&format!("goroutine {id} [running]:\n")), "{part}");
        in_order(part, &["[running]:\n", "dump(...)\n\t", "dumps(...)\n\t", "spawned at"]);
        assert!(!part.contains("scheduler/src") && !part.contains("src/runtime.rs"), "{part}");
    });
}

#[test]
fn a_running_goroutine_says_so() {
    at_each_size(|| {
        let id = goroutine_id().unwrap();
        // It runs from here on, without a call to the scheduler.
        let plain = thread::spawn(dump);
        while !plain.is_finished() {
            std::hint::spin_loop();
        }
        let text = plain.join().unwrap();
        let part = part(&text, id);
        assert!(part.starts_with(&format!("goroutine {id} [running]: \"main\"\n")), "{part}");
        assert!(part.contains("\n\tgoroutine running on another thread; stack unavailable\n"), "{part}");
    });
}

#[test]
fn a_goroutine_that_is_to_be_run_shows_where_it_will_go_on() {
    at_size(1, || {
        let ch = chan(0);
        let for_it = ch.clone();
        // A dump may take so long, above all the first, that its P is taken from it and the others run.
        eventually("one that has not started is seen", || {
            let h = go!(|| ());
            let seen = dump().contains(" [runnable]:\n\tgoroutine has not started\n\tspawned at");
            h.join().unwrap();
            seen
        });
        let h = go!(move || the_caller(gives_way, &for_it));
        let mut text = String::new();
        eventually("it has given way", || {
            text = dump();
            let part = part(&text, h.id());
            part.contains("[runnable]") && !part.contains("not started")
        });
        in_order(part(&text, h.id()), &[" [runnable]:\n", "gives_way", "the_caller"]);
        ch.close();
        assert!(h.join().unwrap());
    });
}

#[test]
#[ignore = "takes more than a minute"]
fn a_wait_of_a_minute_is_told() {
    at_size(2, || {
        let ch = chan(0);
        let for_it = ch.clone();
        let h = go!(move || receives(&for_it));
        until_parked(&h, "chan receive");
        let text = dump();
        assert!(part(&text, h.id()).contains("[chan receive]:"), "{text}");
        gort::time::sleep(Duration::from_secs(61));
        let text = dump();
        assert!(part(&text, h.id()).contains("[chan receive, 1 minutes]:"), "{text}");
        ch.close();
        assert!(h.join().unwrap());
    });
}

// -- Many --

/// Starts so many goroutines that receive; the line that they are spawned in.
fn start(n: usize, ch: &Chan<i32>) -> (u32, Vec<JoinHandle<bool>>) {
    let one = |_| {
        let ch = ch.clone();
        go(move || receives(&ch))
    };
    (line!() - 2, (0..n).map(one).collect())
}

#[test]
fn goroutines_that_look_the_same_share_a_stack() {
    // `start` has one line for all tests, so this one has a process of its own.
    let ended = in_child("goroutines_that_look_the_same_share_a_stack", &[], || {
        at_each_size(|| {
            let ch = chan(0);
            let (line, all) = start(1000, &ch);
            until_all_parked(1000, line, "chan receive");
            let text = dump();
            let least = all.iter().map(JoinHandle::id).min().unwrap();
            let part = part(&text, least);
            assert!(!text.contains(&format!("goroutine {} [", all[999].id())), "{text}");
            let mut ids: Vec<_> = all.iter().map(JoinHandle::id).collect();
            ids.sort();
            let ids: Vec<_> = ids[..10].iter().map(ToString::to_string).collect();
            let first = format!("1000 goroutines [chan receive]: {}, ...\n", ids.join(", "));
            assert!(part.trim_start().starts_with(&first), "no {first} in {part}");
            assert_eq!(part.matches("receives(...)").count(), 1, "{part}");
            in_order(part, &["receives", "spawned at"]);
            assert_eq!(count_of(&text, line), 1000);
            ch.close();
            assert!(all.into_iter().all(|h| h.join().unwrap()));
        });
    });
    ended.with_status(0);
}

#[test]
fn other_names_and_other_stacks_are_kept_apart() {
    at_each_size(|| {
        let ch = chan(0);
        let spawn = |name: &str, wait: fn(&Chan<i32>) -> bool| {
            let ch = ch.clone();
            let h = go!(name = name, move || wait(&ch));
            until_parked(&h, "chan receive");
            h
        };
        let all = [spawn("one", receives), spawn("one", receives), spawn("two", receives)];
        let other = spawn("one", |ch| the_caller(receives, ch));
        let text = dump();
        let [one, same, two, far] = [&all[0], &all[1], &all[2], &other].map(|h| part(&text, h.id()));
        assert!(std::ptr::eq(one, same), "{text}");
        assert!(!std::ptr::eq(one, two) && !std::ptr::eq(one, far), "{text}");
        ch.close();
        assert!(all.into_iter().chain([other]).all(|h| h.join().unwrap()));
    });
}

#[test]
fn a_hundred_thousand_goroutines_take_seconds_and_little_memory() {
    const MANY: usize = 100_000;
    let test = "a_hundred_thousand_goroutines_take_seconds_and_little_memory";
    let ended = in_child(test, &[], || {
        at_size(2, || {
            let ch = chan(0);
            // The symbols, which take what they take.
            let (_, few) = start(10, &ch);
            dump();
            let (line, many) = start(MANY - 10, &ch);
            until_all_parked(MANY, line, "chan receive");
            // Has the kernel count the peak from here.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let (before, start) = (memory("VmRSS"), Instant::now());
            let text = dump();
            let (took, grown) = (start.elapsed(), memory("VmHWM").saturating_sub(before));
            assert_eq!(count_of(&text, line), MANY);
            eprintln!("it took {took:?} and {grown} bytes");
            assert!(took < Duration::from_secs(60), "it took {took:?}");
            assert!(grown < 16 << 20, "it took {grown} bytes");
            ch.close();
            assert!(few.into_iter().chain(many).all(|h| h.join().unwrap()));
        });
    });
    println!("{}", ended.with_status(0).line("it took"));
}

// -- Nobody is disturbed --

/// Pairs of goroutines that hand a ball to and fro, while dumps are made on goroutines and on a plain thread.
#[test]
fn a_dump_disturbs_nobody() {
    const PAIRS: usize = 1000;
    const DUMPS: usize = 3;
    #[inline(never)]
    fn rally(serves: bool, there: &Chan<usize>, back: &Chan<usize>, over: &AtomicBool) -> usize {
        let mut n = 0;
        if serves {
            there.send(0);
        }
        while let Some(ball) = back.recv() {
            n += 1;
            if serves && over.load(SeqCst) {
                there.close();
                return black_box(ball + 1);
            }
            there.send(ball + 1);
            // Else each pair would play for a whole time slice, and those who look would wait for a thousand of them.
            if n % 4 == 0 {
                yield_now();
            }
        }
        black_box(n)
    }
    static OVER: AtomicBool = AtomicBool::new(false);
    static MADE: AtomicUsize = AtomicUsize::new(0);
    at_each_size(|| {
        OVER.store(false, SeqCst);
        MADE.store(0, SeqCst);
        let mut players = Vec::new();
        let mut line = 0;
        for _ in 0..PAIRS {
            let (a, b) = (chan(0), chan(0));
            for (serves, there, back) in [(true, a.clone(), b.clone()), (false, b, a)] {
                line = line!() + 1;
                players.push(go(move || rally(serves, &there, &back, &OVER)));
            }
        }
        let look = move || {
            for _ in 0..DUMPS {
                let text = dump();
                assert_eq!(count_of(&text, line), 2 * PAIRS, "{text}");
                let here = format!("\tspawned at {}:{line}:", file!());
                for part in text.split("\n\n").filter(|part| part.contains(&here)) {
                    let has_stack = !["not started", "unavailable"].iter().any(|w| part.contains(w));
                    assert!(!has_stack || part.contains("rally"), "{part}");
                }
            }
            MADE.fetch_add(1, SeqCst);
        };
        let lookers = [go(look), go(look)];
        let plain = thread::spawn(look);
        eventually("all have looked", || {
            MADE.load(SeqCst) == 3 || plain.is_finished() || lookers.iter().any(|h| h.is_finished())
        });
        lookers.into_iter().for_each(|h| h.join().unwrap());
        plain.join().unwrap();
        OVER.store(true, SeqCst);
        let mut shots = players.into_iter().map(|h| h.join().unwrap());
        while let (Some(ball), Some(answered)) = (shots.next(), shots.next()) {
            // Every shot of one was answered by the other, and none was lost on the way.
            assert_eq!(ball, 2 * answered);
        }
    });
}

#[test]
fn what_is_written_to_may_park() {
    struct Over(Chan<Vec<u8>>);
    impl Write for Over {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec());
            yield_now();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    at_each_size(|| {
        let ch = chan(0);
        let out = ch.clone();
        let h = go!(move || {
            let done = gort::runtime::dump(&mut Over(out.clone()));
            out.close();
            done
        });
        let id = h.id();
        let text = String::from_utf8(ch.iter().flatten().collect()).unwrap();
        h.join().unwrap().unwrap();
        part(&text, id);
    });
}

#[test]
fn an_error_of_what_is_written_to_is_the_answer() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    at_each_size(|| {
        assert_eq!(gort::runtime::dump(&mut Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
    });
}

// -- The end --

/// A goroutine that waits in `receives`, and keeps waiting.
fn a_waiter() {
    let h = go!(name = "the waiter", || the_caller(receives, &chan(0)));
    until_parked(&h, "chan receive");
}

#[test]
fn a_fatal_error_shows_the_stacks() {
    for procs in ["1", "64"] {
        let ended = in_child("a_fatal_error_shows_the_stacks", &[("GORT_MAXPROCS", procs)], || {
            gort::run(|| {
                a_waiter();
                fatal(format_args!("the end"))
            })
        });
        let ended = ended.with_status(2).says(1, "fatal error: the end\n");
        in_order(
            &ended.text,
            &["fatal error: the end\n", "[chan receive]: \"the waiter\"\n", "receives(...)\n\t"],
        );
        ended.says(1, "[running]: \"main\"\n");
    }
}

#[test]
fn a_fatal_error_on_a_plain_thread_shows_the_stacks() {
    let ended = in_child("a_fatal_error_on_a_plain_thread_shows_the_stacks", &[], || {
        a_waiter();
        fatal(format_args!("the end"))
    });
    in_order(&ended.with_status(2).text, &["the end\n", "\"the waiter\"\n", "receives(...)\n\t"]);
}

#[test]
fn a_fatal_error_without_memory_lists_the_goroutines() {
    let ended = in_child("a_fatal_error_without_memory_lists_the_goroutines", &[], || {
        gort::run(|| {
            a_waiter();
            limit(libc::RLIMIT_AS, memory("VmSize") + (4 << 20));
            fatal(format_args!("the end"))
        })
    });
    // With or without stacks.
    in_order(&ended.with_status(2).text, &["the end\n", "\"the waiter\"\n", "\tspawned at"]);
}

// -- SIGQUIT --

/// Sends the process SIGQUIT.
fn quit() {
    // SAFETY: sends a signal.
    assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGQUIT) }, 0);
}

#[test]
fn sigquit_writes_a_dump_and_the_process_goes_on() {
    let ended = in_child("sigquit_writes_a_dump_and_the_process_goes_on", &[], || {
        let rt = builder(2).dump_on_sigquit(true).build().unwrap();
        rt.run(a_waiter);
        // What goes to stderr is read here, so that it is known when the dump is there.
        // SAFETY: the descriptors are stderr's, which stays open, and fresh ones.
        let (mut reads, stderr) = unsafe {
            let mut ends = [0; 2];
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            let stderr = File::from_raw_fd(libc::dup(2));
            assert_eq!(libc::dup2(ends[1], 2), 2);
            libc::close(ends[1]);
            (File::from_raw_fd(ends[0]), stderr)
        };
        let mut text = Vec::new();
        for dumps in 1..=3 {
            quit();
            while String::from_utf8_lossy(&text).matches("the_caller").count() < dumps {
                let mut bytes = [0; 4096];
                let n = reads.read(&mut bytes).unwrap();
                text.extend_from_slice(&bytes[..n]);
            }
        }
        // SAFETY: as above.
        unsafe { libc::dup2(stderr.as_raw_fd(), 2) };
        eprintln!("{}", String::from_utf8_lossy(&text));
        assert!(rt.run(|| go!(|| true).join().unwrap()));
        eprintln!("it went on");
    });
    let ended = ended.with_status(0).says(3, "SIGQUIT: quit\n").says(1, "it went on");
    in_order(&ended.text, &["SIGQUIT: quit\n", "[chan receive]: \"the waiter\"\n", "receives(...)\n\t"]);
}

#[test]
fn without_a_runtime_that_asks_sigquit_ends_the_process() {
    let ended = in_child("without_a_runtime_that_asks_sigquit_ends_the_process", &[], || {
        let rt = builder(2).dump_on_sigquit(true).build().unwrap();
        rt.run(yield_now);
        drop(rt);
        quit();
        thread::sleep(Duration::from_secs(60));
    });
    ended.by_signal(libc::SIGQUIT);
}
