//! [`LocalKey`]: a variable of which every goroutine has its own, as `std::thread::LocalKey` is one for threads.
//!
//! A key has a number, given to it at its first use. Who has values has a table ([`Locals`]) of them by number, each in a box
//! of its own, so that a reference to it stays good while the table grows. The table of a goroutine hangs on the head of its
//! stack (`stack::coro`), which the stack pointer leads to; that of a plain thread on a thread-local.
//!
//! L1: A value is reached by its goroutine or thread only, from within [`LocalKey::try_with`], and is dropped by the same, when it
//! is in no `try_with` any more: at the root of the goroutine, at the end of the thread.
//!
//! L2: No reference into a table is held over code of others (an initialiser, a destructor, the closure of `with`), which may
//! add to it, and may park.
//!
//! **The end.** At the root of the goroutine, on its own stack, before whoever joins it goes on: the values are dropped, the one
//! that was made last first, until there is none. A value made meanwhile is dropped as well; one that has been dropped is not
//! made again. A goroutine that is abandoned leaks its values, like all that it owns. A result that is dropped after this,
//! because its handle went so late, finds no values, and what it makes is dropped after it.
//!
//! **Why `Send`.** A goroutine goes on on another thread, and its values with it, even though no other goroutine sees them.
//!
//! **Rejected**: a field of G (a million goroutines would pay for a pointer that few use, since the lines of a G are full); the
//! values in a thread-local that is switched with the goroutine (each switch would pay).

use crate::proc;
use crate::stack::Stack;
use crate::sync::thread_local;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A variable of which every goroutine has its own. From [`goroutine_local!`](https://docs.rs/gort).
///
/// ```
/// use std::cell::Cell;
/// gort::goroutine_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
/// gort::run(|| {
///     DEPTH.set(5);
///     assert_eq!(gort::go(|| DEPTH.get()).join().unwrap(), 0);
///     assert_eq!(DEPTH.get(), 5);
/// });
/// ```
pub struct LocalKey<T: 'static> {
    /// 0 before the first use.
    number: AtomicUsize,
    init: fn() -> T,
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// The value is being dropped, or has been. From [`LocalKey::try_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot access a goroutine-local value during or after its destruction")
    }
}

impl std::error::Error for AccessError {}

/// The value of one key.
#[derive(Clone, Copy)]
enum Slot {
    Empty,
    /// A box of the key's type, and what drops it.
    Alive(NonNull<()>, unsafe fn(NonNull<()>)),
    Dropped,
}

/// The values of one goroutine or thread. It owns the boxes.
#[derive(Default)]
pub struct Locals {
    slots: Vec<Slot>,
    /// The numbers of those that are alive, in the order in which they were made.
    alive: Vec<usize>,
}

/// Drops a value when it goes.
pub(crate) struct Value(NonNull<()>, unsafe fn(NonNull<()>));

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: taken out of its slot, so it is ours, of the type that the function is for (L1).
        unsafe { self.1(self.0) };
    }
}

/// # Safety
///
/// `value` is a box of `T`, and the caller's.
unsafe fn drop_box<T>(value: NonNull<()>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(value.cast::<T>().as_ptr()) });
}

/// Where a table hangs; null if there is none.
type Place = Cell<*mut Locals>;

/// What hangs there when the thread is past the end of its values.
const ENDED: *mut Locals = ptr::dangling_mut();

/// Drops all values that hang at `place`, each by way of `drop_one`, and the table. The caller runs on the goroutine or thread
/// whose place it is, and is in no `try_with`.
pub(crate) fn end(place: &Place, drop_one: impl Fn(Value)) {
    loop {
        let locals = place.get();
        // SAFETY: the table is the caller's (L1), and this reference ends before other code runs (L2).
        let table = unsafe { &mut *locals };
        let Some(number) = table.alive.pop() else {
            place.set(ptr::null_mut());
            // SAFETY: made by `Box::into_raw` in `put`, and nobody has it any more.
            return drop(unsafe { Box::from_raw(locals) });
        };
        if let Slot::Alive(value, drop) = std::mem::replace(&mut table.slots[number], Slot::Dropped) {
            drop_one(Value(value, drop));
        }
    }
}

thread_local! {
    static OF_THREAD: Place = const { Cell::new(ptr::null_mut()) };
    static AT_END: AtEnd = const { AtEnd };
}

/// Drops the values of a plain thread when it ends.
struct AtEnd;

impl Drop for AtEnd {
    #[expect(clippy::disallowed_methods, reason = "the thread ends")]
    fn drop(&mut self) {
        OF_THREAD.with(|place| {
            if !place.get().is_null() {
                // As in std, a panic in one of them aborts the process.
                end(place, drop);
            }
            place.set(ENDED);
        });
    }
}

/// The place of the calling plain thread.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "not on a goroutine's stack; see `thread`")]
fn place_of_thread() -> *const Place {
    // SAFETY: does nothing; see `thread`.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    #[cfg(shuttle)]
    crate::thread::call_at_end();
    let _ = AT_END.try_with(|_| ());
    OF_THREAD.with(ptr::from_ref)
}

/// Calls `f` with the place of the caller, which does not change threads meanwhile.
#[inline]
fn with_place<R>(f: impl FnOnce(&Place) -> R) -> R {
    match proc::current().and_then(|gp| gp.stack()) {
        Some(stack) => f(Stack::locals(&stack)),
        // SAFETY: the thread's own variable, which is never dropped, and lives as long as the thread.
        None => f(unsafe { &*place_of_thread() }),
    }
}

/// What the caller has of this key.
#[inline]
fn get(number: usize) -> Slot {
    with_place(|place| {
        let locals = place.get();
        if locals.is_null() {
            Slot::Empty
        } else if locals == ENDED {
            Slot::Dropped
        } else {
            // SAFETY: the caller's table, to which nobody has another reference (L1, L2).
            unsafe { &*locals }.slots.get(number).copied().unwrap_or(Slot::Empty)
        }
    })
}

/// Puts a value in; what was there, if the value's initialiser came back to its own key. It is not to be called once the thread
/// is past the end of its values.
fn put(number: usize, slot: Slot) -> Slot {
    with_place(|place| {
        if place.get().is_null() {
            place.set(Box::into_raw(Box::default()));
        }
        // SAFETY: as in `get`.
        let table = unsafe { &mut *place.get() };
        if table.slots.len() <= number {
            table.slots.resize(number + 1, Slot::Empty);
        }
        let old = std::mem::replace(&mut table.slots[number], slot);
        if matches!(old, Slot::Empty) {
            table.alive.push(number);
        }
        old
    })
}

impl<T: 'static> LocalKey<T> {
    /// A key whose values `init` makes. For the macro.
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T>
    where
        T: Send,
    {
        LocalKey { number: AtomicUsize::new(0), init }
    }

    #[inline]
    fn number(&'static self) -> usize {
        // Relaxed: a number, with which nothing is published.
        match self.number.load(Ordering::Relaxed) {
            0 => self.take_number(),
            number => number,
        }
    }

    #[cold]
    fn take_number(&'static self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.number.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(taken) => taken,
        }
    }
}

impl<T: Send + 'static> LocalKey<T> {
    /// Calls `f` with the caller's value, which is made now if it was not before. Both may park.
    ///
    /// # Panics
    ///
    /// When the value is being dropped, or has been; with the panics of `f` and of the initialiser.
    ///
    /// ```
    /// gort::goroutine_local! { static NAME: String = "nobody".to_owned(); }
    /// assert_eq!(NAME.with(|name| name.len()), 6);
    /// ```
    #[track_caller]
    pub fn with<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        match self.try_with(f) {
            Ok(r) => r,
            Err(e) => panic!("{e}"),
        }
    }

    /// [`with`](LocalKey::with), for code that may run as the goroutine's values are dropped.
    ///
    /// # Errors
    ///
    /// When the value is being dropped, or has been.
    ///
    /// ```
    /// gort::goroutine_local! { static N: u32 = 3; }
    /// assert_eq!(N.try_with(|n| n + 1), Ok(4));
    /// ```
    #[inline]
    pub fn try_with<F, R>(&'static self, f: F) -> Result<R, AccessError>
    where
        F: FnOnce(&T) -> R,
    {
        let number = self.number();
        let value = match get(number) {
            Slot::Alive(value, _) => value.cast(),
            Slot::Dropped => return Err(AccessError),
            Slot::Empty => self.make(number, self.init),
        };
        // SAFETY: a value of this key, a T, which is dropped after this at the earliest (L1).
        Ok(f(unsafe { value.as_ref() }))
    }

    /// Makes the caller's value. There was none before `init`.
    #[cold]
    fn make(&'static self, number: usize, init: impl FnOnce() -> T) -> NonNull<T> {
        let value = NonNull::from(Box::leak(Box::new(init())));
        match put(number, Slot::Alive(value.cast(), drop_box::<T>)) {
            // The initialiser came here too, and nobody has a reference to what it left: it has returned.
            Slot::Alive(old, drop_old) => drop(Value(old, drop_old)),
            Slot::Empty | Slot::Dropped => {}
        }
        value
    }

    /// Calls `f` with the caller's value, and with `first` if that has not become the value just now.
    fn with_first<R>(&'static self, first: T, f: impl FnOnce(Option<T>, &T) -> R) -> R {
        let mut first = Some(first);
        if let Slot::Empty = get(self.number()) {
            self.make(self.number(), || first.take().expect("it is made once"));
        }
        self.with(|value| f(first, value))
    }
}

impl<T: Send + 'static> LocalKey<Cell<T>> {
    /// Changes the caller's value. Its initialiser is not run for it.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gort::goroutine_local! { static N: Cell<u32> = panic!("not needed"); }
    /// N.set(1);
    /// assert_eq!(N.get(), 1);
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.with_first(Cell::new(value), |rest, cell| {
            if let Some(rest) = rest {
                cell.set(rest.into_inner());
            }
        });
    }

    /// A copy of the caller's value.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gort::goroutine_local! { static N: Cell<u32> = Cell::new(2); }
    /// assert_eq!(N.get(), 2);
    /// ```
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the caller's value, and leaves the default.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gort::goroutine_local! { static N: Cell<u32> = Cell::new(2); }
    /// assert_eq!((N.take(), N.get()), (2, 0));
    /// ```
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Changes the caller's value, and gives back what it was.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gort::goroutine_local! { static N: Cell<u32> = Cell::new(2); }
    /// assert_eq!((N.replace(3), N.get()), (2, 3));
    /// ```
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: Send + 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the caller's value.
    ///
    /// # Panics
    ///
    /// When it is borrowed mutably.
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gort::goroutine_local! { static LIST: RefCell<Vec<u8>> = RefCell::default(); }
    /// assert!(LIST.with_borrow(|list| list.is_empty()));
    /// ```
    #[track_caller]
    pub fn with_borrow<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the caller's value, to change it.
    ///
    /// # Panics
    ///
    /// When it is borrowed.
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gort::goroutine_local! { static LIST: RefCell<Vec<u8>> = RefCell::default(); }
    /// LIST.with_borrow_mut(|list| list.push(1));
    /// assert_eq!(LIST.take(), [1]);
    /// ```
    #[track_caller]
    pub fn with_borrow_mut<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&mut T) -> R,
    {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Changes the caller's value. Its initialiser is not run for it.
    ///
    /// # Panics
    ///
    /// When it is borrowed.
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gort::goroutine_local! { static LIST: RefCell<Vec<u8>> = panic!("not needed"); }
    /// LIST.set(vec![1]);
    /// assert_eq!(LIST.with_borrow(|list| list.len()), 1);
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.with_first(RefCell::new(value), |rest, cell| {
            if let Some(rest) = rest {
                cell.replace(rest.into_inner());
            }
        });
    }

    /// Takes the caller's value, and leaves the default.
    ///
    /// # Panics
    ///
    /// When it is borrowed.
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gort::goroutine_local! { static LIST: RefCell<Vec<u8>> = RefCell::new(vec![1]); }
    /// assert_eq!((LIST.take(), LIST.take()), (vec![1], vec![]));
    /// ```
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Changes the caller's value, and gives back what it was.
    ///
    /// # Panics
    ///
    /// When it is borrowed.
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gort::goroutine_local! { static LIST: RefCell<Vec<u8>> = RefCell::default(); }
    /// assert_eq!((LIST.replace(vec![1]), LIST.replace(vec![2])), (vec![], vec![1]));
    /// ```
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}
