//! Functions of real numbers that have no value everywhere: outside their domain, and beyond the
//! range of a DOUBLE, they are errors as in Postgres, where DataFusion's give NaN or infinity.

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

use super::row_function::{Compute, Definition, Kind, function, rows};
use crate::error::raise;

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    const UNARY: [(&str, Compute); 7] = [
        ("ln", |arrays| unary(arrays, ln)),
        ("log", |arrays| unary(arrays, log10)),
        ("log10", |arrays| unary(arrays, log10)),
        ("sqrt", |arrays| unary(arrays, sqrt)),
        ("exp", |arrays| unary(arrays, exp)),
        ("acos", |arrays| unary(arrays, acos)),
        ("asin", |arrays| unary(arrays, asin)),
    ];
    let mut functions: Vec<ScalarUDF> = UNARY
        .into_iter()
        .map(|(name, compute)| {
            function(Definition { name, takes: &[&[Kind::Double]], gives: Kind::Double, compute })
        })
        .collect();
    functions.push(function(Definition {
        name: "power",
        takes: &[&[Kind::Double, Kind::Double]],
        gives: Kind::Double,
        compute: |arrays| {
            let (bases, exponents) =
                (arrays[0].as_primitive::<Float64Type>(), arrays[1].as_primitive::<Float64Type>());
            let values = rows(arrays, |row| power(bases.value(row), exponents.value(row)))?;
            Ok(Arc::new(Float64Array::from(values)))
        },
    }));
    functions
}

fn unary(arrays: &[ArrayRef], compute: fn(f64) -> Result<f64>) -> Result<ArrayRef> {
    let values = arrays[0].as_primitive::<Float64Type>();
    let computed = rows(arrays, |row| compute(values.value(row)))?;
    Ok(Arc::new(Float64Array::from(computed)))
}

fn logarithm_error(value: f64) -> DataFusionError {
    let of = if value == 0.0 { "zero" } else { "a negative number" };
    raise("2201E", format!("cannot take logarithm of {of}"))
}

fn ln(value: f64) -> Result<f64> {
    if value <= 0.0 { Err(logarithm_error(value)) } else { Ok(value.ln()) }
}

fn log10(value: f64) -> Result<f64> {
    if value <= 0.0 { Err(logarithm_error(value)) } else { Ok(value.log10()) }
}

fn sqrt(value: f64) -> Result<f64> {
    if value < 0.0 {
        return Err(raise("2201F", "cannot take square root of a negative number"));
    }
    Ok(value.sqrt())
}

fn exp(value: f64) -> Result<f64> {
    in_range(value.exp(), value.is_infinite(), value == f64::NEG_INFINITY)
}

fn acos(value: f64) -> Result<f64> {
    inverse(value, f64::acos)
}

fn asin(value: f64) -> Result<f64> {
    inverse(value, f64::asin)
}

fn inverse(value: f64, compute: fn(f64) -> f64) -> Result<f64> {
    if value.abs() > 1.0 {
        return Err(raise("22003", "input is out of range"));
    }
    Ok(compute(value))
}

fn power(base: f64, exponent: f64) -> Result<f64> {
    if base == 0.0 && exponent < 0.0 {
        return Err(raise("2201F", "zero raised to a negative power is undefined"));
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(raise(
            "2201F",
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let is_infinite = base.is_infinite() || exponent.is_infinite();
    in_range(base.powf(exponent), is_infinite, base == 0.0 || is_infinite)
}

/// A result may be infinite or zero only for a reason other than its size.
fn in_range(result: f64, may_be_infinite: bool, may_be_zero: bool) -> Result<f64> {
    if result.is_infinite() && !may_be_infinite {
        return Err(raise("22003", "value out of range: overflow"));
    }
    if result == 0.0 && !may_be_zero {
        return Err(raise("22003", "value out of range: underflow"));
    }
    Ok(result)
}
