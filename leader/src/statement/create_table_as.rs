//! CREATE TABLE AS and SELECT INTO.

use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::scalar::ScalarValue;
use sql::statement::{CreateTableAs, Statement};
use sql::types::SqlType;
use storage::ids::ColumnId;
use storage::schema::EncodeName;
use wlm::QueryKind;

use super::create_table::{empty_entry, finish_entry};
use super::{command, insert};
use crate::catalog::{Change, TableColumn};
use crate::error::{Error, Result};
use crate::execution::Replan;
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::planner::on_large_stack;
use crate::session::{Session, SessionStatement};

/// Makes a table with the columns of a query and fills it with the query's rows.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let statement = statement_of(whole)?;
    let schema = if statement.temporary {
        session.temporary_schema_for_new()?
    } else {
        session.creation_schema(&statement.name)?
    };
    let name = &statement.name.name;
    let exists = session.transaction()?.view().table(&schema, name).is_some();
    if exists && statement.if_not_exists {
        let text = format!("Relation \"{name}\" already exists and will be skipped");
        session.notice(Severity::Info, text);
        return Ok(command("SELECT"));
    }
    let binding = session.binding()?;
    let (shared, bound) = (Arc::clone(whole), binding.clone());
    let plan =
        on_large_stack(move || Ok(bound.binder().bind_ctas(statement_of(&shared)?)?)).await?;
    let fields = plan.schema().fields().clone();
    let source: Replan = Arc::new(move || binding.source(plan.clone(), parameters.clone()));
    let mut entry = empty_entry();
    entry.columns = fields.iter().map(|field| column(field)).collect::<Result<_>>()?;
    finish_entry(session, &mut entry, schema, name, &statement.attributes)?;
    let entry = Arc::new(entry);
    session.transaction()?.change(Change::CreateTable(Arc::clone(&entry)))?;
    let row_count = insert::write(session, &entry, source, QueryKind::CreateTableAs).await?;
    Ok(command(format!("SELECT {row_count}")))
}

fn column(field: &Field) -> Result<TableColumn> {
    let sql_type = SqlType::of_field(field).ok_or_else(|| {
        let message = format!("column \"{}\" has a type that tables cannot hold", field.name());
        Error::statement("42P16", message)
    })?;
    Ok(TableColumn {
        id: ColumnId(0),
        name: field.name().clone(),
        sql_type,
        nullable: true,
        default: None,
        identity: None,
        encode: EncodeName::Auto,
    })
}

fn statement_of(whole: &SessionStatement) -> Result<&CreateTableAs> {
    match &whole.statement {
        Statement::CreateTableAs(statement) => Ok(statement),
        _ => Err(Error::Internal("not a create table as".into())),
    }
}
