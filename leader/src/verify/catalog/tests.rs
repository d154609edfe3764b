//! Every bit of a catalog, and of its write-ahead log: whatever is flipped is found, or what is read
//! is what was written.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use storage::ids::Xid;

use super::*;
use crate::catalog::Change;
use crate::catalog::log::NextIds;
use crate::verify::tests::{TABLE, changes_of_a_small_database, report};

type Rows = BTreeMap<String, Vec<String>>;

/// Which of so many bits are flipped: all if `BLUESHIFT_FLIPS` says so, else as many as it says, or
/// as given.
fn bits_to_flip(bits: usize, otherwise: usize) -> Vec<usize> {
    let asked = std::env::var("BLUESHIFT_FLIPS").unwrap_or_default();
    if asked == "all" {
        return (0..bits).collect();
    }
    let mut random = StdRng::seed_from_u64(2);
    (0..asked.parse().unwrap_or(otherwise)).map(|_| random.random_range(0..bits)).collect()
}

/// A catalog as a server leaves it that was stopped: a file, and nothing beside it.
struct Stopped {
    file: Vec<u8>,
    /// Who has which page: the name of a table, or `sqlite_master`.
    owners: Vec<String>,
}

/// All that is read of a catalog.
#[derive(Debug, PartialEq)]
struct Reading {
    rows: Rows,
    snapshot: String,
}

/// What became of flips.
#[derive(Debug, Default)]
struct Tally {
    /// By what was said, without its numbers.
    refused: BTreeMap<String, usize>,
    same: usize,
}

impl Stopped {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut log = CatalogLog::open(&path).unwrap();
        let next = NextIds { xid: 9, oid: 200_000, segment: 100 };
        log.commit(&[(Xid(8), &changes_of_a_small_database())], next).unwrap();
        assert_eq!(log.shape(1, 2).unwrap(), (1, 2));
        log.cluster_id().unwrap();
        drop(log);
        let file = fs::read(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        let page_bytes: u32 =
            connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
        // Every other table and index is small enough for one page.
        let mut owners = vec!["sqlite_master".to_owned(); file.len() / page_bytes as usize];
        let sql = "SELECT rootpage - 1, tbl_name FROM sqlite_master WHERE rootpage > 1";
        let mut query = connection.prepare(sql).unwrap();
        let mut roots = query.query([]).unwrap();
        while let Some(root) = roots.next().unwrap() {
            owners[root.get::<_, u32>(0).unwrap() as usize] = root.get(1).unwrap();
        }
        Self { file, owners }
    }

    /// Flips each of these bits by itself, in a file in this directory.
    fn flip(&self, bits: impl Iterator<Item = usize>, directory: &Path) -> Tally {
        let path = directory.join(FILE);
        let sound = self.read(&path, &self.file).unwrap();
        let (mut bytes, mut tally) = (self.file.clone(), Tally::default());
        for bit in bits {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = self.read(&path, &bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            match read {
                Ok(read) => {
                    assert!(read == sound, "bit {bit}: {read:?}");
                    tally.same += 1;
                }
                Err(problems) => {
                    self.check_place(bit, &problems);
                    *tally.refused.entry(kind_of(&problems[0])).or_default() += 1;
                }
            }
        }
        tally
    }

    /// What a server would start with, or what verify has against the file; both take the same for
    /// sound.
    fn read(&self, path: &Path, bytes: &[u8]) -> Result<Reading, Vec<String>> {
        for beside in ["-wal", "-shm", "-journal"] {
            let beside = PathBuf::from(format!("{}{beside}", path.display()));
            if beside.try_exists().unwrap() {
                fs::remove_file(beside).unwrap();
            }
        }
        fs::write(path, bytes).unwrap();
        let log = CatalogLog::mend_and_open(path).map_err(|error| vec![chain(&error)])?;
        let started = log.read().map_err(|error| vec![chain(&error)]);
        let verified = CatalogFile::check(log);
        match (started, verified) {
            (Ok((snapshot, next)), Ok(file)) => {
                let rows = file.log.rows().unwrap();
                Ok(Reading { rows, snapshot: format!("{snapshot:?} {next:?}") })
            }
            (Err(_), Err(problems)) => Err(problems),
            (started, verified) => {
                panic!("a server says {:?}, and verify {:?}", started.err(), verified.err())
            }
        }
    }

    /// Where rows are not those written, they are those of the page, or all are read in another way.
    fn check_place(&self, bit: usize, problems: &[String]) {
        let owner = &self.owners[bit / 8 / (self.file.len() / self.owners.len())];
        assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()));
        let (_, tables) = problems[0].split_once("the rows of ").unwrap_or_default();
        let names_it = tables.contains(owner.as_str()) || owner == "sqlite_master";
        assert!(tables.is_empty() || names_it, "bit {bit} of {owner}: {problems:?}");
    }
}

/// A problem without its numbers, and what else differs from one to the next.
fn kind_of(problem: &str) -> String {
    let words = problem.split_whitespace().take(8).map(|word| {
        let is_word =
            word.chars().all(|letter| letter.is_ascii_alphabetic() || "_:,".contains(letter));
        if is_word { word } else { "#" }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whatever bit of a catalog file is flipped: it is found by verify and at the start of a server, or
/// all that is read is what was written. Every bit, on all processors, with the file in memory:
///
/// ```text
/// TMPDIR=/dev/shm BLUESHIFT_FLIPS=all cargo nextest run --release ... --no-capture \
///     -E 'test(every_flip_in_a_catalog_file)'
/// ```
#[test]
fn every_flip_in_a_catalog_file_is_found_or_changes_nothing() {
    let stopped = Stopped::new();
    let bits = bits_to_flip(stopped.file.len() * 8, 3000);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let run = |first: usize| {
            let (stopped, bits) = (&stopped, &bits);
            scope.spawn(move || {
                let directory = tempfile::tempdir().unwrap();
                let own = bits.iter().copied().skip(first).step_by(threads);
                stopped.flip(own, directory.path())
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.same += tally.same;
        for (kind, count) in tally.refused {
            *all.refused.entry(kind).or_default() += count;
        }
    }
    let refused: usize = all.refused.values().sum();
    assert_eq!(refused + all.same, bits.len());
    assert!(refused > 0 && all.same > 0, "{all:?}");
    for (kind, count) in &all.refused {
        report(&format!("{count:8} {kind}"));
    }
    report(&format!(
        "{} flips in a file of {} pages: {refused} found, {} without effect, 0 wrong",
        bits.len(),
        stopped.owners.len(),
        all.same
    ));
}

/// A catalog as a server leaves it that was killed: the file, and its write-ahead log with the last
/// commits.
struct Killed {
    file: Vec<u8>,
    log: Vec<u8>,
}

impl Killed {
    fn new(changes: &[Change]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let beside = path.with_extension("sqlite-wal");
        let mut log = CatalogLog::open(&path).unwrap();
        let next = |xid| NextIds { xid, oid: 200_000, segment: 100 };
        log.commit(&[(Xid(8), changes)], next(9)).unwrap();
        // All of this is in the file itself.
        drop(log);
        let mut log = CatalogLog::open(&path).unwrap();
        for xid in 10..12 {
            let change = Change::TakeNumbers(TABLE, xid);
            log.commit(&[(Xid(xid), &[change])], next(xid + 1)).unwrap();
        }
        Self { file: fs::read(&path).unwrap(), log: fs::read(&beside).unwrap() }
    }

    /// The rows that a server would start with, by table, and those that verify reads. None is a
    /// refusal.
    fn read(&self) -> (Option<Rows>, Option<Rows>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, &self.file).unwrap();
        fs::write(path.with_extension("sqlite-wal"), &self.log).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let verified = CatalogFile::read(directory.path(), scratch.path()).unwrap();
        let verified = verified.ok().map(|file| file.log.rows().unwrap());
        let started = CatalogLog::mend_and_open(&path).and_then(|log| {
            log.read()?;
            log.rows()
        });
        (started.ok(), verified)
    }
}

/// The same of a file with commits in its log, which hide some of its pages. A sample: opening both
/// takes longer.
#[test]
fn flips_in_a_catalog_beside_its_log_are_found_or_change_no_row() {
    let mut bytes = Killed::new(&changes_of_a_small_database());
    let whole = bytes.read().0.unwrap();
    assert_eq!(bytes.read(), (Some(whole.clone()), Some(whole.clone())));
    let (mut refused, mut same) = (0, 0);
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..600 {
        let bit = random.random_range(0..bytes.file.len() * 8);
        bytes.file[bit / 8] ^= 1 << (bit % 8);
        let (started, verified) = bytes.read();
        bytes.file[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(started.is_some(), verified.is_some(), "bit {bit}");
        match (started, verified) {
            (None, None) => refused += 1,
            (started, verified) => {
                assert!(
                    [started, verified].iter().flatten().all(|rows| *rows == whole),
                    "bit {bit}"
                );
                same += 1;
            }
        }
    }
    assert!(refused > 0 && same > 0, "{refused} refused, {same} harmless");
}

/// Whatever bit of the write-ahead log is flipped: verify says so, and a server takes it back. No
/// commit is lost. A sample of as many bits as `BLUESHIFT_LOG_FLIPS` says; that each bit is found is
/// tested where it is found.
#[test]
fn flips_in_a_write_ahead_log_are_found_and_mended() {
    let mut bytes = Killed::new(&changes_of_a_small_database());
    let whole = bytes.read().0.unwrap();
    let flips = std::env::var("BLUESHIFT_LOG_FLIPS").map_or(60, |text| text.parse().unwrap());
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..flips {
        let bit = random.random_range(0..bytes.log.len() * 8);
        bytes.log[bit / 8] ^= 1 << (bit % 8);
        let (started, verified) = bytes.read();
        bytes.log[bit / 8] ^= 1 << (bit % 8);
        assert!(verified.is_none(), "bit {bit}");
        assert!(started == Some(whole.clone()), "bit {bit}: {started:?}");
    }
    report(&format!("{flips} flips in a log of {} bytes: each found, and mended", bytes.log.len()));
}
