//! Queues as they are: `stv_wlm_service_class_config` and `stv_wlm_service_class_state`.

use std::sync::Arc;

use crate::config::Mode;
use crate::ids::{QueueId, ServiceClass};
use crate::memory::Lane;
use crate::priority::Priority;
use crate::scheduler::Scheduler;
use crate::time::micros;

const BYTES_PER_MB: u64 = 1 << 20;

/// A row of `stv_wlm_service_class_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceClassConfigRow {
    /// Its number.
    pub service_class: ServiceClass,
    /// How queries wait.
    pub queueing_strategy: &'static str,
    /// Slots there are now; -1 if there is no fixed number.
    pub num_query_tasks: i64,
    /// Slots there shall be.
    pub target_num_query_tasks: i64,
    /// Whether queries may be moved out of it when they run for too long.
    pub evictable: bool,
    /// After how long, in microseconds; 0: never.
    pub eviction_threshold: u64,
    /// Memory of a slot now, in MB on each node; -1 if it is not fixed.
    pub query_working_mem: i64,
    /// Memory that a slot shall have.
    pub target_query_working_mem: i64,
    /// The least memory of a step, in MB.
    pub min_step_mem: i64,
    /// Its name.
    pub name: Arc<str>,
    /// How long a query may run, in microseconds; 0: no limit.
    pub max_execution_time: u64,
    /// Whether its user groups have wildcards.
    pub user_group_wild_card: bool,
    /// Whether its query groups have wildcards.
    pub query_group_wild_card: bool,
    /// `auto` or `off`, as configured; it has no effect.
    pub concurrency_scaling: &'static str,
    /// The priority of its queries.
    pub query_priority: Priority,
    /// Whether its roles have wildcards.
    pub user_role_wild_card: bool,
}

/// A row of `stv_wlm_service_class_state`. Counters begin with the start of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceClassStateRow {
    /// Its number.
    pub service_class: ServiceClass,
    /// Queries that wait.
    pub num_queued_queries: u64,
    /// Queries that run.
    pub num_executing_queries: u64,
    /// Queries that entered it.
    pub num_serviced_queries: u64,
    /// Queries that ended in it after running.
    pub num_executed_queries: u64,
    /// Queries that left it for another.
    pub num_evicted_queries: u64,
    /// Queries that ran elsewhere: none, there are no further clusters.
    pub num_concurrency_scaling_queries: u64,
}

impl Scheduler {
    /// The rows of `stv_wlm_service_class_config`: the superuser queue, the user queues, and the
    /// short query queue while acceleration is on.
    pub fn service_class_config_rows(&self) -> Vec<ServiceClassConfigRow> {
        let mut rows = vec![self.config_row(ServiceClass::SUPERUSER, Some(Lane::Superuser))];
        for index in 0..self.config.queues().len() {
            rows.push(self.queue_config_row(QueueId(index)));
        }
        if let Some(limit) = self.config.short_queries() {
            let limit = micros(self.short_query_limit(limit));
            let mut row = self.config_row(ServiceClass::SHORT_QUERY, Some(Lane::Short));
            row.evictable = true;
            (row.eviction_threshold, row.max_execution_time) = (limit, limit);
            rows.push(row);
        }
        rows.sort_by_key(|row| row.service_class);
        rows
    }

    /// The rows of `stv_wlm_service_class_state`, of the same service classes.
    pub fn service_class_state_rows(&self) -> Vec<ServiceClassStateRow> {
        let classes = self.service_class_config_rows().into_iter().map(|row| row.service_class);
        classes.map(|class| self.state_row(class)).collect()
    }

    fn state_row(&self, class: ServiceClass) -> ServiceClassStateRow {
        let here = || self.live.values().filter(|query| self.present_class(query) == class);
        let counters = self.counters.get(&class).copied().unwrap_or_default();
        ServiceClassStateRow {
            service_class: class,
            num_queued_queries: here().filter(|query| query.is_waiting()).count() as u64,
            num_executing_queries: here().filter(|query| !query.is_waiting()).count() as u64,
            num_serviced_queries: counters.serviced,
            num_executed_queries: counters.executed,
            num_evicted_queries: counters.evicted,
            num_concurrency_scaling_queries: 0,
        }
    }

    fn queue_config_row(&self, id: QueueId) -> ServiceClassConfigRow {
        let queue = self.config.queue(id);
        let lane = match self.config.mode() {
            Mode::Manual => Some(Lane::Queue(id)),
            Mode::Auto => None,
        };
        let limit = queue.max_execution_time.map_or(0, micros);
        ServiceClassConfigRow {
            evictable: limit > 0,
            eviction_threshold: limit,
            max_execution_time: limit,
            user_group_wild_card: queue.user_groups.has_wild_cards(),
            query_group_wild_card: queue.query_groups.has_wild_cards(),
            user_role_wild_card: queue.user_roles.has_wild_cards(),
            concurrency_scaling: if queue.concurrency_scaling { "auto" } else { "off" },
            query_priority: queue.priority,
            ..self.config_row(self.config.service_class(id), lane)
        }
    }

    /// What every service class has; those of automatic mode have no slots.
    fn config_row(&self, class: ServiceClass, lane: Option<Lane>) -> ServiceClassConfigRow {
        let slots = lane.map(|lane| self.memory.slots(lane));
        let mb = |bytes: u64| i64::try_from(bytes / BYTES_PER_MB).unwrap_or(i64::MAX);
        ServiceClassConfigRow {
            service_class: class,
            queueing_strategy: if slots.is_some() {
                "Fixed concurrency, first come first served"
            } else {
                "Predicted, by priority"
            },
            num_query_tasks: slots.map_or(-1, |slots| i64::from(slots.count())),
            target_num_query_tasks: slots.map_or(-1, |slots| i64::from(slots.target_count())),
            evictable: false,
            eviction_threshold: 0,
            query_working_mem: slots.map_or(-1, |slots| mb(slots.current_bytes())),
            target_query_working_mem: slots.map_or(-1, |slots| mb(slots.target_bytes())),
            min_step_mem: 0,
            name: self.name_of(class),
            max_execution_time: 0,
            user_group_wild_card: false,
            query_group_wild_card: false,
            concurrency_scaling: "off",
            query_priority: Priority::Normal,
            user_role_wild_card: false,
        }
    }
}
