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
//!
//! Work that loses a compute node begins again on those that are left, in the same place, as long as
//! no row of it went to the connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use compute::plan::bounded::bounded;
use compute::plan::stop::{StopOnDrop, stoppable};
use compute::query_threads::Pace;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::{BoxStream, Fuse};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wlm::Outcome;

use crate::cluster::{Attempts, Cluster, final_error};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pgwire::report::Report;
use crate::planner::{on_large_stack, panic_text};
use crate::workload::{Claim, Figures, Order, Returning, Seat};

/// Batches between the query and the connection: enough to keep both busy, and the memory of a
/// connection with a slow client stays small.
const BATCHES_QUEUED_MAX: usize = 4;

/// So many rows of a query on several nodes, and for so long, are held back before they are given
/// out: a query of a few rows can begin again until its last node has said that it is done. It is
/// longer than a node can be silent without being missed.
const HOLD_ROWS_MAX: usize = 8192;
const HOLD_TIME_MAX: Duration = Duration::from_secs(6);

/// Makes a plan another time, as it was made the first time.
pub type Replan = Arc<dyn Fn() -> Result<Arc<dyn ExecutionPlan>> + Send + Sync>;

/// A plan that is to be executed.
pub struct Planned {
    /// The plan.
    pub plan: Arc<dyn ExecutionPlan>,
    /// How to make it again, over the same snapshot, if the query may begin again. Called on a large
    /// stack.
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
    /// It may be done again if a node is lost: the first rows are not to be returned at once.
    pub is_repeatable: bool,
}

/// Executes a plan on the query threads, in its place. `work` is done again from the beginning if
/// workload management starts the query again, and if it loses a compute node before it has returned
/// rows. Dropping the future stops the work.
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
    let mut attempts = Attempts::new(&engine.cluster);
    loop {
        // What runs here can be stopped and keeps to its memory; nodes see to their own part.
        let (runnable, stop) = if is_source {
            (plan, None)
        } else {
            let (plan, stop) = stoppable(bounded(plan)?)?;
            (plan, Some(stop))
        };
        let figures = figures(engine, Some(Arc::clone(&runnable)));
        seat.observe(&figures);
        let context = seat.context(engine)?;
        let work = work(Work {
            plan: runnable,
            context,
            figures: Arc::clone(&figures),
            returning: seat.returning(),
            is_repeatable: again.is_some() && attempts.are_possible(),
        });
        let attended = attend(engine, &seat, &figures, stop, work).await;
        let has_returned = figures.has_returned();
        drop(figures);
        match (attended, &again) {
            (Ok(Attended::Done(value)), _) => return Ok(value),
            (Ok(Attended::MustRestart), Some(again)) => {
                seat = seat.restart().await?;
                let again = Arc::clone(again);
                plan = on_large_stack(move || again()).await?;
                attempts = Attempts::new(&engine.cluster);
            }
            (Ok(Attended::MustRestart), None) => {
                return Err(Error::Internal("no plan to restart".into()));
            }
            (Err(error), None) => return Err(told(engine, error, has_returned)),
            (Err(error), Some(_)) if has_returned => {
                return Err(told(engine, error, has_returned));
            }
            (Err(error), Some(again)) => match plan_again(again, &mut attempts, error).await {
                Ok(planned) => plan = planned,
                Err(error) => return Err(told(engine, error, has_returned)),
            },
        }
    }
}

/// Makes the plan once more if another attempt may help, or gives the error back.
async fn plan_again(
    again: &Replan,
    attempts: &mut Attempts,
    mut error: Error,
) -> Result<Arc<dyn ExecutionPlan>> {
    while attempts.again(&error).await {
        let again = Arc::clone(again);
        match on_large_stack(move || again()).await {
            Ok(plan) => return Ok(plan),
            Err(other) => error = other,
        }
    }
    Err(error)
}

/// What the client hears of work that is given up.
fn told(engine: &Engine, error: Error, has_returned: bool) -> Error {
    match &engine.cluster {
        Cluster::Alone(_) => error,
        Cluster::Nodes(_) => final_error(error, has_returned),
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

fn figures(engine: &Engine, plan: Option<Arc<dyn ExecutionPlan>>) -> Arc<Figures> {
    Figures::new(plan, engine.cluster.layout(), Arc::clone(&engine.clock))
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
    match seat.cpu_share() {
        Some(share) => {
            let threads = engine.query_threads.handle(share.pace());
            share.scope(|| tasks.spawn_on(work, &threads));
        }
        None => {
            tasks.spawn_on(work, &engine.query_threads.handle(Pace::Quick));
        }
    }
    let order = tokio::select! {
        biased;
        ended = tasks.join_next() => {
            let result = result_of(ended);
            let outcome = if result.is_ok() { Outcome::Completed } else { Outcome::Failed };
            if result.is_ok() {
                figures.settle().await;
            }
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
    let Work { plan, context, figures, returning, is_repeatable } = work;
    let mut rows = execute_stream(plan, context)?.fuse();
    let held = if is_repeatable { hold_back(&mut rows).await? } else { Vec::new() };
    let mut rows = stream::iter(held.into_iter().map(Ok)).chain(rows);
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

/// The first rows, or all if they are few: if it fails, nobody has seen any of them.
async fn hold_back(rows: &mut Fuse<SendableRecordBatchStream>) -> Result<Vec<RecordBatch>> {
    let (mut held, mut count, mut until) = (Vec::new(), 0, None);
    while count <= HOLD_ROWS_MAX {
        let next = match until {
            None => rows.next().await,
            Some(until) => match tokio::time::timeout_at(until, rows.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        let Some(batch) = next else { break };
        let batch = batch?;
        if batch.num_rows() > 0 {
            count += batch.num_rows();
            held.push(batch);
            until.get_or_insert_with(|| Instant::now() + HOLD_TIME_MAX);
        }
    }
    Ok(held)
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::RecordBatchOptions;
    use datafusion::arrow::datatypes::Schema;
    use datafusion::error::{DataFusionError, Result as QueryResult};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::*;

    fn rows(items: Vec<Option<usize>>) -> Fuse<SendableRecordBatchStream> {
        let schema = Arc::new(Schema::empty());
        let of_stream = Arc::clone(&schema);
        let items = items.into_iter().map(move |rows| -> QueryResult<RecordBatch> {
            let Some(rows) = rows else {
                return Err(DataFusionError::Execution("the node is gone".into()));
            };
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let schema = Arc::clone(&schema);
            Ok(RecordBatch::try_new_with_options(schema, vec![], &options)?)
        });
        let adapter = RecordBatchStreamAdapter::new(of_stream, stream::iter(items));
        let rows: SendableRecordBatchStream = Box::pin(adapter);
        rows.fuse()
    }

    async fn held(items: Vec<Option<usize>>) -> (Option<Vec<usize>>, usize) {
        let mut rows = rows(items);
        let held = hold_back(&mut rows).await.ok();
        let held = held.map(|held| held.iter().map(RecordBatch::num_rows).collect());
        (held, rows.count().await)
    }

    #[tokio::test]
    async fn few_rows_are_held_to_the_end_and_many_are_not() {
        assert_eq!(held(vec![Some(5), Some(0), Some(7)]).await, (Some(vec![5, 7]), 0));
        // A failure before the end: nobody has seen any of them.
        assert_eq!(held(vec![Some(5), Some(7), None]).await.0, None);
        let many = vec![Some(8000), Some(192), Some(1), Some(9), None];
        assert_eq!(held(many).await, (Some(vec![8000, 192, 1]), 2));
        assert_eq!(held(vec![]).await, (Some(vec![]), 0));
    }
}
