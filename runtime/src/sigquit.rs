//! The dump on SIGQUIT: a thread that waits for the signal and writes all goroutines to stderr.
//!
//! A signal may come in the middle of anything, so its handler (`signal-hook`'s) only writes a byte to a pipe. The
//! thread that reads it is started with the first runtime that asks for it, and stays. While no such runtime exists it does
//! what the signal does by default, which its handler keeps from happening.
//!
//! The handler runs on the stack that it finds. The kernel prefers the main thread for a signal to the process, which
//! never runs goroutines; on a goroutine's stack it needs the few KiB that every signal needs.

use gort_scheduler::handlers;
use gort_scheduler::proc::dump;
use gort_scheduler::template::start_and_wait;
use gort_scheduler::threads::Ours;
use gort_scheduler::throw::{Stderr, report};
use signal_hook::consts::SIGQUIT;
use signal_hook::low_level::{emulate_default_handler, pipe};
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many runtimes ask for it.
static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Whether the thread has been started.
static STARTED: Mutex<bool> = Mutex::new(false);

/// A runtime's wish that SIGQUIT write a dump, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch(());

/// Has SIGQUIT write a dump.
///
/// # Errors
///
/// When there is no pipe or no thread to be had.
pub(crate) fn watch() -> io::Result<Watch> {
    // Counted first, so that no signal ends the process any more once the handler is there.
    WATCHES.fetch_add(1, Ordering::Relaxed);
    let watch = Watch(());
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*started {
        let (reads, writes) = io::pipe()?;
        start_and_wait("gort-sigquit", move |begun| {
            begun.tell();
            serve(reads);
        })?;
        let foreign = handlers::is_handled(SIGQUIT);
        pipe::register(SIGQUIT, writes)?;
        // One that the program had installed for it is called by ours.
        if !foreign {
            handlers::ours(SIGQUIT);
        }
        *started = true;
    }
    Ok(watch)
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The thread: one dump for the signals that came since the last one.
fn serve(mut pipe: impl Read) {
    let _ours = Ours::begin();
    let mut bytes = [0; 64];
    loop {
        match pipe.read(&mut bytes) {
            // The handler was not installed.
            Ok(0) => return,
            Ok(_) if WATCHES.load(Ordering::Relaxed) > 0 => {
                report(format_args!("SIGQUIT: quit\n"));
                dump(&mut Stderr);
            }
            Ok(_) => {
                let _ = emulate_default_handler(SIGQUIT);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
