//! The bytes of a chunk: little-endian, every part starts at a multiple of eight. Reading checks
//! every length, so that damaged bytes give a [`FormatError`] and never an index out of bounds.

use arrow_buffer::Buffer;

use super::FormatError;

#[cfg(target_endian = "big")]
compile_error!("packed vectors are read in place, as little-endian words");

/// Parts of a chunk start at multiples of this many bytes.
pub(super) const PART_ALIGNMENT: usize = 8;

/// Builds a chunk.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes so far, to append to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Fills with zeros up to the next part.
    pub(super) fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(PART_ALIGNMENT), 0);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a chunk, part by part.
pub(super) struct Reader {
    buffer: Buffer,
    position: usize,
}

impl Reader {
    /// Takes `bytes` as they are when they lie at an aligned address, else copies them once.
    pub(super) fn new(bytes: bytes::Bytes) -> Reader {
        let aligned = bytes.as_ptr().addr().is_multiple_of(PART_ALIGNMENT);
        let buffer =
            if aligned { Buffer::from(bytes) } else { Buffer::from_slice_ref(bytes.as_ref()) };
        Reader { buffer, position: 0 }
    }

    /// The next `length` bytes, shared with the chunk.
    pub(super) fn part(&mut self, length: usize) -> Result<Buffer, FormatError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.buffer.len());
        let end = end.ok_or(FormatError::new("a part reaches beyond the end"))?;
        let part = self.buffer.slice_with_length(self.position, length);
        self.position = end;
        Ok(part)
    }

    /// `count` items of `width` bytes.
    pub(super) fn items(&mut self, count: usize, width: usize) -> Result<Buffer, FormatError> {
        self.part(count.checked_mul(width).ok_or(FormatError::new("a count is too large"))?)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let end = self.position.checked_add(N).ok_or(FormatError::new("a part is too long"))?;
        let bytes = self.buffer.get(self.position..end);
        let bytes = bytes.and_then(|bytes| bytes.first_chunk::<N>());
        let value = *bytes.ok_or(FormatError::new("a part reaches beyond the end"))?;
        self.position = end;
        Ok(value)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.fixed()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// Skips to the next part; the bytes between are zero.
    pub(super) fn align(&mut self) -> Result<(), FormatError> {
        let gap = self.position.next_multiple_of(PART_ALIGNMENT) - self.position;
        match self.part(gap)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(FormatError::new("the gap between two parts is not zero")),
        }
    }

    pub(super) fn expect_end(&self) -> Result<(), FormatError> {
        match self.position == self.buffer.len() {
            true => Ok(()),
            false => Err(FormatError::new("there are bytes after the last part")),
        }
    }
}
