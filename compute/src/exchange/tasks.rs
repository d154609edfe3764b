//! The tasks that are open on a node: how each is told that its query has ended, and the memory that
//! the tasks of a query share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::measured::measured;
use super::messages::Measured;
use crate::memory::QueryMemory;
use crate::plan::cancel::QueryEnd;

/// In which a task finds its entry here; set by this process for itself.
const TASK_HEADER: &str = "x-blueshift-task";

/// All open tasks of a node.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<TaskState>>>,
    /// The grants of queries with open tasks.
    grants: Mutex<HashMap<Uuid, Weak<QueryMemory>>>,
    closed: AtomicU64,
}

/// What the session of a task and its channel have in common.
#[derive(Debug, Default)]
pub(crate) struct TaskState {
    /// Set when nobody wants its rows any more.
    pub(crate) end: Arc<QueryEnd>,
    /// The memory of its query; None: whatever the node has.
    pub(super) memory: Option<Arc<QueryMemory>>,
    /// What runs, if it is to be measured. The plan may hold streams that hold the session, and so
    /// this: it is taken out at the end.
    measuring: Mutex<Option<Arc<dyn ExecutionPlan>>>,
}

impl TaskState {
    /// The plan of the task is to be measured.
    pub(super) fn measure(&self, plan: Arc<dyn ExecutionPlan>) {
        *self.measuring.lock() = Some(plan);
    }
}

/// A task that is open; dropped, its query has ended.
pub(crate) struct OpenTask {
    number: u64,
    state: Arc<TaskState>,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// A new task; the headers lead its session to it.
    pub(crate) fn open(
        self: &Arc<Self>,
        headers: &mut HeaderMap,
        memory: Option<Arc<QueryMemory>>,
    ) -> OpenTask {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(TaskState { memory, ..TaskState::default() });
        self.open.lock().insert(number, Arc::clone(&state));
        headers.insert(TASK_HEADER, HeaderValue::from(number));
        OpenTask { number, state, tasks: Arc::clone(self) }
    }

    /// The memory that all tasks of a query share; `make` makes it for the first of them.
    pub(super) fn share_memory(
        &self,
        query: Uuid,
        make: impl FnOnce() -> Result<QueryMemory>,
    ) -> Result<Arc<QueryMemory>> {
        let mut grants = self.grants.lock();
        if let Some(memory) = grants.get(&query).and_then(Weak::upgrade) {
            return Ok(memory);
        }
        grants.retain(|_, memory| memory.strong_count() > 0);
        let memory = Arc::new(make()?);
        grants.insert(query, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// The task that these headers belong to.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Result<Arc<TaskState>> {
        let number = headers.get(TASK_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let open = self.open.lock();
        match number.and_then(|number: u64| open.get(&number)) {
            Some(state) => Ok(Arc::clone(state)),
            None => internal_err!("the task is not open"),
        }
    }

    /// Tells all tasks that nobody wants their rows any more.
    pub(crate) fn end_all(&self) {
        for state in self.open.lock().values() {
            state.end.set();
        }
    }

    /// How many tasks have been closed so far.
    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

impl OpenTask {
    /// What the task has done so far, if it is measured.
    pub(super) fn measured(&self) -> Option<Measured> {
        let measuring = self.state.measuring.lock();
        let peak_bytes = self.state.memory.as_ref().map(|memory| memory.peak_bytes());
        Some(measured(measuring.as_ref()?, peak_bytes))
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        self.state.end.set();
        self.state.measuring.lock().take();
        self.tasks.open.lock().remove(&self.number);
        self.tasks.closed.fetch_add(1, Ordering::Relaxed);
    }
}
