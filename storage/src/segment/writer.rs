//! Writes one segment file.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_select::concat::concat;
use bytes::Bytes;
use rayon::prelude::*;

use super::check::decode_all;
use super::footer::{Footer, FooterChunk, FooterColumn, row_group_count, row_group_rows};
use super::layout::{Block, HEADER_BYTES, TRAILER_BYTES, Trailer, header_bytes};
use crate::column_summary::summarize;
use crate::distinct_sketch::DistinctSketch;
use crate::encoding::{ColumnChunk, ColumnEncoder, Encoding, SharedColumn};
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::io::{EncodingAim, Io, write_file_whole};
use crate::parallel::for_columns;
use crate::schema::{Column, TableSchema};
use crate::statistics::{ColumnStatistics, SegmentInfo};
use crate::verify::Place;
use crate::zone_map::Zone;
use crate::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

/// Writes the rows of `batches` as the segment `id` to `path`, durably, and returns what the
/// catalog keeps of it.
///
/// The batches hold whole rows in the order of the table, at most [`SEGMENT_ROWS_MAX`] in all, in
/// any sizes; they are sorted already ([`crate::sort::sort_rows`]). A file that is there already is
/// never replaced.
///
/// Before anything is written, encoded rows are decoded again and compared with those that were
/// given: one row group of each column, all of them where debug assertions are on.
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
    let encoded = for_columns(row_count, schema.columns.len(), |position| {
        let column = &schema.columns[position];
        let row_groups = cut_column(batches, position, row_count)?;
        let encoded = EncodedColumn::encode(column, &row_groups, io.traits().encoding);
        for row_group in verified_row_groups(id, row_groups.len()) {
            encoded.verify(row_group, &row_groups[row_group]).map_err(|reason| {
                let place = Place::Chunk { column: column.id, row_group };
                Error::Corrupt { path: path.to_owned(), place, reason }
            })?;
        }
        Ok(encoded)
    })?;
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

/// Which row groups are verified: a different one from segment to segment.
fn verified_row_groups(id: SegmentId, count: usize) -> Range<usize> {
    if cfg!(debug_assertions) || count == 0 {
        return 0..count;
    }
    let row_group = (id.0 % count as u64) as usize;
    row_group..row_group + 1
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
    fn encode(column: &Column, row_groups: &[ArrayRef], aim: EncodingAim) -> EncodedColumn {
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
            return EncodedColumn {
                column,
                encoding: Encoding::Raw,
                shared: Vec::new(),
                chunks: Vec::new(),
                distinct,
                uncompressed_bytes,
                has_trailing_blank,
            };
        }
        let encoder = ColumnEncoder::plan(&column, row_groups, aim);
        let chunks = row_groups.par_iter().map(|rows| encoder.encode(rows)).collect::<Vec<_>>();
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()), "a chunk has a head at least");
        EncodedColumn {
            column,
            encoding: encoder.encoding(),
            shared: encoder.shared_bytes(),
            chunks: chunks.into_iter().zip(zones).collect(),
            distinct,
            uncompressed_bytes,
            has_trailing_blank,
        }
    }

    /// Decodes a chunk and compares it with the rows that it was made of; says what is wrong.
    fn verify(&self, row_group: usize, rows: &ArrayRef) -> Result<(), String> {
        let column_type = self.column.column_type;
        let chunk = Bytes::copy_from_slice(&self.chunks[row_group].0);
        let decoded = SharedColumn::open(column_type, &self.shared)
            .and_then(|shared| ColumnChunk::open(Arc::new(shared), rows.len(), chunk))
            .and_then(|chunk| decode_all(column_type, &chunk))
            .map_err(|error| format!("what was encoded cannot be decoded: {error}"))?;
        // Bit by bit: NaNs are compared too.
        if decoded.to_data() == rows.to_data() {
            return Ok(());
        }
        Err("what was encoded is decoded to other values".into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ColumnId;
    use crate::predicate::Constant;
    use crate::sample_rows::array;
    use crate::schema::{ColumnType, EncodeName};

    fn column(column_type: ColumnType) -> Column {
        let (id, name) = (ColumnId(1), "c".into());
        Column { id, name, column_type, nullable: true, encode: EncodeName::Auto }
    }

    #[test]
    fn chunks_that_decode_to_other_values_are_noticed() {
        let numbers = |first: i64| {
            let cells: Vec<_> = (first..first + 9).map(|n| Some(Constant::Int(n))).collect();
            array(ColumnType::BigInt, &cells)
        };
        let encoded =
            EncodedColumn::encode(&column(ColumnType::BigInt), &[numbers(1)], EncodingAim::Speed);
        assert_eq!(encoded.verify(0, &numbers(1)), Ok(()));
        assert!(encoded.verify(0, &numbers(2)).is_err());
        assert!(encoded.verify(0, &numbers(1).slice(0, 8)).is_err());
    }

    #[test]
    fn not_a_number_and_negative_zero_are_compared_bit_by_bit() {
        let floats = |values: [f64; 3]| {
            array(ColumnType::Double, &values.map(|value| Some(Constant::Float(value))))
        };
        let rows = floats([f64::NAN, -0.0, 1.5]);
        let encoded = EncodedColumn::encode(
            &column(ColumnType::Double),
            &[Arc::clone(&rows)],
            EncodingAim::Size,
        );
        assert_eq!(encoded.verify(0, &rows), Ok(()));
        assert!(encoded.verify(0, &floats([f64::NAN, 0.0, 1.5])).is_err());
        assert!(encoded.verify(0, &floats([1.0, -0.0, 1.5])).is_err());
    }

    #[test]
    fn each_row_group_has_its_turn() {
        let all = verified_row_groups(SegmentId(5), 3);
        assert_eq!(all, 0..3, "with debug assertions all are verified");
        assert_eq!(verified_row_groups(SegmentId(5), 0), 0..0);
    }
}
