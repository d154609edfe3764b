//! Numbers in the text and binary forms of Postgres.

use std::io::Write;

use bytes::{BufMut, BytesMut};

use crate::pgwire::datetime::put_unsigned;

/// Digits that are split off at once: the most that surely fit 64 bits.
const CHUNK: u128 = 1_000_000_000_000_000_000;
const CHUNK_DIGITS: usize = 18;
/// The digits of the largest 128-bit integer.
const DIGITS_MAX: usize = 39;
/// Base and digits of one place of a binary numeric.
const PLACE: u128 = 10_000;
const PLACE_DIGITS: u32 = 4;

/// Appends the shortest text that reads back as the same value.
pub(crate) fn put_float64(out: &mut BytesMut, value: f64) {
    put_float(out, value, 15);
}

/// Appends the shortest text that reads back as the same value.
pub(crate) fn put_float32(out: &mut BytesMut, value: f32) {
    let mut text = [0; 40];
    match finite_text(&mut text, value.is_nan(), value.is_infinite(), value < 0.0, &value) {
        Ok(length) => put_scientific(out, &text[..length], 6),
        Err(special) => out.put_slice(special),
    }
}

fn put_float(out: &mut BytesMut, value: f64, fixed_exponent_end: i32) {
    let mut text = [0; 40];
    match finite_text(&mut text, value.is_nan(), value.is_infinite(), value < 0.0, &value) {
        Ok(length) => put_scientific(out, &text[..length], fixed_exponent_end),
        Err(special) => out.put_slice(special),
    }
}

/// Writes `d.ddde+-x` into a buffer and returns its length; or the word for what is not finite.
fn finite_text(
    text: &mut [u8; 40],
    is_nan: bool,
    is_infinite: bool,
    is_negative: bool,
    value: &impl std::fmt::LowerExp,
) -> Result<usize, &'static [u8]> {
    if is_nan {
        return Err(b"NaN");
    }
    if is_infinite {
        return Err(if is_negative { b"-Infinity" } else { b"Infinity" });
    }
    let mut rest = &mut text[..];
    write!(rest, "{value:e}").expect("a float has at most 17 digits and an exponent");
    let left = rest.len();
    Ok(40 - left)
}

/// Lays `d.ddde+-x` out as C's `%g` does: fixed from 1e-4 up to the given exponent.
fn put_scientific(out: &mut BytesMut, text: &[u8], fixed_exponent_end: i32) {
    let (text, negative) = match text.strip_prefix(b"-") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let split = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let exponent = std::str::from_utf8(&text[(split + 1).min(text.len())..])
        .ok()
        .and_then(|exponent| exponent.parse::<i32>().ok())
        .unwrap_or(0);
    let (first, others) = (&text[..1], &text[2.min(split)..split]);
    if negative {
        out.put_u8(b'-');
    }
    if !(-4..fixed_exponent_end).contains(&exponent) {
        out.put_slice(first);
        if !others.is_empty() {
            out.put_u8(b'.');
            out.put_slice(others);
        }
        out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.unsigned_abs() < 10 {
            out.put_u8(b'0');
        }
        put_unsigned(out, exponent.unsigned_abs().into());
        return;
    }
    match usize::try_from(exponent) {
        Err(_) => {
            out.put_slice(b"0.");
            out.put_bytes(b'0', exponent.unsigned_abs() as usize - 1);
            out.put_slice(first);
            out.put_slice(others);
        }
        Ok(exponent) => {
            let integer = others.len().min(exponent);
            out.put_slice(first);
            out.put_slice(&others[..integer]);
            out.put_bytes(b'0', exponent - integer);
            if others.len() > integer {
                out.put_u8(b'.');
                out.put_slice(&others[integer..]);
            }
        }
    }
}

/// Appends an exact decimal with `scale` digits after the point.
pub(crate) fn put_decimal(out: &mut BytesMut, value: i128, scale: i8) {
    if value < 0 {
        out.put_u8(b'-');
    }
    let mut digits = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        let chunk_end = start;
        let mut chunk = (rest % CHUNK) as u64;
        rest /= CHUNK;
        while chunk > 0 {
            start -= 1;
            digits[start] = b'0' + (chunk % 10) as u8;
            chunk /= 10;
        }
        if rest > 0 {
            // Zeros at the head of a chunk count when other digits stand before them.
            start = chunk_end - CHUNK_DIGITS;
        }
    }
    let scale_digits = usize::try_from(scale).unwrap_or(0);
    let digits = &digits[start..];
    if digits.len() > scale_digits {
        let (integer, fraction) = digits.split_at(digits.len() - scale_digits);
        out.put_slice(integer);
        if scale < 0 {
            out.put_bytes(b'0', scale.unsigned_abs().into());
        }
        if !fraction.is_empty() {
            out.put_u8(b'.');
            out.put_slice(fraction);
        }
    } else {
        out.put_u8(b'0');
        if scale_digits > 0 {
            out.put_u8(b'.');
            out.put_bytes(b'0', scale_digits - digits.len());
            out.put_slice(digits);
        }
    }
}

/// Appends a numeric in Postgres' binary form: places of base 10,000 around the point.
pub(crate) fn put_decimal_binary(out: &mut BytesMut, value: i128, scale: i8) {
    // Least significant place first. 39 digits, 127 zeros of a negative scale, a split place.
    let mut places = [0_u16; 48];
    let mut count = 0;
    let mut push = |place: u128| {
        // A remainder by 10,000 fits.
        places[count] = place as u16;
        count += 1;
    };
    let mut rest = value.unsigned_abs();
    let scale_digits = u32::from(scale.max(0).unsigned_abs());
    let odd = scale_digits % PLACE_DIGITS;
    if odd > 0 {
        // The last place of the fraction has fewer digits of ours, at its head.
        let unit = 10_u128.pow(odd);
        push(rest % unit * 10_u128.pow(PLACE_DIGITS - odd));
        rest /= unit;
    }
    let fraction_places = scale_digits.div_ceil(PLACE_DIGITS) as i32;
    let zeros = u32::from(scale.min(0).unsigned_abs());
    for _ in 0..zeros / PLACE_DIGITS {
        push(0);
    }
    let odd_zeros = zeros % PLACE_DIGITS;
    if odd_zeros > 0 {
        let unit = 10_u128.pow(PLACE_DIGITS - odd_zeros);
        push(rest % unit * 10_u128.pow(odd_zeros));
        rest /= unit;
    }
    while rest > 0 {
        push(rest % PLACE);
        rest /= PLACE;
    }
    let places = &places[..count];
    let low = places.iter().position(|place| *place != 0).unwrap_or(count);
    let high = places.iter().rposition(|place| *place != 0).map_or(low, |last| last + 1);
    let used = &places[low..high];
    let weight = if used.is_empty() { 0 } else { high as i32 - 1 - fraction_places };
    out.put_i16(used.len() as i16);
    out.put_i16(weight as i16);
    out.put_u16(if value < 0 { 0x4000 } else { 0 });
    out.put_i16(scale.max(0).into());
    for place in used.iter().rev() {
        out.put_u16(*place);
    }
}

/// An exact decimal: `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) mantissa: i128,
    pub(crate) scale: i32,
}

impl Decimal {
    /// Reads `[+-]digits[.digits][e[+-]digits]`.
    ///
    /// # Errors
    /// [`DecimalError`].
    pub(crate) fn parse(text: &str) -> Result<Self, DecimalError> {
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => {
                (number, exponent.parse::<i32>().map_err(|_| DecimalError::Syntax)?)
            }
            None => (text, 0),
        };
        let negative = number.starts_with('-');
        let number = number.strip_prefix(['+', '-']).unwrap_or(number);
        let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = integer.bytes().chain(fraction.bytes());
        if integer.is_empty() && fraction.is_empty()
            || !digits.clone().all(|byte| byte.is_ascii_digit())
            || exponent.unsigned_abs() > 1000
        {
            return Err(DecimalError::Syntax);
        }
        let mut mantissa: i128 = 0;
        for digit in digits {
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|mantissa| mantissa.checked_add(i128::from(digit - b'0')))
                .ok_or(DecimalError::Overflow)?;
        }
        let fraction = i32::try_from(fraction.len()).map_err(|_| DecimalError::Overflow)?;
        let mantissa = if negative { -mantissa } else { mantissa };
        Ok(Self { mantissa, scale: fraction - exponent })
    }

    /// Reads Postgres' binary form.
    ///
    /// # Errors
    /// [`DecimalError`].
    pub(crate) fn parse_binary(bytes: &[u8]) -> Result<Self, DecimalError> {
        let mut words = bytes.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
        let mut word = || words.next().ok_or(DecimalError::Syntax);
        let (count, weight, sign, scale) = (word()?, word()?, word()?, word()?);
        if bytes.len() != 8 + 2 * usize::from(count) || scale > 0x3fff {
            return Err(DecimalError::Syntax);
        }
        let after_point = i32::from(count) - 1 - i32::from(weight.cast_signed());
        let places_scale = after_point * PLACE_DIGITS.cast_signed();
        // The last place may have fewer digits than four before the value's scale is reached; the
        // zeros behind them could overflow.
        let padding =
            u32::try_from(places_scale - i32::from(scale)).ok().filter(|zeros| *zeros < 4);
        let mut mantissa: i128 = 0;
        for (index, place) in words.enumerate() {
            if u128::from(place) >= PLACE {
                return Err(DecimalError::Syntax);
            }
            let is_last = index + 1 == usize::from(count);
            let unit = 10_i128.pow(padding.filter(|_| is_last).unwrap_or(0));
            mantissa = mantissa
                .checked_mul(PLACE.cast_signed() / unit)
                .and_then(|mantissa| mantissa.checked_add(i128::from(place) / unit))
                .ok_or(DecimalError::Overflow)?;
        }
        let read = padding.map_or(places_scale, |_| scale.into());
        let decimal = Self { mantissa, scale: read };
        let decimal = Self { mantissa: decimal.rescaled(scale.into())?, scale: scale.into() };
        match sign {
            0 => Ok(decimal),
            0x4000 => Ok(Self { mantissa: -decimal.mantissa, ..decimal }),
            // NaN and the infinities, which no DECIMAL column can hold.
            0xC000 | 0xD000 | 0xF000 => Err(DecimalError::Overflow),
            _ => Err(DecimalError::Syntax),
        }
    }

    /// The mantissa at another scale, rounded half away from zero.
    ///
    /// # Errors
    /// [`DecimalError::Overflow`].
    pub(crate) fn rescaled(self, scale: i32) -> Result<i128, DecimalError> {
        let shift = scale.saturating_sub(self.scale);
        let power = 10_i128.checked_pow(shift.unsigned_abs());
        match power {
            _ if self.mantissa == 0 => Ok(0),
            Some(power) if shift >= 0 => {
                self.mantissa.checked_mul(power).ok_or(DecimalError::Overflow)
            }
            Some(power) => {
                let (quotient, remainder) = (self.mantissa / power, self.mantissa % power);
                let away = remainder.unsigned_abs() >= power.unsigned_abs().div_ceil(2);
                Ok(quotient + if away { self.mantissa.signum() } else { 0 })
            }
            None if shift >= 0 => Err(DecimalError::Overflow),
            // Less than half a unit of the last place.
            None => Ok(0),
        }
    }
}

/// Why a text or bytes are no decimal of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecimalError {
    Syntax,
    Overflow,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_look_as_in_postgres() {
        // The right-hand sides are what PostgreSQL 15 prints.
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.234e100, "1.234e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, text) in cases {
            let mut out = BytesMut::new();
            put_float64(&mut out, value);
            assert_eq!(out, text.as_bytes());
        }
        let mut out = BytesMut::new();
        put_float32(&mut out, 1e6);
        assert_eq!(&out[..], b"1e+06");
    }

    #[test]
    fn decimals_keep_every_digit() {
        let check = |value: i128, scale, text: &str| {
            let mut out = BytesMut::new();
            put_decimal(&mut out, value, scale);
            assert_eq!(out, text.as_bytes());
        };
        check(0, 2, "0.00");
        check(-5, 2, "-0.05");
        check(12345, 2, "123.45");
        check(100, 2, "1.00");
        check(7, 0, "7");
        check(7, -2, "700");
        check(10_i128.pow(37), 0, &format!("1{}", "0".repeat(37)));
        check(i128::MAX, 0, "170141183460469231731687303715884105727");
    }

    proptest! {
        #[test]
        fn decimal_text_reads_back(value in any::<i128>(), scale in 0_i8..=38) {
            let mut out = BytesMut::new();
            put_decimal(&mut out, value, scale);
            let text = std::str::from_utf8(&out).unwrap();
            let back = Decimal::parse(text);
            prop_assert_eq!(back, Ok(Decimal { mantissa: value, scale: scale.into() }));
        }

        #[test]
        fn decimal_binary_reads_back(value in -10_i128.pow(37)..10_i128.pow(37), scale in 0_i8..=37) {
            let mut out = BytesMut::new();
            put_decimal_binary(&mut out, value, scale);
            let back = Decimal::parse_binary(&out);
            prop_assert_eq!(back, Ok(Decimal { mantissa: value, scale: scale.into() }));
        }
    }
}
