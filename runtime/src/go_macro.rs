//! `go!`: all the ways to write the start of a goroutine.
//!
//! The macro tells the forms apart by their first token (a closure begins with `move` or `|`, a block with `{`) and
//! their last (a call ends in parentheses). In a call, everything but the call itself is evaluated by the caller:
//! the function, the receiver and the arguments, from left to right, each into a variable that the goroutine's
//! closure then owns.

/// Starts a goroutine (Go's `go` statement) and evaluates to its [`JoinHandle`](crate::JoinHandle).
///
/// ```text
/// go!(closure)                                  // go!(move || work(x))
/// go!(f(a, b))   go!(obj.method(a))             // receiver and arguments are evaluated now, by the caller
/// go!({ block })                                // the block becomes the body of a `move` closure
/// go!(name = "worker", stack_size = 1 << 20, ..) // options, in any order, before any of these
/// ```
///
/// # Panics
///
/// With a `stack_size` outside 16 KiB to 1 GiB, or when the caller's runtime is being shut down.
///
/// ```
/// use gort::{chan, go};
///
/// fn produce(ch: gort::Chan<i32>, n: i32) {
///     ch.send(n);
/// }
///
/// let ch = chan(0);
/// go!(produce(ch.clone(), 1));
/// go!(ch.clone().send(2));
/// let tx = ch.clone();
/// go!(move || tx.send(3));
/// let tx = ch.clone();
/// go!(name = "four", { tx.send(4) });
/// let mut got: Vec<i32> = ch.iter().take(4).collect();
/// got.sort();
/// assert_eq!(got, [1, 2, 3, 4]);
/// ```
#[macro_export]
macro_rules! go {
    // Options: gathered in a builder.
    (name = $($rest:tt)+) => { $crate::__go!(@options ($crate::Builder::new()) name = $($rest)+) };
    (stack_size = $($rest:tt)+) => { $crate::__go!(@options ($crate::Builder::new()) stack_size = $($rest)+) };
    ($option:ident = $($rest:tt)+) => { $crate::__go!(@no_option $option) };
    () => { compile_error!("go! wants a closure, a call or a block") };
    ($($body:tt)+) => { $crate::__go!(@form ($crate::go) [$($body)+] $($body)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __go {
    // -- Options --
    (@options ($builder:expr) name = $value:expr $(,)?) => {
        compile_error!("go! wants a closure, a call or a block after its options")
    };
    (@options ($builder:expr) stack_size = $value:expr $(,)?) => {
        compile_error!("go! wants a closure, a call or a block after its options")
    };
    (@options ($builder:expr) name = $value:expr, $($rest:tt)+) => {
        $crate::__go!(@options ($builder.name($value)) $($rest)+)
    };
    (@options ($builder:expr) stack_size = $value:expr, $($rest:tt)+) => {
        $crate::__go!(@options ($builder.stack_size($value)) $($rest)+)
    };
    (@options ($builder:expr) $option:ident = $($rest:tt)+) => { $crate::__go!(@no_option $option) };
    (@options ($builder:expr) $($body:tt)+) => {{
        let builder = $builder;
        $crate::__go!(@form ($crate::__go_built; builder) [$($body)+] $($body)+)
    }};
    (@no_option $option:ident) => {
        compile_error!(concat!("go! has no option `", stringify!($option), "`: there are `name` and `stack_size`"))
    };
    (@options_last) => {
        compile_error!("the options of go! come first: `go!(name = \"worker\", move || ...)`")
    };
    (@statements) => {
        compile_error!("go! takes several statements as a block: `go!({ ... })`")
    };

    // -- Forms: [the whole, whose tokens are the caller's own, as the compiler's messages need them] and its beginning --
    (@form $how:tt $all:tt move $($closure:tt)+) => { $crate::__go!(@closure $how $all) };
    (@form $how:tt $all:tt | $($closure:tt)+) => { $crate::__go!(@closure $how $all) };
    (@form $how:tt $all:tt || $($closure:tt)+) => { $crate::__go!(@closure $how $all) };
    (@form $how:tt $all:tt { $($block:tt)* } $(,)?) => { $crate::__go!(@start $how (move || { $($block)* })) };
    (@form $how:tt $all:tt { $($block:tt)* }, $option:ident = $($rest:tt)+) => { $crate::__go!(@options_last) };
    (@form $how:tt $all:tt let $($rest:tt)+) => { $crate::__go!(@statements) };
    (@form $how:tt $all:tt $($call:tt)+) => { $crate::__go!(@call $how [] $($call)+) };

    (@closure $how:tt [$closure:expr $(,)?]) => { $crate::__go!(@start $how ($closure)) };
    (@closure $how:tt [$closure:expr, $option:ident = $($rest:tt)+]) => { $crate::__go!(@options_last) };
    (@closure $how:tt [$closure:expr; $($rest:tt)*]) => { $crate::__go!(@statements) };

    // -- Calls: [what stands before], looked through token by token for the end --
    (@call $how:tt [$($receiver:tt)+] . $method:ident ( $($args:tt)* )) => {{
        #[allow(unused_mut)]
        let mut receiver = $($receiver)+;
        $crate::__go!(@args $how [receiver . $method] [] $($args)*)
    }};
    (@call $how:tt [$($receiver:tt)+] . $method:ident :: < $($rest:tt)+) => {
        $crate::__go!(@turbofish $how [$($receiver)+] $method [] $($rest)+)
    };
    (@call $how:tt [$($function:tt)+] ( $($args:tt)* )) => {{
        let function = $($function)+;
        $crate::__go!(@args $how [function] [] $($args)*)
    }};
    // What is no call.
    (@call $how:tt [$($before:tt)+] , $option:ident = $($rest:tt)+) => { $crate::__go!(@options_last) };
    (@call $how:tt [$($before:tt)+] ; $($rest:tt)*) => { $crate::__go!(@statements) };
    (@call $how:tt [$($before:tt)+] ! $arguments:tt) => {
        compile_error!("go! cannot evaluate the arguments of a macro: write `go!({ ... })`, or a closure")
    };
    (@call $how:tt [$($before:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__go!(@call $how [$($before)* $next] $($rest)*)
    };
    // No call at all: an expression that is a closure.
    (@call $how:tt [$($expression:tt)+]) => { $crate::__go!(@start $how ($($expression)+)) };

    // -- The type arguments of a method, up to the parentheses --
    (@turbofish $how:tt [$($receiver:tt)+] $method:ident [$($types:tt)+] ( $($args:tt)* )) => {{
        #[allow(unused_mut)]
        let mut receiver = $($receiver)+;
        $crate::__go!(@args $how [receiver . $method :: < $($types)+] [] $($args)*)
    }};
    (@turbofish $how:tt [$($receiver:tt)+] $method:ident [$($types:tt)+] ( $($args:tt)* ) $($rest:tt)+) => {
        $crate::__go!(@call $how [$($receiver)+ . $method :: < $($types)+ ( $($args)* )] $($rest)+)
    };
    (@turbofish $how:tt $receiver:tt $method:ident [$($types:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__go!(@turbofish $how $receiver $method [$($types)* $next] $($rest)*)
    };

    // -- Arguments: each into a variable of its own --
    (@args $how:tt $callee:tt [$($done:ident)*] $arg:expr, $($rest:tt)*) => {{
        let argument = $arg;
        $crate::__go!(@args $how $callee [$($done)* argument] $($rest)*)
    }};
    (@args $how:tt $callee:tt [$($done:ident)*] $arg:expr) => {{
        let argument = $arg;
        $crate::__go!(@args $how $callee [$($done)* argument])
    }};
    (@args $how:tt [$($callee:tt)+] [$($done:ident)*]) => {
        $crate::__go!(@start $how (move || $($callee)+ ($($done),*)))
    };

    // -- The start itself --
    (@start ($go:path) ($($closure:tt)+)) => { $go($($closure)+) };
    (@start ($go:path; $builder:ident) ($($closure:tt)+)) => { $go($builder, $($closure)+) };
}

/// The start with options.
///
/// # Panics
///
/// When the stack size is out of range.
#[doc(hidden)]
#[track_caller]
pub fn __go_built<F, T>(builder: crate::Builder, f: F) -> crate::JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match builder.go(f) {
        Ok(handle) => handle,
        Err(e) => crate::go::cannot_start(&e),
    }
}
