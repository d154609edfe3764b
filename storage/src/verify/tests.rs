//! The budget, the messages, and deletion vectors; segments are checked beside their check.

use super::*;
use crate::deletion_vector::write_deletion_vector;
use crate::ids::{DeletionVectorId, SegmentId};
use crate::io::MemoryIo;
use crate::row_set::RowSet;

#[test]
fn a_budget_is_kept_on_average() {
    let ms = Duration::from_millis;
    let mut budget = IoBudget::new(NonZeroU64::new(1_000_000).unwrap());
    assert_eq!(budget.spend(500_000, ms(0)), ms(500));
    assert_eq!(budget.spend(100_000, ms(500)), ms(100));
    // Who does not wait waits longer the next time.
    assert_eq!(budget.spend(100_000, ms(500)), ms(200));
    // A pause is not made up for.
    assert_eq!(budget.spend(100_000, ms(10_000)), ms(100));
    assert_eq!(budget.spend(0, ms(20_000)), ms(0));
}

#[test]
fn huge_numbers_make_a_long_wait_and_no_overflow() {
    let mut budget = IoBudget::new(NonZeroU64::MIN);
    for _ in 0..100 {
        let wait = budget.spend(u64::MAX, Duration::ZERO);
        assert!(wait >= Duration::from_nanos(u64::MAX));
    }
}

#[test]
fn a_problem_says_what_and_where() {
    let problem = Problem {
        path: "/data/1.seg".into(),
        place: Place::Chunk { column: ColumnId(3), row_group: 7 },
        bytes: (640, 128),
        kind: ProblemKind::Damaged,
        reason: "its checksum does not fit".into(),
    };
    let expected = "/data/1.seg is damaged at column id 3, row group 7 \
                    (block of 128 bytes at byte 640): its checksum does not fit";
    assert_eq!(problem.to_string(), expected);
    let unreadable = Problem {
        place: Place::File,
        bytes: (0, 0),
        kind: ProblemKind::Unreadable(ErrorKind::NotFound),
        reason: "no".into(),
        ..problem
    };
    assert_eq!(unreadable.to_string(), "/data/1.seg cannot be read at file: no");
}

#[test]
fn deletion_vectors_are_checked() {
    let io = MemoryIo::new();
    let path = Path::new("/data/1.dv");
    let segment = SegmentInfo {
        id: SegmentId(1),
        fingerprint: 2,
        row_count: 1000,
        byte_count: 0,
        columns: vec![],
    };
    let mut rows = RowSet::new(1000);
    rows.insert(&[3, 5, 900]);
    let vector = DeletionVector::new(DeletionVectorId(4), &segment, rows);
    let info = write_deletion_vector(&io, path, &vector).unwrap();
    let verify = |info, segment| verify_deletion_vector(&io, path, info, segment);
    assert_eq!(verify(&info, &segment), []);
    let kinds = |problems: Vec<Problem>| -> Vec<(Place, ProblemKind)> {
        problems.into_iter().map(|problem| (problem.place, problem.kind)).collect()
    };
    let damaged = [(Place::DeletionVector, ProblemKind::Damaged)];
    let other = SegmentInfo { row_count: 901, ..segment.clone() };
    assert_eq!(kinds(verify(&info, &other)), damaged);
    let other = DeletionVectorInfo { deleted_rows: 4, ..info };
    assert_eq!(kinds(verify(&other, &segment)), damaged);
    io.damage(path, |bytes| bytes[60] ^= 1).unwrap();
    assert_eq!(kinds(verify(&info, &segment)), damaged);
    io.remove(path).unwrap();
    let unreadable = [(Place::DeletionVector, ProblemKind::Unreadable(ErrorKind::NotFound))];
    assert_eq!(kinds(verify(&info, &segment)), unreadable);
}
