//! Every bit of a small database, and random bits of a larger one: whatever is flipped is found, and
//! where it is; and what is done to a catalog file.

use std::collections::BTreeMap;
use std::fs;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use compute::Deletions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sql::types::SqlType;
use storage::deletion_vector::{DeletionVector, write_deletion_vector};
use storage::ids::{ColumnId, DeletionVectorId, SegmentId, SliceId, TableId, Xid};
use storage::io::MemoryIo;
use storage::row_set::RowSet;
use storage::schema::EncodeName;
use storage::segment::write_segment;
use storage::sort::sort_rows;
use storage::statistics::SegmentInfo;

use super::*;
use crate::catalog::log::{CatalogLog, NextIds};
use crate::catalog::{
    Change, Deletion, DistributionStyle, SchemaEntry, Snapshot, TableColumn, TableEntry, UserEntry,
};

const TABLE: TableId = TableId(7);
const DIRECTORY: &str = "/data/node0";

/// A table in two slices, one segment of which has deleted rows.
struct Database {
    io: MemoryIo,
    changes: Vec<Change>,
    snapshot: Snapshot,
    paths: Vec<PathBuf>,
}

impl Database {
    fn new(rows: i64) -> Self {
        let io = MemoryIo::new();
        io.create_directory(Path::new(DIRECTORY)).unwrap();
        let entry = entry();
        let write = |id: u64, slice: u32| {
            // Named as docs and operators know it.
            let path = format!("{DIRECTORY}/slice_{slice}/00000007-{id:016x}.seg");
            (write(&io, Path::new(&path), &entry, SegmentId(id), rows), PathBuf::from(path))
        };
        let ((first, first_path), (second, second_path)) = (write(16, 0), write(17, 1));
        let mut deleted = RowSet::new(second.row_count);
        deleted.insert(&[1, 2, 7]);
        let rows = Arc::new(deleted.clone());
        let vector = DeletionVector::new(DeletionVectorId(18), &second, deleted);
        let path = format!("{DIRECTORY}/slice_1/00000007-{:016x}-{:016x}.dv", 17, 18);
        let vector = write_deletion_vector(&io, Path::new(&path), &vector).unwrap();
        let segments = vec![(SliceId(0), first), (SliceId(1), Arc::clone(&second))];
        let deletion = Deletion {
            slice: SliceId(1),
            segment: second,
            base: None,
            vector: Some(Arc::new(vector)),
            rows,
        };
        let schema = SchemaEntry { oid: 3, name: "public".into(), owner: "awsuser".into() };
        let owner = UserEntry { oid: 1, name: "awsuser".into(), ..UserEntry::default() };
        let changes = vec![
            Change::PutUser(owner),
            Change::CreateSchema(schema),
            Change::CreateTable(Arc::new(entry)),
            Change::AddSegments(TABLE, DistributionStyle::Even, segments),
            Change::DeleteRows(TABLE, vec![deletion]),
        ];
        let mut snapshot = Snapshot::default();
        changes.iter().for_each(|change| snapshot.apply(change).unwrap());
        let paths = vec![first_path, second_path, PathBuf::from(path)];
        Self { io, changes, snapshot, paths }
    }

    fn findings(&self, depth: Depth) -> Vec<String> {
        let layout = Layout::new(1, 2).unwrap();
        let holder = Holder::Node { node: 0, copies: 1, layout };
        let io: Arc<dyn Io> = Arc::new(self.io.clone());
        let directory = Path::new(DIRECTORY);
        let report = NodeReport::new(&io, &self.snapshot, Some(0), directory, holder, depth);
        report.findings(&self.snapshot, std::slice::from_ref(&report))
    }

    /// Flips a bit, which has to be found, in the right file and once.
    fn flip(&self, path: &Path, bit: usize) {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        self.io.damage(path, flip).unwrap();
        let findings = self.findings(Depth::Checksums);
        self.io.damage(path, flip).unwrap();
        let [finding] = findings.as_slice() else {
            panic!("bit {bit} of {}: {findings:?}", path.display())
        };
        let is_right = finding.starts_with("table public.t, ")
            && finding.contains("is damaged (")
            && finding.ends_with(&format!(": file {}", path.display()));
        assert!(is_right, "bit {bit} of {}: {finding}", path.display());
    }

    fn bits(&self, path: &Path) -> usize {
        self.io.contents(path).unwrap().len() * 8
    }
}

fn entry() -> TableEntry {
    let column = |id, name: &str, sql_type| TableColumn {
        id: ColumnId(id),
        name: name.into(),
        sql_type,
        nullable: true,
        default: None,
        identity: None,
        encode: EncodeName::Auto,
    };
    TableEntry {
        id: TABLE,
        schema: "public".into(),
        name: "t".into(),
        owner: "awsuser".into(),
        columns: vec![
            column(1, "number", SqlType::BigInt),
            column(2, "word", SqlType::VarChar(40)),
        ],
        distribution: DistributionStyle::Even,
        is_automatic: false,
        sort_key: vec![],
        constraints: vec![],
        placement_fingerprint: 0,
        slices: vec![Vec::new(); 2],
        deletions: Deletions::default(),
        numbers_taken: 0,
    }
}

fn write(
    io: &dyn Io,
    path: &Path,
    entry: &TableEntry,
    id: SegmentId,
    rows: i64,
) -> Arc<SegmentInfo> {
    io.create_directory(path.parent().unwrap()).unwrap();
    let numbers: Int64Array = (0..rows).map(|row| (row % 5 != 0).then_some(row * row)).collect();
    let words: StringViewArray = (0..rows).map(|row| Some(format!("word {}", row % 7))).collect();
    let schema = Arc::new(entry.table_schema());
    let columns = vec![Arc::new(numbers) as _, Arc::new(words) as _];
    let batch = RecordBatch::try_new(entry.arrow_schema(), columns).unwrap();
    let sorted = sort_rows(&schema, vec![batch]).unwrap();
    Arc::new(write_segment(io, path, id, &schema, &sorted).unwrap())
}

#[test]
fn a_sound_database_has_nothing_wrong() {
    for rows in [12, 100_000] {
        let database = Database::new(rows);
        assert_eq!(database.findings(Depth::Values), Vec::<String>::new());
    }
}

#[test]
fn every_flipped_bit_of_every_file_is_found() {
    let database = Database::new(12);
    for path in &database.paths {
        (0..database.bits(path)).for_each(|bit| database.flip(path, bit));
    }
}

/// `BLUESHIFT_FLIPS` sets how many, `BLUESHIFT_SEED` which.
#[test]
fn random_flips_in_larger_files_are_found() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
    };
    let seed = number("BLUESHIFT_SEED", 1);
    let mut random = StdRng::seed_from_u64(seed);
    let database = Database::new(200_000);
    let sizes: Vec<usize> = database.paths.iter().map(|path| database.bits(path)).collect();
    assert!(sizes[0] > 8 * 300_000, "{sizes:?}");
    for _ in 0..number("BLUESHIFT_FLIPS", 300) {
        // Each file as often as the others: most bits are in the large ones.
        let file = random.random_range(0..sizes.len());
        database.flip(&database.paths[file], random.random_range(0..sizes[file]));
    }
}

#[test]
fn findings_name_the_column_and_the_block() {
    let database = Database::new(12);
    let path = database.paths[0].as_path();
    // The first block is of the first column: numbers have no shared part.
    database.io.damage(path, |bytes| bytes[64] ^= 1).unwrap();
    let findings = database.findings(Depth::Values);
    let expected = "table public.t, column number, row group 0, block of ";
    assert!(findings.len() == 1 && findings[0].starts_with(expected), "{findings:?}");
    assert!(findings[0].contains(" bytes at byte 64 is damaged (its checksum does not fit)"));
    database.io.damage(path, |bytes| bytes[64] ^= 1).unwrap();
    database.io.remove(path).unwrap();
    let missing = format!("table public.t: file {} is missing", path.display());
    assert_eq!(database.findings(Depth::Checksums), [missing]);
}

/// A file of an earlier state under the right name, and one that is cut off.
#[test]
fn other_files_of_the_same_name_are_found() {
    let database = Database::new(12);
    let path = database.paths[0].as_path();
    let entry = entry();
    write(&database.io, Path::new("/data/other"), &entry, SegmentId(16), 11);
    let (own, other) = (
        database.io.contents(path).unwrap(),
        database.io.contents(Path::new("/data/other")).unwrap(),
    );
    database.io.damage(path, |bytes| *bytes = other).unwrap();
    let findings = database.findings(Depth::Checksums);
    assert!(findings[0].contains("it is another file than the catalog knows"), "{findings:?}");
    for length in [0, 1, 64, own.len() - 1] {
        database.io.damage(path, |bytes| *bytes = own[..length].to_vec()).unwrap();
        assert_eq!(database.findings(Depth::Checksums).len(), 1, "{length} bytes");
    }
}

/// A catalog as a server leaves it that was killed: the file, and its write-ahead log with the last
/// commits.
struct CatalogBytes {
    file: Vec<u8>,
    log: Vec<u8>,
}

impl CatalogBytes {
    fn new(changes: &[Change]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(catalog::FILE);
        let beside = path.with_extension("sqlite-wal");
        let mut log = CatalogLog::open(&path).unwrap();
        let next = |xid| NextIds { xid, oid: 200_000, segment: 100 };
        log.commit(Xid(8), changes, next(9)).unwrap();
        // All of this is in the file itself.
        drop(log);
        let mut log = CatalogLog::open(&path).unwrap();
        for xid in 10..12 {
            let change = Change::TakeNumbers(TABLE, xid);
            log.commit(Xid(xid), &[change], next(xid + 1)).unwrap();
        }
        Self { file: fs::read(&path).unwrap(), log: fs::read(&beside).unwrap() }
    }

    /// The rows that a server would start with, by table, and those that verify reads. None is a
    /// refusal.
    fn read(&self) -> (Option<Rows>, Option<Rows>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(catalog::FILE);
        fs::write(&path, &self.file).unwrap();
        fs::write(path.with_extension("sqlite-wal"), &self.log).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let verified = CatalogFile::read(directory.path(), scratch.path()).unwrap();
        let verified = verified.ok().map(|file| file.rows().unwrap());
        let started = CatalogLog::mend_and_open(&path).and_then(|log| {
            log.read()?;
            log.rows()
        });
        (started.ok(), verified)
    }
}

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

/// Whatever bit of a catalog file is flipped: it is found by verify and at the start of a server, or
/// every row is what it was.
#[test]
fn every_flip_in_a_catalog_is_found_or_changes_no_row() {
    let mut bytes = CatalogBytes::new(&Database::new(12).changes);
    let whole = bytes.read().0.unwrap();
    assert_eq!(bytes.read(), (Some(whole.clone()), Some(whole.clone())));
    let (mut refused, mut same) = (0, 0);
    for bit in bits_to_flip(bytes.file.len() * 8, 600) {
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
/// commit is lost.
#[test]
fn every_flip_in_a_write_ahead_log_is_found_and_mended() {
    let mut bytes = CatalogBytes::new(&Database::new(12).changes);
    let whole = bytes.read().0.unwrap();
    for bit in bits_to_flip(bytes.log.len() * 8, 60) {
        bytes.log[bit / 8] ^= 1 << (bit % 8);
        let (started, verified) = bytes.read();
        bytes.log[bit / 8] ^= 1 << (bit % 8);
        assert!(verified.is_none(), "bit {bit}");
        assert!(started == Some(whole.clone()), "bit {bit}: {started:?}");
    }
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = VerifyOptions {
        data_dir: directory.path().to_owned(),
        file: FileConfig::default(),
        depth: Depth::Values,
    };
    let refused = verify(&options, &mut Vec::new()).unwrap_err().to_string();
    assert!(refused.ends_with("is not a data directory"), "{refused}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
