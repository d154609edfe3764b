//! The small native predicate that a scan evaluates on encoded data, and prunes zones with. The
//! compute crate translates what it can of a query's conjuncts into these; the rest it evaluates
//! on decoded rows.

/// A constant of the column's own type. Integers stand for all of SMALLINT to BIGINT, DATE (days),
/// TIME and TIMESTAMP (microseconds; TIMETZ nanoseconds) and BOOLEAN (0, 1); decimals are unscaled
/// at the column's scale.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// Whole numbers, dates, times, booleans.
    Int(i64),
    /// Decimals, unscaled, at the scale of the column.
    Decimal(i128),
    /// REAL and DOUBLE PRECISION.
    Float(f64),
    /// CHAR and VARCHAR.
    Text(String),
}

/// A comparison with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A condition on one column. A row passes when it is true; false and unknown (NULL) both fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// `column <op> constant`
    Compare(Comparison, Constant),
    /// `column BETWEEN low AND high`, both ends included.
    Between(Constant, Constant),
    /// `column IN (constants)`; the constants hold no NULL.
    In(Vec<Constant>),
    /// `column NOT IN (constants)`; the constants hold no NULL.
    NotIn(Vec<Constant>),
    /// `column LIKE pattern` with `%` and `_`, escape character `\`.
    Like(String),
    /// `column NOT LIKE pattern`.
    NotLike(String),
    /// `column IS NULL`
    IsNull,
    /// `column IS NOT NULL`
    IsNotNull,
}

/// A condition on a column, by its position in the table's schema. A scan takes a list of them: a
/// conjunction.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// Position in [`crate::schema::TableSchema::columns`].
    pub column: usize,
    /// What the column must fulfil.
    pub condition: Condition,
}
