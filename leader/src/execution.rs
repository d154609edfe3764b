//! Running a physical plan for a client: on the query threads, with a bounded queue between them
//! and the connection, and with an explicit end, so that nothing that dies on the way can look
//! like the end of the rows.

use std::sync::Arc;

use compute::plan::stop::{StopOnDrop, stoppable};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pgwire::report::Report;
use crate::planner::panic_text;

/// Batches between the query and the connection: enough to keep both busy, and the memory of a
/// connection with a slow client stays small.
const BATCHES_QUEUED_MAX: usize = 4;

/// What travels from the query threads to the connection.
enum Item {
    Rows(RecordBatch),
    /// All rows were sent: how many.
    End(u64),
    Failed(Error),
}

/// Starts a plan and gives its rows. Dropping the stream stops the work on all threads.
///
/// # Errors
/// Fails if the plan cannot be prepared for being stopped, which would be a defect.
pub fn stream_rows(
    engine: &Arc<Engine>,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<BoxStream<'static, Result<RecordBatch, Report>>> {
    let (plan, stop) = stoppable(plan)?;
    let (sender, receiver) = mpsc::channel(BATCHES_QUEUED_MAX);
    let mut tasks = JoinSet::new();
    let context = engine.planner.state().task_ctx();
    let failed = sender.clone();
    tasks.spawn_on(
        async move {
            if let Err(error) = send_rows(plan, context, &sender).await {
                // The receiver may be gone: then nobody wants to know.
                let _ = failed.send(Item::Failed(error)).await;
            }
        },
        &engine.query_handle(),
    );
    let state = Receiving { receiver, tasks, _stop: stop, rows: 0, done: false };
    let rows = stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item.map_err(Report::from), state))
    });
    Ok(rows.boxed())
}

async fn send_rows(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<datafusion::execution::TaskContext>,
    sender: &mpsc::Sender<Item>,
) -> Result<()> {
    let mut rows = execute_stream(plan, context)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows() as u64;
        if sender.send(Item::Rows(batch)).await.is_err() {
            return Err(Error::Canceled);
        }
    }
    if sender.send(Item::End(count)).await.is_err() {
        return Err(Error::Canceled);
    }
    Ok(())
}

/// The connection's side.
struct Receiving {
    receiver: mpsc::Receiver<Item>,
    /// Owns the query's task: dropped, it is aborted.
    tasks: JoinSet<()>,
    /// Dropped, it stops what cannot be aborted.
    _stop: StopOnDrop,
    rows: u64,
    done: bool,
}

impl Receiving {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.done {
            return None;
        }
        match self.receiver.recv().await {
            Some(Item::Rows(batch)) => {
                self.rows += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            Some(Item::End(count)) => {
                self.done = true;
                if count == self.rows {
                    return None;
                }
                let text = format!("{count} rows were sent, {} arrived", self.rows);
                Some(Err(Error::Internal(text)))
            }
            Some(Item::Failed(error)) => {
                self.done = true;
                Some(Err(error))
            }
            None => {
                self.done = true;
                Some(Err(self.why_ended().await))
            }
        }
    }

    /// The channel closed without an end marker: the task panicked or was stopped.
    async fn why_ended(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                let payload = error.into_panic();
                Error::Internal(format!("panic: {}", panic_text(&*payload)))
            }
            _ => Error::Internal("the query ended without its end marker".into()),
        }
    }
}
