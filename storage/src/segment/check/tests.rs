//! Checks of sound files find nothing; checks of damaged ones find what and where.

use std::io::ErrorKind;
use std::path::Path;

use proptest::prelude::{ProptestConfig, proptest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::layout::Trailer;
use super::*;
use crate::ROW_GROUP_ROWS;
use crate::ids::SegmentId;
use crate::io::{CallKind, Fault, FaultEffect, FaultyIo, MemoryIo, write_file_whole};
use crate::predicate::Constant;
use crate::sample_rows::Table;
use crate::sample_segment::{ID, path, write};
use crate::schema::ColumnType;
use crate::verify::verify_segment;

/// A file in memory with its record.
struct Sample {
    bytes: Vec<u8>,
    info: SegmentInfo,
}

impl Sample {
    fn of(table: &Table) -> Sample {
        let io = MemoryIo::new();
        let info = write(&io, &path(), table, &[]).unwrap();
        Sample { bytes: io.contents(&path()).unwrap(), info }
    }

    /// Text of few and of many values, numbers with NULLs and floats, in little space.
    fn small() -> Sample {
        let text = |row: i64| Some(Constant::Text(format!("text {}", row % 3)));
        let number = |row: i64| (row % 4 != 0).then(|| Constant::Int(row * row - 50));
        let float = |row: i64| Some(Constant::Float(row as f64 / 8.0));
        let types = [ColumnType::Text, ColumnType::Integer, ColumnType::Double];
        let columns = vec![
            (0..12).map(text).collect(),
            (0..12).map(number).collect(),
            (0..12).map(float).collect(),
        ];
        Sample::of(&Table::new(&types, columns))
    }

    /// Two row groups.
    fn large() -> Sample {
        let rng = &mut StdRng::seed_from_u64(11);
        let rows = ROW_GROUP_ROWS + 3000;
        let number = |_| Some(Constant::Int(rng.random_range(0..1 << 30)));
        let numbers = (0..rows).map(number).collect();
        let text = |row: usize| Some(Constant::Text(format!("text {}", row % 200)));
        let texts = (0..rows).map(text).collect();
        Sample::of(&Table::new(&[ColumnType::Integer, ColumnType::Text], vec![numbers, texts]))
    }

    fn footer(&self) -> (Footer, Trailer) {
        let length = self.bytes.len();
        let trailer = &self.bytes[length - TRAILER_BYTES..];
        let (trailer, _) = Trailer::from_bytes(trailer, length as u64).unwrap();
        let start = trailer.footer.offset as usize;
        let bytes = &self.bytes[start..start + trailer.footer.length as usize];
        (Footer::from_bytes(bytes, trailer.footer.offset).unwrap(), trailer)
    }

    /// The same blocks under another footer, with all checksums right: what a writer with a defect
    /// would leave.
    fn with_footer(&self, change: impl FnOnce(&mut Footer)) -> Sample {
        let (mut footer, trailer) = self.footer();
        change(&mut footer);
        let mut bytes = self.bytes[..trailer.footer.offset as usize].to_vec();
        let mut footer_bytes = footer.to_bytes();
        let block = Block::seal(ID, trailer.footer.offset, &mut footer_bytes);
        let (trailer, fingerprint) = Trailer { segment: ID, footer: block }.to_bytes();
        bytes.extend(footer_bytes);
        bytes.extend(trailer);
        let byte_count = bytes.len() as u64;
        let columns = footer.statistics;
        Sample { bytes, info: SegmentInfo { fingerprint, byte_count, columns, ..self.info } }
    }

    fn problems(&self, depth: Depth) -> Vec<Problem> {
        verify_segment(Arc::new(io_with(&self.bytes)), &path(), &self.info, depth)
    }

    fn places(&self, depth: Depth) -> Vec<Place> {
        self.problems(depth).into_iter().map(|problem| problem.place).collect()
    }

    /// The part that holds a byte.
    fn place_of(&self, byte: usize) -> Place {
        let (footer, trailer) = self.footer();
        let byte = byte as u64;
        let within =
            |block: &Block| (block.offset..block.offset + block.padded_length()).contains(&byte);
        for column in &footer.columns {
            if within(&column.shared) {
                return Place::SharedPart { column: column.id };
            }
            let row_group = column.chunks.iter().position(|chunk| within(&chunk.block));
            if let Some(row_group) = row_group {
                return Place::Chunk { column: column.id, row_group };
            }
        }
        match byte {
            _ if byte < HEADER_BYTES as u64 => Place::Header,
            _ if within(&trailer.footer) => Place::Footer,
            _ => Place::Trailer,
        }
    }
}

fn io_with(bytes: &[u8]) -> MemoryIo {
    let io = MemoryIo::new();
    write_file_whole(&io, &path(), [bytes]).unwrap();
    io
}

/// No problems, and every byte was looked at once.
fn check_sound(sample: &Sample) {
    for depth in [Depth::Checksums, Depth::Values] {
        let io = Arc::new(io_with(&sample.bytes));
        let mut check = SegmentCheck::new(io, &path(), &sample.info, depth);
        let read: u64 = std::iter::from_fn(|| check.step()).sum();
        assert_eq!(check.problems(), []);
        assert_eq!(read, sample.bytes.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn sound_files_have_no_problems(seed: u64, columns in 1_usize..6, rows in 0_usize..3000) {
        let rng = &mut StdRng::seed_from_u64(seed);
        check_sound(&Sample::of(&Table::random(rng, columns, rows)));
    }
}

#[test]
fn a_sound_file_of_row_groups_has_no_problems() {
    check_sound(&Sample::large());
}

#[test]
fn every_flipped_bit_is_found_where_it_is() {
    let mut sample = Sample::small();
    check_sound(&sample);
    for bit in 0..sample.bytes.len() * 8 {
        let place = sample.place_of(bit / 8);
        sample.bytes[bit / 8] ^= 1 << (bit % 8);
        let problems = sample.problems(Depth::Checksums);
        sample.bytes[bit / 8] ^= 1 << (bit % 8);
        let [problem] = problems.as_slice() else { panic!("bit {bit}: {problems:?}") };
        assert_eq!((problem.place, problem.kind), (place, ProblemKind::Damaged), "bit {bit}");
        let (offset, length) = problem.bytes;
        assert!((offset..offset + length).contains(&(bit as u64 / 8)), "bit {bit}: {problem}");
    }
}

#[test]
fn random_flips_in_a_large_file_are_found_where_they_are() {
    let mut sample = Sample::large();
    assert!(sample.bytes.len() > 300_000);
    let rng = &mut StdRng::seed_from_u64(12);
    for _ in 0..flips() {
        let bit = rng.random_range(0..sample.bytes.len() * 8);
        let place = sample.place_of(bit / 8);
        sample.bytes[bit / 8] ^= 1 << (bit % 8);
        let places = sample.places(Depth::Checksums);
        sample.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(places, [place], "bit {bit}");
    }
}

/// How many bits: `BLUESHIFT_FLIPS`.
fn flips() -> usize {
    std::env::var("BLUESHIFT_FLIPS").map_or(2_000, |text| text.parse().unwrap())
}

/// Who does not know the catalog sees the same damages.
#[test]
fn every_flipped_bit_is_found_without_the_catalog() {
    let mut sample = Sample::small();
    let check = |bytes: &[u8], id| {
        let mut check =
            SegmentCheck::by_id(Arc::new(io_with(bytes)), &path(), id, Depth::Checksums);
        let read: u64 = std::iter::from_fn(|| check.step()).sum();
        (read, check.problems())
    };
    assert_eq!(check(&sample.bytes, ID), (sample.bytes.len() as u64, Vec::new()));
    for bit in 0..sample.bytes.len() * 8 {
        sample.bytes[bit / 8] ^= 1 << (bit % 8);
        let (_, problems) = check(&sample.bytes, ID);
        sample.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(problems.len(), 1, "bit {bit}");
    }
    assert!(!check(&sample.bytes, SegmentId(ID.0 + 1)).1.is_empty());
}

/// The values of a file are looked into too, and one damage hides no other.
#[test]
fn two_damages_are_two_problems() {
    let sample = Sample::small();
    let (footer, _) = sample.footer();
    let flip = |offsets: &[u64]| {
        let mut bytes = sample.bytes.clone();
        offsets.iter().for_each(|offset| bytes[*offset as usize] ^= 8);
        Sample { bytes, info: sample.info.clone() }
    };
    let [text, number, float] = footer.columns.as_slice() else { panic!() };
    let (shared, chunk) = (text.shared.offset, text.chunks[0].block.offset);
    let other = float.chunks[0].block.offset;
    let places = |offsets: &[u64]| flip(offsets).places(Depth::Values);
    let text_shared = Place::SharedPart { column: text.id };
    let text_chunk = Place::Chunk { column: text.id, row_group: 0 };
    let float_chunk = Place::Chunk { column: float.id, row_group: 0 };
    assert_eq!(places(&[0, shared]), [Place::Header, text_shared]);
    assert_eq!(places(&[shared, chunk, other]), [text_shared, text_chunk, float_chunk]);
    assert_eq!(places(&[chunk, number.chunks[0].block.offset, other]).len(), 3);
}

/// A defect of a writer: checksums are right, but what stands in the footer is not.
#[test]
fn wrong_zones_and_statistics_are_found() {
    let sample = Sample::small();
    let chunk =
        |column: usize| Place::Chunk { column: sample.footer().0.columns[column].id, row_group: 0 };
    let statistics =
        |column: usize| Place::Statistics { column: sample.footer().0.columns[column].id };
    let check = |place: Place, change: &dyn Fn(&mut Footer)| {
        let forged = sample.with_footer(change);
        assert_eq!(forged.places(Depth::Values), [place]);
        assert_eq!(forged.places(Depth::Checksums), []);
    };
    let zone = |column: usize, change: fn(&mut Zone)| {
        check(chunk(column), &|footer| change(&mut footer.columns[column].chunks[0].zone));
    };
    zone(1, |zone| zone.min = Some(Constant::Int(-48)));
    zone(1, |zone| zone.max = Some(Constant::Int(70)));
    zone(1, |zone| zone.null_count += 1);
    zone(2, |zone| zone.has_nan = true);
    zone(2, |zone| zone.max = Some(Constant::Int(1)));
    zone(0, |zone| zone.max = Some(Constant::Text("text 1".into())));
    let wrong = |column: usize, change: fn(&mut ColumnStatistics)| {
        check(statistics(column), &|footer| change(&mut footer.statistics[column]));
    };
    wrong(1, |statistics| statistics.min = Some(Constant::Int(0)));
    wrong(1, |statistics| statistics.null_count -= 1);
    wrong(2, |statistics| statistics.distinct.insert(b"another"));
    wrong(2, |statistics| statistics.uncompressed_bytes += 1);
    let forged = sample.with_footer(|footer| footer.statistics[0].encoded_bytes += 64);
    assert_eq!(forged.places(Depth::Checksums), [statistics(0)]);
    // Wider bounds, and none, are true as well.
    let forged = sample.with_footer(|footer| {
        footer.columns[1].chunks[0].zone.min = Some(Constant::Int(-1000));
        footer.columns[1].chunks[0].zone.max = None;
    });
    assert_eq!(forged.places(Depth::Values), []);
}

/// Blocks that have each other's encoding, with the right checksums.
#[test]
fn values_that_cannot_be_decoded_are_found() {
    let sample = Sample::small();
    let (footer, _) = sample.footer();
    let block = footer.columns[2].chunks[0].block;
    let mut broken = Sample { bytes: sample.bytes.clone(), info: sample.info.clone() };
    let mut chunk = sample.bytes[block.offset as usize..][..block.length as usize].to_vec();
    chunk[0] = 9;
    let sealed = Block::seal(ID, block.offset, &mut chunk);
    broken.bytes[block.offset as usize..][..chunk.len()].copy_from_slice(&chunk);
    let broken = broken.with_footer(|footer| footer.columns[2].chunks[0].block = sealed);
    let place = Place::Chunk { column: footer.columns[2].id, row_group: 0 };
    assert_eq!(broken.places(Depth::Values), [place]);
    assert_eq!(broken.places(Depth::Checksums), []);
}

#[test]
fn a_file_that_is_not_the_catalogs_is_found() {
    let sample = Sample::small();
    let places = |bytes: &[u8], info: &SegmentInfo| -> Vec<Place> {
        Sample { bytes: bytes.to_vec(), info: info.clone() }.places(Depth::Values)
    };
    let stale = sample.with_footer(|footer| footer.statistics[0].uncompressed_bytes += 1);
    assert_eq!(places(&sample.bytes, &stale.info), [Place::File]);
    let other = SegmentInfo { id: SegmentId(7), ..sample.info.clone() };
    assert_eq!(places(&sample.bytes, &other), [Place::Header, Place::Trailer]);
    assert_eq!(places(&sample.bytes[..100], &sample.info), [Place::File]);
    assert_eq!(places(&sample.bytes[..sample.bytes.len() - 1], &sample.info), [Place::Trailer]);
    let io = Arc::new(MemoryIo::new());
    let problems = verify_segment(io, Path::new("/data/none"), &sample.info, Depth::Values);
    let found: Vec<_> = problems.iter().map(|problem| (problem.place, problem.kind)).collect();
    assert_eq!(found, [(Place::File, ProblemKind::Unreadable(ErrorKind::NotFound))]);
}

/// A block that the disk does not give is a problem, and the rest is checked nevertheless.
#[test]
fn unreadable_blocks_are_reported_and_passed_by() {
    let sample = Sample::small();
    let mut places = Vec::new();
    for call in 0.. {
        let fault = Fault {
            kind: Some(CallKind::ReadAt),
            call,
            lasting: false,
            effect: FaultEffect::Nothing,
            os_error: libc::ENOSPC,
        };
        let faulty = Arc::new(FaultyIo::new(Arc::new(io_with(&sample.bytes)), fault));
        let io = Arc::clone(&faulty) as Arc<dyn Io>;
        let problems = verify_segment(io, &path(), &sample.info, Depth::Values);
        if faulty.failures() == 0 {
            assert_eq!(problems, []);
            break;
        }
        let [problem] = problems.as_slice() else { panic!("call {call}: {problems:?}") };
        assert_eq!(problem.kind, ProblemKind::Unreadable(ErrorKind::StorageFull));
        places.push(problem.place);
    }
    let (footer, _) = sample.footer();
    let chunk = |column: usize| Place::Chunk { column: footer.columns[column].id, row_group: 0 };
    let shared = Place::SharedPart { column: footer.columns[0].id };
    let ends = [Place::Header, Place::Trailer, Place::Footer];
    assert_eq!(places, [&ends[..], &[shared, chunk(0), chunk(1), chunk(2)]].concat());
}
