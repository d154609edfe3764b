//! Reads an object, or a part of it, ahead of the parser: ranged GETs on a task of their own, into
//! a short queue. The end of the object is a message; a queue that closes without it is an error.

use std::ops::Range;

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use futures::StreamExt;
use object_store::ObjectMeta;
use tokio::sync::mpsc;

use super::super::error::LoadError;
use crate::object_storage::{Bucket, ObjectStorageError};

/// Bytes of one GET.
const CHUNK_BYTES: u64 = 4 << 20;
/// Bytes of one GET behind the end of a part, where its last record ends.
const TAIL_BYTES: u64 = 256 << 10;
/// GETs at once, and chunks that wait in the queue.
const READ_AHEAD: usize = 2;

enum Fetched {
    Chunk(Bytes),
    End,
}

/// The bytes of an object in order. Dropping it stops the task.
pub(in super::super) struct ByteSource {
    queue: mpsc::Receiver<Result<Fetched, ObjectStorageError>>,
    ended: bool,
    _task: SpawnedTask<()>,
}

impl ByteSource {
    /// The next chunk; None at the end of the object.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, LoadError> {
        if self.ended {
            return Ok(None);
        }
        match self.queue.recv().await {
            Some(Ok(Fetched::Chunk(chunk))) => Ok(Some(chunk)),
            Some(Ok(Fetched::End)) => {
                self.ended = true;
                Ok(None)
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(LoadError::Incomplete("reading ahead stopped".to_owned())),
        }
    }
}

/// Starts to read from the start of `part` to the end of the object: in large pieces up to the end
/// of `part`, in small ones after it, since the reader stops soon after.
pub(in super::super) fn fetch(bucket: Bucket, object: ObjectMeta, part: Range<u64>) -> ByteSource {
    let (sender, queue) = mpsc::channel(READ_AHEAD);
    let task = SpawnedTask::spawn(async move {
        let ranges = pieces(part, object.size);
        let reads = futures::stream::iter(ranges).map(|range| bucket.read(&object, range));
        let mut chunks = reads.buffered(READ_AHEAD);
        while let Some(chunk) = chunks.next().await {
            let failed = chunk.is_err();
            // A send fails only when the reader has what it needs.
            if sender.send(chunk.map(Fetched::Chunk)).await.is_err() || failed {
                return;
            }
        }
        let _ = sender.send(Ok(Fetched::End)).await;
    });
    ByteSource { queue, ended: false, _task: task }
}

fn pieces(part: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let mut start = part.start;
    std::iter::from_fn(move || {
        if start >= size {
            return None;
        }
        let end = if start < part.end {
            (start + CHUNK_BYTES).min(part.end)
        } else {
            (start + TAIL_BYTES).min(size)
        };
        let piece = start..end;
        start = end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once() {
        for (start, end, size) in
            [(0, 10, 10), (5, 6, 10), (0, 9 << 20, 9 << 20), (7, 5 << 20, 6 << 20)]
        {
            let mut next = start;
            for piece in pieces(start..end, size) {
                assert_eq!(piece.start, next);
                assert!(piece.end > piece.start && piece.end <= size);
                next = piece.end;
            }
            assert_eq!(next, size);
        }
    }
}
