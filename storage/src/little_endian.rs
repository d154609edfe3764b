//! Writing and reading of small records byte by byte, little-endian. The reader trusts nothing: a
//! record that ends early or holds a value that it cannot hold is an [`Unreadable`], never a panic.

use crate::predicate::Constant;

/// Why bytes are not the record that they should be. The caller adds which file and which part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct ByteWriter {
    bytes: Vec<u8>,
}

impl ByteWriter {
    /// Nothing written yet.
    pub fn new() -> ByteWriter {
        ByteWriter::default()
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Ends the record.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// Appends zeros up to a length in all, which is not less than what is written.
    pub fn zeros_up_to(&mut self, length: usize) {
        assert!(length >= self.bytes.len(), "a record must not outgrow its fixed size");
        self.bytes.resize(length, 0);
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Appends 2 bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends 4 bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends 8 bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends a count of things in memory as 4 bytes.
    pub fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).expect("counts in records are bounded far below 2^32"));
    }

    /// Appends a count and the bytes.
    pub fn counted_bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes(value);
    }

    /// Appends a constant: a tag and its value.
    pub fn constant(&mut self, value: Option<&Constant>) {
        match value {
            None => self.u8(0),
            Some(Constant::Int(value)) => {
                self.u8(1);
                self.bytes(&value.to_le_bytes());
            }
            Some(Constant::Decimal(value)) => {
                self.u8(2);
                self.bytes(&value.to_le_bytes());
            }
            Some(Constant::Float(value)) => {
                self.u8(3);
                self.u64(value.to_bits());
            }
            Some(Constant::Text(value)) => {
                self.u8(4);
                self.counted_bytes(value.as_bytes());
            }
        }
    }
}

/// Takes values from the front of a slice.
#[derive(Debug, Clone)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// Reads from the first byte on.
    pub fn new(bytes: &'a [u8]) -> ByteReader<'a> {
        ByteReader { bytes }
    }

    /// Takes bytes as they are.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        match self.bytes.split_at_checked(length) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(Unreadable(format!(
                "it ends {} bytes early",
                length.saturating_sub(self.bytes.len())
            ))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Takes 2 bytes.
    pub fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Takes 4 bytes.
    pub fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes 8 bytes.
    pub fn u64(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes a count of things that are at least one byte each, so that a wrong count cannot ask
    /// for more memory than the record has bytes.
    pub fn count(&mut self) -> Result<usize, Unreadable> {
        let count = self.u32()? as usize;
        if count > self.bytes.len() {
            return Err(Unreadable(format!("count {count} exceeds the bytes that follow")));
        }
        Ok(count)
    }

    /// Takes a count and as many bytes.
    pub fn counted_bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let count = self.count()?;
        self.bytes(count)
    }

    /// Takes a count and as many bytes of UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.counted_bytes()?)
            .map_err(|_| Unreadable("a text is not UTF-8".into()))
    }

    /// Takes a constant: a tag and its value.
    pub fn constant(&mut self) -> Result<Option<Constant>, Unreadable> {
        Ok(match self.u8()? {
            0 => None,
            1 => Some(Constant::Int(i64::from_le_bytes(self.array()?))),
            2 => Some(Constant::Decimal(i128::from_le_bytes(self.array()?))),
            3 => Some(Constant::Float(f64::from_bits(self.u64()?))),
            4 => Some(Constant::Text(self.text()?.to_owned())),
            tag => return Err(Unreadable(format!("there is no constant of kind {tag}"))),
        })
    }

    /// Says that the record must end here.
    pub fn end(&self) -> Result<(), Unreadable> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(Unreadable(format!("{} bytes are left over", self.bytes.len())))
    }
}
