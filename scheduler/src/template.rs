//! The template: the thread that starts every other thread of ours (Go's `templateThread`).
//!
//! A new OS thread is a copy of the one that starts it: its signal mask, affinity, priority, namespaces,
//! credentials, seccomp filters and more. A goroutine that has locked its thread may have changed any of
//! these, and so may a plain thread of the program; neither starts threads of ours, which would keep the
//! change for ever and show it to other goroutines.
//!
//! - The template is started with the first scheduler, by the thread that makes it. That one is the
//!   program's, and may have been changed as well. So if it is not the process's first thread, the template
//!   takes the signal mask, the affinity and the priority of that one, and the namespaces that can be
//!   entered; what it cannot undo it reports (`cleanse`).
//! - It is made by `pthread_create`, not by `std`, and so takes along nothing that `std` hands down (the test
//!   harness's capture of what a thread prints).
//! - Whoever needs a thread leaves a `Request` and goes on. What becomes of it is told by the thread, once
//!   it runs, or by `refused`, which the template calls.
//!
//! **Refusals.** A thread of `std` that finds no memory for its signal stack ends the process. So it is
//! looked first whether there is room for a whole thread (`check_room`); only the template starts threads,
//! and so nobody of ours takes it meanwhile.
//!
//! In a model threads inherit nothing, and there is no template.

use crate::fork;
use crate::memory::{self, Short};
use crate::note::Note;
#[cfg(not(shuttle))]
use crate::os::{self, gettid};
use crate::proc::systemstack;
use crate::sync::thread;
#[cfg(not(shuttle))]
use crate::threads::Ours;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a refusal names.
const WHAT: &str = "an OS thread";
/// Memory that `std` allocates for a thread that it starts, about.
#[cfg(not(shuttle))]
const FOR_STD: usize = 8 << 10;

/// A thread that somebody needs.
struct Request {
    name: String,
    body: Box<dyn FnOnce() + Send>,
    refused: Box<dyn FnOnce(io::Error) + Send>,
}

struct Template {
    runs: bool,
    requests: VecDeque<Request>,
}

static TEMPLATE: Mutex<Template> = Mutex::new(Template { runs: false, requests: VecDeque::new() });
#[cfg(not(shuttle))]
static NOTE: Note = Note::new();

/// Address space that a thread takes with its stacks, about.
#[cfg(not(shuttle))]
const ROOM: usize = 3 << 20;

/// Has the template run.
///
/// # Errors
///
/// When the system gives no thread; names the limits.
pub(crate) fn prepare() -> io::Result<()> {
    let mut template = TEMPLATE.lock();
    if !template.runs {
        begin().map_err(|e| explain(&e))?;
        template.runs = true;
    }
    Ok(())
}

/// Starts a thread that runs `body`; or else `refused` is called, on the template or by this call. Not on a
/// goroutine's stack.
pub(crate) fn start(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    refused: impl FnOnce(io::Error) + Send + 'static,
) {
    fork::check();
    let refused = match memory::try_box(WHAT, refused) {
        Ok(refused) => refused,
        Err((short, refused)) => return refused(short.into()),
    };
    let request = match (memory::try_text(WHAT, name), memory::try_box(WHAT, body)) {
        (Ok(name), Ok(body)) => Request { name: name.into_string(), body, refused },
        (Err(short), _) | (_, Err((short, _))) => return refused(short.into()),
    };
    if cfg!(shuttle) {
        return spawn(request);
    }
    if let Err(e) = prepare() {
        return (request.refused)(e);
    }
    let mut template = TEMPLATE.lock();
    if template.requests.try_reserve(1).is_err() {
        drop(template);
        return (request.refused)(Short::of(WHAT, size_of::<Request>()).into());
    }
    template.requests.push_back(request);
    drop(template);
    #[cfg(not(shuttle))]
    NOTE.wakeup();
}

/// The same for a caller that waits until the thread says that it has begun, by [`Begun::tell`]. On any
/// stack; a goroutine keeps its M waiting.
///
/// # Errors
///
/// When the system gives no thread; names the limits.
pub fn start_and_wait(name: &str, body: impl FnOnce(Begun) + Send + 'static) -> io::Result<()> {
    systemstack(|| {
        let [answer, begun, refused] = Answer::parts()?;
        let (begun, refused) = (Begun(begun), Begun(refused));
        start(name, move || body(begun), move |e| refused.answer(Err(e)));
        loop {
            if let Some(is) = answer.is.lock().take() {
                return is;
            }
            answer.note.sleep();
        }
    })
}

#[derive(Debug)]
struct Answer {
    is: Mutex<Option<io::Result<()>>>,
    note: Note,
    /// Parts that there are.
    parts: AtomicU32,
}

impl Answer {
    /// One with its three parts: an `Arc` could not say that there is no memory for it.
    fn parts() -> Result<[Part; 3], Short> {
        let answer = Answer { is: Mutex::new(None), note: Note::new(), parts: AtomicU32::new(3) };
        let answer = NonNull::from(Box::leak(memory::try_box(WHAT, answer).map_err(|(short, _)| short)?));
        Ok([Part(answer), Part(answer), Part(answer)])
    }
}

/// One of those that share an [`Answer`]; the last frees it.
#[derive(Debug)]
struct Part(NonNull<Answer>);

// SAFETY: an answer is `Sync`, and whoever frees it was the last to have it.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Deref for Part {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        // SAFETY: this part keeps it alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // ORDERING: AcqRel: what the others did with it comes before it is freed.
        if self.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: it came from a box, and this was the last part.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// Somebody waits for a thread to begin.
#[derive(Debug)]
pub struct Begun(Part);

impl Begun {
    /// It has.
    pub fn tell(self) {
        self.answer(Ok(()));
    }

    fn answer(&self, is: io::Result<()>) {
        *self.0.is.lock() = Some(is);
        self.0.note.wakeup();
    }
}

fn spawn(request: Request) {
    let Request { name, body, refused } = request;
    let room = if cfg!(shuttle) { Ok(()) } else { check_room() };
    if let Err(e) = room.and_then(|()| thread::Builder::new().name(name).spawn(body)) {
        refused(explain(&e));
    }
}

/// Says what was asked for, and names what may have to be changed.
fn explain(e: &io::Error) -> io::Error {
    let remedy = match e.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => {
            "a seccomp filter that denies clone3, mmap or mprotect?"
        }
        _ => "ulimit -u, ulimit -v, ulimit -d, the control group's pids.max and memory, kernel.threads-max",
    };
    io::Error::new(e.kind(), format!("cannot start an OS thread: {e} ({remedy})"))
}

#[cfg(shuttle)]
fn begin() -> io::Result<()> {
    Ok(())
}

#[cfg(shuttle)]
fn check_room() -> io::Result<()> {
    Ok(())
}

/// Whether there is the address space, and the permission, for what a thread of `std` maps.
#[cfg(not(shuttle))]
fn check_room() -> io::Result<()> {
    memory::room(WHAT, FOR_STD)?;
    // SAFETY: a new mapping at an address of the kernel's choice, which nobody else knows, and gone at once.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let p = libc::mmap(std::ptr::null_mut(), ROOM, access, flags, -1, 0);
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let protected = libc::mprotect(p, ROOM, libc::PROT_NONE);
        let answer = if protected == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        libc::munmap(p, ROOM);
        answer
    }
}

/// Starts the template.
#[cfg(not(shuttle))]
fn begin() -> io::Result<()> {
    extern "C" fn template(copy_of_first: *mut libc::c_void) -> *mut libc::c_void {
        serve(!copy_of_first.is_null())
    }
    static YES: u8 = 1;
    let copy_of_first =
        if gettid() == os::first_thread() { (&raw const YES).cast_mut() } else { std::ptr::null_mut() };
    // SAFETY: the attributes are initialised before they are used; the function takes nothing and never
    // returns.
    let error = unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_attr_init(&raw mut attributes);
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        // As `std`'s; it runs what ends the process for want of threads.
        libc::pthread_attr_setstacksize(&raw mut attributes, 2 << 20);
        let mut thread = std::mem::zeroed();
        let error =
            libc::pthread_create(&raw mut thread, &raw const attributes, template, copy_of_first.cast());
        libc::pthread_attr_destroy(&raw mut attributes);
        error
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(not(shuttle))]
fn serve(copy_of_first: bool) -> ! {
    // It never ends.
    std::mem::forget(Ours::begin());
    // SAFETY: the name is a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"gort-template".as_ptr()) };
    if !copy_of_first {
        cleanse();
    }
    loop {
        let request = TEMPLATE.lock().requests.pop_front();
        match request {
            Some(request) => spawn(request),
            None => NOTE.sleep(),
        }
    }
}

/// Makes the calling thread as the process's first one is, as far as it may, and says in what it differs.
#[cfg(not(shuttle))]
fn cleanse() {
    os::become_like(os::first_thread());
    let differs = os::differences(os::first_thread(), gettid());
    if !differs.is_empty() {
        crate::throw::report(format_args!(
            "gort: the library is used for the first time on a thread that differs from the process's first one in: {}. All threads \
             that run goroutines will be as this one is. Remedy: build a runtime before, on another thread.",
            differs.join(", ")
        ));
    }
}
