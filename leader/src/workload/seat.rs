//! What a statement's work runs in: memory, and orders of workload management if it is managed.
//!
//! A session has one place in workload management at a time. What it runs while rows of an earlier
//! query are still open (a cursor, a portal that is suspended) runs in the place and in the memory of
//! that query: if it had to wait for a place of its own, sessions that hold places could wait for
//! each other for ever.

use std::sync::{Arc, Weak};

use compute::cpu_share::CpuShare;
use compute::memory::QueryMemory;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryLimit;
use parking_lot::Mutex;
use wlm::{Outcome, QueryId};

use super::{Admission, Figures, Order, Returning};
use crate::activity::StatementGuard;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// The place of a piece of work.
pub struct Seat {
    memory: QueryMemory,
    admission: Option<Arc<Admission>>,
    claim: Weak<Claim>,
    /// The statement goes on for as long as its work does.
    statement: Option<Arc<StatementGuard>>,
}

/// Held by whoever takes the rows: while it is there, the session shares the place.
#[derive(Debug, Default)]
pub struct Claim(Mutex<Weak<Admission>>);

impl Claim {
    /// The place, unless its query has ended.
    pub fn admission(&self) -> Option<Arc<Admission>> {
        self.0.lock().upgrade()
    }
}

impl Seat {
    /// For work that the leader does alone.
    pub fn unmanaged(memory: QueryMemory, statement: Option<Arc<StatementGuard>>) -> Self {
        Self { memory, admission: None, claim: Weak::new(), statement }
    }

    /// In a place of workload management, own or shared.
    pub fn managed(
        admission: Arc<Admission>,
        statement: Option<Arc<StatementGuard>>,
    ) -> (Self, Arc<Claim>) {
        let claim = Arc::new(Claim(Mutex::new(Arc::downgrade(&admission))));
        let memory = admission.memory().clone();
        let seat =
            Self { memory, admission: Some(admission), claim: Arc::downgrade(&claim), statement };
        (seat, claim)
    }

    /// The number of the query, if it is managed.
    pub fn query(&self) -> Option<QueryId> {
        self.admission.as_ref().map(|admission| admission.query())
    }

    /// What the work gets of the processors; None: it is quick, and has no part in the sharing, as
    /// what the leader does alone.
    pub fn cpu_share(&self) -> Option<CpuShare> {
        self.admission.as_ref().map(|admission| admission.cpu_share().clone())
    }

    /// Keeps the place shared for as long as the claim is there.
    pub fn claim(&self) -> Option<Arc<Claim>> {
        self.claim.upgrade()
    }

    /// The context in which operators run: with this place's memory, here and on nodes.
    pub fn context(&self, engine: &Engine) -> Result<Arc<TaskContext>> {
        let runtime = self.memory.runtime_env();
        let MemoryLimit::Finite(bytes) = runtime.memory_pool.memory_limit() else {
            return Err(Error::Internal("a grant of memory has no size".into()));
        };
        engine.planner.context(runtime, bytes, self.cpu_share())
    }

    /// Waits until workload management wants something; for ever if it never does.
    pub async fn order(&self) -> Order {
        match &self.admission {
            Some(admission) => admission.orders().next().await,
            None => std::future::pending().await,
        }
    }

    /// From now on these are the figures of the work.
    pub fn observe(&self, figures: &Arc<Figures>) {
        if let Some(admission) = &self.admission {
            admission.observe(figures);
        }
    }

    /// Asked before the first row goes to the client.
    pub fn returning(&self) -> Returning {
        match &self.admission {
            Some(admission) => admission.returning(),
            None => Returning::unmanaged(),
        }
    }

    /// The work is done, well or not.
    pub fn finish(&self, outcome: Outcome, figures: &Figures) {
        if let Some(admission) = &self.admission {
            admission.finish(outcome, Some(figures));
        }
        if outcome == Outcome::Completed
            && let Some(statement) = &self.statement
        {
            statement.complete();
        }
    }

    /// The work has stopped because it was told to restart: waits for its turn.
    pub async fn restart(self) -> Result<Self> {
        let Self { admission, claim, statement, memory } = self;
        drop(memory);
        let admission = admission.ok_or_else(|| Error::Internal("nothing to restart".into()))?;
        if let Some(statement) = &statement {
            statement.restarted();
        }
        let admission = Arc::new(admission.restart().await?);
        if let Some(statement) = &statement {
            statement.set_query(admission.query());
        }
        if let Some(claim) = claim.upgrade() {
            *claim.0.lock() = Arc::downgrade(&admission);
        }
        let memory = admission.memory().clone();
        Ok(Self { memory, admission: Some(admission), claim, statement })
    }
}
