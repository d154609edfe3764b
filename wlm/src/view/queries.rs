//! Queries that wait and run: `stv_wlm_query_state`, `stv_wlm_query_queue_state`,
//! `stv_wlm_query_task_state`; and that are gone: `stl_wlm_query`.

use std::fmt;
use std::sync::Arc;

use crate::ids::{QueryId, ServiceClass, TaskId, UserId};
use crate::priority::Priority;
use crate::scheduler::{Query, Scheduler, Stop};
use crate::time::{Time, micros};

/// The state of a query that has not begun to run.
const WAITING: &str = "QueuedWaiting";

/// A row of `stv_wlm_query_state`. The user is not a column: it filters what a user may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryStateRow {
    /// Whose query it is.
    pub userid: UserId,
    /// Its transaction.
    pub xid: u64,
    /// Its stay in workload management.
    pub task: TaskId,
    /// Its number.
    pub query: QueryId,
    /// Where it waits or runs.
    pub service_class: ServiceClass,
    /// Slots it has or waits for.
    pub slot_count: u32,
    /// When it entered the service class.
    pub wlm_start_time: Time,
    /// `QueuedWaiting`, `Running`, `Returning` or `Evicting`.
    pub state: &'static str,
    /// Time in the queue.
    pub queue_time: u64,
    /// Time since it began to run.
    pub exec_time: u64,
    /// Its priority.
    pub query_priority: Priority,
}

impl QueryStateRow {
    /// Whether it has not begun to run.
    pub fn is_waiting(&self) -> bool {
        self.state == WAITING
    }
}

/// A row of `stv_wlm_query_queue_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStateRow {
    /// Whose query it is.
    pub userid: UserId,
    /// In which line it waits.
    pub service_class: ServiceClass,
    /// Its place, from 1. In automatic mode places are those of arrival, and the order of starts
    /// depends on what fits.
    pub position: u32,
    /// Its stay in workload management.
    pub task: TaskId,
    /// Its number.
    pub query: QueryId,
    /// Slots it waits for.
    pub slot_count: u32,
    /// When it entered the line.
    pub start_time: Time,
    /// Time in the queue.
    pub queue_time: u64,
}

/// A row of `stv_wlm_query_task_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskStateRow {
    /// Whose query it is.
    pub userid: UserId,
    /// Where it runs.
    pub service_class: ServiceClass,
    /// Its stay in workload management.
    pub task: TaskId,
    /// Its number.
    pub query: QueryId,
    /// Slots it has.
    pub slot_count: u32,
    /// When it began to run.
    pub start_time: Time,
    /// Time since then.
    pub exec_time: u64,
}

/// A row of `stl_wlm_query`: a query's stay in one service class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WlmQueryRow {
    /// Whose query it was.
    pub userid: UserId,
    /// Its transaction.
    pub xid: u64,
    /// Its stay in workload management.
    pub task: TaskId,
    /// Its number.
    pub query: QueryId,
    /// Where it was.
    pub service_class: ServiceClass,
    /// Slots it had, or waited for.
    pub slot_count: u32,
    /// When it entered the service class.
    pub service_class_start_time: Time,
    /// When it began to wait there.
    pub queue_start_time: Time,
    /// When it stopped waiting there.
    pub queue_end_time: Time,
    /// Time in the queue.
    pub total_queue_time: u64,
    /// When it began to run there; `None`: it never did.
    pub exec_start_time: Option<Time>,
    /// When it ended, if it ran.
    pub exec_end_time: Option<Time>,
    /// Time it ran there.
    pub total_exec_time: u64,
    /// When it left the service class.
    pub service_class_end_time: Time,
    /// How it left.
    pub final_state: FinalState,
    /// Peak of memory that was expected.
    pub est_peak_mem: u64,
    /// Its priority.
    pub query_priority: Priority,
    /// The name of the service class.
    pub service_class_name: Arc<str>,
}

/// How a query left a service class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinalState {
    /// It ran there and ended, with or without success.
    Completed,
    /// It went on in another service class, or was restarted.
    Evicted,
    /// It never ran there.
    Rejected,
}

impl fmt::Display for FinalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "Completed",
            Self::Evicted => "Evicted",
            Self::Rejected => "Rejected",
        })
    }
}

impl Query {
    /// The state as `stv_wlm_query_state` names it.
    fn state(&self) -> &'static str {
        match self.running() {
            None => WAITING,
            Some(running) => match running.stop {
                Stop::Restart { .. } => "Evicting",
                Stop::No | Stop::Final(_) if running.is_returning => "Returning",
                Stop::No | Stop::Final(_) => "Running",
            },
        }
    }
}

impl Scheduler {
    /// The rows of `stv_wlm_query_state`.
    pub fn query_state_rows(&self) -> Vec<QueryStateRow> {
        let row = |(id, query): (&QueryId, &Query)| QueryStateRow {
            userid: query.request.user,
            xid: query.request.xid,
            task: query.task,
            query: *id,
            service_class: self.present_class(query),
            slot_count: self.present_slots(query),
            wlm_start_time: query.entered,
            state: query.state(),
            queue_time: micros(query.queue_time(self.now)),
            exec_time: query.running().map_or(0, |running| micros(self.now.since(running.started))),
            query_priority: query.priority,
        };
        self.live.iter().map(row).collect()
    }

    /// The rows of `stv_wlm_query_queue_state`, line by line.
    pub fn queue_state_rows(&self) -> Vec<QueueStateRow> {
        let waiting = self.live.iter().filter(|(_, query)| query.is_waiting());
        let mut waiting: Vec<(&QueryId, &Query)> = waiting.collect();
        waiting.sort_by_key(|(_, query)| (self.present_class(query), query.place));
        let mut rows: Vec<QueueStateRow> = Vec::new();
        for (id, query) in waiting {
            let service_class = self.present_class(query);
            let before = rows.last().filter(|row| row.service_class == service_class);
            let position = before.map_or(1, |row| row.position + 1);
            rows.push(QueueStateRow {
                userid: query.request.user,
                service_class,
                position,
                task: query.task,
                query: *id,
                slot_count: self.present_slots(query),
                start_time: query.waiting_since,
                queue_time: micros(query.queue_time(self.now)),
            });
        }
        rows
    }

    /// The rows of `stv_wlm_query_task_state`.
    pub fn task_state_rows(&self) -> Vec<TaskStateRow> {
        let row = |(id, query): (&QueryId, &Query)| {
            let running = query.running()?;
            Some(TaskStateRow {
                userid: query.request.user,
                service_class: running.hold.class,
                task: query.task,
                query: *id,
                slot_count: running.hold.slots(),
                start_time: running.started,
                exec_time: micros(self.now.since(running.started)),
            })
        };
        self.live.iter().filter_map(row).collect()
    }

    /// Where a query waits or runs.
    pub(crate) fn present_class(&self, query: &Query) -> ServiceClass {
        query.running().map_or_else(|| self.class_of(query.home), |running| running.hold.class)
    }

    fn present_slots(&self, query: &Query) -> u32 {
        query.running().map_or_else(|| query.slots_needed(), |running| running.hold.slots())
    }
}
