//! Deletion vector files: round trips, and what happens to a file whose bytes are not what was
//! written.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::error::Error;
use crate::io::{CallKind, Fault, FaultEffect, FaultyIo, MemoryIo, PowerCut, write_file_whole};
use crate::segment::list_segments;

const SEGMENT: SegmentId = SegmentId(0x77);
const ID: DeletionVectorId = DeletionVectorId(0x1234);

fn path() -> PathBuf {
    Path::new("/data").join(deletion_vector_file_name(SEGMENT, ID))
}

fn segment(row_count: u64) -> SegmentInfo {
    SegmentInfo { id: SEGMENT, fingerprint: 99, row_count, byte_count: 1, columns: vec![] }
}

fn vector(segment: &SegmentInfo, rows: &[u32]) -> DeletionVector {
    let mut deleted = RowSet::new(segment.row_count);
    deleted.insert(rows);
    DeletionVector::new(ID, segment, deleted)
}

/// A vector of all forms, of less than a kilobyte.
fn small_vector() -> (SegmentInfo, DeletionVector) {
    let segment = segment(300_000);
    let rows: Vec<u32> = (0..40).map(|row| row * 7).chain(70_000..131_072).collect();
    let vector = vector(&segment, &rows);
    (segment, vector)
}

fn written(vector: &DeletionVector) -> (Vec<u8>, DeletionVectorInfo) {
    let io = MemoryIo::new();
    let info = write_deletion_vector(&io, &path(), vector).unwrap();
    (io.contents(&path()).unwrap(), info)
}

fn open_bytes(
    bytes: &[u8],
    info: &DeletionVectorInfo,
    segment: &SegmentInfo,
) -> Result<DeletionVector> {
    let io = MemoryIo::new();
    write_file_whole(&io, &path(), [bytes]).unwrap();
    DeletionVector::open(&io, &path(), info, segment)
}

fn check_corrupt(result: Result<DeletionVector>, what: &str) {
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{what}: {result:?}");
}

fn random_rows(row_count: u32, rng: &mut StdRng) -> Vec<u32> {
    let density = [0.0, 0.001, 0.2, 0.9, 1.0][rng.random_range(0..5)];
    (0..row_count).filter(|_| rng.random_bool(density)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn vectors_come_back(seed: u64, row_count in 0_u32..150_000) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let segment = segment(row_count.into());
        let rows = random_rows(row_count, rng);
        let before = vector(&segment, &rows);
        let (bytes, info) = written(&before);
        prop_assert_eq!(info.byte_count, bytes.len() as u64);
        prop_assert_eq!(info.deleted_rows, rows.len() as u64);
        prop_assert_eq!(DeletionVectorInfo::from_bytes(&info.to_bytes()), Ok(info));
        let after = open_bytes(&bytes, &info, &segment).unwrap();
        prop_assert_eq!(&after, &before);
        prop_assert!(after.deleted().rows().eq(rows.iter().copied()));
        prop_assert_eq!(after.live_rows(), u64::from(row_count) - rows.len() as u64);
        let more = random_rows(row_count, rng);
        let mut set = RowSet::new(row_count.into());
        set.insert(&more);
        let union = after.union(DeletionVectorId(9), &set);
        let expected: std::collections::BTreeSet<u32> = rows.into_iter().chain(more).collect();
        prop_assert!(union.deleted().rows().eq(expected.iter().copied()));
        prop_assert_eq!((union.id(), union.segment()), (DeletionVectorId(9), SEGMENT));
        prop_assert!(union.is_for(&segment));
        let live: usize = (0..row_count.div_ceil(65_536) as usize)
            .map(|row_group| union.live_rows_in(row_group))
            .sum();
        prop_assert_eq!(live as u64, union.live_rows());
    }
}

/// The bytes by hand, from `docs/segment-format.md`; the checksum is XXH3 of the crate that is
/// checked against the published values elsewhere.
#[test]
fn the_bytes_are_as_documented() {
    let (bytes, info) = written(&vector(&segment(10), &[2, 3, 4, 5]));
    let number = |value: u64| value.to_le_bytes();
    let mut expected = b"BLUESHDV".to_vec();
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0x77, 0x1234, 99, 10, 4].map(number).concat());
    expected.extend([1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 5, 0, 0, 0, 0, 0]);
    let seed: Vec<u8> = [0x77, 0x1234, 0, expected.len() as u64].map(number).concat();
    let seed = xxhash_rust::xxh3::xxh3_64(&seed);
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&expected, seed);
    expected.extend(number(checksum));
    assert_eq!(bytes, expected);
    assert_eq!(info.fingerprint, checksum);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (segment, vector) = small_vector();
    let (bytes, info) = written(&vector);
    assert!(bytes.len() < 1024);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        check_corrupt(open_bytes(&damaged, &info, &segment), &format!("bit {bit}"));
    }
    let record = info.to_bytes();
    for bit in 0..record.len() * 8 {
        let mut damaged = record.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(DeletionVectorInfo::from_bytes(&damaged).is_err(), "bit {bit} of the record");
    }
}

#[test]
fn random_flips_in_a_large_vector_are_noticed() {
    let rng = &mut StdRng::seed_from_u64(7);
    let segment = segment(1 << 18);
    let rows: Vec<u32> = (0..1 << 18).filter(|_| rng.random_bool(0.3)).collect();
    let (mut bytes, info) = written(&vector(&segment, &rows));
    assert!(bytes.len() > 30_000);
    for _ in 0..10_000 {
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let result = DeletionVector::from_bytes(&bytes, SEGMENT, ID);
        assert!(result.is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    open_bytes(&bytes, &info, &segment).unwrap();
}

#[test]
fn every_truncation_is_noticed() {
    let (segment, vector) = small_vector();
    let (bytes, info) = written(&vector);
    for length in 0..bytes.len() {
        let short = &bytes[..length];
        check_corrupt(open_bytes(short, &info, &segment), &format!("length {length}"));
        // The length in the catalog is not all that notices it.
        assert!(DeletionVector::from_bytes(short, SEGMENT, ID).is_err(), "length {length}");
    }
    for extra in [1, 8, 64] {
        let longer = [&bytes[..], &vec![0; extra]].concat();
        check_corrupt(open_bytes(&longer, &info, &segment), "longer");
        assert!(DeletionVector::from_bytes(&longer, SEGMENT, ID).is_err(), "{extra} bytes more");
    }
}

#[test]
fn a_file_that_belongs_elsewhere_is_noticed() {
    let (segment, vector) = small_vector();
    let (bytes, info) = written(&vector);
    let other_id = DeletionVectorId(0x1235);
    let other = DeletionVectorInfo { id: other_id, ..info };
    check_corrupt(open_bytes(&bytes, &other, &segment), "an earlier vector of the segment");
    let other = DeletionVectorInfo { segment: SegmentId(0x78), ..info };
    check_corrupt(open_bytes(&bytes, &other, &segment), "another segment's vector");
    let other = SegmentInfo { fingerprint: 98, ..segment.clone() };
    check_corrupt(open_bytes(&bytes, &info, &other), "another file of the segment");
    let other = SegmentInfo { row_count: 299_999, ..segment.clone() };
    check_corrupt(open_bytes(&bytes, &info, &other), "a segment of other rows");
    // The same ids, written once more with other rows, as after a restore from an old copy.
    let rows: Vec<u32> = vector.deleted().rows().map(|row| row.max(1)).collect();
    let (stale, stale_info) = written(&self::vector(&segment, &rows));
    assert_eq!((stale_info.deleted_rows, stale.len()), (info.deleted_rows, bytes.len()));
    check_corrupt(open_bytes(&stale, &info, &segment), "a stale file");
    assert!(!vector.is_for(&SegmentInfo { fingerprint: 98, ..segment }));
}

/// Bytes with a checksum that fits, but with something else in them that does not.
#[test]
fn a_checksum_alone_is_not_trusted() {
    let (segment, vector) = small_vector();
    let (bytes, info) = written(&vector);
    let body_length = bytes.len() - 8;
    for at in (8..body_length).step_by(4) {
        let mut forged = bytes[..body_length].to_vec();
        forged[at] ^= 0x41;
        let place = crate::checksum::FilePlace { segment: SEGMENT, generation: ID.0 };
        let checksum = crate::checksum::file_checksum(place, &forged);
        forged.extend(checksum.to_le_bytes());
        // Only the fingerprint of the segment and the rows themselves may be another file's.
        if let Ok((forged, _)) = DeletionVector::from_bytes(&forged, SEGMENT, ID) {
            let is_fingerprint = (32..40).contains(&at);
            assert!(is_fingerprint || forged.deleted() != vector.deleted(), "byte {at}");
        }
        check_corrupt(open_bytes(&forged, &info, &segment), &format!("byte {at}"));
    }
}

#[test]
fn a_missing_file_is_not_an_empty_vector() {
    let (segment, vector) = small_vector();
    let (_, info) = written(&vector);
    let result = DeletionVector::open(&MemoryIo::new(), &path(), &info, &segment);
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
}

#[test]
fn a_copy_is_the_file_that_the_catalog_knows_or_is_refused() {
    let (_, vector) = small_vector();
    let (bytes, info) = written(&vector);
    let verify = |bytes: &[u8]| {
        let io = MemoryIo::new();
        write_file_whole(&io, &path(), [bytes]).unwrap();
        DeletionVector::verify(&io, &path(), &info)
    };
    verify(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(matches!(verify(&damaged), Err(Error::Corrupt { .. })), "byte {at}");
        assert!(matches!(verify(&bytes[..at]), Err(Error::Corrupt { .. })), "{at} bytes");
    }
}

#[test]
fn a_file_is_never_replaced() {
    let (segment, vector) = small_vector();
    let io = MemoryIo::new();
    write_deletion_vector(&io, &path(), &vector).unwrap();
    let before = io.contents(&path()).unwrap();
    let other = self::vector(&segment, &[1]);
    assert!(write_deletion_vector(&io, &path(), &other).is_err());
    assert_eq!(io.contents(&path()).unwrap(), before);
}

#[test]
fn names_tell_segment_and_vector() {
    let name = deletion_vector_file_name(SEGMENT, ID);
    assert_eq!(name, "0000000000000077-0000000000001234.dv");
    assert_eq!(parse_deletion_vector_file_name(&name), Some((SEGMENT, ID)));
    for other in ["77-1234.dv", "0000000000000077.dv", "0000000000000077-0000000000001234.seg", ""]
    {
        assert_eq!(parse_deletion_vector_file_name(other), None, "{other}");
    }
}

const EFFECTS: [FaultEffect; 3] = [FaultEffect::Nothing, FaultEffect::Half, FaultEffect::All];

/// Fails the 1st, 2nd, ... call of writing a vector, once and for ever, until one passes untouched.
#[test]
fn no_failing_call_makes_a_false_success() {
    let (segment, vector) = small_vector();
    for lasting in [false, true] {
        for effect in EFFECTS {
            for os_error in [libc::EIO, libc::ENOSPC] {
                for call in 0.. {
                    let memory = Arc::new(MemoryIo::new());
                    let fault = Fault { kind: None, call, lasting, effect, os_error };
                    let faulty = FaultyIo::new(Arc::clone(&memory) as _, fault);
                    let result = write_deletion_vector(&faulty, &path(), &vector);
                    let untouched = faulty.failures() == 0;
                    assert_eq!(result.is_ok(), untouched, "call {call}");
                    check_after_crash(&memory, &segment, &vector, result.as_ref().ok());
                    memory.power_cut(PowerCut::Lost);
                    check_after_crash(&memory, &segment, &vector, result.as_ref().ok());
                    if untouched {
                        assert!(call > 5, "the scenario has more calls than {call}");
                        break;
                    }
                }
            }
        }
    }
}

/// Cuts the power at every call of writing a vector, before, in the middle of and after it.
#[test]
fn a_power_cut_at_any_call_leaves_no_half_vector() {
    let (segment, vector) = small_vector();
    for effect in EFFECTS {
        for call in 0.. {
            let mut untouched = false;
            for seed in 0..40 {
                let memory = Arc::new(MemoryIo::new());
                // The power is gone: nothing works from this call on.
                let fault = Fault { kind: None, call, lasting: true, effect, os_error: libc::EIO };
                let faulty = FaultyIo::new(Arc::clone(&memory) as _, fault);
                let result = write_deletion_vector(&faulty, &path(), &vector);
                memory.power_cut(match seed {
                    0 => PowerCut::Lost,
                    1 => PowerCut::Kept,
                    seed => PowerCut::Torn(seed),
                });
                check_after_crash(&memory, &segment, &vector, result.as_ref().ok());
                untouched = faulty.failures() == 0;
            }
            if untouched {
                break;
            }
        }
    }
}

/// Whatever bears the final name must be whole; an acknowledged vector must bear it.
fn check_after_crash(
    io: &MemoryIo,
    segment: &SegmentInfo,
    vector: &DeletionVector,
    acknowledged: Option<&DeletionVectorInfo>,
) {
    let listing = list_segments(io, Path::new("/data")).unwrap();
    if acknowledged.is_some() {
        assert_eq!(listing.deletion_vectors, [(SEGMENT, ID, path())], "it is lost");
    }
    let (_, info) = written(vector);
    for (_, _, found) in &listing.deletion_vectors {
        let opened = DeletionVector::open(io, found, &info, segment).unwrap();
        assert_eq!(&opened, vector);
    }
}

/// A failed sync is told from every other failure: the node must fence itself.
#[test]
fn a_failed_sync_fences() {
    let (_, vector) = small_vector();
    for kind in [CallKind::Sync, CallKind::SyncDirectory] {
        let fault = Fault {
            kind: Some(kind),
            call: 0,
            lasting: false,
            effect: FaultEffect::Nothing,
            os_error: libc::ENOSPC,
        };
        let faulty = FaultyIo::new(Arc::new(MemoryIo::new()), fault);
        let result = write_deletion_vector(&faulty, &path(), &vector);
        assert!(matches!(result, Err(Error::SyncFailed { .. })), "{result:?}");
    }
}
