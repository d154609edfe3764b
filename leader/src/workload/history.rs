//! What workload management remembers of queries that are gone: the last rows of `stl_wlm_query`,
//! `stl_query_metrics`, `stl_wlm_rule_action` and `stl_wlm_error`.

use std::collections::VecDeque;

use wlm::FinishedQuery;
use wlm::view::{RuleActionRow, WlmErrorRow};

/// Queries that are remembered.
const QUERIES_MAX: usize = 5_000;
/// Actions of rules that are remembered.
const RULES_MAX: usize = 2_000;
/// Errors that are remembered.
const ERRORS_MAX: usize = 1_000;

/// The last rows of each kind, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    queries: VecDeque<FinishedQuery>,
    rules: VecDeque<RuleActionRow>,
    errors: VecDeque<WlmErrorRow>,
}

impl History {
    pub(super) fn add_query(&mut self, row: FinishedQuery) {
        push(&mut self.queries, row, QUERIES_MAX);
    }

    pub(super) fn add_rule(&mut self, row: RuleActionRow) {
        push(&mut self.rules, row, RULES_MAX);
    }

    pub(super) fn add_error(&mut self, row: WlmErrorRow) {
        push(&mut self.errors, row, ERRORS_MAX);
    }

    /// Queries that have left a service class.
    pub fn queries(&self) -> impl Iterator<Item = &FinishedQuery> {
        self.queries.iter()
    }

    /// What rules did.
    pub fn rules(&self) -> impl Iterator<Item = &RuleActionRow> {
        self.rules.iter()
    }

    /// Queries that could not be managed as they asked.
    pub fn errors(&self) -> impl Iterator<Item = &WlmErrorRow> {
        self.errors.iter()
    }
}

fn push<T>(rows: &mut VecDeque<T>, row: T, rows_max: usize) {
    if rows.len() >= rows_max {
        rows.pop_front();
    }
    rows.push_back(row);
}
