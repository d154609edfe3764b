//! The checksum over every block that storage writes: XXH3-64 (xxHash specification,
//! `XXH3_64bits_withSeed`), seeded with the place that the block belongs to, so that a block that
//! lies at another place or in another file does not pass.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ids::SegmentId;

/// Where a block of bytes belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// The segment.
    pub segment: SegmentId,
    /// The block's first byte in the file.
    pub offset: u64,
}

/// The checksum of a block at its place.
pub fn block_checksum(place: BlockPlace, bytes: &[u8]) -> u64 {
    let mut seed = [0; 24];
    seed[..8].copy_from_slice(&place.segment.0.to_le_bytes());
    seed[8..16].copy_from_slice(&place.offset.to_le_bytes());
    seed[16..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    xxh3_64_with_seed(bytes, xxh3_64(&seed))
}

/// What a whole file belongs to, for files that are one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilePlace {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Which file of that kind and segment: another number for every file ever written.
    pub(crate) generation: u64,
}

/// The checksum of all bytes of a file but the checksum itself.
pub(crate) fn file_checksum(place: FilePlace, bytes: &[u8]) -> u64 {
    // The offset, 0, stands in the seed as in that of a block, whose seed is shorter.
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&place.segment.0.to_le_bytes());
    seed[8..16].copy_from_slice(&place.generation.to_le_bytes());
    seed[24..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    xxh3_64_with_seed(bytes, xxh3_64(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_content_both_count() {
        let place = |segment, offset| BlockPlace { segment: SegmentId(segment), offset };
        let expected = block_checksum(place(7, 64), b"block");
        assert_eq!(block_checksum(place(7, 64), b"block"), expected);
        assert_ne!(block_checksum(place(8, 64), b"block"), expected);
        assert_ne!(block_checksum(place(7, 128), b"block"), expected);
        assert_ne!(block_checksum(place(7, 64), b"blocc"), expected);
        assert_ne!(block_checksum(place(0, 0), &[0; 64]), block_checksum(place(0, 0), &[0; 128]));
    }

    #[test]
    fn a_files_generation_counts() {
        let place = |segment, generation| FilePlace { segment: SegmentId(segment), generation };
        let expected = file_checksum(place(7, 1), b"file");
        assert_eq!(file_checksum(place(7, 1), b"file"), expected);
        assert_ne!(file_checksum(place(7, 2), b"file"), expected);
        assert_ne!(file_checksum(place(8, 1), b"file"), expected);
        assert_ne!(file_checksum(place(7, 1), b"fila"), expected);
        let block = BlockPlace { segment: SegmentId(7), offset: 0 };
        assert_ne!(block_checksum(block, b"file"), file_checksum(place(7, 0), b"file"));
    }

    /// The seedless function is the published one: the values come from the reference
    /// implementation's test vectors, so that other programs can check our files.
    #[test]
    fn xxh3_is_the_published_function() {
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh3_64_with_seed(b"", 0x9e37_79b1_85eb_ca8d), 0xa8a6_b918_b2f0_364a);
    }
}
