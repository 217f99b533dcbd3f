//! [`goroutine_local!`]: variables of which every goroutine has its own. What is behind it is in `gort_scheduler::local`.

/// Declares variables of which every goroutine has its own, in the shape of `std::thread_local!`. On a plain OS thread they are
/// thread-locals.
///
/// Each is a [`LocalKey`](crate::LocalKey): `NAME.with(|v| ...)`, and for a `Cell` or `RefCell` also `get`, `set`, `take`,
/// `replace`, `with_borrow`, `with_borrow_mut`. A goroutine's value is made at its first use, with the expression given here, and
/// dropped when the goroutine ends, on its own stack, before who joins it goes on (a [`scope`](crate::scope()) may be left a
/// little earlier, when the functions of its goroutines have ended). No value ever passes to another goroutine; what a goroutine
/// starts begins with fresh ones. The initialiser, the closure of `with` and the destructor may all park.
///
/// Unlike a thread-local, the value must be `Send`: a goroutine goes on on another thread after a wait, and its values with it.
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// gort::goroutine_local! {
///     /// How deep we are.
///     static DEPTH: Cell<u32> = const { Cell::new(0) };
///     pub static LOG: RefCell<Vec<String>> = RefCell::new(Vec::new());
/// }
///
/// gort::run(|| {
///     DEPTH.set(DEPTH.get() + 1);
///     LOG.with_borrow_mut(|log| log.push(format!("at {}", DEPTH.get())));
///     let other = gort::go!(|| (DEPTH.get(), LOG.take().len()));
///     assert_eq!(other.join().unwrap(), (0, 0));
///     assert_eq!(LOG.take(), ["at 1"]);
/// });
/// ```
///
/// ```compile_fail
/// gort::goroutine_local! { static SHARED: std::rc::Rc<u32> = std::rc::Rc::new(1); } // an Rc is not Send
/// ```
#[macro_export]
macro_rules! goroutine_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr; $($rest:tt)*) => {
        $crate::goroutine_local! { $(#[$attr])* $vis static $name: $t = $init }
        $crate::goroutine_local! { $($rest)* }
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr) => {
        $(#[$attr])*
        $vis static $name: $crate::LocalKey<$t> = $crate::LocalKey::new({
            fn init() -> $t {
                $init
            }
            init
        });
    };
}
