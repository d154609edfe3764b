//! Goes through a segment file block by block and looks whether everything is as it should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use bytes::Bytes;

use super::file::OpenFile;
use super::footer::{Footer, FooterColumn, row_group_rows};
use super::layout::{Block, HEADER_BYTES, TRAILER_BYTES};
use crate::column_summary::summarize;
use crate::distinct_sketch::DistinctSketch;
use crate::encoding::{ColumnBuilder, ColumnChunk, FormatError, Mask, SharedColumn};
use crate::error::Error;
use crate::ids::SegmentId;
use crate::io::Io;
use crate::schema::ColumnType;
use crate::statistics::{ColumnStatistics, SegmentInfo};
use crate::verify::{Depth, Place, Problem, ProblemKind};
use crate::zone_map::Zone;

/// A check of one segment, at work. See [`crate::verify`].
pub struct SegmentCheck {
    io: Arc<dyn Io>,
    path: PathBuf,
    id: SegmentId,
    /// What the catalog keeps of it; `None` if whoever checks does not know.
    expected: Option<SegmentInfo>,
    depth: Depth,
    progress: Progress,
    problems: Vec<Problem>,
}

/// What comes next.
enum Progress {
    /// Header, trailer and footer.
    Ends,
    /// The blocks of a column; the shared part first.
    Blocks {
        footer: Arc<Footer>,
        column: usize,
        found: FoundColumn,
    },
    Finished,
}

/// What was seen of a column so far.
#[derive(Default)]
struct FoundColumn {
    /// `None` before the shared part was read, and when it is damaged.
    shared: Option<Arc<SharedColumn>>,
    /// Blocks that were looked at, the shared part first.
    blocks: usize,
    /// Set when a chunk could not be looked into: then nothing is known about all rows.
    is_incomplete: bool,
    zone: Option<Zone>,
    distinct: DistinctSketch,
    uncompressed_bytes: u64,
}

impl SegmentCheck {
    /// A check of the segment that the catalog keeps `expected` of. Reads nothing yet.
    pub fn new(io: Arc<dyn Io>, path: &Path, expected: &SegmentInfo, depth: Depth) -> SegmentCheck {
        let check = Self::by_id(io, path, expected.id, depth);
        SegmentCheck { expected: Some(expected.clone()), ..check }
    }

    /// A check of whichever segment has this id, for who does not know the catalog. Since an id is
    /// given once, an earlier file of the same id is nothing that it would have to notice.
    pub fn by_id(io: Arc<dyn Io>, path: &Path, id: SegmentId, depth: Depth) -> SegmentCheck {
        SegmentCheck {
            io,
            path: path.to_owned(),
            id,
            expected: None,
            depth,
            progress: Progress::Ends,
            problems: Vec::new(),
        }
    }

    /// Checks the next part of the file, at most one block of a column; returns how many bytes were
    /// read for it, `None` at the end.
    pub fn step(&mut self) -> Option<u64> {
        match std::mem::replace(&mut self.progress, Progress::Finished) {
            Progress::Finished => None,
            Progress::Ends => Some(self.check_ends()),
            Progress::Blocks { footer, column, found } => {
                Some(self.check_block(footer, column, found))
            }
        }
    }

    /// What is wrong with the file, as far as it was checked.
    pub fn problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Reads all but the blocks; without them nothing is known about the blocks.
    fn check_ends(&mut self) -> u64 {
        let io = Arc::clone(&self.io);
        let path = self.path.clone();
        let file = OpenFile { io: io.as_ref(), path: &path, id: self.id };
        let length = match file.length() {
            Ok(length) => length,
            Err(error) => {
                self.report(Place::File, (0, 0), error);
                return 0;
            }
        };
        let ends = (HEADER_BYTES + TRAILER_BYTES) as u64;
        if let Err(error) = file.read_header() {
            self.report(Place::Header, (0, HEADER_BYTES as u64), error);
        }
        let (trailer, fingerprint) = match file.read_trailer(length) {
            Ok(trailer) => trailer,
            Err(error) => {
                let offset = length - TRAILER_BYTES as u64;
                self.report(Place::Trailer, (offset, TRAILER_BYTES as u64), error);
                return ends;
            }
        };
        let footer_bytes = trailer.footer.padded_length();
        match file.read_footer(&trailer) {
            Ok(footer) => {
                let info = file.info(length, fingerprint, &footer);
                if self.expected.as_ref().is_some_and(|expected| info != *expected) {
                    let reason = "it is another file than the catalog knows";
                    self.damaged(Place::File, (0, length), reason);
                }
                self.progress = next_column(Arc::new(footer), 0);
            }
            Err(error) => {
                self.report(Place::Footer, (trailer.footer.offset, footer_bytes), error);
            }
        }
        ends + footer_bytes
    }

    fn check_block(&mut self, footer: Arc<Footer>, column: usize, mut found: FoundColumn) -> u64 {
        let stored = &footer.columns[column];
        let (place, block) = match found.blocks.checked_sub(1) {
            None => (Place::SharedPart { column: stored.id }, stored.shared),
            Some(row_group) => {
                (Place::Chunk { column: stored.id, row_group }, stored.chunks[row_group].block)
            }
        };
        if let Some(bytes) = self.read(block, place) {
            let rows = found
                .blocks
                .checked_sub(1)
                .map(|row_group| (row_group, row_group_rows(footer.row_count, row_group)));
            if self.depth == Depth::Values {
                self.check_values(stored, rows, bytes, (place, block), &mut found);
            }
        } else {
            found.is_incomplete = true;
        }
        found.blocks += 1;
        self.progress = if found.blocks <= stored.chunks.len() {
            Progress::Blocks { footer, column, found }
        } else {
            self.check_statistics(stored, &footer.statistics[column], &found);
            next_column(footer, column + 1)
        };
        block.padded_length()
    }

    /// Reads a block and verifies its checksum and its padding.
    fn read(&mut self, block: Block, place: Place) -> Option<Bytes> {
        let file = OpenFile { io: self.io.as_ref(), path: &self.path, id: self.id };
        match file.read_padded_block(block, place) {
            Ok(bytes) => {
                let bytes_of_block = bytes.slice(..block.length as usize);
                if bytes[block.length as usize..].iter().any(|byte| *byte != 0) {
                    self.damaged(place, range(block), "its padding is not zero");
                }
                Some(bytes_of_block)
            }
            Err(error) => {
                self.report(place, range(block), error);
                None
            }
        }
    }

    /// Opens what was read: the shared part, or the chunk of a row group of so many rows.
    fn check_values(
        &mut self,
        column: &FooterColumn,
        chunk: Option<(usize, usize)>,
        bytes: Bytes,
        (place, block): (Place, Block),
        found: &mut FoundColumn,
    ) {
        let Some((row_group, rows)) = chunk else {
            match SharedColumn::open(column.column_type, &bytes) {
                Ok(shared) => found.shared = Some(Arc::new(shared)),
                Err(error) => self.damaged(place, range(block), &error.to_string()),
            }
            return;
        };
        let Some(shared) = &found.shared else {
            // The damage of the shared part is reported; without it there are no values.
            found.is_incomplete = true;
            return;
        };
        let decoded = ColumnChunk::open(Arc::clone(shared), rows, bytes)
            .and_then(|chunk| decode_all(column.column_type, &chunk));
        let values = match decoded {
            Ok(values) => values,
            Err(error) => {
                found.is_incomplete = true;
                return self.damaged(place, range(block), &error.to_string());
            }
        };
        let summary = summarize(column.column_type, &values, &mut found.distinct);
        let zone = &column.chunks[row_group].zone;
        if !zone.holds_for(&summary.zone) {
            let reason =
                format!("its zone map {zone:?} is not that of its values {:?}", summary.zone);
            self.damaged(place, range(block), &reason);
        }
        found.uncompressed_bytes += summary.uncompressed_bytes;
        found.zone = Some(match found.zone.take() {
            Some(before) => before.merge(&summary.zone),
            None => summary.zone,
        });
    }

    /// Compares the statistics of a column with what was seen of it.
    fn check_statistics(
        &mut self,
        column: &FooterColumn,
        statistics: &ColumnStatistics,
        found: &FoundColumn,
    ) {
        let chunks = column.chunks.iter().map(|chunk| chunk.block.padded_length());
        let mut wrong = Vec::new();
        if statistics.encoded_bytes != column.shared.padded_length() + chunks.sum::<u64>() {
            wrong.push("encoded size");
        }
        if self.depth == Depth::Values && !found.is_incomplete {
            let zone = found.zone.clone().unwrap_or_else(Zone::empty);
            if !statistics.zone(zone.row_count).holds_for(&zone) {
                wrong.push("bounds or counts");
            }
            if statistics.distinct != found.distinct {
                wrong.push("sketch of distinct values");
            }
            if statistics.uncompressed_bytes != found.uncompressed_bytes {
                wrong.push("plain size");
            }
        }
        for what in wrong {
            let place = Place::Statistics { column: column.id };
            self.damaged(place, (0, 0), &format!("the {what} are not those of the values"));
        }
    }

    fn report(&mut self, place: Place, bytes: (u64, u64), error: Error) {
        self.problems.push(Problem::new(&self.path, place, bytes, error));
    }

    fn damaged(&mut self, place: Place, bytes: (u64, u64), reason: &str) {
        let (path, kind) = (self.path.clone(), ProblemKind::Damaged);
        self.problems.push(Problem { path, place, bytes, kind, reason: reason.to_owned() });
    }
}

fn next_column(footer: Arc<Footer>, column: usize) -> Progress {
    if column == footer.columns.len() {
        return Progress::Finished;
    }
    Progress::Blocks { footer, column, found: FoundColumn::default() }
}

fn range(block: Block) -> (u64, u64) {
    (block.offset, block.padded_length())
}

/// All values of a chunk.
pub(super) fn decode_all(
    column_type: ColumnType,
    chunk: &ColumnChunk,
) -> Result<ArrayRef, FormatError> {
    let mut builder = ColumnBuilder::new(column_type, chunk.row_count());
    for vector in 0..chunk.vector_count() {
        let rows = chunk.vector_rows(vector);
        chunk.decode(vector, &Mask::full(rows), rows, &mut builder)?;
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests;
