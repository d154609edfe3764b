//! Collects the decoded rows of one column and makes the Arrow array of them.

use std::sync::Arc;

use arrow_array::builder::make_view;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, StringViewArray};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, ScalarBuffer,
};
use arrow_schema::DataType;

use super::dictionary::TextDictionary;
use super::{FormatError, VIEW_BUFFER_BYTES_MAX};
use crate::schema::ColumnType;

/// The selected rows of one column, decoded so far.
pub struct ColumnBuilder {
    column_type: ColumnType,
    pub(super) values: Values,
    /// Set bits are rows that are not NULL; absent while there is no NULL.
    validity: Option<BooleanBufferBuilder>,
}

/// Decoded values by their type in memory.
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int128(Vec<i128>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Text(TextValues),
}

impl ColumnBuilder {
    /// An empty builder with room for `capacity` rows.
    pub fn new(column_type: ColumnType, capacity: usize) -> ColumnBuilder {
        let values = match column_type {
            ColumnType::Boolean => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            ColumnType::SmallInt => Values::Int16(Vec::with_capacity(capacity)),
            ColumnType::Integer | ColumnType::Date => Values::Int32(Vec::with_capacity(capacity)),
            ColumnType::BigInt
            | ColumnType::Time
            | ColumnType::TimeTz
            | ColumnType::Timestamp
            | ColumnType::TimestampTz => Values::Int64(Vec::with_capacity(capacity)),
            ColumnType::Decimal { .. } => Values::Int128(Vec::with_capacity(capacity)),
            ColumnType::Real => Values::Float32(Vec::with_capacity(capacity)),
            ColumnType::Double => Values::Float64(Vec::with_capacity(capacity)),
            ColumnType::Text => Values::Text(TextValues::with_capacity(capacity)),
        };
        ColumnBuilder { column_type, values, validity: None }
    }

    /// The type of the column.
    pub fn column_type(&self) -> ColumnType {
        self.column_type
    }

    /// How many rows were appended.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(bits) => bits.len(),
            Values::Int16(values) => values.len(),
            Values::Int32(values) => values.len(),
            Values::Int64(values) => values.len(),
            Values::Int128(values) => values.len(),
            Values::Float32(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Text(text) => text.views.len(),
        }
    }

    /// Whether no row was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks which of the last rows are NULL: `bits` holds `count` bits, set for not NULL, of rows
    /// that start at row `start`.
    pub(super) fn append_validity(&mut self, start: usize, bits: u64, count: usize) {
        let validity = self.validity.get_or_insert_with(|| {
            let mut builder = BooleanBufferBuilder::new(start + 64);
            builder.append_n(start, true);
            builder
        });
        debug_assert!(validity.len() <= start, "validity runs ahead of the values");
        validity.append_n(start - validity.len(), true);
        validity.append_word(bits, count);
    }

    /// The array of all appended rows, of exactly the column's [`ColumnType::arrow_type`].
    pub fn finish(self) -> ArrayRef {
        let rows = self.len();
        let column_type = self.column_type;
        let nulls = self.validity.and_then(|mut validity| {
            validity.append_n(rows - validity.len(), true);
            let nulls = NullBuffer::new(validity.build());
            (nulls.null_count() > 0).then_some(nulls)
        });
        match self.values {
            Values::Boolean(bits) => {
                let bits: BooleanBuffer = bits.build();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int16(values) => primitive::<Int16Type>(column_type, values, nulls),
            Values::Int32(values) => match column_type {
                ColumnType::Date => primitive::<Date32Type>(column_type, values, nulls),
                _ => primitive::<Int32Type>(column_type, values, nulls),
            },
            Values::Int64(values) => match column_type {
                ColumnType::Time => primitive::<Time64MicrosecondType>(column_type, values, nulls),
                ColumnType::TimeTz => primitive::<Time64NanosecondType>(column_type, values, nulls),
                ColumnType::Timestamp | ColumnType::TimestampTz => {
                    primitive::<TimestampMicrosecondType>(column_type, values, nulls)
                }
                _ => primitive::<Int64Type>(column_type, values, nulls),
            },
            Values::Int128(values) => primitive::<Decimal128Type>(column_type, values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(column_type, values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(column_type, values, nulls),
            Values::Text(text) => text.finish(nulls),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    column_type: ColumnType,
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef
where
    T::Native: ArrowNativeType,
{
    let array = PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls);
    let arrow_type: DataType = column_type.arrow_type();
    Arc::new(array.with_data_type(arrow_type))
}

/// Text rows as views: short ones inside the view, long ones in buffers.
///
/// Invariant: every view is inline, or its buffer, offset and length lie within `buffers` (or
/// `current`, which will be the buffer of index `current_index`); all text is UTF-8.
#[derive(Default)]
pub(super) struct TextValues {
    views: Vec<u128>,
    buffers: Vec<Buffer>,
    current: Vec<u8>,
}

impl TextValues {
    fn with_capacity(capacity: usize) -> TextValues {
        TextValues { views: Vec::with_capacity(capacity), ..TextValues::default() }
    }

    /// Where to append bytes, with room for `additional` more; none of it is text until
    /// [`Self::push_rows`].
    pub(super) fn bytes_for(&mut self, additional: usize) -> &mut Vec<u8> {
        if self.current.len() + additional > VIEW_BUFFER_BYTES_MAX {
            self.seal();
        }
        self.current.reserve(additional);
        &mut self.current
    }

    /// Closes the buffer that bytes are appended to.
    fn seal(&mut self) {
        if !self.current.is_empty() {
            self.buffers.push(Buffer::from_vec(std::mem::take(&mut self.current)));
        }
    }

    /// Makes rows of the bytes appended since `start`; `lengths` are theirs, in order.
    ///
    /// # Errors
    /// When the lengths do not add up to the bytes, or a row is not UTF-8.
    pub(super) fn push_rows(
        &mut self,
        start: usize,
        lengths: impl Iterator<Item = usize> + Clone,
    ) -> Result<(), FormatError> {
        let added = self.current.get(start..).ok_or(FormatError::new("text is missing"))?;
        check_text(added, lengths.clone())?;
        let index = self.buffers.len() as u32;
        let mut offset = start;
        self.views.extend(lengths.map(|length| {
            let view = make_view(&self.current[offset..offset + length], index, offset as u32);
            offset += length;
            view
        }));
        Ok(())
    }

    /// Appends values of a dictionary by their codes, without copying their text.
    pub(super) fn push_dictionary(&mut self, dictionary: &TextDictionary, codes: &[u16]) {
        let index = if dictionary.is_inline() { 0 } else { self.share(dictionary.buffer()) };
        if index == 0 {
            let views = dictionary.views();
            return self.views.extend(codes.iter().map(|code| views[usize::from(*code)]));
        }
        self.views.extend(codes.iter().map(|code| dictionary.view(usize::from(*code), index)));
    }

    /// The index of `buffer` among the buffers of the views, added to them if it is new.
    fn share(&mut self, buffer: &Buffer) -> u32 {
        let same =
            |known: &Buffer| known.as_ptr() == buffer.as_ptr() && known.len() == buffer.len();
        if let Some(index) = self.buffers.iter().rposition(same) {
            return index as u32;
        }
        // The open buffer takes its index when it is sealed, so it is sealed before another.
        self.seal();
        self.buffers.push(buffer.clone());
        (self.buffers.len() - 1) as u32
    }

    #[expect(unsafe_code, reason = "the rows were checked as they came, not once more")]
    fn finish(mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        self.seal();
        let views = ScalarBuffer::from(self.views);
        // SAFETY: the invariant of TextValues; `nulls` has the length of the views.
        Arc::new(unsafe { StringViewArray::new_unchecked(views, self.buffers, nulls) })
    }
}

/// Checks that `bytes`, cut at `lengths`, is UTF-8 piece by piece.
pub(super) fn check_text(
    bytes: &[u8],
    lengths: impl Iterator<Item = usize>,
) -> Result<(), FormatError> {
    const BROKEN: FormatError = FormatError::new("text is not UTF-8");
    let text = match bytes.is_ascii() {
        true => None,
        false => Some(std::str::from_utf8(bytes).map_err(|_| BROKEN)?),
    };
    let mut end = 0_usize;
    for length in lengths {
        end = end.checked_add(length).ok_or(BROKEN)?;
        if text.is_some_and(|text| !text.is_char_boundary(end)) {
            return Err(BROKEN);
        }
    }
    match end == bytes.len() {
        true => Ok(()),
        false => Err(FormatError::new("text lengths do not add up")),
    }
}
