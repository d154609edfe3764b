//! One column of one row group, opened for filtering and decoding.

use std::sync::Arc;

use arrow_buffer::BooleanBufferBuilder;
use bytes::Bytes;

use super::FormatError;
use super::column_builder::{ColumnBuilder, TextValues, Values};
use super::fsst::FsstText;
use super::key_ranges::KeyRanges;
use super::key_stream::KeyStream;
use super::keys::FromKey;
use super::layout::{PART_ALIGNMENT, Reader};
use super::mask::{MASK_WORDS, Mask};
use super::raw::RawWide;
use super::shared_column::{SharedColumn, SharedPart};
use super::text::{RawText, TextTest};
use super::zstd::ZstdText;
use crate::predicate::Condition;
use crate::schema::ColumnType;
use crate::{ROW_GROUP_ROWS, VECTOR_ROWS};

/// Tags of the bodies.
pub(super) const BODY_KEYS: u8 = 1;
pub(super) const BODY_WIDE: u8 = 2;
pub(super) const BODY_CODES: u8 = 3;
pub(super) const BODY_RAW_TEXT: u8 = 4;
pub(super) const BODY_FSST: u8 = 5;
pub(super) const BODY_ZSTD: u8 = 6;

/// An opened chunk: immutable, cheap to share, no I/O.
pub struct ColumnChunk {
    shared: Arc<SharedColumn>,
    rows: usize,
    /// One bit a row, set when it is not NULL; absent when no row is. Whole vectors.
    validity: Option<Vec<[u64; MASK_WORDS]>>,
    body: Body,
    chunk_bytes: usize,
}

enum Body {
    Keys(KeyStream),
    Wide(RawWide),
    /// Codes of the shared dictionary, each below the number of its values.
    Codes(KeyStream),
    RawText(RawText),
    Fsst(FsstText),
    Zstd(ZstdText),
}

/// A condition made ready for one chunk; use it with no other.
pub struct CompiledCondition(Test);

enum Test {
    /// No row passes.
    Never,
    /// Every row that is not NULL passes.
    NotNull,
    /// Every NULL passes.
    Null,
    Keys(Vec<(i64, i64)>),
    Wide(KeyRanges),
    Text(TextTest),
}

impl Test {
    /// A test of keys or of codes; there are `codes` of the latter.
    fn of_ranges(ranges: Vec<(i64, i64)>, codes: usize) -> Test {
        match ranges.as_slice() {
            [] => Test::Never,
            [(0, last)] if usize::try_from(*last).is_ok_and(|last| last + 1 == codes) => {
                Test::NotNull
            }
            _ => Test::Keys(ranges),
        }
    }
}

impl CompiledCondition {
    /// Whether no row of the chunk can pass.
    pub fn is_never(&self) -> bool {
        matches!(self.0, Test::Never)
    }
}

impl ColumnChunk {
    /// Opens the bytes of [`super::ColumnEncoder::encode`]. They are used in place when they lie at
    /// an address that is a multiple of eight, else copied once.
    ///
    /// # Errors
    /// When a length, a width, a code or a text does not fit: after it, the kernels can rely on all
    /// of them.
    pub fn open(
        shared: Arc<SharedColumn>,
        row_count: usize,
        bytes: Bytes,
    ) -> Result<ColumnChunk, FormatError> {
        let chunk_bytes = bytes.len();
        let mut reader = Reader::new(bytes);
        let body_tag = reader.u8()?;
        let has_nulls = reader.u8()?;
        let reserved = (reader.u8()?, reader.u8()?);
        if has_nulls > 1 || reserved != (0, 0) {
            return Err(FormatError::new("unknown flags"));
        }
        if reader.u32()? as usize != row_count || row_count > ROW_GROUP_ROWS {
            return Err(FormatError::new("the chunk has another number of rows"));
        }
        let validity = match has_nulls {
            0 => None,
            _ => Some(open_validity(row_count, &mut reader)?),
        };
        let is_text = shared.column_type() == ColumnType::Text;
        let body = match body_tag {
            BODY_KEYS if !is_text => Body::Keys(KeyStream::open(row_count, &mut reader)?),
            BODY_WIDE if matches!(shared.column_type(), ColumnType::Decimal { .. }) => {
                Body::Wide(RawWide::open(row_count, &mut reader)?)
            }
            BODY_CODES => Body::Codes(open_codes(&shared, row_count, &mut reader)?),
            BODY_RAW_TEXT if is_text => Body::RawText(RawText::open(row_count, &mut reader)?),
            BODY_FSST if matches!(shared.part, SharedPart::Symbols(_)) => {
                Body::Fsst(FsstText::open(row_count, &mut reader)?)
            }
            BODY_ZSTD if is_text => Body::Zstd(ZstdText::open(row_count, &mut reader)?),
            _ => return Err(FormatError::new("the body does not fit the column's type")),
        };
        reader.expect_end()?;
        Ok(ColumnChunk { shared, rows: row_count, validity, body, chunk_bytes })
    }

    /// How many rows the chunk has.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// How many vectors the chunk has.
    pub fn vector_count(&self) -> usize {
        self.rows.div_ceil(VECTOR_ROWS)
    }

    /// How many rows `vector` has: [`VECTOR_ROWS`] but for the last one.
    pub fn vector_rows(&self, vector: usize) -> usize {
        self.rows.saturating_sub(vector * VECTOR_ROWS).min(VECTOR_ROWS)
    }

    /// Makes a condition ready: constants become codes and ranges, once. The constants must be of
    /// the column's type.
    pub fn compile(&self, condition: &Condition) -> CompiledCondition {
        CompiledCondition(match condition {
            Condition::IsNull if self.validity.is_none() => Test::Never,
            Condition::IsNull => Test::Null,
            Condition::IsNotNull => Test::NotNull,
            Condition::Compare(..)
            | Condition::Between(..)
            | Condition::In(_)
            | Condition::NotIn(_)
            | Condition::Like(_)
            | Condition::NotLike(_) => self.compile_values(condition),
        })
    }

    fn compile_values(&self, condition: &Condition) -> Test {
        let column_type = self.shared.column_type();
        let key_ranges = || KeyRanges::of(column_type, condition);
        match (&self.body, &self.shared.part) {
            (Body::Codes(_), SharedPart::Texts(dictionary)) => {
                Test::of_ranges(dictionary.codes(&TextTest::new(condition)), dictionary.len())
            }
            (Body::Codes(_), SharedPart::Keys(dictionary)) => {
                Test::of_ranges(dictionary.codes(&key_ranges().narrow()), dictionary.keys().len())
            }
            (Body::Codes(_), SharedPart::None | SharedPart::Symbols(_)) => {
                unreachable!("codes are opened with a dictionary only")
            }
            (Body::Keys(_), _) => match key_ranges().narrow() {
                ranges if ranges == [(i64::MIN, i64::MAX)] => Test::NotNull,
                ranges => Test::of_ranges(ranges, usize::MAX),
            },
            (Body::Wide(_), _) => Test::Wide(key_ranges()),
            (Body::RawText(_) | Body::Fsst(_) | Body::Zstd(_), _) => {
                Test::Text(TextTest::new(condition))
            }
        }
    }

    /// Starts to fetch a vector's bytes into the cache; any vector number will do.
    pub fn prefetch(&self, vector: usize) {
        if vector >= self.vector_count() {
            return;
        }
        match &self.body {
            Body::Keys(keys) | Body::Codes(keys) => keys.prefetch(vector),
            Body::Wide(wide) => wide.prefetch(vector),
            Body::RawText(text) => text.slices().prefetch(vector),
            Body::Fsst(text) => text.prefetch(vector),
            Body::Zstd(text) => text.prefetch(vector),
        }
    }

    /// Drops from `mask` the rows of `vector` for which the condition is not true, and those beyond
    /// the end of the chunk.
    ///
    /// # Errors
    /// When the bytes of the vector are damaged in a way that [`Self::open`] does not look for.
    pub fn filter(
        &self,
        vector: usize,
        condition: &CompiledCondition,
        mask: &mut Mask,
    ) -> Result<(), FormatError> {
        mask.and(&Mask::full(self.vector_rows(vector)));
        let valid = self.validity.as_ref().and_then(|validity| validity.get(vector));
        let valid = valid.map(|words| Mask::from_words(*words));
        if let Test::Null = condition.0 {
            match valid {
                Some(valid) => mask.and_not(&valid),
                None => *mask = Mask::none(),
            }
            return Ok(());
        }
        if let Some(valid) = valid {
            mask.and(&valid);
        }
        if mask.is_empty() {
            return Ok(());
        }
        match (&condition.0, &self.body) {
            (Test::Never, _) => *mask = Mask::none(),
            (Test::NotNull, _) => {}
            (Test::Keys(ranges), Body::Keys(keys) | Body::Codes(keys)) => {
                keys.filter(vector, ranges, mask);
            }
            (Test::Wide(ranges), Body::Wide(wide)) => wide.filter(vector, ranges.wide(), mask),
            (Test::Text(test), Body::RawText(text)) => text.filter(vector, test, mask),
            (Test::Text(test), Body::Fsst(text)) => {
                let SharedPart::Symbols(table) = &self.shared.part else { return Err(NO_TABLE) };
                text.filter(table, vector, test, mask)?;
            }
            (Test::Text(test), Body::Zstd(text)) => text.filter(vector, test, mask)?,
            (Test::Null | Test::Keys(_) | Test::Wide(_) | Test::Text(_), _) => {
                unreachable!("the condition was compiled for another chunk")
            }
        }
        Ok(())
    }

    /// Appends the selected rows of `vector`; `selected` is how many they are. Rows beyond the end
    /// of the chunk must not be selected.
    ///
    /// # Errors
    /// As [`Self::filter`]; the builder is of no use then.
    pub fn decode(
        &self,
        vector: usize,
        mask: &Mask,
        selected: usize,
        out: &mut ColumnBuilder,
    ) -> Result<(), FormatError> {
        assert_eq!(mask.count(), selected, "`selected` counts the mask");
        assert_eq!(out.column_type(), self.shared.column_type(), "one builder, one column type");
        let mut beyond = *mask;
        beyond.and_not(&Mask::full(self.vector_rows(vector)));
        assert!(beyond.is_empty(), "rows beyond the end are selected");
        if selected == 0 {
            return Ok(());
        }
        let start = out.len();
        self.decode_values(vector, mask, &mut out.values)?;
        assert_eq!(out.len(), start + selected, "each selected row gives one value");
        if let Some(valid) = self.validity.as_ref().and_then(|validity| validity.get(vector)) {
            append_validity(valid, mask, start, out);
        }
        Ok(())
    }

    fn decode_values(
        &self,
        vector: usize,
        mask: &Mask,
        out: &mut Values,
    ) -> Result<(), FormatError> {
        match &self.body {
            Body::Keys(keys) => decode_keys(vector, mask, out, keys),
            Body::Wide(wide) => {
                if let Values::Int128(values) = out {
                    wide.decode(vector, mask, values);
                }
            }
            Body::Codes(codes) => self.decode_codes(vector, mask, out, codes),
            Body::RawText(_) | Body::Fsst(_) | Body::Zstd(_) => {
                if let Values::Text(values) = out {
                    self.decode_text(vector, mask, values)?;
                }
            }
        }
        Ok(())
    }

    fn decode_text(
        &self,
        vector: usize,
        mask: &Mask,
        out: &mut TextValues,
    ) -> Result<(), FormatError> {
        match &self.body {
            Body::RawText(text) => text.decode(vector, mask, out),
            Body::Fsst(text) => {
                let SharedPart::Symbols(table) = &self.shared.part else { return Err(NO_TABLE) };
                text.decode(table, vector, mask, out)
            }
            Body::Zstd(text) => text.decode(vector, mask, out),
            Body::Keys(_) | Body::Wide(_) | Body::Codes(_) => unreachable!("not a body of text"),
        }
    }

    fn decode_codes(&self, vector: usize, mask: &Mask, out: &mut Values, codes: &KeyStream) {
        let mut selected: Vec<u16> = Vec::with_capacity(VECTOR_ROWS);
        codes.decode(vector, mask, &mut selected);
        match (&self.shared.part, out) {
            (SharedPart::Texts(dictionary), Values::Text(values)) => {
                values.push_dictionary(dictionary, &selected);
            }
            (SharedPart::Keys(dictionary), out) => {
                push_keys(selected.iter().map(|code| dictionary.keys()[usize::from(*code)]), out);
            }
            (SharedPart::None | SharedPart::Symbols(_) | SharedPart::Texts(_), _) => {
                unreachable!("codes are opened with a dictionary of the column's type only")
            }
        }
    }

    /// Bytes that the chunk holds in memory.
    pub fn heap_bytes(&self) -> usize {
        let validity = self.validity.as_ref().map_or(0, |validity| validity.capacity() * 128);
        let body = match &self.body {
            Body::Keys(keys) | Body::Codes(keys) => keys.heap_bytes(),
            Body::Wide(_) => 0,
            Body::RawText(text) => text.slices().heap_bytes(),
            Body::Fsst(text) => text.heap_bytes(),
            Body::Zstd(text) => text.heap_bytes(),
        };
        size_of::<ColumnChunk>() + self.chunk_bytes + validity + body
    }
}

const NO_TABLE: FormatError = FormatError::new("there is no symbol table");

/// Codes are checked one by one, once, so that decoding need not.
fn open_codes(
    shared: &SharedColumn,
    rows: usize,
    reader: &mut Reader,
) -> Result<KeyStream, FormatError> {
    let values = match &shared.part {
        SharedPart::Texts(dictionary) => dictionary.len(),
        SharedPart::Keys(dictionary) => dictionary.keys().len(),
        SharedPart::None | SharedPart::Symbols(_) => {
            return Err(FormatError::new("there is no dictionary"));
        }
    };
    let codes = KeyStream::open(rows, reader)?;
    match codes.all_below(rows, values) {
        true => Ok(codes),
        false => Err(FormatError::new("a code is beyond the dictionary")),
    }
}

fn open_validity(rows: usize, reader: &mut Reader) -> Result<Vec<[u64; MASK_WORDS]>, FormatError> {
    let bytes = reader.part(rows.div_ceil(8).next_multiple_of(PART_ALIGNMENT))?;
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let vectors = words.chunks(MASK_WORDS).map(|chunk| {
        let mut vector = [0; MASK_WORDS];
        vector[..chunk.len()].copy_from_slice(chunk);
        vector
    });
    Ok(vectors.collect())
}

fn decode_keys(vector: usize, mask: &Mask, out: &mut Values, keys: &KeyStream) {
    match out {
        Values::Boolean(bits) => decode_booleans(keys, vector, mask, bits),
        Values::Int16(values) => decode_into(keys, vector, mask, values),
        Values::Int32(values) => decode_into(keys, vector, mask, values),
        Values::Int64(values) => decode_into(keys, vector, mask, values),
        Values::Int128(values) => decode_into(keys, vector, mask, values),
        Values::Float32(values) => decode_into(keys, vector, mask, values),
        Values::Float64(values) => decode_into(keys, vector, mask, values),
        Values::Text(_) => unreachable!("text has no keys"),
    }
}

fn decode_into<T: FromKey>(keys: &KeyStream, vector: usize, mask: &Mask, out: &mut Vec<T>) {
    keys.decode(vector, mask, out);
}

fn push_keys(keys: impl Iterator<Item = i64>, out: &mut Values) {
    match out {
        Values::Boolean(bits) => keys.for_each(|key| bits.append(key & 1 == 1)),
        Values::Int16(values) => values.extend(keys.map(i16::from_key)),
        Values::Int32(values) => values.extend(keys.map(i32::from_key)),
        Values::Int64(values) => values.extend(keys),
        Values::Int128(values) => values.extend(keys.map(i128::from_key)),
        Values::Float32(values) => values.extend(keys.map(f32::from_key)),
        Values::Float64(values) => values.extend(keys.map(f64::from_key)),
        Values::Text(_) => unreachable!("text has no keys"),
    }
}

fn decode_booleans(keys: &KeyStream, vector: usize, mask: &Mask, bits: &mut BooleanBufferBuilder) {
    let mut values: Vec<u8> = Vec::with_capacity(VECTOR_ROWS);
    keys.decode(vector, mask, &mut values);
    for chunk in values.chunks(64) {
        let set = |word: u64, (index, value): (usize, &u8)| word | u64::from(*value & 1) << index;
        bits.append_word(chunk.iter().enumerate().fold(0, set), chunk.len());
    }
}

fn append_validity(valid: &[u64; MASK_WORDS], mask: &Mask, start: usize, out: &mut ColumnBuilder) {
    let mut row = start;
    for (valid, selected) in valid.iter().zip(mask.words()) {
        let count = selected.count_ones() as usize;
        if count > 0 {
            out.append_validity(row, super::kernel::gather_bits(*valid, *selected), count);
            row += count;
        }
    }
}
