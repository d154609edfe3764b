//! Rows of the system tables about workload management. The field names are those of Redshift's
//! columns; times are [`crate::Time`]s, spans microseconds, as the tables have them.
//!
//! Not here: what only the leader knows (text, database, the commit queue), and service classes
//! 1 to 4, which are queues of Redshift's own monitoring and have no counterpart.

mod classification;
mod errors;
mod metrics;
mod queries;
mod rules;
mod service_class;
#[cfg(test)]
mod tests;

pub use classification::{ClassificationRow, classification_rows};
pub use errors::WlmErrorRow;
pub use metrics::{
    MetricsOwner, MetricsSummaryRow, QueryMetricsRow, StepMetricsRow, metrics_detail_rows,
    metrics_rows, metrics_summary,
};
pub use queries::{FinalState, QueryStateRow, QueueStateRow, TaskStateRow, WlmQueryRow};
pub use rules::{QmrConfigRow, RuleActionRow, RuleActionTaken, qmr_config_rows};
pub use service_class::{ServiceClassConfigRow, ServiceClassStateRow};
