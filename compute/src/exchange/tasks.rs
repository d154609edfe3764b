//! The tasks that are open on a node: how each is told that its query has ended, and what the tasks of
//! a query share: memory, and a place among the threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::TaskKey;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::measured::measured;
use super::messages::Measured;
use crate::cpu_share::CpuShare;
use crate::memory::QueryMemory;
use crate::plan::cancel::QueryEnd;
use crate::query_threads::Pace;

/// In which a task finds its entry here; set by this process for itself.
const TASK_HEADER: &str = "x-blueshift-task";

/// All open tasks of a node.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<TaskState>>>,
    /// The same by what they are called.
    named: Mutex<HashMap<TaskKey, Weak<TaskState>>>,
    opened: Notify,
    /// Of queries with open tasks.
    places: Mutex<HashMap<Uuid, Weak<Place>>>,
    closed: AtomicU64,
}

/// What all tasks of a query have together.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// None: whatever the node has.
    pub(super) memory: Option<QueryMemory>,
    /// None: it is quick, and has no part in the sharing.
    pub(super) cpu_share: Option<CpuShare>,
}

impl Place {
    /// The threads for its tasks.
    pub(super) fn pace(&self) -> Pace {
        self.cpu_share.as_ref().map_or(Pace::Quick, CpuShare::pace)
    }
}

/// What the session of a task and its channel have in common.
#[derive(Debug, Default)]
pub(crate) struct TaskState {
    /// Set when nobody wants its rows any more.
    pub(crate) end: Arc<QueryEnd>,
    /// Of its query.
    pub(super) place: Arc<Place>,
    /// What runs, to be measured. It may hold streams that hold the session, and so this: it is taken
    /// out at the end.
    plan: Mutex<Option<Arc<dyn ExecutionPlan>>>,
}

impl TaskState {
    /// What is to run.
    pub(super) fn set_plan(&self, plan: Arc<dyn ExecutionPlan>) {
        *self.plan.lock() = Some(plan);
    }

    /// What the task has done so far.
    pub(super) fn measured(&self) -> Option<Measured> {
        let plan = self.plan.lock().clone()?;
        Some(measured(&plan, self.place.memory.as_ref()))
    }
}

/// A task that is open; dropped, its query has ended.
pub(crate) struct OpenTask {
    number: u64,
    key: TaskKey,
    state: Arc<TaskState>,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// A new task; the headers lead its session to it.
    pub(crate) fn open(
        self: &Arc<Self>,
        key: TaskKey,
        headers: &mut HeaderMap,
        place: Arc<Place>,
    ) -> OpenTask {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(TaskState { place, ..TaskState::default() });
        self.open.lock().insert(number, Arc::clone(&state));
        self.named.lock().insert(key, Arc::downgrade(&state));
        self.opened.notify_waiters();
        headers.insert(TASK_HEADER, HeaderValue::from(number));
        OpenTask { number, key, state, tasks: Arc::clone(self) }
    }

    /// What all tasks of a query share; `make` makes it for the first of them.
    pub(super) fn share_place(
        &self,
        query: Uuid,
        make: impl FnOnce() -> Result<Place>,
    ) -> Result<Arc<Place>> {
        let mut places = self.places.lock();
        if let Some(place) = places.get(&query).and_then(Weak::upgrade) {
            return Ok(place);
        }
        places.retain(|_, place| place.strong_count() > 0);
        let place = Arc::new(make()?);
        places.insert(query, Arc::downgrade(&place));
        Ok(place)
    }

    /// The task that is called so, as soon as it is open.
    pub(super) async fn named(&self, key: &TaskKey) -> Arc<TaskState> {
        loop {
            // Registered before the look, so that an opening in between is not missed.
            let opened = self.opened.notified();
            if let Some(state) = self.named.lock().get(key).and_then(Weak::upgrade) {
                return state;
            }
            opened.await;
        }
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
    pub(super) fn state(&self) -> &Arc<TaskState> {
        &self.state
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        self.state.end.set();
        let plan = self.state.plan.lock().take();
        drop(plan);
        self.tasks.open.lock().remove(&self.number);
        let mut named = self.tasks.named.lock();
        // A query that begins again calls its tasks by other names; one name is never two tasks.
        named.remove(&self.key);
        drop(named);
        self.tasks.closed.fetch_add(1, Ordering::Relaxed);
    }
}
