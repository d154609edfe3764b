//! A query that was let in: its memory, and how it hears what workload management wants of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use compute::cpu_share::CpuShare;
use compute::memory::QueryMemory;
use compute::query_threads::Pace;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use tokio::sync::watch;
use wlm::{EndReason, Grant, Outcome, Priority, QueryId, QueryMetrics};

use super::{Figures, LINGER_INTERVAL, LINGER_MAX, Workload};
use crate::error::{Error, Result};

/// Queries that stay under this time are quick.
const QUICK_MS: u128 = 100;
/// Queries that stay under this time are short.
const SHORT_MS: u128 = 2_000;

/// What a running query is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Stop for good.
    Stop(EndReason),
    /// Stop, to be started again.
    Restart,
}

/// What workload management holds of a running query.
#[derive(Debug)]
pub(super) struct Ticket {
    query: QueryId,
    memory: QueryMemory,
    cpu_share: CpuShare,
    state: watch::Sender<State>,
    figures: Mutex<Weak<Figures>>,
}

/// What was said to a query, and what it did about it.
#[derive(Debug, Default)]
pub(super) struct State {
    order: Option<Order>,
    /// It can no longer be restarted. Never set after an order was given.
    is_returning: bool,
}

/// A query may run.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) ticket: Arc<Ticket>,
    #[cfg(test)]
    pub(super) grant: Grant,
}

impl Ticket {
    /// Sets up what a grant promises.
    pub(super) fn start(query: QueryId, grant: Grant, base: &RuntimeEnv) -> Result<Started> {
        let ticket = Self {
            query,
            memory: QueryMemory::new(base, bytes_of(&grant))?,
            cpu_share: CpuShare::new(grant.cpu_share, pace(&grant)),
            state: watch::Sender::new(State::default()),
            figures: Mutex::new(Weak::new()),
        };
        Ok(Started {
            ticket: Arc::new(ticket),
            #[cfg(test)]
            grant,
        })
    }

    pub(super) fn query(&self) -> QueryId {
        self.query
    }

    /// Gives the query the memory of another place. False if it uses more already, or may use more
    /// on one of several nodes, where a grant cannot be changed.
    pub(super) fn resize(&self, grant: Grant, nodes: usize) -> bool {
        let bytes = bytes_of(&grant);
        let has_moved =
            if nodes > 1 { bytes >= self.memory.size_bytes() } else { self.memory.resize(bytes) };
        if has_moved {
            self.share(grant.cpu_share);
        }
        has_moved
    }

    /// Gives the query another share of the processors, wherever it runs.
    pub(super) fn share(&self, cpu_share: u32) {
        self.cpu_share.set(cpu_share);
    }

    /// Gives an order. A stop is never taken back, and a query that returns rows already is not
    /// restarted: it goes on, and ends by itself.
    pub(super) fn order(&self, order: Order) {
        self.state.send_if_modified(|state| {
            let is_moot = match (&state.order, &order) {
                (Some(Order::Stop(_)), _) => true,
                (_, Order::Restart) => state.is_returning,
                (_, Order::Stop(_)) => false,
            };
            if !is_moot {
                state.order = Some(order);
            }
            !is_moot
        });
    }

    /// From now on the query cannot be restarted. False if it was told to stop before.
    fn begin_returning(&self) -> bool {
        let mut may = true;
        self.state.send_if_modified(|state| {
            may = state.order.is_none();
            state.is_returning |= may;
            false
        });
        may
    }

    /// What the query has done so far, if that can be seen now.
    pub(super) fn figures(&self) -> Option<QueryMetrics> {
        let figures = self.figures.lock().upgrade()?;
        Some(figures.metrics(&self.memory))
    }
}

/// The threads for a query. Those of the superuser queue and of the two highest priorities yield to
/// nobody.
fn pace(grant: &Grant) -> Pace {
    let is_preferred =
        grant.priority >= Priority::Highest || grant.cpu_share >= Priority::Critical.cpu_share();
    match grant.expected_time.as_millis() {
        _ if is_preferred => Pace::Quick,
        ..QUICK_MS => Pace::Quick,
        QUICK_MS..SHORT_MS => Pace::Short,
        _ => Pace::Long,
    }
}

fn bytes_of(grant: &Grant) -> usize {
    usize::try_from(grant.memory_bytes).unwrap_or(usize::MAX)
}

/// The right to run. Dropped by its last owner, the query has ended.
#[derive(Debug)]
pub struct Admission {
    workload: Arc<Workload>,
    ticket: Arc<Ticket>,
    /// What it was given when it started.
    #[cfg(test)]
    pub(super) grant: Grant,
    has_returned: AtomicBool,
    end: Mutex<End>,
}

#[derive(Debug)]
struct End {
    outcome: Outcome,
    metrics: Option<Box<QueryMetrics>>,
    /// It goes on under another number.
    is_restarted: bool,
}

impl Admission {
    pub(super) fn new(workload: Arc<Workload>, started: Started) -> Self {
        let end = End { outcome: Outcome::Stopped, metrics: None, is_restarted: false };
        Self {
            workload,
            ticket: started.ticket,
            #[cfg(test)]
            grant: started.grant,
            has_returned: AtomicBool::new(false),
            end: Mutex::new(end),
        }
    }

    /// Its number.
    pub fn query(&self) -> QueryId {
        self.ticket.query
    }

    /// What it may use on each node.
    pub fn memory(&self) -> &QueryMemory {
        &self.ticket.memory
    }

    /// What it gets of the processors.
    pub fn cpu_share(&self) -> &CpuShare {
        &self.ticket.cpu_share
    }

    /// What it is told while it runs.
    pub fn orders(&self) -> Orders {
        Orders(self.ticket.state.subscribe())
    }

    /// For work that has to know when its first row may go.
    pub fn returning(self: &Arc<Self>) -> Returning {
        Returning(Some(Arc::downgrade(self)))
    }

    /// From now on these are its figures, for as long as their owner keeps them.
    pub fn observe(&self, figures: &Arc<Figures>) {
        *self.ticket.figures.lock() = Arc::downgrade(figures);
    }

    /// From now on it cannot be restarted: the client sees something of it, or it is not alone any
    /// more. False if it was told to stop before: then nothing of it may be seen.
    pub fn begin_returning(&self) -> bool {
        if self.has_returned.load(Ordering::Relaxed) {
            return true;
        }
        let may = self.ticket.begin_returning();
        if may && !self.has_returned.swap(true, Ordering::Relaxed) {
            self.workload.returning(self.query());
        }
        may
    }

    /// How it ends, once it is dropped; without this it was stopped.
    pub fn finish(&self, outcome: Outcome, figures: Option<&Figures>) {
        let mut end = self.end.lock();
        end.outcome = outcome;
        end.metrics = figures.map(|figures| Box::new(figures.metrics(&self.ticket.memory)));
    }

    /// The work of the query has stopped, because it was told to restart: waits for another turn.
    ///
    /// # Errors
    /// If it will not get one, or if others still run in its place.
    pub async fn restart(self: Arc<Self>) -> Result<Self> {
        let Some(own) = Arc::into_inner(self) else {
            return Err(Error::Internal("a query cannot restart: it is not alone".into()));
        };
        let freed = async {
            while own.ticket.memory.reserved_bytes() > 0 {
                tokio::time::sleep(LINGER_INTERVAL).await;
            }
        };
        if tokio::time::timeout(LINGER_MAX, freed).await.is_err() {
            return Err(Error::Internal("a query that was stopped still uses memory".into()));
        }
        own.end.lock().is_restarted = true;
        let (workload, query) = (Arc::clone(&own.workload), own.query());
        drop(own);
        workload.rejoin(query).await
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let end = self.end.get_mut();
        if end.is_restarted {
            return;
        }
        let (outcome, metrics) = (end.outcome, end.metrics.take());
        self.workload.ended(self.query(), outcome, metrics, self.ticket.memory.clone());
    }
}

/// Asked before the first row goes to the client.
#[derive(Debug, Clone)]
pub struct Returning(Option<Weak<Admission>>);

impl Returning {
    /// Of work that nobody stops.
    pub fn unmanaged() -> Self {
        Self(None)
    }

    /// Returns when a row may go. For ever it waits if the query was told to stop before, which it
    /// will be.
    pub async fn begin(&self) {
        let may = match &self.0 {
            None => true,
            Some(admission) => {
                let admission = admission.upgrade();
                admission.is_some_and(|admission| admission.begin_returning())
            }
        };
        if !may {
            std::future::pending::<()>().await;
        }
    }
}

/// How a query hears what it is told.
#[derive(Debug, Clone)]
pub struct Orders(watch::Receiver<State>);

impl Orders {
    /// Waits for an order; for ever if none comes.
    pub async fn next(&mut self) -> Order {
        loop {
            let order = self.0.borrow_and_update().order.clone();
            if let Some(order) = order {
                return order;
            }
            if self.0.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
