//! Round trips, filters and damage, for every encoding over every type.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, StringViewBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, BooleanArray, PrimitiveArray,
};
use arrow_buffer::NullBuffer;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::VECTOR_ROWS;
use crate::ids::ColumnId;
use crate::io::EncodingAim;
use crate::predicate::{Comparison, Condition, Constant};
use crate::schema::{Column, ColumnType, EncodeName};

const TYPES: [ColumnType; 16] = [
    ColumnType::Boolean,
    ColumnType::SmallInt,
    ColumnType::Integer,
    ColumnType::BigInt,
    ColumnType::Decimal { precision: 15, scale: 2 },
    ColumnType::Decimal { precision: 18, scale: 0 },
    ColumnType::Decimal { precision: 38, scale: 10 },
    ColumnType::Real,
    ColumnType::Double,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::TimeTz,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
];

const NAMES: [EncodeName; 14] = [
    EncodeName::Auto,
    EncodeName::Raw,
    EncodeName::Az64,
    EncodeName::Bytedict,
    EncodeName::Delta,
    EncodeName::Delta32k,
    EncodeName::Lzo,
    EncodeName::Mostly8,
    EncodeName::Mostly16,
    EncodeName::Mostly32,
    EncodeName::Runlength,
    EncodeName::Text255,
    EncodeName::Text32k,
    EncodeName::Zstd,
];

const SIZES: [usize; 9] = [0, 1, 2, 63, 1023, 1024, 1025, 3000, 9000];

/// How the values of a column are drawn.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// One value.
    Constant,
    /// A handful of values.
    Few,
    /// Ascending with small steps.
    Sorted,
    /// Long runs.
    Runs,
    /// Multiples of 100.
    Hundreds,
    /// Some thousands of distinct values.
    Narrow,
    /// Any bit pattern, extremes among them.
    Any,
}

const SHAPES: [Shape; 7] = [
    Shape::Constant,
    Shape::Few,
    Shape::Sorted,
    Shape::Runs,
    Shape::Hundreds,
    Shape::Narrow,
    Shape::Any,
];

/// A column with what it was made of: one constant a row, or NULL.
#[derive(Debug)]
struct Sample {
    column: Column,
    values: Vec<Option<Constant>>,
    array: ArrayRef,
}

fn column(column_type: ColumnType, encode: EncodeName) -> Column {
    Column { id: ColumnId(1), name: "c".into(), column_type, nullable: true, encode }
}

fn whole_number(shape: Shape, row: usize, rng: &mut StdRng) -> i64 {
    match shape {
        Shape::Constant => 42,
        Shape::Few => [3, -7, 1_000_003, 19][rng.random_range(0..4)],
        Shape::Sorted => row as i64 * 3 + rng.random_range(0..3),
        Shape::Runs => (row / 200) as i64 * 1_000_003,
        Shape::Hundreds => rng.random_range(-500..500) * 100,
        Shape::Narrow => rng.random_range(-2000..2000),
        Shape::Any => match rng.random_range(0..8) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => 0,
            3 => -1,
            _ => rng.random::<i64>() >> rng.random_range(0..64),
        },
    }
}

fn number_within(shape: Shape, row: usize, rng: &mut StdRng, low: i64, high: i64) -> Constant {
    let value = i128::from(whole_number(shape, row, rng));
    let span = i128::from(high) - i128::from(low) + 1;
    Constant::Int(match (i128::from(low)..=i128::from(high)).contains(&value) {
        true => value as i64,
        false => ((value - i128::from(low)).rem_euclid(span) + i128::from(low)) as i64,
    })
}

fn float(shape: Shape, row: usize, rng: &mut StdRng) -> f64 {
    match shape {
        Shape::Any => match rng.random_range(0..12) {
            0 => f64::NAN,
            1 => -f64::NAN,
            2 => f64::INFINITY,
            3 => f64::NEG_INFINITY,
            4 => 0.0,
            5 => -0.0,
            6 => f64::MIN_POSITIVE / 4.0,
            7 => f64::MAX,
            _ => f64::from_bits(rng.random()),
        },
        Shape::Hundreds => whole_number(shape, row, rng) as f64 / 10_000.0,
        Shape::Constant | Shape::Few | Shape::Sorted | Shape::Runs | Shape::Narrow => {
            whole_number(shape, row, rng) as f64 / 8.0
        }
    }
}

fn text(shape: Shape, row: usize, rng: &mut StdRng) -> String {
    const WORDS: [&str; 8] =
        ["green", "special ", "requests", "", "b\u{e4}r", "50%", "x_y", "\u{1F600}"];
    match shape {
        Shape::Constant => "DELIVER IN PERSON".into(),
        Shape::Few => ["MAIL", "SHIP", "REG AIR", "gr\u{fc}n"][rng.random_range(0..4)].into(),
        Shape::Sorted => format!("customer#{row:09}"),
        Shape::Runs => format!("run {}", row / 300),
        Shape::Hundreds => format!("{}", rng.random_range(0..700)),
        Shape::Narrow => {
            let words = (0..rng.random_range(0..6)).map(|_| WORDS[rng.random_range(0..8)]);
            words.collect()
        }
        Shape::Any => {
            let length = match rng.random_range(0..200) {
                0 => 3000,
                _ => rng.random_range(0..20),
            };
            (0..length).map(|_| char::from_u32(rng.random_range(0..0x1000)).unwrap()).collect()
        }
    }
}

fn value(column_type: ColumnType, shape: Shape, row: usize, rng: &mut StdRng) -> Constant {
    let day = 86_400_000_000;
    match column_type {
        ColumnType::Boolean => number_within(shape, row, rng, 0, 1),
        ColumnType::SmallInt => number_within(shape, row, rng, i16::MIN.into(), i16::MAX.into()),
        ColumnType::Integer | ColumnType::Date => {
            number_within(shape, row, rng, i32::MIN.into(), i32::MAX.into())
        }
        ColumnType::BigInt | ColumnType::Timestamp | ColumnType::TimestampTz => {
            Constant::Int(whole_number(shape, row, rng))
        }
        ColumnType::Decimal { precision: 38, .. } if matches!(shape, Shape::Any) => {
            Constant::Decimal(rng.random::<i128>() >> rng.random_range(1..120))
        }
        ColumnType::Decimal { .. } => {
            let limit = 10_i64.pow(15) - 1;
            match number_within(shape, row, rng, -limit, limit) {
                Constant::Int(value) => Constant::Decimal(value.into()),
                other => other,
            }
        }
        ColumnType::Real => Constant::Float((float(shape, row, rng) as f32).into()),
        ColumnType::Double => Constant::Float(float(shape, row, rng)),
        ColumnType::Text => Constant::Text(text(shape, row, rng)),
        ColumnType::Time => number_within(shape, row, rng, 0, day - 1),
        ColumnType::TimeTz => number_within(shape, row, rng, 0, day * 1000 - 1),
    }
}

fn int(value: &Constant) -> i64 {
    match value {
        Constant::Int(value) => *value,
        other => panic!("{other:?}"),
    }
}

fn number(value: &Constant) -> f64 {
    match value {
        Constant::Float(value) => *value,
        other => panic!("{other:?}"),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    column_type: ColumnType,
    values: &[Option<Constant>],
    native: impl Fn(&Constant) -> T::Native,
) -> ArrayRef {
    // What lies under a NULL must not matter, so it is something far away.
    let under_null = T::Native::MAX_TOTAL_ORDER;
    let natives = values.iter().map(|value| value.as_ref().map_or(under_null, &native));
    let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
    let array = PrimitiveArray::<T>::new(natives.collect(), Some(nulls));
    Arc::new(array.with_data_type(column_type.arrow_type()))
}

fn array(column_type: ColumnType, values: &[Option<Constant>]) -> ArrayRef {
    let of = column_type;
    match column_type {
        ColumnType::Boolean => {
            let bits = values.iter().map(|value| value.as_ref().map(|value| int(value) == 1));
            Arc::new(bits.collect::<BooleanArray>())
        }
        ColumnType::SmallInt => primitive::<Int16Type>(of, values, |v| int(v) as i16),
        ColumnType::Integer => primitive::<Int32Type>(of, values, |v| int(v) as i32),
        ColumnType::Date => primitive::<Date32Type>(of, values, |v| int(v) as i32),
        ColumnType::BigInt => primitive::<Int64Type>(of, values, int),
        ColumnType::Time => primitive::<Time64MicrosecondType>(of, values, int),
        ColumnType::TimeTz => primitive::<Time64NanosecondType>(of, values, int),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            primitive::<TimestampMicrosecondType>(of, values, int)
        }
        ColumnType::Real => primitive::<Float32Type>(of, values, |v| number(v) as f32),
        ColumnType::Double => primitive::<Float64Type>(of, values, number),
        ColumnType::Decimal { .. } => {
            let mut builder = Decimal128Builder::new().with_data_type(of.arrow_type());
            for value in values {
                builder.append_option(value.as_ref().map(|value| match value {
                    Constant::Decimal(value) => *value,
                    other => panic!("{other:?}"),
                }));
            }
            Arc::new(builder.finish())
        }
        ColumnType::Text => {
            let mut builder = StringViewBuilder::new();
            for value in values {
                builder.append_option(value.as_ref().map(|value| match value {
                    Constant::Text(value) => value,
                    other => panic!("{other:?}"),
                }));
            }
            Arc::new(builder.finish())
        }
    }
}

/// `nulls` of ten rows are NULL.
fn sample(column: Column, shape: Shape, rows: usize, nulls: u32, rng: &mut StdRng) -> Sample {
    let values: Vec<Option<Constant>> = (0..rows)
        .map(|row| {
            let drawn = value(column.column_type, shape, row, rng);
            (rng.random_range(0..10) >= nulls).then_some(drawn)
        })
        .collect();
    let array = array(column.column_type, &values);
    Sample { column, values, array }
}

struct Encoded {
    shared: Vec<u8>,
    chunk: Vec<u8>,
}

fn encode(sample: &Sample) -> Encoded {
    let groups = [Arc::clone(&sample.array)];
    // Both aims get their share of the random samples.
    let aim =
        if sample.values.len().is_multiple_of(2) { EncodingAim::Speed } else { EncodingAim::Size };
    let encoder = ColumnEncoder::plan(&sample.column, &groups, aim);
    Encoded { shared: encoder.shared_bytes(), chunk: encoder.encode(&sample.array) }
}

fn open(sample: &Sample, encoded: &Encoded) -> Result<ColumnChunk, FormatError> {
    let shared = SharedColumn::open(sample.column.column_type, &encoded.shared)?;
    let bytes = bytes::Bytes::copy_from_slice(&encoded.chunk);
    ColumnChunk::open(Arc::new(shared), sample.values.len(), bytes)
}

fn random_mask(rows: usize, rng: &mut StdRng) -> Mask {
    let density = [0.01, 0.3, 0.99, 1.0][rng.random_range(0..4)];
    let mut mask = Mask::none();
    (0..rows).filter(|_| rng.random_bool(density)).for_each(|row| mask.insert(row));
    mask
}

/// Bit patterns, so that NaN equals itself and the zeros differ.
fn assert_same(found: &ArrayRef, expected: &ArrayRef, what: &str) {
    assert_eq!(found.data_type(), expected.data_type(), "{what}");
    assert_eq!(found.len(), expected.len(), "{what}");
    assert_eq!(found.logical_nulls(), expected.logical_nulls().filter(|n| n.null_count() > 0));
    for row in (0..found.len()).filter(|row| found.is_valid(*row)) {
        match found.data_type() {
            arrow_schema::DataType::Float32 => assert_eq!(
                found.as_primitive::<Float32Type>().value(row).to_bits(),
                expected.as_primitive::<Float32Type>().value(row).to_bits(),
                "{what}, row {row}"
            ),
            arrow_schema::DataType::Float64 => assert_eq!(
                found.as_primitive::<Float64Type>().value(row).to_bits(),
                expected.as_primitive::<Float64Type>().value(row).to_bits(),
                "{what}, row {row}"
            ),
            _ => assert_eq!(
                found.slice(row, 1).to_data(),
                expected.slice(row, 1).to_data(),
                "{what}, row {row}"
            ),
        }
    }
}

fn check_round_trip(sample: &Sample, rng: &mut StdRng) {
    let what = format!("{:?}", sample.column);
    let chunk = open(sample, &encode(sample)).unwrap();
    assert_eq!(chunk.row_count(), sample.values.len());
    let mut all = ColumnBuilder::new(sample.column.column_type, sample.values.len());
    let mut some = ColumnBuilder::new(sample.column.column_type, 0);
    let mut kept = Vec::new();
    for vector in 0..chunk.vector_count() {
        let rows = chunk.vector_rows(vector);
        chunk.prefetch(vector + 2);
        chunk.decode(vector, &Mask::full(rows), rows, &mut all).unwrap();
        let mask = random_mask(rows, rng);
        chunk.decode(vector, &mask, mask.count(), &mut some).unwrap();
        kept.extend((0..rows).map(|row| mask.contains(row)));
    }
    let all = all.finish();
    all.to_data().validate_full().unwrap();
    assert_same(&all, &sample.array, &what);
    let kept = BooleanArray::from(kept);
    let expected = arrow_select::filter::filter(&sample.array, &kept).unwrap();
    assert_same(&some.finish(), &expected, &what);
}

fn order(left: &Constant, right: &Constant) -> Ordering {
    match (left, right) {
        (Constant::Int(left), Constant::Int(right)) => left.cmp(right),
        (Constant::Decimal(left), Constant::Decimal(right)) => left.cmp(right),
        (Constant::Text(left), Constant::Text(right)) => left.cmp(right),
        (Constant::Float(left), Constant::Float(right)) => match (left.is_nan(), right.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => left.partial_cmp(right).unwrap(),
        },
        other => panic!("{other:?}"),
    }
}

/// LIKE by its definition: recursion over the characters.
fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        Some(('_', rest)) => !text.is_empty() && like(&text[1..], rest),
        Some(('\\', [escaped, rest @ ..])) => {
            text.first() == Some(escaped) && like(&text[1..], rest)
        }
        Some((literal, rest)) => text.first() == Some(literal) && like(&text[1..], rest),
    }
}

fn passes(value: Option<&Constant>, condition: &Condition) -> bool {
    let Some(value) = value else { return matches!(condition, Condition::IsNull) };
    let matches_pattern = |pattern: &str| match value {
        Constant::Text(text) => {
            like(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    match condition {
        Condition::Compare(comparison, constant) => {
            let order = order(value, constant);
            match comparison {
                Comparison::Equal => order == Ordering::Equal,
                Comparison::NotEqual => order != Ordering::Equal,
                Comparison::Less => order == Ordering::Less,
                Comparison::LessOrEqual => order != Ordering::Greater,
                Comparison::Greater => order == Ordering::Greater,
                Comparison::GreaterOrEqual => order != Ordering::Less,
            }
        }
        Condition::Between(low, high) => {
            order(value, low) != Ordering::Less && order(value, high) != Ordering::Greater
        }
        Condition::In(list) => list.iter().any(|other| order(value, other) == Ordering::Equal),
        Condition::NotIn(list) => list.iter().all(|other| order(value, other) != Ordering::Equal),
        Condition::Like(pattern) => matches_pattern(pattern),
        Condition::NotLike(pattern) => !matches_pattern(pattern),
        Condition::IsNull => false,
        Condition::IsNotNull => true,
    }
}

fn conditions(sample: &Sample, rng: &mut StdRng) -> Vec<Condition> {
    let column_type = sample.column.column_type;
    let constant = |rng: &mut StdRng| {
        let present = sample.values.iter().flatten().collect::<Vec<_>>();
        match present.is_empty() || rng.random_bool(0.3) {
            true => value(column_type, SHAPES[rng.random_range(0..7)], 7, rng),
            false => present[rng.random_range(0..present.len())].clone(),
        }
    };
    let comparisons = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];
    let mut all = vec![Condition::IsNull, Condition::IsNotNull];
    all.extend(comparisons.map(|comparison| Condition::Compare(comparison, constant(rng))));
    all.push(Condition::Between(constant(rng), constant(rng)));
    for count in [0, 1, 3, 40] {
        all.push(Condition::In((0..count).map(|_| constant(rng)).collect()));
        all.push(Condition::NotIn((0..count).map(|_| constant(rng)).collect()));
    }
    if column_type == ColumnType::Real {
        let between = f64::from(number(&constant(rng)) as f32) * (1.0 + 1e-12);
        all.extend(comparisons.map(|c| Condition::Compare(c, Constant::Float(between))));
    }
    if column_type == ColumnType::Text {
        for pattern in [
            "%green%",
            "%special%requests%",
            "",
            "%",
            "_",
            "%_",
            "__%",
            "MAIL",
            "c%",
            "%n",
            "run _",
            "%\\%%",
            "%x\\_y%",
            "gr_n",
            "%r_q%s",
            "_%e_%",
            "%\u{e4}%",
            "%b_r%",
            "r%3_",
            "%\\",
        ] {
            all.push(Condition::Like(pattern.into()));
            all.push(Condition::NotLike(pattern.into()));
        }
    }
    all
}

fn check_filters(sample: &Sample, rng: &mut StdRng) {
    let chunk = open(sample, &encode(sample)).unwrap();
    for condition in conditions(sample, rng) {
        let compiled = chunk.compile(&condition);
        for vector in 0..chunk.vector_count() {
            let rows = chunk.vector_rows(vector);
            let before = random_mask(rows, rng);
            let mut mask = before;
            chunk.filter(vector, &compiled, &mut mask).unwrap();
            for row in 0..VECTOR_ROWS {
                let value = || sample.values[vector * VECTOR_ROWS + row].as_ref();
                assert_eq!(
                    mask.contains(row),
                    before.contains(row) && passes(value(), &condition),
                    "{:?} {condition:?} row {row} of vector {vector}: {:?}",
                    sample.column,
                    value(),
                );
            }
        }
    }
}

/// A chunk of damaged bytes is refused, or gives some values, but nothing else happens.
fn check_damage(sample: &Sample, rng: &mut StdRng) {
    let encoded = encode(sample);
    for _ in 0..6 {
        let mut damaged = Encoded { shared: encoded.shared.clone(), chunk: encoded.chunk.clone() };
        for _ in 0..rng.random_range(1..4) {
            let in_shared = !damaged.shared.is_empty() && rng.random_bool(0.3);
            let bytes = if in_shared { &mut damaged.shared } else { &mut damaged.chunk };
            // Most bytes are values; the metadata at the front needs its share of hits.
            let reach = if rng.random_bool(0.5) { bytes.len().min(200) } else { bytes.len() };
            let at = rng.random_range(0..reach);
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
        if rng.random_bool(0.1) {
            damaged.chunk.truncate(rng.random_range(0..damaged.chunk.len()));
        }
        let Ok(chunk) = open(sample, &damaged) else { continue };
        let compiled: Vec<_> =
            conditions(sample, rng).iter().map(|condition| chunk.compile(condition)).collect();
        for vector in 0..chunk.vector_count() {
            let mask = random_mask(chunk.vector_rows(vector), rng);
            let mut out = ColumnBuilder::new(sample.column.column_type, 0);
            if chunk.decode(vector, &mask, mask.count(), &mut out).is_ok()
                && sample.column.column_type == ColumnType::Text
            {
                out.finish().to_data().validate_full().unwrap();
            }
            for condition in &compiled {
                let _ = chunk.filter(vector, condition, &mut mask.clone());
            }
        }
    }
}

fn every_sample(seed: u64, check: impl Fn(&Sample, &mut StdRng)) {
    let mut rng = StdRng::seed_from_u64(seed);
    for column_type in TYPES {
        let name = NAMES[rng.random_range(0..NAMES.len())];
        let shape = SHAPES[rng.random_range(0..SHAPES.len())];
        let rows = SIZES[rng.random_range(0..SIZES.len())];
        let nulls = [0, 0, 2, 9, 10][rng.random_range(0..5)];
        let column = column(column_type, name);
        check(&sample(column, shape, rows, nulls, &mut rng), &mut rng);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn random_columns_come_back(seed: u64) {
        every_sample(seed, check_round_trip);
    }

    #[test]
    fn filters_agree_with_the_definition(seed: u64) {
        every_sample(seed, check_filters);
    }

    #[test]
    fn damaged_bytes_never_panic(seed: u64) {
        every_sample(seed, check_damage);
    }
}

#[test]
fn every_encoding_comes_back_for_every_type_shape_and_size() {
    let mut rng = StdRng::seed_from_u64(1);
    for column_type in TYPES {
        for name in NAMES {
            for shape in SHAPES {
                for rows in [[0, 1023], [1, 1025], [1024, 2100]][rng.random_range(0..3)] {
                    let nulls = [0, 0, 3, 10][rng.random_range(0..4)];
                    let drawn = sample(column(column_type, name), shape, rows, nulls, &mut rng);
                    check_round_trip(&drawn, &mut rng);
                }
            }
        }
    }
}

#[test]
fn a_whole_row_group_comes_back() {
    let mut rng = StdRng::seed_from_u64(2);
    for column_type in TYPES {
        for shape in [Shape::Sorted, Shape::Any] {
            let column = column(column_type, EncodeName::Auto);
            check_round_trip(&sample(column, shape, 65_536, 0, &mut rng), &mut rng);
        }
    }
}

#[test]
fn texts_longer_than_64_kib_come_back() {
    let mut rng = StdRng::seed_from_u64(4);
    let long = |seed: usize| "a\u{e9}\u{1F600}z".repeat(20_000 + seed);
    let values: Vec<_> = (0..3).map(|row| Some(Constant::Text(long(row)))).collect();
    for name in [EncodeName::Auto, EncodeName::Raw, EncodeName::Text255, EncodeName::Bytedict] {
        let array = array(ColumnType::Text, &values);
        let column = column(ColumnType::Text, name);
        check_round_trip(&Sample { column, values: values.clone(), array }, &mut rng);
    }
}

#[test]
fn asked_encodings_are_used() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut encoding = |column_type, name, shape| {
        let drawn = sample(column(column_type, name), shape, 9000, 0, &mut rng);
        let groups = [Arc::clone(&drawn.array)];
        ColumnEncoder::plan(&drawn.column, &groups, EncodingAim::Speed).encoding()
    };
    let number = ColumnType::BigInt;
    let text = ColumnType::Text;
    for (column_type, name, shape, expected) in [
        (number, EncodeName::Auto, Shape::Narrow, Encoding::FrameOfReference),
        (number, EncodeName::Auto, Shape::Sorted, Encoding::Delta),
        (number, EncodeName::Raw, Shape::Narrow, Encoding::Raw),
        (number, EncodeName::Delta, Shape::Narrow, Encoding::Delta),
        (number, EncodeName::Runlength, Shape::Narrow, Encoding::RunLength),
        (number, EncodeName::Bytedict, Shape::Narrow, Encoding::Dictionary),
        (text, EncodeName::Auto, Shape::Few, Encoding::Dictionary),
        (text, EncodeName::Auto, Shape::Sorted, Encoding::Fsst),
        (text, EncodeName::Raw, Shape::Sorted, Encoding::Raw),
        (text, EncodeName::Zstd, Shape::Sorted, Encoding::Zstd),
        (text, EncodeName::Runlength, Shape::Runs, Encoding::RunLength),
    ] {
        assert_eq!(encoding(column_type, name, shape), expected, "{name:?} {shape:?}");
    }
}

#[test]
fn aiming_at_size_never_takes_more_and_sometimes_much_less() {
    let mut rng = StdRng::seed_from_u64(11);
    let mut ratios = Vec::new();
    for column_type in [ColumnType::BigInt, ColumnType::Text] {
        for shape in [Shape::Narrow, Shape::Sorted, Shape::Runs, Shape::Few] {
            let drawn = sample(column(column_type, EncodeName::Auto), shape, 60_000, 0, &mut rng);
            let groups = [Arc::clone(&drawn.array)];
            let bytes = |aim| {
                let encoder = ColumnEncoder::plan(&drawn.column, &groups, aim);
                (encoder.shared_bytes().len() + encoder.encode(&drawn.array).len()) as f64
            };
            let ratio = bytes(EncodingAim::Size) / bytes(EncodingAim::Speed);
            assert!(ratio <= 1.02, "{column_type:?} {shape:?}: {ratio}");
            ratios.push(ratio);
        }
    }
    assert!(ratios.iter().any(|ratio| *ratio < 0.8), "{ratios:?}");
}
