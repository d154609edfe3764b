//! The write-ahead log beside a catalog file.
//!
//! SQLite takes the log to end at the first frame that does not fit, as it would after a crash within
//! the last commit, and says nothing. Since each commit is synced before the next begins, only frames
//! of the last one can be missing or torn after a crash: if later commits lie behind a frame that
//! does not fit, it was damaged, and they are lost.
//!
//! A frame that one flipped bit keeps from fitting was not torn: of the 2^64 checksums only one is
//! right for what is there but for that bit. So a flip is known wherever it is, also in the last
//! commit, and can be taken back.
//!
//! ```text
//! header   magic, version, page size, checkpoints, salts (8), checksum (8)              32 bytes
//! frame    page, pages after a commit or 0, salts (8), checksum (8)                     24 bytes
//!          the page
//! ```
//!
//! All numbers are big-endian. A frame's checksum goes over the first 8 bytes of its header and the
//! page, and begins where that of the frame before ended.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Flipped bits of one log that are mended; more are no accident of single bits.
const FLIPS_MAX: usize = 8;
const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 24;
/// The page size of our catalogs, where the header cannot be believed.
const PAGE_BYTES: usize = 4096;
/// What SQLite takes for a page.
const PAGE_BYTES_MIN: usize = 512;
const PAGE_BYTES_MAX: usize = 65_536;
/// The lowest bit of the magic says in which byte order checksums read the words.
const MAGIC: u32 = 0x377f_0682;

type Checksum = (u32, u32);

/// What a log tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is whole, or ends where a crash may have left it.
    Sound,
    /// A bit is not as it was written, and all else is. It is one of these: the checksums tell that
    /// there is one, but bits of the same place in their words may change them in the same way.
    Flipped(Vec<Bit>),
    /// So many commits lie behind a damage that is more than a bit.
    Lost(usize),
}

/// A bit of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bit {
    byte: usize,
    /// From the lowest.
    bit: u8,
}

impl Bit {
    fn flip(self, bytes: &mut [u8]) {
        bytes[self.byte] ^= 1 << self.bit;
    }
}

impl Finding {
    /// What is wrong, in words for who has to do something about it.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Sound => None,
            Self::Flipped(bits) => {
                let bytes: Vec<usize> = bits.iter().map(|bit| bit.byte).collect();
                let (first, last) = (bytes.iter().min()?, bytes.iter().max()?);
                let place = match first == last {
                    true => format!("byte {first}"),
                    false => format!("one of the bytes {first} to {last}"),
                };
                Some(format!(
                    "a bit of its write-ahead log is flipped, in {place}; a server that starts \
                     mends it"
                ))
            }
            Self::Lost(commits) => {
                Some(format!("its write-ahead log is damaged, and the last {commits} commits lost"))
            }
        }
    }
}

/// Looks through a log up to the first damage.
pub(crate) fn examine(log: &[u8]) -> Finding {
    let Some((header, _)) = log.split_at_checked(HEADER_BYTES) else { return Finding::Sound };
    if !is_header(header) {
        return flipped(flips_in_header(log)).unwrap_or_else(|| lost(log));
    }
    let order = order_of(header);
    let frame_bytes = FRAME_BYTES + page_bytes(header);
    let mut before = header_checksum(header);
    for (at, bytes) in log[HEADER_BYTES..].chunks_exact(frame_bytes).enumerate() {
        let frame = Frame { header: &bytes[..FRAME_BYTES], page: &bytes[FRAME_BYTES..] };
        if !frame.fits(order, before, &header[16..24]) {
            let mut bits = flips_in_frame(bytes, order, before, &header[16..24]);
            bits.iter_mut().for_each(|bit| bit.byte += HEADER_BYTES + at * frame_bytes);
            return flipped(bits).unwrap_or_else(|| lost(log));
        }
        before = frame.stored();
    }
    Finding::Sound
}

fn flipped(bits: Vec<Bit>) -> Option<Finding> {
    (!bits.is_empty()).then_some(Finding::Flipped(bits))
}

fn lost(log: &[u8]) -> Finding {
    match lost_commits(log) {
        0 => Finding::Sound,
        lost => Finding::Lost(lost),
    }
}

/// The bits without whose flip the header is one, and that of the frames.
fn flips_in_header(log: &[u8]) -> Vec<Bit> {
    let (mut header, frames) = (log[..HEADER_BYTES].to_vec(), &log[HEADER_BYTES..]);
    let mut found = Vec::new();
    for place in 0..HEADER_BYTES * 8 {
        let bit = Bit { byte: place / 8, bit: (place % 8) as u8 };
        bit.flip(&mut header);
        if is_header(&header) {
            let frame = frames.chunks_exact(FRAME_BYTES + page_bytes(&header)).next();
            let fits = frame.is_none_or(|bytes| {
                let frame = Frame { header: &bytes[..FRAME_BYTES], page: &bytes[FRAME_BYTES..] };
                frame.fits(order_of(&header), header_checksum(&header), &header[16..24])
            });
            if fits {
                found.push(bit);
            }
        }
        bit.flip(&mut header);
    }
    found
}

/// The bits without whose flip a frame fits that does not.
fn flips_in_frame(bytes: &[u8], order: Order, before: Checksum, salts: &[u8]) -> Vec<Bit> {
    let frame = Frame { header: &bytes[..FRAME_BYTES], page: &bytes[FRAME_BYTES..] };
    let found = order.add(order.add(before, &frame.header[..8]), frame.page);
    let stored = frame.stored();
    if frame.salts() != salts {
        // What an earlier use of the file has left has other salts altogether.
        return if found == stored { single_flip(frame.salts(), salts, 8) } else { Vec::new() };
    }
    let computed = [found.0.to_be_bytes(), found.1.to_be_bytes()].concat();
    let mut bits = single_flip(&frame.header[16..24], &computed, 16);
    // A change of a word changes the sums by a multiple that only the place of the word decides.
    let missing = (stored.0.wrapping_sub(found.0), stored.1.wrapping_sub(found.1));
    let (mut of_first, mut of_second): (Checksum, Checksum) = ((1, 1), (0, 1));
    for start in (FRAME_BYTES..bytes.len()).step_by(8).rev().chain([0]) {
        for (word, multiple) in [(start, of_first), (start + 4, of_second)] {
            let flip = flip_in_word(&bytes[word..word + 4], order, multiple, missing);
            bits.extend(flip.map(|bit| Bit { byte: word + bit.byte, ..bit }));
        }
        let through = |(first, second): Checksum| {
            let first = first.wrapping_add(second);
            (first, second.wrapping_add(first))
        };
        (of_first, of_second) = (through(of_first), through(of_second));
    }
    bits
}

/// The bit in which bytes that begin at `start` differ from what they should be, if it is one.
fn single_flip(bytes: &[u8], expected: &[u8], start: usize) -> Vec<Bit> {
    let differing = |(at, (found, expected)): (usize, (&u8, &u8))| {
        let bits = (0..8).filter(move |bit| (found ^ expected) & (1 << bit) != 0);
        bits.map(move |bit| Bit { byte: start + at, bit }).collect::<Vec<_>>()
    };
    let bits: Vec<Bit> = bytes.iter().zip(expected).enumerate().flat_map(differing).collect();
    if bits.len() == 1 { bits } else { Vec::new() }
}

/// The bit of a word whose change adds what is missing.
fn flip_in_word(bytes: &[u8], order: Order, multiple: Checksum, missing: Checksum) -> Option<Bit> {
    let value = order.word([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let place = (0..u32::BITS).find(|place| {
        let unit = 1_u32 << place;
        let change = if value & unit == 0 { unit } else { unit.wrapping_neg() };
        (multiple.0.wrapping_mul(change), multiple.1.wrapping_mul(change)) == missing
    })? as usize;
    let byte = match order {
        Order::Little => place / 8,
        Order::Big => 3 - place / 8,
    };
    Some(Bit { byte, bit: (place % 8) as u8 })
}

/// Takes back flipped bits in the log beside a catalog file that no server has open yet. Nothing else is
/// touched.
///
/// Of several bits that it may be, `writes` knows the right one: given the whole log, it says how many
/// writes are in a catalog with it, if that is a sound one. The most are right: a wrong bit may hide
/// the last commit, and what was before that is sound too.
///
/// # Errors
/// If commits are lost that cannot be brought back, and if the file cannot be read or written.
pub(crate) fn mend(path: &Path, writes: impl Fn(&[u8]) -> Option<u64>) -> Result<()> {
    let failed = |action: &str| {
        let action = format!("{action} {}", path.display());
        move |source| Error::Io { action, source }
    };
    let mut log = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(failed("read"))?,
    };
    for _ in 0..FLIPS_MAX {
        let finding = examine(&log);
        let right = match &finding {
            Finding::Sound => return Ok(()),
            Finding::Flipped(bits) => match bits.as_slice() {
                [bit] => Some(*bit),
                several => {
                    let mut tried = Vec::new();
                    for bit in several {
                        bit.flip(&mut log);
                        let is_whole = examine(&log) == Finding::Sound;
                        tried.extend(is_whole.then(|| writes(&log)).flatten().map(|n| (n, *bit)));
                        bit.flip(&mut log);
                    }
                    tried.into_iter().max_by_key(|(writes, _)| *writes).map(|(_, bit)| bit)
                }
            },
            Finding::Lost(_) => None,
        };
        let Some(right) = right else { return Err(damaged(&finding, path)) };
        right.flip(&mut log);
        let Bit { byte, bit } = right;
        let write = || {
            let file = File::options().write(true).open(path)?;
            file.write_all_at(&log[byte..=byte], byte as u64)?;
            file.sync_all()
        };
        write().map_err(failed("write"))?;
        let file = path.display();
        tracing::warn!(%file, byte, bit, "a flipped bit of the write-ahead log was mended");
    }
    match examine(&log) {
        Finding::Sound => Ok(()),
        finding => Err(damaged(&finding, path)),
    }
}

fn damaged(finding: &Finding, path: &Path) -> Error {
    let problem = match finding {
        Finding::Lost(_) => finding.problem().unwrap_or_default(),
        Finding::Sound | Finding::Flipped(_) => "bits of its write-ahead log are flipped".into(),
    };
    let file = path.display();
    Error::CatalogDamaged(format!(
        "{problem}: {file}; bring back the data directory from a backup, or the catalog from the \
         nodes' copies with --restore-catalog"
    ))
}

fn is_header(header: &[u8]) -> bool {
    word(header, 0) & !1 == MAGIC
        && order_of(header).add((0, 0), &header[..24]) == header_checksum(header)
        && page_bytes(header).is_power_of_two()
        && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes(header))
}

fn order_of(header: &[u8]) -> Order {
    if word(header, 0) & 1 == 0 { Order::Little } else { Order::Big }
}

fn header_checksum(header: &[u8]) -> Checksum {
    (word(header, 24), word(header, 28))
}

fn page_bytes(header: &[u8]) -> usize {
    word(header, 8) as usize
}

/// A frame of the log.
struct Frame<'w> {
    header: &'w [u8],
    page: &'w [u8],
}

impl Frame<'_> {
    fn is_commit(&self) -> bool {
        word(self.header, 4) != 0
    }

    fn salts(&self) -> &[u8] {
        &self.header[8..16]
    }

    fn stored(&self) -> Checksum {
        (word(self.header, 16), word(self.header, 20))
    }

    fn fits(&self, order: Order, before: Checksum, salts: &[u8]) -> bool {
        let found = order.add(order.add(before, &self.header[..8]), self.page);
        found == self.stored() && self.salts() == salts
    }
}

/// The order of the bytes in the words that are summed.
#[derive(Debug, Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn add(self, (mut first, mut second): Checksum, bytes: &[u8]) -> Checksum {
        for pair in bytes.chunks_exact(8) {
            let mut words = [[0; 4]; 2];
            words[0].copy_from_slice(&pair[..4]);
            words[1].copy_from_slice(&pair[4..]);
            let [one, two] = words.map(|word| self.word(word));
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(two).wrapping_add(first);
        }
        (first, second)
    }
}

/// How many commits lie behind a damage, and so are lost; 0 where the log may just end.
fn lost_commits(log: &[u8]) -> usize {
    let Some((header, frames)) = log.split_at_checked(HEADER_BYTES) else { return 0 };
    let (order, stored, is_whole) = (order_of(header), header_checksum(header), is_header(header));
    let page_bytes = if is_whole { page_bytes(header) } else { PAGE_BYTES };
    let frames: Vec<Frame<'_>> = frames
        .chunks_exact(FRAME_BYTES + page_bytes)
        .map(|frame| Frame { header: &frame[..FRAME_BYTES], page: &frame[FRAME_BYTES..] })
        .collect();
    if is_whole {
        return commits_behind(&frames, order, stored, &header[16..24]);
    }
    // The first frame still says which salts and which order the others have.
    let Some((first, rest)) = frames.split_first() else { return 0 };
    let behind = |order| commits_in_run(rest, order, first.stored(), first.salts());
    let behind = behind(Order::Little).max(behind(Order::Big)) + usize::from(first.is_commit());
    if behind > 1 { behind } else { 0 }
}

fn commits_behind(frames: &[Frame<'_>], order: Order, start: Checksum, salts: &[u8]) -> usize {
    let mut before = start;
    for (at, frame) in frames.iter().enumerate() {
        if !frame.fits(order, before, salts) {
            let rest = &frames[at + 1..];
            // If it is the checksum that is damaged, the next frame does not fit either.
            let behind = match rest.split_first() {
                None => 0,
                Some((next, rest)) => {
                    let run = match next.fits(order, frame.stored(), salts) {
                        true => usize::from(next.is_commit()),
                        false => usize::from(next.is_commit() && next.salts() == salts),
                    };
                    run + commits_in_run(rest, order, next.stored(), salts)
                }
            };
            let behind = behind + usize::from(frame.is_commit());
            // One may be the last commit, which a crash has torn.
            return if behind > 1 { behind } else { 0 };
        }
        before = frame.stored();
    }
    0
}

/// The commits among frames that follow one another.
fn commits_in_run(frames: &[Frame<'_>], order: Order, start: Checksum, salts: &[u8]) -> usize {
    let mut before = start;
    let run = frames.iter().take_while(|frame| {
        let fits = frame.fits(order, before, salts);
        before = frame.stored();
        fits
    });
    run.filter(|frame| frame.is_commit()).count()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A log of as many commits, as SQLite writes it.
    fn log(commits: usize) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        for commit in 0..commits {
            let sql = format!("CREATE TABLE t{commit} (a); INSERT INTO t{commit} VALUES (1);");
            connection.execute_batch(&format!("BEGIN; {sql} COMMIT;")).unwrap();
        }
        fs::read(directory.path().join("t.sqlite-wal")).unwrap()
    }

    fn frames(log: &[u8]) -> usize {
        (log.len() - HEADER_BYTES) / (FRAME_BYTES + PAGE_BYTES)
    }

    #[test]
    fn a_log_that_ends_anywhere_has_lost_nothing() {
        let whole = log(4);
        assert_eq!(word(&whole, 8) as usize, PAGE_BYTES);
        assert!(frames(&whole) >= 8);
        for end in (0..=whole.len()).step_by(97) {
            assert_eq!(lost_commits(&whole[..end]), 0, "cut at {end}");
        }
    }

    /// Every bit, the last commit's too. Each is told from a torn write, and where it is.
    #[test]
    fn every_flipped_bit_is_found_where_it_is() {
        let mut log = log(2);
        assert_eq!(examine(&log), Finding::Sound);
        for byte in 0..log.len() {
            for bit in 0..8 {
                log[byte] ^= 1 << bit;
                let own = Bit { byte, bit };
                let found = examine(&log);
                let is_found = matches!(&found, Finding::Flipped(bits) if bits.contains(&own));
                assert!(is_found, "{own:?}: {found:?}");
                log[byte] ^= 1 << bit;
            }
        }
    }

    /// Whatever a crash leaves of the last frames is no flip: nothing, old bytes or zeros in any
    /// part of them.
    #[test]
    fn a_torn_write_is_no_flip() {
        let (whole, other) = (log(4), log(4));
        for end in (0..=whole.len()).step_by(41) {
            assert_eq!(examine(&whole[..end]), Finding::Sound, "cut at {end}");
        }
        let last = whole.len() - FRAME_BYTES - PAGE_BYTES;
        let check = |torn: &[u8], what: &str| {
            let differing = torn.iter().zip(&whole).map(|(a, b)| (a ^ b).count_ones());
            // What differs in one bit only is a flip, whoever made it.
            if differing.sum::<u32>() != 1 {
                assert_eq!(examine(torn), Finding::Sound, "{what}");
            }
        };
        for end in last..whole.len() {
            for rest in [vec![0; whole.len() - end], other[end..].to_vec()] {
                check(&[&whole[..end], &rest].concat(), &format!("torn at {end}"));
            }
        }
        for start in (last + FRAME_BYTES..whole.len()).step_by(512) {
            let mut torn = whole.clone();
            torn[start..start + 512].fill(0);
            check(&torn, &format!("without the sector at {start}"));
        }
    }

    #[test]
    fn flips_are_mended_and_more_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.sqlite-wal");
        let whole = log(4);
        let mend = |damaged: &[u8]| {
            fs::write(&path, damaged).unwrap();
            mend(&path, |mended| (mended == whole).then_some(1)).map(|()| fs::read(&path).unwrap())
        };
        let mut damaged = whole.clone();
        for byte in [3, 40, 5000, whole.len() - 1] {
            damaged[byte] ^= 4;
            assert_eq!(mend(&damaged).unwrap(), whole, "byte {byte}");
            damaged[byte] ^= 0x84;
            assert_eq!(mend(&damaged).unwrap(), whole, "byte {byte}");
            damaged[byte] ^= 0x80;
        }
        for byte in [40, 5000] {
            damaged[byte] ^= 1;
        }
        assert_eq!(mend(&damaged).unwrap(), whole);
        damaged[100..140].fill(7);
        let error = mend(&damaged).unwrap_err().to_string();
        assert!(error.contains("commits lost"), "{error}");
    }

    #[test]
    fn a_flip_before_the_last_commit_is_noticed() {
        let mut log = log(4);
        let last = log.len() - (FRAME_BYTES + PAGE_BYTES);
        let commits: Vec<usize> = (0..frames(&log))
            .map(|frame| HEADER_BYTES + frame * (FRAME_BYTES + PAGE_BYTES))
            .filter(|start| word(&log, start + 4) != 0)
            .collect();
        assert_eq!((commits.len(), commits[3]), (4, last));
        let headers = commits.iter().flat_map(|start| *start..start + FRAME_BYTES);
        let bytes: Vec<usize> =
            (0..HEADER_BYTES).chain((HEADER_BYTES..log.len()).step_by(61)).chain(headers).collect();
        for at in bytes {
            for bit in [0, 7] {
                log[at] ^= 1 << bit;
                let lost = lost_commits(&log);
                log[at] ^= 1 << bit;
                // Of the last commit but one and of what is before, all that follows is lost.
                let whole = commits.iter().filter(|start| at >= *start + FRAME_BYTES + PAGE_BYTES);
                let behind = 4 - whole.count();
                // A frame may look like a commit, or not any more.
                let is_noticed = behind == 1 || (lost > 1 && lost <= behind + 1);
                assert!(is_noticed, "byte {at}: {lost} lost of {behind}");
            }
        }
    }
}
