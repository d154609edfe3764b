//! A segment file as bytes: its ends, and its blocks by their checksum.

use std::io::ErrorKind;
use std::path::Path;

use arrow_buffer::MutableBuffer;
use bytes::Bytes;
use faults::Defect;

use super::footer::Footer;
use super::layout::{Block, HEADER_BYTES, TRAILER_BYTES, Trailer, check_header};
use crate::checksum::{BlockPlace, block_checksum};
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::io::Io;
use crate::statistics::SegmentInfo;
use crate::verify::Place;

/// A segment file as bytes.
#[derive(Clone, Copy)]
pub(super) struct OpenFile<'a> {
    pub(super) io: &'a dyn Io,
    pub(super) path: &'a Path,
    pub(super) id: SegmentId,
}

impl OpenFile<'_> {
    /// Reads header, trailer and footer.
    pub(super) fn read_ends(&self) -> Result<(Footer, SegmentInfo)> {
        let length = self.length()?;
        let (trailer, fingerprint) = self.read_trailer(length)?;
        self.read_header()?;
        let footer = self.read_footer(&trailer)?;
        let info = self.info(length, fingerprint, &footer);
        Ok((footer, info))
    }

    /// The length of the file: at least that of the two ends.
    pub(super) fn length(&self) -> Result<u64> {
        let Some(length) = self.io.len(self.path)? else {
            let source = ErrorKind::NotFound.into();
            return Err(Error::Io { action: "open", path: self.path.to_owned(), source });
        };
        if length < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(self.corrupt(Place::File, format!("it has only {length} bytes")));
        }
        Ok(length)
    }

    /// Reads the trailer; also gives the fingerprint of the file.
    pub(super) fn read_trailer(&self, length: u64) -> Result<(Trailer, u64)> {
        let offset = length - TRAILER_BYTES as u64;
        let bytes = self.read_bytes(offset, TRAILER_BYTES as u64, Place::Trailer)?;
        let (trailer, fingerprint) = Trailer::from_bytes(&bytes, length)
            .map_err(|error| self.corrupt(Place::Trailer, error.0))?;
        if trailer.segment != self.id {
            let reason = format!("it is segment {}, not {}", trailer.segment.0, self.id.0);
            return Err(self.corrupt(Place::Trailer, reason));
        }
        Ok((trailer, fingerprint))
    }

    pub(super) fn read_header(&self) -> Result<()> {
        let bytes = self.read_bytes(0, HEADER_BYTES as u64, Place::Header)?;
        check_header(self.id, &bytes).map_err(|error| self.corrupt(Place::Header, error.0))
    }

    pub(super) fn read_footer(&self, trailer: &Trailer) -> Result<Footer> {
        let bytes = self.read_block(trailer.footer, Place::Footer)?;
        Footer::from_bytes(&bytes, trailer.footer.offset)
            .map_err(|error| self.corrupt(Place::Footer, error.0))
    }

    /// What the catalog keeps of the segment.
    pub(super) fn info(&self, length: u64, fingerprint: u64, footer: &Footer) -> SegmentInfo {
        SegmentInfo {
            id: self.id,
            fingerprint,
            row_count: footer.row_count,
            byte_count: length,
            columns: footer.statistics.clone(),
        }
    }

    /// Reads a block and verifies its checksum; the result begins at an aligned address.
    pub(super) fn read_block(&self, block: Block, place: Place) -> Result<Bytes> {
        let bytes = self.read_padded_block(block, place)?;
        // The padded block was read, so its length fits into memory.
        Ok(bytes.slice(..block.length as usize))
    }

    /// The same with the bytes that pad it.
    pub(super) fn read_padded_block(&self, block: Block, place: Place) -> Result<Bytes> {
        if block.length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.read_bytes(block.offset, block.padded_length(), place)?;
        let at = BlockPlace { segment: self.id, offset: block.offset };
        if !is_sound(block, at, &bytes) {
            return Err(self.corrupt(place, "its checksum does not fit".into()));
        }
        Ok(bytes)
    }

    /// Reads blocks that lie one after the other, each verified, in one go.
    pub(super) fn read_run(&self, blocks: &[(Block, Place)]) -> Result<Vec<Bytes>> {
        let (Some((first, place)), Some((last, _))) = (blocks.first(), blocks.last()) else {
            return Ok(Vec::new());
        };
        let length = last.offset + last.padded_length() - first.offset;
        let run = self.read_bytes(first.offset, length, *place)?;
        let cut = |(block, place): &(Block, Place)| {
            // The run was read, so its length fits into memory.
            let start = (block.offset - first.offset) as usize;
            let padded = &run[start..start + block.padded_length() as usize];
            let at = BlockPlace { segment: self.id, offset: block.offset };
            if !is_sound(*block, at, padded) {
                return Err(self.corrupt(*place, "its checksum does not fit".into()));
            }
            // Copied, so that each is let go by itself.
            let mut own = MutableBuffer::from_len_zeroed(block.length as usize);
            own.as_slice_mut().copy_from_slice(&padded[..block.length as usize]);
            Ok(Bytes::from_owner(AlignedBytes(own)))
        };
        blocks.iter().map(cut).collect()
    }

    fn read_bytes(&self, offset: u64, length: u64, place: Place) -> Result<Bytes> {
        let length = usize::try_from(length)
            .map_err(|_| self.corrupt(place, format!("{length} bytes do not fit")))?;
        let mut buffer = MutableBuffer::from_len_zeroed(length);
        match self.io.read_at(self.path, offset, buffer.as_slice_mut()) {
            Ok(()) => Ok(Bytes::from_owner(AlignedBytes(buffer))),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => {
                Err(self.corrupt(place, "the file ends before it".into()))
            }
            Err(error) => Err(error),
        }
    }

    /// The error of bytes that are not what was written; the disk is told.
    pub(super) fn corrupt(&self, place: Place, reason: String) -> Error {
        let error = Error::Corrupt { path: self.path.to_owned(), place, reason };
        self.io.note_damage(&error);
        error
    }
}

/// Bytes that begin at an aligned address, so that decoders can use them in place.
struct AlignedBytes(MutableBuffer);

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn is_sound(block: Block, at: BlockPlace, bytes: &[u8]) -> bool {
    block_checksum(at, bytes) == block.checksum || faults::planted(Defect::SkipChecksum)
}
