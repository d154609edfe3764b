//! What is known about all rows of a zone (a row group, or a whole segment), and what follows from
//! it for a condition.
//!
//! Pruning skips only what is proven: [`Pruning::Never`] and [`Pruning::Always`] are theorems about
//! every row of the zone, and all doubt is [`Pruning::Maybe`]. The proofs hold for every meaning
//! that a comparison of floats can have: a NaN in the zone or in the condition proves nothing, and
//! the two zeros are widened into each other.
//!
//! A bound of text is at most [`TEXT_BOUND_BYTES`] long: a lower bound is cut (a prefix sorts
//! before the whole), an upper bound is cut and its last character raised. Equal bounds are
//! therefore exact: a cut lower bound is smaller than the value, an upper one not less.

use std::cmp::Ordering;

use crate::little_endian::{ByteReader, ByteWriter, Unreadable};
use crate::predicate::{Comparison, Condition, Constant};

/// The longest bound of a text column, in bytes.
pub const TEXT_BOUND_BYTES: usize = 64;

/// What is known about the values of one column in a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Rows, NULLs included.
    pub row_count: u64,
    /// Rows that are NULL.
    pub null_count: u64,
    /// No value is smaller, NaN aside. `None`: no bound is known (or no value is there).
    pub min: Option<Constant>,
    /// No value is larger, NaN aside. `None`: no bound is known (or no value is there).
    pub max: Option<Constant>,
    /// Whether a value is NaN.
    pub has_nan: bool,
}

/// What a zone proves about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruning {
    /// No row passes.
    Never,
    /// Rows must be looked at.
    Maybe,
    /// Every row passes.
    Always,
}

impl Pruning {
    fn not(self) -> Pruning {
        match self {
            Self::Never => Self::Always,
            Self::Maybe => Self::Maybe,
            Self::Always => Self::Never,
        }
    }

    fn and(self, other: Pruning) -> Pruning {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Always, Self::Always) => Self::Always,
            (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
        }
    }

    fn or(self, other: Pruning) -> Pruning {
        self.not().and(other.not()).not()
    }
}

/// What `zone` proves about `condition`.
pub fn prune(zone: &Zone, condition: &Condition) -> Pruning {
    let values = zone.row_count.saturating_sub(zone.null_count);
    let all_null = values == 0;
    let no_null = zone.null_count == 0;
    match condition {
        Condition::IsNull if all_null => Pruning::Always,
        Condition::IsNull if no_null => Pruning::Never,
        Condition::IsNotNull if all_null => Pruning::Never,
        Condition::IsNotNull if no_null => Pruning::Always,
        Condition::IsNull | Condition::IsNotNull => Pruning::Maybe,
        Condition::Compare(..)
        | Condition::Between(..)
        | Condition::In(_)
        | Condition::NotIn(_)
        | Condition::Like(_)
        | Condition::NotLike(_) => match prune_values(zone, condition) {
            _ if all_null => Pruning::Never,
            // A NULL does not pass what every value passes.
            Pruning::Always if !no_null => Pruning::Maybe,
            verdict => verdict,
        },
    }
}

/// The verdict over the rows that are not NULL.
fn prune_values(zone: &Zone, condition: &Condition) -> Pruning {
    if zone.has_nan {
        return Pruning::Maybe;
    }
    match condition {
        Condition::Compare(comparison, constant) => compare(zone, *comparison, constant),
        Condition::Between(low, high) => compare(zone, Comparison::GreaterOrEqual, low)
            .and(compare(zone, Comparison::LessOrEqual, high)),
        Condition::In(constants) => contained(zone, constants),
        Condition::NotIn(constants) => contained(zone, constants).not(),
        Condition::Like(pattern) => like(zone, pattern),
        Condition::NotLike(pattern) => like(zone, pattern).not(),
        Condition::IsNull | Condition::IsNotNull => Pruning::Maybe,
    }
}

fn contained(zone: &Zone, constants: &[Constant]) -> Pruning {
    constants.iter().fold(Pruning::Never, |verdict, constant| {
        verdict.or(compare(zone, Comparison::Equal, constant))
    })
}

fn compare(zone: &Zone, comparison: Comparison, constant: &Constant) -> Pruning {
    match comparison {
        Comparison::Equal => equal(zone, constant),
        Comparison::NotEqual => equal(zone, constant).not(),
        Comparison::Less => less(zone, constant),
        Comparison::GreaterOrEqual => less(zone, constant).not(),
        Comparison::Greater => greater(zone, constant),
        Comparison::LessOrEqual => greater(zone, constant).not(),
    }
}

fn equal(zone: &Zone, constant: &Constant) -> Pruning {
    let to_min = order_min(zone, constant);
    let to_max = order_max(zone, constant);
    if to_min == Some(Ordering::Greater) || to_max == Some(Ordering::Less) {
        Pruning::Never
    } else if to_min == Some(Ordering::Equal) && to_max == Some(Ordering::Equal) {
        Pruning::Always
    } else {
        Pruning::Maybe
    }
}

fn less(zone: &Zone, constant: &Constant) -> Pruning {
    if matches!(order_min(zone, constant), Some(Ordering::Greater | Ordering::Equal)) {
        Pruning::Never
    } else if order_max(zone, constant) == Some(Ordering::Less) {
        Pruning::Always
    } else {
        Pruning::Maybe
    }
}

fn greater(zone: &Zone, constant: &Constant) -> Pruning {
    if matches!(order_max(zone, constant), Some(Ordering::Less | Ordering::Equal)) {
        Pruning::Never
    } else if order_min(zone, constant) == Some(Ordering::Greater) {
        Pruning::Always
    } else {
        Pruning::Maybe
    }
}

/// The order of the lower bound to a constant; `None` if unknown.
fn order_min(zone: &Zone, constant: &Constant) -> Option<Ordering> {
    order(zone.min.as_ref()?, constant, -0.0)
}

/// The order of the upper bound to a constant; `None` if unknown.
fn order_max(zone: &Zone, constant: &Constant) -> Option<Ordering> {
    order(zone.max.as_ref()?, constant, 0.0)
}

/// The order of a bound to a constant of the same kind. A zero as bound counts as `zero`, the one
/// that is farther out.
fn order(bound: &Constant, constant: &Constant, zero: f64) -> Option<Ordering> {
    match (bound, constant) {
        (Constant::Int(bound), Constant::Int(constant)) => Some(bound.cmp(constant)),
        (Constant::Decimal(bound), Constant::Decimal(constant)) => Some(bound.cmp(constant)),
        (Constant::Float(bound), Constant::Float(constant)) => {
            let bound = if *bound == 0.0 { zero } else { *bound };
            (!bound.is_nan() && !constant.is_nan()).then(|| bound.total_cmp(constant))
        }
        (Constant::Text(bound), Constant::Text(constant)) => Some(bound.cmp(constant)),
        (
            Constant::Int(_) | Constant::Decimal(_) | Constant::Float(_) | Constant::Text(_),
            Constant::Int(_) | Constant::Decimal(_) | Constant::Float(_) | Constant::Text(_),
        ) => None,
    }
}

/// A LIKE pattern up to its first wildcard.
struct LikePrefix {
    prefix: String,
    rest: LikeRest,
}

#[derive(PartialEq, Eq)]
enum LikeRest {
    /// The pattern ends: a plain comparison.
    Nothing,
    /// Only `%`: every text with the prefix matches.
    Anything,
    /// Something that bounds do not tell about.
    Unknown,
}

fn like(zone: &Zone, pattern: &str) -> Pruning {
    let LikePrefix { prefix, rest } = like_prefix(pattern);
    if rest == LikeRest::Nothing {
        return equal(zone, &Constant::Text(prefix));
    }
    let (Some(Constant::Text(min)), Some(Constant::Text(max))) = (&zone.min, &zone.max) else {
        return like_with_one_bound(zone, &prefix);
    };
    if outside(Some(min), Some(max), &prefix) {
        return Pruning::Never;
    }
    // The texts with one prefix are an interval: with its ends, all between is inside.
    let inside = min.starts_with(&prefix) && max.starts_with(&prefix);
    if inside && rest == LikeRest::Anything { Pruning::Always } else { Pruning::Maybe }
}

fn like_with_one_bound(zone: &Zone, prefix: &str) -> Pruning {
    let text = |bound: &Option<Constant>| match bound {
        Some(Constant::Text(text)) => Some(text.clone()),
        Some(Constant::Int(_) | Constant::Decimal(_) | Constant::Float(_)) | None => None,
    };
    let (min, max) = (text(&zone.min), text(&zone.max));
    if outside(min.as_deref(), max.as_deref(), prefix) { Pruning::Never } else { Pruning::Maybe }
}

/// Whether no text between the bounds starts with `prefix`.
fn outside(min: Option<&str>, max: Option<&str>, prefix: &str) -> bool {
    max.is_some_and(|max| max < prefix)
        || min.is_some_and(|min| min > prefix && !min.starts_with(prefix))
}

fn like_prefix(pattern: &str) -> LikePrefix {
    let mut prefix = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let rest = match character {
            '%' if characters.as_str().chars().all(|rest| rest == '%') => LikeRest::Anything,
            '%' | '_' => LikeRest::Unknown,
            '\\' => match characters.next() {
                Some(escaped) => {
                    prefix.push(escaped);
                    continue;
                }
                // An escape character that escapes nothing is an error elsewhere.
                None => LikeRest::Unknown,
            },
            plain => {
                prefix.push(plain);
                continue;
            }
        };
        return LikePrefix { prefix, rest };
    }
    LikePrefix { prefix, rest: LikeRest::Nothing }
}

/// The lower bound to keep for a smallest text.
pub fn text_lower_bound(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BOUND_BYTES)].to_owned()
}

/// The upper bound to keep for a largest text: not less than it. `None` if no short text is.
pub fn text_upper_bound(text: &str) -> Option<String> {
    if text.len() <= TEXT_BOUND_BYTES {
        return Some(text.to_owned());
    }
    let mut bound = text_lower_bound(text);
    while let Some(last) = bound.pop() {
        // The next character may be longer in UTF-8; order of characters is order of bytes.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            char::MAX => None,
            last => char::from_u32(last as u32 + 1),
        };
        if let Some(next) = next {
            bound.push(next);
            return Some(bound);
        }
    }
    None
}

impl Zone {
    /// A zone of no rows.
    pub fn empty() -> Zone {
        Zone { row_count: 0, null_count: 0, min: None, max: None, has_nan: false }
    }

    /// The zone that covers both.
    pub fn merge(&self, other: &Zone) -> Zone {
        let pick = |ours: &Option<Constant>, theirs: &Option<Constant>, wanted: Ordering| {
            // A side without values has no say; a side with values but no bound forbids one.
            match (self.has_bounds(), other.has_bounds()) {
                (false, _) => theirs.clone(),
                (_, false) => ours.clone(),
                (true, true) => {
                    let (ours, theirs) = (ours.as_ref()?, theirs.as_ref()?);
                    let zero = if wanted == Ordering::Less { -0.0 } else { 0.0 };
                    let ours_wins = order(ours, theirs, zero)? == wanted;
                    Some(if ours_wins { ours.clone() } else { theirs.clone() })
                }
            }
        };
        Zone {
            row_count: self.row_count + other.row_count,
            null_count: self.null_count + other.null_count,
            min: pick(&self.min, &other.min, Ordering::Less),
            max: pick(&self.max, &other.max, Ordering::Greater),
            has_nan: self.has_nan || other.has_nan,
        }
    }

    /// Whether what this zone says is true of rows that are known to be as `found`: the counts are
    /// the same, and its bounds are not narrower.
    pub fn holds_for(&self, found: &Zone) -> bool {
        let bound_holds =
            |ours: &Option<Constant>, found: &Option<Constant>, wrong, zero| match (ours, found) {
                (None, _) | (Some(_), None) => true,
                (Some(ours), Some(found)) => {
                    order(ours, found, zero).is_some_and(|order| order != wrong)
                }
            };
        (self.row_count, self.null_count, self.has_nan)
            == (found.row_count, found.null_count, found.has_nan)
            && bound_holds(&self.min, &found.min, Ordering::Greater, -0.0)
            && bound_holds(&self.max, &found.max, Ordering::Less, 0.0)
    }

    /// Whether the zone has values, so that a missing bound means "unknown", not "none".
    fn has_bounds(&self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    /// Writes the zone.
    pub fn write(&self, writer: &mut ByteWriter) {
        writer.u64(self.row_count);
        writer.u64(self.null_count);
        writer.u8(u8::from(self.has_nan));
        writer.constant(self.min.as_ref());
        writer.constant(self.max.as_ref());
    }

    /// Reads a zone.
    pub fn read(reader: &mut ByteReader<'_>) -> Result<Zone, Unreadable> {
        let row_count = reader.u64()?;
        let null_count = reader.u64()?;
        let has_nan = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Unreadable("a zone's NaN flag is neither 0 nor 1".into())),
        };
        if null_count > row_count {
            return Err(Unreadable(format!("a zone of {row_count} rows has {null_count} NULLs")));
        }
        let zone = Zone {
            row_count,
            null_count,
            min: reader.constant()?,
            max: reader.constant()?,
            has_nan,
        };
        Ok(zone)
    }
}

#[cfg(test)]
mod tests;
