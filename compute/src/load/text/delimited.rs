//! Splits lines at delimiters. No quotes; a carriage return before the line feed is part of the
//! line end.

use super::records::{Records, Shape, Split};

/// Splits the record that starts at `start`.
pub(super) fn split(
    region: &[u8],
    start: usize,
    at_end: bool,
    delimiter: u8,
    shape: Shape,
    records: &mut Records,
) -> Split {
    let mut field_start = start;
    loop {
        let rest = &region[field_start..];
        let (end, is_line_end) = match memchr::memchr2(delimiter, b'\n', rest) {
            Some(length) if rest[length] == delimiter => (field_start + length, false),
            Some(length) => (field_start + length, true),
            None if at_end => (region.len(), true),
            None => {
                records.abandon_row();
                return Split::NeedMore;
            }
        };
        if !is_line_end {
            records.push(field_start, end);
            field_start = end + 1;
            continue;
        }
        let line_end = if end > field_start && region[end - 1] == b'\r' { end - 1 } else { end };
        records.push(field_start, line_end);
        let next = (end + 1).min(region.len());
        return match records.finish_row(start, line_end, shape) {
            Ok(()) => Split::Next(next),
            Err(fault) => Split::Bad { fault, end: line_end },
        };
    }
}
