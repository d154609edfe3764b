//! Dictionary: the distinct values of the segment's column, sorted; its chunks hold their positions.
//!
//! Because it is sorted, a comparison is a range of codes, and every other condition is tested once
//! for each distinct value and becomes a few ranges of codes.
//!
//! ```text
//!  count | lengths | text, value after value              of text
//!  count | keys                                           of every other type
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow_array::builder::make_view;
use arrow_array::{Array, StringViewArray};
use arrow_buffer::Buffer;

use super::FormatError;
use super::column_builder::check_text;
use super::layout::{Reader, Writer};
use super::text::TextTest;

/// Values of a dictionary at most: codes have 16 bits.
pub(super) const DICTIONARY_VALUES_MAX: usize = 65_535;
/// Bytes of the texts of a dictionary at most.
const DICTIONARY_BYTES_MAX: usize = 16 << 20;
/// Views of texts up to this length hold the text.
const INLINE_BYTES_MAX: u32 = 12;

/// The distinct texts.
pub(super) struct TextDictionary {
    buffer: Buffer,
    /// As if `buffer` were the first buffer of an array.
    views: Vec<u128>,
    /// Whether the views hold all of the texts.
    is_inline: bool,
    ends: Vec<u32>,
}

impl TextDictionary {
    pub(super) fn open(reader: &mut Reader) -> Result<TextDictionary, FormatError> {
        let count = open_count(reader)?;
        let lengths = reader.items(count, 4)?;
        reader.align()?;
        let lengths = lengths.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let total: u64 = lengths.clone().map(u64::from).sum();
        if total > DICTIONARY_BYTES_MAX as u64 {
            return Err(FormatError::new("a dictionary is too large"));
        }
        let buffer = reader.part(total as usize)?;
        reader.align()?;
        check_text(&buffer, lengths.clone().map(|length| length as usize))?;
        let mut dictionary =
            TextDictionary { buffer, views: Vec::new(), is_inline: true, ends: Vec::new() };
        let mut start = 0;
        for length in lengths {
            let text = &dictionary.buffer[start as usize..(start + length) as usize];
            dictionary.views.push(make_view(text, 0, start));
            dictionary.is_inline &= length <= INLINE_BYTES_MAX;
            start += length;
            dictionary.ends.push(start);
        }
        Ok(dictionary)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.views.len()
    }

    fn value(&self, code: usize) -> &[u8] {
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.buffer[start as usize..self.ends[code] as usize]
    }

    /// The texts, for views that refer to them.
    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Whether no view refers to [`Self::buffer`].
    pub(super) fn is_inline(&self) -> bool {
        self.is_inline
    }

    /// The views of the values, when [`Self::buffer`] is the first buffer of the array.
    pub(super) fn views(&self) -> &[u128] {
        &self.views
    }

    /// The view of a value, when [`Self::buffer`] is the buffer `index` of the array.
    #[inline(always)]
    pub(super) fn view(&self, code: usize, index: u32) -> u128 {
        let view = self.views[code];
        // The length is in the lowest 32 bits, the buffer's index in the third.
        let is_inline = view as u32 <= INLINE_BYTES_MAX;
        view | if is_inline { 0 } else { u128::from(index) << 64 }
    }

    /// The ranges of codes whose values pass.
    pub(super) fn codes(&self, test: &TextTest) -> Vec<(i64, i64)> {
        ranges((0..self.len()).map(|code| test.matches(self.value(code))))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.buffer.len() + self.views.capacity() * 16 + self.ends.capacity() * 4
    }
}

/// The distinct keys.
pub(super) struct KeyDictionary {
    keys: Vec<i64>,
}

impl KeyDictionary {
    pub(super) fn write(keys: &[i64], out: &mut Writer) {
        out.u64(keys.len() as u64);
        keys.iter().for_each(|key| out.i64(*key));
    }

    pub(super) fn open(reader: &mut Reader) -> Result<KeyDictionary, FormatError> {
        let count = open_count(reader)?;
        let bytes = reader.items(count, 8)?;
        let keys = bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
        Ok(KeyDictionary { keys: keys.collect() })
    }

    /// The keys, ascending; codes are their positions.
    pub(super) fn keys(&self) -> &[i64] {
        &self.keys
    }

    /// The ranges of codes whose keys lie in `ranges`.
    pub(super) fn codes(&self, key_ranges: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let passes = |key: &i64| {
            let candidate = key_ranges.partition_point(|(_, high)| high < key);
            key_ranges.get(candidate).is_some_and(|(low, _)| low <= key)
        };
        ranges(self.keys.iter().map(passes))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.keys.capacity() * 8
    }
}

fn open_count(reader: &mut Reader) -> Result<usize, FormatError> {
    match reader.u64()? {
        count if count <= DICTIONARY_VALUES_MAX as u64 => Ok(count as usize),
        _ => Err(FormatError::new("a dictionary has too many values")),
    }
}

/// The runs of `true`, as ranges of positions.
fn ranges(passes: impl Iterator<Item = bool>) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for (code, passes) in (0_i64..).zip(passes) {
        match ranges.last_mut() {
            _ if !passes => {}
            Some((_, last)) if *last + 1 == code => *last = code,
            Some(_) | None => ranges.push((code, code)),
        }
    }
    ranges
}

/// Collects distinct texts, then gives each its code.
pub(super) struct TextCodes {
    /// Texts that fit a view, by their view; then all others. The values are numbers in order of
    /// first sight, later codes.
    short: HashMap<u128, u32, BuildHasherDefault<ViewHasher>>,
    long: HashMap<Box<[u8]>, u32, BuildHasherDefault<xxhash_rust::xxh3::Xxh3Default>>,
    bytes: usize,
}

impl TextCodes {
    pub(super) fn new() -> TextCodes {
        TextCodes { short: HashMap::default(), long: HashMap::default(), bytes: 0 }
    }

    /// How many distinct texts there are.
    pub(super) fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    /// Bytes of the distinct texts.
    pub(super) fn text_bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the texts of an array that are not NULL. Gives up, with `false`, when they are too many
    /// or too large, or more than `distinct_max`.
    pub(super) fn add(&mut self, texts: &StringViewArray, distinct_max: usize) -> bool {
        let mut last = None;
        for (row, view) in texts.views().iter().enumerate() {
            if last == Some(*view) || texts.is_null(row) {
                continue;
            }
            last = Some(*view);
            let length = *view as u32;
            let next = self.len() as u32;
            if length <= INLINE_BYTES_MAX {
                if let std::collections::hash_map::Entry::Vacant(entry) = self.short.entry(*view) {
                    entry.insert(next);
                    self.bytes += length as usize;
                }
            } else {
                let text = texts.value(row).as_bytes();
                if !self.long.contains_key(text) {
                    self.long.insert(text.into(), next);
                    self.bytes += text.len();
                }
            }
            if self.len() > distinct_max.min(DICTIONARY_VALUES_MAX)
                || self.bytes > DICTIONARY_BYTES_MAX
            {
                return false;
            }
        }
        true
    }

    /// Sorts the texts, writes them, and from now on gives out their positions.
    pub(super) fn sort_and_write(&mut self, out: &mut Writer) {
        let inline = |view: &u128| {
            let bytes = view.to_le_bytes();
            bytes[4..4 + *view as u32 as usize].to_vec()
        };
        let mut texts: Vec<Vec<u8>> = self.short.keys().map(inline).collect();
        texts.extend(self.long.keys().map(|text| text.to_vec()));
        texts.sort_unstable();
        out.u64(texts.len() as u64);
        texts.iter().for_each(|text| out.u32(text.len() as u32));
        out.align();
        texts.iter().for_each(|text| out.raw(text));
        out.align();
        let position = |text: &[u8]| texts.partition_point(|other| other.as_slice() < text) as u32;
        self.short.iter_mut().for_each(|(view, code)| *code = position(&inline(view)));
        self.long.iter_mut().for_each(|(text, code)| *code = position(text));
    }

    /// The codes of an array that was added; NULLs have the code before them. `None` when a text
    /// was not added.
    pub(super) fn codes(&self, texts: &StringViewArray) -> Option<Vec<i64>> {
        let mut codes = Vec::with_capacity(texts.len());
        let mut last = (None, 0);
        for (row, view) in texts.views().iter().enumerate() {
            if last.0 != Some(*view) && texts.is_valid(row) {
                let code = match *view as u32 <= INLINE_BYTES_MAX {
                    true => self.short.get(view)?,
                    false => self.long.get(texts.value(row).as_bytes())?,
                };
                last = (Some(*view), i64::from(*code));
            }
            codes.push(last.1);
        }
        Some(codes)
    }
}

/// Mixes the halves of a view.
#[derive(Default)]
pub(super) struct ViewHasher(u64);

impl Hasher for ViewHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128((*byte).into());
        }
    }

    fn write_u128(&mut self, view: u128) {
        let folded = (view as u64 ^ self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ ((view >> 64) as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(32);
        self.0 = (folded ^ folded >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
