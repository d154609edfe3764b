//! What all chunks of a column of a segment share.

use super::FormatError;
use super::dictionary::{KeyDictionary, TextDictionary};
use super::fsst::SymbolTable;
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
    Texts(TextDictionary),
    Keys(KeyDictionary),
    Symbols(Box<SymbolTable>),
}

/// Tags of the parts.
pub(super) const SHARED_TEXTS: u64 = 1;
pub(super) const SHARED_KEYS: u64 = 2;
pub(super) const SHARED_SYMBOLS: u64 = 3;

impl SharedColumn {
    /// Reads the bytes of [`super::ColumnEncoder::shared_bytes`].
    ///
    /// # Errors
    /// When the bytes are not a shared part of a column of this type.
    pub fn open(column_type: ColumnType, bytes: &[u8]) -> Result<SharedColumn, FormatError> {
        if bytes.is_empty() {
            return Ok(SharedColumn { column_type, part: SharedPart::None });
        }
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(bytes));
        let is_text = column_type == ColumnType::Text;
        let part = match reader.u64()? {
            SHARED_TEXTS if is_text => SharedPart::Texts(TextDictionary::open(&mut reader)?),
            SHARED_KEYS if !is_text => SharedPart::Keys(KeyDictionary::open(&mut reader)?),
            SHARED_SYMBOLS if is_text => {
                SharedPart::Symbols(Box::new(SymbolTable::open(&mut reader)?))
            }
            _ => return Err(FormatError::new("the shared part does not fit the column's type")),
        };
        reader.expect_end()?;
        Ok(SharedColumn { column_type, part })
    }

    /// The type of the column.
    pub fn column_type(&self) -> ColumnType {
        self.column_type
    }

    /// Bytes that it holds in memory.
    pub fn heap_bytes(&self) -> usize {
        match &self.part {
            SharedPart::None => 0,
            SharedPart::Texts(dictionary) => dictionary.heap_bytes(),
            SharedPart::Keys(dictionary) => dictionary.heap_bytes(),
            SharedPart::Symbols(_) => size_of::<SymbolTable>(),
        }
    }
}
