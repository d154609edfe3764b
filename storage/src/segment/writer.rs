//! Writes one segment file.

use std::io::ErrorKind;
use std::path::Path;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_select::concat::concat;
use rayon::prelude::*;

use super::footer::{Footer, FooterChunk, FooterColumn, row_group_count, row_group_rows};
use super::layout::{Block, HEADER_BYTES, TRAILER_BYTES, Trailer, header_bytes};
use crate::column_summary::summarize;
use crate::distinct_sketch::DistinctSketch;
use crate::encoding::{ColumnEncoder, Encoding};
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::io::{Io, write_file_whole};
use crate::schema::{Column, TableSchema};
use crate::statistics::{ColumnStatistics, SegmentInfo};
use crate::zone_map::Zone;
use crate::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

/// Writes the rows of `batches` as the segment `id` to `path`, durably, and returns what the
/// catalog keeps of it.
///
/// The batches hold whole rows in the order of the table, at most [`SEGMENT_ROWS_MAX`] in all, in
/// any sizes; they are sorted already ([`crate::sort::sort_rows`]). A file that is there already is
/// never replaced.
///
/// On an error the segment was not written: if a file of that name is left over, it is whole, but
/// nothing may refer to it, and its id is used up.
pub fn write_segment(
    io: &dyn Io,
    path: &Path,
    id: SegmentId,
    schema: &TableSchema,
    batches: &[RecordBatch],
) -> Result<SegmentInfo> {
    let row_count = check_batches(schema, batches)?;
    if io.len(path)?.is_some() {
        let source = ErrorKind::AlreadyExists.into();
        return Err(Error::Io { action: "create", path: path.to_owned(), source });
    }
    let encoded = schema
        .columns
        .par_iter()
        .enumerate()
        .map(|(position, column)| {
            EncodedColumn::encode(column, &cut_column(batches, position, row_count)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let (parts, info) = lay_out(id, row_count as u64, encoded);
    write_file_whole(io, path, parts.iter().map(Vec::as_slice))?;
    Ok(info)
}

/// Checks that the batches are rows of the table; returns how many they are.
fn check_batches(schema: &TableSchema, batches: &[RecordBatch]) -> Result<usize> {
    for batch in batches {
        if batch.num_columns() != schema.columns.len() {
            return Err(Error::SchemaMismatch(format!(
                "{} columns instead of {}",
                batch.num_columns(),
                schema.columns.len()
            )));
        }
        for (column, values) in schema.columns.iter().zip(batch.columns()) {
            let expected = column.column_type.arrow_type();
            if *values.data_type() != expected {
                let found = values.data_type();
                let name = &column.name;
                return Err(Error::SchemaMismatch(format!(
                    "column \"{name}\" is {found} instead of {expected}"
                )));
            }
            if !column.nullable && values.null_count() > 0 {
                let name = &column.name;
                return Err(Error::SchemaMismatch(format!(
                    "column \"{name}\" is NOT NULL and has a NULL"
                )));
            }
        }
    }
    let row_count = batches.iter().map(RecordBatch::num_rows).sum();
    if row_count > SEGMENT_ROWS_MAX {
        return Err(Error::SchemaMismatch(format!(
            "{row_count} rows; a segment holds at most {SEGMENT_ROWS_MAX}"
        )));
    }
    Ok(row_count)
}

/// One column of the batches, cut into row groups.
fn cut_column(batches: &[RecordBatch], column: usize, row_count: usize) -> Result<Vec<ArrayRef>> {
    let mut row_groups = Vec::with_capacity(row_count.div_ceil(ROW_GROUP_ROWS));
    let mut pieces: Vec<ArrayRef> = Vec::new();
    let mut piece_rows = 0;
    for batch in batches {
        let mut rest = batch.column(column).slice(0, batch.num_rows());
        while !rest.is_empty() {
            let taken = rest.len().min(ROW_GROUP_ROWS - piece_rows);
            pieces.push(rest.slice(0, taken));
            rest = rest.slice(taken, rest.len() - taken);
            piece_rows += taken;
            if piece_rows == ROW_GROUP_ROWS {
                row_groups.push(join(&mut pieces)?);
                piece_rows = 0;
            }
        }
    }
    if piece_rows > 0 {
        row_groups.push(join(&mut pieces)?);
    }
    Ok(row_groups)
}

fn join(pieces: &mut Vec<ArrayRef>) -> Result<ArrayRef> {
    if pieces.len() == 1 {
        return Ok(pieces.remove(0));
    }
    let parts: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    let joined = concat(&parts).map_err(|error| Error::SchemaMismatch(error.to_string()))?;
    pieces.clear();
    Ok(joined)
}

/// A column in memory, ready to be laid out.
struct EncodedColumn {
    column: Column,
    encoding: Encoding,
    shared: Vec<u8>,
    chunks: Vec<(Vec<u8>, Zone)>,
    distinct: DistinctSketch,
    uncompressed_bytes: u64,
    has_trailing_blank: bool,
}

impl EncodedColumn {
    fn encode(column: &Column, row_groups: &[ArrayRef]) -> Result<EncodedColumn> {
        let mut distinct = DistinctSketch::new();
        let mut uncompressed_bytes = 0;
        let mut has_trailing_blank = false;
        let mut zones = Vec::with_capacity(row_groups.len());
        for rows in row_groups {
            let summary = summarize(column.column_type, rows, &mut distinct);
            uncompressed_bytes += summary.uncompressed_bytes;
            has_trailing_blank |= summary.has_trailing_blank;
            zones.push(summary.zone);
        }
        let column = column.clone();
        if row_groups.is_empty() {
            return Ok(EncodedColumn {
                column,
                encoding: Encoding::Raw,
                shared: Vec::new(),
                chunks: Vec::new(),
                distinct,
                uncompressed_bytes,
                has_trailing_blank,
            });
        }
        let encoder = ColumnEncoder::plan(&column, row_groups);
        let chunks = row_groups.par_iter().map(|rows| encoder.encode(rows)).collect::<Vec<_>>();
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()), "a chunk has a head at least");
        Ok(EncodedColumn {
            column,
            encoding: encoder.encoding(),
            shared: encoder.shared_bytes(),
            chunks: chunks.into_iter().zip(zones).collect(),
            distinct,
            uncompressed_bytes,
            has_trailing_blank,
        })
    }
}

/// Gives every block its place and checksum; returns the parts of the file in order.
fn lay_out(
    id: SegmentId,
    row_count: u64,
    columns: Vec<EncodedColumn>,
) -> (Vec<Vec<u8>>, SegmentInfo) {
    let mut file = FileParts { id, parts: vec![header_bytes(id)], length: HEADER_BYTES as u64 };
    let mut footer = Footer { row_count, columns: Vec::new(), statistics: Vec::new() };
    for encoded in columns {
        let start = file.length;
        let whole = encoded
            .chunks
            .iter()
            .map(|(_, zone)| zone)
            .fold(Zone::empty(), |all, zone| all.merge(zone));
        let shared = file.add(encoded.shared);
        let chunks: Vec<_> = encoded
            .chunks
            .into_iter()
            .map(|(bytes, zone)| FooterChunk { block: file.add(bytes), zone })
            .collect();
        assert_eq!(chunks.len(), row_group_count(row_count), "one chunk for each row group");
        debug_assert!(chunks.iter().enumerate().all(|(row_group, chunk)| {
            chunk.zone.row_count == row_group_rows(row_count, row_group) as u64
        }));
        let id = encoded.column.id;
        let column_type = encoded.column.column_type;
        let encoding = encoded.encoding;
        footer.columns.push(FooterColumn { id, column_type, encoding, shared, chunks });
        footer.statistics.push(ColumnStatistics {
            id,
            min: whole.min,
            max: whole.max,
            null_count: whole.null_count,
            has_nan: whole.has_nan,
            has_trailing_blank: encoded.has_trailing_blank,
            distinct: encoded.distinct,
            uncompressed_bytes: encoded.uncompressed_bytes,
            encoded_bytes: file.length - start,
        });
    }
    let footer_block = file.add(footer.to_bytes());
    let (trailer, fingerprint) = Trailer { segment: id, footer: footer_block }.to_bytes();
    file.parts.push(trailer);
    let byte_count = file.length + TRAILER_BYTES as u64;
    let info = SegmentInfo { id, fingerprint, row_count, byte_count, columns: footer.statistics };
    (file.parts, info)
}

/// A file being laid out.
struct FileParts {
    id: SegmentId,
    parts: Vec<Vec<u8>>,
    length: u64,
}

impl FileParts {
    fn add(&mut self, mut bytes: Vec<u8>) -> Block {
        if bytes.is_empty() {
            return Block::EMPTY;
        }
        let block = Block::seal(self.id, self.length, &mut bytes);
        self.length += bytes.len() as u64;
        self.parts.push(bytes);
        block
    }
}
