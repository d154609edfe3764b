//! What all chunks of a column of a segment share.

use super::FormatError;
use super::layout::Reader;
use crate::schema::ColumnType;

/// The decoded shared part of a column. Made once for each open segment and column.
pub struct SharedColumn {
    column_type: ColumnType,
    pub(super) part: SharedPart,
}

/// What is shared.
pub(super) enum SharedPart {
    None,
}

impl SharedColumn {
    /// Reads the bytes of [`super::ColumnEncoder::shared_bytes`].
    ///
    /// # Errors
    /// When the bytes are not a shared part of a column of this type.
    pub fn open(column_type: ColumnType, bytes: &[u8]) -> Result<SharedColumn, FormatError> {
        if bytes.is_empty() {
            return Ok(SharedColumn { column_type, part: SharedPart::None });
        }
        let reader = Reader::new(bytes::Bytes::copy_from_slice(bytes));
        reader.expect_end()?;
        Err(FormatError::new("unknown shared part"))
    }

    /// The type of the column.
    pub fn column_type(&self) -> ColumnType {
        self.column_type
    }

    /// Bytes that it holds in memory.
    pub fn heap_bytes(&self) -> usize {
        match &self.part {
            SharedPart::None => 0,
        }
    }
}
