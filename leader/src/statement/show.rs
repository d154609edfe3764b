//! SHOW of parameters and of the statement that makes a table.

use datafusion::arrow::datatypes::SchemaRef;
use sql::statement::{Show, TableName};

use super::rows::{text_rows, text_schema};
use crate::catalog::{DistributionStyle, Snapshot, TableEntry};
use crate::error::Result;
use crate::pgwire::backend::Execution;
use crate::session::{Session, undefined_table};
use crate::workload::CONFIGURATION;

/// What holds when nothing is configured.
const CLASSIC: &str = r#"[{"query_concurrency":5}]"#;

/// The columns of the answer.
pub(super) fn schema(statement: &Show) -> SchemaRef {
    match statement {
        Show::All => text_schema(&["name", "setting"]),
        Show::Parameter(name) => text_schema(&[name]),
        Show::Table(_) => text_schema(&["Show Table DDL statement"]),
    }
}

/// Answers SHOW.
pub(super) fn run(session: &mut Session, statement: &Show) -> Result<Execution> {
    let columns = match statement {
        Show::All => {
            let all = session.settings().all();
            let names = all.keys().map(|name| (*name).to_owned()).collect();
            vec![names, all.values().map(|value| (*value).to_owned()).collect()]
        }
        Show::Parameter(name) if name == CONFIGURATION => {
            session.require_superuser("see the configuration of workload management")?;
            let parameters = session.engine().parameters();
            vec![vec![parameters.wlm_json_configuration.unwrap_or_else(|| CLASSIC.to_owned())]]
        }
        Show::Parameter(name) => vec![vec![session.settings().show(name)?.to_owned()]],
        Show::Table(name) => vec![vec![table_ddl(session, name)?]],
    };
    text_rows(schema(statement), columns, "SHOW")
}

fn table_ddl(session: &mut Session, name: &TableName) -> Result<String> {
    let view = session.transaction()?.view();
    let entry = session.find_table(&view, name)?.ok_or_else(|| undefined_table(name))?;
    Ok(ddl(&entry, &view))
}

/// The CREATE TABLE statement that makes a table like this one, in Redshift's layout.
fn ddl(entry: &TableEntry, snapshot: &Snapshot) -> String {
    let mut lines: Vec<String> = Vec::new();
    for column in &entry.columns {
        let mut line = format!("    {} {}", column.name, column.sql_type);
        if let Some(default) = &column.default {
            line.push_str(&format!(" DEFAULT {default}"));
        }
        if !column.nullable {
            line.push_str(" NOT NULL");
        }
        if column.encode != storage::schema::EncodeName::Auto {
            line.push_str(&format!(" ENCODE {}", column.encode.name()));
        }
        lines.push(line);
    }
    let definitions =
        entry.constraints.iter().map(|constraint| constraint.definition(entry, snapshot));
    lines.extend(definitions.map(|definition| format!("    {definition}")));
    let mut text =
        format!("CREATE TABLE {}.{} (\n{}\n)\n", entry.schema, entry.name, lines.join(",\n"));
    text.push_str(&match entry.distribution {
        _ if entry.is_automatic => "DISTSTYLE AUTO".to_owned(),
        DistributionStyle::Even => "DISTSTYLE EVEN".to_owned(),
        DistributionStyle::All => "DISTSTYLE ALL".to_owned(),
        DistributionStyle::Key(at) => format!("DISTSTYLE KEY DISTKEY ({})", entry.columns[at].name),
    });
    if !entry.sort_key.is_empty() {
        let names: Vec<_> =
            entry.sort_key.iter().map(|at| entry.columns[*at].name.as_str()).collect();
        text.push_str(&format!("\nSORTKEY ( {} )", names.join(", ")));
    }
    text.push(';');
    text
}
