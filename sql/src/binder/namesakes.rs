//! Tables of one name in several schemas, in one statement.
//!
//! DataFusion takes `prod.t.a` for a column of any relation that is called `t`, if it was written
//! without its schema, and `t.a` for one of the first of several. A statement that names two such
//! tables is therefore rewritten, as PostgreSQL reads it: each table without an alias gets one that
//! says its schema too, and names of columns that alias.

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, visit_relations,
};
use std::collections::HashMap;
use std::ops::ControlFlow;

use super::provider::TARGET;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};

/// Between the schema and the name in an alias; no identifier holds it.
const SEPARATOR: char = '\u{1e}';

/// Tells tables of one name apart, if the query names any.
///
/// # Errors
/// If a name in the query may stand for several of them, or for none.
pub(super) fn tell_apart(query: &mut Query, catalog: &dyn Catalog) -> Result<()> {
    if !has_namesakes(query) {
        return Ok(());
    }
    let mut visitor = Namesakes { catalog, scopes: Vec::new() };
    match VisitMut::visit(query, &mut visitor) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Whether a node names a table that is called like this one and is another.
pub(super) fn names_another(
    node: &impl ast::Visit,
    schema: &str,
    name: &str,
    catalog: &dyn Catalog,
) -> bool {
    let found = visit_relations(node, |relation| {
        let parts = identifiers(relation);
        let is_another = parts.last().is_some_and(|last| last == name)
            && table_of(&parts, catalog)
                .is_some_and(|table| table != (schema.to_owned(), name.to_owned()));
        if is_another { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

/// Whether two relations have the same name and are written in different ways.
fn has_namesakes(query: &Query) -> bool {
    let mut written: HashMap<String, Vec<String>> = HashMap::new();
    let found = visit_relations(query, |relation| {
        let parts = identifiers(relation);
        let Some(last) = parts.last() else { return ControlFlow::Continue(()) };
        match written.get(last) {
            Some(known) if *known != parts => return ControlFlow::Break(()),
            Some(_) => {}
            None => {
                written.insert(last.clone(), parts);
            }
        }
        ControlFlow::Continue(())
    });
    found.is_break()
}

/// The parts of a name.
pub(super) fn identifiers(name: &ast::ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| Some(part.as_ident()?.value.clone())).collect()
}

/// Schema and name of the table that a name stands for.
pub(super) fn table_of(parts: &[String], catalog: &dyn Catalog) -> Option<(String, String)> {
    match parts {
        [database, schema, name] if database == TARGET => Some((schema.clone(), name.clone())),
        [.., schema, name] => Some((schema.clone(), name.clone())),
        [name] => {
            let found = catalog.table(None, name)?;
            Some((found.schema, found.name))
        }
        [] => None,
    }
}

/// A relation of a FROM clause.
struct Relation {
    /// What it is called without a schema.
    name: String,
    /// Which table it is, if it is one and has no alias.
    table: Option<(String, String)>,
    /// What columns of it are written with.
    label: String,
}

/// A query that is open: what it defines, and the relations of its SELECT.
#[derive(Default)]
struct Scope {
    common: Vec<String>,
    relations: Vec<Relation>,
}

struct Namesakes<'a> {
    catalog: &'a dyn Catalog,
    /// The innermost query comes last.
    scopes: Vec<Scope>,
}

impl VisitorMut for Namesakes<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let common = tables.map(|table| table.alias.name.value.clone()).collect();
        self.scopes.push(Scope { common, relations: Vec::new() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let qualifier: Vec<String> =
            parts[..parts.len() - 1].iter().map(|part| part.value.clone()).collect();
        match self.label(&qualifier) {
            Ok(Some(label)) => {
                parts.drain(..qualifier.len());
                parts.insert(0, Ident::new(label));
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// A name that two relations have, and not as two tables of different schemas.
fn repeated(relations: &[Relation]) -> Option<&str> {
    let mut pairs = relations
        .iter()
        .enumerate()
        .flat_map(|(at, relation)| relations[..at].iter().map(move |before| (before, relation)));
    let is_repeated = |(one, other): &(&Relation, &Relation)| {
        one.name == other.name
            && (one.table == other.table || one.table.is_none() || other.table.is_none())
    };
    pairs.find(is_repeated).map(|(_, relation)| relation.name.as_str())
}

impl Namesakes<'_> {
    fn select(&mut self, select: &mut Select) -> Result<()> {
        let mut relations = Vec::new();
        self.from(&mut select.from, &mut relations);
        if let Some(name) = repeated(&relations) {
            let message = format!("table name \"{name}\" specified more than once");
            return Err(Error::new(ErrorKind::DuplicateAlias, message));
        }
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        scope.relations = relations;
        for item in &mut select.projection {
            let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) =
                item
            else {
                continue;
            };
            if let Some(label) = self.label(&identifiers(name))? {
                *name = ast::ObjectName::from(vec![Ident::new(label)]);
            }
        }
        Ok(())
    }

    fn from(&self, from: &mut [TableWithJoins], relations: &mut Vec<Relation>) {
        for table in from {
            self.factor(&mut table.relation, relations);
            for join in &mut table.joins {
                self.factor(&mut join.relation, relations);
            }
        }
    }

    /// Gives tables without an alias one.
    fn factor(&self, factor: &mut TableFactor, relations: &mut Vec<Relation>) {
        match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. } => {
                let name = alias.name.value.clone();
                relations.push(Relation { label: name.clone(), name, table: None });
            }
            TableFactor::Table { name, alias, .. } => {
                let parts = identifiers(name);
                let Some(last) = parts.last().cloned() else { return };
                let is_common = parts.len() == 1
                    && self.scopes.iter().any(|scope| scope.common.contains(&last));
                let table = if is_common { None } else { table_of(&parts, self.catalog) };
                let label = match &table {
                    Some((schema, name)) => format!("{schema}{SEPARATOR}{name}"),
                    None => last.clone(),
                };
                if table.is_some() {
                    *alias = Some(ast::TableAlias {
                        explicit: true,
                        name: Ident::new(&label),
                        columns: Vec::new(),
                        at: None,
                    });
                }
                relations.push(Relation { name: last, table, label });
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.from(std::slice::from_mut(table_with_joins), relations);
            }
            _ => {}
        }
    }

    /// What is to be written for the qualifier of a column; None if it stands for nothing here.
    fn label(&self, qualifier: &[String]) -> Result<Option<String>> {
        let (schema, name) = match qualifier {
            [name] => (None, name),
            [.., schema, name] => (Some(schema), name),
            [] => return Ok(None),
        };
        let mut is_hidden = false;
        for scope in self.scopes.iter().rev() {
            let called = |relation: &&Relation| relation.name == *name;
            let found: Vec<&Relation> = match schema {
                None => scope.relations.iter().filter(called).collect(),
                Some(schema) => {
                    is_hidden |= scope.relations.iter().any(|relation| called(&relation));
                    let is_it = |relation: &&Relation| {
                        relation.table.as_ref().is_some_and(|(own, of)| own == schema && of == name)
                    };
                    scope.relations.iter().filter(is_it).collect()
                }
            };
            match found.as_slice() {
                [] => {}
                [relation] => return Ok(Some(relation.label.clone())),
                [..] => {
                    let message = format!("table reference \"{name}\" is ambiguous");
                    return Err(Error::new(ErrorKind::AmbiguousAlias, message)
                        .with_hint("Give the tables aliases, or write the schema too."));
                }
            }
        }
        // It would be taken for one of those that are called so.
        if is_hidden {
            let message = format!("invalid reference to FROM-clause entry for table \"{name}\"");
            return Err(Error::new(ErrorKind::UndefinedTable, message));
        }
        Ok(None)
    }
}
