//! More string functions: quoting, hashes, SOUNDEX, numbers in other bases.

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, StringViewArray};
use arrow::datatypes::Int32Type;
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use std::fmt::Write as _;
use std::sync::Arc;

use super::row_function::{Compute, Definition, Kind, function, rows};
use crate::error::raise;

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    const T: Kind = Kind::Text;
    const OF_TEXT: [(&str, Kind, Compute); 6] = [
        ("quote_ident", T, |arrays| texts(arrays, quote_identifier)),
        ("quote_literal", T, |arrays| texts(arrays, quote_literal)),
        ("sha1", T, |arrays| texts(arrays, |text| Ok(hex(&Sha1::digest(text.as_bytes()))))),
        ("crc32", T, |arrays| texts(arrays, |text| Ok(format!("{:08x}", crc32c(text.as_bytes()))))),
        ("soundex", T, |arrays| texts(arrays, soundex)),
        ("difference", Kind::Integer, difference),
    ];
    let mut functions: Vec<ScalarUDF> = OF_TEXT
        .into_iter()
        .map(|(name, gives, compute)| {
            let takes: &[&[Kind]] = if name == "difference" { &[&[T, T]] } else { &[&[T]] };
            function(Definition { name, takes, gives, compute })
        })
        .collect();
    functions.push(function(Definition {
        name: "sha2",
        takes: &[&[T, Kind::Integer]],
        gives: T,
        compute: sha2,
    }));
    functions.push(function(Definition {
        name: "strtol",
        takes: &[&[T, Kind::Integer]],
        gives: Kind::BigInt,
        compute: strtol,
    }));
    functions
}

fn texts(arrays: &[ArrayRef], compute: fn(&str) -> Result<String>) -> Result<ArrayRef> {
    let strings = arrays[0].as_string_view();
    let computed = rows(arrays, |row| compute(strings.value(row)))?;
    Ok(Arc::new(computed.into_iter().collect::<StringViewArray>()))
}

/// Words that a name in quotes cannot do without; the most usual of them.
const RESERVED: [&str; 30] = [
    "all", "and", "any", "as", "asc", "case", "check", "column", "create", "default", "desc",
    "distinct", "else", "end", "from", "group", "having", "in", "into", "limit", "not", "null",
    "or", "order", "select", "table", "then", "user", "when", "where",
];

fn quote_identifier(text: &str) -> Result<String> {
    let is_plain = text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain && !RESERVED.contains(&text) {
        return Ok(text.to_owned());
    }
    Ok(format!("\"{}\"", text.replace('"', "\"\"")))
}

fn quote_literal(text: &str) -> Result<String> {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        return Ok(format!("E'{}'", quoted.replace('\\', "\\\\")));
    }
    Ok(format!("'{quoted}'"))
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A string takes whatever is written to it.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn sha2(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let strings = arrays[0].as_string_view();
    let bits = arrays[1].as_primitive::<Int32Type>();
    let hashed = rows(arrays, |row| {
        let bytes = strings.value(row).as_bytes();
        Ok(match bits.value(row) {
            224 => hex(&Sha224::digest(bytes)),
            0 | 256 => hex(&Sha256::digest(bytes)),
            384 => hex(&Sha384::digest(bytes)),
            512 => hex(&Sha512::digest(bytes)),
            _ => String::new(),
        })
    })?;
    Ok(Arc::new(hashed.into_iter().collect::<StringViewArray>()))
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
        })
    })
}

/// The digit of a letter; 0 for vowels and the rest.
fn soundex_digit(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        'B' | 'F' | 'P' | 'V' => '1',
        'C' | 'G' | 'J' | 'K' | 'Q' | 'S' | 'X' | 'Z' => '2',
        'D' | 'T' => '3',
        'L' => '4',
        'M' | 'N' => '5',
        'R' => '6',
        _ => '0',
    }
}

fn soundex(text: &str) -> Result<String> {
    let letters: Vec<char> = text.chars().filter(char::is_ascii_alphabetic).collect();
    let Some(first) = letters.first() else { return Ok(String::new()) };
    let mut code = String::from(first.to_ascii_uppercase());
    let mut last = soundex_digit(*first);
    for letter in &letters[1..] {
        let digit = soundex_digit(*letter);
        if digit != '0' && digit != last {
            code.push(digit);
        }
        // H and W do not separate equal digits.
        if !matches!(letter.to_ascii_uppercase(), 'H' | 'W') {
            last = digit;
        }
        if code.len() == 4 {
            break;
        }
    }
    Ok(format!("{code:0<4}"))
}

/// How many places of two Soundex codes are equal.
fn difference(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let counts = rows(arrays, |row| {
        let (left, right) = (soundex(left.value(row))?, soundex(right.value(row))?);
        let equal = left.chars().zip(right.chars()).filter(|(left, right)| left == right).count();
        Ok(i32::try_from(equal).unwrap_or(4))
    })?;
    Ok(Arc::new(Int32Array::from(counts)))
}

/// A number in a base from 2 to 36, with a sign and for 16 with 0x in front.
fn strtol(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let strings = arrays[0].as_string_view();
    let bases = arrays[1].as_primitive::<Int32Type>();
    let numbers = rows(arrays, |row| {
        let base = u32::try_from(bases.value(row)).ok().filter(|base| (2..=36).contains(base));
        let Some(base) = base else {
            return Err(raise("22023", format!("invalid base {}", bases.value(row))));
        };
        let text = strings.value(row).trim();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let prefix = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let digits = if base == 16 { prefix.unwrap_or(digits) } else { digits };
        i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|_| {
            raise("22P02", format!("the input {text} is not valid to be converted to base {base}"))
        })
    })?;
    Ok(Arc::new(Int64Array::from(numbers)))
}
