//! The fixed-size ends of a segment file, and where blocks lie in it.

use crate::checksum::{BlockPlace, block_checksum};
use crate::ids::SegmentId;
use crate::little_endian::{ByteReader, ByteWriter, Unreadable};

/// Every block begins at a multiple of this, and is padded with zeros to one.
pub(super) const BLOCK_ALIGNMENT: u64 = 64;
/// Length of the header.
pub(super) const HEADER_BYTES: usize = 64;
/// Length of the trailer.
pub(super) const TRAILER_BYTES: usize = 64;
/// The version of the format that this code reads and writes.
pub(super) const FORMAT_VERSION: u32 = 2;

const HEADER_MAGIC: &[u8; 8] = b"BLUESHFT";
const TRAILER_MAGIC: &[u8; 8] = b"TFHSEULB";
/// Both ends end with their checksum.
const CHECKSUM_BYTES: usize = 8;

const _: () = assert!((HEADER_BYTES as u64).is_multiple_of(BLOCK_ALIGNMENT));
const _: () = assert!((TRAILER_BYTES as u64).is_multiple_of(BLOCK_ALIGNMENT));

/// Where a block lies, and what its bytes add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// The first byte; a multiple of [`BLOCK_ALIGNMENT`].
    pub(super) offset: u64,
    /// Length without padding; 0 = there is no such block, and all else is 0 too.
    pub(super) length: u64,
    /// Of the padded bytes.
    pub(super) checksum: u64,
}

impl Block {
    /// No bytes.
    pub(super) const EMPTY: Block = Block { offset: 0, length: 0, checksum: 0 };

    /// Length with padding. Saturates, so that a wrong length fits no file.
    pub(super) fn padded_length(&self) -> u64 {
        self.length.checked_next_multiple_of(BLOCK_ALIGNMENT).unwrap_or(u64::MAX)
    }

    /// Pads `bytes` and describes them as the block at `offset`.
    pub(super) fn seal(segment: SegmentId, offset: u64, bytes: &mut Vec<u8>) -> Block {
        assert!(offset.is_multiple_of(BLOCK_ALIGNMENT), "blocks are aligned");
        let length = bytes.len() as u64;
        bytes.resize(bytes.len().next_multiple_of(BLOCK_ALIGNMENT as usize), 0);
        Block { offset, length, checksum: block_checksum(BlockPlace { segment, offset }, bytes) }
    }

    pub(super) fn write(&self, writer: &mut ByteWriter) {
        writer.u64(self.offset);
        writer.u64(self.length);
        writer.u64(self.checksum);
    }

    pub(super) fn read(reader: &mut ByteReader<'_>) -> Result<Block, Unreadable> {
        Ok(Block { offset: reader.u64()?, length: reader.u64()?, checksum: reader.u64()? })
    }
}

/// The first bytes of a segment file.
pub(super) fn header_bytes(segment: SegmentId) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    writer.bytes(HEADER_MAGIC);
    writer.u32(FORMAT_VERSION);
    writer.u32(0);
    writer.u64(segment.0);
    writer.zeros_up_to(HEADER_BYTES - CHECKSUM_BYTES);
    let checksum = block_checksum(BlockPlace { segment, offset: 0 }, writer.as_slice());
    writer.u64(checksum);
    writer.into_bytes()
}

/// Checks that a file begins as [`header_bytes`] say.
pub(super) fn check_header(segment: SegmentId, bytes: &[u8]) -> Result<(), Unreadable> {
    if bytes == header_bytes(segment) {
        return Ok(());
    }
    let mut reader = ByteReader::new(bytes);
    if reader.bytes(HEADER_MAGIC.len())? != HEADER_MAGIC {
        return Err(Unreadable("it is not a segment file".into()));
    }
    check_version(reader.u32()?)?;
    Err(Unreadable("it is not what was written".into()))
}

fn check_version(version: u32) -> Result<(), Unreadable> {
    if version == FORMAT_VERSION {
        return Ok(());
    }
    Err(Unreadable(format!("format version {version} is not known here, only {FORMAT_VERSION}")))
}

/// The last bytes of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) segment: SegmentId,
    /// The footer; it ends where the trailer begins.
    pub(super) footer: Block,
}

impl Trailer {
    /// Where the trailer begins.
    pub(super) fn offset(&self) -> u64 {
        self.footer.offset.saturating_add(self.footer.padded_length())
    }

    /// The bytes, and the checksum at their end: the fingerprint of the file.
    pub(super) fn to_bytes(self) -> (Vec<u8>, u64) {
        let mut writer = ByteWriter::new();
        writer.bytes(TRAILER_MAGIC);
        writer.u32(FORMAT_VERSION);
        writer.u32(0);
        writer.u64(self.segment.0);
        self.footer.write(&mut writer);
        writer.zeros_up_to(TRAILER_BYTES - CHECKSUM_BYTES);
        let place = BlockPlace { segment: self.segment, offset: self.offset() };
        let checksum = block_checksum(place, writer.as_slice());
        writer.u64(checksum);
        (writer.into_bytes(), checksum)
    }

    /// Reads the last bytes of a file of `file_length` bytes; also gives the fingerprint.
    pub(super) fn from_bytes(bytes: &[u8], file_length: u64) -> Result<(Trailer, u64), Unreadable> {
        let mut reader = ByteReader::new(bytes);
        if reader.bytes(TRAILER_MAGIC.len())? != TRAILER_MAGIC {
            return Err(Unreadable("the file does not end as a segment does".into()));
        }
        check_version(reader.u32()?)?;
        reader.u32()?;
        let segment = SegmentId(reader.u64()?);
        let trailer = Trailer { segment, footer: Block::read(&mut reader)? };
        // Also covers the reserved bytes and the checksum itself.
        let (expected, fingerprint) = trailer.to_bytes();
        if bytes != expected {
            return Err(Unreadable("its checksum does not fit".into()));
        }
        let end = trailer.offset().checked_add(TRAILER_BYTES as u64);
        if end != Some(file_length) || !trailer.footer.offset.is_multiple_of(BLOCK_ALIGNMENT) {
            return Err(Unreadable(format!("the file has {file_length} bytes, not as written")));
        }
        Ok((trailer, fingerprint))
    }
}
