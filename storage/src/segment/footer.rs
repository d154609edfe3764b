//! The footer of a segment: its columns, where their blocks lie, their zone maps and statistics.
//!
//! The footer is checked as a whole before anything is read through it: the blocks lie in order
//! without gaps from the header to the footer, and each zone has as many rows as its row group.

use super::layout::{BLOCK_ALIGNMENT, Block, HEADER_BYTES};
use crate::encoding::Encoding;
use crate::ids::ColumnId;
use crate::little_endian::{ByteReader, ByteWriter, Unreadable};
use crate::schema::ColumnType;
use crate::statistics::ColumnStatistics;
use crate::zone_map::Zone;
use crate::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

/// The whole footer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Footer {
    pub(super) row_count: u64,
    pub(super) columns: Vec<FooterColumn>,
    /// One for each of `columns`.
    pub(super) statistics: Vec<ColumnStatistics>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FooterColumn {
    pub(super) id: ColumnId,
    pub(super) column_type: ColumnType,
    pub(super) encoding: Encoding,
    pub(super) shared: Block,
    /// One for each row group.
    pub(super) chunks: Vec<FooterChunk>,
}

/// One column of one row group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FooterChunk {
    pub(super) block: Block,
    pub(super) zone: Zone,
}

/// How many row groups so many rows make.
pub(crate) fn row_group_count(row_count: u64) -> usize {
    (row_count as usize).div_ceil(ROW_GROUP_ROWS)
}

/// How many rows a row group of a segment of `row_count` rows has.
pub(crate) fn row_group_rows(row_count: u64, row_group: usize) -> usize {
    (row_count as usize).saturating_sub(row_group * ROW_GROUP_ROWS).min(ROW_GROUP_ROWS)
}

impl Footer {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u64(self.row_count);
        writer.u32(ROW_GROUP_ROWS as u32);
        writer.count(self.columns.len());
        for (column, statistics) in self.columns.iter().zip(&self.statistics) {
            assert_eq!(column.id, statistics.id, "statistics stand beside their column");
            writer.u32(column.id.0);
            write_column_type(&mut writer, column.column_type);
            writer.u8(encoding_code(column.encoding));
            column.shared.write(&mut writer);
            for chunk in &column.chunks {
                chunk.block.write(&mut writer);
                chunk.zone.write(&mut writer);
            }
            statistics.write(&mut writer, self.row_count);
        }
        writer.into_bytes()
    }

    /// Reads the footer of a file whose blocks end at `blocks_end`.
    pub(super) fn from_bytes(bytes: &[u8], blocks_end: u64) -> Result<Footer, Unreadable> {
        let mut reader = ByteReader::new(bytes);
        let row_count = reader.u64()?;
        if row_count > SEGMENT_ROWS_MAX as u64 {
            return Err(Unreadable(format!("it claims {row_count} rows")));
        }
        let row_group_rows = reader.u32()?;
        if row_group_rows as usize != ROW_GROUP_ROWS {
            return Err(Unreadable(format!("it has row groups of {row_group_rows} rows")));
        }
        let mut columns = Vec::new();
        let mut statistics = Vec::new();
        for _ in 0..reader.count()? {
            columns.push(read_column(&mut reader, row_count)?);
            statistics.push(ColumnStatistics::read(&mut reader, row_count)?);
        }
        reader.end()?;
        let footer = Footer { row_count, columns, statistics };
        footer.check(blocks_end)?;
        Ok(footer)
    }

    fn check(&self, blocks_end: u64) -> Result<(), Unreadable> {
        let mut end = HEADER_BYTES as u64;
        for (position, column) in self.columns.iter().enumerate() {
            if column.id != self.statistics[position].id {
                return Err(Unreadable(format!("column {position} has another's statistics")));
            }
            if self.columns[..position].iter().any(|before| before.id == column.id) {
                return Err(Unreadable(format!("column id {} is there twice", column.id.0)));
            }
            for chunk in &column.chunks {
                if chunk.block.length == 0 {
                    return Err(Unreadable(format!("column {position} has an empty chunk")));
                }
            }
            let chunks = column.chunks.iter().map(|chunk| chunk.block);
            for block in std::iter::once(column.shared).chain(chunks) {
                end = end_of(block, end)
                    .ok_or_else(|| Unreadable(format!("column {position} has a stray block")))?;
            }
        }
        if end != blocks_end {
            return Err(Unreadable(format!("blocks end at {end} instead of {blocks_end}")));
        }
        Ok(())
    }
}

/// Where a block ends that must begin at `start`; `None` if it does not.
fn end_of(block: Block, start: u64) -> Option<u64> {
    if block.length == 0 {
        return (block == Block::EMPTY).then_some(start);
    }
    debug_assert!(start.is_multiple_of(BLOCK_ALIGNMENT));
    if block.offset == start { start.checked_add(block.padded_length()) } else { None }
}

fn read_column(reader: &mut ByteReader<'_>, row_count: u64) -> Result<FooterColumn, Unreadable> {
    let id = ColumnId(reader.u32()?);
    let column_type = read_column_type(reader)?;
    let encoding = read_encoding(reader.u8()?)?;
    let shared = Block::read(reader)?;
    let chunks = (0..row_group_count(row_count))
        .map(|row_group| {
            let chunk = FooterChunk { block: Block::read(reader)?, zone: Zone::read(reader)? };
            if chunk.zone.row_count != row_group_rows(row_count, row_group) as u64 {
                return Err(Unreadable(format!("row group {row_group} has another row count")));
            }
            Ok(chunk)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(FooterColumn { id, column_type, encoding, shared, chunks })
}

/// A type is three bytes: its code, and precision and scale of a decimal.
fn write_column_type(writer: &mut ByteWriter, column_type: ColumnType) {
    let (code, precision, scale) = match column_type {
        ColumnType::Boolean => (1, 0, 0),
        ColumnType::SmallInt => (2, 0, 0),
        ColumnType::Integer => (3, 0, 0),
        ColumnType::BigInt => (4, 0, 0),
        ColumnType::Decimal { precision, scale } => (5, precision, scale),
        ColumnType::Real => (6, 0, 0),
        ColumnType::Double => (7, 0, 0),
        ColumnType::Text => (8, 0, 0),
        ColumnType::Date => (9, 0, 0),
        ColumnType::Time => (10, 0, 0),
        ColumnType::TimeTz => (11, 0, 0),
        ColumnType::Timestamp => (12, 0, 0),
        ColumnType::TimestampTz => (13, 0, 0),
    };
    writer.bytes(&[code, precision, scale]);
}

fn read_column_type(reader: &mut ByteReader<'_>) -> Result<ColumnType, Unreadable> {
    let (code, precision, scale) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let column_type = match (code, precision, scale) {
        (1, 0, 0) => ColumnType::Boolean,
        (2, 0, 0) => ColumnType::SmallInt,
        (3, 0, 0) => ColumnType::Integer,
        (4, 0, 0) => ColumnType::BigInt,
        (5, 1..=38, _) if scale <= precision => ColumnType::Decimal { precision, scale },
        (6, 0, 0) => ColumnType::Real,
        (7, 0, 0) => ColumnType::Double,
        (8, 0, 0) => ColumnType::Text,
        (9, 0, 0) => ColumnType::Date,
        (10, 0, 0) => ColumnType::Time,
        (11, 0, 0) => ColumnType::TimeTz,
        (12, 0, 0) => ColumnType::Timestamp,
        (13, 0, 0) => ColumnType::TimestampTz,
        _ => return Err(Unreadable(format!("there is no type {code} {precision} {scale}"))),
    };
    Ok(column_type)
}

fn encoding_code(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Raw => 0,
        Encoding::FrameOfReference => 1,
        Encoding::Delta => 2,
        Encoding::RunLength => 3,
        Encoding::Dictionary => 4,
        Encoding::Fsst => 5,
        Encoding::Zstd => 6,
    }
}

fn read_encoding(code: u8) -> Result<Encoding, Unreadable> {
    Ok(match code {
        0 => Encoding::Raw,
        1 => Encoding::FrameOfReference,
        2 => Encoding::Delta,
        3 => Encoding::RunLength,
        4 => Encoding::Dictionary,
        5 => Encoding::Fsst,
        6 => Encoding::Zstd,
        _ => return Err(Unreadable(format!("there is no encoding {code}"))),
    })
}
