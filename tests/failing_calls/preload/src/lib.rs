//! Stands before libc in a server (`LD_PRELOAD`): counts the calls on files below one directory, of
//! all processes that it is loaded into, and lets chosen ones fail. Everything else passes through.
//!
//! `FAILING_CALLS_DIRECTORY` is the start of the paths that count, `FAILING_CALLS_CONTROL` a file of
//! one page that all processes map and the harness reads and writes ([`control`]). Without both
//! nothing is done.
//!
//! Not here: calls that do not go through libc's symbols. The server makes none on its files: a run
//! under strace has as many of each kind as are counted here.

#![expect(
    unsafe_code,
    reason = "symbols of libc are replaced by C functions that get raw pointers from C callers"
)]

mod control;
mod tracked;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use control::{CallKind, Decision};
use libc::{DIR, iovec, mode_t, off_t, size_t, ssize_t};

/// The function of that name in the library after this one, looked up once.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn get(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string; RTLD_NEXT may be asked at any time.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            // SAFETY: ends the process. There is nothing to pass the call on to.
            unsafe { libc::abort() };
        }
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Calls the next library's function of that name and type.
macro_rules! next {
    ($name:literal as fn($($type:ty),*) -> $result:ty; $($argument:expr),*) => {{
        static NEXT: Next = Next::new($name);
        // SAFETY: the symbol is libc's own function of this name, whose C declaration has this type.
        // Its last parameter may be variadic in C, which on this platform is passed alike.
        let function = unsafe {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(NEXT.get())
        };
        // SAFETY: the arguments are the caller's own, who called the function of this name.
        unsafe { function($($argument),*) }
    }};
}

fn set_errno(number: c_int) {
    // SAFETY: libc gives each thread a place for its error number.
    unsafe { *libc::__errno_location() = number };
}

/// Fails with -1 if it was decided so.
macro_rules! fail_if_decided {
    ($decision:expr) => {
        if let Decision::Fail(number) = $decision {
            set_errno(number);
            return -1;
        }
    };
}

fn open_with(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    open: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: whoever calls open gives it a C string.
    let text = unsafe { CStr::from_ptr(path) };
    if !tracked::is_below(directory, text) {
        return open();
    }
    // Only a name that is not there yet takes space.
    let creates = flags & libc::O_CREAT != 0 && tracked::is_missing(directory, text);
    fail_if_decided!(control::decide_open(text, creates));
    let descriptor = open();
    tracked::opened(descriptor);
    descriptor
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_with(
        libc::AT_FDCWD,
        path,
        flags,
        || next!(c"open" as fn(*const c_char, c_int, mode_t) -> c_int; path, flags, mode),
    )
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_with(
        libc::AT_FDCWD,
        path,
        flags,
        || next!(c"open64" as fn(*const c_char, c_int, mode_t) -> c_int; path, flags, mode),
    )
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    open_with(directory, path, flags, || {
        next!(c"openat" as fn(c_int, *const c_char, c_int, mode_t) -> c_int;
              directory, path, flags, mode)
    })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    open_with(directory, path, flags, || {
        next!(c"openat64" as fn(c_int, *const c_char, c_int, mode_t) -> c_int;
              directory, path, flags, mode)
    })
}

/// Opens by itself what it then reads the names from.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn opendir(path: *const c_char) -> *mut DIR {
    // SAFETY: whoever calls it gives it a C string.
    let text = unsafe { CStr::from_ptr(path) };
    if tracked::is_below(libc::AT_FDCWD, text) {
        let place = tracked::Place::Path(text);
        if let Decision::Fail(number) = control::decide(CallKind::Open, c"opendir", &place) {
            set_errno(number);
            return std::ptr::null_mut();
        }
    }
    next!(c"opendir" as fn(*const c_char) -> *mut DIR; path)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    // Before the call: afterwards another thread may have got the number.
    tracked::closed(descriptor);
    next!(c"close" as fn(c_int) -> c_int; descriptor)
}

/// Closes the descriptor behind the directory without a call of [`close`].
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closedir(directory: *mut DIR) -> c_int {
    // SAFETY: the caller's open directory.
    tracked::closed(unsafe { libc::dirfd(directory) });
    next!(c"closedir" as fn(*mut DIR) -> c_int; directory)
}

/// Defines a function that reads an open file.
macro_rules! on_read {
    ($symbol:ident, $name:literal, ($($argument:ident: $type:ty),*)) => {
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $symbol(
            descriptor: c_int, buffer: *mut c_void, count: size_t $(, $argument: $type)*
        ) -> ssize_t {
            if tracked::is_tracked(descriptor) {
                let place = tracked::Place::Descriptor(descriptor);
                fail_if_decided!(control::decide(CallKind::Read, $name, &place));
            }
            next!($name as fn(c_int, *mut c_void, size_t $(, $type)*) -> ssize_t;
                  descriptor, buffer, count $(, $argument)*)
        }
    };
}

on_read!(read, c"read", ());
on_read!(pread, c"pread", (offset: off_t));
on_read!(pread64, c"pread64", (offset: off_t));

/// Decides over a write and makes it, or half of it, by `write`.
fn write_with(
    name: &'static CStr,
    descriptor: c_int,
    count: size_t,
    write: impl FnOnce(size_t) -> ssize_t,
) -> ssize_t {
    if !tracked::is_tracked(descriptor) {
        return write(count);
    }
    match control::decide(CallKind::Write, name, &tracked::Place::Descriptor(descriptor)) {
        Decision::Pass => write(count),
        Decision::Halve if count > 1 => write(count / 2),
        Decision::Halve => write(count),
        Decision::Fail(number) => {
            set_errno(number);
            -1
        }
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(descriptor: c_int, buffer: *const c_void, count: size_t) -> ssize_t {
    write_with(
        c"write",
        descriptor,
        count,
        |count| next!(c"write" as fn(c_int, *const c_void, size_t) -> ssize_t; descriptor, buffer, count),
    )
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    descriptor: c_int,
    buffer: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    write_with(c"pwrite", descriptor, count, |count| {
        next!(c"pwrite" as fn(c_int, *const c_void, size_t, off_t) -> ssize_t;
              descriptor, buffer, count, offset)
    })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    descriptor: c_int,
    buffer: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    write_with(c"pwrite64", descriptor, count, |count| {
        next!(c"pwrite64" as fn(c_int, *const c_void, size_t, off_t) -> ssize_t;
              descriptor, buffer, count, offset)
    })
}

/// Half of several buffers would be another call; all of them are written.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(descriptor: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    write_with(
        c"writev",
        descriptor,
        1,
        |_| next!(c"writev" as fn(c_int, *const iovec, c_int) -> ssize_t; descriptor, buffers, count),
    )
}

/// Defines a function on an open file.
macro_rules! on_descriptor {
    ($symbol:ident, $name:literal, $kind:expr, ($($argument:ident: $type:ty),*)) => {
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $symbol(descriptor: c_int $(, $argument: $type)*) -> c_int {
            if tracked::is_tracked(descriptor) {
                let place = tracked::Place::Descriptor(descriptor);
                fail_if_decided!(control::decide($kind, $name, &place));
            }
            next!($name as fn(c_int $(, $type)*) -> c_int; descriptor $(, $argument)*)
        }
    };
}

on_descriptor!(fsync, c"fsync", CallKind::Sync, ());
on_descriptor!(fdatasync, c"fdatasync", CallKind::Sync, ());
on_descriptor!(ftruncate, c"ftruncate", CallKind::Truncate, (length: off_t));
on_descriptor!(ftruncate64, c"ftruncate64", CallKind::Truncate, (length: off_t));

/// Defines a function on a path, with what comes after it.
macro_rules! on_path {
    ($symbol:ident, $name:literal, $kind:expr, ($($argument:ident: $type:ty),*)) => {
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $symbol(path: *const c_char $(, $argument: $type)*) -> c_int {
            // SAFETY: whoever calls it gives it a C string.
            let text = unsafe { CStr::from_ptr(path) };
            if tracked::is_below(libc::AT_FDCWD, text) {
                fail_if_decided!(control::decide($kind, $name, &tracked::Place::Path(text)));
            }
            next!($name as fn(*const c_char $(, $type)*) -> c_int; path $(, $argument)*)
        }
    };
}

on_path!(rename, c"rename", CallKind::Rename, (to: *const c_char));
on_path!(unlink, c"unlink", CallKind::Remove, ());
on_path!(rmdir, c"rmdir", CallKind::Remove, ());
on_path!(mkdir, c"mkdir", CallKind::MakeDirectory, (mode: mode_t));

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: whoever calls it gives it a C string.
    let text = unsafe { CStr::from_ptr(path) };
    if tracked::is_below(directory, text) {
        let place = tracked::Place::Path(text);
        fail_if_decided!(control::decide(CallKind::Remove, c"unlinkat", &place));
    }
    next!(c"unlinkat" as fn(c_int, *const c_char, c_int) -> c_int; directory, path, flags)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: whoever calls it gives it a C string.
    let text = unsafe { CStr::from_ptr(from) };
    if tracked::is_below(from_directory, text) {
        let place = tracked::Place::Path(text);
        fail_if_decided!(control::decide(CallKind::Rename, c"renameat2", &place));
    }
    next!(c"renameat2" as fn(c_int, *const c_char, c_int, *const c_char, c_uint) -> c_int;
          from_directory, from, to_directory, to, flags)
}
