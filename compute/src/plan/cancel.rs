//! A query's end as its leaves see it.
//!
//! Dropping a stream stops what nobody else holds. Behind a shuffle the tasks that fill the
//! partitions hold their inputs themselves, and would read on; so each leaf looks at the flag of its
//! query before it reads more.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};

use crate::error::with_sqlstate;

/// Set once, when nobody wants the rows of a query any more.
#[derive(Debug, Default)]
pub struct QueryEnd(Arc<AtomicBool>);

impl QueryEnd {
    /// From now on the leaves of the query stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What is true once the query has ended.
    pub(super) fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that fails once the query of this session has ended; without a [`QueryEnd`] in the
/// session, the stream itself.
pub(crate) fn cancellable(
    stream: SendableRecordBatchStream,
    session: &SessionConfig,
) -> SendableRecordBatchStream {
    match session.get_extension::<QueryEnd>() {
        None => stream,
        Some(end) => Box::pin(Cancellable { end, schema: stream.schema(), stream: Some(stream) }),
    }
}

struct Cancellable {
    end: Arc<QueryEnd>,
    schema: SchemaRef,
    /// None once the query has ended.
    stream: Option<SendableRecordBatchStream>,
}

impl Stream for Cancellable {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ended = self.end.is_set();
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if ended {
            self.stream = None;
            return Poll::Ready(Some(Err(with_sqlstate("57014", "the query has ended"))));
        }
        stream.poll_next_unpin(context)
    }
}

impl RecordBatchStream for Cancellable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
