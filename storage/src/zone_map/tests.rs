//! Soundness: what a zone map proves is true of every row, for random columns and conditions; and
//! sharpness: it proves what it should in the plain cases.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::column_summary::summarize;
use crate::distinct_sketch::DistinctSketch;
use crate::sample_rows::{Cell, Table, array, passes, random_condition};
use crate::schema::ColumnType;

fn zone_of(column_type: ColumnType, cells: &[Cell]) -> Zone {
    summarize(column_type, &array(column_type, cells), &mut DistinctSketch::new()).zone
}

fn check_verdict(zone: &Zone, cells: &[Cell], condition: &Condition) {
    let passing = cells.iter().filter(|cell| passes(cell, condition)).count();
    match prune(zone, condition) {
        Pruning::Never => assert_eq!(passing, 0, "{condition:?} on {cells:?} with {zone:?}"),
        Pruning::Maybe => {}
        Pruning::Always => {
            assert_eq!(passing, cells.len(), "{condition:?} on {cells:?} with {zone:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn proofs_are_true(seed: u64, rows in 1_usize..12) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let table = Table::random(rng, 2, rows);
        for (column, cells) in table.schema.columns.iter().zip(&table.columns) {
            let zone = zone_of(column.column_type, cells);
            let (left, right) = cells.split_at(rows / 2);
            let merged =
                zone_of(column.column_type, left).merge(&zone_of(column.column_type, right));
            for _ in 0..20 {
                let condition = random_condition(column.column_type, cells, rng);
                check_verdict(&zone, cells, &condition);
                check_verdict(&merged, cells, &condition);
            }
        }
    }

    #[test]
    fn zones_round_trip(seed: u64, rows in 0_usize..8) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let table = Table::random(rng, 1, rows);
        let zone = zone_of(table.schema.columns[0].column_type, &table.columns[0]);
        let mut writer = ByteWriter::new();
        zone.write(&mut writer);
        let bytes = writer.into_bytes();
        let mut reader = ByteReader::new(&bytes);
        assert_eq!(Zone::read(&mut reader).unwrap(), zone);
        reader.end().unwrap();
    }

    #[test]
    fn text_bounds_hold_and_are_short(text in "\\PC{0,40}|[\u{10ffff}]{0,40}|[a\u{d7ff}]{0,90}") {
        let lower = text_lower_bound(&text);
        prop_assert!(lower.len() <= TEXT_BOUND_BYTES && lower <= text);
        if let Some(upper) = text_upper_bound(&text) {
            prop_assert!(upper.len() <= TEXT_BOUND_BYTES + 3 && upper >= text);
        }
    }
}

fn texts(values: &[&str]) -> Zone {
    let cells: Vec<Cell> = values.iter().map(|v| Some(Constant::Text((*v).into()))).collect();
    zone_of(ColumnType::Text, &cells)
}

fn check_like(zone: &Zone, pattern: &str, expected: Pruning) {
    assert_eq!(prune(zone, &Condition::Like(pattern.into())), expected, "{pattern}");
}

#[test]
fn plain_comparisons_are_decided() {
    let cells: Vec<Cell> = [10, 20, 30].map(|v| Some(Constant::Int(v))).to_vec();
    let zone = zone_of(ColumnType::Integer, &cells);
    let check = |comparison, constant, expected| {
        let condition = Condition::Compare(comparison, Constant::Int(constant));
        assert_eq!(prune(&zone, &condition), expected, "{condition:?}");
    };
    check(Comparison::Less, 10, Pruning::Never);
    check(Comparison::Less, 11, Pruning::Maybe);
    check(Comparison::Less, 31, Pruning::Always);
    check(Comparison::LessOrEqual, 9, Pruning::Never);
    check(Comparison::LessOrEqual, 30, Pruning::Always);
    check(Comparison::Greater, 30, Pruning::Never);
    check(Comparison::Greater, 9, Pruning::Always);
    check(Comparison::GreaterOrEqual, 31, Pruning::Never);
    check(Comparison::GreaterOrEqual, 10, Pruning::Always);
    check(Comparison::Equal, 9, Pruning::Never);
    check(Comparison::Equal, 25, Pruning::Maybe);
    check(Comparison::NotEqual, 9, Pruning::Always);
}

#[test]
fn nulls_pass_nothing_but_is_null() {
    let zone = zone_of(ColumnType::Integer, &[Some(Constant::Int(5)), None]);
    let below_nine = Condition::Compare(Comparison::Less, Constant::Int(9));
    assert_eq!(prune(&zone, &below_nine), Pruning::Maybe, "the NULL does not pass");
    assert_eq!(prune(&zone, &Condition::NotIn(vec![])), Pruning::Maybe);
    let nulls = zone_of(ColumnType::Integer, &[None, None]);
    assert_eq!(prune(&nulls, &below_nine), Pruning::Never);
    assert_eq!(prune(&nulls, &Condition::IsNull), Pruning::Always);
    assert_eq!(prune(&nulls, &Condition::IsNotNull), Pruning::Never);
}

#[test]
fn nan_and_the_zeros_prove_nothing_about_each_other() {
    let floats = |values: &[f64]| {
        let cells: Vec<Cell> = values.iter().map(|v| Some(Constant::Float(*v))).collect();
        zone_of(ColumnType::Double, &cells)
    };
    let above = |value| Condition::Compare(Comparison::Greater, Constant::Float(value));
    assert_eq!(prune(&floats(&[1.0, f64::NAN]), &above(9.0)), Pruning::Maybe);
    assert_eq!(prune(&floats(&[1.0]), &above(9.0)), Pruning::Never);
    assert_eq!(prune(&floats(&[1.0]), &above(f64::NAN)), Pruning::Maybe);
    let equal = |value| Condition::Compare(Comparison::Equal, Constant::Float(value));
    assert_eq!(prune(&floats(&[-0.0]), &equal(0.0)), Pruning::Maybe);
    assert_eq!(prune(&floats(&[0.0]), &equal(-0.0)), Pruning::Maybe);
}

#[test]
fn like_uses_the_text_before_the_first_wildcard() {
    let zone = texts(&["promo brass", "promo tin"]);
    check_like(&zone, "promo%", Pruning::Always);
    check_like(&zone, "promo%tin", Pruning::Maybe);
    check_like(&zone, "standard%", Pruning::Never);
    check_like(&zone, "a%", Pruning::Never);
    check_like(&zone, "%tin", Pruning::Maybe);
    check_like(&zone, "%", Pruning::Always);
    check_like(&zone, "promo tin", Pruning::Maybe);
    check_like(&zone, "zinc", Pruning::Never);
    check_like(&zone, "promo t\\", Pruning::Maybe);
    check_like(&texts(&["a%b"]), "a\\%b", Pruning::Always);
    check_like(&texts(&["a%b"]), "a\\_b", Pruning::Never);
}

#[test]
fn long_texts_are_cut_to_true_bounds() {
    let long = "a".repeat(100);
    let zone = texts(&[&long]);
    assert_eq!(zone.min, Some(Constant::Text("a".repeat(64))));
    assert_eq!(zone.max, Some(Constant::Text("a".repeat(63) + "b")));
    let equal = Condition::Compare(Comparison::Equal, Constant::Text(long));
    assert_eq!(prune(&zone, &equal), Pruning::Maybe);
    assert_eq!(text_upper_bound(&"\u{10ffff}".repeat(20)), None);
    let surrogates = "\u{d7ff}".repeat(30);
    assert!(text_upper_bound(&surrogates).unwrap() > surrogates);
}
