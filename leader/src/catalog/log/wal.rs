//! The write-ahead log beside a catalog file.
//!
//! SQLite takes the log to end at the first frame that does not fit, as it would after a crash within
//! the last commit, and says nothing. Since each commit is synced before the next begins, only frames
//! of the last one can be missing or torn after a crash: if later commits lie behind a frame that
//! does not fit, it was damaged, and they are lost.
//!
//! ```text
//! header   magic, version, page size, checkpoints, salts (8), checksum (8)              32 bytes
//! frame    page, pages after a commit or 0, salts (8), checksum (8)                     24 bytes
//!          the page
//! ```
//!
//! All numbers are big-endian. A frame's checksum goes over the first 8 bytes of its header and the
//! page, and begins where that of the frame before ended.

const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 24;
/// The page size of our catalogs, where the header cannot be believed.
const PAGE_BYTES: usize = 4096;
/// The lowest bit of the magic says in which byte order checksums read the words.
const MAGIC: u32 = 0x377f_0682;

type Checksum = (u32, u32);

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
    fn add(self, (mut first, mut second): Checksum, bytes: &[u8]) -> Checksum {
        for pair in bytes.chunks_exact(8) {
            let mut words = [[0; 4]; 2];
            words[0].copy_from_slice(&pair[..4]);
            words[1].copy_from_slice(&pair[4..]);
            let [one, two] = words.map(|word| match self {
                Self::Little => u32::from_le_bytes(word),
                Self::Big => u32::from_be_bytes(word),
            });
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(two).wrapping_add(first);
        }
        (first, second)
    }
}

/// How many commits lie behind a damage, and so are lost; 0 where the log may just end.
pub(crate) fn lost_commits(log: &[u8]) -> usize {
    let Some((header, frames)) = log.split_at_checked(HEADER_BYTES) else { return 0 };
    let order = if word(header, 0) & 1 == 0 { Order::Little } else { Order::Big };
    let stored = (word(header, 24), word(header, 28));
    let is_whole = word(header, 0) & !1 == MAGIC && order.add((0, 0), &header[..24]) == stored;
    let page_bytes = if is_whole { word(header, 8) as usize } else { PAGE_BYTES };
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
        std::fs::read(directory.path().join("t.sqlite-wal")).unwrap()
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
