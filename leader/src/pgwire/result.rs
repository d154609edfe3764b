//! Runs a statement and sends what it gives: rows as they come, then the command's tag.
//!
//! Memory per connection is constant: one batch from the stream, and about [`SEND_BYTES`] of
//! encoded rows. The socket sets the pace; while it is full the stream is not asked for more.
//!
//! [`SEND_BYTES`]: crate::pgwire::transport::SEND_BYTES

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::{BufMut, BytesMut};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::pgwire::backend::{CancelReason, Execution, WireSession};
use crate::pgwire::connection::{Connection, Failure, attended};
use crate::pgwire::encode::{BatchEncoder, RowEncoder};
use crate::pgwire::message::{self, Format};
use crate::pgwire::registry::Attendance;
use crate::pgwire::report::{Report, sqlstate};
use crate::pgwire::types::WireType;

/// What a statement's start gave.
pub(crate) enum Started {
    Rows {
        schema: SchemaRef,
        stream: BoxStream<'static, Result<RecordBatch, Report>>,
        tag: &'static str,
    },
    Done(Served),
}

/// How far a statement or portal was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// To the end; the tag for CommandComplete.
    Complete(String),
    /// There was no statement.
    Empty,
    /// The limit of rows was reached.
    Suspended,
}

/// How many rows may be sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowLimit {
    None,
    Rows(u64),
}

impl RowLimit {
    /// As Execute gives it: below 1 means all.
    pub(crate) fn from_wire(max_rows: i32) -> Self {
        match u64::try_from(max_rows) {
            Ok(0) | Err(_) => Self::None,
            Ok(rows) => Self::Rows(rows),
        }
    }

    fn is_reached_by(self, rows: u64) -> bool {
        match self {
            Self::None => false,
            Self::Rows(limit) => rows >= limit,
        }
    }
}

/// Rows on their way; kept by a portal between two Executes.
pub(crate) struct Delivery {
    stream: BoxStream<'static, Result<RecordBatch, Report>>,
    encoder: RowEncoder,
    batch: Option<PartialBatch>,
    tag: &'static str,
}

struct PartialBatch {
    encoder: BatchEncoder,
    next_row: usize,
    rows: usize,
}

impl Delivery {
    /// The tag when no rows are left.
    pub(crate) fn empty_tag(&self) -> String {
        format!("{} 0", self.tag)
    }
}

impl<S: WireSession> Connection<S> {
    /// Lets the engine start a statement.
    pub(crate) async fn start(
        &mut self,
        statement: &S::Statement,
        parameters: Vec<ScalarValue>,
        attendance: &Attendance,
    ) -> Result<Started, Failure> {
        let cancel = attendance.handle();
        let execution = self.session.execute(statement, parameters, cancel.clone());
        let execution = attended(&mut self.reader, attendance, execution).await;
        match execution {
            Ok(Execution::Rows { schema, stream, tag }) => {
                Ok(Started::Rows { schema, stream, tag })
            }
            Ok(Execution::Command { tag }) => Ok(Started::Done(Served::Complete(tag))),
            Ok(Execution::Empty) => Ok(Started::Done(Served::Empty)),
            Err(report) => Err(cancelled_or(attendance, report)),
        }
    }

    /// Prepares the delivery of a stream's rows.
    pub(crate) fn delivery(
        &self,
        schema: &Schema,
        formats: Vec<Format>,
        stream: BoxStream<'static, Result<RecordBatch, Report>>,
        tag: &'static str,
    ) -> Result<Delivery, Report> {
        let zone = self.session.output_settings().time_zone;
        let encoder = RowEncoder::new(schema, formats, zone, self.interval_is_12_bytes)?;
        Ok(Delivery { stream, encoder, batch: None, tag })
    }

    /// Sends rows up to the limit, the end or a cancel.
    pub(crate) async fn deliver(
        &mut self,
        delivery: &mut Delivery,
        limit: RowLimit,
        attendance: &Attendance,
    ) -> Result<Served, Failure> {
        let mut sent: u64 = 0;
        loop {
            while let Some(batch) = &mut delivery.batch {
                if limit.is_reached_by(sent) {
                    return Ok(Served::Suspended);
                }
                if batch.next_row == batch.rows {
                    delivery.batch = None;
                    break;
                }
                batch.encoder.encode_row(batch.next_row, &mut self.writer.buffer)?;
                batch.next_row += 1;
                sent += 1;
                if self.writer.is_full() {
                    self.flush_attended(attendance).await?;
                }
            }
            if limit.is_reached_by(sent) {
                return Ok(Served::Suspended);
            }
            match self.next_batch(delivery, attendance).await? {
                Some(batch) => delivery.batch = Some(batch),
                None => return Ok(Served::Complete(format!("{} {sent}", delivery.tag))),
            }
        }
    }

    async fn next_batch(
        &mut self,
        delivery: &mut Delivery,
        attendance: &Attendance,
    ) -> Result<Option<PartialBatch>, Failure> {
        let stream = &mut delivery.stream;
        let next = async {
            tokio::select! {
                biased;
                () = attendance.handle().cancelled() => Some(Err(attendance.handle().report())),
                batch = stream.next() => batch,
            }
        };
        match attended(&mut self.reader, attendance, next).await {
            None => Ok(None),
            Some(Ok(batch)) => {
                let rows = batch.num_rows();
                let encoder = delivery.encoder.batch(&batch)?;
                Ok(Some(PartialBatch { encoder, next_row: 0, rows }))
            }
            Some(Err(report)) => Err(cancelled_or(attendance, report)),
        }
    }

    async fn flush_attended(&mut self, attendance: &Attendance) -> Result<(), Failure> {
        let writer = &mut self.writer;
        let flush = async {
            tokio::select! {
                biased;
                () = attendance.handle().cancelled() => {
                    Err(cancelled_or(attendance, attendance.handle().report()))
                }
                flushed = writer.flush() => Ok(flushed?),
            }
        };
        attended(&mut self.reader, attendance, flush).await
    }

    /// Appends what ends a statement's answer.
    pub(crate) fn put_served(&mut self, served: &Served) {
        self.put_session_output();
        let out = &mut self.writer.buffer;
        match served {
            Served::Complete(tag) => message::put_command_complete(out, tag),
            Served::Empty => message::frame(out, b'I', |_| {}),
            Served::Suspended => message::frame(out, b's', |_| {}),
        }
    }
}

/// The error of a cancelled statement is the cancel, whatever the engine made of it.
fn cancelled_or(attendance: &Attendance, report: Report) -> Failure {
    match attendance.handle().reason() {
        Some(CancelReason::ClientGone) => Failure::Gone,
        Some(_) => attendance.handle().report().into(),
        None => report.into(),
    }
}

/// Appends a RowDescription. Without formats all columns are text.
///
/// # Errors
/// 54000 if there are more columns than the protocol can count.
pub(crate) fn put_row_description(
    out: &mut BytesMut,
    schema: &Schema,
    formats: &[Format],
) -> Result<(), Report> {
    let count = i16::try_from(schema.fields().len()).map_err(|_| {
        Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, "a result has too many columns")
    })?;
    message::frame(out, b'T', |out| {
        out.put_i16(count);
        for (index, field) in schema.fields().iter().enumerate() {
            let wire_type = WireType::of_field(field);
            message::put_text(out, field.name());
            out.put_u32(0);
            out.put_i16(0);
            out.put_u32(wire_type.oid);
            out.put_i16(wire_type.length());
            out.put_i32(wire_type.modifier);
            let format = formats.get(index).copied().unwrap_or(Format::Text);
            out.put_i16(match format {
                Format::Text => 0,
                Format::Binary => 1,
            });
        }
    });
    Ok(())
}
