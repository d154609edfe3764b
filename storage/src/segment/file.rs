//! A segment file as bytes: its ends, and its blocks by their checksum.

use std::io::ErrorKind;
use std::path::Path;

use arrow_buffer::MutableBuffer;
use bytes::Bytes;

use super::footer::Footer;
use super::layout::{Block, HEADER_BYTES, TRAILER_BYTES, Trailer, check_header};
use crate::checksum::{BlockPlace, block_checksum};
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::io::Io;
use crate::statistics::SegmentInfo;

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
        let Some(length) = self.io.len(self.path)? else {
            let source = ErrorKind::NotFound.into();
            return Err(Error::Io { action: "open", path: self.path.to_owned(), source });
        };
        if length < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(self.corrupt("file".into(), format!("it has only {length} bytes")));
        }
        let trailer_bytes =
            self.read_bytes(length - TRAILER_BYTES as u64, TRAILER_BYTES as u64, &trailer_place)?;
        let (trailer, fingerprint) = Trailer::from_bytes(&trailer_bytes, length)
            .map_err(|error| self.corrupt(trailer_place(), error.0))?;
        if trailer.segment != self.id {
            let reason = format!("it is segment {}, not {}", trailer.segment.0, self.id.0);
            return Err(self.corrupt(trailer_place(), reason));
        }
        let header_place = || "header".to_owned();
        let header = self.read_bytes(0, HEADER_BYTES as u64, &header_place)?;
        check_header(self.id, &header).map_err(|error| self.corrupt(header_place(), error.0))?;
        let footer_place = || "footer".to_owned();
        let footer_bytes = self.read_block(trailer.footer, &footer_place)?;
        let footer = Footer::from_bytes(&footer_bytes, trailer.footer.offset)
            .map_err(|error| self.corrupt(footer_place(), error.0))?;
        let info = SegmentInfo {
            id: self.id,
            fingerprint,
            row_count: footer.row_count,
            byte_count: length,
            columns: footer.statistics.clone(),
        };
        Ok((footer, info))
    }

    /// Reads a block and verifies its checksum; the result begins at an aligned address.
    pub(super) fn read_block(&self, block: Block, place: &dyn Fn() -> String) -> Result<Bytes> {
        if block.length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.read_bytes(block.offset, block.padded_length(), place)?;
        let at = BlockPlace { segment: self.id, offset: block.offset };
        if block_checksum(at, &bytes) != block.checksum {
            return Err(self.corrupt(place(), "its checksum does not fit".into()));
        }
        // The padded block was read, so its length fits into memory.
        Ok(bytes.slice(..block.length as usize))
    }

    fn read_bytes(&self, offset: u64, length: u64, place: &dyn Fn() -> String) -> Result<Bytes> {
        let length = usize::try_from(length)
            .map_err(|_| self.corrupt(place(), format!("{length} bytes do not fit")))?;
        let mut buffer = MutableBuffer::from_len_zeroed(length);
        match self.io.read_at(self.path, offset, buffer.as_slice_mut()) {
            Ok(()) => Ok(Bytes::from_owner(AlignedBytes(buffer))),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => {
                Err(self.corrupt(place(), "the file ends before it".into()))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn corrupt(&self, place: String, reason: String) -> Error {
        Error::Corrupt { path: self.path.to_owned(), place, reason }
    }
}

/// Bytes that begin at an aligned address, so that decoders can use them in place.
struct AlignedBytes(MutableBuffer);

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn trailer_place() -> String {
    "trailer".to_owned()
}
