//! [`Record`]: the registers from which a stack can be walked, left by who is about to leave it.
//!
//! It lies in the frame that calls the switch, which is in the cache, and costs its four stores; the head of the stack
//! keeps only where it is. What the switch itself saves is not enough: where, and what, is its own business ([`switch`](super::switch)).

use crate::time::clock::coarse_seconds;

/// Registers at some point of a function, and when that was.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// In the function that left the record.
    pub pc: usize,
    /// The stack pointer there.
    pub sp: usize,
    /// The frame pointer's register there, whatever the function keeps in it.
    pub fp: usize,
    /// Seconds of the clock ([`coarse_seconds`]).
    pub since: usize,
}

/// Words of a record.
pub const WORDS: usize = size_of::<Record>() / size_of::<usize>();

impl Record {
    /// The caller's registers, now.
    #[inline(always)]
    pub fn here() -> Record {
        let (pc, sp, fp): (usize, usize, usize);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: reads registers.
        unsafe {
            std::arch::asm!(
                "lea {pc}, [rip]",
                "mov {sp}, rsp",
                "mov {fp}, rbp",
                pc = out(reg) pc,
                sp = out(reg) sp,
                fp = out(reg) fp,
                options(nomem, nostack, preserves_flags)
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: reads registers.
        unsafe {
            std::arch::asm!(
                "adr {pc}, .",
                "mov {sp}, sp",
                "mov {fp}, x29",
                pc = out(reg) pc,
                sp = out(reg) sp,
                fp = out(reg) fp,
                options(nomem, nostack, preserves_flags)
            );
        }
        Record { pc, sp, fp, since: coarse_seconds() as usize }
    }
}

impl From<[usize; WORDS]> for Record {
    fn from([pc, sp, fp, since]: [usize; WORDS]) -> Record {
        Record { pc, sp, fp, since }
    }
}
