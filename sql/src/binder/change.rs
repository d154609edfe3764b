//! DELETE, UPDATE and MERGE as queries over their target.
//!
//! ```text
//! DELETE FROM t USING s WHERE c      ->  SELECT t.row_id FROM t, s WHERE c
//! UPDATE t SET a = e FROM s WHERE c  ->  SELECT e AS a, t.b, t.row_id FROM t, s WHERE c
//! MERGE                              ->  such an UPDATE or DELETE, and an INSERT of what matches nothing
//! ```
//!
//! The target stands in FROM under a name that no text can have, so that it is read with its row
//! ids there and nowhere else, and under its alias, so that its columns are found as usual.

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, VisitMut, VisitorMut};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Binder;
use super::expression::{parse_template, template};
use super::insert::{assign, check_type, default_of};
use super::namesakes;
use super::provider::TARGET;
use crate::catalog::{ROW_ID_COLUMN, TargetTable};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::refuse_value;
use crate::statement::{
    Assignment, Delete, Insert, InsertSource, InsertValue, Merge, MergeAction, MergeMatched, Update,
};

/// A MERGE in two steps over the same snapshot. A row of the target may match one row only.
#[derive(Debug, Clone)]
pub struct MergeSteps {
    /// What happens to the rows that match.
    pub matched: MergeStep,
    /// The rows that are added.
    pub insert: Insert,
}

/// What happens to rows that match.
#[derive(Debug, Clone)]
pub enum MergeStep {
    /// They get new values.
    Update(Update),
    /// They go.
    Delete(Delete),
}

/// The plan of a DELETE: the ids of the rows that go, some perhaps several times.
pub(super) fn delete(
    binder: &Binder<'_>,
    delete: &Delete,
    target: &TargetTable,
    parameter_types: &[Option<DataType>],
) -> Result<LogicalPlan> {
    let query = TargetQuery {
        with: delete.with.clone(),
        target,
        alias: delete.alias.as_deref(),
        outputs: vec![Output::Column(ROW_ID_COLUMN)],
        others: delete.using.clone(),
        selection: delete.selection.clone(),
    };
    let plan = binder.bind_query(&query.build(binder)?, parameter_types)?;
    let ids = plan.schema().columns().into_iter().map(row_ids);
    let ids: Vec<Expr> = ids.collect();
    Ok(LogicalPlanBuilder::from(plan).project(ids)?.build()?)
}

/// Row ids as they are, under their own name.
fn row_ids(column: datafusion::common::Column) -> Expr {
    Expr::Column(column).alias(ROW_ID_COLUMN)
}

/// The plan of an UPDATE: the new rows, and in the last column the ids of those that they replace.
pub(super) fn update(
    binder: &Binder<'_>,
    update: &Update,
    target: &TargetTable,
    parameter_types: &[Option<DataType>],
) -> Result<LogicalPlan> {
    let assigned = assigned_columns(&update.assignments, target)?;
    let mut parameter_types = parameter_types.to_vec();
    let mut outputs = Vec::with_capacity(target.columns.len() + 1);
    for (index, own) in target.columns.iter().enumerate() {
        outputs.push(match assigned.get(&index) {
            Some(InsertValue::Expression(value)) => {
                type_parameter(value, own.sql_type.arrow_type(), &mut parameter_types);
                Output::Value(value.as_ref().clone())
            }
            Some(InsertValue::Default) | None => Output::Column(&own.name),
        });
    }
    outputs.push(Output::Column(ROW_ID_COLUMN));
    let query = TargetQuery {
        with: update.with.clone(),
        target,
        alias: update.alias.as_deref(),
        outputs,
        others: update.from.clone(),
        selection: update.selection.clone(),
    };
    let plan = binder.bind_query(&query.build(binder)?, &parameter_types)?;
    with_assigned(binder, plan, target, &assigned)
}

/// The rows as the table holds them.
fn with_assigned(
    binder: &Binder<'_>,
    plan: LogicalPlan,
    target: &TargetTable,
    assigned: &HashMap<usize, &InsertValue>,
) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    let mut columns = schema.columns();
    let ids = columns.split_off(target.columns.len().min(columns.len()));
    let mut outputs = Vec::with_capacity(target.columns.len() + ids.len());
    for ((index, own), source) in target.columns.iter().enumerate().zip(columns) {
        let source = Expr::Column(source);
        let value = match assigned.get(&index) {
            Some(InsertValue::Expression(_)) => {
                check_type(own, &source.get_type(&schema)?)?;
                assign(source, own.sql_type, &schema, binder.zone())?
            }
            Some(InsertValue::Default) => default_of(binder, own)?,
            None => source,
        };
        outputs.push(value.alias(own.name.clone()));
    }
    outputs.extend(ids.into_iter().map(row_ids));
    Ok(LogicalPlanBuilder::from(plan).project(outputs)?.build()?)
}

/// The values by the position of their column.
fn assigned_columns<'a>(
    assignments: &'a [Assignment],
    target: &TargetTable,
) -> Result<HashMap<usize, &'a InsertValue>> {
    let mut assigned = HashMap::new();
    for Assignment { column: name, value } in assignments {
        let Some(index) = target.columns.iter().position(|column| column.name == *name) else {
            return Err(Error::new(
                ErrorKind::UndefinedColumn,
                format!("column \"{name}\" of relation \"{}\" does not exist", target.name),
            ));
        };
        if let Some(identity) = target.columns[index].identity {
            if !identity.by_default {
                return Err(refuse_value(name));
            }
            if matches!(value, InsertValue::Default) {
                return Err(Error::not_supported("UPDATE of an identity column to DEFAULT"));
            }
        }
        if assigned.insert(index, value).is_some() {
            let message = format!("multiple assignments to same column \"{name}\"");
            return Err(Error::syntax(message));
        }
    }
    Ok(assigned)
}

/// A parameter that is the whole value of a column has the column's type, unless one was declared.
fn type_parameter(value: &ast::Expr, data_type: DataType, types: &mut Vec<Option<DataType>>) {
    if let ast::Expr::Value(value) = value
        && let ast::Value::Placeholder(id) = &value.value
        && let Ok(number @ 1..=65_535) = id.trim_start_matches('$').parse::<usize>()
    {
        types.resize(types.len().max(number), None);
        types[number - 1].get_or_insert(data_type);
    }
}

/// A MERGE as statements that can do it.
pub(super) fn merge(
    binder: &Binder<'_>,
    merge: &Merge,
    target: &TargetTable,
) -> Result<MergeSteps> {
    let (table, alias) = (merge.table.clone(), merge.alias.clone());
    let source = || ast::TableWithJoins { relation: merge.source.clone(), joins: Vec::new() };
    let delete = || Delete {
        with: None,
        table: table.clone(),
        alias: alias.clone(),
        using: vec![source()],
        selection: Some(merge.condition.clone()),
    };
    match &merge.action {
        MergeAction::RemoveDuplicates => {
            let mut query = parse_template("select * from source")?;
            set_from(&mut query, vec![source()]);
            // It must have all of them, or values would be lost.
            let columns = target.columns.iter().map(|column| column.name.clone()).collect();
            let source = InsertSource::Query(Box::new(query));
            let insert = Insert { table: table.clone(), columns, source };
            Ok(MergeSteps { matched: MergeStep::Delete(delete()), insert })
        }
        MergeAction::Clauses { matched, columns, values } => {
            let matched = match matched {
                MergeMatched::Delete => MergeStep::Delete(delete()),
                MergeMatched::Update(assignments) => MergeStep::Update(Update {
                    with: None,
                    table: table.clone(),
                    alias: alias.clone(),
                    assignments: assignments.clone(),
                    from: vec![source()],
                    selection: Some(merge.condition.clone()),
                }),
            };
            let insert = unmatched(binder, merge, target, columns, values)?;
            Ok(MergeSteps { matched, insert })
        }
    }
}

/// INSERT of the values of rows of the source that match no row of the target.
fn unmatched(
    binder: &Binder<'_>,
    merge: &Merge,
    target: &TargetTable,
    columns: &[String],
    values: &[InsertValue],
) -> Result<Insert> {
    let names: Vec<String> = if columns.is_empty() {
        target.columns.iter().map(|column| column.name.clone()).collect()
    } else {
        columns.to_vec()
    };
    if values.len() > names.len() {
        return Err(Error::syntax("INSERT has more expressions than target columns"));
    }
    if values.len() < names.len() && !columns.is_empty() {
        return Err(Error::syntax("INSERT has more target columns than expressions"));
    }
    let (mut named, mut outputs) = (Vec::new(), Vec::new());
    for (name, value) in names.into_iter().zip(values) {
        // A column that is not named has its DEFAULT.
        if let InsertValue::Expression(value) = value {
            named.push(name);
            outputs.push(value.as_ref().clone());
        }
    }
    if named.is_empty() {
        return Err(Error::not_supported("a MERGE that inserts nothing but DEFAULT"));
    }
    let mut matches = template();
    let has_namesake = names_another(&merge.source, target, binder)
        || names_another(&merge.condition, target, binder)
        || outputs.iter().any(|value| names_another(value, target, binder));
    let label = Label { target, alias: merge.alias.as_deref(), has_namesake };
    set_from(&mut matches, vec![label.relation(false)?]);
    set_selection(&mut matches, Some(merge.condition.clone()));
    let mut query = template();
    let source = ast::TableWithJoins { relation: merge.source.clone(), joins: Vec::new() };
    set_from(&mut query, vec![source]);
    set_outputs(&mut query, outputs);
    set_selection(
        &mut query,
        Some(ast::Expr::Exists { subquery: Box::new(matches), negated: true }),
    );
    label.shorten_names(&mut query);
    let source = InsertSource::Query(Box::new(query));
    Ok(Insert { table: merge.table.clone(), columns: named, source })
}

/// What a column of the output is.
enum Output<'a> {
    /// A column of the target.
    Column(&'a str),
    /// Something else.
    Value(ast::Expr),
}

/// A query over a target and other relations.
struct TargetQuery<'a> {
    with: Option<ast::With>,
    target: &'a TargetTable,
    alias: Option<&'a str>,
    outputs: Vec<Output<'a>>,
    others: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
}

impl TargetQuery<'_> {
    fn build(mut self, binder: &Binder<'_>) -> Result<ast::Query> {
        let values = self.outputs.iter().filter_map(|output| match output {
            Output::Column(_) => None,
            Output::Value(value) => Some(value),
        });
        let values: Vec<&ast::Expr> = values.collect();
        let has_namesake = self.alias.is_none()
            && (names_another(&self.with, self.target, binder)
                || names_another(&self.others, self.target, binder)
                || names_another(&self.selection, self.target, binder)
                || values.iter().any(|value| names_another(*value, self.target, binder)));
        let label = Label { target: self.target, alias: self.alias, has_namesake };
        let is_named = values.iter().any(|value| label.is_named_in(*value))
            || label.is_named_in(&self.selection)
            || label.is_named_in(&self.others);
        let listed = match is_named {
            true => None,
            false => take_listed(&mut self.others, self.target, binder)?,
        };
        let label = match &listed {
            Some(alias) => Label { alias: Some(alias), has_namesake: false, ..label },
            None => label,
        };
        let mut from = Vec::with_capacity(1 + self.others.len());
        if listed.is_none() {
            from.push(label.relation(true)?);
        }
        from.extend(self.others);
        let outputs = self.outputs.into_iter().map(|output| match output {
            Output::Column(name) => label.column(name),
            Output::Value(value) => value,
        });
        let outputs = outputs.collect();
        let mut query = template();
        query.with = self.with;
        set_from(&mut query, from);
        set_outputs(&mut query, outputs);
        set_selection(&mut query, self.selection);
        label.shorten_names(&mut query);
        Ok(query)
    }
}

fn names_another(node: &impl ast::Visit, target: &TargetTable, binder: &Binder<'_>) -> bool {
    namesakes::names_another(node, &target.schema, &target.name, binder.catalog)
}

/// Makes the target of a relation that stands for the same table, as in
/// `UPDATE t SET a = 1 FROM s JOIN t AS u ON s.b = u.b`, where nothing else says which rows of `t` are
/// meant. Answers its alias; None if there is no such relation, or there are several.
///
/// # Errors
/// If it is in an outer join: rows of it that match nothing would be no rows.
fn take_listed(
    others: &mut [ast::TableWithJoins],
    target: &TargetTable,
    binder: &Binder<'_>,
) -> Result<Option<String>> {
    let is_target = |factor: &ast::TableFactor| match factor {
        ast::TableFactor::Table { alias: Some(_), name, .. } => {
            let table = namesakes::table_of(&namesakes::identifiers(name), binder.catalog);
            table.is_some_and(|(schema, name)| schema == target.schema && name == target.name)
        }
        _ => false,
    };
    let factors = |table: &ast::TableWithJoins| {
        let joined = table.joins.iter().filter(|join| is_target(&join.relation)).count();
        joined + usize::from(is_target(&table.relation))
    };
    if others.iter().map(factors).sum::<usize>() != 1 {
        return Ok(None);
    }
    for table in others {
        if factors(table) == 0 {
            continue;
        }
        let is_inner = |join: &ast::Join| {
            use ast::JoinOperator::{CrossJoin, Inner, Join};
            matches!(join.join_operator, Join(_) | Inner(_) | CrossJoin(_))
        };
        if !table.joins.iter().all(is_inner) {
            let message = "Target table must be part of an equijoin predicate";
            return Err(Error::new(ErrorKind::FeatureNotSupported, message));
        }
        let joined = table.joins.iter_mut().map(|join| &mut join.relation);
        for factor in std::iter::once(&mut table.relation).chain(joined) {
            if is_target(factor)
                && let ast::TableFactor::Table { name, alias: Some(alias), .. } = factor
            {
                *name = target_name(target, true);
                return Ok(Some(alias.name.value.clone()));
            }
        }
    }
    Ok(None)
}

/// What the target of a statement is called in it.
struct Label<'a> {
    target: &'a TargetTable,
    alias: Option<&'a str>,
    /// Without an alias there is another table of its name, and its schema tells it apart.
    has_namesake: bool,
}

impl Label<'_> {
    fn bare(&self) -> &str {
        self.alias.unwrap_or(&self.target.name)
    }

    /// A column of it.
    fn column(&self, name: &str) -> ast::Expr {
        let schema = self.has_namesake.then_some(self.target.schema.as_str());
        let parts = schema.into_iter().chain([self.bare(), name]);
        ast::Expr::CompoundIdentifier(parts.map(Ident::new).collect())
    }

    /// It in FROM, with its row ids or without.
    fn relation(&self, with_ids: bool) -> Result<ast::TableWithJoins> {
        let mut query = parse_template("select 1 from target")?;
        let relation = match query.body.as_mut() {
            ast::SetExpr::Select(select) => select.from.pop(),
            _ => None,
        };
        let mut relation =
            relation.ok_or_else(|| Error::new(ErrorKind::Internal, "the template has no table"))?;
        if let ast::TableFactor::Table { name, alias, .. } = &mut relation.relation {
            *name = target_name(self.target, with_ids);
            *alias = (!self.has_namesake).then(|| ast::TableAlias {
                explicit: true,
                name: Ident::new(self.bare()),
                columns: Vec::new(),
                at: None,
            });
        }
        Ok(relation)
    }

    /// Whether a column of it is named with its label.
    fn is_named_in(&self, node: &impl ast::Visit) -> bool {
        let found = ast::visit_expressions(node, |expr| {
            let ast::Expr::CompoundIdentifier(parts) = expr else {
                return ControlFlow::Continue(());
            };
            let is_it = parts.len() > 1 && parts[parts.len() - 2].value == self.bare();
            if is_it { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found.is_break()
    }

    /// Takes the schema off columns of the target where it has its bare name.
    fn shorten_names(&self, query: &mut ast::Query) {
        struct Shorten<'a>(&'a TargetTable);
        impl VisitorMut for Shorten<'_> {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
                if let ast::Expr::CompoundIdentifier(parts) = expr
                    && let [schema, table, _] = parts.as_slice()
                    && (&schema.value, &table.value) == (&self.0.schema, &self.0.name)
                {
                    parts.remove(0);
                }
                ControlFlow::Continue(())
            }
        }
        if self.alias.is_none() && !self.has_namesake {
            let _ = VisitMut::visit(query, &mut Shorten(self.target));
        }
    }
}

/// The target's name in a query; with its row ids or without.
fn target_name(target: &TargetTable, with_ids: bool) -> ObjectName {
    let database = with_ids.then_some(TARGET);
    let parts = database.into_iter().chain([target.schema.as_str(), target.name.as_str()]);
    ObjectName::from(parts.map(Ident::new).collect::<Vec<_>>())
}

fn set_from(query: &mut ast::Query, from: Vec<ast::TableWithJoins>) {
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.from = from;
    }
}

fn set_selection(query: &mut ast::Query, selection: Option<ast::Expr>) {
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.selection = selection;
    }
}

/// Names of outputs begin with a character of no identifier, so that none is taken for an alias.
fn set_outputs(query: &mut ast::Query, outputs: Vec<ast::Expr>) {
    let items = outputs.into_iter().enumerate().map(|(index, expr)| {
        ast::SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("\u{1e}{index}")) }
    });
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.collect();
    }
}
