//! Queries made around expressions, so that one planner binds them all.

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart};

use crate::error::Result;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::statement::{Delete, Statement, TableName};

/// SELECT of the expressions without FROM, with distinct names.
pub(super) fn select_of(expressions: &[ast::Expr]) -> ast::Query {
    let items =
        expressions.iter().enumerate().map(|(index, expr)| ast::SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias: Ident::new(format!("c{index}")),
        });
    let mut query = template();
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.collect();
    }
    query
}

/// SELECT of all columns of the target where the condition holds.
pub(super) fn select_of_delete(delete: &Delete) -> Result<ast::Query> {
    let mut query = parse_template("select target.* from target")?;
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        let label = delete.alias.clone().unwrap_or_else(|| delete.table.name.clone());
        select.projection = vec![ast::SelectItem::QualifiedWildcard(
            ast::SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![Ident::new(
                label,
            )])),
            ast::WildcardAdditionalOptions::default(),
        )];
        select.selection = delete.selection.clone();
        for table in &mut select.from {
            if let ast::TableFactor::Table { name, alias, .. } = &mut table.relation {
                *name = object_name(&delete.table);
                if let Some(label) = &delete.alias {
                    *alias = Some(ast::TableAlias {
                        explicit: true,
                        name: Ident::new(label.clone()),
                        columns: Vec::new(),
                        at: None,
                    });
                }
            }
        }
    }
    Ok(query)
}

/// The name as the syntax tree writes it.
pub(super) fn object_name(name: &TableName) -> ObjectName {
    let parts = [&name.database, &name.schema].into_iter().flatten().chain([&name.name]);
    ObjectName(parts.map(|part| ObjectNamePart::Identifier(Ident::new(part.clone()))).collect())
}

fn template() -> ast::Query {
    #[expect(clippy::expect_used, reason = "the text is a constant that a test parses")]
    parse_template("select 1").expect("a constant query parses")
}

fn parse_template(text: &str) -> Result<ast::Query> {
    match crate::parser::parse(text, &Limits::default())?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(Error::new(ErrorKind::Internal, "the template is not a query")),
    }
}
