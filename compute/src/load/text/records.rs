//! Where the fields of some rows lie: positions in a region of text, or in a scratch buffer for
//! fields whose quotes had to be undone.

use super::super::error::{ErrorCode, Fault};

/// The highest bit of a field's start tells that it lies in the scratch buffer.
const IN_SCRATCH: u32 = 1 << 31;

/// A field: where it starts and how long it is.
#[derive(Clone, Copy, Debug)]
struct Field {
    start: u32,
    length: u32,
}

/// Rows of fields, one after the other, each with as many fields as there are columns.
#[derive(Default)]
pub(super) struct Records {
    columns: usize,
    fields: Vec<Field>,
    /// Start and end of each row in the region, without its line end.
    rows: Vec<(u32, u32)>,
    scratch: Vec<u8>,
}

impl Records {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, ..Default::default() }
    }

    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.rows.clear();
        self.scratch.clear();
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Start and end of a row in the region.
    pub(super) fn row(&self, row: usize) -> (usize, usize) {
        let (start, end) = self.rows[row];
        (start as usize, end as usize)
    }

    /// Adds a field of the row that is being split. Positions stay below 2^31 because a region
    /// does.
    pub(super) fn push(&mut self, start: usize, end: usize) {
        debug_assert!(end < IN_SCRATCH as usize);
        self.fields.push(Field { start: start as u32, length: (end - start) as u32 });
    }

    /// The scratch buffer, for a field that is written there; then [`Records::push_scratch`].
    pub(super) fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.scratch
    }

    /// Adds the field that was written to the scratch buffer from `start` on.
    pub(super) fn push_scratch(&mut self, start: usize) {
        let length = (self.scratch.len() - start) as u32;
        self.fields.push(Field { start: start as u32 | IN_SCRATCH, length });
    }

    /// Fields of the row that is being split.
    pub(super) fn open_fields(&self) -> usize {
        self.fields.len() - self.rows.len() * self.columns
    }

    /// Forgets the row that is being split.
    pub(super) fn abandon_row(&mut self) {
        self.fields.truncate(self.rows.len() * self.columns);
    }

    /// Ends the row if it has the right number of fields.
    pub(super) fn finish_row(
        &mut self,
        start: usize,
        end: usize,
        shape: Shape,
    ) -> Result<(), Fault> {
        let mut count = self.open_fields();
        if count == self.columns + 1
            && shape.trailing_delimiter
            && self.fields.last().is_some_and(|field| field.length == 0)
        {
            self.fields.pop();
            count -= 1;
        }
        if count > self.columns {
            self.abandon_row();
            return Err(Fault::new(ErrorCode::ExtraColumns, "Extra column(s) found"));
        }
        if count < self.columns {
            if !shape.fill_record {
                self.abandon_row();
                return Err(if start == end {
                    Fault::new(ErrorCode::EmptyLine, "Line has no data")
                } else {
                    // The line ends where the next delimiter must be, as Redshift sees it.
                    Fault::new(ErrorCode::Delimiter, "Delimiter not found")
                });
            }
            for _ in count..self.columns {
                self.push(end, end);
            }
        }
        self.rows.push((start as u32, end as u32));
        Ok(())
    }

    /// A field's bytes.
    #[inline]
    pub(super) fn field<'a>(&'a self, region: &'a [u8], row: usize, column: usize) -> &'a [u8] {
        let field = self.fields[row * self.columns + column];
        let start = (field.start & !IN_SCRATCH) as usize;
        let buffer = if field.start & IN_SCRATCH == 0 { region } else { &self.scratch };
        &buffer[start..start + field.length as usize]
    }

    /// A field of the region as text; None if it lies in the scratch buffer or the region is not
    /// all text.
    #[inline]
    pub(super) fn region_field<'a>(
        &self,
        text: Option<&'a str>,
        row: usize,
        column: usize,
    ) -> Option<&'a str> {
        let field = self.fields[row * self.columns + column];
        if field.start & IN_SCRATCH != 0 {
            return None;
        }
        let start = field.start as usize;
        text?.get(start..start + field.length as usize)
    }

    /// Whether the scratch buffer holds a NUL.
    pub(super) fn scratch_has_nul(&self) -> bool {
        memchr::memchr(0, &self.scratch).is_some()
    }

    /// Where a field starts in its line, for messages.
    pub(super) fn position(&self, row: usize, column: usize) -> u32 {
        let field = self.fields[row * self.columns + column];
        let in_scratch = field.start & IN_SCRATCH != 0;
        if in_scratch { 0 } else { field.start.saturating_sub(self.rows[row].0) }
    }
}

/// What rows may look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// A delimiter may end the line, as in the files of the TPC benchmarks.
    pub(super) trailing_delimiter: bool,
    /// FILLRECORD.
    pub(super) fill_record: bool,
}

/// What a splitter found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// A row, or a blank line to ignore; the next one starts here.
    Next(usize),
    /// The region ends within a record.
    NeedMore,
    /// A record that is none. It starts where the splitter was asked to begin.
    Bad {
        /// What is wrong.
        fault: Fault,
        /// Where the record ends, as far as can be seen.
        end: usize,
    },
}
