//! Damage: what a query says of it, who finds it, and what a disk that lies costs.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::DataFusionError;
use storage::error::Result;
use storage::io::{CallKind, Fault, FaultEffect, FaultyIo, Io, OutputFile};

use super::fixture::*;
use crate::error::{message, sqlstate};
use crate::integrity::IntegrityConfig;
use crate::scrub::scrub;
use crate::{Distribution, TableVersion, write_streams};

/// A table of one segment, whose file is the only one.
async fn table(fixture: &Fixture) -> (TableVersion, PathBuf) {
    let rows = wide_rows(&mut Random(3), 0, 70_000);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let version = fixture.insert(&empty, vec![vec![rows]]).await;
    let files = fixture.node.stored_files().unwrap();
    assert_eq!(files.len(), 1);
    (version, files[0].0.clone())
}

async fn ask(fixture: &Fixture, version: &TableVersion, sql: &str) -> Result<(), DataFusionError> {
    let session = fixture.session();
    fixture.register(&session, version);
    session.sql(sql).await?.collect().await.map(drop)
}

#[tokio::test]
async fn a_query_names_table_column_block_and_file() {
    let fixture = Fixture::new(1);
    let (version, path) = table(&fixture).await;
    // The first block is of the first column, whose numbers have no shared part.
    fixture.io.damage(&path, |bytes| bytes[64] ^= 1).unwrap();
    let error = ask(&fixture, &version, "SELECT sum(id + 1) FROM t").await.unwrap_err();
    assert_eq!(sqlstate(&error), Some("XX001"), "{error}");
    let expected = format!(
        "table \"t\" is damaged at column \"id\", row group 0 of file {}: its checksum does not fit",
        path.display()
    );
    assert_eq!(message(&error), expected);
    // What was not damaged is there.
    ask(&fixture, &version, "SELECT sum(k + 1) FROM t").await.unwrap();
    let held = fixture.node.held_files().unwrap();
    assert_eq!(held.iter().map(|file| file.is_damaged).collect::<Vec<_>>(), [true]);
    let damages = fixture.node.integrity().damages;
    assert_eq!(damages.len(), 1);
    let known = (damages[0].table, damages[0].number, damages[0].column.map(|column| column.0));
    assert_eq!(known, (version.table, held[0].number, Some(0)));
    // It is not damaged any more when it is gone.
    fixture.node.remove_table_files(version.table).unwrap();
    assert_eq!(fixture.node.integrity().damages, []);
}

#[tokio::test]
async fn an_end_of_a_file_that_is_damaged_names_the_table() {
    let fixture = Fixture::new(1);
    let (version, path) = table(&fixture).await;
    fixture.io.damage(&path, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let error = ask(&fixture, &version, "SELECT sum(id + 1) FROM t").await.unwrap_err();
    assert_eq!(sqlstate(&error), Some("XX001"), "{error}");
    assert!(message(&error).starts_with("table \"t\" is damaged at trailer of file "), "{error}");
}

fn quick() -> IntegrityConfig {
    IntegrityConfig {
        scrub_bytes_per_second: NonZeroU64::new(1 << 40),
        scrub_interval: Duration::from_millis(1),
        verify_writes_percent: 0,
    }
}

#[tokio::test]
async fn a_scrubber_reads_every_byte_and_finds_what_no_query_has_met() {
    let fixture = Fixture::with_integrity(1, quick(), |io| io);
    let (_, path) = table(&fixture).await;
    let length = fixture.io.contents(&path).unwrap().len() as u64;
    let mut scrubbing = tokio::task::JoinSet::new();
    scrubbing.spawn(scrub(Arc::clone(&fixture.node), Arc::new(|| 5)));
    let until = |condition: fn(&crate::integrity::IntegrityStatus) -> bool| {
        let node = Arc::clone(&fixture.node);
        async move {
            while !condition(&node.integrity()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            node.integrity()
        }
    };
    let status = until(|status| status.scrub.ended_us.is_some()).await;
    assert_eq!(status.damages, []);
    assert_eq!((status.scrub.began_us, status.scrub.ended_us), (Some(5), Some(5)));
    until(|status| status.scrub.files == 1 && !status.scrub.is_running).await;
    assert_eq!(fixture.node.scrub_status().bytes, length);
    fixture.io.damage(&path, |bytes| bytes[length as usize / 2] ^= 8).unwrap();
    let status = until(|status| !status.damages.is_empty()).await;
    assert_eq!(status.damages[0].path, path.display().to_string());
    assert!(!status.damages[0].is_healed);
}

/// A disk that says that it has written, and flips a bit of everything long.
#[derive(Debug)]
struct Lying(Arc<dyn Io>);

#[derive(Debug)]
struct LyingFile(Box<dyn OutputFile>);

impl OutputFile for LyingFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut bytes = bytes.to_vec();
        if bytes.len() > 1000 {
            bytes[500] ^= 16;
        }
        self.0.append(&bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.0.sync()
    }
}

impl Io for Lying {
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        Ok(Box::new(LyingFile(self.0.create(path)?)))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_at(path, offset, buffer)
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.0.len(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.0.remove(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        self.0.list(directory)
    }

    fn create_directory(&self, directory: &Path) -> Result<()> {
        self.0.create_directory(directory)
    }

    fn sync_directory(&self, directory: &Path) -> Result<()> {
        self.0.sync_directory(directory)
    }

    fn will_need(&self, path: &Path, offset: u64, length: u64) {
        self.0.will_need(path, offset, length);
    }
}

#[tokio::test]
async fn what_is_read_back_after_a_write_is_what_was_written() {
    for (verify_writes_percent, is_noticed) in [(100, true), (0, false)] {
        let config = IntegrityConfig { verify_writes_percent, ..quick() };
        let fixture = Fixture::with_integrity(1, config, |io| Arc::new(Lying(io)));
        let empty = fixture.empty_table("t", &wide_schema(), Distribution::Even);
        let rows = wide_rows(&mut Random(4), 0, 5000);
        let input = stream_of(&empty.arrow_schema, vec![rows]);
        let context = fixture.session().task_ctx();
        let target = fixture.target(&empty);
        let written = write_streams(&fixture.node, target, vec![input], context).await;
        let code = written.as_ref().err().and_then(|error| sqlstate(error).map(str::to_owned));
        assert_eq!(code.as_deref(), is_noticed.then_some("XX001"));
        drop(written);
        assert_eq!(fixture.file_count(), usize::from(!is_noticed));
        assert_eq!(fixture.node.scrub_status().writes_verified, 0);
    }
    let config = IntegrityConfig { verify_writes_percent: 100, ..quick() };
    let fixture = Fixture::with_integrity(1, config, |io| io);
    table(&fixture).await;
    assert_eq!(fixture.node.scrub_status().writes_verified, 1);
}

#[tokio::test]
async fn what_cannot_be_read_back_is_not_taken_for_damage() {
    let unreadable = Fault {
        kind: Some(CallKind::ReadAt),
        call: 0,
        lasting: false,
        effect: FaultEffect::Nothing,
        os_error: 5,
    };
    let config = IntegrityConfig { verify_writes_percent: 100, ..quick() };
    let faulty = |io| Arc::new(FaultyIo::new(io, unreadable)) as Arc<dyn Io>;
    let fixture = Fixture::with_integrity(1, config, faulty);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let input = stream_of(&empty.arrow_schema, vec![wide_rows(&mut Random(4), 0, 5000)]);
    let context = fixture.session().task_ctx();
    let target = fixture.target(&empty);
    let error = write_streams(&fixture.node, target, vec![input], context).await.err().unwrap();
    assert_eq!(sqlstate(&error), Some("58030"), "{error}");
    assert_eq!(fixture.file_count(), 0);
}
