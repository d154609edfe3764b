//! Making a catalog file again from copies of it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{CatalogLog, LogRecord, write_count};
use crate::error::{Error, Result};

/// Makes the file of a log, which must not exist, from an image of it and what was written to it
/// since. Durable when it returns.
///
/// # Errors
/// Fails if the records do not follow the image, or if the result is not a sound catalog; then
/// there is no file of that name.
pub fn rebuild(path: &Path, image: &[u8], records: &[LogRecord]) -> Result<()> {
    let io = |source| Error::Io { action: format!("write {}", path.display()), source };
    let temporary = path.with_extension("rebuilt");
    for leftover in ["", "-wal", "-shm", "-journal"] {
        let mut name = temporary.clone().into_os_string();
        name.push(leftover);
        remove_if_there(&PathBuf::from(name)).map_err(io)?;
    }
    fs::write(&temporary, image).map_err(io)?;
    let mut log = CatalogLog::open(&temporary)?;
    for record in records {
        log.replay(record)?;
    }
    log.check()?;
    // One file, without another beside it, that can be given its name.
    log.connection.pragma_update(None, "journal_mode", "DELETE")?;
    drop(log);
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(&temporary)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(io)
}

impl CatalogLog {
    fn replay(&mut self, record: &LogRecord) -> Result<()> {
        self.transact(|transaction| {
            transaction.execute_batch(&record.statements)?;
            let number = write_count(transaction)?;
            if number != record.number {
                let text = format!("record {} came where {number} was due", record.number);
                return Err(Error::CatalogDamaged(text));
            }
            Ok(())
        })
    }

    fn check(&self) -> Result<()> {
        match self.problems().into_iter().next() {
            Some(problem) => Err(Error::CatalogDamaged(problem)),
            None => Ok(()),
        }
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusqlite::{Connection, MAIN_DB};
    use storage::ids::{TableId, Xid};

    use super::*;
    use crate::catalog::log::{COUNT_WRITE, NextIds, SCHEMA, SCHEMA_OF_USERS};
    use crate::catalog::{
        Change, DistributionStyle, GroupEntry, SchemaEntry, SegmentList, TableEntry, UserEntry,
    };

    fn next(number: u32) -> NextIds {
        NextIds { xid: u64::from(number), oid: 200_000 + number, segment: 7 * u64::from(number) }
    }

    fn table(id: u32) -> Change {
        Change::CreateTable(Arc::new(TableEntry {
            id: TableId(id),
            schema: "it's".into(),
            name: format!("t{id}\"; --"),
            owner: "o".into(),
            columns: vec![],
            distribution: DistributionStyle::Even,
            is_automatic: false,
            sort_key: vec![],
            constraints: vec![],
            placement_fingerprint: u64::MAX,
            slices: vec![SegmentList::new(); 2],
            deletions: Default::default(),
            numbers_taken: 0,
        }))
    }

    fn fill(log: &mut CatalogLog, numbers: std::ops::Range<u32>) -> Vec<LogRecord> {
        let records = numbers.map(|number| {
            let user = UserEntry {
                name: format!("u{number}\n"),
                oid: number,
                verifier: Some("SCRAM-SHA-256$4096:'';;$\u{e9}".into()),
                settings: vec![("search_path".into(), "it's; --".into())],
                ..UserEntry::default()
            };
            let group = GroupEntry {
                oid: 100 + number,
                name: format!("g{number}'"),
                members: vec![2, number],
            };
            let changes = [
                table(number),
                Change::PutUser(user, None),
                Change::PutGroup(group, None),
                Change::PutParameter("p'".into(), Some(format!("{{\"n\": {number}}}"))),
            ];
            log.commit(&[(Xid(u64::from(number)), &changes)], next(number)).unwrap()
        });
        records.collect()
    }

    fn text(log: &CatalogLog) -> String {
        let (snapshot, next) = log.read().unwrap();
        let mut tables: Vec<_> = snapshot.tables().collect();
        tables.sort_by_key(|table| table.id);
        let mut users: Vec<_> = snapshot.users().collect();
        users.sort_by_key(|user| user.oid);
        let mut groups: Vec<_> = snapshot.groups().collect();
        groups.sort_by_key(|group| group.oid);
        let mut schemas: Vec<_> = snapshot.schemas().collect();
        schemas.sort_by_key(|schema| schema.oid);
        let parameters = snapshot.parameters();
        format!("{tables:?} {users:?} {groups:?} {schemas:?} {parameters:?} {next:?}")
    }

    #[test]
    fn an_image_and_its_records_give_the_same_catalog() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = CatalogLog::open(&directory.path().join("catalog.sqlite")).unwrap();
        let schema = SchemaEntry { oid: 1, name: "it's".into(), owner: "o".into() };
        log.commit(&[(Xid(1), &[Change::CreateSchema(schema)])], next(1)).unwrap();
        fill(&mut log, 2..10);
        assert_eq!(log.number().unwrap(), 9);
        let image = log.image().unwrap();
        let mut records = fill(&mut log, 10..20);
        // The owner of the schema gets another name, one of its group goes, and a parameter.
        let owner = UserEntry { oid: 30, name: "o".into(), ..UserEntry::default() };
        records.push(
            log.commit(&[(Xid(97), &[Change::PutUser(owner.clone(), None)])], next(21)).unwrap(),
        );
        let renamed = UserEntry { name: "it's p".into(), ..owner.clone() };
        let changes = [
            Change::PutUser(renamed, Some(owner)),
            Change::DropUser(2),
            Change::DropGroup(105),
            Change::PutParameter("p'".into(), None),
        ];
        records.push(log.commit(&[(Xid(98), &changes)], next(22)).unwrap());
        let dropped = [Change::DropTable(TableId(3)), Change::Truncate(TableId(4))];
        records.push(log.commit(&[(Xid(99), &dropped)], next(50)).unwrap());
        records.push(log.note_next_ids(next(60)).unwrap());
        let path = directory.path().join("again.sqlite");
        rebuild(&path, &image, &records).unwrap();
        let again = CatalogLog::open(&path).unwrap();
        assert_eq!(text(&again), text(&log));
        assert_eq!(again.number().unwrap(), 23);
        // It goes on where the lost one ended.
        drop(again);
        let mut again = CatalogLog::open(&path).unwrap();
        assert_eq!(fill(&mut again, 21..22)[0].number, 24);
    }

    #[test]
    fn an_image_of_the_format_before_becomes_one_of_this_format() {
        let directory = tempfile::tempdir().unwrap();
        let mut old = Connection::open(directory.path().join("old.sqlite")).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        old.execute_batch(SCHEMA_OF_USERS).unwrap();
        old.execute_batch(
            "INSERT INTO meta VALUES ('format', 2), ('next_xid', 1), ('next_oid', 8),
             ('next_segment', 1); INSERT INTO users VALUES ('before', 7, 'v', 1);
             INSERT INTO schemas VALUES ('it''s', 6, 'before');",
        )
        .unwrap();
        let image = old.serialize(MAIN_DB).unwrap().to_vec();
        // What a server of that format wrote, and then this one, on the file that it had opened.
        let user = "INSERT OR REPLACE INTO users (name, oid, verifier, superuser) \
                    VALUES ('after', 8, 'w', 0)";
        let statements = format!("{user};\n{COUNT_WRITE};\n");
        old.execute_batch(&statements).unwrap();
        drop(old);
        let mut records = vec![LogRecord { number: 1, statements }];
        let mut log = CatalogLog::open(&directory.path().join("old.sqlite")).unwrap();
        records.extend(fill(&mut log, 10..12));
        assert_eq!(records[1].number, 2);
        let path = directory.path().join("again.sqlite");
        rebuild(&path, &image, &records).unwrap();
        let again = CatalogLog::open(&path).unwrap();
        assert_eq!(text(&again), text(&log));
        let (snapshot, _) = again.read().unwrap();
        assert!(snapshot.user("before").is_some_and(|user| user.superuser));
        assert!(snapshot.user("after").is_some_and(|user| !user.superuser));
    }

    #[test]
    fn a_gap_or_a_damaged_image_makes_no_catalog() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = CatalogLog::open(&directory.path().join("catalog.sqlite")).unwrap();
        let image = log.image().unwrap();
        let schema = SchemaEntry { oid: 1, name: "it's".into(), owner: "o".into() };
        log.commit(&[(Xid(1), &[Change::CreateSchema(schema)])], next(1)).unwrap();
        let records = fill(&mut log, 2..6);
        let path = directory.path().join("again.sqlite");
        rebuild(&path, &image, &records).unwrap_err();
        rebuild(&path, &image[..image.len() / 2], &[]).unwrap_err();
        rebuild(&path, b"not a database", &[]).unwrap_err();
        assert!(!path.try_exists().unwrap());
    }
}
