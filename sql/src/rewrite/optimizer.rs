//! The logical optimizer rules to plan with.

use datafusion::optimizer::{Optimizer, OptimizerRule};
use std::sync::Arc;

use super::eliminate_duplicated::EliminateDuplicatedSafely;

/// DataFusion's rules in their order, with the one that may drop a sort key replaced.
pub fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    Optimizer::new()
        .rules
        .into_iter()
        .map(|rule| -> Arc<dyn OptimizerRule + Send + Sync> {
            if rule.name() == EliminateDuplicatedSafely::REPLACED {
                Arc::new(EliminateDuplicatedSafely)
            } else {
                rule
            }
        })
        .collect()
}
