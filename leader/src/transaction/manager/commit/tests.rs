//! Commits that stand in line together, and what goes wrong with them.

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use compute::{NewDeletions, StoredFile};
use storage::deletion_vector::DeletionVectorInfo;
use storage::distinct_sketch::DistinctSketch;
use storage::ids::{ColumnId, SegmentId, SliceId};
use storage::statistics::{ColumnStatistics, SegmentInfo};
use tokio::task::JoinHandle;

use super::*;
use crate::catalog::log::LogRecord;
use crate::catalog::{DistributionStyle, SchemaEntry, SegmentList, TableEntry};
use crate::statement::create_table::empty_entry;
use crate::transaction::garbage::SegmentFiles;
use crate::transaction::isolation::Isolation;
use crate::transaction::lock::LockMode;
use crate::transaction::manager::CatalogCopies;
use crate::transaction::{Start, Transaction};

const STYLE: DistributionStyle = DistributionStyle::Even;
const FIRST: TableId = TableId(101);
const SECOND: TableId = TableId(102);

/// Files that are only heard of when they are removed.
#[derive(Debug, Default)]
struct Removed(Mutex<Vec<u64>>);

#[async_trait]
impl SegmentFiles for Removed {
    fn remove(&self, _table: TableId, _slice: SliceId, file: StoredFile) {
        self.0.lock().push(file.number().0);
    }

    async fn write_deletions(
        &self,
        _table: TableId,
        _new: Vec<NewDeletions>,
        _everywhere: bool,
        _spare: std::ops::Range<u64>,
    ) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>> {
        unreachable!("no rows are deleted here")
    }

    fn attempts(&self) -> u64 {
        1
    }

    fn are_here(&self) -> bool {
        true
    }

    fn are_unsynced(&self) -> bool {
        false
    }
}

/// What happens while a commit is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copying {
    Nothing,
    Panic,
    BeReplaced,
}

#[derive(Debug)]
struct Copies {
    what_happens: Mutex<Copying>,
    is_replaced: AtomicBool,
}

impl CatalogCopies for Copies {
    fn copy(&self, _log: &mut CatalogLog, _record: &LogRecord) {
        let happens = *self.what_happens.lock();
        assert_ne!(happens, Copying::Panic, "planted");
        self.is_replaced.store(happens == Copying::BeReplaced, Ordering::Relaxed);
    }

    fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Relaxed)
    }

    fn catch_up(&self, _log: &mut CatalogLog) {}
}

/// A catalog with two empty tables.
struct Fixture {
    manager: Arc<TransactionManager>,
    removed: Arc<Removed>,
    copies: Arc<Copies>,
    directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = CatalogLog::open(&directory.path().join("catalog.sqlite")).unwrap();
        let removed = Arc::new(Removed::default());
        let files: Arc<dyn SegmentFiles> = Arc::clone(&removed) as _;
        let what_happens = Mutex::new(Copying::Nothing);
        let copies = Arc::new(Copies { what_happens, is_replaced: AtomicBool::new(false) });
        let elsewhere: Arc<dyn CatalogCopies> = Arc::clone(&copies) as _;
        let clock = Arc::new(Utc::now);
        let manager = TransactionManager::new(log, files, Some(elsewhere), clock).unwrap();
        let fixture = Self { manager: Arc::new(manager), removed, copies, directory };
        let schema = SchemaEntry { oid: 1, name: "s".to_owned(), owner: "ann".to_owned() };
        let mut transaction = fixture.begin(Isolation::Snapshot);
        transaction.change(Change::CreateSchema(schema)).unwrap();
        for (id, name) in [(FIRST, "first"), (SECOND, "second")] {
            let entry = TableEntry {
                id,
                schema: "s".to_owned(),
                name: name.to_owned(),
                slices: vec![SegmentList::new(); 2],
                ..empty_entry()
            };
            transaction.change(Change::CreateTable(Arc::new(entry))).unwrap();
        }
        transaction.commit().await.unwrap();
        fixture
    }

    fn begin(&self, isolation: Isolation) -> Transaction {
        self.manager.begin(Start { isolation, ..Start::default() })
    }

    /// A transaction that has added a segment to a table.
    async fn adding(&self, table: TableId, segment: u64) -> Transaction {
        self.adding_with(table, segment, 0).await
    }

    /// The same with a segment of so many columns.
    async fn adding_with(&self, table: TableId, segment: u64, columns: u32) -> Transaction {
        let mut transaction = self.begin(Isolation::Snapshot);
        transaction.lock(table, LockMode::Insert).await.unwrap();
        transaction.change(add(table, segment, columns)).unwrap();
        transaction
    }

    /// Has transactions stand in line, in this order, while the log is held; then their results, and
    /// how often the log was written.
    async fn commit_together(&self, transactions: Vec<Transaction>) -> (Vec<Result<()>>, u64) {
        let (running, before) = self.have_in_line(transactions);
        let mut results = Vec::new();
        for running in running {
            results.push(running.await.unwrap());
        }
        (results, self.manager.log.lock().number().unwrap() - before)
    }

    /// Lets transactions commit once all stand in line; the number of the last write before that.
    fn have_in_line(&self, transactions: Vec<Transaction>) -> (Vec<JoinHandle<Result<()>>>, u64) {
        let log = self.manager.log.lock();
        let mut running = Vec::new();
        for transaction in transactions {
            running.push(tokio::spawn(transaction.commit()));
            while self.manager.line.0.lock().len() < running.len() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        (running, log.number().unwrap())
    }

    fn segments(&self, table: TableId) -> Vec<u64> {
        segments(&self.manager.snapshot(), table)
    }

    /// What a start would find.
    fn stored_segments(self, table: TableId) -> Vec<u64> {
        drop(self.manager);
        let log = CatalogLog::open(&self.directory.path().join("catalog.sqlite")).unwrap();
        segments(&log.read().unwrap().0, table)
    }
}

fn add(table: TableId, segment: u64, columns: u32) -> Change {
    let column = |id| ColumnStatistics {
        id: ColumnId(id),
        min: None,
        max: None,
        null_count: 0,
        has_nan: false,
        has_trailing_blank: false,
        distinct: DistinctSketch::new(),
        uncompressed_bytes: 0,
        encoded_bytes: 0,
    };
    let info = SegmentInfo {
        id: SegmentId(segment),
        fingerprint: segment,
        row_count: 1,
        byte_count: 1,
        columns: (0..columns).map(column).collect(),
    };
    Change::AddSegments(table, STYLE, vec![(SliceId(0), Arc::new(info))])
}

fn segments(snapshot: &Snapshot, table: TableId) -> Vec<u64> {
    let entry = snapshot.table_by_id(table).unwrap();
    let mut ids: Vec<u64> = entry.slices.iter().flatten().map(|segment| segment.id.0).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_added_together_are_one_write() {
    let fixture = Fixture::new().await;
    let mut transactions = Vec::new();
    for segment in 1..=8 {
        let table = if segment % 2 == 0 { FIRST } else { SECOND };
        transactions.push(fixture.adding(table, segment).await);
    }
    let number = fixture.manager.snapshot().number();
    let (results, writes) = fixture.commit_together(transactions).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(writes, 1);
    assert_eq!(fixture.manager.snapshot().number(), number + 1);
    assert_eq!(fixture.segments(FIRST), [2, 4, 6, 8]);
    assert_eq!(fixture.segments(SECOND), [1, 3, 5, 7]);
    assert_eq!(fixture.stored_segments(FIRST), [2, 4, 6, 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_fit_leaves_the_others_alone() {
    let fixture = Fixture::new().await;
    let mut wrong = fixture.begin(Isolation::Snapshot);
    // Its first change fits, its second one has lost its table by then.
    wrong.change(add(FIRST, 2, 0)).unwrap();
    wrong.change(add(SECOND, 3, 0)).unwrap();
    let mut dropping = fixture.begin(Isolation::Snapshot);
    dropping.change(Change::DropTable(SECOND)).unwrap();
    let transactions =
        vec![dropping, fixture.adding(FIRST, 1).await, wrong, fixture.adding(FIRST, 4).await];
    let (results, writes) = fixture.commit_together(transactions).await;
    let has_failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(has_failed, [false, false, true, false], "{results:?}");
    assert_eq!(writes, 2, "what takes something away goes alone");
    assert_eq!(fixture.segments(FIRST), [1, 4]);
    assert_eq!(*fixture.removed.0.lock(), [2, 3]);
    assert_eq!(fixture.stored_segments(FIRST), [1, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_must_not_change_beside_it() {
    let fixture = Fixture::new().await;
    let reader = |segment| {
        let mut reader = fixture.begin(Isolation::Serializable);
        let _ = reader.view();
        reader.reads().note(FIRST);
        reader.change(add(SECOND, segment, 0)).unwrap();
        reader
    };
    // A reader that comes first has read what is there; one that comes later has not.
    let transactions = vec![reader(1), fixture.adding(FIRST, 2).await, reader(3)];
    let (results, _) = fixture.commit_together(transactions).await;
    assert!(matches!(results[2], Err(Error::Conflict { table: FIRST, other: Some(_) })));
    assert!(results[..2].iter().all(Result::is_ok), "{results:?}");
    assert_eq!((fixture.segments(FIRST), fixture.segments(SECOND)), (vec![2], vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_space_for_all_there_may_be_for_some() {
    let fixture = Fixture::new().await;
    fixture.manager.log.lock().limit_pages(2).unwrap();
    let transactions = vec![
        fixture.adding(FIRST, 1).await,
        fixture.adding_with(FIRST, 2, 10_000).await,
        fixture.adding(FIRST, 3).await,
    ];
    let (results, _) = fixture.commit_together(transactions).await;
    assert!(matches!(&results[1], Err(error) if is_full(error)), "{results:?}");
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(!fixture.manager.is_fenced());
    assert_eq!(fixture.segments(FIRST), [1, 3]);
    assert_eq!(*fixture.removed.0.lock(), [2]);
    assert_eq!(fixture.stored_segments(FIRST), [1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_fails_all_and_what_follows() {
    let fixture = Fixture::new().await;
    fixture.manager.log.lock().refuse_writes().unwrap();
    let transactions = vec![fixture.adding(FIRST, 1).await, fixture.adding(FIRST, 2).await];
    let later = fixture.adding(FIRST, 3).await;
    let (results, writes) = fixture.commit_together(transactions).await;
    // SQLite has said no before it wrote: nothing is in doubt.
    assert!(results.iter().all(|result| matches!(result, Err(Error::Catalog(_)))), "{results:?}");
    assert!(matches!(later.commit().await, Err(Error::Fenced)));
    assert_eq!((writes, fixture.segments(FIRST)), (0, vec![]));
    fixture.manager.sweep_garbage();
    assert_eq!(*fixture.removed.0.lock(), [3], "of the others a restart knows more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_replaced_while_it_copies_acknowledges_nothing() {
    let fixture = Fixture::new().await;
    *fixture.copies.what_happens.lock() = Copying::BeReplaced;
    let transactions = vec![fixture.adding(FIRST, 1).await, fixture.adding(FIRST, 2).await];
    let (results, _) = fixture.commit_together(transactions).await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
    assert_eq!(fixture.segments(FIRST), [0; 0]);
    fixture.manager.sweep_garbage();
    assert_eq!(*fixture.removed.0.lock(), [0; 0]);
    assert_eq!(fixture.stored_segments(FIRST), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_leaves_the_commit_in_doubt_and_others_hear_of_it() {
    let fixture = Fixture::new().await;
    *fixture.copies.what_happens.lock() = Copying::Panic;
    let mut dropping = fixture.begin(Isolation::Snapshot);
    dropping.change(Change::DropTable(SECOND)).unwrap();
    let transactions =
        vec![fixture.adding(FIRST, 1).await, fixture.adding(FIRST, 2).await, dropping];
    let (results, _) = fixture.commit_together(transactions).await;
    let is_in_doubt = |result: &Result<()>| matches!(result, Err(Error::CommitInDoubt(_)));
    assert!(results[..2].iter().all(is_in_doubt), "{results:?}");
    assert!(matches!(results[2], Err(Error::Fenced)), "{results:?}");
    fixture.manager.sweep_garbage();
    assert_eq!(*fixture.removed.0.lock(), [0; 0], "the log has them");
    assert_eq!(fixture.stored_segments(FIRST), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_goes_on_if_nobody_waits_for_it() {
    let fixture = Fixture::new().await;
    let first = fixture.adding(FIRST, 1).await;
    let second = fixture.adding(FIRST, 2).await;
    {
        let _log = fixture.manager.log.lock();
        let waiting = tokio::spawn(first.commit());
        while fixture.manager.line.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        waiting.abort();
    }
    second.commit().await.unwrap();
    assert_eq!(fixture.segments(FIRST), [1, 2]);
}
