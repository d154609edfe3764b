//! The file of a deletion vector, and the catalog's record of it.

use std::io::ErrorKind;
use std::path::Path;

use super::{DeletionVector, DeletionVectorInfo};
use crate::checksum::{BlockPlace, FilePlace, block_checksum, file_checksum};
use crate::error::{Error, Result};
use crate::ids::{DeletionVectorId, SegmentId};
use crate::io::{Io, write_file_whole};
use crate::little_endian::{ByteReader, ByteWriter, Unreadable};
use crate::row_set::RowSet;
use crate::statistics::SegmentInfo;
use crate::verify::Place;
use crate::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

const MAGIC: &[u8; 8] = b"BLUESHDV";
/// The version of the format that this code reads and writes.
const FORMAT_VERSION: u32 = 1;
/// The most bytes of a file: all row groups as bitmaps, with what stands around them.
const FILE_BYTES_MAX: u64 =
    64 + (SEGMENT_ROWS_MAX / ROW_GROUP_ROWS * (8 + ROW_GROUP_ROWS / 8)) as u64;
/// Version of [`DeletionVectorInfo::to_bytes`].
const INFO_VERSION: u16 = 1;

/// Writes a vector to `path`, durably, and returns what the catalog keeps of it. A file that is
/// there already is never replaced.
///
/// On an error the vector was not written: if a file of that name is left over, it is whole, but
/// nothing may refer to it, and its id is used up.
pub fn write_deletion_vector(
    io: &dyn Io,
    path: &Path,
    vector: &DeletionVector,
) -> Result<DeletionVectorInfo> {
    if io.len(path)?.is_some() {
        let source = ErrorKind::AlreadyExists.into();
        return Err(Error::Io { action: "create", path: path.to_owned(), source });
    }
    let (bytes, fingerprint) = vector.to_bytes();
    write_file_whole(io, path, [bytes.as_slice()])?;
    Ok(DeletionVectorInfo {
        id: vector.id,
        segment: vector.segment,
        fingerprint,
        deleted_rows: vector.deleted.len(),
        byte_count: bytes.len() as u64,
    })
}

/// See [`DeletionVector::open`].
pub(super) fn read(
    io: &dyn Io,
    path: &Path,
    info: &DeletionVectorInfo,
    segment: &SegmentInfo,
) -> Result<DeletionVector> {
    let vector = read_any(io, path, info)?;
    if !vector.is_for(segment) {
        return Err(corrupt(io, path, "it is for another file of the segment".into()));
    }
    Ok(vector)
}

/// Reads the vector that `info` was made of, whatever segment file it is for.
pub(super) fn read_any(
    io: &dyn Io,
    path: &Path,
    info: &DeletionVectorInfo,
) -> Result<DeletionVector> {
    let length = length(io, path)?;
    if length != info.byte_count {
        let reason = format!("it has {length} bytes instead of {}", info.byte_count);
        return Err(corrupt(io, path, reason));
    }
    let (vector, fingerprint) = read_named(io, path, info.segment, info.id, length)?;
    if (fingerprint, vector.deleted.len()) != (info.fingerprint, info.deleted_rows) {
        return Err(corrupt(io, path, "it is another file than the catalog knows".into()));
    }
    Ok(vector)
}

/// Reads whichever vector has these ids; answers with the length of the file.
pub(super) fn read_by_ids(
    io: &dyn Io,
    path: &Path,
    segment: SegmentId,
    id: DeletionVectorId,
) -> Result<u64> {
    let length = length(io, path)?;
    read_named(io, path, segment, id, length)?;
    Ok(length)
}

fn length(io: &dyn Io, path: &Path) -> Result<u64> {
    io.len(path)?.ok_or_else(|| {
        let source = ErrorKind::NotFound.into();
        Error::Io { action: "open", path: path.to_owned(), source }
    })
}

fn read_named(
    io: &dyn Io,
    path: &Path,
    segment: SegmentId,
    id: DeletionVectorId,
    length: u64,
) -> Result<(DeletionVector, u64)> {
    if length > FILE_BYTES_MAX {
        return Err(corrupt(io, path, format!("it has {length} bytes")));
    }
    let mut bytes = vec![0; length as usize];
    match io.read_at(path, 0, &mut bytes) {
        Ok(()) => {}
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => {
            return Err(corrupt(io, path, "it ended while it was read".into()));
        }
        Err(error) => return Err(error),
    }
    DeletionVector::from_bytes(&bytes, segment, id).map_err(|e| corrupt(io, path, e.0))
}

/// The error of bytes that are not what was written; the disk is told.
fn corrupt(io: &dyn Io, path: &Path, reason: String) -> Error {
    let error = Error::Corrupt { path: path.to_owned(), place: Place::DeletionVector, reason };
    io.note_damage(&error);
    error
}

impl DeletionVector {
    /// The bytes of the file, and the checksum at their end.
    pub(super) fn to_bytes(&self) -> (Vec<u8>, u64) {
        let mut writer = ByteWriter::new();
        writer.bytes(MAGIC);
        writer.u32(FORMAT_VERSION);
        writer.u32(0);
        writer.u64(self.segment.0);
        writer.u64(self.id.0);
        writer.u64(self.segment_fingerprint);
        writer.u64(self.deleted.segment_rows());
        writer.u64(self.deleted.len());
        self.deleted.write(&mut writer);
        let checksum = file_checksum(place(self.segment, self.id), writer.as_slice());
        writer.u64(checksum);
        let bytes = writer.into_bytes();
        assert!(bytes.len() as u64 <= FILE_BYTES_MAX, "no form of a row group is larger");
        (bytes, checksum)
    }

    /// Reads the bytes of a file that should be the vector `id` of `segment`.
    pub(super) fn from_bytes(
        bytes: &[u8],
        segment: SegmentId,
        id: DeletionVectorId,
    ) -> Result<(DeletionVector, u64), Unreadable> {
        let (body, checksum) = bytes
            .split_last_chunk::<8>()
            .ok_or_else(|| Unreadable("it is too short for a deletion vector".into()))?;
        let checksum = u64::from_le_bytes(*checksum);
        let mut reader = ByteReader::new(body);
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(Unreadable("it is not a deletion vector".into()));
        }
        let version = reader.u32()?;
        if version != FORMAT_VERSION {
            return Err(Unreadable(format!(
                "format version {version} is not known here, only {FORMAT_VERSION}"
            )));
        }
        if file_checksum(place(segment, id), body) != checksum {
            return Err(Unreadable("its checksum does not fit".into()));
        }
        let reserved = reader.u32()?;
        let ids = (SegmentId(reader.u64()?), DeletionVectorId(reader.u64()?));
        if (reserved, ids) != (0, (segment, id)) {
            return Err(Unreadable("it names another segment or vector".into()));
        }
        let segment_fingerprint = reader.u64()?;
        let segment_rows = reader.u64()?;
        let deleted_rows = reader.u64()?;
        let deleted = RowSet::read(&mut reader, segment_rows)?;
        reader.end()?;
        if deleted.len() != deleted_rows {
            let found = deleted.len();
            return Err(Unreadable(format!("it has {found} rows instead of {deleted_rows}")));
        }
        Ok((DeletionVector { id, segment, segment_fingerprint, deleted }, checksum))
    }
}

fn place(segment: SegmentId, id: DeletionVectorId) -> FilePlace {
    FilePlace { segment, generation: id.0 }
}

impl DeletionVectorInfo {
    /// The record for the catalog: versioned, with a checksum at its end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u16(INFO_VERSION);
        writer.u64(self.id.0);
        writer.u64(self.segment.0);
        writer.u64(self.fingerprint);
        writer.u64(self.deleted_rows);
        writer.u64(self.byte_count);
        let checksum = block_checksum(INFO_PLACE, writer.as_slice());
        writer.u64(checksum);
        writer.into_bytes()
    }

    /// Reads what [`DeletionVectorInfo::to_bytes`] wrote; anything else is an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<DeletionVectorInfo, Unreadable> {
        let (record, checksum) = bytes
            .split_last_chunk::<8>()
            .ok_or_else(|| Unreadable("it is too short for a deletion vector's record".into()))?;
        if block_checksum(INFO_PLACE, record) != u64::from_le_bytes(*checksum) {
            return Err(Unreadable("the checksum of a deletion vector's record is wrong".into()));
        }
        let mut reader = ByteReader::new(record);
        let version = reader.u16()?;
        if version != INFO_VERSION {
            return Err(Unreadable(format!("deletion vector record version {version} is unknown")));
        }
        let info = DeletionVectorInfo {
            id: DeletionVectorId(reader.u64()?),
            segment: SegmentId(reader.u64()?),
            fingerprint: reader.u64()?,
            deleted_rows: reader.u64()?,
            byte_count: reader.u64()?,
        };
        reader.end()?;
        Ok(info)
    }
}

/// The record lies in the catalog, not in a file.
const INFO_PLACE: BlockPlace = BlockPlace { segment: SegmentId(0), offset: 0 };
