//! Our own nodes and rules in DataFusion's physical plans.
//!
//! Reading order: [`slice_scan`] is the leaf that reads a table; its work is done by a
//! `scan_stream` per partition, which takes row groups from `morsels`, prunes and filters them with
//! what `native` and `bounds` find in the query's conjuncts, evaluates the rest as `residual`
//! filters, and follows `runtime_filter`s that joins and sorts push down while they run. [`guard`]
//! turns a panic into an error; [`dropped_probe`] keeps a join from waiting for a partition that
//! nobody reads; [`stop`] lets a query be stopped inside a join; [`bounded`] puts sorts and
//! repartitions of ours, which keep to their memory, in the place of DataFusion's; and
//! [`window_text`] keeps windows from holding the text of all rows.
//!
//! In a cluster: [`on_task`] and [`take_slices`] divide among tasks what each of them has whole;
//! [`slice_write`] ends a write on each node and [`delete_rows`] a DELETE, [`drop_repeated`] lets the
//! rows of an UPDATE through once, [`load`] begins a COPY there, and [`cancel`] stops the
//! leaves of a query that has ended.

use std::sync::Arc;

use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub mod bounded;
pub mod cancel;
pub mod delete_rows;
pub mod drop_repeated;
pub mod dropped_probe;
pub mod guard;
pub mod load;
pub mod on_task;
pub mod slice_scan;
pub mod slice_write;
pub mod stop;
pub mod take_slices;
pub mod window_text;

pub(crate) mod constants;
pub(crate) mod selectivity;

mod bounds;
mod morsels;
mod native;
mod repartition;
mod residual;
mod runtime_filter;
mod scan_stream;
mod sort;
mod window_columns;

/// DataFusion's physical rules and ours, in the order in which they run.
pub fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.push(Arc::new(dropped_probe::DroppedProbeRule));
    rules
}
