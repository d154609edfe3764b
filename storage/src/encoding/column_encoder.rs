//! Plans how one column of a segment is encoded, and encodes its row groups.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};

use super::Encoding;
use super::column_chunk::{BODY_KEYS, BODY_RAW_TEXT, BODY_WIDE};
use super::key_stream::write_keys;
use super::keys::{FixedValues, fixed_values, stored_width};
use super::layout::Writer;
use super::raw::RawWide;
use super::text::Slices;
use crate::ROW_GROUP_ROWS;
use crate::schema::{Column, ColumnType};

/// The chosen encoding of one column of one segment, and what its chunks share.
pub struct ColumnEncoder {
    column_type: ColumnType,
    encoding: Encoding,
}

impl ColumnEncoder {
    /// Chooses the encoding. `row_groups` are the whole column of the segment, cut as it will be
    /// encoded.
    pub fn plan(column: &Column, row_groups: &[ArrayRef]) -> ColumnEncoder {
        let _ = row_groups;
        ColumnEncoder { column_type: column.column_type, encoding: Encoding::Raw }
    }

    /// The encoding of the column. A chunk whose values it does not fit may use a simpler one.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The part that the column's chunks share; may be empty.
    pub fn shared_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Encodes one row group, one of those the encoder was planned for.
    pub fn encode(&self, rows: &ArrayRef) -> Vec<u8> {
        assert!(rows.len() <= ROW_GROUP_ROWS, "a chunk holds one row group");
        assert_eq!(rows.data_type(), &self.column_type.arrow_type(), "rows have the column's type");
        let mut out = Writer::default();
        let body = out.len();
        out.u8(0);
        let nulls = rows.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        out.u8(nulls.is_some().into());
        out.raw(&[0, 0]);
        out.u32(rows.len() as u32);
        if let Some(nulls) = nulls {
            let words = nulls.inner().bit_chunks().iter_padded();
            words.take(rows.len().div_ceil(64)).for_each(|word| out.u64(word));
        }
        let tag = self.write_body(rows, &mut out);
        let mut bytes = out.finish();
        bytes[body] = tag;
        bytes
    }

    fn write_body(&self, rows: &ArrayRef, out: &mut Writer) -> u8 {
        if self.column_type == ColumnType::Text {
            let texts = rows.as_string_view();
            let mut bytes = Vec::new();
            let mut lengths = Vec::with_capacity(texts.len());
            for text in texts {
                let text = text.unwrap_or_default();
                bytes.extend_from_slice(text.as_bytes());
                lengths.push(text.len() as i64);
            }
            Slices::write(&lengths, &bytes, out);
            return BODY_RAW_TEXT;
        }
        match fixed_values(self.column_type, rows) {
            FixedValues::Keys(keys) => {
                write_keys(self.encoding, &keys, stored_width(self.column_type), out);
                BODY_KEYS
            }
            FixedValues::Wide(values) => {
                RawWide::write(&values, out);
                BODY_WIDE
            }
        }
    }
}
