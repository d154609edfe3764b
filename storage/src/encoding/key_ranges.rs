//! A condition on a fixed-width column as a set of ranges of keys.
//!
//! Every constant stands for a run of equal keys (one key for whole numbers; two for the zeros of a
//! float; none for a constant between two neighbouring keys), so every condition that compares
//! values is a union of disjoint ranges.

use super::keys::{double_key, key_real, real_key};
use crate::predicate::{Comparison, Condition, Constant};
use crate::schema::ColumnType;

/// Disjoint ranges of keys, both ends included, ascending and not touching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRanges(Vec<(i128, i128)>);

/// The keys equal to a constant. `low == high + 1` when the constant lies between the keys `high`
/// and `low`.
#[derive(Debug, Clone, Copy)]
struct EqualKeys {
    low: i128,
    high: i128,
}

impl KeyRanges {
    /// The keys for which `condition` is true. Tests for NULL and LIKE do not compare keys and are
    /// handled by the caller.
    pub(super) fn of(column_type: ColumnType, condition: &Condition) -> KeyRanges {
        let equal = |constant: &Constant| equal_keys(column_type, constant);
        let ranges = match condition {
            Condition::Compare(comparison, constant) => compare(*comparison, equal(constant)),
            Condition::Between(low, high) => vec![(equal(low).low, equal(high).high)],
            Condition::In(constants) => constants.iter().map(equal).map(ends).collect(),
            Condition::NotIn(constants) => {
                let included = constants.iter().map(equal).map(ends).collect();
                return KeyRanges::normalized(included).complement();
            }
            Condition::Like(_)
            | Condition::NotLike(_)
            | Condition::IsNull
            | Condition::IsNotNull => unreachable!("not a comparison of keys: {condition:?}"),
        };
        KeyRanges::normalized(ranges)
    }

    fn normalized(mut ranges: Vec<(i128, i128)>) -> KeyRanges {
        ranges.retain(|(low, high)| low <= high);
        ranges.sort_unstable();
        let mut merged: Vec<(i128, i128)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some((_, last)) if *last == i128::MAX || low <= *last + 1 => {
                    *last = high.max(*last);
                }
                Some(_) | None => merged.push((low, high)),
            }
        }
        KeyRanges(merged)
    }

    fn complement(&self) -> KeyRanges {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(i128::MIN);
        for (low, high) in &self.0 {
            if let Some(start) = next
                && start < *low
            {
                gaps.push((start, low - 1));
            }
            next = high.checked_add(1);
        }
        gaps.extend(next.map(|start| (start, i128::MAX)));
        KeyRanges(gaps)
    }

    /// The ranges, ascending.
    pub(super) fn wide(&self) -> &[(i128, i128)] {
        &self.0
    }

    /// The parts of the ranges that 64-bit keys can fall into.
    pub(super) fn narrow(&self) -> Vec<(i64, i64)> {
        let bounds = (i128::from(i64::MIN), i128::from(i64::MAX));
        let reachable = self.0.iter().filter(|(low, high)| *low <= bounds.1 && *high >= bounds.0);
        reachable
            .map(|(low, high)| (*low.max(&bounds.0) as i64, *high.min(&bounds.1) as i64))
            .collect()
    }
}

fn ends(keys: EqualKeys) -> (i128, i128) {
    (keys.low, keys.high)
}

fn compare(comparison: Comparison, keys: EqualKeys) -> Vec<(i128, i128)> {
    let below = keys.low.checked_sub(1).map(|high| (i128::MIN, high));
    let above = keys.high.checked_add(1).map(|low| (low, i128::MAX));
    match comparison {
        Comparison::Equal => vec![(keys.low, keys.high)],
        Comparison::NotEqual => below.into_iter().chain(above).collect(),
        Comparison::Less => below.into_iter().collect(),
        Comparison::LessOrEqual => vec![(i128::MIN, keys.high)],
        Comparison::Greater => above.into_iter().collect(),
        Comparison::GreaterOrEqual => vec![(keys.low, i128::MAX)],
    }
}

fn equal_keys(column_type: ColumnType, constant: &Constant) -> EqualKeys {
    match (column_type, constant) {
        (ColumnType::Real, Constant::Float(value)) => equal_real_keys(*value),
        (ColumnType::Double, Constant::Float(value)) => equal_double_keys(*value),
        (ColumnType::Real | ColumnType::Double | ColumnType::Text, _)
        | (_, Constant::Float(_) | Constant::Text(_)) => {
            unreachable!("the constant {constant:?} is not of the column's type {column_type:?}")
        }
        (_, Constant::Int(value)) => exactly(i128::from(*value)),
        (_, Constant::Decimal(value)) => exactly(*value),
    }
}

fn exactly(key: i128) -> EqualKeys {
    EqualKeys { low: key, high: key }
}

/// NaN equals every NaN and zero equals both zeros, as in PostgreSQL.
fn equal_double_keys(value: f64) -> EqualKeys {
    if value.is_nan() {
        return EqualKeys { low: i128::from(double_key(f64::INFINITY)) + 1, high: i128::MAX };
    }
    if value == 0.0 {
        return EqualKeys { low: double_key(-0.0).into(), high: double_key(0.0).into() };
    }
    exactly(double_key(value).into())
}

/// A REAL is compared as the double that it equals, so the constant may lie between two REALs.
fn equal_real_keys(value: f64) -> EqualKeys {
    if value.is_nan() {
        return EqualKeys { low: i128::from(real_key(f32::INFINITY)) + 1, high: i128::MAX };
    }
    if value == 0.0 {
        return EqualKeys { low: real_key(-0.0).into(), high: real_key(0.0).into() };
    }
    let key = real_key(value as f32);
    let nearest = f64::from(key_real(key));
    if nearest == value {
        return exactly(key.into());
    }
    // Rounding gave a neighbour of the constant, which lies just below or just above it. When it is
    // a zero, the other zero lies on the same side of the constant or is that zero's neighbour.
    let high = if nearest < value { key } else { key - 1 };
    let high = match (value > 0.0, nearest == 0.0) {
        (true, true) => real_key(0.0),
        (false, true) => real_key(-0.0) - 1,
        (true | false, false) => high,
    };
    EqualKeys { low: i128::from(high) + 1, high: high.into() }
}
