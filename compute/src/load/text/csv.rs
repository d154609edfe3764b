//! Splits CSV records. A quoted field may hold delimiters, line ends and doubled quotes; blanks
//! between a delimiter and a quote are ignored. A quote inside an unquoted field is an error, not
//! data: it is nearly always a sign that the quotes of the file are wrong.

use super::super::error::{ErrorCode, Fault};
use super::records::{Records, Shape, Split};

/// How a field of CSV ended.
enum FieldEnd {
    /// At a delimiter; the next field starts here.
    Delimiter(usize),
    /// At a line end or the end of the file: end of the line's text, start of the next record.
    Line(usize, usize),
    NeedMore,
    Bad(usize),
}

/// Splits the record that starts at `start`.
pub(super) fn split(
    region: &[u8],
    start: usize,
    at_end: bool,
    delimiter: u8,
    quote: u8,
    shape: Shape,
    records: &mut Records,
) -> Split {
    let scratch_start = records.scratch().len();
    let mut field_start = start;
    loop {
        match field(region, field_start, at_end, delimiter, quote, records) {
            FieldEnd::Delimiter(next) => field_start = next,
            FieldEnd::Line(end, next) => {
                return match records.finish_row(start, end, shape) {
                    Ok(()) => Split::Next(next),
                    Err(fault) => Split::Bad { fault, end },
                };
            }
            FieldEnd::NeedMore => {
                records.abandon_row();
                records.scratch().truncate(scratch_start);
                return Split::NeedMore;
            }
            FieldEnd::Bad(at) => {
                records.abandon_row();
                let length = memchr::memchr(b'\n', &region[at..]).unwrap_or(region.len() - at);
                let fault = Fault::new(ErrorCode::Delimiter, "Invalid quote formatting for CSV");
                return Split::Bad { fault, end: at + length };
            }
        }
    }
}

fn field(
    region: &[u8],
    start: usize,
    at_end: bool,
    delimiter: u8,
    quote: u8,
    records: &mut Records,
) -> FieldEnd {
    let first = skip_blanks(region, start, delimiter);
    if first == region.len() && !at_end {
        return FieldEnd::NeedMore;
    }
    if region.get(first) == Some(&quote) {
        return quoted(region, first + 1, at_end, delimiter, quote, records);
    }
    let rest = &region[start..];
    let end = match memchr::memchr3(delimiter, b'\n', quote, rest) {
        Some(length) => start + length,
        None if at_end => region.len(),
        None => return FieldEnd::NeedMore,
    };
    match region.get(end) {
        Some(byte) if *byte == delimiter => {
            records.push(start, end);
            FieldEnd::Delimiter(end + 1)
        }
        Some(byte) if *byte == quote => FieldEnd::Bad(end),
        _ => {
            let line_end = if end > start && region[end - 1] == b'\r' { end - 1 } else { end };
            records.push(start, line_end);
            FieldEnd::Line(line_end, (end + 1).min(region.len()))
        }
    }
}

/// A field after its opening quote.
fn quoted(
    region: &[u8],
    start: usize,
    at_end: bool,
    delimiter: u8,
    quote: u8,
    records: &mut Records,
) -> FieldEnd {
    let scratch_start = records.scratch().len();
    let mut piece_start = start;
    let mut doubled = false;
    let end = loop {
        let Some(length) = memchr::memchr(quote, &region[piece_start..]) else {
            return if at_end { FieldEnd::Bad(start) } else { FieldEnd::NeedMore };
        };
        let at = piece_start + length;
        match region.get(at + 1) {
            None if !at_end => return FieldEnd::NeedMore,
            Some(next) if *next == quote => {
                records.scratch().extend_from_slice(&region[piece_start..=at]);
                piece_start = at + 2;
                doubled = true;
            }
            _ => break at,
        }
    };
    if doubled {
        records.scratch().extend_from_slice(&region[piece_start..end]);
    }
    let mut after = skip_blanks(region, end + 1, delimiter);
    if region.get(after) == Some(&b'\r') {
        after += 1;
    }
    let at_line_end = match region.get(after) {
        None if !at_end => return FieldEnd::NeedMore,
        None | Some(b'\n') => true,
        Some(byte) if *byte == delimiter && region[after - 1] != b'\r' => false,
        Some(_) => return FieldEnd::Bad(after),
    };
    if doubled {
        records.push_scratch(scratch_start);
    } else {
        records.push(start, end);
    }
    if at_line_end {
        return FieldEnd::Line(end + 1, (after + 1).min(region.len()));
    }
    FieldEnd::Delimiter(after + 1)
}

/// Spaces and tabs, unless the tab is the delimiter.
fn skip_blanks(region: &[u8], start: usize, delimiter: u8) -> usize {
    let is_blank = |byte: &&u8| matches!(**byte, b' ' | b'\t') && **byte != delimiter;
    start + region[start..].iter().take_while(is_blank).count()
}
