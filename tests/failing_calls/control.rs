//! The harness's side of the pages that it shares with the server: one with the preloaded library for
//! calls on files (`preload/src/control.rs`), one with the server itself for messages
//! (`tests/faults/src/lib.rs`). Both hold little-endian words of 64 bits.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use faults::{Call, Moment};

use crate::case::{Case, Fault, Kind, Mode};
use crate::codes::FailedCall;

const PAGE_BYTES: usize = 4096;
/// Where the calls' page says which call failed first.
const TEXT_AT: u64 = 256;
const TEXT_BYTES: usize = 1024;

/// Words of the page for calls.
const MODE: u64 = 0;
const KIND: u64 = 1;
const NTH: u64 = 2;
const NUMBER: u64 = 3;
const FAILED: u64 = 4;
const COUNTS: u64 = 8;

/// Words of the page for messages.
const MESSAGE: u64 = 0;
const MOMENT: u64 = 1;
const WHICH: u64 = 2;
const LOST: u64 = 3;
const MESSAGE_COUNTS: u64 = 4;

/// A page. Reads and writes of a file and mappings of it see the same bytes.
struct Page {
    path: PathBuf,
    file: File,
}

impl Page {
    fn create(path: PathBuf) -> Page {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(PAGE_BYTES as u64).unwrap();
        Page { path, file }
    }

    fn clear(&self) {
        self.file.write_all_at(&[0; PAGE_BYTES], 0).unwrap();
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at * 8).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn set(&self, at: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), at * 8).unwrap();
    }
}

/// Says what shall fail, and knows what did.
pub(crate) struct Control {
    calls: Page,
    messages: Page,
}

impl Control {
    pub(crate) fn create(directory: &Path) -> Control {
        let page = |name| Page::create(directory.join(name));
        Control { calls: page("calls"), messages: page("messages") }
    }

    /// The file for calls, and the one for messages.
    pub(crate) fn paths(&self) -> [&Path; 2] {
        [&self.calls.path, &self.messages.path]
    }

    /// Counts from 0 on, and lets calls fail as the case says.
    pub(crate) fn arm(&self, case: &Case) {
        self.calls.clear();
        self.messages.clear();
        match case.fault {
            Fault::Nothing => {}
            Fault::File(kind, failure, mode) => {
                self.calls.set(KIND, kind as u64);
                self.calls.set(NTH, case.nth);
                self.calls.set(NUMBER, failure.number());
                let mode = match mode {
                    Mode::Once => 1,
                    Mode::Sticky => 2,
                    Mode::Short => 3,
                    Mode::StickyShort => 4,
                    Mode::StickyThere => 5,
                };
                self.calls.set(MODE, mode);
            }
            Fault::Message(call, moment) => {
                self.messages.set(MOMENT, moment as u64);
                self.messages.set(WHICH, case.nth);
                self.messages.set(MESSAGE, number(call) + 1);
            }
        }
    }

    /// Lets everything pass from now on.
    pub(crate) fn disarm(&self) {
        self.calls.set(MODE, 0);
        self.messages.set(MESSAGE, 0);
    }

    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.calls.word(COUNTS + kind as u64)
    }

    /// How many messages of a kind have reached a node.
    pub(crate) fn count_messages(&self, call: Call) -> u64 {
        self.messages.word(MESSAGE_COUNTS + 2 * number(call) + Moment::Before as u64)
    }

    /// How many calls of the case's kind, or messages at its moment, there were.
    pub(crate) fn count_of(&self, case: &Case) -> u64 {
        match case.fault {
            Fault::Nothing => 0,
            Fault::File(kind, ..) => self.count(kind),
            Fault::Message(call, moment) => {
                self.messages.word(MESSAGE_COUNTS + 2 * number(call) + moment as u64)
            }
        }
    }

    /// The first call that failed, if one has.
    pub(crate) fn failed(&self, case: &Case) -> Option<FailedCall> {
        if let Fault::Message(call, _) = case.fault {
            return (self.messages.word(LOST) > 0).then(|| FailedCall(call.name().to_owned()));
        }
        if self.calls.word(FAILED) == 0 {
            return None;
        }
        let mut text = [0; TEXT_BYTES];
        self.calls.file.read_exact_at(&mut text, TEXT_AT).unwrap();
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(TEXT_BYTES);
        Some(FailedCall(String::from_utf8_lossy(&text[..end]).into_owned()))
    }
}

/// The call's place in the page.
fn number(call: Call) -> u64 {
    Call::ALL.iter().position(|known| *known == call).unwrap() as u64
}
