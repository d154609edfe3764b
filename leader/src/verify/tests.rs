//! Every bit of the files of a small database, and random bits of a larger one: whatever is flipped is
//! found, and where it is.

use std::fs;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use compute::Deletions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sql::types::SqlType;
use storage::deletion_vector::{DeletionVector, write_deletion_vector};
use storage::ids::{ColumnId, DeletionVectorId, SegmentId, SliceId, TableId};
use storage::io::MemoryIo;
use storage::row_set::RowSet;
use storage::schema::EncodeName;
use storage::segment::write_segment;
use storage::sort::sort_rows;
use storage::statistics::SegmentInfo;

use super::*;
use crate::catalog::{
    Change, Deletion, DistributionStyle, GroupEntry, RoleEntry, SchemaEntry, SegmentList, Snapshot,
    TableColumn, TableEntry, UserEntry,
};

pub(super) const TABLE: TableId = TableId(7);
const DIRECTORY: &str = "/data/node0";

/// A table in two slices; every other segment has deleted rows.
struct Database {
    io: MemoryIo,
    snapshot: Snapshot,
    /// Each with a catalog that names no more than its segment.
    files: Vec<(PathBuf, Arc<Snapshot>)>,
}

/// The first of the numbers of segments, and of deletion vectors.
const SEGMENTS: u64 = 0x10;
const VECTORS: u64 = 0x1000;

impl Database {
    fn new(segments: u64, rows: i64) -> Self {
        let io = MemoryIo::new();
        io.create_directory(Path::new(DIRECTORY)).unwrap();
        let empty = [Change::CreateTable(Arc::new(entry()))];
        let (mut snapshot, mut files) = (catalog_of(&empty), Vec::new());
        for number in 0..segments {
            let (changes, paths) = write_segment_file(&io, number, rows);
            changes.iter().for_each(|change| snapshot.apply(change).unwrap());
            let own = Arc::new(catalog_of(&[&empty[..], &changes].concat()));
            files.extend(paths.into_iter().map(|path| (path, Arc::clone(&own))));
        }
        Self { io, snapshot, files }
    }

    fn findings(&self, depth: Depth) -> Vec<String> {
        self.findings_by(&self.snapshot, depth)
    }

    fn findings_by(&self, snapshot: &Snapshot, depth: Depth) -> Vec<String> {
        let layout = Layout::new(1, 2).unwrap();
        let holder = Holder::Node { node: 0, copies: 1, layout };
        let io: Arc<dyn Io> = Arc::new(self.io.clone());
        let directory = Path::new(DIRECTORY);
        let report = NodeReport::new(&io, snapshot, Some(0), directory, holder, depth);
        report.findings(snapshot, std::slice::from_ref(&report))
    }

    /// Flips a bit, which has to be found by that catalog, in the right file and once.
    fn flip(&self, path: &Path, snapshot: &Snapshot, bit: usize) {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        self.io.damage(path, flip).unwrap();
        let findings = self.findings_by(snapshot, Depth::Checksums);
        self.io.damage(path, flip).unwrap();
        let [finding] = findings.as_slice() else {
            panic!("bit {bit} of {}: {findings:?}", path.display())
        };
        let is_right = finding.starts_with("table public.t, ")
            && finding.contains("is damaged (")
            && finding.ends_with(&format!(": file {}", path.display()));
        assert!(is_right, "bit {bit} of {}: {finding}", path.display());
    }

    fn path(&self, file: usize) -> &Path {
        &self.files[file].0
    }

    fn bytes(&self, file: usize) -> usize {
        let length = self.io.len(self.path(file)).unwrap();
        length.unwrap() as usize
    }
}

/// A catalog after these changes and those without which there is none.
fn catalog_of(changes: &[Change]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    beginning().iter().chain(changes).for_each(|change| snapshot.apply(change).unwrap());
    snapshot
}

fn beginning() -> [Change; 2] {
    let schema = SchemaEntry { oid: 3, name: "public".into(), owner: "awsuser".into() };
    let owner = UserEntry { oid: 1, name: "awsuser".into(), ..UserEntry::default() };
    [Change::PutUser(owner, None), Change::CreateSchema(schema)]
}

/// Writes the files of a segment. What the catalog is told of them, and where they are.
fn write_segment_file(io: &MemoryIo, number: u64, rows: i64) -> (Vec<Change>, Vec<PathBuf>) {
    let (id, slice) = (SEGMENTS + number, (number % 2) as u32);
    // Named as docs and operators know it.
    let path = PathBuf::from(format!("{DIRECTORY}/slice_{slice}/00000007-{id:016x}.seg"));
    let segment = write(io, &path, &entry(), SegmentId(id), rows);
    let segments = vec![(SliceId(slice), Arc::clone(&segment))];
    let mut changes = vec![Change::AddSegments(TABLE, DistributionStyle::Even, segments)];
    let mut paths = vec![path];
    if number % 2 == 1 {
        let vector_id = VECTORS + number;
        let mut deleted = RowSet::new(segment.row_count);
        deleted.insert(&[1, 2, 7]);
        let rows = Arc::new(deleted.clone());
        let vector = DeletionVector::new(DeletionVectorId(vector_id), &segment, deleted);
        let path = format!("{DIRECTORY}/slice_{slice}/00000007-{id:016x}-{vector_id:016x}.dv");
        let vector = write_deletion_vector(io, Path::new(&path), &vector).unwrap();
        let vector = Some(Arc::new(vector));
        let deletion = Deletion { slice: SliceId(slice), segment, base: None, vector, rows };
        changes.push(Change::DeleteRows(TABLE, vec![deletion]));
        paths.push(PathBuf::from(path));
    }
    (changes, paths)
}

/// What makes the catalog of a small database, in which every table of the catalog has a row.
pub(super) fn changes_of_a_small_database() -> Vec<Change> {
    let group = GroupEntry { oid: 4, name: "readers".into(), members: vec![1] };
    let role = RoleEntry { oid: 5, name: "loader".into(), owner: 1, users: vec![1], roles: vec![] };
    let mut changes = beginning().to_vec();
    changes.extend([
        Change::PutGroup(group, None),
        Change::PutRole(role, None),
        Change::PutParameter("statement_timeout".into(), Some("1000".into())),
        Change::CreateTable(Arc::new(entry())),
    ]);
    let io = MemoryIo::new();
    changes.extend((0..2).flat_map(|number| write_segment_file(&io, number, 12).0));
    changes
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
        slices: vec![SegmentList::new(); 2],
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
        let database = Database::new(2, rows);
        assert_eq!(database.findings(Depth::Values), Vec::<String>::new());
    }
}

#[test]
fn every_flipped_bit_of_every_file_is_found() {
    let database = Database::new(2, 12);
    assert_eq!(database.files.len(), 3);
    for (file, (path, _)) in database.files.iter().enumerate() {
        let bits = database.bytes(file) * 8;
        (0..bits).for_each(|bit| database.flip(path, &database.snapshot, bit));
    }
}

/// `BLUESHIFT_FLIPS` sets how many, `BLUESHIFT_SEED` which, and `BLUESHIFT_SEGMENTS` in how many segments
/// of a million rows, some 1.7 MB each.
#[test]
fn random_flips_in_larger_files_are_found() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
    };
    let seed = number("BLUESHIFT_SEED", 1);
    let mut random = StdRng::seed_from_u64(seed);
    let database = match number("BLUESHIFT_SEGMENTS", 0) {
        0 => Database::new(2, 200_000),
        segments => Database::new(segments, 1_000_000),
    };
    assert!(database.bytes(0) > 300_000);
    let flips = number("BLUESHIFT_FLIPS", 300);
    let mut in_vectors = 0;
    for _ in 0..flips {
        // Each file as often as the others: most bits are in the large ones.
        let file = random.random_range(0..database.files.len());
        let (path, own) = &database.files[file];
        in_vectors += usize::from(path.extension().is_some_and(|end| end == "dv"));
        database.flip(path, own, random.random_range(0..database.bytes(file) * 8));
    }
    let (files, bytes) = (database.files.len(), (0..database.files.len()));
    let bytes: usize = bytes.map(|file| database.bytes(file)).sum();
    report(&format!(
        "{flips} flips, {in_vectors} of them in deletion vectors, in {files} files of {bytes} bytes: \
         each was found in its file"
    ));
}

/// The figures of a run.
pub(super) fn report(text: &str) {
    println!("{text}");
}

#[test]
fn findings_name_the_column_and_the_block() {
    let database = Database::new(2, 12);
    let path = database.path(0);
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
    let database = Database::new(2, 12);
    let path = database.path(0);
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
