//! FSST: text as codes of one byte, each standing for a frequent piece of one to eight bytes; the
//! table of pieces is trained for the segment. Code 255 escapes: the byte after it stands for
//! itself. ("FSST: Fast Random Access String Compression", Boncz, Neumann, Leis, 2020.)
//!
//! ```text
//!  lengths of the rows' codes | codes, row after row | lengths of the rows' text
//! ```
//!
//! Any row can be decoded alone. LIKE decodes all rows of a vector into one buffer and searches it.
//!
//! A decoded row must have its stored length, and what goes to a [`TextValues`] must be UTF-8; both
//! are checked whenever a vector is decoded, which costs a few percent of decoding.
#![expect(unsafe_code, reason = "decoding writes eight bytes for each code, and moves on by fewer")]

use fsst::Compressor;

use super::FormatError;
use super::column_builder::TextValues;
use super::kernel;
use super::key_stream::KeyStream;
use super::layout::{Reader, Writer};
use super::mask::Mask;
use super::text::{
    Lengths, SPARSE_ROWS, Slices, TextTest, check_lengths, load_lengths, with_scratch,
    write_lengths,
};
use crate::VECTOR_ROWS;

const ESCAPE: u8 = 255;
/// Bytes of the longest piece.
const PIECE_BYTES_MAX: usize = 8;
/// Room behind decoded text, so that whole pieces can be written at its end.
const SLACK: usize = 64;

const WRONG_LENGTH: FormatError = FormatError::new("decoded text has another length");

/// The pieces by code.
pub(super) struct SymbolTable {
    pieces: [u64; 256],
    /// 1 to 8 for the codes in use, 0 for all others.
    lengths: [u8; 256],
}

impl SymbolTable {
    /// Writes the table of a trained compressor.
    pub(super) fn write(compressor: &Compressor, out: &mut Writer) {
        let (pieces, lengths) = (compressor.symbol_table(), compressor.symbol_lengths());
        out.u64(pieces.len() as u64);
        pieces.iter().for_each(|piece| out.u64(piece.to_u64()));
        out.raw(lengths);
        out.align();
    }

    pub(super) fn open(reader: &mut Reader) -> Result<SymbolTable, FormatError> {
        let count = reader.u64()?;
        if count > u64::from(ESCAPE) {
            return Err(FormatError::new("a symbol table has too many pieces"));
        }
        let pieces = reader.items(count as usize, 8)?;
        let lengths = reader.part(count as usize)?;
        reader.align()?;
        let mut table = SymbolTable { pieces: [0; 256], lengths: [0; 256] };
        for (code, (piece, length)) in
            pieces.as_chunks::<8>().0.iter().zip(lengths.iter()).enumerate()
        {
            if !(1..=PIECE_BYTES_MAX as u8).contains(length) {
                return Err(FormatError::new("a piece is not 1 to 8 bytes long"));
            }
            table.pieces[code] = u64::from_le_bytes(*piece);
            table.lengths[code] = *length;
        }
        Ok(table)
    }

    /// Appends the text of `codes`. `out` must have spare room; nothing is appended that would come
    /// closer than eight bytes to the end of its capacity.
    ///
    /// # Errors
    /// When there is no room, or the codes end within an escape.
    #[inline]
    fn expand(&self, codes: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let room = out.spare_capacity_mut();
        let limit = room.len().checked_sub(PIECE_BYTES_MAX).ok_or(WRONG_LENGTH)?;
        let to = room.as_mut_ptr().cast::<u8>();
        let mut written = 0;
        let mut position = 0;
        while position < codes.len() {
            // Eight codes without an escape, when there is room for eight pieces.
            while let Some(block) = codes[position..].first_chunk::<8>()
                && written + 7 * PIECE_BYTES_MAX <= limit
                && !has_escape(u64::from_le_bytes(*block))
            {
                for code in block {
                    let code = usize::from(*code);
                    // SAFETY: before this piece at most seven of at most eight bytes were written
                    // since `written` was found to be 56 below the limit.
                    unsafe {
                        to.add(written).cast::<u64>().write_unaligned(self.pieces[code].to_le())
                    };
                    written += usize::from(self.lengths[code]);
                }
                position += 8;
            }
            let Some(code) = codes.get(position) else { break };
            if written > limit {
                return Err(WRONG_LENGTH);
            }
            if *code == ESCAPE {
                let byte = codes.get(position + 1).ok_or(WRONG_LENGTH)?;
                // SAFETY: `written <= limit`, which is eight bytes before the end.
                unsafe { to.add(written).write(*byte) };
                written += 1;
                position += 2;
                continue;
            }
            let code = usize::from(*code);
            // SAFETY: `written <= limit`, which is eight bytes before the end.
            unsafe { to.add(written).cast::<u64>().write_unaligned(self.pieces[code].to_le()) };
            written += usize::from(self.lengths[code]);
            position += 1;
        }
        // SAFETY: every byte below `written` was written: a piece is written whole and the next one
        // begins within it or at its end. `written` is at most the capacity.
        unsafe { out.set_len(out.len() + written) };
        Ok(())
    }
}

/// One opened chunk.
pub(super) struct FsstText {
    codes: Slices,
    lengths: KeyStream,
}

impl FsstText {
    /// Compresses and writes `texts`.
    pub(super) fn write(compressor: &Compressor, texts: &[&[u8]], out: &mut Writer) {
        const LANES: usize = Compressor::DEFAULT_BULK_LANES;
        let (mut codes, mut ends) = (Vec::new(), Vec::with_capacity(texts.len()));
        compressor.compress_bulk_into::<LANES>(texts, &mut codes, &mut ends);
        let mut start = 0;
        let length = |end: &u64| {
            let length = end - start;
            start = *end;
            length as i64
        };
        let code_lengths: Vec<i64> = ends.iter().map(length).collect();
        let lengths: Vec<i64> = texts.iter().map(|text| text.len() as i64).collect();
        Slices::write(&code_lengths, &codes, out);
        write_lengths(&lengths, out);
    }

    pub(super) fn open(rows: usize, reader: &mut Reader) -> Result<FsstText, FormatError> {
        let codes = Slices::open(rows, reader)?;
        let lengths = KeyStream::open(rows, reader)?;
        check_lengths(&lengths, rows)?;
        Ok(FsstText { codes, lengths })
    }

    fn text_lengths(&self, vector: usize) -> Lengths {
        load_lengths(&self.lengths, vector, self.codes.vector_rows(vector))
    }

    pub(super) fn filter(
        &self,
        table: &SymbolTable,
        vector: usize,
        test: &TextTest,
        mask: &mut Mask,
    ) -> Result<(), FormatError> {
        with_scratch(|text| {
            if mask.count() > SPARSE_ROWS {
                let groups = VECTOR_ROWS / 64;
                let codes = self.codes.groups(vector * groups, groups);
                let lengths = self.text_lengths(vector);
                reserve(text, &lengths, codes.len())?;
                table.expand(codes, text)?;
                if text.len() != total(&lengths) {
                    return Err(WRONG_LENGTH);
                }
                test.filter_all(text, &lengths, mask);
                return Ok(());
            }
            let code_lengths = self.codes.lengths(vector);
            let mut keep = Mask::none();
            for (row, codes) in self.codes.locate(vector, &code_lengths, mask) {
                text.clear();
                text.reserve(PIECE_BYTES_MAX * codes.len() + SLACK);
                table.expand(codes, text)?;
                if test.matches(text) {
                    keep.insert(row);
                }
            }
            *mask = keep;
            Ok(())
        })
    }

    pub(super) fn decode(
        &self,
        table: &SymbolTable,
        vector: usize,
        mask: &Mask,
        out: &mut TextValues,
    ) -> Result<(), FormatError> {
        let code_lengths = self.codes.lengths(vector);
        let lengths = self.text_lengths(vector);
        let selected = mask.rows().map(|row| lengths[row] as usize);
        let bytes: usize = selected.clone().sum();
        let codes: usize = mask.rows().map(|row| code_lengths[row] as usize).sum();
        if bytes > PIECE_BYTES_MAX * codes {
            return Err(WRONG_LENGTH);
        }
        let text = out.bytes_for(bytes + SLACK);
        let start = text.len();
        if mask.count() == self.codes.vector_rows(vector) {
            let groups = VECTOR_ROWS / 64;
            table.expand(self.codes.groups(vector * groups, groups), text)?;
            return out.push_rows(start, selected);
        }
        // Rows far apart would each wait for memory, so all are asked for before the first is read.
        let located: Vec<_> = self.codes.locate(vector, &code_lengths, mask).collect();
        located.iter().for_each(|(_, codes)| kernel::prefetch(codes, 0, codes.len()));
        for (row, codes) in located {
            let row_start = text.len();
            table.expand(codes, text)?;
            if text.len() - row_start != lengths[row] as usize {
                return Err(WRONG_LENGTH);
            }
        }
        out.push_rows(start, selected)
    }

    pub(super) fn prefetch(&self, vector: usize) {
        self.codes.prefetch(vector);
        self.lengths.prefetch(vector);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.codes.heap_bytes() + self.lengths.heap_bytes()
    }
}

/// Whether one of eight codes is [`ESCAPE`], a byte of ones.
#[inline(always)]
fn has_escape(block: u64) -> bool {
    let inverted = !block;
    inverted.wrapping_sub(0x0101_0101_0101_0101) & !inverted & 0x8080_8080_8080_8080 != 0
}

fn total(lengths: &Lengths) -> usize {
    lengths.iter().map(|length| *length as usize).sum()
}

/// Makes room for a vector's text, once it is known that its codes can make so much.
fn reserve(text: &mut Vec<u8>, lengths: &Lengths, codes: usize) -> Result<(), FormatError> {
    let bytes = total(lengths);
    if bytes > PIECE_BYTES_MAX * codes {
        return Err(WRONG_LENGTH);
    }
    text.reserve(bytes + SLACK);
    Ok(())
}
