//! The page by which the harness says what shall fail and learns what was called. Little-endian
//! words of 64 bits, shared by all processes:
//!
//! ```text
//! word 0      mode: 0 none fails, 1 the nth call, 2 all from the nth on,
//!             3 as 1 and 4 as 2, but half of the nth write is made and the next one fails;
//!             with ENOSPC, of later opens only those that make a file;
//!             5 as 2, but later calls fail in the process only in which the nth did
//! word 1      kind of call, as below          word 2   n, from 1 on
//! word 3      the error number                word 4   how many calls have failed
//! word 5      the process in which it did, 0 if it was not reached
//! word 8+k    calls of kind k since the harness last set it to 0
//! byte 256..  the first call that failed: its name, a blank, the path; ended by a zero
//! ```

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::tracked::{self, Place};

const PAGE_BYTES: usize = 4096;
const WORDS: usize = 32;
const TEXT_AT: usize = 256;
const TEXT_BYTES: usize = 1024;

const MODE: usize = 0;
const KIND: usize = 1;
const NTH: usize = 2;
const NUMBER: usize = 3;
const FAILED: usize = 4;
const PROCESS: usize = 5;
const COUNTS: usize = 8;

/// Kinds of calls; the number of each is its place in the page.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CallKind {
    Open = 0,
    Write = 1,
    Sync = 2,
    Rename = 3,
    Truncate = 4,
    Remove = 5,
    MakeDirectory = 6,
    Read = 7,
}

/// What becomes of a call.
pub(crate) enum Decision {
    Pass,
    /// Only half of it is done.
    Halve,
    /// It fails with this error number.
    Fail(c_int),
}

struct Page {
    words: &'static [AtomicU64; WORDS],
    text: &'static [AtomicU8; TEXT_BYTES],
}

fn page() -> Option<&'static Page> {
    static PAGE: OnceLock<Option<Page>> = OnceLock::new();
    PAGE.get_or_init(map).as_ref()
}

fn map() -> Option<Page> {
    let path = tracked::variable(c"FAILING_CALLS_CONTROL")?;
    // The file is outside of what counts: opening it comes back here by no way.
    // SAFETY: a C string; the call is the kernel's own.
    let descriptor =
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR) };
    let descriptor = c_int::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let start = unsafe {
        libc::mmap(std::ptr::null_mut(), PAGE_BYTES, access, libc::MAP_SHARED, descriptor, 0)
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start.cast::<u8>();
    // SAFETY: the page is there for the life of the process, aligned for words, as long as both
    // parts, which do not overlap; everybody in all processes goes by atomics.
    unsafe { Some(Page { words: &*start.cast(), text: &*start.add(TEXT_AT).cast() }) }
}

/// Counts a call that is none of [`decide_open`]'s, and says what becomes of it.
pub(crate) fn decide(kind: CallKind, name: &CStr, place: &Place<'_>) -> Decision {
    // A directory that is there already is found so before anybody looks for space.
    let takes_space = match (kind, place) {
        (CallKind::MakeDirectory, Place::Path(path)) => tracked::is_missing(libc::AT_FDCWD, path),
        _ => false,
    };
    decide_call(kind, takes_space, name, place)
}

/// Counts an open, and says what becomes of it.
pub(crate) fn decide_open(path: &CStr, creates: bool) -> Decision {
    decide_call(CallKind::Open, creates, c"open", &Place::Path(path))
}

fn decide_call(kind: CallKind, takes_space: bool, name: &CStr, place: &Place<'_>) -> Decision {
    let Some(page) = page() else { return Decision::Pass };
    let word = |at: usize| page.words[at].load(Ordering::SeqCst);
    let count = page.words[COUNTS + kind as usize].fetch_add(1, Ordering::SeqCst) + 1;
    let (mode, nth) = (word(MODE), word(NTH));
    let number = c_int::try_from(word(NUMBER)).unwrap_or(libc::EIO);
    if mode == 0 {
        return Decision::Pass;
    }
    let is_full = number == libc::ENOSPC;
    let goes_on = match mode {
        2 | 4 => true,
        5 => word(PROCESS) == u64::from(std::process::id()),
        _ => false,
    };
    let decision = if word(KIND) == kind as u64 {
        match (count.checked_sub(nth), matches!(mode, 3 | 4)) {
            (None, _) => Decision::Pass,
            (Some(0), true) => Decision::Halve,
            (Some(1), true) | (Some(0), false) => Decision::Fail(number),
            // A full disk gives out what is on it.
            _ if goes_on && (!is_full || takes_space || kind != CallKind::Open) => {
                Decision::Fail(number)
            }
            _ => Decision::Pass,
        }
    } else if takes_space && goes_on && is_full && word(FAILED) > 0 {
        // Nor has it a place for new names.
        Decision::Fail(number)
    } else {
        Decision::Pass
    };
    if count == nth && word(KIND) == kind as u64 {
        page.words[PROCESS].store(u64::from(std::process::id()), Ordering::SeqCst);
    }
    if !matches!(decision, Decision::Pass) && page.words[FAILED].fetch_add(1, Ordering::SeqCst) == 0
    {
        note(page, name, place);
    }
    decision
}

/// Writes down the first call that failed.
fn note(page: &Page, name: &CStr, place: &Place<'_>) {
    let mut text = [0; TEXT_BYTES];
    let name = name.to_bytes();
    text[..name.len()].copy_from_slice(name);
    text[name.len()] = b' ';
    tracked::name(place, &mut text[name.len() + 1..TEXT_BYTES - 1]);
    for (byte, shared) in text.iter().zip(page.text) {
        shared.store(*byte, Ordering::SeqCst);
    }
}
