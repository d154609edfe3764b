//! Rows for the tests of this crate: random columns of every type, and conditions evaluated by
//! their definition, one value at a time.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::builder::StringViewBuilder;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, BooleanArray, Decimal128Array, PrimitiveArray, RecordBatch};
use rand::prelude::*;
use rand::rngs::StdRng;

use crate::ids::ColumnId;
use crate::predicate::{Comparison, Condition, Constant};
use crate::schema::{Column, ColumnType, EncodeName, TableSchema};

pub(crate) const TYPES: [ColumnType; 14] = [
    ColumnType::Boolean,
    ColumnType::SmallInt,
    ColumnType::Integer,
    ColumnType::BigInt,
    ColumnType::Decimal { precision: 12, scale: 2 },
    ColumnType::Decimal { precision: 38, scale: 10 },
    ColumnType::Real,
    ColumnType::Double,
    ColumnType::Text,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::TimeTz,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
];

/// A value, or NULL.
pub(crate) type Cell = Option<Constant>;

/// A table in memory: the schema, and the cells of each column.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) schema: TableSchema,
    pub(crate) columns: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(types: &[ColumnType], columns: Vec<Vec<Cell>>) -> Table {
        let column = |(position, column_type): (usize, &ColumnType)| Column {
            id: ColumnId(10 * position as u32 + 3),
            name: format!("c{position}"),
            column_type: *column_type,
            nullable: true,
            encode: EncodeName::Auto,
        };
        let columns_described = types.iter().enumerate().map(column).collect();
        Table { schema: TableSchema { columns: columns_described, sort_key: vec![] }, columns }
    }

    pub(crate) fn random(rng: &mut StdRng, column_count: usize, rows: usize) -> Table {
        let types: Vec<_> = (0..column_count).map(|_| *TYPES.choose(rng).unwrap()).collect();
        let columns = types.iter().map(|column_type| random_cells(*column_type, rng, rows));
        Table::new(&types, columns.collect())
    }

    pub(crate) fn row_count(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// The rows as batches of these sizes; what is left is the last one.
    pub(crate) fn batches(&self, sizes: &[usize]) -> Vec<RecordBatch> {
        let arrays = self
            .columns
            .iter()
            .zip(&self.schema.columns)
            .map(|(cells, c)| array(c.column_type, cells));
        let all = RecordBatch::try_new(self.schema.arrow_schema(), arrays.collect()).unwrap();
        let mut start = 0;
        let mut batches = Vec::new();
        for size in sizes.iter().copied().chain([usize::MAX]) {
            let size = size.min(all.num_rows() - start);
            batches.push(all.slice(start, size));
            start += size;
        }
        batches
    }
}

fn random_cells(column_type: ColumnType, rng: &mut StdRng, rows: usize) -> Vec<Cell> {
    let nulls = *[0.0, 0.0, 0.1, 0.9, 1.0].choose(rng).unwrap();
    let few: Vec<Constant> = (0..5).map(|_| random_value(column_type, rng)).collect();
    let shape = rng.random_range(0..3);
    let mut cells: Vec<Cell> = (0..rows)
        .map(|_| {
            let value = match shape {
                0 => few.choose(rng).unwrap().clone(),
                _ => random_value(column_type, rng),
            };
            (!rng.random_bool(nulls)).then_some(value)
        })
        .collect();
    if shape == 2 {
        cells.sort_by(compare_cells);
    }
    cells
}

fn random_int(rng: &mut StdRng, min: i64, max: i64) -> i64 {
    match rng.random_range(0..8) {
        0 => min,
        1 => max,
        2 => rng.random_range(min..=max),
        _ => rng.random_range(min.max(-100)..=max.min(100)),
    }
}

pub(crate) fn random_value(column_type: ColumnType, rng: &mut StdRng) -> Constant {
    let int = |rng: &mut StdRng, min, max| Constant::Int(random_int(rng, min, max));
    match column_type {
        ColumnType::Boolean => Constant::Int(rng.random_range(0..=1)),
        ColumnType::SmallInt => int(rng, i16::MIN.into(), i16::MAX.into()),
        ColumnType::Integer | ColumnType::Date => int(rng, i32::MIN.into(), i32::MAX.into()),
        ColumnType::BigInt | ColumnType::Timestamp | ColumnType::TimestampTz => {
            int(rng, i64::MIN, i64::MAX)
        }
        ColumnType::Time => int(rng, 0, 86_399_999_999),
        ColumnType::TimeTz => int(rng, 0, 86_399_999_999_999),
        ColumnType::Decimal { precision, .. } => {
            let limit = 10_i128.pow(precision.into()) - 1;
            Constant::Decimal(match rng.random_range(0..6) {
                0 => limit,
                1 => -limit,
                2 => rng.random_range(-limit..=limit),
                _ => rng.random_range(-100..=100),
            })
        }
        ColumnType::Real => Constant::Float(f64::from(random_float(rng) as f32)),
        ColumnType::Double => Constant::Float(random_float(rng)),
        ColumnType::Text => Constant::Text(random_text(rng)),
    }
}

fn random_float(rng: &mut StdRng) -> f64 {
    match rng.random_range(0..40) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3..6 => 0.0,
        6..9 => -0.0,
        _ => f64::from(rng.random_range(-20..20)) / 4.0,
    }
}

fn random_text(rng: &mut StdRng) -> String {
    let letters = ['a', 'b', '%', '_', '\\', ' ', '\u{e9}', '\u{d7ff}', '\u{10ffff}'];
    let length = match rng.random_range(0..20) {
        0 => rng.random_range(0..300),
        1..4 => rng.random_range(60..70),
        _ => rng.random_range(0..6),
    };
    let plain = rng.random_bool(0.7);
    let letter = |rng: &mut StdRng| match plain {
        true => *['a', 'b'].choose(rng).unwrap(),
        false => *letters.choose(rng).unwrap(),
    };
    let repeated = letter(rng);
    let monotone = rng.random_bool(0.3);
    (0..length).map(|_| if monotone { repeated } else { letter(rng) }).collect()
}

/// NULLs last; NaN is the largest number, and both zeros are equal.
pub(crate) fn compare_cells(left: &Cell, right: &Cell) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => compare(left, right),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

fn compare(left: &Constant, right: &Constant) -> Ordering {
    match (left, right) {
        (Constant::Int(left), Constant::Int(right)) => left.cmp(right),
        (Constant::Decimal(left), Constant::Decimal(right)) => left.cmp(right),
        (Constant::Text(left), Constant::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Constant::Float(left), Constant::Float(right)) => match (left.is_nan(), right.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => left.partial_cmp(right).unwrap(),
        },
        other => panic!("{other:?} do not compare"),
    }
}

/// Whether a cell passes a condition, by definition.
pub(crate) fn passes(cell: &Cell, condition: &Condition) -> bool {
    let Some(value) = cell else { return *condition == Condition::IsNull };
    match condition {
        Condition::Compare(comparison, constant) => {
            let order = compare(value, constant);
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
            compare(value, low).is_ge() && compare(value, high).is_le()
        }
        Condition::In(constants) => constants.iter().any(|other| compare(value, other).is_eq()),
        Condition::NotIn(constants) => constants.iter().all(|other| compare(value, other).is_ne()),
        Condition::Like(pattern) => like(value, pattern),
        Condition::NotLike(pattern) => !like(value, pattern),
        Condition::IsNull => false,
        Condition::IsNotNull => true,
    }
}

fn like(value: &Constant, pattern: &str) -> bool {
    let Constant::Text(text) = value else { panic!("LIKE is for text, not {value:?}") };
    let text: Vec<char> = text.chars().collect();
    let mut reachable = vec![false; text.len() + 1];
    reachable[0] = true;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let mut next = vec![false; text.len() + 1];
        if character == '%' {
            let first = reachable.iter().position(|there| *there).unwrap_or(text.len() + 1);
            next.iter_mut().skip(first).for_each(|there| *there = true);
        } else {
            let literal = match character {
                '_' => None,
                '\\' => Some(characters.next().unwrap_or('\\')),
                plain => Some(plain),
            };
            for position in 0..text.len() {
                let fits = literal.is_none_or(|literal| text[position] == literal);
                next[position + 1] = reachable[position] && fits;
            }
        }
        reachable = next;
    }
    reachable[text.len()]
}

/// A condition that fits the column, with constants like its values.
pub(crate) fn random_condition(
    column_type: ColumnType,
    cells: &[Cell],
    rng: &mut StdRng,
) -> Condition {
    let constant = |rng: &mut StdRng| match cells.choose(rng) {
        Some(Some(value)) if rng.random_bool(0.6) => value.clone(),
        _ => random_value(column_type, rng),
    };
    let list = |rng: &mut StdRng| (0..rng.random_range(0..4)).map(|_| constant(rng)).collect();
    let comparisons = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];
    let kinds = if column_type == ColumnType::Text { 8 } else { 6 };
    match rng.random_range(0..kinds) {
        0 => Condition::IsNull,
        1 => Condition::IsNotNull,
        2 => Condition::Between(constant(rng), constant(rng)),
        3 => Condition::In(list(rng)),
        4 => Condition::NotIn(list(rng)),
        5 => Condition::Compare(*comparisons.choose(rng).unwrap(), constant(rng)),
        6 => Condition::Like(random_pattern(&constant(rng), rng)),
        _ => Condition::NotLike(random_pattern(&constant(rng), rng)),
    }
}

/// A text with some characters replaced by wildcards, cut somewhere.
fn random_pattern(text: &Constant, rng: &mut StdRng) -> String {
    let Constant::Text(text) = text else { panic!("a pattern is made of text, not {text:?}") };
    let keep = rng.random_range(0..=text.chars().count());
    let mut pattern = String::new();
    for character in text.chars().take(keep) {
        match rng.random_range(0..12) {
            0 => pattern.push('%'),
            1 => pattern.push('_'),
            2 => pattern.extend(['\\', character]),
            _ => pattern.push(character),
        }
    }
    if rng.random_bool(0.7) {
        pattern.push('%');
    }
    pattern
}

fn primitive<T: ArrowPrimitiveType>(
    cells: &[Cell],
    convert: impl Fn(i64) -> T::Native,
) -> PrimitiveArray<T> {
    cells
        .iter()
        .map(|cell| {
            cell.as_ref().map(|value| match value {
                Constant::Int(value) => convert(*value),
                other => panic!("{other:?} is no whole number"),
            })
        })
        .collect()
}

/// The cells as the array of their type.
pub(crate) fn array(column_type: ColumnType, cells: &[Cell]) -> ArrayRef {
    let float = |cell: &Cell| {
        cell.as_ref().map(|value| match value {
            Constant::Float(value) => *value,
            other => panic!("{other:?} is no float"),
        })
    };
    match column_type {
        ColumnType::Boolean => {
            let bits = cells.iter().map(|c| c.as_ref().map(|v| *v == Constant::Int(1)));
            Arc::new(bits.collect::<BooleanArray>())
        }
        ColumnType::SmallInt => Arc::new(primitive::<Int16Type>(cells, |v| v as i16)),
        ColumnType::Integer => Arc::new(primitive::<Int32Type>(cells, |v| v as i32)),
        ColumnType::BigInt => Arc::new(primitive::<Int64Type>(cells, |v| v)),
        ColumnType::Date => Arc::new(primitive::<Date32Type>(cells, |v| v as i32)),
        ColumnType::Time => Arc::new(primitive::<Time64MicrosecondType>(cells, |v| v)),
        ColumnType::TimeTz => Arc::new(primitive::<Time64NanosecondType>(cells, |v| v)),
        ColumnType::Timestamp => Arc::new(primitive::<TimestampMicrosecondType>(cells, |v| v)),
        ColumnType::TimestampTz => {
            Arc::new(primitive::<TimestampMicrosecondType>(cells, |v| v).with_timezone("UTC"))
        }
        ColumnType::Real => Arc::new(
            cells
                .iter()
                .map(|c| float(c).map(|v| v as f32))
                .collect::<PrimitiveArray<Float32Type>>(),
        ),
        ColumnType::Double => {
            Arc::new(cells.iter().map(float).collect::<PrimitiveArray<Float64Type>>())
        }
        ColumnType::Decimal { precision, scale } => {
            let values = cells.iter().map(|cell| {
                cell.as_ref().map(|value| match value {
                    Constant::Decimal(value) => *value,
                    other => panic!("{other:?} is no decimal"),
                })
            });
            let array = values.collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(precision, scale as i8).unwrap())
        }
        ColumnType::Text => {
            let mut builder = StringViewBuilder::new();
            for cell in cells {
                builder.append_option(cell.as_ref().map(|value| match value {
                    Constant::Text(text) => text,
                    other => panic!("{other:?} is no text"),
                }));
            }
            Arc::new(builder.finish())
        }
    }
}
