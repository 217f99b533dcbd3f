//! What is said of a goroutine's panic, and that it is said to its end.
//!
//! A panic is told on stderr twice: by the program's panic hook, as any panic, with the name of an OS thread; and, when nobody
//! has caught it, at the goroutine's root, in one report with the goroutine's number and name, where it panicked, where it was
//! spawned, and the text of the payload. Programs replace hooks, and harnesses put away what hooks print: the report goes
//! straight to stderr.
//!
//! **Our hook.** The first scheduler puts a hook in front of the one that it finds, and calls that one. On a goroutine it notes
//! where the panic is, which the payload does not say, and that a report is under way. On a plain thread it does nothing. A
//! hook that the program sets later takes its place: then the report has no place, unless that hook calls the one before it.
//! (`std` cannot exchange a hook in one step. A thread that takes and sets a hook while another one uses the library for the first
//! time may lose its own.)
//!
//! **With `panic = "abort"`** a goroutine's root is never reached: the hook writes the report.
//!
//! **The end of the process.** Main may return while a goroutine is about to say why it panicked, which takes a while with a
//! backtrace. What runs at the end of the process ([`at_exit`]) waits for the hooks that have begun, and for the report after
//! them, if that comes at once: a hook that never ends, or a panic that is caught, must not keep the process.

use crate::fork;
use crate::g::{Bound, G, GoroutineId};
use crate::memory;
use crate::stack::current_head;
use crate::throw::report;
use crate::time::clock::Nanos;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::fmt::Write;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;
use std::time::Duration;

/// What a want of memory names, though nobody is told.
const WHAT: &str = "what a panic says";
/// Room for the name of a source file with its line, as a rule.
const ROOM_FOR_PLACE: usize = 512;
/// How long the end of the process waits for hooks: a backtrace of a large program takes seconds.
const HOOKS: Duration = Duration::from_secs(5);
/// How long after its hook a panic may come to the root of its goroutine and still be waited for.
const UNWINDING: Duration = Duration::from_millis(200);

/// A goroutine's last panic, as the hook saw it.
pub(crate) struct Seen {
    payload: TypeId,
    text: Box<str>,
    at: Box<str>,
}

/// A panic that may not have been told to its end.
struct Pending {
    id: GoroutineId,
    /// When its hook had ended; `None` while it runs.
    hooked: Option<Nanos>,
}

impl Pending {
    /// True if it is worth waiting for.
    fn lives(&self, now: Nanos) -> bool {
        self.hooked.is_none_or(|at| now.since(at) < UNWINDING.as_nanos() as u64)
    }
}

static PENDING: Mutex<Vec<Pending>> = Mutex::new(Vec::new());

/// Puts our hook in front of the program's, once; it is there when this returns. Not on a goroutine's stack.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    // While it panics a thread may not change the hook; the next scheduler will. Models have hooks of their own.
    if cfg!(shuttle) || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        // SAFETY: the function may run at any end of the process. Without memory for the entry there is nobody who waits.
        unsafe { libc::atexit(at_exit) };
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match current_head() {
            Some(gp) => hook(gp, info, &*before),
            None => before(info),
        }));
    });
}

fn hook(gp: &'static G, info: &PanicHookInfo<'_>, before: &dyn Fn(&PanicHookInfo<'_>)) {
    let id = gp.id();
    {
        let (mut pending, now) = (PENDING.lock(), Nanos::now());
        pending.retain(|other| other.id != id && other.lives(now));
        // Without memory for it the end of the process does not wait for this one.
        if pending.try_reserve(1).is_ok() {
            pending.push(Pending { id, hooked: None });
        }
    }
    if let Some(at) = info.location() {
        let text = memory::try_text(WHAT, text_of(info.payload()));
        let at = memory::room(WHAT, ROOM_FOR_PLACE).map(|()| at.to_string().into());
        if let (Ok(text), Ok(at)) = (text, at) {
            gp.set_panic(Seen { payload: info.payload().type_id(), text, at });
        }
    }
    before(info);
    if cfg!(panic = "abort") {
        write(gp, info.payload());
    }
    if let Some(own) = PENDING.lock().iter_mut().find(|other| other.id == id) {
        own.hooked = Some(Nanos::now());
    }
}

/// What a payload says, as far as `std` prints it.
fn text_of(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<&'static str>() {
        Some(text) => text,
        None => payload.downcast_ref::<String>().map_or("Box<dyn Any>", |text| text),
    }
}

/// Says on stderr which goroutine panicked, where and with what, unless it is its caller's panic.
pub(crate) fn write(gp: &'static G, payload: &(dyn Any + Send)) {
    if gp.bound.get() == Bound::Main {
        return;
    }
    let mut line = format!("goroutine {}", gp.id());
    let text = text_of(payload);
    let _ = gp.name().map_or(Ok(()), |name| write!(line, " {name:?}"));
    line.push_str(" panicked");
    // One that was raised again, without the hook, has the place of the last one only if it is the same.
    let place = gp.with_panic(|seen| {
        let same = |seen: &&Seen| seen.payload == payload.type_id() && *seen.text == *text;
        seen.filter(same).map(|seen| seen.at.clone())
    });
    let _ = place.map_or(Ok(()), |at| write!(line, " at {at}"));
    let _ = gp.spawned_at().map_or(Ok(()), |at| write!(line, ", spawned at {at}"));
    report(format_args!("{line}: {text}"));
}

/// The panic of this goroutine has been told.
pub(crate) fn told(gp: &'static G) {
    let id = gp.id();
    PENDING.lock().retain(|other| other.id != id);
}

/// Waits until what other goroutines have begun to say of their panics has been said. Not if the caller is in a hook, which ends
/// the process: that is what the program does when a goroutine panics, and the others' hooks may be about to do the same.
pub(crate) fn finish() {
    let own = current_head().map(G::id);
    let is_own = |pending: &&Pending| Some(pending.id) == own;
    let end = Nanos::now().after(HOOKS);
    loop {
        let (pending, now) = (PENDING.lock(), Nanos::now());
        let in_hook = pending.iter().find(is_own).is_some_and(|own| own.hooked.is_none());
        let others = pending.iter().any(|other| !is_own(&other) && other.lives(now));
        drop(pending);
        if in_hook || !others || now > end {
            return;
        }
        // SAFETY: sleeps for a millisecond. The process ends: it blocks nobody who could still do anything else.
        unsafe { libc::usleep(1000) };
    }
}

extern "C" fn at_exit() {
    // In a child there is nobody to wait for.
    if !fork::in_forked_child() {
        finish();
    }
}
