//! Whether a result is the right answer.
//!
//! Rules, per kind of column in the reference:
//! * `integer`, `text`, `date`: equal; blanks at the end of a `CHAR(n)` column do not count, for
//!   Postgres pads it and the reference engine does not.
//! * `decimal` (sums and stored amounts, exact in the reference): equal as numbers. Only where
//!   the result keeps fewer digits, but at least [`SCALE_MIN_EXACT`], it must equal the reference
//!   rounded half away from zero to its scale: Redshift cuts the scale of long products.
//! * `ratio` (averages and quotients, floating point in the reference): equal within one unit of
//!   the result's last digit, since Redshift's AVG and division of decimals keep few digits and
//!   may cut instead of round, but at least [`SCALE_MIN_RATIO`] digits must be there; or within a
//!   relative [`RATIO_TOLERANCE`].
//!
//! Rows must come in the reference's order, except that rows equal in every sort key may change
//! places among themselves.

use std::cmp::Ordering;

use anyhow::{Context as _, bail};

use crate::queries::Query;

/// Digits after the point below which an exact decimal may not be shortened.
const SCALE_MIN_EXACT: u32 = 4;
/// Digits after the point that a decimal quotient or average must have.
const SCALE_MIN_RATIO: u32 = 2;
/// Relative difference allowed between quotients and averages.
const RATIO_TOLERANCE: f64 = 1e-9;

/// Columns of type `CHAR(n)` in the queries' results.
const PADDED_COLUMNS: [&str; 16] = [
    "l_returnflag",
    "l_linestatus",
    "l_shipmode",
    "s_name",
    "s_phone",
    "n_name",
    "p_mfgr",
    "p_brand",
    "c_phone",
    "o_orderpriority",
    "supp_nation",
    "cust_nation",
    "nation",
    "cntrycode",
    "p_container",
    "r_name",
];

/// A row as the wire gives it in text form; `None` is NULL.
pub(crate) type Row = Vec<Option<String>>;

/// How the values of a column are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Decimal,
    Ratio,
    Text,
    Date,
}

impl Kind {
    fn parse(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "integer" => Self::Integer,
            "decimal" => Self::Decimal,
            "ratio" => Self::Ratio,
            "text" => Self::Text,
            "date" => Self::Date,
            other => bail!("unknown kind of column \"{other}\""),
        })
    }
}

/// The right answer to a query, from another engine.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<(String, Kind)>,
    pub(crate) rows: Vec<Row>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// With the first difference.
    Wrong(String),
    /// There is no answer to compare with.
    NotChecked,
}

impl Answer {
    /// From column names, kinds and rows.
    pub(crate) fn new(columns: Vec<(String, String)>, rows: Vec<Row>) -> anyhow::Result<Self> {
        let columns = columns
            .into_iter()
            .map(|(name, kind)| Ok((name, Kind::parse(&kind)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { columns, rows })
    }

    /// From CSV whose header says `name:kind`; an empty field without quotes is NULL.
    pub(crate) fn from_csv(text: &str) -> anyhow::Result<Self> {
        let mut records = csv_records(text)?.into_iter();
        let header = records.next().context("an answer file is empty")?;
        let columns = header
            .into_iter()
            .map(|field| {
                let field = field.context("an answer file has a column without a name")?;
                let (name, kind) = field.rsplit_once(':').context("a column has no kind")?;
                Ok((name.to_owned(), kind.to_owned()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Self::new(columns, records.collect())
    }

    /// Compare a result with this answer.
    pub(crate) fn check(&self, query: &Query, rows: &[Row]) -> Verdict {
        match self.difference(query, rows) {
            None => Verdict::Right,
            Some(difference) => Verdict::Wrong(difference),
        }
    }

    fn difference(&self, query: &Query, rows: &[Row]) -> Option<String> {
        if rows.len() != self.rows.len() {
            return Some(format!("{} rows, expected {}", rows.len(), self.rows.len()));
        }
        if let Some(row) = rows.iter().find(|row| row.len() != self.columns.len()) {
            return Some(format!("{} columns, expected {}", row.len(), self.columns.len()));
        }
        let sort_keys: Vec<usize> = query
            .sort_keys
            .iter()
            .filter_map(|key| self.columns.iter().position(|(name, _)| name == key))
            .collect();
        if sort_keys.len() != query.sort_keys.len() {
            return Some("the answer lacks a sort key".to_owned());
        }
        let mut start = 0;
        while start < rows.len() {
            let same = |row: &&Row| sort_keys.iter().all(|key| row[*key] == self.rows[start][*key]);
            let end = start + self.rows[start..].iter().take_while(same).count();
            // Without sort keys all rows are one run: any order is right.
            if let Some(difference) = self.run_difference(start, &rows[start..end]) {
                return Some(difference);
            }
            start = end;
        }
        None
    }

    /// Match each row of a run of equal sort keys with one of the reference.
    fn run_difference(&self, start: usize, rows: &[Row]) -> Option<String> {
        let mut unmatched: Vec<&Row> = self.rows[start..start + rows.len()].iter().collect();
        for (offset, row) in rows.iter().enumerate() {
            let found =
                unmatched.iter().position(|expected| self.cells_differ(expected, row).is_none());
            match found {
                Some(index) => {
                    unmatched.remove(index);
                }
                None => {
                    let place = start + offset + 1;
                    let column = self.cells_differ(unmatched[0], row)?;
                    return Some(format!(
                        "row {place}, {}: {}, expected {}",
                        self.columns[column].0,
                        shown(row[column].as_ref()),
                        shown(unmatched[0][column].as_ref()),
                    ));
                }
            }
        }
        None
    }

    /// The first column in which two rows differ.
    fn cells_differ(&self, expected: &Row, actual: &Row) -> Option<usize> {
        let cells = self.columns.iter().zip(expected.iter().zip(actual));
        cells.into_iter().position(|((name, kind), cells)| match cells {
            (None, None) => false,
            (Some(expected), Some(actual)) => !value_matches(name, *kind, expected, actual),
            (None, Some(_)) | (Some(_), None) => true,
        })
    }
}

fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |text| format!("{text:?}"))
}

fn value_matches(column: &str, kind: Kind, expected: &str, actual: &str) -> bool {
    match kind {
        Kind::Text if PADDED_COLUMNS.contains(&column) => {
            expected.trim_end_matches(' ') == actual.trim_end_matches(' ')
        }
        Kind::Text | Kind::Date => expected == actual,
        Kind::Integer | Kind::Decimal => match (Decimal::parse(expected), Decimal::parse(actual)) {
            (Some(expected), Some(actual)) => decimal_matches(expected, actual),
            _ => false,
        },
        Kind::Ratio => ratio_matches(expected, actual),
    }
}

fn decimal_matches(expected: Decimal, actual: Decimal) -> bool {
    if expected.compare(actual) == Some(Ordering::Equal) {
        return true;
    }
    actual.scale >= SCALE_MIN_EXACT
        && actual.scale < expected.scale
        && expected.rounded(actual.scale) == Some(actual)
}

fn ratio_matches(expected: &str, actual: &str) -> bool {
    let (Ok(expected), Ok(value)) = (expected.parse::<f64>(), actual.parse::<f64>()) else {
        return false;
    };
    if (expected - value).abs() <= RATIO_TOLERANCE * expected.abs() {
        return true;
    }
    let Some(decimal) = Decimal::parse(actual) else { return false };
    if decimal.scale < SCALE_MIN_RATIO {
        return false;
    }
    let Ok(scale) = i32::try_from(decimal.scale) else { return false };
    let unit = 10f64.powi(-scale);
    let rounded = (expected / unit).round() * unit;
    // The slack covers the rounding of these very lines.
    (value - rounded).abs() <= unit * 1.000_001
}

/// A decimal number, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    unscaled: i128,
    /// Digits after the point.
    scale: u32,
}

impl Decimal {
    /// Digits with an optional sign and point; neither exponents nor more than 38 digits.
    fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let unscaled = format!("{whole}{fraction}").parse::<i128>().ok()?;
        Some(Self { unscaled: sign * unscaled, scale: u32::try_from(fraction.len()).ok()? })
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        let scale = self.scale.max(other.scale);
        let at_scale =
            |value: Self| 10i128.checked_pow(scale - value.scale)?.checked_mul(value.unscaled);
        Some(at_scale(self)?.cmp(&at_scale(other)?))
    }

    /// Rounded half away from zero to a smaller scale.
    fn rounded(self, scale: u32) -> Option<Self> {
        let divisor = 10i128.checked_pow(self.scale.checked_sub(scale)?)?;
        let half = divisor / 2 * self.unscaled.signum();
        Some(Self { unscaled: self.unscaled.checked_add(half)? / divisor, scale })
    }
}

/// Records of RFC 4180 text with `\n` line ends.
fn csv_records(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut records = Vec::new();
    let mut record = Row::new();
    let mut rest = text;
    while !rest.is_empty() {
        let field;
        (field, rest) = csv_field(rest)?;
        record.push(field);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\n') {
            records.push(std::mem::take(&mut record));
            rest = after;
        } else {
            bail!("a CSV field ends neither with a comma nor with a line");
        }
        if rest.is_empty() && !record.is_empty() {
            bail!("CSV text ends within a record");
        }
    }
    Ok(records)
}

/// The first field and what follows it.
fn csv_field(text: &str) -> anyhow::Result<(Option<String>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).context("CSV text ends within a field")?;
        let field = &text[..end];
        return Ok(((!field.is_empty()).then(|| field.to_owned()), &text[end..]));
    };
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').context("a quoted CSV field has no end")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((Some(field), rest)),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
