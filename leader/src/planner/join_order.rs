//! The order of joins, by cost. DataFusion joins in the order of the text; here each group of
//! inner joins is taken apart into its relations and conditions and put together again in the
//! cheapest order found: dynamic programming over subsets (Moerkotte and Neumann, "Analysis of Two
//! Existing and One New Dynamic Programming Algorithm", 2006) up to [`RELATIONS_EXACT_MAX`]
//! relations, greedy above.
//!
//! A semi or anti join (EXISTS, IN) whose left side belongs to the group is a member of it too: it
//! may run anywhere above the relations it looks at.
//!
//! Before, aggregates in a group learn which of their groups can be joined at all
//! ([`super::group_keys`]).
//!
//! The output keeps its columns and their order. A group with a condition that is not
//! deterministic stays as it is.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator, Projection,
};

use super::cardinality::{Estimate, estimate, inner_rows, joined, key_distinct};
use super::group_keys::{Keys, is_cheap, restrict};

/// Up to here all orders are looked at.
const RELATIONS_EXACT_MAX: usize = 11;
/// Above this a group stays as it is.
const RELATIONS_MAX: usize = 60;
/// Rows on the build side cost this much more than rows that only probe.
const BUILD_WEIGHT: f64 = 2.0;
/// What a condition over both sides that is no equality lets through.
const SELECTIVITY_ACROSS: f64 = 0.25;
/// A cross product costs this much more per row than a join.
const CROSS_WEIGHT: f64 = 10.0;

/// An aggregate is told which groups it can leave out if there are so many for each that is wanted.
const GROUPS_PER_KEY_MIN: f64 = 4.0;

/// A set of relations of a group, a bit each.
type Set = u64;

/// Reorders every group of inner joins in the plan.
pub(super) fn reorder(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_down_with_subqueries(|plan| {
        if !leads_to_inner(&plan) {
            return Ok(Transformed::no(plan));
        }
        let Some(group) = Group::take_apart(&plan)? else { return Ok(Transformed::no(plan)) };
        let Some(best) = group.best_order() else { return Ok(Transformed::no(plan)) };
        let joined = group.build(&best)?;
        let output = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let whole = Projection::try_new(output, Arc::new(joined))?;
        // What is below the relations was reordered when they were taken; the joins made here
        // must not be taken apart again.
        Ok(Transformed::new(LogicalPlan::Projection(whole), true, TreeNodeRecursion::Jump))
    })
}

/// An inner join that can be moved.
fn is_inner(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Join(join) => {
            join.join_type == JoinType::Inner
                && join.null_equality == NullEquality::NullEqualsNothing
        }
        _ => false,
    }
}

/// A semi or anti join that belongs to a group.
#[derive(Debug)]
struct Existence {
    join: Join,
    needs: Set,
}

/// The relations and conditions of a group of inner joins.
#[derive(Debug)]
struct Group {
    relations: Vec<LogicalPlan>,
    estimates: Vec<Estimate>,
    conditions: Vec<Condition>,
    existences: Vec<Existence>,
}

#[derive(Debug)]
struct Condition {
    expression: Expr,
    needs: Set,
    /// Both sides of `a = b` with the relations that each needs.
    equality: Option<(Expr, Set, Expr, Set)>,
}

/// A way to join a set of relations.
#[derive(Debug, Clone)]
struct Order {
    tree: Tree,
    estimate: Estimate,
    cost: f64,
}

#[derive(Debug, Clone)]
enum Tree {
    Relation(usize),
    Join(Box<Tree>, Box<Tree>),
    Exists(Box<Tree>, usize),
}

impl Group {
    /// None if the group cannot be moved or is too large.
    fn take_apart(plan: &LogicalPlan) -> Result<Option<Self>> {
        let (mut relations, mut expressions, mut joins) = (Vec::new(), Vec::new(), Vec::new());
        flatten(plan, &mut relations, &mut expressions, &mut joins);
        let volatile = expressions.iter().any(Expr::is_volatile);
        if relations.len() < 2 || relations.len() + joins.len() > RELATIONS_MAX || volatile {
            return Ok(None);
        }
        let relations: Vec<LogicalPlan> =
            relations.into_iter().map(|plan| Ok(reorder(plan)?.data)).collect::<Result<_>>()?;
        let group = Self {
            estimates: relations.iter().map(estimate).collect(),
            relations,
            conditions: Vec::new(),
            existences: Vec::new(),
        };
        let Some(mut group) = group.with_conditions(expressions, joins)? else { return Ok(None) };
        group.restrict_aggregates()?;
        Ok(Some(group))
    }

    fn with_conditions(mut self, expressions: Vec<Expr>, joins: Vec<Join>) -> Result<Option<Self>> {
        for expression in expressions {
            let Some(condition) = self.condition(expression) else { return Ok(None) };
            self.conditions.push(condition);
        }
        for mut join in joins {
            let Some(needs) = self.existence_needs(&join) else { return Ok(None) };
            join.right = Arc::new(reorder(Arc::unwrap_or_clone(join.right))?.data);
            self.existences.push(Existence { join, needs });
        }
        Ok(Some(self))
    }

    /// The relations that an expression looks at; None if a column is in none of them.
    fn relations_of(&self, expression: &Expr) -> Option<Set> {
        let mut set = 0;
        for column in expression.column_refs() {
            set |= 1 << self.relation_of(column)?;
        }
        Some(set)
    }

    fn relation_of(&self, column: &Column) -> Option<usize> {
        self.relations.iter().position(|relation| relation.schema().has_column(column))
    }

    fn condition(&self, expression: Expr) -> Option<Condition> {
        let needs = self.relations_of(&expression)?;
        let equality = match &expression {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                let (l, r) = (self.relations_of(left)?, self.relations_of(right)?);
                (l != 0 && r != 0 && l & r == 0)
                    .then(|| (left.as_ref().clone(), l, right.as_ref().clone(), r))
            }
            _ => None,
        };
        Some(Condition { expression, needs, equality })
    }

    /// The relations on the left of a semi join that its conditions look at.
    fn existence_needs(&self, join: &Join) -> Option<Set> {
        let mut set = 0;
        for (left, _) in &join.on {
            set |= self.relations_of(left)?;
        }
        let inner = join.right.schema();
        for column in join.filter.iter().flat_map(Expr::column_refs) {
            if !inner.has_column(column) {
                set |= 1 << self.relation_of(column)?;
            }
        }
        (set != 0).then_some(set)
    }

    /// Keeps aggregates from making groups that others rule out: see [`super::group_keys`].
    fn restrict_aggregates(&mut self) -> Result<()> {
        self.restrict_tested_aggregates()?;
        for at in 0..self.relations.len() {
            for column in self.relations[at].schema().columns() {
                let groups = self.estimates[at].distinct(&column);
                let rows_max = groups / GROUPS_PER_KEY_MIN;
                let Some(keys) = self.few_values(Some(at), &column, rows_max)? else { continue };
                if let Some(restricted) = restrict(&self.relations[at], &column, &keys)? {
                    self.estimates[at] = estimate(&restricted);
                    self.relations[at] = restricted;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The same for aggregates that rows are only tested against. A row that is ruled out anyway may
    /// pass or fail the test.
    fn restrict_tested_aggregates(&mut self) -> Result<()> {
        for at in 0..self.existences.len() {
            let join = &self.existences[at].join;
            let groups = estimate(&join.right);
            let keys = join.on.iter().find_map(|(left, right)| {
                let (Expr::Column(left), Expr::Column(right)) = (left, right) else { return None };
                let rows_max = groups.distinct(right) / GROUPS_PER_KEY_MIN;
                let keys = self.few_values(None, left, rows_max).transpose()?;
                Some(keys.map(|keys| (right.clone(), keys)))
            });
            let Some((column, keys)) = keys.transpose()? else { continue };
            if let Some(restricted) = restrict(&join.right, &column, &keys)? {
                self.existences[at].join.right = Arc::new(restricted);
            }
        }
        Ok(())
    }

    /// The smallest relation, other than `at`, with the values that a column has in the output, if it
    /// has at most so many rows.
    fn few_values(
        &self,
        at: Option<usize>,
        column: &Column,
        rows_max: f64,
    ) -> Result<Option<Keys>> {
        let equal = self.equal_columns(column);
        let mut best: Option<(f64, Keys)> = None;
        let mut offer = |rows: f64, keys: Keys| {
            if rows <= rows_max && best.as_ref().is_none_or(|(known, _)| rows < *known) {
                best = Some((rows, keys));
            }
        };
        for column in &equal {
            let Some(other) = self.relation_of(column).filter(|other| Some(*other) != at) else {
                continue;
            };
            if is_cheap(&self.relations[other]) {
                let plan = self.with_own_conditions(other)?;
                offer(self.leaf(other).estimate.rows, Keys { plan, column: column.clone() });
            }
        }
        for Existence { join, .. } in &self.existences {
            if join.join_type != JoinType::LeftSemi || !is_cheap(&join.right) {
                continue;
            }
            for (left, right) in &join.on {
                if let (Expr::Column(left), Expr::Column(right)) = (left, right)
                    && equal.contains(left)
                {
                    let keys = Keys { plan: (*join.right).clone(), column: right.clone() };
                    offer(estimate(&join.right).rows, keys);
                }
            }
        }
        Ok(best.map(|(_, keys)| keys))
    }

    fn with_own_conditions(&self, at: usize) -> Result<LogicalPlan> {
        let relation = self.relations[at].clone();
        let own = self.conditions.iter().filter(|condition| condition.needs == 1 << at);
        match conjunction(own.map(|condition| condition.expression.clone())) {
            Some(own) => Ok(LogicalPlan::Filter(Filter::try_new(own, Arc::new(relation))?)),
            None => Ok(relation),
        }
    }

    /// The columns that are equal to this one in every row of the output.
    fn equal_columns(&self, column: &Column) -> Vec<Column> {
        let mut equal = vec![column.clone()];
        let mut looked_at = 0;
        while let Some(known) = equal.get(looked_at).cloned() {
            looked_at += 1;
            for (left, _, right, _) in self.conditions.iter().flat_map(|c| &c.equality) {
                let (Expr::Column(left), Expr::Column(right)) = (left, right) else { continue };
                for (from, to) in [(left, right), (right, left)] {
                    if *from == known && !equal.contains(to) {
                        equal.push(to.clone());
                    }
                }
            }
        }
        equal
    }

    fn members(&self) -> usize {
        self.relations.len() + self.existences.len()
    }

    fn best_order(&self) -> Option<Order> {
        if self.members() <= RELATIONS_EXACT_MAX { self.exact_order() } else { self.greedy_order() }
    }

    fn leaf(&self, at: usize) -> Order {
        let own: Vec<&Expr> = self
            .conditions
            .iter()
            .filter(|condition| condition.needs == 1 << at)
            .map(|condition| &condition.expression)
            .collect();
        let estimate = self.estimates[at].clone().filtered(own.into_iter());
        Order { tree: Tree::Relation(at), estimate, cost: 0.0 }
    }

    /// Dynamic programming over all subsets of the relations and existence tests.
    fn exact_order(&self) -> Option<Order> {
        let members = self.members();
        let all: Set = (1 << members) - 1;
        let connected = self.is_connected();
        let mut best: Vec<Option<Order>> = vec![None; 1 << members];
        for at in 0..self.relations.len() {
            best[1 << at] = Some(self.leaf(at));
        }
        for set in 1..=all {
            let mut part = (set - 1) & set;
            while part > 0 {
                self.combine(&mut best, part, set & !part, connected);
                part = (part - 1) & set;
            }
        }
        best.pop().flatten()
    }

    /// Whether equalities lead from every relation to every other: then no cross product is needed.
    fn is_connected(&self) -> bool {
        let mut reached: Set = 1;
        loop {
            let before = reached;
            for (_, left, _, right) in self.conditions.iter().flat_map(|c| &c.equality) {
                if (left | right) & reached != 0 {
                    reached |= left | right;
                }
            }
            if reached == before {
                return reached == (1 << self.relations.len()) - 1;
            }
        }
    }

    /// The cheapest pair first, until one is left.
    fn greedy_order(&self) -> Option<Order> {
        let mut open: Vec<(Set, Order)> =
            (0..self.relations.len()).map(|at| (1 << at, self.leaf(at))).collect();
        while open.len() > 1 {
            let mut cheapest: Option<(usize, usize, f64)> = None;
            for a in 0..open.len() {
                for b in a + 1..open.len() {
                    let (rows, _) = self.join_rows(&open[a].1, open[a].0, &open[b].1, open[b].0);
                    if cheapest.is_none_or(|(_, _, known)| rows < known) {
                        cheapest = Some((a, b, rows));
                    }
                }
            }
            let (a, b, rows) = cheapest?;
            let (set_b, order_b) = open.remove(b);
            let (set_a, order_a) = open.remove(a);
            open.push((set_a | set_b, join(&order_a, &order_b, rows, false)));
        }
        let (_, mut order) = open.pop()?;
        for at in 0..self.existences.len() {
            order = self.exists(&order, at);
        }
        Some(order)
    }

    /// Joins two sets whose best orders are known and keeps the result if it is the cheapest for
    /// their union. The relations come first in a set's bits, the existence tests after them; a
    /// test can only stand alone on the right.
    fn combine(&self, best: &mut [Option<Order>], left: Set, right: Set, connected: bool) {
        let first_test = self.relations.len();
        if right.count_ones() == 1 && right >= 1 << first_test {
            let at = right.trailing_zeros() as usize - first_test;
            let Some(order) = &best[left as usize] else { return };
            if self.existences[at].needs & !left == 0 {
                let order = self.exists(order, at);
                keep_cheaper(&mut best[(left | right) as usize], order);
            }
            return;
        }
        // Each pair is looked at once; which side builds is chosen by size in `join`.
        if left < right {
            return;
        }
        let (Some(a), Some(b)) = (&best[left as usize], &best[right as usize]) else { return };
        let (rows, equal) = self.join_rows(a, left, b, right);
        if !equal && connected {
            return;
        }
        let cost = join_cost(a, b, rows, equal);
        if best[(left | right) as usize].as_ref().is_none_or(|known| cost < known.cost) {
            let order = join(a, b, rows, equal);
            best[(left | right) as usize] = Some(order);
        }
    }

    /// The rows of a join, and whether any equality leads across.
    fn join_rows(&self, a: &Order, a_set: Set, b: &Order, b_set: Set) -> (f64, bool) {
        let mut keys = Vec::new();
        let mut share = 1.0;
        for condition in &self.conditions {
            let across = condition.needs & a_set != 0
                && condition.needs & b_set != 0
                && condition.needs & !(a_set | b_set) == 0;
            match &condition.equality {
                Some((left, left_set, right, right_set)) if across => {
                    if left_set & !a_set == 0 && right_set & !b_set == 0 {
                        keys.push((
                            key_distinct(&a.estimate, left),
                            key_distinct(&b.estimate, right),
                        ));
                    } else if left_set & !b_set == 0 && right_set & !a_set == 0 {
                        keys.push((
                            key_distinct(&a.estimate, right),
                            key_distinct(&b.estimate, left),
                        ));
                    }
                }
                None if across => share *= SELECTIVITY_ACROSS,
                _ => {}
            }
        }
        let rows = inner_rows(&a.estimate, &b.estimate, &keys) * share;
        (rows.max(1.0), !keys.is_empty())
    }

    fn exists(&self, order: &Order, at: usize) -> Order {
        let join = &self.existences[at].join;
        let right = estimate(&join.right);
        let matched = join.on.first().map_or(0.5, |(left, key)| {
            (key_distinct(&right, key) / key_distinct(&order.estimate, left)).min(1.0)
        });
        let share = match join.join_type {
            JoinType::LeftAnti => (1.0 - matched).max(0.3),
            _ if join.filter.is_some() => matched * 0.9,
            _ => matched,
        };
        let (build, probe) =
            (order.estimate.rows.min(right.rows), order.estimate.rows.max(right.rows));
        let mut estimate = order.estimate.clone();
        estimate.rows = (estimate.rows * share).max(1.0);
        Order {
            tree: Tree::Exists(Box::new(order.tree.clone()), at),
            cost: order.cost + BUILD_WEIGHT * build + probe + estimate.rows,
            estimate,
        }
    }

    /// The plan of an order: every condition is applied once, as deep as it can be.
    fn build(&self, order: &Order) -> Result<LogicalPlan> {
        let mut used = vec![false; self.conditions.len()];
        let (plan, set) = self.build_tree(&order.tree, &mut used)?;
        let rest: Vec<Expr> = self
            .conditions
            .iter()
            .zip(&used)
            .filter(|(_, used)| !**used)
            .map(|(condition, _)| condition.expression.clone())
            .collect();
        debug_assert_eq!(set, (1 << self.relations.len()) - 1, "every relation is in the order");
        filtered(plan, rest)
    }

    fn build_tree(&self, tree: &Tree, used: &mut [bool]) -> Result<(LogicalPlan, Set)> {
        match tree {
            Tree::Relation(at) => {
                let set = 1 << at;
                let own = self.take_conditions(set, used);
                let own = own.into_iter().map(|condition| condition.expression.clone()).collect();
                Ok((filtered(self.relations[*at].clone(), own)?, set))
            }
            Tree::Exists(inner, at) => {
                let (plan, set) = self.build_tree(inner, used)?;
                let join = &self.existences[*at].join;
                let plan = Join::try_new(
                    Arc::new(plan),
                    Arc::clone(&join.right),
                    join.on.clone(),
                    join.filter.clone(),
                    join.join_type,
                    join.join_constraint,
                    join.null_equality,
                    join.null_aware,
                )?;
                Ok((LogicalPlan::Join(plan), set))
            }
            Tree::Join(left, right) => {
                let (left, left_set) = self.build_tree(left, used)?;
                let (right, right_set) = self.build_tree(right, used)?;
                let set = left_set | right_set;
                let (mut on, mut filter) = (Vec::new(), Vec::new());
                for condition in self.take_conditions(set, used) {
                    match &condition.equality {
                        Some((a, a_set, b, b_set))
                            if a_set & !left_set == 0 && b_set & !right_set == 0 =>
                        {
                            on.push((a.clone(), b.clone()));
                        }
                        Some((a, a_set, b, b_set))
                            if b_set & !left_set == 0 && a_set & !right_set == 0 =>
                        {
                            on.push((b.clone(), a.clone()));
                        }
                        _ => filter.push(condition.expression.clone()),
                    }
                }
                let join = Join::try_new(
                    Arc::new(left),
                    Arc::new(right),
                    on,
                    conjunction(filter),
                    JoinType::Inner,
                    JoinConstraint::On,
                    NullEquality::NullEqualsNothing,
                    false,
                )?;
                Ok((LogicalPlan::Join(join), set))
            }
        }
    }

    /// The conditions that can be applied on a set and were not yet.
    fn take_conditions(&self, set: Set, used: &mut [bool]) -> Vec<&Condition> {
        let mut taken = Vec::new();
        for (condition, used) in self.conditions.iter().zip(used) {
            if !*used && condition.needs & !set == 0 && condition.needs != 0 {
                *used = true;
                taken.push(condition);
            }
        }
        taken
    }
}

/// The cost of a join over what its sides cost.
fn join_cost(a: &Order, b: &Order, rows: f64, equal: bool) -> f64 {
    let (build, probe) =
        (a.estimate.rows.min(b.estimate.rows), a.estimate.rows.max(b.estimate.rows));
    let weight = if equal { 1.0 } else { CROSS_WEIGHT };
    a.cost + b.cost + BUILD_WEIGHT * build + probe + weight * rows
}

/// Joins two orders; the smaller side builds the hash table, so it comes first.
fn join(a: &Order, b: &Order, rows: f64, equal: bool) -> Order {
    let (build, probe) = if a.estimate.rows <= b.estimate.rows { (a, b) } else { (b, a) };
    Order {
        tree: Tree::Join(Box::new(build.tree.clone()), Box::new(probe.tree.clone())),
        cost: join_cost(a, b, rows, equal),
        estimate: joined(&a.estimate, &b.estimate, rows),
    }
}

fn keep_cheaper(best: &mut Option<Order>, candidate: Order) {
    if best.as_ref().is_none_or(|known| candidate.cost < known.cost) {
        *best = Some(candidate);
    }
}

fn filtered(plan: LogicalPlan, conditions: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conditions) {
        None => Ok(plan),
        Some(predicate) => Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?)),
    }
}

/// Collects the relations, conditions and existence tests of a group.
fn flatten(
    plan: &LogicalPlan,
    relations: &mut Vec<LogicalPlan>,
    conditions: &mut Vec<Expr>,
    existences: &mut Vec<Join>,
) {
    match plan {
        LogicalPlan::Join(join) if is_inner(plan) => {
            flatten(&join.left, relations, conditions, existences);
            flatten(&join.right, relations, conditions, existences);
            for (left, right) in &join.on {
                conditions.push(left.clone().eq(right.clone()));
            }
            conditions.extend(join.filter.iter().cloned().flat_map(split_conjunction_owned));
        }
        LogicalPlan::Join(join)
            if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
                && leads_to_inner(&join.left) =>
        {
            flatten(&join.left, relations, conditions, existences);
            existences.push(join.clone());
        }
        LogicalPlan::Filter(filter) if leads_to_inner(&filter.input) => {
            flatten(&filter.input, relations, conditions, existences);
            conditions.extend(split_conjunction_owned(filter.predicate.clone()));
        }
        LogicalPlan::Projection(projection)
            if only_columns(projection) && leads_to_inner(&projection.input) =>
        {
            flatten(&projection.input, relations, conditions, existences);
        }
        other => relations.push(other.clone()),
    }
}

/// Whether a plan is an inner join under operators that `flatten` sees through.
fn leads_to_inner(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => leads_to_inner(&filter.input),
        LogicalPlan::Projection(projection) => {
            only_columns(projection) && leads_to_inner(&projection.input)
        }
        LogicalPlan::Join(join)
            if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) =>
        {
            leads_to_inner(&join.left)
        }
        other => is_inner(other),
    }
}

fn only_columns(projection: &Projection) -> bool {
    projection.expr.iter().all(|expression| matches!(expression, Expr::Column(_)))
}
