//! Reads one file of text, or the part of one that a work item owns, batch by batch.
//!
//! A part owns the records that start inside it. Its reader begins one byte early, drops all up to
//! the first line end, and goes on past the end of the part to finish the last record. Lines are
//! counted from the start of the part; those before it are counted only when an error needs them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use object_store::ObjectMeta;

use super::super::error::{BadRow, ErrorCode, Fault, LoadError, raw_text};
use super::super::request::{CopyRequest, Format};
use super::columns::{self, ColumnFault, Rows};
use super::decompress::{Decompressor, Progress};
use super::records::{Records, Shape, Split};
use super::source::ByteSource;
use super::{csv, delimited};
use crate::object_storage::Bucket;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Bytes of a record or header line, line end included.
pub(in super::super) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Bytes of text that a batch is made of; a batch of long rows has fewer of them.
const REGION_BYTES_MAX: usize = 8 << 20;
/// Bytes of text that are added to a region at once.
const FILL_BYTES: usize = 1 << 20;
/// Bytes of one GET when lines before a part are counted.
const COUNT_BYTES: u64 = 8 << 20;
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A reader of one work item.
pub(in super::super) struct TextReader {
    request: Arc<CopyRequest>,
    bucket: Bucket,
    object: ObjectMeta,
    source: ByteSource,
    decompressor: Decompressor,
    input_ended: bool,
    /// From where on the object is read; lines are counted from here.
    start: u64,
    /// Offset in the text at which records belong to the next part.
    limit: u64,
    /// Text from the start of a record on.
    region: Vec<u8>,
    /// Offset in the text of the first byte of the region.
    region_offset: u64,
    /// Line ends between `start` and the region.
    lines_before: u64,
    /// Where in the region the next record starts.
    position: usize,
    /// Lines to skip before the first record, and whether a byte order mark may come.
    skip_lines: usize,
    at_file_start: bool,
    records: Records,
}

enum Filled {
    /// A whole batch, or all there is.
    Done,
    NeedMore,
    Bad {
        fault: Fault,
        end: usize,
    },
}

impl TextReader {
    /// `part` is a part of an uncompressed object, or the whole of any.
    pub(in super::super) fn new(
        request: Arc<CopyRequest>,
        bucket: Bucket,
        object: ObjectMeta,
        part: Range<u64>,
        source: ByteSource,
    ) -> Result<Self, LoadError> {
        let decompressor = Decompressor::new(request.compression)
            .map_err(|error| LoadError::Incomplete(error.to_string()))?;
        let at_file_start = part.start == 0;
        let whole = at_file_start && part.end >= object.size;
        let skip_lines = if at_file_start { request.conversion.ignore_header } else { 1 };
        let records = Records::new(request.columns.len());
        let start = part.start.saturating_sub(1);
        Ok(Self {
            request,
            bucket,
            object,
            source,
            decompressor,
            input_ended: false,
            start,
            limit: if whole { u64::MAX } else { part.end },
            region: Vec::new(),
            region_offset: start,
            lines_before: 0,
            position: 0,
            skip_lines,
            at_file_start,
            records,
        })
    }

    /// From where on the object must be fetched for `part`.
    pub(in super::super) fn fetch_range(part: &Range<u64>) -> Range<u64> {
        part.start.saturating_sub(1)..part.end
    }

    /// The columns of the next rows, in the order of the request; None at the end.
    pub(in super::super) async fn next_columns(
        &mut self,
    ) -> Result<Option<Vec<ArrayRef>>, LoadError> {
        self.drop_used();
        let bad = loop {
            match self.split_rows() {
                Filled::Done => break None,
                Filled::Bad { fault, end } => break Some((fault, end)),
                Filled::NeedMore => {
                    if self.records.row_count() == 0 {
                        self.drop_used();
                    }
                    self.fill().await?;
                }
            }
        };
        if self.records.row_count() > 0 {
            match self.convert() {
                Ok(arrays) if bad.is_none() => return Ok(Some(arrays)),
                Ok(_) => {}
                Err(fault) => return Err(self.column_error(fault).await),
            }
        }
        match bad {
            Some((fault, end)) => Err(self.line_error(fault, end).await),
            None => Ok(None),
        }
    }

    /// Forgets the text before the next record.
    fn drop_used(&mut self) {
        let used = &self.region[..self.position];
        self.lines_before += count_lines(used);
        self.region_offset += self.position as u64;
        self.region.drain(..self.position);
        self.position = 0;
        self.records.clear();
    }

    async fn fill(&mut self) -> Result<(), LoadError> {
        loop {
            let progress =
                self.decompressor.read(&mut self.region, FILL_BYTES).map_err(|error| {
                    let file = self.url();
                    LoadError::Damaged { file, reason: error.to_string() }
                })?;
            match progress {
                Progress::Bytes => return Ok(()),
                Progress::End => {
                    self.input_ended = true;
                    return Ok(());
                }
                Progress::NeedInput => match self.source.next().await? {
                    Some(chunk) => self.decompressor.feed(chunk),
                    None => self.decompressor.finish(),
                },
            }
        }
    }

    /// Splits rows until a batch is full or the region ends.
    fn split_rows(&mut self) -> Filled {
        if let Some(stop) = self.skip_start() {
            return stop;
        }
        let conversion = &self.request.conversion;
        let is_csv = matches!(self.request.format, Format::Csv { .. });
        let shape = Shape { trailing_delimiter: !is_csv, fill_record: conversion.fill_record };
        let owned = usize::try_from(self.limit.saturating_sub(self.region_offset));
        let limit = owned.unwrap_or(usize::MAX);
        while self.records.row_count() < BATCH_ROWS && self.position < limit {
            let start = self.position;
            if start >= self.region.len() {
                return if self.input_ended { Filled::Done } else { self.need_more() };
            }
            if conversion.ignore_blank_lines {
                match self.region[start..] {
                    [b'\n', ..] => {
                        self.position += 1;
                        continue;
                    }
                    [b'\r', b'\n', ..] => {
                        self.position += 2;
                        continue;
                    }
                    _ => {}
                }
            }
            let (region, at_end, records) = (&self.region, self.input_ended, &mut self.records);
            let split = match self.request.format {
                Format::Csv { delimiter, quote } => {
                    csv::split(region, start, at_end, delimiter, quote, shape, records)
                }
                Format::Delimited { delimiter } => {
                    delimited::split(region, start, at_end, delimiter, shape, records)
                }
                // Parquet never gets here: it has a reader of its own.
                Format::Parquet => return Filled::Done,
            };
            match split {
                Split::Next(next) => self.position = next,
                Split::NeedMore => return self.need_more(),
                Split::Bad { fault, end } => return Filled::Bad { fault, end },
            }
        }
        Filled::Done
    }

    /// Skips the byte order mark and the header, or the record that the part before owns.
    fn skip_start(&mut self) -> Option<Filled> {
        if self.at_file_start {
            if self.region.len() < BYTE_ORDER_MARK.len() && !self.input_ended {
                return Some(Filled::NeedMore);
            }
            if self.region.starts_with(&BYTE_ORDER_MARK) {
                self.position = BYTE_ORDER_MARK.len();
            }
            self.at_file_start = false;
        }
        while self.skip_lines > 0 {
            match memchr::memchr(b'\n', &self.region[self.position..]) {
                Some(length) => {
                    self.position += length + 1;
                    self.skip_lines -= 1;
                }
                None if self.input_ended => {
                    self.position = self.region.len();
                    self.skip_lines = 0;
                }
                None => return Some(self.need_more()),
            }
        }
        None
    }

    /// More text, unless the record is too long or the batch large enough.
    fn need_more(&self) -> Filled {
        let open = self.region.len() - self.position;
        if open > RECORD_BYTES_MAX {
            let reason = format!("Line exceeds {RECORD_BYTES_MAX} bytes");
            let fault = Fault::new(ErrorCode::Line, reason);
            return Filled::Bad { fault, end: self.region.len() };
        }
        if self.region.len() > REGION_BYTES_MAX && self.records.row_count() > 0 {
            return Filled::Done;
        }
        Filled::NeedMore
    }

    fn convert(&self) -> Result<Vec<ArrayRef>, ColumnFault> {
        let region = &self.region[..self.position];
        let has_nul = memchr::memchr(0, region).is_some() || self.records.scratch_has_nul();
        let rows = Rows {
            records: &self.records,
            region,
            region_text: std::str::from_utf8(region).ok(),
            has_nul,
            conversion: &self.request.conversion,
        };
        columns::convert(&rows, &self.request.columns)
    }

    async fn column_error(&self, found: ColumnFault) -> LoadError {
        let ColumnFault { row, column, fault } = found;
        let (start, end) = self.records.row(row);
        let target = &self.request.columns[column];
        let field = self.records.field(&self.region, row, column);
        let bad = BadRow {
            file: self.url(),
            line: 0,
            column: target.name.clone(),
            column_type: target.type_name.clone(),
            column_bytes: target.bytes_max,
            position: self.records.position(row, column),
            raw_value: raw_text(field),
            raw_line: raw_text(&self.region[start..end]),
            code: fault.code,
            reason: fault.reason,
        };
        self.with_line(bad, start).await
    }

    async fn line_error(&self, fault: Fault, end: usize) -> LoadError {
        let line = &self.region[self.position..end.max(self.position)];
        let bad = BadRow {
            file: self.url(),
            line: 0,
            column: String::new(),
            column_type: String::new(),
            column_bytes: None,
            position: 0,
            raw_value: String::new(),
            raw_line: raw_text(line),
            code: fault.code,
            reason: fault.reason,
        };
        self.with_line(bad, self.position).await
    }

    /// Completes an error with the line of the file at a place of the region.
    async fn with_line(&self, mut bad: BadRow, at: usize) -> LoadError {
        match self.lines_before_start().await {
            Ok(before) => {
                bad.line = before + self.lines_before + count_lines(&self.region[..at]) + 1;
                LoadError::BadRow(Box::new(bad))
            }
            Err(error) => error,
        }
    }

    async fn lines_before_start(&self) -> Result<u64, LoadError> {
        let mut lines = 0;
        let mut from = 0;
        while from < self.start {
            let to = (from + COUNT_BYTES).min(self.start);
            lines += count_lines(&self.bucket.read(&self.object, from..to).await?);
            from = to;
        }
        Ok(lines)
    }

    fn url(&self) -> String {
        self.bucket.url(self.object.location.as_ref())
    }
}

fn count_lines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}
