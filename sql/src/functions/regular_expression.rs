//! Regular expressions: the operators ~ and SIMILAR TO, and REGEXP_COUNT, REGEXP_INSTR,
//! REGEXP_REPLACE and REGEXP_SUBSTR.
//!
//! Patterns are those of POSIX, translated to the syntax of the library, which never takes more than
//! linear time; what it has no means for (back references, look-around) is an error. In the
//! REGEXP functions a doubled backslash is a single one, as Redshift reads string literals there.

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array, StringViewArray};
use arrow::datatypes::Int32Type;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use regex::{Regex, RegexBuilder};
use std::sync::Arc;

use super::row_function::{Definition, Kind, function, rows};
use crate::error::raise;

/// The operator ~, and with its third argument ~*.
pub(crate) const MATCHES: &str = "regexp_matches_operator";
/// SIMILAR TO.
pub(crate) const SIMILAR_TO: &str = "similar_to";
/// The pattern of LIKE ... ESCAPE with a backslash as its escape.
pub(crate) const LIKE_ESCAPE: &str = "like_escape";

/// Memory that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 8 << 20;

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    const T: Kind = Kind::Text;
    const I: Kind = Kind::Integer;
    [
        Definition { name: MATCHES, takes: &[&[T, T, T]], gives: Kind::Boolean, compute: matches },
        Definition {
            name: SIMILAR_TO,
            takes: &[&[T, T, T]],
            gives: Kind::Boolean,
            compute: similar_to,
        },
        Definition {
            name: LIKE_ESCAPE,
            takes: &[&[T, T]],
            gives: Kind::Text,
            compute: like_escape,
        },
        Definition {
            name: "regexp_count",
            takes: &[&[T, T], &[T, T, I], &[T, T, I, T]],
            gives: Kind::Integer,
            compute: count,
        },
        Definition {
            name: "regexp_instr",
            takes: &[&[T, T], &[T, T, I], &[T, T, I, I], &[T, T, I, I, I], &[T, T, I, I, I, T]],
            gives: Kind::Integer,
            compute: instr,
        },
        Definition {
            name: "regexp_replace",
            takes: &[&[T, T], &[T, T, T], &[T, T, T, I], &[T, T, T, I, T]],
            gives: Kind::Text,
            compute: replace,
        },
        Definition {
            name: "regexp_substr",
            takes: &[&[T, T], &[T, T, I], &[T, T, I, I], &[T, T, I, I, T]],
            gives: Kind::Text,
            compute: substr,
        },
    ]
    .map(function)
    .into()
}

fn text(arrays: &[ArrayRef], index: usize) -> Option<&StringViewArray> {
    arrays.get(index).map(|array| array.as_string_view())
}

fn number(arrays: &[ArrayRef], index: usize, row: usize, otherwise: i32) -> i32 {
    arrays.get(index).map_or(otherwise, |array| array.as_primitive::<Int32Type>().value(row))
}

fn letters(arrays: &[ArrayRef], index: usize, row: usize) -> &str {
    text(arrays, index).map_or("", |array| array.value(row))
}

/// The pattern compiled last: patterns are nearly always the same in all rows.
#[derive(Default)]
struct Compiled {
    key: Option<(String, String)>,
    regex: Option<Regex>,
}

impl Compiled {
    fn get(
        &mut self,
        pattern: &str,
        parameters: &str,
        compile: impl Fn(&str, &str) -> Result<Regex>,
    ) -> Result<&Regex> {
        let is_known =
            self.key.as_ref().is_some_and(|(known, with)| known == pattern && with == parameters);
        if !is_known || self.regex.is_none() {
            self.regex = Some(compile(pattern, parameters)?);
            self.key = Some((pattern.to_owned(), parameters.to_owned()));
        }
        self.regex.as_ref().ok_or_else(|| raise("XX000", "a pattern was not compiled"))
    }
}

fn build(pattern: &str, ignore_case: bool, dot_is_newline: bool) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .dot_matches_new_line(dot_is_newline)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(invalid)
}

fn invalid(error: regex::Error) -> DataFusionError {
    let text = error.to_string();
    // The library draws the place of the error on several lines; its last one says what is wrong.
    let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    raise("2201B", format!("invalid regular expression: {reason}"))
}

/// Parameters of the REGEXP functions.
fn compile(pattern: &str, parameters: &str) -> Result<Regex> {
    if let Some(unknown) = parameters.chars().find(|letter| !"cipe".contains(*letter)) {
        return Err(raise("22023", format!("invalid regular expression option: \"{unknown}\"")));
    }
    let ignore_case = parameters.contains('i');
    let pattern = pattern.replace("\\\\", "\\");
    if parameters.contains('p') {
        build(&pattern, ignore_case, false)
    } else {
        build(&translate(&pattern), ignore_case, true)
    }
}

/// A POSIX pattern in the syntax of the library.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('m') => out.push_str("\\b{start}"),
                Some('M') => out.push_str("\\b{end}"),
                Some('y') => out.push_str("\\b"),
                Some('Y') => out.push_str("\\B"),
                Some('Z') => out.push_str("\\z"),
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '[' => bracket(&mut characters, &mut out),
            other => out.push(other),
        }
    }
    out
}

/// The rest of a bracket expression: the library gives a meaning to more characters in it.
fn bracket(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    if characters.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if characters.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    while let Some(character) = characters.next() {
        match character {
            ']' => {
                out.push(']');
                return;
            }
            '[' if characters.next_if_eq(&':').is_some() => {
                out.push_str("[:");
                while let Some(letter) = characters.next_if(|letter| *letter != ']') {
                    out.push(letter);
                }
                if characters.next().is_some() {
                    out.push(']');
                }
            }
            '\\' => {
                out.push('\\');
                out.push(characters.next().unwrap_or('\\'));
            }
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(character);
            }
            other => out.push(other),
        }
    }
}

fn matches(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (strings, patterns) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut compiled = Compiled::default();
    let found = rows(arrays, |row| {
        let operator =
            |pattern: &str, parameters: &str| build(&translate(pattern), parameters == "i", true);
        let regex = compiled.get(patterns.value(row), letters(arrays, 2, row), operator)?;
        Ok(regex.is_match(strings.value(row)))
    })?;
    Ok(Arc::new(BooleanArray::from(found)))
}

fn similar_to(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (strings, patterns) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut compiled = Compiled::default();
    let found = rows(arrays, |row| {
        let pattern = |pattern: &str, escape: &str| build(&similar(pattern, escape)?, false, true);
        let regex = compiled.get(patterns.value(row), letters(arrays, 2, row), pattern)?;
        Ok(regex.is_match(strings.value(row)))
    })?;
    Ok(Arc::new(BooleanArray::from(found)))
}

/// At most one character.
fn escape_character(escape: &str) -> Result<Option<char>> {
    let mut characters = escape.chars();
    match (characters.next(), characters.next()) {
        (escape, None) => Ok(escape),
        _ => Err(raise("22025", "invalid escape string")),
    }
}

/// The pattern of SIMILAR TO: % and _ as in LIKE, and of regular expressions what repeats and
/// chooses. It stands for the whole string.
fn similar(pattern: &str, escape: &str) -> Result<String> {
    let escape = escape_character(escape)?;
    let mut out = String::from("^(?:");
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            character if Some(character) == escape => match characters.next() {
                Some(escaped) => out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4]))),
                None => return Err(raise("22025", "pattern must not end with escape character")),
            },
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '[' => bracket(&mut characters, &mut out),
            '\\' | '.' | '^' | '$' => {
                out.push('\\');
                out.push(character);
            }
            other => out.push(other),
        }
    }
    out.push_str(")$");
    Ok(out)
}

fn like_escape(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (patterns, escapes) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let converted = rows(arrays, |row| with_backslash(patterns.value(row), escapes.value(row)))?;
    Ok(Arc::new(converted.into_iter().collect::<StringViewArray>()))
}

fn with_backslash(pattern: &str, escape: &str) -> Result<String> {
    let escape = escape_character(escape)?;
    let mut out = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if Some(character) == escape {
            let Some(escaped) = characters.next() else {
                return Err(raise("22025", "LIKE pattern must not end with escape character"));
            };
            out.push('\\');
            out.push(escaped);
        } else if character == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(character);
        }
    }
    Ok(out)
}

/// The byte where the character of a position, counted from 1, begins; None behind the end.
fn start(string: &str, position: i32) -> Result<Option<usize>> {
    let Some(skipped) = usize::try_from(position).ok().and_then(|position| position.checked_sub(1))
    else {
        return Err(raise("22023", format!("invalid value for parameter \"start\": {position}")));
    };
    let ends = std::iter::once(string.len());
    Ok(string.char_indices().map(|(byte, _)| byte).chain(ends).nth(skipped))
}

fn count(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (strings, patterns) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut compiled = Compiled::default();
    let counts = rows(arrays, |row| {
        let string = strings.value(row);
        let regex = compiled.get(patterns.value(row), letters(arrays, 3, row), compile)?;
        let Some(from) = start(string, number(arrays, 2, row, 1))? else { return Ok(0) };
        Ok(i32::try_from(regex.find_iter(&string[from..]).count()).unwrap_or(i32::MAX))
    })?;
    Ok(Arc::new(Int32Array::from(counts)))
}

/// Where an occurrence, or with the parameter e its first subexpression, begins and ends.
fn occurrence(
    regex: &Regex,
    string: &str,
    from: usize,
    occurrence: i32,
    parameters: &str,
) -> Option<(usize, usize)> {
    let skipped = usize::try_from(occurrence).ok()?.checked_sub(1)?;
    if parameters.contains('e') {
        let found = regex.captures_iter(&string[from..]).nth(skipped)?;
        let group = found.get(1).or_else(|| found.get(0))?;
        return Some((from + group.start(), from + group.end()));
    }
    let found = regex.find_iter(&string[from..]).nth(skipped)?;
    Some((from + found.start(), from + found.end()))
}

fn instr(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (strings, patterns) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut compiled = Compiled::default();
    let places = rows(arrays, |row| {
        let string = strings.value(row);
        let parameters = letters(arrays, 5, row);
        let regex = compiled.get(patterns.value(row), parameters, compile)?;
        let Some(from) = start(string, number(arrays, 2, row, 1))? else { return Ok(0) };
        let found = occurrence(regex, string, from, number(arrays, 3, row, 1), parameters);
        let Some((begin, end)) = found else { return Ok(0) };
        let byte = if number(arrays, 4, row, 0) == 1 { end } else { begin };
        Ok(i32::try_from(string[..byte].chars().count() + 1).unwrap_or(i32::MAX))
    })?;
    Ok(Arc::new(Int32Array::from(places)))
}

fn substr(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (strings, patterns) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut compiled = Compiled::default();
    let parts = rows(arrays, |row| {
        let string = strings.value(row);
        let parameters = letters(arrays, 4, row);
        let regex = compiled.get(patterns.value(row), parameters, compile)?;
        let Some(from) = start(string, number(arrays, 2, row, 1))? else { return Ok("") };
        let found = occurrence(regex, string, from, number(arrays, 3, row, 1), parameters);
        Ok(found.map_or("", |(begin, end)| &string[begin..end]))
    })?;
    Ok(Arc::new(parts.into_iter().collect::<StringViewArray>()))
}

fn replace(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (strings, patterns) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut compiled = Compiled::default();
    let replaced = rows(arrays, |row| {
        let string = strings.value(row);
        let regex = compiled.get(patterns.value(row), letters(arrays, 4, row), compile)?;
        let Some(from) = start(string, number(arrays, 3, row, 1))? else {
            return Ok(string.to_owned());
        };
        let replacement = replacement(letters(arrays, 2, row));
        let replaced = regex.replace_all(&string[from..], replacement.as_str());
        super::text::check(from + replaced.len())?;
        Ok(format!("{}{replaced}", &string[..from]))
    })?;
    Ok(Arc::new(replaced.into_iter().collect::<StringViewArray>()))
}

/// $1 and \1 stand for subexpressions.
fn replacement(text: &str) -> String {
    let text = text.replace("\\\\", "\\");
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if matches!(character, '$' | '\\')
            && let Some(digit) = characters.next_if(char::is_ascii_digit)
        {
            out.push_str(&format!("${{{digit}}}"));
        } else if character == '$' {
            out.push_str("$$");
        } else {
            out.push(character);
        }
    }
    out
}
