//! Digests of what the tables of the catalog hold, kept in the catalog: a bit that flips anywhere in the
//! file either changes nothing that is read, or what is read does not fit its digest any more.
//!
//! The digest of a table is the number of its rows and the sum of a hash of each, so that a row that
//! comes, goes or changes costs one or two hashes. Triggers of the connection, which are not part of
//! the file, see every row that changes, by cascades and replacements too; the sums are written with
//! the rows, in the same SQLite transaction. When the file is opened, all rows are hashed again.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::error::{Error, Result};

/// Where the digests are.
pub(super) const SCHEMA: &str = "
CREATE TABLE digests (id INTEGER PRIMARY KEY CHECK (id = 0), value BLOB NOT NULL) STRICT;
INSERT INTO digests VALUES (0, x'');
";

/// Writes the digests. They are part of the record of a write, so that copies have them too.
pub(super) const WRITE: &str = "UPDATE digests SET value = ?1";

/// The tables, in the order of their digests. The definitions of all tables come first.
const TABLES: [&str; 13] = [
    "sqlite_master",
    "meta",
    "commit_record",
    "schemas",
    "tables",
    "columns",
    "segments",
    "deletions",
    "users",
    "groups",
    "parameters",
    "roles",
    "comments",
];
/// How many of them format 6 has.
const TABLES_OF_FORMAT_6: usize = 12;
/// Tables before this one change only with the format of the file.
const FIRST_WITH_ROWS: usize = 1;

const DIGEST_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 8;

/// The name of the function that the triggers call.
const NOTE: &str = "note_row";

/// Of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    rows: u64,
    sum: u128,
}

impl Digest {
    fn add(&mut self, hash: u128) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash);
    }

    fn remove(&mut self, hash: u128) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash);
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sums([Digest; TABLES.len()]);

impl Sums {
    fn to_bytes(&self) -> Vec<u8> {
        self.first_to_bytes(TABLES.len())
    }

    /// The digests of the first so many tables.
    fn first_to_bytes(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count * DIGEST_BYTES + CHECKSUM_BYTES);
        for Digest { rows, sum } in &self.0[..count] {
            bytes.extend_from_slice(&rows.to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// The digests of so many tables.
    fn from_bytes(bytes: &[u8], count: usize) -> Option<Self> {
        let (digests, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if xxh3_64(digests) != u64::from_le_bytes(*checksum)
            || digests.len() != count * DIGEST_BYTES
        {
            return None;
        }
        let mut sums = Self::default();
        for (sum, bytes) in sums.0.iter_mut().zip(digests.chunks_exact(DIGEST_BYTES)) {
            let (rows, hashes) = bytes.split_first_chunk::<8>()?;
            *sum = Digest {
                rows: u64::from_le_bytes(*rows),
                sum: u128::from_le_bytes(hashes.try_into().ok()?),
            };
        }
        Some(sums)
    }

    /// Of all rows that are there in the first so many tables.
    fn of(connection: &Connection, count: usize) -> Result<Self> {
        let mut sums = Self::default();
        for (table, name) in TABLES.iter().enumerate().take(count) {
            let sql = match table < FIRST_WITH_ROWS {
                true => format!("SELECT type, name, tbl_name, sql FROM main.{name}"),
                // The rows themselves, and not what an index says of them.
                false => format!("SELECT * FROM main.\"{name}\" NOT INDEXED"),
            };
            let mut query = connection.prepare(&sql)?;
            let columns = query.column_count();
            let (mut rows, mut buffer) = (query.query([])?, Vec::new());
            while let Some(row) = rows.next()? {
                buffer.clear();
                buffer.push(table as u8);
                for column in 0..columns {
                    put(&mut buffer, row.get_ref(column)?);
                }
                sums.0[table].add(xxh3_128(&buffer));
            }
        }
        Ok(sums)
    }
}

/// What the triggers have seen.
#[derive(Debug, Default)]
struct Seen {
    sums: Sums,
    buffer: Vec<u8>,
}

/// The digests of an open catalog.
#[derive(Debug)]
pub(super) struct Digests {
    committed: Sums,
    seen: Arc<Mutex<Seen>>,
}

impl Digests {
    /// Writes the digests of what is there, in a transaction that has just made the table of digests.
    pub(super) fn write_first(connection: &Connection) -> Result<()> {
        let sums = Sums::of(connection, TABLES.len())?;
        connection.execute(WRITE, params![sums.to_bytes()])?;
        Ok(())
    }

    /// Refuses a file of format 6 that does not hold what was written.
    pub(super) fn check_format_6(connection: &Connection) -> Result<()> {
        Self::check(connection, TABLES_OF_FORMAT_6).map(drop)
    }

    /// Keeps the digests from now on.
    ///
    /// # Errors
    /// If what is there is not what was written.
    pub(super) fn open(connection: &Connection) -> Result<Self> {
        let committed = Self::check(connection, TABLES.len())?;
        let seen = Arc::default();
        watch(connection, &seen)?;
        Ok(Self { committed, seen })
    }

    /// The digests of the first so many tables, if what is there is what was written.
    fn check(connection: &Connection, count: usize) -> Result<Sums> {
        let committed = read(connection, count)?;
        let found = Sums::of(connection, count)?;
        let differing: Vec<&str> = (TABLES.iter().enumerate())
            .filter(|(table, _)| committed.0[*table] != found.0[*table])
            .map(|(_, name)| *name)
            .collect();
        if !differing.is_empty() {
            let text = format!("the rows of {} are not those written", differing.join(", "));
            return Err(Error::CatalogDamaged(text));
        }
        Ok(committed)
    }

    /// A transaction begins.
    pub(super) fn begin(&self) {
        self.seen.lock().sums.clone_from(&self.committed);
    }

    /// What the transaction has to write, if it has changed anything.
    pub(super) fn changed(&self) -> Option<Vec<u8>> {
        let seen = self.seen.lock();
        (seen.sums != self.committed).then(|| seen.sums.to_bytes())
    }

    /// The transaction is durable.
    pub(super) fn commit(&mut self) {
        self.committed.clone_from(&self.seen.lock().sums);
    }
}

fn read(connection: &Connection, count: usize) -> Result<Sums> {
    let damaged = || Error::CatalogDamaged("the digests of its tables do not fit".into());
    let bytes: Vec<u8> = connection.query_row("SELECT value FROM digests", [], |row| row.get(0))?;
    Sums::from_bytes(&bytes, count).ok_or_else(damaged)
}

/// Has every change of a row noted.
fn watch(connection: &Connection, seen: &Arc<Mutex<Seen>>) -> Result<()> {
    // Without it, rows that INSERT OR REPLACE takes away are taken silently.
    connection.pragma_update(None, "recursive_triggers", "ON")?;
    let noting = Arc::clone(seen);
    let flags = FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function(NOTE, -1, flags, move |context| {
        note(&mut noting.lock(), context)
    })?;
    for (table, name) in TABLES.iter().enumerate().skip(FIRST_WITH_ROWS) {
        let row = |row: &str| -> Result<String> {
            let sql = format!("SELECT name FROM pragma_table_info('{name}') ORDER BY cid");
            let mut query = connection.prepare(&sql)?;
            let columns = query.query_map([], |row| row.get::<_, String>(0))?;
            let columns: Vec<String> = columns.collect::<rusqlite::Result<_>>()?;
            let values = columns.iter().map(|column| format!("{row}.\"{column}\""));
            Ok(values.collect::<Vec<_>>().join(", "))
        };
        let (old, new) = (row("OLD")?, row("NEW")?);
        let remove = format!("SELECT {NOTE}({table}, 0, {old});");
        let add = format!("SELECT {NOTE}({table}, 1, {new});");
        connection.execute_batch(&format!(
            "CREATE TEMP TRIGGER digest_insert_{name} AFTER INSERT ON main.\"{name}\" BEGIN {add} END;
             CREATE TEMP TRIGGER digest_delete_{name} AFTER DELETE ON main.\"{name}\" BEGIN {remove} END;
             CREATE TEMP TRIGGER digest_update_{name} AFTER UPDATE ON main.\"{name}\" \
             BEGIN {remove} {add} END;"
        ))?;
    }
    Ok(())
}

/// (table, whether the row comes or goes, values)
fn note(seen: &mut Seen, context: &Context<'_>) -> rusqlite::Result<bool> {
    let table = context.get::<u8>(0)?;
    let Seen { sums, buffer } = seen;
    buffer.clear();
    buffer.push(table);
    for value in 2..context.len() {
        put(buffer, context.get_raw(value));
    }
    let hash = xxh3_128(buffer);
    if let Some(digest) = sums.0.get_mut(usize::from(table)) {
        match context.get::<bool>(1)? {
            true => digest.add(hash),
            false => digest.remove(hash),
        }
    }
    Ok(true)
}

/// A value, so that no two rows have the same bytes.
fn put(buffer: &mut Vec<u8>, value: ValueRef<'_>) {
    let mut put_bytes = |kind: u8, bytes: &[u8]| {
        buffer.push(kind);
        buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        buffer.extend_from_slice(bytes);
    };
    match value {
        ValueRef::Null => put_bytes(0, &[]),
        ValueRef::Integer(value) => put_bytes(1, &value.to_le_bytes()),
        ValueRef::Real(value) => put_bytes(2, &value.to_bits().to_le_bytes()),
        ValueRef::Text(bytes) => put_bytes(3, bytes),
        ValueRef::Blob(bytes) => put_bytes(4, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::log::CatalogLog;

    /// A catalog's tables with whatever columns; the digests are of names only.
    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "foreign_keys", "ON").unwrap();
        for name in TABLES.iter().skip(FIRST_WITH_ROWS).filter(|name| **name != "columns") {
            let sql = format!("CREATE TABLE \"{name}\" (a INTEGER PRIMARY KEY, b UNIQUE, c BLOB)");
            connection.execute_batch(&sql).unwrap();
        }
        let cascade = "CREATE TABLE columns (a INTEGER REFERENCES tables (a) ON DELETE CASCADE, b)";
        connection.execute_batch(cascade).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        Digests::write_first(&connection).unwrap();
        connection
    }

    #[test]
    fn every_way_to_change_rows_is_seen() {
        let connection = connection();
        let digests = Digests::open(&connection).unwrap();
        digests.begin();
        for sql in [
            "INSERT INTO tables VALUES (1, 'x', x'00'), (2, NULL, 1.5), (3, 'z', -7)",
            "INSERT INTO columns VALUES (1, 1), (1, 1), (2, 2)",
            "UPDATE tables SET c = 'other' WHERE a > 1",
            "INSERT OR REPLACE INTO tables VALUES (9, 'z', NULL)",
            "INSERT OR REPLACE INTO tables VALUES (2, 'x', NULL)",
            "INSERT OR IGNORE INTO tables VALUES (9, 'q', NULL)",
            "INSERT INTO meta VALUES (1, 'n', 0) ON CONFLICT (a) DO UPDATE SET c = c + 1",
            "INSERT INTO meta VALUES (1, 'n', 0) ON CONFLICT (a) DO UPDATE SET c = c + 1",
            "UPDATE meta SET a = 5",
            "DELETE FROM tables WHERE a = 2",
            "DELETE FROM tables",
        ] {
            connection.execute_batch(sql).unwrap();
            assert_eq!(
                digests.seen.lock().sums,
                Sums::of(&connection, TABLES.len()).unwrap(),
                "{sql}"
            );
        }
        assert!(digests.changed().is_some());
    }

    #[test]
    fn rows_that_are_not_those_written_are_found() {
        let connection = connection();
        let change = "INSERT INTO users VALUES (1, 'ann', 0)";
        connection.execute_batch(change).unwrap();
        let error = Digests::open(&connection).unwrap_err().to_string();
        assert!(error.contains("the rows of users are not those written"), "{error}");
        connection.execute_batch("DELETE FROM users").unwrap();
        Digests::open(&connection).unwrap();
        connection.execute_batch("CREATE INDEX i ON users (c)").unwrap();
        let error = Digests::open(&connection).unwrap_err().to_string();
        assert!(error.contains("sqlite_master"), "{error}");
    }

    #[test]
    fn digests_have_a_checksum_of_their_own() {
        let mut sums = Sums::default();
        sums.0[3].add(77);
        let bytes = sums.to_bytes();
        assert_eq!(Sums::from_bytes(&bytes, TABLES.len()), Some(sums));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Sums::from_bytes(&flipped, TABLES.len()), None, "bit {bit}");
        }
        assert_eq!(Sums::from_bytes(&bytes[1..], TABLES.len()), None);
        assert_eq!(Sums::from_bytes(&[], TABLES.len()), None);
    }

    /// A catalog as format 6 has it.
    fn make_format_6(path: &std::path::Path) -> Connection {
        drop(CatalogLog::open(path).unwrap());
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch("DROP TABLE comments; UPDATE meta SET value = 6 WHERE name = 'format'")
            .unwrap();
        let sums = Sums::of(&connection, TABLES_OF_FORMAT_6).unwrap();
        connection.execute(WRITE, params![sums.first_to_bytes(TABLES_OF_FORMAT_6)]).unwrap();
        connection
    }

    #[test]
    fn a_file_of_format_6_is_checked_before_it_is_upgraded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sound.sqlite");
        drop(make_format_6(&path));
        assert_eq!(CatalogLog::open(&path).unwrap().problems(), Vec::<String>::new());
        let path = directory.path().join("damaged.sqlite");
        let connection = make_format_6(&path);
        connection.execute_batch("UPDATE meta SET value = 9 WHERE name = 'next_xid'").unwrap();
        drop(connection);
        let error = CatalogLog::open(&path).unwrap_err().to_string();
        assert!(error.contains("the rows of meta are not those written"), "{error}");
    }
}
