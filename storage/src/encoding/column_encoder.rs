//! Plans how one column of a segment is encoded, and encodes its row groups.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StringViewArray};
use fsst::Compressor;

use super::Encoding;
use super::column_chunk::{BODY_CODES, BODY_FSST, BODY_KEYS, BODY_RAW_TEXT, BODY_WIDE, BODY_ZSTD};
use super::dictionary::{DICTIONARY_VALUES_MAX, KeyDictionary, TextCodes};
use super::fsst::{FsstText, SymbolTable};
use super::key_stream::{choose, write_keys};
use super::keys::{FixedValues, fixed_values, stored_width};
use super::layout::Writer;
use super::raw::RawWide;
use super::shared_column::{SHARED_KEYS, SHARED_SYMBOLS, SHARED_TEXTS};
use super::text::Slices;
use super::zstd::ZstdText;
use crate::io::EncodingAim;
use crate::schema::{Column, ColumnType, EncodeName};
use crate::{ROW_GROUP_ROWS, VECTOR_ROWS};

/// Texts that the symbol table is trained with, and the choice made by.
const SAMPLE_TEXTS: usize = 4096;
/// So few distinct texts always get a dictionary: their codes are a byte at most.
const DICTIONARY_TEXTS_ALWAYS: usize = 255;
/// A dictionary decodes faster than codes of pieces, so it may be this much larger.
const DICTIONARY_SIZE_PERCENT: usize = 120;
/// Text that shrinks to more than this is left as it is.
const FSST_SIZE_PERCENT: usize = 90;
/// Text this long on average is deflated when that makes it much smaller.
const WIDE_TEXT_BYTES: usize = 512;
const ZSTD_SIZE_PERCENT: usize = 60;

/// The chosen encoding of one column of one segment, and what its chunks share.
pub struct ColumnEncoder {
    column_type: ColumnType,
    plan: Plan,
    shared: Vec<u8>,
}

enum Plan {
    Keys(Encoding),
    /// Distinct keys, ascending.
    KeyCodes(Vec<i64>, Encoding),
    TextCodes(Box<TextCodes>, Encoding),
    Fsst(Box<Compressor>),
    RawText,
    Zstd,
}

impl ColumnEncoder {
    /// Chooses the encoding. `row_groups` are the whole column of the segment, cut as it will be
    /// encoded; `aim` is for a column without an encoding of its own.
    pub fn plan(column: &Column, row_groups: &[ArrayRef], aim: EncodingAim) -> ColumnEncoder {
        let (plan, shared) = match column.column_type {
            ColumnType::Text => {
                let texts: Vec<_> = row_groups.iter().map(|rows| rows.as_string_view()).collect();
                plan_text(column.encode, &texts, aim)
            }
            column_type => plan_fixed(column_type, column.encode, row_groups, aim),
        };
        ColumnEncoder { column_type: column.column_type, plan, shared }
    }

    /// The encoding of the column. A chunk whose values it does not fit may use a simpler one.
    pub fn encoding(&self) -> Encoding {
        match &self.plan {
            Plan::Keys(encoding) => *encoding,
            Plan::KeyCodes(_, Encoding::RunLength) | Plan::TextCodes(_, Encoding::RunLength) => {
                Encoding::RunLength
            }
            Plan::KeyCodes(..) | Plan::TextCodes(..) => Encoding::Dictionary,
            Plan::Fsst(_) => Encoding::Fsst,
            Plan::RawText => Encoding::Raw,
            Plan::Zstd => Encoding::Zstd,
        }
    }

    /// The part that the column's chunks share; may be empty.
    pub fn shared_bytes(&self) -> Vec<u8> {
        self.shared.clone()
    }

    /// Encodes one row group, one of those the encoder was planned for.
    pub fn encode(&self, rows: &ArrayRef) -> Vec<u8> {
        assert!(rows.len() <= ROW_GROUP_ROWS, "a chunk holds one row group");
        assert_eq!(rows.data_type(), &self.column_type.arrow_type(), "rows have the column's type");
        let mut body = Writer::default();
        let tag = match self.column_type {
            ColumnType::Text => self.write_text(rows.as_string_view(), &mut body),
            _ => self.write_fixed(rows, &mut body),
        };
        let nulls = rows.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let mut out = Writer::default();
        out.u8(tag);
        out.u8(nulls.is_some().into());
        out.raw(&[0, 0]);
        out.u32(rows.len() as u32);
        if let Some(nulls) = nulls {
            let words = nulls.inner().bit_chunks().iter_padded();
            words.take(rows.len().div_ceil(64)).for_each(|word| out.u64(word));
        }
        out.raw(&body.finish());
        out.finish()
    }

    fn write_text(&self, texts: &StringViewArray, out: &mut Writer) -> u8 {
        if let Plan::TextCodes(dictionary, encoding) = &self.plan
            && let Some(codes) = dictionary.codes(texts)
        {
            write_keys(*encoding, &codes, 8, out);
            return BODY_CODES;
        }
        if let Plan::Fsst(compressor) = &self.plan {
            let texts: Vec<&[u8]> =
                texts.iter().map(|text| text.unwrap_or_default().as_bytes()).collect();
            FsstText::write(compressor, &texts, out);
            return BODY_FSST;
        }
        let mut bytes = Vec::new();
        let mut lengths = Vec::with_capacity(texts.len());
        for text in texts {
            let text = text.unwrap_or_default();
            bytes.extend_from_slice(text.as_bytes());
            lengths.push(text.len() as i64);
        }
        if let Plan::Zstd = self.plan {
            ZstdText::write(&lengths, &bytes, out);
            return BODY_ZSTD;
        }
        Slices::write(&lengths, &bytes, out);
        BODY_RAW_TEXT
    }

    fn write_fixed(&self, rows: &ArrayRef, out: &mut Writer) -> u8 {
        let keys = match fixed_values(self.column_type, rows) {
            FixedValues::Keys(keys) => keys,
            FixedValues::Wide(values) => {
                RawWide::write(&values, out);
                return BODY_WIDE;
            }
        };
        match &self.plan {
            Plan::KeyCodes(distinct, encoding) => {
                let code = |key: &i64| distinct.partition_point(|other| other < key) as i64;
                let codes: Vec<i64> = keys.iter().map(code).collect();
                write_keys(*encoding, &codes, 8, out);
                BODY_CODES
            }
            Plan::Keys(encoding) => {
                write_keys(*encoding, &keys, stored_width(self.column_type), out);
                BODY_KEYS
            }
            Plan::TextCodes(..) | Plan::Fsst(_) | Plan::RawText | Plan::Zstd => {
                unreachable!("text was planned for a column of another type")
            }
        }
    }
}

fn plan_fixed(
    column_type: ColumnType,
    encode: EncodeName,
    row_groups: &[ArrayRef],
    aim: EncodingAim,
) -> (Plan, Vec<u8>) {
    let automatic = || {
        // One row group stands for all: the middle one.
        let rows = row_groups.get(row_groups.len() / 2);
        match rows.map(|rows| fixed_values(column_type, rows)) {
            Some(FixedValues::Keys(keys)) => choose(&keys, aim).0,
            Some(FixedValues::Wide(_)) | None => Encoding::FrameOfReference,
        }
    };
    let encoding = match encode {
        EncodeName::Raw => Encoding::Raw,
        EncodeName::Delta | EncodeName::Delta32k => Encoding::Delta,
        EncodeName::Runlength => Encoding::RunLength,
        EncodeName::Mostly8 | EncodeName::Mostly16 | EncodeName::Mostly32 => {
            Encoding::FrameOfReference
        }
        EncodeName::Bytedict => match distinct_keys(column_type, row_groups) {
            Some(keys) => {
                let mut shared = Writer::default();
                shared.u64(SHARED_KEYS);
                KeyDictionary::write(&keys, &mut shared);
                return (Plan::KeyCodes(keys, Encoding::FrameOfReference), shared.finish());
            }
            None => automatic(),
        },
        EncodeName::Auto
        | EncodeName::Az64
        | EncodeName::Lzo
        | EncodeName::Text255
        | EncodeName::Text32k
        | EncodeName::Zstd => automatic(),
    };
    (Plan::Keys(encoding), Vec::new())
}

/// The distinct keys, ascending; `None` when they are too many or do not fit 64 bits.
fn distinct_keys(column_type: ColumnType, row_groups: &[ArrayRef]) -> Option<Vec<i64>> {
    let mut distinct = std::collections::BTreeSet::new();
    for rows in row_groups {
        let FixedValues::Keys(mut keys) = fixed_values(column_type, rows) else { return None };
        keys.sort_unstable();
        keys.dedup();
        distinct.extend(keys);
        if distinct.len() > DICTIONARY_VALUES_MAX {
            return None;
        }
    }
    Some(distinct.into_iter().collect())
}

fn plan_text(
    encode: EncodeName,
    row_groups: &[&StringViewArray],
    aim: EncodingAim,
) -> (Plan, Vec<u8>) {
    let runs_of = |encode| match encode {
        EncodeName::Runlength => Encoding::RunLength,
        _ => Encoding::FrameOfReference,
    };
    match encode {
        EncodeName::Raw => (Plan::RawText, Vec::new()),
        EncodeName::Zstd => (Plan::Zstd, Vec::new()),
        EncodeName::Bytedict | EncodeName::Runlength => {
            match collect_texts(row_groups, DICTIONARY_VALUES_MAX) {
                Some(texts) => with_dictionary(texts, runs_of(encode)),
                None => plan_pieces(&sample(row_groups)).unwrap_or((Plan::RawText, Vec::new())),
            }
        }
        EncodeName::Auto
        | EncodeName::Az64
        | EncodeName::Delta
        | EncodeName::Delta32k
        | EncodeName::Lzo
        | EncodeName::Mostly8
        | EncodeName::Mostly16
        | EncodeName::Mostly32
        | EncodeName::Text255
        | EncodeName::Text32k => match aim {
            EncodingAim::Speed => plan_text_by_size(row_groups),
            EncodingAim::Size => plan_smallest_text(row_groups),
        },
    }
}

fn plan_text_by_size(row_groups: &[&StringViewArray]) -> (Plan, Vec<u8>) {
    let rows: usize = row_groups.iter().map(|texts| texts.len()).sum();
    // Beyond this many distinct values, their text and the codes cannot be smaller.
    let mut texts = collect_texts(row_groups, (rows / 4).max(DICTIONARY_TEXTS_ALWAYS));
    if let Some(few) = texts.take_if(|texts| texts.len() <= DICTIONARY_TEXTS_ALWAYS) {
        return with_dictionary(few, Encoding::FrameOfReference);
    }
    let sampled = sample(row_groups);
    let sampled_bytes: usize = sampled.iter().map(|text| text.len()).sum();
    let pieces = plan_pieces(&sampled);
    let sampled_size = match &pieces {
        Some((Plan::Fsst(compressor), _)) => compressed_bytes(compressor, &sampled),
        Some(_) | None => sampled_bytes,
    };
    // A row in a sample of pieces also costs its two lengths, about a byte and a half.
    let pieces_size = (sampled_size + sampled.len() * 3 / 2) * rows / sampled.len().max(1);
    if let Some(texts) = texts {
        let code_bits = texts.len().next_power_of_two().trailing_zeros() as usize;
        let size = texts.text_bytes() + 4 * texts.len() + rows * code_bits / 8;
        if size * 100 <= pieces_size * DICTIONARY_SIZE_PERCENT {
            return with_dictionary(texts, Encoding::FrameOfReference);
        }
    }
    if sampled_bytes > WIDE_TEXT_BYTES * sampled.len() {
        let together = sampled.concat();
        let deflated = zstd_bytes(&together[..together.len().min(1 << 20)]);
        let part = together.len().clamp(1, 1 << 20);
        let ratio = deflated * 100 / part;
        if ratio * sampled_bytes <= sampled_size * ZSTD_SIZE_PERCENT {
            return (Plan::Zstd, Vec::new());
        }
    }
    match pieces {
        Some(pieces) if sampled_size * 100 <= sampled_bytes * FSST_SIZE_PERCENT => pieces,
        Some(_) | None => (Plan::RawText, Vec::new()),
    }
}

/// The smallest of all, however slow it is to decode.
fn plan_smallest_text(row_groups: &[&StringViewArray]) -> (Plan, Vec<u8>) {
    let rows: usize = row_groups.iter().map(|texts| texts.len()).sum();
    let sampled = sample(row_groups);
    let count = sampled.len().max(1);
    let of_all = |bytes: usize| bytes * rows / count;
    // All but a dictionary store a length for each row, about a byte.
    let raw = of_all(sampled.iter().map(|text| text.len()).sum()) + rows;
    let deflated = sampled.chunks(VECTOR_ROWS).map(|texts| zstd_bytes(&texts.concat())).sum();
    let deflated = of_all(deflated) + rows;
    let pieces = plan_pieces(&sampled);
    let in_pieces = match &pieces {
        Some((Plan::Fsst(compressor), _)) => of_all(compressed_bytes(compressor, &sampled)) + rows,
        Some(_) | None => usize::MAX,
    };
    let best = raw.min(deflated).min(in_pieces);
    if let Some(texts) = collect_texts(row_groups, (rows / 4).max(255)) {
        let code_bits = texts.len().next_power_of_two().trailing_zeros() as usize;
        if texts.text_bytes() + 4 * texts.len() + rows * code_bits / 8 <= best {
            return with_dictionary(texts, Encoding::FrameOfReference);
        }
    }
    match pieces {
        Some(pieces) if in_pieces == best => pieces,
        _ if deflated == best => (Plan::Zstd, Vec::new()),
        _ => (Plan::RawText, Vec::new()),
    }
}

fn zstd_bytes(bytes: &[u8]) -> usize {
    zstd::bulk::compress(bytes, 1).map_or(bytes.len(), |frame| frame.len())
}

fn compressed_bytes(compressor: &Compressor, texts: &[&[u8]]) -> usize {
    texts.iter().map(|text| compressor.compress(text).len()).sum()
}

fn collect_texts(row_groups: &[&StringViewArray], distinct_max: usize) -> Option<TextCodes> {
    let mut texts = TextCodes::new();
    let all_fit = row_groups.iter().all(|rows| texts.add(rows, distinct_max));
    // A chunk of NULLs alone has code 0, which must exist.
    (all_fit && texts.len() > 0).then_some(texts)
}

fn with_dictionary(mut texts: TextCodes, encoding: Encoding) -> (Plan, Vec<u8>) {
    let mut shared = Writer::default();
    shared.u64(SHARED_TEXTS);
    texts.sort_and_write(&mut shared);
    (Plan::TextCodes(Box::new(texts), encoding), shared.finish())
}

/// A symbol table trained with the sample; `None` when there is nothing to train with.
fn plan_pieces(sample: &[&[u8]]) -> Option<(Plan, Vec<u8>)> {
    if sample.iter().all(|text| text.is_empty()) {
        return None;
    }
    let compressor = Compressor::train(&sample.to_vec());
    let mut shared = Writer::default();
    shared.u64(SHARED_SYMBOLS);
    SymbolTable::write(&compressor, &mut shared);
    Some((Plan::Fsst(Box::new(compressor)), shared.finish()))
}

/// Texts from all over the column, the same for the same column.
fn sample<'a>(row_groups: &[&'a StringViewArray]) -> Vec<&'a [u8]> {
    let rows: usize = row_groups.iter().map(|texts| texts.len()).sum();
    let step = (rows / SAMPLE_TEXTS).max(1);
    let texts = row_groups.iter().flat_map(|texts| (0..texts.len()).map(|row| (*texts, row)));
    let sampled = texts.step_by(step).filter(|(texts, row)| texts.is_valid(*row));
    sampled.map(|(texts, row)| texts.value(row).as_bytes()).collect()
}
