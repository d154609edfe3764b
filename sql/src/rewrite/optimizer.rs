//! The logical optimizer rules to plan with.

use datafusion::optimizer::{Optimizer, OptimizerRule};
use std::sync::Arc;

use super::eliminate_duplicated::EliminateDuplicatedSafely;
use super::share_sums::ShareSums;

/// DataFusion's rules in their order, with the one that may drop a sort key replaced, and before
/// them ours.
pub fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![Arc::new(ShareSums)];
    let rules = Optimizer::new().rules.into_iter();
    let shared = rules.map(|rule| -> Arc<dyn OptimizerRule + Send + Sync> {
        if rule.name() == EliminateDuplicatedSafely::REPLACED {
            Arc::new(EliminateDuplicatedSafely)
        } else {
            rule
        }
    });
    own.into_iter().chain(shared).collect()
}
