//! What the environment asks for, and doing it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Defect, Place};

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
