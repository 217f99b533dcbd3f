//! Names of functions, where nothing may be allocated and no lock taken: in a signal handler.
//!
//! The symbolizer of dumps (`symbols`) needs the heap, whose lock the goroutine may hold that has just run out of stack. So the
//! program's file is mapped, and its table of symbols is searched from one end to the other. That has no lines and no inlined
//! functions, and needs only system calls. A program that was stripped has no such table: then a frame is named by its module and
//! how far into that it is, which `addr2line` understands.

use super::mapping::page_size;
use std::ffi::{CStr, CString};
use std::fmt::{self, Write};
use std::ops::Range;

/// A loaded module.
#[derive(Debug)]
pub(super) struct Module {
    range: Range<usize>,
    base: usize,
    file: CString,
}

/// The modules of the process, now. Allocates.
pub(super) fn modules() -> Vec<Module> {
    let mut found: Vec<Module> = Vec::new();
    // SAFETY: `visit` has the type that is asked for, and takes the pointer for what it is.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// # Safety
///
/// Called by `dl_iterate_phdr` with a `Vec<Module>`.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller's promise; the headers are those of a loaded module, its name is a C string.
    let (base, headers, name, found) = unsafe {
        let info = &*info;
        let headers: &[_] = match info.dlpi_phnum {
            0 => &[],
            n => std::slice::from_raw_parts(info.dlpi_phdr, n.into()),
        };
        let name = (!info.dlpi_name.is_null()).then(|| CStr::from_ptr(info.dlpi_name));
        (info.dlpi_addr as usize, headers, name, &mut *found.cast::<Vec<Module>>())
    };
    let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
    let start = loaded().map(|h| h.p_vaddr as usize).min();
    let end = loaded().map(|h| (h.p_vaddr + h.p_memsz) as usize).max();
    if let (Some(start), Some(end)) = (start, end) {
        // The program itself has no name here.
        let file = name.filter(|name| !name.is_empty()).unwrap_or(c"/proc/self/exe");
        found.push(Module { range: base + start..base + end, base, file: file.to_owned() });
    }
    0
}

/// Writes the name of the function that an address is in. In a signal handler too.
pub(super) fn write(modules: &[Module], addr: usize, out: &mut dyn Write) -> fmt::Result {
    let Some(module) = modules.iter().find(|module| module.range.contains(&addr)) else {
        return write!(out, "{addr:#x}");
    };
    let at = addr - module.base;
    if let Some(file) = File::map(&module.file)
        && let Some(name) = symbol(file.bytes(), at as u64)
        && let Ok(name) = str::from_utf8(name)
    {
        // Without the hash at its end.
        return match rustc_demangle::try_demangle(name) {
            Ok(name) => write!(out, "{name:#}"),
            Err(_) => out.write_str(name),
        };
    }
    write!(out, "{}+{at:#x}", module.file.to_str().unwrap_or("?"))
}

/// A file, mapped.
struct File {
    at: *mut libc::c_void,
    len: usize,
}

impl File {
    fn map(name: &CStr) -> Option<File> {
        // SAFETY: opens a file, asks for its size and maps it where there is room; system calls, all of them.
        unsafe {
            let fd = libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if fd < 0 {
                return None;
            }
            let mut stat: libc::stat = std::mem::zeroed();
            let known = libc::fstat(fd, &raw mut stat) == 0 && stat.st_size as usize > page_size();
            let len = if known { stat.st_size as usize } else { 0 };
            let at = if known {
                libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)
            } else {
                libc::MAP_FAILED
            };
            libc::close(fd);
            (at != libc::MAP_FAILED).then_some(File { at, len })
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped, so long, until this is dropped. Whoever writes over the file of a program that runs ends it anyway.
        unsafe { std::slice::from_raw_parts(self.at.cast(), self.len) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

/// A little-endian number in a file, so far behind a place.
fn number<const N: usize>(file: &[u8], at: u64, offset: u64) -> Option<u64> {
    let bytes = file.get(at.checked_add(offset)? as usize..)?.get(..N)?;
    let mut whole = [0; 8];
    whole[..N].copy_from_slice(bytes);
    Some(u64::from_le_bytes(whole))
}

/// The name of the function at an address of an ELF file with 64 bits.
fn symbol(file: &[u8], addr: u64) -> Option<&[u8]> {
    const SYMTAB: u64 = 2;
    const DYNSYM: u64 = 11;
    const SYMBOL: u64 = 24;
    const FUNC: u64 = 2;
    if file.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (sections, size, n) =
        (number::<8>(file, 0, 40)?, number::<2>(file, 0, 58)?, number::<2>(file, 0, 60)?);
    let section = |i: u64| sections.checked_add(i.checked_mul(size)?);
    let of_kind = |kind| (0..n).filter_map(section).find(|&at| number::<4>(file, at, 4) == Some(kind));
    let table = of_kind(SYMTAB).or_else(|| of_kind(DYNSYM))?;
    let names = number::<8>(file, section(number::<4>(file, table, 40)?)?, 24)?;
    let (start, len) = (number::<8>(file, table, 24)?, number::<8>(file, table, 32)?);
    for at in (start..start.checked_add(len)?).step_by(SYMBOL as usize) {
        let kind = number::<1>(file, at, 4)? & 15;
        let (value, size) = (number::<8>(file, at, 8)?, number::<8>(file, at, 16)?);
        if kind == FUNC && addr >= value && addr - value < size {
            let name = file.get(names.checked_add(number::<4>(file, at, 0)?)? as usize..)?;
            return name.split(|byte| *byte == 0).next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named() {
        let here: fn() = a_function_is_named;
        let name = |addr| {
            let mut name = String::new();
            write(&modules(), addr, &mut name).unwrap();
            name
        };
        let found = name(here as *const () as usize + 1);
        assert!(found.ends_with("stack::names::tests::a_function_is_named"), "{found}");
        assert_eq!(name(1), "0x1");
        // As of a library, which has at least its dynamic symbols.
        let found = name(libc::malloc as *const () as usize + 1);
        assert!(found.contains("malloc"), "{found}");
    }

    #[test]
    fn a_file_that_is_cut_has_no_names() {
        let whole = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(symbol(&whole, u64::MAX), None);
        for len in [0, 4, 5, 63, 64, 1000, whole.len() / 2, whole.len() - 64] {
            assert_eq!(symbol(&whole[..len], 0x1000), None, "{len}");
        }
        let mut wild = whole[..4096].to_vec();
        wild[40..64].fill(0xff);
        assert_eq!(symbol(&wild, 0x1000), None);
    }
}
