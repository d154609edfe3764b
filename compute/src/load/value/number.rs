//! Integers, decimals, floats and booleans from text. A decimal with more digits after the point
//! than its column is cut, as COPY does it, or rounded when asked; one that is too large is a
//! fault.

use super::super::error::{ErrorCode, Fault};

/// An integer between `low` and `high`. `type_label` is the name that the fault shows.
pub(in super::super) fn integer(
    field: &[u8],
    low: i64,
    high: i64,
    type_label: &str,
) -> Result<i64, Fault> {
    let (negative, digits) = split_sign(field);
    if digits.is_empty() {
        return Err(invalid_digit(
            field,
            field.len().saturating_sub(1),
            type_label,
            ErrorCode::Digit,
        ));
    }
    let mut magnitude: u64 = 0;
    let mut overflow = false;
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let at = at + field.len() - digits.len();
            return Err(invalid_digit(field, at, type_label, ErrorCode::Digit));
        }
        match magnitude.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit))) {
            Some(value) => magnitude = value,
            None => overflow = true,
        }
    }
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    match i64::try_from(signed) {
        Ok(value) if !overflow && (low..=high).contains(&value) => Ok(value),
        _ => Err(Fault::new(
            ErrorCode::IntegerOverflow,
            format!("Overflow, Column type: {type_label}"),
        )),
    }
}

/// The unscaled value of a decimal at `scale` with at most `precision` digits.
pub(in super::super) fn decimal(
    field: &[u8],
    precision: u8,
    scale: u8,
    round: bool,
) -> Result<i128, Fault> {
    let (negative, digits) = split_sign(field);
    if let Some(value) = short_decimal(digits, precision, scale) {
        return Ok(i128::from(if negative { -value } else { value }));
    }
    let start = field.len() - digits.len();
    let bad = |at: usize| Err(invalid_digit(field, start + at, "Decimal", ErrorCode::Decimal));
    let overflow =
        || Fault::new(ErrorCode::OutOfRange, "Numeric Overflow. Value exceeds limit".to_owned());
    let mut value: i128 = 0;
    let mut point = None;
    let mut digit_count = 0_usize;
    let mut fraction_digits = 0_u8;
    let mut first_dropped = None;
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            if *byte != b'.' || point.is_some() {
                return bad(at);
            }
            point = Some(at);
            continue;
        }
        digit_count += 1;
        if point.is_some() {
            if fraction_digits == scale {
                first_dropped.get_or_insert(digit);
                continue;
            }
            fraction_digits += 1;
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit)))
            .ok_or_else(overflow)?;
    }
    if digit_count == 0 {
        return bad(digits.len().saturating_sub(1));
    }
    let missing = u32::from(scale - fraction_digits);
    value = value.checked_mul(10_i128.pow(missing)).ok_or_else(overflow)?;
    if round && first_dropped.is_some_and(|digit| digit >= 5) {
        value = value.checked_add(1).ok_or_else(overflow)?;
    }
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err(overflow());
    }
    Ok(if negative { -value } else { value })
}

/// The common decimal: few digits, none too many after the point. None for anything else.
fn short_decimal(digits: &[u8], precision: u8, scale: u8) -> Option<i64> {
    const DIGITS_MAX: usize = 18;
    if digits.len() > DIGITS_MAX || scale as usize > DIGITS_MAX {
        return None;
    }
    let mut value = 0_i64;
    let mut point = None;
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + i64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let fraction_digits = point.map_or(0, |at| digits.len() - at - 1);
    let whole_digits = digits.len() - fraction_digits - usize::from(point.is_some());
    let missing = (scale as usize).checked_sub(fraction_digits)?;
    let fits = whole_digits + scale as usize <= DIGITS_MAX.min(precision as usize);
    (fits && whole_digits + fraction_digits > 0).then(|| value * 10_i64.pow(missing as u32))
}

/// A double, `nan` and infinities by name.
pub(in super::super) fn double(field: &[u8]) -> Result<f64, Fault> {
    let value: f64 = float_text(field)?.parse().map_err(|_| invalid_float(field))?;
    if value.is_infinite() && !names_infinity(field) {
        return Err(float_overflow());
    }
    Ok(value)
}

/// A single-precision float, `nan` and infinities by name.
pub(in super::super) fn real(field: &[u8]) -> Result<f32, Fault> {
    let value: f32 = float_text(field)?.parse().map_err(|_| invalid_float(field))?;
    if value.is_infinite() && !names_infinity(field) {
        return Err(float_overflow());
    }
    Ok(value)
}

/// A boolean literal of SQL.
pub(in super::super) fn boolean(field: &[u8]) -> Result<bool, Fault> {
    let is = |word: &str| field.eq_ignore_ascii_case(word.as_bytes());
    match field {
        [b't' | b'T' | b'y' | b'Y' | b'1'] => Ok(true),
        [b'f' | b'F' | b'n' | b'N' | b'0'] => Ok(false),
        _ if is("true") || is("yes") => Ok(true),
        _ if is("false") || is("no") => Ok(false),
        _ => Err(Fault::new(ErrorCode::Boolean, "Unknown boolean format")),
    }
}

fn split_sign(field: &[u8]) -> (bool, &[u8]) {
    match field {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, field),
    }
}

fn invalid_digit(field: &[u8], at: usize, type_label: &str, code: ErrorCode) -> Fault {
    let text = String::from_utf8_lossy(&field[at.min(field.len())..]);
    let shown = text.chars().next().unwrap_or(' ');
    Fault::new(code, format!("Invalid digit, Value '{shown}', Pos {at}, Type: {type_label}"))
}

fn float_text(field: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(field).map_err(|_| invalid_float(field))
}

fn names_infinity(field: &[u8]) -> bool {
    field.iter().any(|byte| byte.eq_ignore_ascii_case(&b'n'))
}

fn invalid_float(field: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(&field[..field.len().min(40)]).into_owned();
    Fault::new(ErrorCode::Float, format!("Invalid floating point value {text}"))
}

fn float_overflow() -> Fault {
    Fault::new(ErrorCode::OutOfRange, "Overflow, Column type: Float")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(text: &str) -> Result<i64, String> {
        integer(text.as_bytes(), i64::MIN, i64::MAX, "Long").map_err(|fault| fault.reason)
    }

    #[test]
    fn integers() {
        assert_eq!(long("0"), Ok(0));
        assert_eq!(long("+7"), Ok(7));
        assert_eq!(long("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(long("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(long("00000000000000000000000000012"), Ok(12));
        let overflow = Err("Overflow, Column type: Long".to_owned());
        assert_eq!(long("9223372036854775808"), overflow);
        assert_eq!(long("99999999999999999999999999"), overflow);
        assert_eq!(long("12a4"), Err("Invalid digit, Value 'a', Pos 2, Type: Long".to_owned()));
        assert_eq!(
            long("-\u{e9}"),
            Err("Invalid digit, Value '\u{e9}', Pos 1, Type: Long".to_owned())
        );
        assert!(long("-").is_err() && long("1.0").is_err() && long("1 2").is_err());
        let short = |text: &str| integer(text.as_bytes(), -32768, 32767, "Short");
        assert_eq!(short("-32768").unwrap(), -32768);
        assert_eq!(short("32768").unwrap_err().code, ErrorCode::IntegerOverflow);
    }

    #[test]
    fn decimals() {
        let cut = |text: &str, p, s| decimal(text.as_bytes(), p, s, false).map_err(|f| f.code);
        assert_eq!(cut("12.3", 5, 2), Ok(1230));
        assert_eq!(cut("-.5", 5, 2), Ok(-50));
        assert_eq!(cut("7.", 5, 2), Ok(700));
        assert_eq!(cut("20.259", 8, 2), Ok(2025));
        assert_eq!(cut("-20.259", 8, 2), Ok(-2025));
        assert_eq!(cut("1000", 5, 2), Err(ErrorCode::OutOfRange));
        assert_eq!(cut("999.999", 5, 2), Ok(99999));
        let nines = "9".repeat(38);
        assert_eq!(cut(&nines, 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(cut(&format!("{nines}9"), 38, 0), Err(ErrorCode::OutOfRange));
        assert_eq!(cut(&format!("0.{nines}{nines}"), 38, 37), Ok(10_i128.pow(37) - 1));
        for bad in [".", "-", "1.2.3", "1e5", "1,5", "--1"] {
            assert_eq!(cut(bad, 10, 2), Err(ErrorCode::Decimal), "{bad}");
        }
        let round = |text: &str| decimal(text.as_bytes(), 5, 2, true).map_err(|f| f.code);
        assert_eq!(round("20.255"), Ok(2026));
        assert_eq!(round("-20.255"), Ok(-2026));
        assert_eq!(round("20.2549"), Ok(2025));
        assert_eq!(round("999.995"), Err(ErrorCode::OutOfRange));
    }

    #[test]
    fn floats_and_booleans() {
        assert_eq!(double(b"1.5e3").unwrap(), 1500.0);
        assert!(double(b"NaN").unwrap().is_nan());
        assert_eq!(double(b"-Infinity").unwrap(), f64::NEG_INFINITY);
        assert_eq!(double(b"1e999").unwrap_err().code, ErrorCode::OutOfRange);
        assert_eq!(real(b"1e39").unwrap_err().code, ErrorCode::OutOfRange);
        assert_eq!(double(b"1.5x").unwrap_err().code, ErrorCode::Float);
        for text in ["t", "TRUE", "y", "Yes", "1"] {
            assert!(boolean(text.as_bytes()).unwrap());
        }
        for text in ["f", "False", "N", "no", "0"] {
            assert!(!boolean(text.as_bytes()).unwrap());
        }
        assert_eq!(boolean(b"2").unwrap_err().code, ErrorCode::Boolean);
    }
}
