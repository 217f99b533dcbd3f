//! `select!` and `select_biased!`.
//!
//! The macro reads its arms one by one into a list of `{ number name operand finish pattern body }`, and then writes
//! one of:
//!
//! | arms | becomes |
//! | --- | --- |
//! | none, no default | a wait for ever |
//! | none, default | the default's body |
//! | one | the operation itself, or with default its `try_` form |
//! | more, or one that sends from a place | the general select |
//!
//! The general form evaluates all operands and values in source order in the head of a `match`, which keeps what is
//! temporary in them alive until the select is over and no longer; moves the outcomes out; and only then runs the
//! chosen arm's body, in the caller's own function. So `break`, `continue`, `return` and `?` work in it, and it may
//! assign to a variable that was an operand, because nothing borrows that any more.

/// Waits for several channel operations at once and does one of them (Go's `select`).
///
/// **What happens to a value**: `send(ch, value)` moves the value into the select, and if another arm is chosen, the value is
/// *dropped*. `send(ch, from place)` takes it out of `place`, an `Option<T>`, only if this arm is chosen; so this is the form
/// for a value that must not be lost.
///
/// ```text
/// select! {
///     recv(rx) -> v => expr,             // v: Option<T>; any irrefutable pattern
///     send(ch, value) => expr,           // a closed Chan panics; on a Sender the error is dropped
///     send(tx, value) -> res => expr,    // res: Result<(), SendError<T>>, with the value in the error
///     send(ch, from place) => expr,      // place: a variable or field of type Option<T>; also with -> res
///     default => expr,                   // at most one, anywhere: what to do instead of waiting
/// }
/// ```
///
/// All channel operands and values are evaluated once, in source order, also those of arms that are not chosen. A
/// channel operand that is a variable or a field is borrowed, and an arm may assign to it, as to a place. Of several arms that
/// are ready one is chosen uniformly at random. Nil channels are never ready, nor is an arm that sends from a place while
/// that is `None`; without arms, or with such arms only and no `default`, the select blocks for ever. The whole is an
/// expression. Up to 32 arms.
///
/// ```
/// use gort::{chan, go, select};
///
/// let (numbers, quit) = (chan::<u32>(0), chan::<()>(0));
/// let (tx, done) = (numbers.clone(), quit.clone());
/// go!(move || {
///     (0..3).for_each(|i| tx.send(i));
///     done.close();
/// });
/// let mut sum = 0;
/// loop {
///     select! {
///         recv(numbers) -> n => sum += n.unwrap(),
///         recv(quit) -> _ => break,
///     }
/// }
/// assert_eq!(sum, 3);
/// ```
///
/// Go's `case out <- queue[0]:`, with an `out` that is nil while the queue is empty:
///
/// ```
/// use gort::{Chan, select};
///
/// /// Passes on what comes in, however slowly it is fetched.
/// fn unbounded(mut input: Chan<u32>, out: Chan<u32>) {
///     let (mut queue, mut next) = (std::collections::VecDeque::new(), None);
///     while !input.is_nil() || next.is_some() {
///         select! {
///             recv(input) -> v => match v {
///                 Some(v) => queue.push_back(v),
///                 None => input = Chan::nil(),
///             },
///             send(out, from next) => {}
///         }
///         next = next.or_else(|| queue.pop_front());
///     }
///     out.close();
/// }
///
/// let (input, out) = (gort::chan(0), gort::chan(0));
/// gort::go!(unbounded(input.clone(), out.clone()));
/// (0..100).for_each(|i| input.send(i));
/// input.close();
/// assert!(out.iter().eq(0..100));
/// ```
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select!(@start Random $($arms)*)
    };
}

/// As [`select!`], but of several arms that are ready the first in source order is chosen.
///
/// ```
/// let (urgent, other) = (gort::chan(1), gort::chan(1));
/// urgent.send(1);
/// other.send(2);
/// let got = gort::select_biased! {
///     recv(urgent) -> v => v,
///     recv(other) -> v => v,
/// };
/// assert_eq!(got, Some(1));
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($arms:tt)*) => {
        $crate::__select!(@start Source $($arms)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@start $order:ident $($arms:tt)*) => {
        $crate::__select!(@arms $order [] [] [
            (0 a0) (1 a1) (2 a2) (3 a3) (4 a4) (5 a5) (6 a6) (7 a7) (8 a8) (9 a9) (10 a10)
            (11 a11) (12 a12) (13 a13) (14 a14) (15 a15) (16 a16) (17 a17) (18 a18) (19 a19) (20 a20)
            (21 a21) (22 a22) (23 a23) (24 a24) (25 a25) (26 a26) (27 a27) (28 a28) (29 a29) (30 a30)
            (31 a31)
        ] $($arms)*)
    };

    // -- Reading: @arms ORDER [arms so far] [default so far] [free names] the rest --
    (@arms $order:ident $done:tt $default:tt $free:tt , $($rest:tt)*) => {
        $crate::__select!(@arms $order $done $default $free $($rest)*)
    };
    (@arms $order:ident $done:tt $default:tt $free:tt) => {
        $crate::__select!(@write $order $done $default)
    };
    (@arms $order:ident $done:tt $default:tt [] $kind:ident ( $($operand:tt)* ) $($rest:tt)*) => {
        compile_error!("select! takes at most 32 arms; use `Select` for more")
    };
    (@arms $order:ident $done:tt $default:tt $free:tt recv ( $c:expr $(,)? ) -> $p:pat => $($rest:tt)+) => {
        $crate::__select!(@body $order $done $default $free (recv $c, $p) $($rest)+)
    };
    // `from *place` before a value, which it would be as well: a product.
    (@arms $order:ident $done:tt $default:tt $free:tt send ( $c:expr, from * $v:expr $(,)? ) $($rest:tt)+) => {
        $crate::__select!(@from $order $done $default $free ($c) (*$v) $($rest)+)
    };
    (@arms $order:ident $done:tt $default:tt $free:tt send ( $c:expr, $v:expr $(,)? ) -> $p:pat => $($rest:tt)+) => {
        $crate::__select!(@body $order $done $default $free (send $c, $v, sent, $p) $($rest)+)
    };
    (@arms $order:ident $done:tt $default:tt $free:tt send ( $c:expr, $v:expr $(,)? ) => $($rest:tt)+) => {
        $crate::__select!(@body $order $done $default $free (send $c, $v, sent_or_panic, _) $($rest)+)
    };
    (@arms $order:ident $done:tt $default:tt $free:tt send ( $c:expr, from $v:expr $(,)? ) $($rest:tt)+) => {
        $crate::__select!(@from $order $done $default $free ($c) ($v) $($rest)+)
    };
    (@from $order:ident $done:tt $default:tt $free:tt $c:tt $place:tt -> $p:pat => $($rest:tt)+) => {
        $crate::__select!(@body $order $done $default $free (from $c $place sent, $p) $($rest)+)
    };
    (@from $order:ident $done:tt $default:tt $free:tt $c:tt $place:tt => $($rest:tt)+) => {
        $crate::__select!(@body $order $done $default $free (from $c $place sent_or_panic, _) $($rest)+)
    };
    (@arms $order:ident $done:tt [] $free:tt default => $($rest:tt)+) => {
        $crate::__select!(@body $order $done [] $free (default) $($rest)+)
    };
    (@arms $order:ident $done:tt [$($default:tt)+] $free:tt default => $($rest:tt)+) => {
        compile_error!("select! takes at most one `default`")
    };
    (@arms $order:ident $done:tt $default:tt $free:tt recv ( $($operand:tt)* ) => $($rest:tt)*) => {
        compile_error!("an arm that receives binds what it gets: `recv(rx) -> value => ...`")
    };
    (@arms $order:ident $done:tt $default:tt $free:tt $($rest:tt)+) => {
        compile_error!(concat!(
            "expected `recv(rx) -> pattern => ...`, `send(tx, value) => ...`, `send(tx, value) -> pattern => ...`, ",
            "`send(tx, from place) => ...` or `default => ...`, found `", stringify!($($rest)+), "`"
        ))
    };

    // -- The body of the arm whose head is in parentheses --
    (@body $order:ident $done:tt $default:tt $free:tt $head:tt $body:block $($rest:tt)*) => {
        $crate::__select!(@add $order $done $default $free $head ($body) $($rest)*)
    };
    (@body $order:ident $done:tt $default:tt $free:tt $head:tt $body:expr, $($rest:tt)*) => {
        $crate::__select!(@add $order $done $default $free $head ($body) $($rest)*)
    };
    (@body $order:ident $done:tt $default:tt $free:tt $head:tt $body:expr) => {
        $crate::__select!(@add $order $done $default $free $head ($body))
    };

    (@add $order:ident [$($done:tt)*] $default:tt [($n:tt $a:ident) $($free:tt)*]
        (recv $c:expr, $p:pat) ($body:expr) $($rest:tt)*) => {
        $crate::__select!(@arms $order
            [$($done)* { $n $a ($crate::__private::recv_arm(&$c)) received ($p) ($body) recv (&$c) }]
            $default [$($free)*] $($rest)*)
    };
    (@add $order:ident [$($done:tt)*] $default:tt [($n:tt $a:ident) $($free:tt)*]
        (send $c:expr, $v:expr, $finish:ident, $p:pat) ($body:expr) $($rest:tt)*) => {
        $crate::__select!(@arms $order
            [$($done)* { $n $a ($crate::__private::send_arm(&$c, $v)) $finish ($p) ($body) send (&$c, $v) }]
            $default [$($free)*] $($rest)*)
    };
    (@add $order:ident [$($done:tt)*] $default:tt [($n:tt $a:ident) $($free:tt)*]
        (from ($c:expr) ($place:expr) $finish:ident, $p:pat) ($body:expr) $($rest:tt)*) => {
        $crate::__select!(@arms $order
            [$($done)* { $n $a ($crate::__private::from_arm(&$c, &mut $place)) $finish ($p) ($body) from () }]
            $default [$($free)*] $($rest)*)
    };
    (@add $order:ident $done:tt [] $free:tt (default) ($body:expr) $($rest:tt)*) => {
        $crate::__select!(@arms $order $done [($body)] $free $($rest)*)
    };

    // -- Writing --
    (@write $order:ident [] []) => {
        $crate::__private::block_forever()
    };
    (@write $order:ident [] [($default:expr)]) => {
        $default
    };
    (@write $order:ident [{ $n:tt $a:ident $arm:tt received ($p:pat) ($body:expr) recv $operands:tt }] []) => {{
        let received = $crate::__private::recv_one $operands;
        let $p = received;
        $body
    }};
    (@write $order:ident [{ $n:tt $a:ident $arm:tt $finish:ident ($p:pat) ($body:expr) send $operands:tt }] []) => {{
        let sent = $crate::__private::send_one::$finish $operands;
        let $p = sent;
        $body
    }};
    (@write $order:ident [{ $n:tt $a:ident $arm:tt received ($p:pat) ($body:expr) recv $operands:tt }]
        [($default:expr)]) => {
        $crate::__select!(@try ($crate::__private::try_recv_one $operands) ($p) ($body) ($default))
    };
    (@write $order:ident [{ $n:tt $a:ident $arm:tt $finish:ident ($p:pat) ($body:expr) send $operands:tt }]
        [($default:expr)]) => {
        $crate::__select!(@try ($crate::__private::try_send_one::$finish $operands) ($p) ($body) ($default))
    };
    (@try ($outcome:expr) ($p:pat) ($body:expr) ($default:expr)) => {{
        let outcome = $outcome;
        match outcome {
            ::core::option::Option::Some(outcome) => {
                let $p = outcome;
                $body
            }
            ::core::option::Option::None => $default,
        }
    }};
    (@write $order:ident [$($arms:tt)+] []) => {
        $crate::__select!(@general $order false ($crate::__private::no_arm()) $($arms)+)
    };
    (@write $order:ident [$($arms:tt)+] [($default:expr)]) => {
        $crate::__select!(@general $order true ($default) $($arms)+)
    };
    (@general $order:ident $has_default:literal ($default:expr)
        $({ $n:tt $a:ident ($arm:expr) $finish:ident ($p:pat) ($body:expr) $kind:ident $operands:tt })+) => {{
        let (chosen, ($($a,)+)) = match ($($arm,)+) {
            ($(mut $a,)+) => {
                let chosen = $crate::__private::select_arms(
                    [$(&mut $a as &mut dyn $crate::__private::Arm),+],
                    $has_default,
                    $crate::__private::Order::$order,
                );
                (chosen, ($($a.$finish(),)+))
            }
        };
        match chosen {
            $(::core::option::Option::Some($n) => {
                let $p = $crate::__private::outcome($a);
                $body
            })+
            _ => $default,
        }
    }};
}
