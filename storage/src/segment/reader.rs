//! Reads one segment file: the footer on opening, chunks when a scan asks for them. No byte reaches
//! a decoder before its block's checksum was verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::OpenFile;
use super::footer::{Footer, FooterColumn, row_group_rows};
use crate::cache::{CacheKey, CachePart, CacheValue, ChunkCache};
use crate::deletion_vector::DeletionVector;
use crate::encoding::{ColumnChunk, Encoding, SharedColumn};
use crate::error::{Error, Result};
use crate::ids::{ColumnId, SegmentId};
use crate::io::Io;
use crate::predicate::Predicate;
use crate::scan::RowGroupScan;
use crate::schema::TableSchema;
use crate::statistics::SegmentInfo;
use crate::verify::Place;
use crate::zone_map::Zone;

/// An open segment, as a snapshot sees it; clones share it. It holds no file descriptor: the file
/// must stay where it is while a snapshot that sees the segment is in use.
///
/// Zones and statistics are those of all rows, deleted ones included: they bound what a scan gives.
#[derive(Debug, Clone)]
pub struct Segment {
    inner: Arc<Inner>,
    /// The rows that scans leave out; `None`: no row is deleted.
    deletions: Option<Arc<DeletionVector>>,
}

#[derive(Debug)]
struct Inner {
    io: Arc<dyn Io>,
    path: PathBuf,
    schema: Arc<TableSchema>,
    cache: Arc<ChunkCache>,
    columns: Vec<FooterColumn>,
    info: SegmentInfo,
    /// For each column of the schema its position in `columns`; `None` if the segment was written
    /// before the column was added: all its values are NULL.
    stored: Vec<Option<usize>>,
}

impl Segment {
    /// Opens the segment `id`: reads and verifies all but the blocks.
    ///
    /// `schema` is the table as it is now: columns are found by id, dropped ones are not seen, and
    /// nullable ones that were added later read as NULL.
    pub fn open(
        io: Arc<dyn Io>,
        path: &Path,
        id: SegmentId,
        schema: Arc<TableSchema>,
        cache: Arc<ChunkCache>,
    ) -> Result<Segment> {
        let file = OpenFile { io: io.as_ref(), path, id };
        let (footer, info) = file.read_ends()?;
        let stored = match_columns(&schema, &footer)?;
        let path = path.to_owned();
        let columns = footer.columns;
        let inner = Arc::new(Inner { io, path, schema, cache, columns, info, stored });
        Ok(Segment { inner, deletions: None })
    }

    /// The same segment without the rows that this vector deletes; an earlier vector has no say any
    /// more. What was opened and cached is shared.
    pub fn with_deletions(&self, deletions: Arc<DeletionVector>) -> Segment {
        assert!(deletions.is_for(self.info()), "a deletion vector is for one segment file");
        Segment { inner: Arc::clone(&self.inner), deletions: Some(deletions) }
    }

    /// The same segment with all its rows, deleted ones included.
    pub(crate) fn with_all_rows(&self) -> Segment {
        Segment { inner: Arc::clone(&self.inner), deletions: None }
    }

    /// The deletion vector, if there is one.
    pub fn deletions(&self) -> Option<&Arc<DeletionVector>> {
        self.deletions.as_ref()
    }

    /// Checks that the file is the one that `expected` was made of, not an earlier file of the same
    /// name and id.
    pub fn check_identity(&self, expected: &SegmentInfo) -> Result<()> {
        let found = &self.inner.info;
        if (found.id, found.fingerprint) == (expected.id, expected.fingerprint) {
            return Ok(());
        }
        let reason = "it is another file than the catalog knows".into();
        Err(self.file().corrupt(Place::Trailer, reason))
    }

    /// The id.
    pub fn id(&self) -> SegmentId {
        self.inner.info.id
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The table's columns as [`Segment::open`] was told.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.inner.schema
    }

    /// Row count, sizes and statistics of all rows, as the writer returned them.
    pub fn info(&self) -> &SegmentInfo {
        &self.inner.info
    }

    /// Rows, deleted ones included.
    pub fn row_count(&self) -> u64 {
        self.inner.info.row_count
    }

    /// Rows that are not deleted.
    pub fn live_rows(&self) -> u64 {
        match &self.deletions {
            Some(deletions) => deletions.live_rows(),
            None => self.row_count(),
        }
    }

    /// How many row groups there are.
    pub fn row_group_count(&self) -> usize {
        super::footer::row_group_count(self.row_count())
    }

    /// How many rows of a row group are not deleted.
    pub fn live_row_group_rows(&self, row_group: usize) -> usize {
        match &self.deletions {
            Some(deletions) => deletions.live_rows_in(row_group),
            None => self.row_group_rows(row_group),
        }
    }

    /// How many rows a row group has, deleted ones included.
    pub fn row_group_rows(&self, row_group: usize) -> usize {
        row_group_rows(self.row_count(), row_group)
    }

    /// How a column of the schema is encoded; `None` if it was added after the segment was written.
    pub fn encoding(&self, column: usize) -> Option<Encoding> {
        self.stored(column).map(|stored| stored.encoding)
    }

    /// The zone map of a column of the schema in a row group: of all its rows, deleted ones included.
    pub fn zone(&self, row_group: usize, column: usize) -> Zone {
        match self.stored(column) {
            Some(stored) => stored.chunks[row_group].zone.clone(),
            None => {
                let rows = self.row_group_rows(row_group) as u64;
                Zone { row_count: rows, null_count: rows, ..Zone::empty() }
            }
        }
    }

    /// Starts to scan a row group for the rows that are not deleted and pass all `predicates`. `None`
    /// when all are deleted, or when zone maps or the encoded constants prove that no row passes.
    /// Reads and verifies the chunks of the
    /// predicates' columns; those of other columns are read when they are decoded.
    pub fn scan_row_group(
        &self,
        row_group: usize,
        predicates: &[Predicate],
    ) -> Result<Option<RowGroupScan>> {
        assert!(row_group < self.row_group_count(), "there is no row group {row_group}");
        RowGroupScan::start(self, row_group, predicates)
    }

    /// Starts to read the chunks of these columns of the schema ahead. Never blocks.
    pub fn prefetch_row_group(&self, row_group: usize, columns: &[usize]) {
        for stored in columns.iter().filter_map(|column| self.stored(*column)) {
            let key = self.cache_key(stored.id, CachePart::RowGroup(row_group as u32));
            let Some(chunk) = stored.chunks.get(row_group) else { continue };
            if !self.inner.cache.contains(&key) {
                let (offset, length) = (chunk.block.offset, chunk.block.padded_length());
                self.inner.io.will_need(&self.inner.path, offset, length);
            }
        }
    }

    /// An opened chunk of a column of the schema, from the cache or the file; `None` if the column
    /// was added after the segment was written.
    pub(crate) fn chunk(
        &self,
        column: usize,
        row_group: usize,
    ) -> Result<Option<Arc<ColumnChunk>>> {
        let Some(stored) = self.stored(column) else { return Ok(None) };
        let key = self.cache_key(stored.id, CachePart::RowGroup(row_group as u32));
        if let Some(CacheValue::Chunk(chunk)) = self.inner.cache.get(&key) {
            return Ok(Some(chunk));
        }
        let shared = self.shared(stored)?;
        let _turn = self.inner.io.turn();
        if self.inner.io.traits().run_bytes > 0 {
            // Whoever had the turn before may have read it.
            if let Some(CacheValue::Chunk(chunk)) = self.inner.cache.get(&key) {
                return Ok(Some(chunk));
            }
            return self.read_run(stored, &shared, row_group).map(Some);
        }
        let chunk = Arc::new(self.read_chunk(stored, shared, row_group)?);
        let bytes = chunk.heap_bytes();
        self.inner.cache.insert(key, CacheValue::Chunk(Arc::clone(&chunk)), bytes);
        Ok(Some(chunk))
    }

    /// Reads a chunk and those of the following row groups that come with it in one read.
    fn read_run(
        &self,
        column: &FooterColumn,
        shared: &Arc<SharedColumn>,
        row_group: usize,
    ) -> Result<Arc<ColumnChunk>> {
        let bytes_max = self.inner.io.traits().run_bytes.min(self.inner.cache.ahead_bytes_max());
        let key = |at: usize| self.cache_key(column.id, CachePart::RowGroup(at as u32));
        let block = |at: usize| column.chunks[at].block;
        let start = block(row_group).offset;
        let mut end = row_group + 1;
        while end < column.chunks.len()
            && block(end).length > 0
            && block(end).offset + block(end).padded_length() - start <= bytes_max
            && !self.inner.cache.contains(&key(end))
        {
            end += 1;
        }
        let place = |row_group| Place::Chunk { column: column.id, row_group };
        let blocks: Vec<_> = (row_group..end).map(|at| (block(at), place(at))).collect();
        let mut first = None;
        for (at, bytes) in (row_group..end).zip(self.file().read_run(&blocks)?) {
            let chunk = ColumnChunk::open(Arc::clone(shared), self.row_group_rows(at), bytes)
                .map_err(|error| self.file().corrupt(place(at), error.to_string()))?;
            let chunk = Arc::new(chunk);
            let (bytes, value) = (chunk.heap_bytes(), CacheValue::Chunk(Arc::clone(&chunk)));
            match first {
                None => self.inner.cache.insert(key(at), value, bytes),
                Some(_) => self.inner.cache.insert_ahead(key(at), value, bytes),
            }
            first.get_or_insert(chunk);
        }
        Ok(first.expect("a run has at least the chunk that was asked for"))
    }

    fn shared(&self, column: &FooterColumn) -> Result<Arc<SharedColumn>> {
        let key = self.cache_key(column.id, CachePart::Shared);
        if let Some(CacheValue::Shared(shared)) = self.inner.cache.get(&key) {
            return Ok(shared);
        }
        let shared = Arc::new(self.read_shared(column)?);
        let bytes = shared.heap_bytes();
        self.inner.cache.insert(key, CacheValue::Shared(Arc::clone(&shared)), bytes);
        Ok(shared)
    }

    fn read_shared(&self, column: &FooterColumn) -> Result<SharedColumn> {
        let place = Place::SharedPart { column: column.id };
        let bytes = self.file().read_block(column.shared, place)?;
        SharedColumn::open(column.column_type, &bytes)
            .map_err(|error| self.file().corrupt(place, error.to_string()))
    }

    fn read_chunk(
        &self,
        column: &FooterColumn,
        shared: Arc<SharedColumn>,
        row_group: usize,
    ) -> Result<ColumnChunk> {
        let place = Place::Chunk { column: column.id, row_group };
        let bytes = self.file().read_block(column.chunks[row_group].block, place)?;
        ColumnChunk::open(shared, self.row_group_rows(row_group), bytes)
            .map_err(|error| self.file().corrupt(place, error.to_string()))
    }

    /// The error of a chunk whose values cannot be decoded.
    pub(crate) fn damaged_column(&self, column: usize, row_group: usize, reason: String) -> Error {
        let column = self.inner.schema.columns[column].id;
        self.file().corrupt(Place::Chunk { column, row_group }, reason)
    }

    fn stored(&self, column: usize) -> Option<&FooterColumn> {
        self.inner.stored[column].map(|stored| &self.inner.columns[stored])
    }

    /// Offset and padded length of each chunk, column by column, for tests that damage them.
    #[cfg(test)]
    pub(super) fn chunk_blocks(&self) -> Vec<(usize, usize)> {
        let chunks = self.inner.columns.iter().flat_map(|column| &column.chunks);
        chunks
            .map(|chunk| (chunk.block.offset as usize, chunk.block.padded_length() as usize))
            .collect()
    }

    fn cache_key(&self, column: ColumnId, part: CachePart) -> CacheKey {
        CacheKey { segment: self.id(), column, part }
    }

    fn file(&self) -> OpenFile<'_> {
        OpenFile { io: self.inner.io.as_ref(), path: &self.inner.path, id: self.id() }
    }
}

/// Finds each column of the schema in the file.
fn match_columns(schema: &TableSchema, footer: &Footer) -> Result<Vec<Option<usize>>> {
    let find = |column: &crate::schema::Column| {
        let name = &column.name;
        match footer.columns.iter().position(|stored| stored.id == column.id) {
            Some(position) if footer.columns[position].column_type == column.column_type => {
                Ok(Some(position))
            }
            Some(position) => Err(Error::SchemaMismatch(format!(
                "column \"{name}\" is stored as {:?}, not {:?}",
                footer.columns[position].column_type, column.column_type
            ))),
            None if column.nullable => Ok(None),
            None => Err(Error::SchemaMismatch(format!(
                "column \"{name}\" is NOT NULL and not in the segment"
            ))),
        }
    };
    schema.columns.iter().map(find).collect()
}
