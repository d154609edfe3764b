//! pg_constraint: primary, unique and foreign keys, which are kept and not enforced.

use std::sync::Arc;

use super::{Rows, SystemTable};
use crate::catalog::TableEntry;
use crate::catalog::constraint::{ConstraintEntry, ConstraintKind};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{
    Constant, Kind, bool, char, int4, name, nullable, oid, or, text,
};
use crate::catalog::system::relation::Relation;
use crate::catalog::system::value::Value;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2606,
    name: "pg_constraint",
    is_view: false,
    columns: &[
        oid("oid"),
        name("conname"),
        oid("connamespace"),
        char("contype", "p"),
        bool("condeferrable"),
        bool("condeferred"),
        bool("convalidated"),
        oid("conrelid"),
        oid("contypid"),
        oid("conindid"),
        oid("confrelid"),
        char("confupdtype", ""),
        char("confdeltype", ""),
        char("confmatchtype", ""),
        or(bool("conislocal"), Constant::Bool(true)),
        int4("coninhcount"),
        nullable("conkey", Kind::Int2List),
        nullable("confkey", Kind::Int2List),
        text("conbin"),
        text("consrc"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for entry in catalog.snapshot.tables() {
        for constraint in &entry.constraints {
            add(catalog, entry, constraint, rows);
        }
    }
}

fn add(catalog: &SystemCatalog, entry: &TableEntry, constraint: &ConstraintEntry, rows: &mut Rows) {
    let (kind, action, referenced) = match &constraint.kind {
        ConstraintKind::PrimaryKey => ("p", "", None),
        ConstraintKind::Unique => ("u", "", None),
        ConstraintKind::ForeignKey { schema, table, referenced, found } => {
            let known = found.as_ref().and_then(|found| {
                let entry = catalog.snapshot.table_by_id(found.table)?;
                let names = found.names(entry)?.into_iter().map(str::to_owned).collect();
                Some((Relation::User(Arc::clone(entry)), names))
            });
            let named = || {
                let relation = catalog.relation_named(schema.as_deref(), table)?;
                Some((relation, referenced.clone()))
            };
            ("f", "a", known.or_else(named))
        }
    };
    let (referenced_oid, referenced_key) = match &referenced {
        Some((relation, names)) => (relation.oid(), referenced_columns(relation, names)),
        None => (0, Value::Null),
    };
    rows.add([
        ("oid", constraint.oid.into()),
        ("conname", constraint.name.clone().into()),
        ("connamespace", catalog.schema_oid(&entry.schema).into()),
        ("contype", kind.into()),
        ("conrelid", entry.id.0.into()),
        ("confrelid", referenced_oid.into()),
        ("confupdtype", action.into()),
        ("confdeltype", action.into()),
        ("conkey", numbers(&constraint.columns)),
        ("confkey", referenced_key),
    ]);
}

/// Columns by number, from 1.
fn numbers(positions: &[usize]) -> Value {
    Value::List(positions.iter().map(|position| (position + 1).into()).collect())
}

/// The named columns of the referenced table; without names those of its primary key.
fn referenced_columns(relation: &Relation, names: &[String]) -> Value {
    let Relation::User(entry) = relation else { return Value::Null };
    if names.is_empty() {
        let key = entry.constraints.iter().find(|key| key.kind == ConstraintKind::PrimaryKey);
        return key.map_or(Value::Null, |key| numbers(&key.columns));
    }
    let positions: Option<Vec<usize>> =
        names.iter().map(|name| entry.position(name).ok()).collect();
    positions.map_or(Value::Null, |positions| numbers(&positions))
}
