//! What the environment asks for, and doing it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Call, Defect, Moment, Place};

/// A death that was asked for.
struct Kill {
    place: Place,
    /// Passes until then, this one included.
    left: AtomicU64,
}

/// Ends the process if that was asked for at this place.
///
/// # Panics
/// If the environment asks for something that does not exist: a test that means nothing must not
/// pass.
pub fn point(place: Place) {
    static KILL: OnceLock<Option<Kill>> = OnceLock::new();
    let Some(kill) = KILL.get_or_init(wanted_kill) else { return };
    // Wraps after the last one, and is never there again.
    if kill.place == place && kill.left.fetch_sub(1, Ordering::Relaxed) == 1 && mark(place) {
        // Nothing is flushed, no destructor runs.
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Whether the process is defective in this way.
///
/// # Panics
/// As [`point`].
pub fn planted(defect: Defect) -> bool {
    static DEFECT: OnceLock<Option<Defect>> = OnceLock::new();
    *DEFECT.get_or_init(|| {
        let name = std::env::var("BLUESHIFT_FAULT_PLANT").ok()?;
        Some(Defect::from_name(&name).expect("BLUESHIFT_FAULT_PLANT names a defect"))
    }) == Some(defect)
}

fn wanted_kill() -> Option<Kill> {
    let wanted = std::env::var("BLUESHIFT_FAULT_KILL").ok()?;
    let (place, passes) = wanted.split_once(':').expect("BLUESHIFT_FAULT_KILL is place:n");
    let place = Place::from_name(place).expect("BLUESHIFT_FAULT_KILL names a place");
    let passes = passes.parse().expect("BLUESHIFT_FAULT_KILL has a number of passes");
    Some(Kill { place, left: AtomicU64::new(passes) })
}

/// Whether this process is the first to die.
fn mark(place: Place) -> bool {
    let Some(file) = std::env::var_os("BLUESHIFT_FAULT_MARK") else { return true };
    let Ok(mut file) = OpenOptions::new().write(true).create_new(true).open(file) else {
        return false;
    };
    let written = writeln!(file, "{} {}", place.name(), std::process::id());
    written.is_ok()
}

/// Counts a message to a node, and says whether it is the one to lose.
///
/// # Panics
/// As [`point`]; and if the file is not as long as it should be.
pub fn loses(call: Call, moment: Moment) -> bool {
    static CALLS: OnceLock<Option<File>> = OnceLock::new();
    let file = CALLS.get_or_init(|| {
        let path = std::env::var_os("BLUESHIFT_FAULT_CALLS")?;
        let file = OpenOptions::new().read(true).write(true).open(path);
        Some(file.expect("BLUESHIFT_FAULT_CALLS names a file"))
    });
    let Some(file) = file else { return false };
    let number =
        Call::ALL.iter().position(|known| *known == call).expect("it is one of all") as u64;
    let count = add_one(file, 4 + 2 * number + moment as u64);
    let wanted = [number + 1, moment as u64, count];
    let is_wanted = (0..).zip(wanted).all(|(at, value)| word(file, at) == value);
    if is_wanted {
        add_one(file, 3);
    }
    is_wanted
}

fn word(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at * 8).expect("a word of BLUESHIFT_FAULT_CALLS");
    u64::from_le_bytes(bytes)
}

/// Counts over all processes and their threads.
fn add_one(file: &File, at: u64) -> u64 {
    static IN_PROCESS: Mutex<()> = Mutex::new(());
    let _here = IN_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    file.lock().expect("a lock of BLUESHIFT_FAULT_CALLS");
    let count = word(file, at) + 1;
    file.write_all_at(&count.to_le_bytes(), at * 8).expect("a word of BLUESHIFT_FAULT_CALLS");
    file.unlock().expect("a lock of BLUESHIFT_FAULT_CALLS");
    count
}
