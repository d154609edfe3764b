//! Running a physical plan: on the query threads, in its place of workload management, and for a
//! client with a bounded queue between them and the connection, and with an explicit end, so that
//! nothing that dies on the way can look like the end of the rows.
//!
//! ```text
//!   connection threads                       query threads
//!   +------------+   rows (bounded)          +-----------+
//!   | Receiving  | <-----------------------  | work      |
//!   |   owns     |                           +-----^-----+
//!   | supervisor | --- stop, restart --------------+
//!   +------------+
//! ```
//!
//! The supervisor hears orders while the query threads are busy, and stops the work from outside.

use std::future::Future;
use std::sync::Arc;

use compute::plan::stop::{StopOnDrop, stoppable};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use wlm::Outcome;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pgwire::report::Report;
use crate::planner::{on_large_stack, panic_text};
use crate::workload::{Claim, Figures, Order, Returning, Seat};

/// Batches between the query and the connection: enough to keep both busy, and the memory of a
/// connection with a slow client stays small.
const BATCHES_QUEUED_MAX: usize = 4;

/// Makes a plan another time, as it was made the first time.
pub type Replan = Arc<dyn Fn() -> Result<Arc<dyn ExecutionPlan>> + Send + Sync>;

/// A plan that is to be executed.
pub struct Planned {
    /// The plan.
    pub plan: Arc<dyn ExecutionPlan>,
    /// How to make it again, if the query may be started again.
    pub again: Option<Replan>,
    /// Nodes run all of it: it is part of a plan that is not made yet.
    pub is_source: bool,
}

/// What a piece of work is given: its plan, the context of its place, and where it counts.
pub struct Work {
    /// What to execute.
    pub plan: Arc<dyn ExecutionPlan>,
    /// With the memory that it has.
    pub context: Arc<TaskContext>,
    /// For rows that are returned.
    pub figures: Arc<Figures>,
    /// To be asked before the first of them.
    pub returning: Returning,
}

/// Executes a plan on the query threads, in its place. `work` is done again from the beginning if
/// workload management starts the query again. Dropping the future stops the work.
///
/// # Errors
/// What the work says, a panic in it, or what workload management gives as the reason of a stop.
pub async fn run_plan<T, W>(
    engine: &Arc<Engine>,
    mut seat: Seat,
    planned: Planned,
    mut work: impl FnMut(Work) -> W,
) -> Result<T>
where
    T: Send + 'static,
    W: Future<Output = Result<T>> + Send + 'static,
{
    let Planned { mut plan, again, is_source } = planned;
    loop {
        // The joins of what runs here can be stopped; checks cannot be sent to nodes.
        let (runnable, stop) = if is_source {
            (plan, None)
        } else {
            let (plan, stop) = stoppable(plan)?;
            (plan, Some(stop))
        };
        let figures = figures(engine, Some(Arc::clone(&runnable)));
        seat.observe(&figures);
        let context = seat.context(engine)?;
        let (figures_of_work, returning) = (Arc::clone(&figures), seat.returning());
        let work = work(Work { plan: runnable, context, figures: figures_of_work, returning });
        match attend(engine, &seat, &figures, stop, work).await? {
            Attended::Done(value) => return Ok(value),
            Attended::MustRestart => {}
        }
        let again = again.as_ref().ok_or_else(|| Error::Internal("no plan to restart".into()))?;
        drop(figures);
        seat = seat.restart().await?;
        let again = Arc::clone(again);
        plan = on_large_stack(move || again()).await?;
    }
}

/// Does work that has no plan in this process, in its place. It is never started again.
///
/// # Errors
/// As [`run_plan`].
pub async fn run_work<T: Send + 'static>(
    engine: &Arc<Engine>,
    seat: Seat,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let figures = figures(engine, None);
    seat.observe(&figures);
    match attend(engine, &seat, &figures, None, work).await? {
        Attended::Done(value) => Ok(value),
        Attended::MustRestart => Err(Error::Internal("this work cannot be restarted".into())),
    }
}

/// Figures of what this process executes.
fn figures(engine: &Engine, plan: Option<Arc<dyn ExecutionPlan>>) -> Arc<Figures> {
    let slices = engine.cluster.layout().slices();
    let plan = plan.filter(|_| matches!(engine.cluster, Cluster::Alone(_)));
    Figures::new(plan, slices, Arc::clone(&engine.clock))
}

enum Attended<T> {
    Done(T),
    /// The work has stopped.
    MustRestart,
}

/// Runs work on the query threads and hears what workload management wants meanwhile.
async fn attend<T: Send + 'static>(
    engine: &Engine,
    seat: &Seat,
    figures: &Figures,
    stop: Option<StopOnDrop>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<Attended<T>> {
    let mut tasks = JoinSet::new();
    tasks.spawn_on(work, &engine.query_threads.handle(seat.pace()));
    let order = tokio::select! {
        biased;
        ended = tasks.join_next() => {
            let result = result_of(ended);
            let outcome = if result.is_ok() { Outcome::Completed } else { Outcome::Failed };
            seat.finish(outcome, figures);
            return result.map(Attended::Done);
        }
        order = seat.order() => order,
    };
    drop(stop);
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    seat.finish(Outcome::Stopped, figures);
    match (order, seat.query()) {
        (Order::Restart, _) => Ok(Attended::MustRestart),
        (Order::Stop(reason), Some(query)) => Err(Error::Workload { query, reason }),
        (Order::Stop(_), None) => Err(Error::Canceled),
    }
}

type Ended<T> = Option<std::result::Result<Result<T>, tokio::task::JoinError>>;

fn result_of<T>(ended: Ended<T>) -> Result<T> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_panic() => {
            let payload = error.into_panic();
            Err(Error::Internal(format!("panic: {}", panic_text(&*payload))))
        }
        Some(Err(_)) | None => Err(Error::Canceled),
    }
}

/// What travels from the query threads to the connection.
enum Item {
    Rows(RecordBatch),
    /// All rows were sent: how many.
    End(u64),
    Failed(Error),
}

/// Starts a plan and gives its rows. Dropping the stream stops the work on all threads.
pub fn stream_rows(
    engine: &Arc<Engine>,
    planned: Planned,
    seat: Seat,
) -> BoxStream<'static, Result<RecordBatch, Report>> {
    let (sender, receiver) = mpsc::channel(BATCHES_QUEUED_MAX);
    let claim = seat.claim();
    let mut supervisor = JoinSet::new();
    supervisor.spawn(supervise(Arc::clone(engine), planned, seat, sender));
    let state = Receiving { receiver, supervisor, _claim: claim, rows: 0, done: false };
    let rows = stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item.map_err(Report::from), state))
    });
    rows.boxed()
}

async fn supervise(engine: Arc<Engine>, planned: Planned, seat: Seat, sender: mpsc::Sender<Item>) {
    let rows = sender.clone();
    let work = move |work: Work| send_rows(work, rows.clone());
    let item = match run_plan(&engine, seat, planned, work).await {
        Ok(count) => Item::End(count),
        Err(error) => Item::Failed(error),
    };
    // The receiver may be gone: then nobody wants to know.
    let _ = sender.send(item).await;
}

async fn send_rows(work: Work, sender: mpsc::Sender<Item>) -> Result<u64> {
    let Work { plan, context, figures, returning } = work;
    let mut rows = execute_stream(plan, context)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        // From here on the query cannot be started again.
        returning.begin().await;
        count += batch.num_rows() as u64;
        figures.add_returned(batch.num_rows());
        if sender.send(Item::Rows(batch)).await.is_err() {
            return Err(Error::Canceled);
        }
    }
    Ok(count)
}

/// The connection's side.
struct Receiving {
    receiver: mpsc::Receiver<Item>,
    /// Owns the query's supervisor: dropped, it is aborted, and the work with it.
    supervisor: JoinSet<()>,
    /// While it is there, the session shares the query's place.
    _claim: Option<Arc<Claim>>,
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

    /// The channel closed without an end marker: the supervisor panicked or was stopped.
    async fn why_ended(&mut self) -> Error {
        match self.supervisor.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                let payload = error.into_panic();
                Error::Internal(format!("panic: {}", panic_text(&*payload)))
            }
            _ => Error::Internal("the query ended without its end marker".into()),
        }
    }
}
