//! Exceptions of C++ that the calling thread has caught and not done with, or that unwind its stack.
//!
//! The C++ runtime keeps them per thread, as `std` keeps the count of panics: a list of those that were
//! caught, the last one first, and the number of those in flight. A goroutine that waits within a `catch`
//! block, or in a destructor while an exception unwinds its stack, would find another thread's list when it
//! is back, and other goroutines would put theirs on top of its own meanwhile. So it keeps its thread for
//! that time, as one that unwinds by a panic does (`proc::locked`).
//!
//! `__cxa_get_globals`, of the Itanium C++ ABI, says where they are kept; libstdc++ and libc++abi have it. In
//! a process without a C++ runtime [`in_flight`] is a load and a branch. The function is looked for whenever
//! a scheduler is made:
//!
//! 1. A weak reference finds the one that the program, or the shared library with this crate in it, is linked
//!    with, statically or not.
//! 2. Else the loader is asked for one that has been loaded by other code.
//!
//! If the process has several C++ runtimes, the first one that is found counts.

use std::arch::global_asm;
use std::ffi::{c_uint, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What the C++ runtime keeps for a thread.
#[repr(C)]
struct Globals {
    /// The last exception that was caught, and is not done with.
    caught: *const c_void,
    /// Exceptions in flight.
    uncaught: c_uint,
}

/// The type of `__cxa_get_globals`.
type GetGlobals = unsafe extern "C" fn() -> *const Globals;

/// `__cxa_get_globals`; null while there is none that is known of.
static GET_GLOBALS: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

// A word with the function's address, or 0. Weak itself, so that two versions of this crate in one program
// can have it.
global_asm!(
    ".pushsection .data.rel.ro.gort_cxa_get_globals, \"aw\"",
    ".balign 8",
    ".weak __cxa_get_globals",
    ".weak gort_cxa_get_globals",
    ".hidden gort_cxa_get_globals",
    "gort_cxa_get_globals:",
    ".8byte __cxa_get_globals",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "gort_cxa_get_globals"]
    static LINKED: *mut c_void;
}

/// Looks for a C++ runtime, unless one is known.
pub(crate) fn look_for_runtime() {
    // Relaxed: the address of a function.
    if cfg!(shuttle) || !GET_GLOBALS.load(Ordering::Relaxed).is_null() {
        return;
    }
    // SAFETY: the word above, which only the loader writes, before.
    let linked = unsafe { (&raw const LINKED).read_volatile() };
    let found = if linked.is_null() { loaded() } else { linked };
    GET_GLOBALS.store(found, Ordering::Relaxed);
}

/// The function of a C++ runtime that has been loaded, by whomever.
#[cfg(not(target_feature = "crt-static"))]
fn loaded() -> *mut c_void {
    const LIBRARIES: [&std::ffi::CStr; 3] = [c"libstdc++.so.6", c"libc++abi.so.1", c"libc++.so.1"];
    let find = |library: *mut c_void| {
        // SAFETY: a handle of `dlopen`'s, or the one for all that is global.
        unsafe { libc::dlsym(library, c"__cxa_get_globals".as_ptr()) }
    };
    let libraries = LIBRARIES.iter().map(|name| {
        // SAFETY: nothing is loaded that is not loaded already; it stays loaded from now on.
        unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) }
    });
    let found = libraries.filter(|library| !library.is_null()).map(find).find(|f| !f.is_null());
    found.unwrap_or_else(|| find(libc::RTLD_DEFAULT))
}

/// A static program loads nothing.
#[cfg(target_feature = "crt-static")]
fn loaded() -> *mut c_void {
    null_mut()
}

/// True if the calling thread has an exception of C++ that is caught or in flight.
#[inline(always)]
pub(crate) fn in_flight() -> bool {
    // Relaxed: the address of a function.
    let get_globals = GET_GLOBALS.load(Ordering::Relaxed);
    !get_globals.is_null() && ask(get_globals)
}

/// Asks the C++ runtime. What it says is of the thread that runs now, and nothing of it is kept.
#[inline(never)]
fn ask(get_globals: *mut c_void) -> bool {
    // SAFETY: the address of `__cxa_get_globals`, whose type this is.
    let get_globals = unsafe { transmute::<*mut c_void, GetGlobals>(get_globals) };
    // SAFETY: it gives the calling thread's, which live as long as the thread.
    unsafe {
        let globals = get_globals();
        !(*globals).caught.is_null() || (*globals).uncaught != 0
    }
}
