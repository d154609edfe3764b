//! The catalog on disk: one SQLite file, synchronous FULL. A commit is one SQLite transaction that
//! writes the changes and the commit record, or those of several transactions; when it returns, it is
//! durable, and before that nothing of it is visible. The file is read only at start.

mod comments;
mod digest;
mod inspect;
mod rebuild;
mod users;
pub(crate) mod wal;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compute::Deletions;
use faults::{Defect, Place};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, MAIN_DB, OptionalExtension, ToSql, Transaction, params};
use sql::Identity;
use sql::types::SqlType;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{ColumnId, SegmentId, SliceId, TableId, Xid};
use storage::row_set::RowSet;
use storage::schema::EncodeName;
use storage::statistics::SegmentInfo;

use digest::Digests;

use super::{
    Change, Deletion, DistributionStyle, Rewritten, SchemaEntry, SegmentList, Snapshot,
    TableColumn, TableEntry, constraint,
};
use crate::error::{Error, Result, is_full};

pub use rebuild::rebuild;

/// The format of the file. Older ones since [`FORMAT_OLDEST`] are brought to it when it is opened, in
/// one SQLite transaction; others are refused.
const FORMAT_VERSION: i64 = 7;
/// The oldest format that is read.
const FORMAT_OLDEST: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE commit_record (
    xid INTEGER PRIMARY KEY, committed_at TEXT NOT NULL DEFAULT (datetime('now'))) STRICT;
CREATE TABLE schemas (
    name TEXT PRIMARY KEY, oid INTEGER NOT NULL UNIQUE, owner TEXT NOT NULL) STRICT;
CREATE TABLE tables (
    oid INTEGER PRIMARY KEY, schema TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL,
    diststyle TEXT NOT NULL, distkey INTEGER, sortkey TEXT NOT NULL, constraints TEXT NOT NULL,
    slices INTEGER NOT NULL, placement_fingerprint INTEGER NOT NULL, UNIQUE (schema, name)) STRICT;
CREATE TABLE columns (
    table_oid INTEGER NOT NULL REFERENCES tables (oid) ON DELETE CASCADE,
    position INTEGER NOT NULL, column_id INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
    nullable INTEGER NOT NULL, default_text TEXT, encode TEXT NOT NULL,
    PRIMARY KEY (table_oid, position)) STRICT;
CREATE TABLE segments (
    segment_id INTEGER PRIMARY KEY,
    table_oid INTEGER NOT NULL REFERENCES tables (oid) ON DELETE CASCADE,
    slice INTEGER NOT NULL, xid INTEGER NOT NULL, info BLOB NOT NULL) STRICT;
CREATE INDEX segments_of_table ON segments (table_oid, segment_id);
";

/// Users, and what else is not an object of a database.
const SCHEMA_OF_USERS: &str = "
CREATE TABLE users (
    name TEXT PRIMARY KEY, oid INTEGER NOT NULL UNIQUE, verifier TEXT NOT NULL,
    superuser INTEGER NOT NULL) STRICT;
";

/// What format 3 has more than format 2: which rows are deleted, groups, and more of users.
const SCHEMA_SINCE_3: &str = "
CREATE TABLE deletions (
    segment_id INTEGER PRIMARY KEY REFERENCES segments (segment_id) ON DELETE CASCADE,
    xid INTEGER NOT NULL, info BLOB NOT NULL) STRICT;
ALTER TABLE users ADD COLUMN createdb INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN valid_until_us INTEGER;
ALTER TABLE users ADD COLUMN connection_limit INTEGER;
ALTER TABLE users ADD COLUMN session_timeout INTEGER;
ALTER TABLE users ADD COLUMN syslog_unrestricted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN settings TEXT NOT NULL DEFAULT '[]';
CREATE TABLE groups (
    oid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, members TEXT NOT NULL) STRICT;
CREATE TABLE parameters (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
";

/// What format 4 has more than format 3: roles.
const SCHEMA_SINCE_4: &str = "
CREATE TABLE roles (
    oid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner INTEGER NOT NULL,
    users TEXT NOT NULL, roles TEXT NOT NULL) STRICT;
";

/// What format 5 has more than format 4: identity columns.
const SCHEMA_SINCE_5: &str = "
ALTER TABLE tables ADD COLUMN numbers_taken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE columns ADD COLUMN identity TEXT;
";

/// What format 7 has more than format 6: comments.
const SCHEMA_SINCE_7: &str = "
CREATE TABLE comments (
    kind TEXT NOT NULL, object INTEGER NOT NULL, part INTEGER NOT NULL,
    table_oid INTEGER REFERENCES tables (oid) ON DELETE CASCADE, text TEXT NOT NULL,
    PRIMARY KEY (kind, object, part)) STRICT;
CREATE INDEX comments_of_table ON comments (table_oid);
";

/// The numbers that the next objects get. They only grow, also over a crash: an id that reached
/// the disk in any form is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds {
    /// The next transaction.
    pub xid: u64,
    /// The next table, schema or user.
    pub oid: u32,
    /// The next segment.
    pub segment: u64,
}

/// What one write changed, in words that [`rebuild`] understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// 1 for the first write to the log, and so on.
    pub number: u64,
    /// The SQL statements.
    pub statements: String,
}

const COUNT_WRITE: &str = "INSERT INTO meta VALUES ('writes', 1) \
                           ON CONFLICT (name) DO UPDATE SET value = value + 1";

/// The first oid of a user's object, as in PostgreSQL above the system's own.
const FIRST_OID: u32 = 100_000;

/// The open catalog file.
#[derive(Debug)]
pub struct CatalogLog {
    connection: Connection,
    digests: Digests,
    /// Whether all that was there when it was opened is durable.
    is_settled: bool,
}

impl CatalogLog {
    /// Opens the file as [`CatalogLog::open`] does, after it has taken back flipped bits in its
    /// write-ahead log: SQLite would take commits there for writes that a crash has torn.
    ///
    /// # Errors
    /// Fails if the file or the log is damaged beyond that.
    pub fn mend_and_open(path: &Path) -> Result<Self> {
        let beside = |name: &Path| {
            let mut name = name.as_os_str().to_owned();
            name.push("-wal");
            PathBuf::from(name)
        };
        wal::mend(&beside(path), |log| {
            // On a copy: opening a file writes to it.
            let directory = tempfile::tempdir().ok()?;
            let copy = directory.path().join("copy.sqlite");
            std::fs::copy(path, &copy).ok()?;
            std::fs::write(beside(&copy), log).ok()?;
            // The digests of an older one, if it has any, are not those that are looked at.
            if format_version(&Connection::open(&copy).ok()?).ok()? != Some(FORMAT_VERSION) {
                return None;
            }
            let log = Self::open(&copy).ok()?;
            if log.problems().is_empty() { log.number().ok() } else { None }
        })?;
        Self::open(path)
    }

    /// Opens the file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        // Before the log is looked at: its index then is in memory, and not in a file of its own, for which
        // there is no space on a full disk.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        write_ahead(&connection)?;
        let synchronous = if faults::planted(Defect::SkipLogSync) { "OFF" } else { "FULL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        let mut connection = connection;
        match format_version(&connection)? {
            None => create(&mut connection)?,
            Some(FORMAT_VERSION) => check_pages(&connection)?,
            Some(format @ FORMAT_OLDEST..FORMAT_VERSION) => {
                check_pages(&connection)?;
                upgrade(&mut connection, format)?;
            }
            Some(other) => {
                let text = format!(
                    "format {other}; this server reads formats {FORMAT_OLDEST} to \
                     {FORMAT_VERSION}"
                );
                return Err(Error::CatalogDamaged(text));
            }
        }
        // SQLite does not tell when this fails for a log that it makes.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|source| {
            Error::Io { action: format!("sync {}", directory.display()), source }
        })?;
        let digests = Digests::open(&connection)?;
        let mut log = Self { connection, digests, is_settled: false };
        match log.settle() {
            Err(Error::Catalog(error)) if is_full(&error) => {
                tracing::warn!(%error, "the write-ahead log stays as it is; nothing is written");
            }
            settled => settled?,
        }
        Ok(log)
    }

    /// Has everything in the file itself, durably, before anything is written. Of a process that ended
    /// after a failed sync the write-ahead log may be in the system's memory and not on the disk, and
    /// nothing shows it: what was read must not be taken for durable, and what follows it would be
    /// lost with it.
    fn settle(&mut self) -> Result<()> {
        if !self.is_settled {
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            let is_busy: bool = self.connection.query_row(sql, [], |row| row.get(0))?;
            if is_busy {
                return Err(Error::Internal("somebody else reads the catalog".into()));
            }
            self.is_settled = true;
        }
        Ok(())
    }

    /// Changes what no record tells of: all of it or nothing, with the digests.
    fn transact<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction()?;
        self.digests.begin();
        let done = work(&transaction)?;
        // What is there already is read also where nothing can be written, as on a full disk.
        if let Some(digests) = self.digests.changed() {
            if !self.is_settled {
                let message = "the disk is full: the write-ahead log could not be written anew";
                return Err(Error::statement(crate::error::code::DISK_FULL, message));
            }
            transaction.execute(digest::WRITE, params![digests])?;
            transaction.commit()?;
            self.digests.commit();
        }
        Ok(done)
    }

    /// Whether the transaction's commit record is there.
    pub fn has_committed(&self, xid: Xid) -> Result<bool> {
        let sql = "SELECT count(*) FROM commit_record WHERE xid = ?1";
        let count: i64 = self.connection.query_row(sql, [integer(xid.0)?], |row| row.get(0))?;
        Ok(count > 0)
    }

    /// Makes the changes of transactions durable, all of them or none.
    pub fn commit(
        &mut self,
        transactions: &[(Xid, &[Change])],
        next: NextIds,
    ) -> Result<LogRecord> {
        let mut written_apart = 0;
        if faults::planted(Defect::SplitCommit)
            && let [(xid, [first, ..]), ..] = transactions
        {
            self.write(|writer| write_change(writer, *xid, first))?;
            written_apart = 1;
        }
        self.write(|writer| {
            // Not as a default of the table: copies shall have the same.
            let now: String = writer
                .transaction
                .prepare_cached("SELECT datetime('now')")?
                .query_row([], |row| row.get(0))?;
            for (xid, changes) in transactions {
                for change in changes.iter().skip(std::mem::take(&mut written_apart)) {
                    write_change(writer, *xid, change)?;
                }
                let sql = "INSERT INTO commit_record (xid, committed_at) VALUES (?1, ?2)";
                writer.run(sql, params![integer(xid.0)?, now])?;
            }
            write_next_ids(writer, next)
        })
    }

    /// Leaves space for so many pages more than there are.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, more: i64) -> Result<()> {
        let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let pages = self.connection.pragma_query_value(None, "page_count", count)?;
        Ok(self.connection.pragma_update(None, "max_page_count", pages + more)?)
    }

    /// Lets every write fail.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self) -> Result<()> {
        Ok(self.connection.pragma_update(None, "query_only", "ON")?)
    }

    /// Makes durable that ids below these are taken.
    pub fn note_next_ids(&mut self, next: NextIds) -> Result<LogRecord> {
        self.write(|writer| write_next_ids(writer, next))
    }

    /// Writes in one SQLite transaction, which gets the next number.
    fn write(&mut self, work: impl FnOnce(&mut Writer<'_>) -> Result<()>) -> Result<LogRecord> {
        self.settle()?;
        let transaction = self.connection.transaction()?;
        self.digests.begin();
        let mut writer = Writer { transaction: &transaction, statements: String::new() };
        work(&mut writer)?;
        writer.run(COUNT_WRITE, params![])?;
        if let Some(digests) = self.digests.changed() {
            writer.run(digest::WRITE, params![digests])?;
        }
        let statements = writer.statements;
        let number = write_count(&transaction)?;
        faults::point(Place::CommitWritten);
        transaction.commit()?;
        self.digests.commit();
        Ok(LogRecord { number, statements })
    }

    /// How often the log was written to: the number of the last [`LogRecord`].
    pub fn number(&self) -> Result<u64> {
        write_count(&self.connection)
    }

    /// The whole file as it is now, from which [`rebuild`] makes a log again.
    pub fn image(&mut self) -> Result<Vec<u8>> {
        Ok(self.connection.serialize(MAIN_DB)?.to_vec())
    }

    /// The cluster's own number, drawn when it is first asked for: by it a node knows whether the
    /// catalog that a leader has is that of its files.
    pub fn cluster_id(&mut self) -> Result<u64> {
        let mut drawn = [0; 8];
        SystemRandom::new()
            .fill(&mut drawn)
            .map_err(|_| Error::Internal("the operating system gave no random bytes".into()))?;
        self.transact(|transaction| {
            let sql = "INSERT OR IGNORE INTO meta VALUES ('cluster_id', ?1)";
            transaction.execute(sql, [i64::from_le_bytes(drawn)])?;
            let sql = "SELECT value FROM meta WHERE name = 'cluster_id'";
            let id: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
            Ok(id.cast_unsigned())
        })
    }

    /// Nodes and slices of a node that the catalog's tables are divided among: these, if it has none
    /// yet.
    pub fn shape(&mut self, nodes: usize, slices_per_node: usize) -> Result<(usize, usize)> {
        self.transact(|transaction| {
            let mut shape = [("nodes", nodes), ("slices_per_node", slices_per_node)];
            for (name, value) in &mut shape {
                let sql = "INSERT OR IGNORE INTO meta VALUES (?1, ?2)";
                transaction.execute(sql, params![*name, count(*value)?])?;
                let sql = "SELECT value FROM meta WHERE name = ?1";
                *value = transaction.query_row(sql, [*name], |row| row.get::<_, u32>(0))? as usize;
            }
            Ok((shape[0].1, shape[1].1))
        })
    }

    /// Reads everything that was ever committed.
    pub fn read(&self) -> Result<(Snapshot, NextIds)> {
        let mut snapshot = Snapshot::default();
        self.read_users_and_schemas(&mut snapshot)?;
        self.read_tables(&mut snapshot)?;
        self.read_segments(&mut snapshot)?;
        self.read_deletions(&mut snapshot)?;
        comments::read(&self.connection, &mut snapshot)?;
        let number = |name: &str| -> Result<i64> {
            let sql = "SELECT value FROM meta WHERE name = ?1";
            Ok(self.connection.query_row(sql, [name], |row| row.get(0))?)
        };
        let next = NextIds {
            xid: natural(number("next_xid")?)?,
            oid: small(number("next_oid")?)?,
            segment: natural(number("next_segment")?)?,
        };
        Ok((snapshot, next))
    }

    fn read_users_and_schemas(&self, snapshot: &mut Snapshot) -> Result<()> {
        users::read(&self.connection, snapshot)?;
        let mut query = self.connection.prepare("SELECT name, oid, owner FROM schemas")?;
        let rows = query.query_map([], |row| {
            Ok(SchemaEntry { name: row.get(0)?, oid: row.get(1)?, owner: row.get(2)? })
        })?;
        for schema in rows {
            snapshot.apply(&Change::CreateSchema(schema?))?;
        }
        Ok(())
    }

    fn read_tables(&self, snapshot: &mut Snapshot) -> Result<()> {
        let sql = "SELECT oid, schema, name, owner, diststyle, distkey, sortkey, constraints, \
                   slices, placement_fingerprint, numbers_taken FROM tables ORDER BY oid";
        let mut query = self.connection.prepare(sql)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let id = TableId(row.get(0)?);
            let style: String = row.get(4)?;
            let distkey: Option<u32> = row.get(5)?;
            let slices: u32 = row.get(8)?;
            let columns = self.read_columns(id)?;
            let entry = TableEntry {
                id,
                schema: row.get(1)?,
                name: row.get(2)?,
                owner: row.get(3)?,
                distribution: distribution_from(&style, distkey)?,
                is_automatic: style.starts_with(AUTO),
                sort_key: positions_from(&row.get::<_, String>(6)?)?,
                constraints: constraint::from_json(&row.get::<_, String>(7)?, columns.len())?,
                columns,
                placement_fingerprint: row.get::<_, i64>(9)?.cast_unsigned(),
                slices: vec![SegmentList::new(); slices as usize],
                deletions: Deletions::default(),
                numbers_taken: natural(row.get(10)?)?,
            };
            snapshot.apply(&Change::CreateTable(Arc::new(entry)))?;
        }
        Ok(())
    }

    fn read_columns(&self, id: TableId) -> Result<Vec<TableColumn>> {
        let sql = "SELECT column_id, name, type, nullable, default_text, encode, identity \
                   FROM columns WHERE table_oid = ?1 ORDER BY position";
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query([id.0])?;
        let mut columns = Vec::new();
        while let Some(row) = rows.next()? {
            let type_text: String = row.get(2)?;
            let encode: String = row.get(5)?;
            columns.push(TableColumn {
                id: ColumnId(row.get(0)?),
                name: row.get(1)?,
                sql_type: SqlType::from_display(&type_text)
                    .ok_or_else(|| damaged("type", &type_text))?,
                nullable: row.get(3)?,
                default: row.get(4)?,
                identity: identity_from(row.get::<_, Option<String>>(6)?.as_deref())?,
                encode: EncodeName::from_name(&encode).ok_or_else(|| damaged("encode", &encode))?,
            });
        }
        Ok(columns)
    }

    fn read_segments(&self, snapshot: &mut Snapshot) -> Result<()> {
        let sql = "SELECT table_oid, slice, info FROM segments ORDER BY table_oid, segment_id";
        let mut query = self.connection.prepare(sql)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (table, slice) = (TableId(row.get(0)?), SliceId(row.get(1)?));
            let damaged = |reason: &dyn std::fmt::Display| {
                Error::CatalogDamaged(format!("segment of table {}: {reason}", table.0))
            };
            let bytes = row.get_ref(2)?.as_blob().map_err(|e| damaged(&e))?;
            let info = SegmentInfo::from_bytes(bytes).map_err(|e| damaged(&e))?;
            let entry = snapshot.table_by_id(table).ok_or_else(|| damaged(&"no table"))?;
            let placed = entry.distribution;
            snapshot.apply(&Change::AddSegments(table, placed, vec![(slice, Arc::new(info))]))?;
        }
        Ok(())
    }

    fn read_deletions(&self, snapshot: &mut Snapshot) -> Result<()> {
        let sql = "SELECT table_oid, segments.segment_id, deletions.info \
                   FROM deletions JOIN segments USING (segment_id)";
        let mut query = self.connection.prepare(sql)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (table, segment) =
                (TableId(row.get(0)?), SegmentId(natural(row.get::<_, i64>(1)?)?));
            let damaged = |reason: &dyn std::fmt::Display| {
                let id = segment.0;
                Error::CatalogDamaged(format!("deleted rows of segment {id}: {reason}"))
            };
            let bytes = row.get_ref(2)?.as_blob().map_err(|e| damaged(&e))?;
            let vector = DeletionVectorInfo::from_bytes(bytes).map_err(|e| damaged(&e))?;
            let entry = snapshot.table_by_id(table).ok_or_else(|| damaged(&"no table"))?;
            let found = entry.segment(segment).ok_or_else(|| damaged(&"no segment"))?;
            let (slice, info) = (found.0, Arc::clone(found.1));
            if vector.segment != segment || vector.deleted_rows >= info.row_count {
                return Err(damaged(&"they are of another segment"));
            }
            let deletion = Deletion {
                slice,
                rows: Arc::new(RowSet::new(info.row_count)),
                segment: info,
                base: None,
                vector: Some(Arc::new(vector)),
            };
            snapshot.apply(&Change::DeleteRows(table, vec![deletion]))?;
        }
        Ok(())
    }
}

/// The format of a file; none for a new one.
fn format_version(connection: &Connection) -> Result<Option<i64>> {
    let sql = "SELECT count(*) FROM sqlite_master WHERE name = 'meta'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0 {
        let sql = "SELECT value FROM meta WHERE name = 'format'";
        let format = connection.query_row(sql, [], |row| row.get(0)).optional()?;
        return format.map(Some).ok_or_else(|| Error::CatalogDamaged("it has no format".into()));
    }
    // A new file has no page, or the first alone if a crash came then.
    match connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? {
        0 | 1 => Ok(None),
        _ => Err(Error::CatalogDamaged("its tables are not there".into())),
    }
}

/// Gives the file a write-ahead log.
fn write_ahead(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    // The file is written after the row that tells of it, and only who asks on hears that it was not.
    while rows.next()?.is_some() {}
    Ok(())
}

fn create(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute_batch(SCHEMA_OF_USERS)?;
    transaction.execute_batch(SCHEMA_SINCE_3)?;
    transaction.execute_batch(SCHEMA_SINCE_4)?;
    transaction.execute_batch(SCHEMA_SINCE_5)?;
    transaction.execute_batch(digest::SCHEMA)?;
    transaction.execute_batch(SCHEMA_SINCE_7)?;
    let first = [
        ("format", FORMAT_VERSION),
        ("next_xid", 1),
        ("next_oid", i64::from(FIRST_OID)),
        ("next_segment", 1),
    ];
    for (name, value) in first {
        transaction.execute("INSERT INTO meta VALUES (?1, ?2)", params![name, value])?;
    }
    Digests::write_first(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Brings a file of an older format to the present one. It is no write with a number: a copy of such a
/// file is changed in the same way when [`rebuild`] opens it, and what was written to it before
/// means the same afterwards.
fn upgrade(connection: &mut Connection, format: i64) -> Result<()> {
    if format >= 6 {
        Digests::check_format_6(connection)?;
    }
    let transaction = connection.transaction()?;
    if format < 3 {
        transaction.execute_batch(SCHEMA_SINCE_3)?;
    }
    if format < 4 {
        transaction.execute_batch(SCHEMA_SINCE_4)?;
    }
    if format < 5 {
        transaction.execute_batch(SCHEMA_SINCE_5)?;
    }
    if format < 6 {
        transaction.execute_batch(digest::SCHEMA)?;
    }
    transaction.execute_batch(SCHEMA_SINCE_7)?;
    let sql = "UPDATE meta SET value = ?1 WHERE name = 'format'";
    transaction.execute(sql, [FORMAT_VERSION])?;
    Digests::write_first(&transaction)?;
    transaction.commit()?;
    tracing::info!(from = format, to = FORMAT_VERSION, "upgraded the catalog file");
    Ok(())
}

/// Refuses a file whose pages do not hold together, or whose indexes say other things than its
/// tables: rows would be read, and changed, by them.
fn check_pages(connection: &Connection) -> Result<()> {
    match inspect::pages(connection)?.into_iter().next() {
        Some(problem) => Err(Error::CatalogDamaged(problem)),
        None => Ok(()),
    }
}

/// Writes, and keeps the words.
struct Writer<'a> {
    transaction: &'a Transaction<'a>,
    statements: String,
}

impl Writer<'_> {
    fn run(&mut self, sql: &str, values: &[&dyn ToSql]) -> Result<()> {
        let mut statement = self.transaction.prepare_cached(sql)?;
        for (index, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, value)?;
        }
        let words = statement.expanded_sql();
        let words = words.ok_or_else(|| Error::Internal("a commit is too large".into()))?;
        self.statements.push_str(&words);
        self.statements.push_str(";\n");
        statement.raw_execute()?;
        Ok(())
    }
}

fn write_count(connection: &Connection) -> Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = 'writes'";
    let count = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    natural(count.unwrap_or(0))
}

fn write_change(writer: &mut Writer<'_>, xid: Xid, change: &Change) -> Result<()> {
    match change {
        Change::CreateSchema(entry) => {
            let sql = "INSERT INTO schemas (name, oid, owner) VALUES (?1, ?2, ?3)";
            writer.run(sql, params![entry.name, entry.oid, entry.owner])?;
        }
        Change::DropSchema(name) => {
            comments::delete_of_schema(writer, name)?;
            writer.run("DELETE FROM schemas WHERE name = ?1", params![name])?;
        }
        Change::PutComment(object, text) => comments::write(writer, *object, text.as_deref())?,
        Change::CreateTable(entry) => write_table(writer, entry)?,
        Change::Define(_, definition) => rewrite_table(writer, definition.after())?,
        Change::DropTable(id) => {
            writer.run("DELETE FROM tables WHERE oid = ?1", params![id.0])?;
        }
        Change::AddSegments(id, _, segments) => {
            for (slice, info) in segments {
                write_segment(writer, xid, *id, *slice, info)?;
            }
        }
        Change::DeleteRows(_, deletions) => write_deletions(writer, xid, deletions)?,
        Change::Rewrite(id, rewritten) => {
            for Rewritten { slice, sources, segments } in rewritten {
                sources.iter().try_for_each(|(source, _)| delete_segment(writer, source.id))?;
                for info in segments {
                    write_segment(writer, xid, *id, *slice, info)?;
                }
            }
        }
        Change::Place(id, style) => {
            let (style, distkey) = distribution_text(*style, true)?;
            let sql = "UPDATE tables SET diststyle = ?2, distkey = ?3 WHERE oid = ?1";
            writer.run(sql, params![id.0, style, distkey])?;
        }
        Change::TakeNumbers(id, end) => {
            let sql = "UPDATE tables SET numbers_taken = max(numbers_taken, ?2) WHERE oid = ?1";
            writer.run(sql, params![id.0, integer(*end)?])?;
        }
        Change::Truncate(id) => {
            writer.run("DELETE FROM segments WHERE table_oid = ?1", params![id.0])?;
        }
        Change::PutUser(user, _) => users::write_user(writer, user)?,
        Change::DropUser(oid) => users::delete_user(writer, *oid)?,
        Change::PutGroup(group, _) => users::write_group(writer, group)?,
        Change::DropGroup(oid) => {
            writer.run("DELETE FROM groups WHERE oid = ?1", params![oid])?;
        }
        Change::PutRole(role, _) => users::write_role(writer, role)?,
        Change::DropRole(oid) => users::delete_role(writer, *oid)?,
        Change::PutParameter(name, value) => {
            users::write_parameter(writer, name, value.as_deref())?;
        }
    }
    Ok(())
}

fn write_segment(
    writer: &mut Writer<'_>,
    xid: Xid,
    table: TableId,
    slice: SliceId,
    info: &SegmentInfo,
) -> Result<()> {
    let sql = "INSERT INTO segments (segment_id, table_oid, slice, xid, info) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let (segment, xid) = (integer(info.id.0)?, integer(xid.0)?);
    writer.run(sql, params![segment, table.0, slice.0, xid, info.to_bytes()])
}

fn write_deletions(writer: &mut Writer<'_>, xid: Xid, deletions: &[Deletion]) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO deletions (segment_id, xid, info) VALUES (?1, ?2, ?3)";
    for Deletion { segment, vector, .. } in deletions {
        match vector {
            Some(vector) => {
                let (segment, xid) = (integer(segment.id.0)?, integer(xid.0)?);
                writer.run(sql, params![segment, xid, vector.to_bytes()])?;
            }
            None => delete_segment(writer, segment.id)?,
        }
    }
    Ok(())
}

/// Removes a segment, and which of its rows are deleted.
fn delete_segment(writer: &mut Writer<'_>, segment: SegmentId) -> Result<()> {
    let sql = "DELETE FROM segments WHERE segment_id = ?1";
    writer.run(sql, params![integer(segment.0)?])
}

fn write_table(writer: &mut Writer<'_>, entry: &TableEntry) -> Result<()> {
    let (style, distkey) = distribution_text(entry.distribution, entry.is_automatic)?;
    let sortkey = sort_key_text(entry);
    let constraints = constraint::to_json(&entry.constraints)?;
    let sql = "INSERT INTO tables (oid, schema, name, owner, diststyle, distkey, sortkey, \
               constraints, slices, placement_fingerprint) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    writer.run(
        sql,
        params![
            entry.id.0,
            entry.schema,
            entry.name,
            entry.owner,
            style,
            distkey,
            sortkey,
            constraints,
            count(entry.slices.len())?,
            entry.placement_fingerprint.cast_signed(),
        ],
    )?;
    write_columns(writer, entry)
}

/// Another definition of a table that is there. Its segments stay.
fn rewrite_table(writer: &mut Writer<'_>, entry: &TableEntry) -> Result<()> {
    let (style, distkey) = distribution_text(entry.distribution, entry.is_automatic)?;
    let sortkey = sort_key_text(entry);
    let constraints = constraint::to_json(&entry.constraints)?;
    let sql = "UPDATE tables SET schema = ?2, name = ?3, owner = ?4, diststyle = ?5, distkey = ?6, \
               sortkey = ?7, constraints = ?8 WHERE oid = ?1";
    writer.run(
        sql,
        params![
            entry.id.0,
            entry.schema,
            entry.name,
            entry.owner,
            style,
            distkey,
            sortkey,
            constraints
        ],
    )?;
    writer.run("DELETE FROM columns WHERE table_oid = ?1", params![entry.id.0])?;
    write_columns(writer, entry)
}

fn sort_key_text(entry: &TableEntry) -> String {
    entry.sort_key.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn write_columns(writer: &mut Writer<'_>, entry: &TableEntry) -> Result<()> {
    let sql = "INSERT INTO columns (table_oid, position, column_id, name, type, nullable, \
               default_text, encode, identity) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    for (position, column) in entry.columns.iter().enumerate() {
        writer.run(
            sql,
            params![
                entry.id.0,
                count(position)?,
                column.id.0,
                column.name,
                column.sql_type.to_string(),
                column.nullable,
                column.default,
                column.encode.name(),
                column.identity.map(identity_text),
            ],
        )?;
    }
    Ok(())
}

fn write_next_ids(writer: &mut Writer<'_>, next: NextIds) -> Result<()> {
    let sql = "UPDATE meta SET value = max(value, ?2) WHERE name = ?1";
    writer.run(sql, params!["next_xid", integer(next.xid)?])?;
    writer.run(sql, params!["next_oid", i64::from(next.oid)])?;
    writer.run(sql, params!["next_segment", integer(next.segment)?])
}

/// How the text of an automatic style begins.
const AUTO: &str = "AUTO";

fn distribution_text(
    style: DistributionStyle,
    is_automatic: bool,
) -> Result<(String, Option<u32>)> {
    let (text, distkey) = match style {
        DistributionStyle::Even => ("EVEN", None),
        DistributionStyle::All => ("ALL", None),
        DistributionStyle::Key(position) => ("KEY", Some(count(position)?)),
    };
    let text = if is_automatic { format!("{AUTO} {text}") } else { text.to_owned() };
    Ok((text, distkey))
}

fn distribution_from(style: &str, distkey: Option<u32>) -> Result<DistributionStyle> {
    match (style.trim_start_matches(AUTO).trim_start(), distkey) {
        // As it was written before there was a choice.
        ("", None) => Ok(DistributionStyle::Even),
        ("EVEN", None) => Ok(DistributionStyle::Even),
        ("ALL", None) => Ok(DistributionStyle::All),
        ("KEY", Some(position)) => Ok(DistributionStyle::Key(position as usize)),
        _ => Err(damaged("diststyle", style)),
    }
}

/// How the text of a column begins that statements may say values of.
const BY_DEFAULT: &str = "default ";

fn identity_text(identity: Identity) -> String {
    let Identity { seed, step, by_default } = identity;
    format!("{}{seed},{step}", if by_default { BY_DEFAULT } else { "" })
}

fn identity_from(text: Option<&str>) -> Result<Option<Identity>> {
    let Some(text) = text else { return Ok(None) };
    let numbers = text.strip_prefix(BY_DEFAULT).unwrap_or(text);
    let parsed = numbers.split_once(',').and_then(|(seed, step)| {
        Some(Identity {
            seed: seed.parse().ok()?,
            step: step.parse().ok().filter(|step| *step != 0)?,
            by_default: numbers.len() < text.len(),
        })
    });
    parsed.map(Some).ok_or_else(|| damaged("identity", text))
}

fn positions_from(text: &str) -> Result<Vec<usize>> {
    let number = |part: &str| part.parse().map_err(|_| damaged("sortkey", text));
    text.split(',').filter(|part| !part.is_empty()).map(number).collect()
}

fn damaged(what: &str, value: &str) -> Error {
    Error::CatalogDamaged(format!("{what} \"{value}\""))
}

/// SQLite's integers are signed; ours never reach the sign bit.
fn integer(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::Internal(format!("id {value} is out of range")))
}

fn count(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::Internal(format!("{value} is out of range")))
}

fn natural(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| damaged("id", &value.to_string()))
}

fn small(value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| damaged("oid", &value.to_string()))
}
