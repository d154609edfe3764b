//! A stream of batches as frames, and back.
//!
//! Schema, batches, end. The end frame carries the numbers of rows and batches; the receiver counts
//! too, and takes nothing but an end frame with its own numbers for the end of the rows.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::metrics::Count;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::Status;

use super::failure::{from_status, unreachable_node};
use super::messages::{End, Frame, Part};
use crate::compact::compact;

/// Makes frames of batches.
pub(super) struct FrameWriter {
    writer: StreamWriter<Vec<u8>>,
    without_bytes: bool,
    sent: End,
}

impl FrameWriter {
    /// A writer, and the first frame.
    pub(super) fn try_new(schema: &SchemaRef) -> Result<(Self, Frame)> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        let first = Bytes::from(std::mem::take(writer.get_mut()));
        let without_bytes = without_bytes(schema);
        let sent = End { rows: 0, batches: 0 };
        Ok((Self { writer, without_bytes, sent }, frame(Part::Schema(first))))
    }

    /// The frame of a batch; none if the batch has no rows.
    pub(super) fn batch(&mut self, batch: RecordBatch) -> Result<Option<Frame>> {
        let rows = batch.num_rows() as u64;
        if rows == 0 {
            return Ok(None);
        }
        self.sent.rows += rows;
        self.sent.batches += 1;
        if self.without_bytes {
            return Ok(Some(frame(Part::Counted(rows))));
        }
        self.writer.write(&compact(batch)?)?;
        let bytes = Bytes::from(std::mem::take(self.writer.get_mut()));
        Ok(Some(frame(Part::Batch(bytes))))
    }

    /// The last frame.
    pub(super) fn end(self) -> Frame {
        frame(Part::End(self.sent))
    }
}

fn frame(part: Part) -> Frame {
    Frame { part: Some(part) }
}

/// Whether a batch of these columns is nothing but a number of rows.
fn without_bytes(schema: &Schema) -> bool {
    schema.fields().iter().all(|field| *field.data_type() == DataType::Null)
}

/// The batches in the frames that come from a node.
/// `bytes` counts what comes.
pub(super) fn batches(
    frames: impl Stream<Item = Result<Frame, Status>> + Send + Unpin + 'static,
    node: Arc<str>,
    bytes: Count,
) -> BoxStream<'static, Result<RecordBatch>> {
    let reader = FrameReader {
        frames,
        node,
        bytes,
        decoder: StreamDecoder::new(),
        received: End { rows: 0, batches: 0 },
    };
    futures::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct FrameReader<S> {
    frames: S,
    node: Arc<str>,
    bytes: Count,
    decoder: StreamDecoder,
    received: End,
}

impl<S: Stream<Item = Result<Frame, Status>> + Unpin> FrameReader<S> {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let frame = match self.frames.next().await {
                None => return Err(self.broken("it ended without its end frame")),
                Some(Err(status)) => return Err(from_status(&status, &self.node)),
                Some(Ok(frame)) => frame,
            };
            let batch = match frame.part {
                Some(Part::Schema(bytes)) => {
                    self.decode(bytes)?;
                    continue;
                }
                Some(Part::Batch(bytes)) => {
                    self.decode(bytes)?.ok_or_else(|| self.broken("a frame holds no batch"))?
                }
                Some(Part::Counted(rows)) => self.counted(rows)?,
                Some(Part::End(end)) if end == self.received => return Ok(None),
                Some(Part::End(end)) => {
                    let (rows, received) = (end.rows, self.received.rows);
                    return Err(self.broken(&format!("{rows} rows were sent, {received} arrived")));
                }
                None => return Err(self.broken("a frame is empty")),
            };
            self.received.rows += batch.num_rows() as u64;
            self.received.batches += 1;
            return Ok(Some(batch));
        }
    }

    fn decode(&mut self, bytes: Bytes) -> Result<Option<RecordBatch>> {
        self.bytes.add(bytes.len());
        let mut buffer = Buffer::from(bytes);
        let batch = self.decoder.decode(&mut buffer)?;
        if buffer.is_empty() { Ok(batch) } else { Err(self.broken("a frame is too long")) }
    }

    fn counted(&mut self, rows: u64) -> Result<RecordBatch> {
        if self.decoder.schema().is_none() {
            // The decoder looks at a message without a body when more bytes come. No messages
            // follow in such a stream; this is the beginning of one.
            const MESSAGE_BEGIN: [u8; 4] = [0xFF; 4];
            self.decode(Bytes::from_static(&MESSAGE_BEGIN))?;
        }
        let schema = self.decoder.schema().filter(|schema| without_bytes(schema));
        let schema = schema.ok_or_else(|| self.broken("a batch has no columns"))?;
        let rows = usize::try_from(rows).map_err(|_| self.broken("a batch is too long"))?;
        let columns = schema.fields().iter().map(|_| new_null_array(&DataType::Null, rows));
        let columns = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    fn broken(&self, reason: &str) -> DataFusionError {
        unreachable_node(&self.node, &format!("a stream of rows is broken: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::Field;
    use futures::TryStreamExt;

    fn rows() -> Vec<RecordBatch> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8View, true),
        ]));
        let batch = |from: i64| {
            let texts = (from..from + 100).map(|i| Some(format!("a text of some length {i}")));
            let texts = StringViewArray::from_iter(texts);
            let numbers = Int64Array::from_iter(from..from + 100);
            let schema = Arc::clone(&schema);
            RecordBatch::try_new(schema, vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
        };
        vec![batch(0), batch(100).slice(5, 20), batch(200).slice(0, 0), batch(300)]
    }

    fn frames_of(batches: &[RecordBatch]) -> Vec<Frame> {
        let (mut writer, first) = FrameWriter::try_new(&batches[0].schema()).unwrap();
        let mut frames = vec![first];
        for batch in batches {
            frames.extend(writer.batch(batch.clone()).unwrap());
        }
        frames.push(writer.end());
        frames
    }

    async fn read(frames: Vec<Frame>) -> Result<Vec<RecordBatch>> {
        let frames = futures::stream::iter(frames.into_iter().map(Ok));
        batches(frames, "test".into(), Count::new()).try_collect().await
    }

    #[tokio::test]
    async fn what_is_sent_arrives() {
        let sent = rows();
        let received = read(frames_of(&sent)).await.unwrap();
        let sent: Vec<_> = sent.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn a_lost_frame_is_an_error() {
        let frames = frames_of(&rows());
        for lost in 0..frames.len() {
            let mut some = frames.clone();
            some.remove(lost);
            assert!(read(some).await.is_err(), "without frame {lost}");
        }
        for length in 0..frames.len() {
            assert!(read(frames[..length].to_vec()).await.is_err(), "{length} frames");
        }
    }

    #[tokio::test]
    async fn batches_without_bytes_keep_their_rows() {
        for fields in [vec![], vec![Field::new("n", DataType::Null, true)]] {
            let schema = Arc::new(Schema::new(fields));
            let columns = schema.fields().iter().map(|_| new_null_array(&DataType::Null, 7));
            let options = RecordBatchOptions::new().with_row_count(Some(7));
            let columns = columns.collect();
            let batch =
                RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap();
            let received = read(frames_of(&[batch.clone(), batch.clone()])).await.unwrap();
            assert_eq!(received, vec![batch.clone(), batch]);
        }
    }
}
