//! The functions of bound plans: ours, and those of DataFusion that mean the same in Redshift.
//!
//! [`functions()`] must be registered wherever plans run; names decide which function a node runs.

mod arithmetic;
mod average;
mod average_of;
mod blanks;
mod calendar;
mod cast;
mod datetime;
mod decimal;
mod distinct;
mod format;
mod integer;
mod interval;
mod json;
mod math;
mod negate;
mod notation;
mod operand;
mod parse_value;
mod percentile;
mod regular_expression;
mod rounding;
mod row_function;
mod single_value;
mod strings;
mod sum;
mod text;
mod time_zone;
mod undefined;
mod write_value;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

pub(crate) use arithmetic::{Arithmetic, is_arithmetic, operator_symbol};
pub(crate) use blanks::NAME as BLANK_STRIPPED;
pub(crate) use cast::NAME as CAST;
pub(crate) use cast::{CastMode, UTC, cast_call, cast_constant, cast_value, is_castable};
pub(crate) use datetime::{DATE_PART, DATE_TRUNC, EXTRACT, part_microseconds};
pub(crate) use decimal::tightest;
pub(crate) use format::{TO_CHAR, TO_TIMESTAMP};
pub use notation::{Notation, notation};
pub(crate) use percentile::{CONTINUOUS, DISCRETE};
pub(crate) use regular_expression::{LIKE_ESCAPE, MATCHES, SIMILAR_TO};
pub(crate) use time_zone::NAME as TIMEZONE;
pub(crate) use undefined::undefined;

/// DataFusion's scalar functions whose results are those of Redshift.
const SHARED_SCALAR: [&str; 29] = [
    "ascii",
    "atan",
    "atan2",
    "btrim",
    "cbrt",
    "character_length",
    "chr",
    "coalesce",
    "cos",
    "cot",
    "degrees",
    "greatest",
    "initcap",
    "least",
    "left",
    "lower",
    "ltrim",
    "md5",
    "nullif",
    "octet_length",
    "pi",
    "radians",
    "random",
    "reverse",
    "right",
    "rtrim",
    "signum",
    "sin",
    "split_part",
];
/// More of them.
const SHARED_SCALAR_MORE: [&str; 7] =
    ["strpos", "substr", "tan", "to_hex", "translate", "upper", "concat"];
/// DataFusion's aggregates whose results are those of Redshift.
const SHARED_AGGREGATE: [&str; 15] = [
    "array_agg",
    "bit_and",
    "bit_or",
    "bool_and",
    "bool_or",
    "count",
    "max",
    "min",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
    "first_value",
    "grouping",
    "string_agg",
];
/// DataFusion's window functions whose results are those of Redshift.
const SHARED_WINDOW: [&str; 11] = [
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];
/// Redshift's names for them.
const ALIASES: [(&str, &str); 21] = [
    ("len", "character_length"),
    ("length", "character_length"),
    ("char_length", "character_length"),
    ("textlen", "character_length"),
    ("ceiling", "ceil"),
    ("sign", "signum"),
    ("position", "strpos"),
    ("substring", "substr"),
    ("trim", "btrim"),
    ("replicate", "repeat"),
    ("stddev_samp", "stddev"),
    ("var_samp", "var"),
    ("variance", "var"),
    ("any_value", "first_value"),
    ("listagg", "string_agg"),
    ("pow", "power"),
    ("func_md5", "md5"),
    ("sha", "sha1"),
    ("func_sha1", "sha1"),
    ("to_char_hex", "to_hex"),
    ("date_add", "dateadd"),
];

/// Every function that a plan may hold: DataFusion's, with ours in place of those that wrap, have no
/// bound or mean something else. Nodes that run plans register them all.
pub struct Functions {
    /// Scalar functions.
    pub scalar: Vec<Arc<ScalarUDF>>,
    /// Aggregate functions.
    pub aggregate: Vec<Arc<AggregateUDF>>,
    /// Window functions.
    pub window: Vec<Arc<WindowUDF>>,
}

/// All functions, for a node that runs plans.
pub fn functions() -> Functions {
    let registry = registry();
    let is_own = |name: &str| registry.own_scalar.iter().any(|own| own.name() == name);
    let is_own_aggregate = |name: &str| registry.own_aggregate.iter().any(|own| own.name() == name);
    let mut scalar = SessionStateDefaults::default_scalar_functions();
    scalar.retain(|function| !is_own(function.name()));
    scalar.extend(registry.own_scalar.iter().cloned());
    let mut aggregate = SessionStateDefaults::default_aggregate_functions();
    aggregate.retain(|function| !is_own_aggregate(function.name()));
    aggregate.extend(registry.own_aggregate.iter().cloned());
    Functions { scalar, aggregate, window: SessionStateDefaults::default_window_functions() }
}

/// The functions that a text may name.
pub(crate) struct Registry {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    own_scalar: Vec<Arc<ScalarUDF>>,
    own_aggregate: Vec<Arc<AggregateUDF>>,
}

impl Registry {
    /// The scalar function of a name in lower case.
    pub(crate) fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(resolve(name)).cloned()
    }

    /// The aggregate function of a name in lower case.
    pub(crate) fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate.get(resolve(name)).cloned()
    }

    /// Whether any function has that name in lower case.
    pub(crate) fn knows(&self, name: &str) -> bool {
        let name = resolve(name);
        self.scalar.contains_key(name)
            || self.aggregate.contains_key(name)
            || self.window.contains_key(name)
    }

    /// The window function of a name in lower case.
    pub(crate) fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.window.get(resolve(name)).cloned()
    }
}

fn resolve(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, target)| target)
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(build);

/// The registry, built once.
pub(crate) fn registry() -> &'static Registry {
    &REGISTRY
}

fn build() -> Registry {
    let own_scalar: Vec<Arc<ScalarUDF>> = [
        arithmetic::functions(),
        vec![
            cast::function(),
            blanks::function(),
            average_of::function(),
            single_value::only_function(),
        ],
        negate::functions(),
        text::functions(),
        datetime::functions(),
        calendar::functions(),
        time_zone::functions(),
        format::functions(),
        regular_expression::functions(),
        math::functions(),
        rounding::functions(),
        json::functions(),
        strings::functions(),
        interval::functions(),
    ]
    .into_iter()
    .flatten()
    .map(Arc::new)
    .collect();
    let own_aggregate: Vec<Arc<AggregateUDF>> = [
        sum::function(),
        average::function(),
        single_value::function(),
        single_value::few_function(),
    ]
    .into_iter()
    .chain(percentile::functions())
    .map(Arc::new)
    .collect();
    let mut functions = Registry {
        scalar: HashMap::new(),
        aggregate: HashMap::new(),
        window: HashMap::new(),
        own_scalar,
        own_aggregate,
    };
    for function in SessionStateDefaults::default_scalar_functions() {
        let shared = SHARED_SCALAR.contains(&function.name())
            || SHARED_SCALAR_MORE.contains(&function.name());
        if shared {
            functions.scalar.insert(function.name().to_owned(), function);
        }
    }
    for function in SessionStateDefaults::default_aggregate_functions() {
        if SHARED_AGGREGATE.contains(&function.name()) {
            functions.aggregate.insert(function.name().to_owned(), function);
        }
    }
    for function in SessionStateDefaults::default_window_functions() {
        if SHARED_WINDOW.contains(&function.name()) {
            functions.window.insert(function.name().to_owned(), function);
        }
    }
    for function in &functions.own_scalar {
        functions.scalar.insert(function.name().to_owned(), Arc::clone(function));
    }
    for function in &functions.own_aggregate {
        functions.aggregate.insert(function.name().to_owned(), Arc::clone(function));
    }
    functions
}

/// A function of ours by its name.
pub(crate) fn own(name: &str) -> Arc<ScalarUDF> {
    #[expect(clippy::expect_used, reason = "every caller names a function of this registry")]
    registry().scalar(name).expect("our own functions are in the registry")
}

/// The checked function of an operator.
pub(crate) fn arithmetic(operation: Arithmetic) -> Arc<ScalarUDF> {
    own(operation.name())
}

/// Unary minus.
pub(crate) fn negate() -> Arc<ScalarUDF> {
    own(negate::NAME)
}

/// The quotient of a SUM and a COUNT.
pub(crate) fn average_of() -> Arc<ScalarUDF> {
    own(average_of::NAME)
}

/// The operator ||.
pub(crate) fn concatenate() -> Arc<ScalarUDF> {
    own(text::CONCATENATE)
}

/// EXTRACT.
pub(crate) fn extract() -> Arc<ScalarUDF> {
    own(EXTRACT)
}

/// Intervals as they are compared.
pub(crate) fn comparable_interval() -> Arc<ScalarUDF> {
    own(interval::COMPARABLE)
}

/// Strings as they are compared.
pub(crate) fn blank_stripped() -> Arc<ScalarUDF> {
    own(BLANK_STRIPPED)
}

/// The aggregate that keeps up to two values, for [`only_value`].
pub(crate) fn few_values() -> Arc<AggregateUDF> {
    aggregate(single_value::FEW)
}

/// The value of a list of one, which fails on a list of more.
pub(crate) fn only_value() -> Arc<ScalarUDF> {
    own(single_value::ONLY)
}

/// The aggregate that fails on a second row.
pub(crate) fn single_value() -> Arc<AggregateUDF> {
    aggregate(single_value::NAME)
}

/// MIN.
pub(crate) fn min() -> Arc<AggregateUDF> {
    aggregate("min")
}

/// SUM.
pub(crate) fn sum() -> Arc<AggregateUDF> {
    aggregate("sum")
}

/// COUNT.
pub(crate) fn count() -> Arc<AggregateUDF> {
    aggregate("count")
}

fn aggregate(name: &str) -> Arc<AggregateUDF> {
    #[expect(clippy::expect_used, reason = "every caller names a function of this registry")]
    registry().aggregate(name).expect("our own functions are in the registry")
}
