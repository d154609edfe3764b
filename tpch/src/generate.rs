//! TPC-H data as Parquet files, in the layout that COPY reads: `<bucket>/<table>/part-NNNNN.parquet`.
//!
//! Parts of tables are made independently, one per core at a time, so memory does not grow with
//! the scale. The files carry no Arrow schema: they look as any other Parquet writer's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context as _, bail};
use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::progress::Progress;
use crate::tables::{Columns, Table};

/// Rows of one file at most; a file of lineitem is then some 70 MB.
const FILE_ROWS_MAX: u64 = 2_000_000;
/// Tables below this have one file.
const SPLIT_ROWS_MIN: u64 = 50_000;
/// Rows made and encoded at a time.
const BATCH_ROWS: usize = 32_768;
/// Rows of one Parquet row group: bounds the writer's memory, and lets a reader work in parallel.
const ROW_GROUP_ROWS: usize = 262_144;

/// What was made.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder that holds one folder per table.
    pub directory: PathBuf,
    /// Rows of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Dataset {
    /// Rows of all tables.
    pub fn rows_total(&self) -> u64 {
        self.rows.iter().map(|(_, rows)| rows).sum()
    }
}

/// One file to write.
#[derive(Debug, Clone, Copy)]
struct Piece {
    table: Table,
    part: i32,
    part_count: i32,
}

/// Write all tables at a scale factor below `directory`.
///
/// The number of files of a big table is a multiple of `slices`, as COPY likes it.
/// `cancelled` stops the work with an error at the next batch.
pub fn generate(
    directory: &Path,
    scale: f64,
    slices: u32,
    cancelled: &AtomicBool,
) -> anyhow::Result<Dataset> {
    for table in Table::ALL {
        let folder = directory.join(table.name());
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let pieces = pieces(scale, slices)?;
    let work = Work {
        directory,
        scale,
        next: AtomicUsize::new(0),
        rows: Table::ALL.map(|_| AtomicU64::new(0)),
        bytes: AtomicU64::new(0),
        failure: Mutex::new(None),
        progress: Progress::new("generating", pieces.len()),
        pieces,
        cancelled,
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work.run());
        }
    });
    work.progress.finish();
    if let Some(error) = work.failure.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
        return Err(error);
    }
    let rows = Table::ALL.iter().zip(&work.rows);
    Ok(Dataset {
        directory: directory.to_path_buf(),
        rows: rows.map(|(table, rows)| (table.name(), rows.load(Ordering::Relaxed))).collect(),
        bytes: work.bytes.into_inner(),
    })
}

/// The files of all tables, those of big tables first so that the last ones to finish are small.
fn pieces(scale: f64, slices: u32) -> anyhow::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for table in Table::ALL.into_iter().rev() {
        let part_count = part_count(table.rows_expected(scale), slices);
        let part_count = i32::try_from(part_count).context("the scale factor is too large")?;
        pieces.extend((1..=part_count).map(|part| Piece { table, part, part_count }));
    }
    Ok(pieces)
}

fn part_count(rows: u64, slices: u32) -> u64 {
    if rows < SPLIT_ROWS_MIN {
        return 1;
    }
    rows.div_ceil(FILE_ROWS_MAX).next_multiple_of(u64::from(slices.max(1)))
}

/// The state that the generating threads share.
struct Work<'a> {
    directory: &'a Path,
    scale: f64,
    pieces: Vec<Piece>,
    next: AtomicUsize,
    rows: [AtomicU64; Table::ALL.len()],
    bytes: AtomicU64,
    failure: Mutex<Option<anyhow::Error>>,
    progress: Progress,
    cancelled: &'a AtomicBool,
}

impl Work<'_> {
    fn run(&self) {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = self.write(*piece) {
                let mut failure = self.failure.lock().unwrap_or_else(|poison| poison.into_inner());
                failure.get_or_insert(error);
                // No thread takes another piece.
                self.next.store(self.pieces.len(), Ordering::Relaxed);
                return;
            }
            self.progress.step(piece.table.name());
        }
    }

    fn write(&self, piece: Piece) -> anyhow::Result<()> {
        let name = format!("part-{:05}.parquet", piece.part);
        let path = self.directory.join(piece.table.name()).join(name);
        let context = || format!("cannot write {}", path.display());
        let mut file = ParquetFile { path: &path, writer: None };
        let parts = (piece.part, piece.part_count);
        let rows = piece
            .table
            .generate(self.scale, parts, BATCH_ROWS, |columns| {
                if self.cancelled.load(Ordering::Relaxed) {
                    bail!("interrupted");
                }
                file.write(columns)
            })
            .with_context(context)?;
        file.close().with_context(context)?;
        self.bytes.fetch_add(std::fs::metadata(&path)?.len(), Ordering::Relaxed);
        let index = Table::ALL.iter().position(|table| *table == piece.table).unwrap_or(0);
        self.rows[index].fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }
}

/// A Parquet file whose columns are known from its first batch.
struct ParquetFile<'a> {
    path: &'a Path,
    writer: Option<ArrowWriter<File>>,
}

impl ParquetFile<'_> {
    fn write(&mut self, columns: Columns) -> anyhow::Result<()> {
        let columns = columns.into_iter().map(|(name, array)| (name, array, false));
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let options = ArrowWriterOptions::new()
                    .with_properties(properties)
                    .with_skip_arrow_metadata(true);
                let schema = Arc::clone(batch.schema_ref());
                let file = File::create(self.path)?;
                empty.insert(ArrowWriter::try_new_with_options(file, schema, options)?)
            }
        };
        writer.write(&batch)?;
        Ok(())
    }

    fn close(self) -> anyhow::Result<()> {
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a folder's files, and their columns' types.
    fn read(folder: &Path) -> (u64, arrow::datatypes::SchemaRef) {
        use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        let mut rows = 0;
        let mut schema = None;
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = File::open(entry.unwrap().path()).unwrap();
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            schema = Some(Arc::clone(builder.schema()));
            rows +=
                builder.build().unwrap().map(|batch| batch.unwrap().num_rows() as u64).sum::<u64>();
        }
        (rows, schema.unwrap())
    }

    #[test]
    fn files_hold_every_row_in_the_types_of_the_tables() {
        let directory = tempfile::tempdir().unwrap();
        let made = generate(directory.path(), 0.01, 2, &AtomicBool::new(false)).unwrap();
        // Sizes of dbgen at this scale; lineitem's is in the specification's table for scale 1
        // only, here it is dbgen's own output.
        let expected = [5, 25, 100, 1_500, 2_000, 8_000, 15_000, 60_175];
        for ((table, rows), expected) in made.rows.iter().zip(expected) {
            assert_eq!(*rows, expected, "{table}");
            let (read_rows, schema) = read(&directory.path().join(table));
            assert_eq!(read_rows, expected, "{table}");
            let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            assert_eq!(columns, columns_of(table), "{table}");
        }
        let (_, schema) = read(&directory.path().join("lineitem"));
        use arrow::datatypes::DataType;
        let kind = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
        assert_eq!(kind("l_orderkey"), DataType::Int64);
        assert_eq!(kind("l_linenumber"), DataType::Int32);
        assert_eq!(kind("l_quantity"), DataType::Decimal128(15, 2));
        assert_eq!(kind("l_shipdate"), DataType::Date32);
        assert_eq!(kind("l_comment"), DataType::Utf8);
        assert_eq!(std::fs::read_dir(directory.path().join("lineitem")).unwrap().count(), 2);
    }

    /// The columns of a table in `schema.sql`, which COPY matches by position.
    fn columns_of(table: &str) -> Vec<String> {
        let schema = include_str!("../schema.sql");
        let start = schema.find(&format!("CREATE TABLE {table} (")).unwrap();
        schema[start..]
            .lines()
            .skip(1)
            .take_while(|line| !line.starts_with(')'))
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn parts_are_a_multiple_of_the_slices() {
        assert_eq!(part_count(25, 4), 1);
        assert_eq!(part_count(60_000, 4), 4);
        assert_eq!(part_count(6_000_000, 2), 4);
        assert_eq!(part_count(600_000_000, 8), 304);
    }

    #[test]
    fn a_cancelled_run_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let made = generate(directory.path(), 0.01, 2, &AtomicBool::new(true));
        assert!(made.unwrap_err().chain().any(|cause| cause.to_string() == "interrupted"));
    }
}
