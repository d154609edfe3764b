//! Running a physical plan for a client: on the query threads, with a bounded queue between them
//! and the connection, and with an explicit end, so that nothing that dies on the way can look
//! like the end of the rows.
//!
//! A query that loses a compute node begins again on those that are left, as long as no row of it
//! went to the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use compute::plan::stop::{StopOnDrop, stoppable};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::{Attempts, final_error};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pgwire::report::Report;
use crate::planner::{on_large_stack, panic_text};

/// Batches between the query and the connection: enough to keep both busy, and the memory of a
/// connection with a slow client stays small.
const BATCHES_QUEUED_MAX: usize = 4;

/// So many rows of a query on several nodes, and for so long, are held back before they are given
/// out: a query of a few rows can begin again until its last node has said that it is done. It is
/// longer than a node can be silent without being missed.
const HOLD_ROWS_MAX: u64 = 8192;
const HOLD_TIME_MAX: Duration = Duration::from_secs(6);

/// What travels from the query threads to the connection.
enum Item {
    Rows(RecordBatch),
    /// All rows were sent: how many.
    End(u64),
    Failed(Error),
}

/// What came from a query.
enum Received {
    Rows(RecordBatch),
    /// Nothing came while rows are held back.
    LongEnough,
    End,
    Failed(Error),
}

/// Plans a query once more, over the same snapshot. Called on a large stack.
pub(crate) type Replan = Arc<dyn Fn() -> Result<Arc<dyn ExecutionPlan>> + Send + Sync>;

/// Starts a plan and gives its rows. Dropping the stream stops the work on all threads. `replan`
/// makes the plan anew if it has to begin again.
///
/// # Errors
/// Fails if the plan cannot be prepared for being stopped, which would be a defect.
pub(crate) fn stream_rows(
    engine: &Arc<Engine>,
    plan: Arc<dyn ExecutionPlan>,
    replan: Replan,
) -> Result<BoxStream<'static, Result<RecordBatch, Report>>> {
    let attempts = Attempts::new(&engine.cluster);
    let (engine, running) = (Arc::clone(engine), start(engine, plan)?);
    let state = Receiving {
        running,
        engine,
        attempts,
        replan: Some(replan),
        held: VecDeque::new(),
        hold_until: None,
        rows: 0,
        done: false,
    };
    let rows = stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item.map_err(Report::from), state))
    });
    Ok(rows.boxed())
}

fn start(engine: &Engine, plan: Arc<dyn ExecutionPlan>) -> Result<Running> {
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
    Ok(Running { receiver, tasks, _stop: stop })
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

/// A plan that runs.
struct Running {
    receiver: mpsc::Receiver<Item>,
    /// Owns the query's task: dropped, it is aborted.
    tasks: JoinSet<()>,
    /// Dropped, it stops what cannot be aborted.
    _stop: StopOnDrop,
}

/// The connection's side.
struct Receiving {
    running: Running,
    engine: Arc<Engine>,
    attempts: Attempts,
    /// None once rows are given out: it holds a whole snapshot.
    replan: Option<Replan>,
    /// Came and were not given out yet.
    held: VecDeque<RecordBatch>,
    /// Until when rows are held back; None if there are none.
    hold_until: Option<Instant>,
    /// Rows that came.
    rows: u64,
    done: bool,
}

impl Receiving {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if self.replan.is_none()
                && let Some(batch) = self.held.pop_front()
            {
                return Some(Ok(batch));
            }
            if self.done {
                return None;
            }
            let error = match self.receive().await {
                Received::Rows(batch) => {
                    self.take(batch);
                    continue;
                }
                Received::LongEnough => {
                    self.replan = None;
                    continue;
                }
                Received::End => {
                    self.replan = None;
                    self.done = true;
                    continue;
                }
                Received::Failed(error) => error,
            };
            let given_out = self.replan.is_none();
            if let Err(error) = self.begin_again(error).await {
                self.done = true;
                self.held.clear();
                return Some(Err(final_error(error, given_out)));
            }
        }
    }

    /// The next that comes from the query, or that nothing comes for too long.
    async fn receive(&mut self) -> Received {
        let item = self.running.receiver.recv();
        let item = match self.hold_until.filter(|_| self.replan.is_some()) {
            None => item.await,
            Some(until) => match tokio::time::timeout_at(until, item).await {
                Ok(item) => item,
                Err(_) => return Received::LongEnough,
            },
        };
        match item {
            Some(Item::Rows(batch)) => Received::Rows(batch),
            Some(Item::End(count)) if count == self.rows => Received::End,
            Some(Item::End(count)) => {
                let text = format!("{count} rows were sent, {} arrived", self.rows);
                Received::Failed(Error::Internal(text))
            }
            Some(Item::Failed(error)) => Received::Failed(error),
            None => Received::Failed(self.running.why_ended().await),
        }
    }

    /// Holds rows back, unless they are many: until they are, or the end is there, the query can
    /// begin again.
    fn take(&mut self, batch: RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        self.rows += batch.num_rows() as u64;
        self.held.push_back(batch);
        self.hold_until.get_or_insert_with(|| Instant::now() + HOLD_TIME_MAX);
        if self.rows > HOLD_ROWS_MAX || !self.attempts.are_possible() {
            self.replan = None;
        }
    }

    /// Starts the query once more if that may help, or gives the error back.
    async fn begin_again(&mut self, mut error: Error) -> Result<()> {
        while let Some(replan) = self.replan.clone()
            && self.attempts.again(&error).await
        {
            let planned = on_large_stack(move || replan()).await;
            match planned.and_then(|plan| start(&self.engine, plan)) {
                Ok(running) => {
                    self.running = running;
                    self.held.clear();
                    (self.rows, self.hold_until) = (0, None);
                    return Ok(());
                }
                Err(other) => error = other,
            }
        }
        Err(error)
    }
}

impl Running {
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
