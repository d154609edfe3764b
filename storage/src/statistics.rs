//! What a segment and its columns are known to hold: for the planner's estimates, for pruning whole
//! segments, and for the catalog, which keeps a [`SegmentInfo`] per segment.

use crate::checksum::{BlockPlace, block_checksum};
use crate::distinct_sketch::DistinctSketch;
use crate::ids::{ColumnId, SegmentId};
use crate::little_endian::{ByteReader, ByteWriter, Unreadable};
use crate::predicate::Constant;
use crate::zone_map::Zone;

/// Version of [`SegmentInfo::to_bytes`].
const INFO_VERSION: u16 = 2;

/// What is known about one column of one segment, or of several after [`ColumnStatistics::merge`].
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStatistics {
    /// The column.
    pub id: ColumnId,
    /// No value is smaller, NaN aside; for text a bound of at most 64 bytes, not always a value.
    /// `None`: no value, or no bound is known.
    pub min: Option<Constant>,
    /// No value is larger, NaN aside; for text a bound of at most 64 bytes, not always a value.
    /// `None`: no value, or no bound is known.
    pub max: Option<Constant>,
    /// Rows that are NULL.
    pub null_count: u64,
    /// Whether a value is NaN.
    pub has_nan: bool,
    /// Whether a text ends with a blank, which comparisons have to pass over.
    pub has_trailing_blank: bool,
    /// Estimates how many different values there are, NULL not counted.
    pub distinct: DistinctSketch,
    /// The values as plain arrays: width times rows, or the bytes of all texts.
    pub uncompressed_bytes: u64,
    /// The column in the file: its chunks, and what they share.
    pub encoded_bytes: u64,
}

impl ColumnStatistics {
    /// The statistics as a zone of that many rows, for [`crate::zone_map::prune`].
    pub fn zone(&self, row_count: u64) -> Zone {
        Zone {
            row_count,
            null_count: self.null_count,
            min: self.min.clone(),
            max: self.max.clone(),
            has_nan: self.has_nan,
        }
    }

    /// Adds the same column of other rows; `rows` are this side's, `other_rows` the other side's.
    pub fn merge(&mut self, rows: u64, other: &ColumnStatistics, other_rows: u64) {
        assert_eq!(self.id, other.id, "statistics of different columns do not merge");
        let zone = self.zone(rows).merge(&other.zone(other_rows));
        self.min = zone.min;
        self.max = zone.max;
        self.null_count = zone.null_count;
        self.has_nan = zone.has_nan;
        self.has_trailing_blank |= other.has_trailing_blank;
        self.distinct.merge(&other.distinct);
        self.uncompressed_bytes += other.uncompressed_bytes;
        self.encoded_bytes += other.encoded_bytes;
    }

    /// Writes the statistics; the number of rows is kept by whoever holds them.
    pub(crate) fn write(&self, writer: &mut ByteWriter, row_count: u64) {
        writer.u32(self.id.0);
        self.zone(row_count).write(writer);
        writer.u8(u8::from(self.has_trailing_blank));
        self.distinct.write(writer);
        writer.u64(self.uncompressed_bytes);
        writer.u64(self.encoded_bytes);
    }

    /// Reads statistics of `row_count` rows.
    pub(crate) fn read(
        reader: &mut ByteReader<'_>,
        row_count: u64,
    ) -> Result<ColumnStatistics, Unreadable> {
        let id = ColumnId(reader.u32()?);
        let zone = Zone::read(reader)?;
        if zone.row_count != row_count {
            return Err(Unreadable(format!(
                "column {} has statistics of {} rows instead of {row_count}",
                id.0, zone.row_count
            )));
        }
        Ok(ColumnStatistics {
            id,
            min: zone.min,
            max: zone.max,
            null_count: zone.null_count,
            has_nan: zone.has_nan,
            has_trailing_blank: read_flag(reader, id)?,
            distinct: DistinctSketch::read(reader)?,
            uncompressed_bytes: reader.u64()?,
            encoded_bytes: reader.u64()?,
        })
    }
}

fn read_flag(reader: &mut ByteReader<'_>, id: ColumnId) -> Result<bool, Unreadable> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Unreadable(format!("column {} has the flag {other}", id.0))),
    }
}

/// What the catalog keeps of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentInfo {
    /// The segment.
    pub id: SegmentId,
    /// The checksum of the whole file's directory of checksums: tells this file from every other,
    /// also from an earlier one of the same id (see [`crate::segment::Segment::check_identity`]).
    pub fingerprint: u64,
    /// Rows, deleted ones included.
    pub row_count: u64,
    /// Length of the file in bytes.
    pub byte_count: u64,
    /// In the order of the file.
    pub columns: Vec<ColumnStatistics>,
}

impl SegmentInfo {
    /// The statistics of a column; `None` if the segment was written before it was added.
    pub fn column(&self, id: ColumnId) -> Option<&ColumnStatistics> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// The record for the catalog: versioned, with a checksum at its end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u16(INFO_VERSION);
        writer.u64(self.id.0);
        writer.u64(self.fingerprint);
        writer.u64(self.row_count);
        writer.u64(self.byte_count);
        writer.count(self.columns.len());
        for column in &self.columns {
            column.write(&mut writer, self.row_count);
        }
        let checksum = block_checksum(INFO_PLACE, writer.as_slice());
        writer.u64(checksum);
        writer.into_bytes()
    }

    /// Reads what [`SegmentInfo::to_bytes`] wrote; anything else is an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<SegmentInfo, Unreadable> {
        let (record, checksum) = bytes
            .split_last_chunk::<8>()
            .ok_or_else(|| Unreadable("it is too short for a segment's record".into()))?;
        if block_checksum(INFO_PLACE, record) != u64::from_le_bytes(*checksum) {
            return Err(Unreadable("the checksum of a segment's record does not fit".into()));
        }
        let mut reader = ByteReader::new(record);
        let version = reader.u16()?;
        if version != INFO_VERSION {
            return Err(Unreadable(format!("segment record version {version} is unknown")));
        }
        let id = SegmentId(reader.u64()?);
        let fingerprint = reader.u64()?;
        let row_count = reader.u64()?;
        let byte_count = reader.u64()?;
        let columns = (0..reader.count()?)
            .map(|_| ColumnStatistics::read(&mut reader, row_count))
            .collect::<Result<Vec<_>, _>>()?;
        reader.end()?;
        Ok(SegmentInfo { id, fingerprint, row_count, byte_count, columns })
    }
}

/// The record lies in the catalog, not in a file.
const INFO_PLACE: BlockPlace = BlockPlace { segment: SegmentId(0), offset: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(min: Option<Constant>, max: Option<Constant>, nulls: u64) -> ColumnStatistics {
        let mut distinct = DistinctSketch::new();
        distinct.insert(b"value");
        ColumnStatistics {
            id: ColumnId(3),
            min,
            max,
            null_count: nulls,
            has_nan: false,
            has_trailing_blank: nulls == 99,
            distinct,
            uncompressed_bytes: 800,
            encoded_bytes: 90,
        }
    }

    fn info() -> SegmentInfo {
        let text = |value: &str| Some(Constant::Text(value.into()));
        SegmentInfo {
            id: SegmentId(9),
            fingerprint: 77,
            row_count: 100,
            byte_count: 4096,
            columns: vec![
                statistics(Some(Constant::Int(i64::MIN)), Some(Constant::Int(i64::MAX)), 0),
                statistics(text(""), None, 99),
                statistics(None, None, 100),
                statistics(Some(Constant::Decimal(-5)), Some(Constant::Decimal(i128::MAX)), 1),
                statistics(Some(Constant::Float(-0.5)), Some(Constant::Float(f64::INFINITY)), 1),
            ],
        }
    }

    #[test]
    fn the_record_round_trips() {
        assert_eq!(SegmentInfo::from_bytes(&info().to_bytes()).unwrap(), info());
    }

    #[test]
    fn every_damage_of_the_record_is_noticed() {
        let bytes = info().to_bytes();
        for length in 0..bytes.len() {
            assert!(SegmentInfo::from_bytes(&bytes[..length]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentInfo::from_bytes(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn merged_statistics_cover_both_sides() {
        let mut left = statistics(Some(Constant::Int(5)), Some(Constant::Int(9)), 2);
        left.merge(10, &statistics(Some(Constant::Int(-1)), Some(Constant::Int(7)), 3), 10);
        assert_eq!(left.min, Some(Constant::Int(-1)));
        assert_eq!(left.max, Some(Constant::Int(9)));
        assert_eq!((left.null_count, left.uncompressed_bytes, left.encoded_bytes), (5, 1600, 180));
        left.merge(20, &statistics(None, None, 4), 4);
        assert_eq!(left.max, Some(Constant::Int(9)), "a column of NULLs takes no bound away");
        assert_eq!(left.null_count, 9);
    }

    #[test]
    fn an_unknown_bound_stays_unknown() {
        let text = |value: &str| Some(Constant::Text(value.into()));
        let mut left = statistics(text("a"), None, 0);
        left.merge(1, &statistics(text("b"), text("c"), 0), 1);
        assert_eq!((left.min, left.max), (text("a"), None));
    }
}
