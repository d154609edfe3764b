//! Which files count: those whose path begins with the directory, and the descriptors of such.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Descriptors from here on are not looked at. A server has a few hundred.
const DESCRIPTORS_MAX: usize = 65_536;

static TRACKED: [AtomicBool; DESCRIPTORS_MAX] = [const { AtomicBool::new(false) }; DESCRIPTORS_MAX];

/// What a call is on.
pub(crate) enum Place<'a> {
    Descriptor(c_int),
    Path(&'a CStr),
}

/// The value of a variable of the environment, which stays where it is.
pub(crate) fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name is a C string. The harness sets the variables before the process begins, and
    // nobody in it changes them.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: what getenv gives is a C string.
    Some(unsafe { CStr::from_ptr(value) })
}

fn directory() -> Option<&'static [u8]> {
    static DIRECTORY: OnceLock<Option<&'static [u8]>> = OnceLock::new();
    *DIRECTORY.get_or_init(|| variable(c"FAILING_CALLS_DIRECTORY").map(CStr::to_bytes))
}

/// Whether a path counts. One that is relative counts if the directory that it is relative to does.
pub(crate) fn is_below(from: c_int, path: &CStr) -> bool {
    let bytes = path.to_bytes();
    if bytes.first() == Some(&b'/') {
        return directory().is_some_and(|directory| bytes.starts_with(directory));
    }
    is_tracked(from)
}

/// Whether nothing has that name.
pub(crate) fn is_missing(from: c_int, path: &CStr) -> bool {
    // SAFETY: a C string, and a descriptor that at worst is not open.
    unsafe { libc::faccessat(from, path.as_ptr(), libc::F_OK, 0) != 0 }
}

pub(crate) fn is_tracked(descriptor: c_int) -> bool {
    slot(descriptor).is_some_and(|slot| slot.load(Ordering::Relaxed))
}

/// Called with what open answered, which may be -1.
pub(crate) fn opened(descriptor: c_int) {
    if let Some(slot) = slot(descriptor) {
        slot.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn closed(descriptor: c_int) {
    if let Some(slot) = slot(descriptor) {
        slot.store(false, Ordering::Relaxed);
    }
}

fn slot(descriptor: c_int) -> Option<&'static AtomicBool> {
    TRACKED.get(usize::try_from(descriptor).ok()?)
}

/// Writes what the place is called to `out`; answers how many bytes that are.
pub(crate) fn name(place: &Place<'_>, out: &mut [u8]) -> usize {
    match place {
        Place::Path(path) => {
            let bytes = path.to_bytes();
            let count = bytes.len().min(out.len());
            out[..count].copy_from_slice(&bytes[..count]);
            count
        }
        Place::Descriptor(descriptor) => {
            let mut link = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
            let mut digits = [0; 10];
            let mut rest = descriptor.unsigned_abs();
            let mut first = digits.len();
            loop {
                first -= 1;
                digits[first] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            link[14..14 + digits.len() - first].copy_from_slice(&digits[first..]);
            // SAFETY: the link is a C string, and the kernel writes no more than there is place.
            let count = unsafe {
                libc::readlink(
                    link.as_ptr().cast::<c_char>(),
                    out.as_mut_ptr().cast::<c_char>(),
                    out.len(),
                )
            };
            usize::try_from(count).unwrap_or(0)
        }
    }
}
