//! JSON in strings: JSON_EXTRACT_PATH_TEXT, JSON_EXTRACT_ARRAY_ELEMENT_TEXT, JSON_ARRAY_LENGTH,
//! IS_VALID_JSON and IS_VALID_JSON_ARRAY.
//!
//! A text is scanned once and never built: parts of it are given as they are written.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringViewArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::row_function::invoke;
use crate::error::raise;

/// Most levels of a text.
const DEPTH_MAX: usize = 128;

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [Json::Path, Json::Element, Json::Length, Json::IsValid, Json::IsArray]
        .map(|json| {
            ScalarUDF::from(JsonFunction {
                json,
                signature: Signature::user_defined(Volatility::Immutable),
            })
        })
        .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Json {
    Path,
    Element,
    Length,
    IsValid,
    IsArray,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    json: Json,
    signature: Signature,
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        match self.json {
            Json::Path => "json_extract_path_text",
            Json::Element => "json_extract_array_element_text",
            Json::Length => "json_array_length",
            Json::IsValid => "is_valid_json",
            Json::IsArray => "is_valid_json_array",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The last argument, a boolean, says whether an invalid text is NULL and no error.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        const TEXT: DataType = DataType::Utf8View;
        let is_flag = |data_type: Option<&DataType>| data_type == Some(&DataType::Boolean);
        match (self.json, arg_types.len()) {
            (Json::Path, 2..) => {
                let mut types = vec![TEXT; arg_types.len()];
                if is_flag(arg_types.last()) {
                    types[arg_types.len() - 1] = DataType::Boolean;
                }
                Ok(types)
            }
            (Json::Element, 2) => Ok(vec![TEXT, DataType::Int32]),
            (Json::Element, 3) => Ok(vec![TEXT, DataType::Int32, DataType::Boolean]),
            (Json::Length, 1) | (Json::IsValid | Json::IsArray, 1) => Ok(vec![TEXT]),
            (Json::Length, 2) => Ok(vec![TEXT, DataType::Boolean]),
            _ => plan_err!("no such arguments"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.json {
            Json::Path | Json::Element => DataType::Utf8View,
            Json::Length => DataType::Int32,
            Json::IsValid | Json::IsArray => DataType::Boolean,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&args.args, args.number_rows, |arrays| self.json.compute(arrays))
    }
}

fn invalid() -> DataFusionError {
    raise("22023", "JSON parsing error: invalid json")
}

impl Json {
    fn compute(self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let texts: &StringViewArray = arrays[0].as_string_view();
        let flag = arrays.last().and_then(|array| array.as_boolean_opt());
        let arguments = if flag.is_some() { &arrays[..arrays.len() - 1] } else { arrays };
        let whole = |row: usize| -> Result<Option<&str>> {
            let text = texts.value(row);
            match trimmed(text) {
                Some(value) => Ok(Some(value)),
                None if flag.is_some_and(|flag| flag.is_valid(row) && flag.value(row)) => Ok(None),
                None => Err(invalid()),
            }
        };
        let given = |row: usize| arguments.iter().all(|array| array.is_valid(row));
        let rows = 0..texts.len();
        Ok(match self {
            Self::IsValid | Self::IsArray => {
                let is_valid = |row: usize| {
                    given(row).then(|| {
                        trimmed(texts.value(row))
                            .is_some_and(|value| self == Self::IsValid || value.starts_with('['))
                    })
                };
                Arc::new(rows.map(is_valid).collect::<BooleanArray>())
            }
            Self::Length => {
                let length = |row: usize| -> Result<Option<i32>> {
                    if !given(row) {
                        return Ok(None);
                    }
                    let Some(value) = whole(row)? else { return Ok(None) };
                    match elements(value) {
                        Some(elements) => {
                            Ok(Some(i32::try_from(elements.len()).unwrap_or(i32::MAX)))
                        }
                        None => Err(raise("22023", "invalid json array object")),
                    }
                };
                Arc::new(rows.map(length).collect::<Result<Int32Array>>()?)
            }
            Self::Path | Self::Element => {
                let part = |row: usize| -> Result<Option<String>> {
                    if !given(row) {
                        return Ok(None);
                    }
                    let Some(value) = whole(row)? else { return Ok(None) };
                    Ok(self.part(value, arguments, row).and_then(shown))
                };
                Arc::new(rows.map(part).collect::<Result<StringViewArray>>()?)
            }
        })
    }

    fn part<'a>(self, value: &'a str, arguments: &[ArrayRef], row: usize) -> Option<&'a str> {
        if self == Self::Element {
            let position = arguments[1].as_primitive::<Int32Type>().value(row);
            let position = usize::try_from(position).ok()?;
            return elements(value)?.get(position).copied();
        }
        arguments[1..].iter().try_fold(value, |value, name| {
            let name = name.as_string_view().value(row);
            match members(value) {
                Some(members) => {
                    let wanted = |(key, _): &&(String, &str)| key == name;
                    members.iter().find(wanted).map(|(_, value)| *value)
                }
                // A number goes into an array.
                None => elements(value)?.get(name.parse::<usize>().ok()?).copied(),
            }
        })
    }
}

/// A string without its quotes, anything else as written; null is no value.
fn shown(value: &str) -> Option<String> {
    match value {
        "null" => None,
        text if text.starts_with('"') => Some(unquoted(text)),
        other => Some(other.to_owned()),
    }
}

/// The one value that the text is.
fn trimmed(text: &str) -> Option<&str> {
    let text = text.trim_matches(is_space);
    (value_end(text.as_bytes(), 0, 0)? == text.len()).then_some(text)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| is_space(char::from(*byte))) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends; None if there is none.
fn value_end(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > DEPTH_MAX {
        return None;
    }
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' => list_end(bytes, at, b'}', depth, |bytes, at, depth| {
            let colon = skip_space(bytes, string_end(bytes, at)?);
            if bytes.get(colon) != Some(&b':') {
                return None;
            }
            value_end(bytes, skip_space(bytes, colon + 1), depth)
        }),
        b'[' => list_end(bytes, at, b']', depth, value_end),
        b't' => word_end(bytes, at, "true"),
        b'f' => word_end(bytes, at, "false"),
        b'n' => word_end(bytes, at, "null"),
        _ => number_end(bytes, at),
    }
}

fn list_end(
    bytes: &[u8],
    at: usize,
    close: u8,
    depth: usize,
    item_end: impl Fn(&[u8], usize, usize) -> Option<usize>,
) -> Option<usize> {
    let mut next = skip_space(bytes, at + 1);
    if bytes.get(next) == Some(&close) {
        return Some(next + 1);
    }
    loop {
        next = skip_space(bytes, item_end(bytes, next, depth + 1)?);
        match bytes.get(next)? {
            b',' => next = skip_space(bytes, next + 1),
            byte if *byte == close => return Some(next + 1),
            _ => return None,
        }
    }
}

fn word_end(bytes: &[u8], at: usize, word: &str) -> Option<usize> {
    bytes.get(at..)?.starts_with(word.as_bytes()).then_some(at + word.len())
}

fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut next = at + 1;
    loop {
        match bytes.get(next)? {
            b'"' => return Some(next + 1),
            b'\\' => match bytes.get(next + 1)? {
                b'u' => {
                    let digits = bytes.get(next + 2..next + 6)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    next += 6;
                }
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => next += 2,
                _ => return None,
            },
            0..0x20 => return None,
            _ => next += 1,
        }
    }
}

fn number_end(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = |from: usize| {
        let count = bytes.get(from..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(from + count)
    };
    let start = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = digits(start)?;
    if bytes[start] == b'0' && end > start + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign)?;
    }
    Some(end)
}

/// The elements of a valid array.
fn elements(value: &str) -> Option<Vec<&str>> {
    let bytes = value.as_bytes();
    if bytes.first() != Some(&b'[') {
        return None;
    }
    let mut elements = Vec::new();
    let mut at = skip_space(bytes, 1);
    while bytes.get(at) != Some(&b']') {
        let end = value_end(bytes, at, 0)?;
        elements.push(&value[at..end]);
        at = skip_space(bytes, end);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
    }
    Some(elements)
}

/// The members of a valid object.
fn members(value: &str) -> Option<Vec<(String, &str)>> {
    let bytes = value.as_bytes();
    if bytes.first() != Some(&b'{') {
        return None;
    }
    let mut members = Vec::new();
    let mut at = skip_space(bytes, 1);
    while bytes.get(at) != Some(&b'}') {
        let key_end = string_end(bytes, at)?;
        let key = unquoted(&value[at..key_end]);
        let start = skip_space(bytes, skip_space(bytes, key_end) + 1);
        let end = value_end(bytes, start, 0)?;
        members.push((key, &value[start..end]));
        at = skip_space(bytes, end);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
    }
    Some(members)
}

/// The text of a valid string.
fn unquoted(string: &str) -> String {
    let inner = string.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(string);
    let mut out = String::with_capacity(inner.len());
    let mut units: Vec<u16> = Vec::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        let escaped = (character == '\\').then(|| characters.next()).flatten();
        if escaped == Some('u') {
            // Two of them may be one character.
            let digits: String = characters.by_ref().take(4).collect();
            units.extend(u16::from_str_radix(&digits, 16).ok());
            continue;
        }
        out.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        out.push(match escaped {
            None => character,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(other) => other,
        });
    }
    out.push_str(&String::from_utf16_lossy(&units));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_is_told_from_what_is_not() {
        for valid in ["1", " [1, 2] ", "{}", r#"{"a":[{"b":null}]}"#, r#""\u0041\n""#, "-0.5e+10"] {
            assert!(trimmed(valid).is_some(), "{valid}");
        }
        for invalid in ["", "01", "[1,]", "{a:1}", "[1 2]", "\"a", "tru", "1 2", "[\"\\x\"]", "'a'"]
        {
            assert!(trimmed(invalid).is_none(), "{invalid}");
        }
        assert!(trimmed(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn parts_are_as_written() {
        assert_eq!(elements("[1, \"a, b\" ,[2,3]]"), Some(vec!["1", "\"a, b\"", "[2,3]"]));
        let members = members(r#"{"a\"b" : {"c": 1}, "d":2.50}"#).unwrap();
        assert_eq!(members[0], ("a\"b".to_owned(), "{\"c\": 1}"));
        assert_eq!(members[1], ("d".to_owned(), "2.50"));
        assert_eq!(shown(r#""\ud83d\ude00 \u00e9""#).as_deref(), Some("\u{1f600} \u{e9}"));
    }
}
