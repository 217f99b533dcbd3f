//! What goroutines compute in Go's benchmarks.

use std::arch::asm;

/// Work that takes `n` turns of an empty loop: what Go's compiler leaves of the work in Go's benchmarks, whose
/// results nobody uses (decrement, test, jump).
#[inline]
pub fn local_work(n: usize) {
    let mut left = n;
    while left > 0 {
        left = opaque(left - 1);
    }
}

/// Work that does have a result in Go's benchmarks: `n` times the number is doubled and halved.
#[inline]
pub fn double_and_halve(mut number: isize, n: usize) -> isize {
    for _ in 0..n {
        number = opaque(number.wrapping_mul(2) as usize) as isize / 2;
    }
    number
}

/// The same number, but the compiler does not know. Unlike `black_box`, which takes it through memory, it stays in
/// its register.
#[inline]
fn opaque(mut n: usize) -> usize {
    // SAFETY: there is no instruction in it.
    unsafe { asm!("/* {0} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_work() {
        assert_eq!(double_and_halve(7, 100), 7);
        assert_eq!(double_and_halve(-7, 100), -7);
        assert_eq!(double_and_halve(isize::MAX, 1), -1);
    }
}
