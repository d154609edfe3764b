//! Temporary tables: tables of a schema that only its session looks into, and that goes with it.
//!
//! They are in the catalog like others, so that they take part in transactions, have their place on
//! all nodes, and are found and removed by the next start if the server dies. The schema has a
//! number that is never given again, so that no session finds another's.

use std::collections::BTreeSet;

use sql::statement::TableName;
use storage::ids::TableId;

use super::Session;
use crate::catalog::{Change, SchemaEntry, Snapshot};
use crate::engine::Engine;
use crate::error::Result;
use crate::transaction::lock::LockMode;
use crate::transaction::manager::is_full;
use crate::transaction::{Start, Transaction};

/// What a statement calls the schema of its own session.
const OWN: &str = "pg_temp";
/// How the names of such schemas begin.
const PREFIX: &str = "pg_temp_";

impl Session {
    /// The schema for a new temporary table, made if it is the session's first.
    pub fn temporary_schema_for_new(&mut self) -> Result<String> {
        let transactions = std::sync::Arc::clone(&self.engine.transactions);
        let name =
            self.temporary.get_or_insert_with(|| format!("{PREFIX}{}", transactions.new_oid()));
        let name = name.clone();
        let owner = self.user.clone();
        let transaction = self.transaction()?;
        if transaction.view().schema(&name).is_none() {
            let oid = transactions.new_oid();
            let entry = SchemaEntry { oid, name: name.clone(), owner };
            transaction.change(Change::CreateSchema(entry))?;
        }
        Ok(name)
    }

    /// The session's own schema of temporary tables, if it is there.
    pub(super) fn temporary_schema(&self, snapshot: &Snapshot) -> Option<String> {
        self.temporary.clone().filter(|name| snapshot.schema(name).is_some())
    }

    /// The name with the schema that it stands for; one of another session is not seen.
    pub(super) fn resolve_temporary(
        &self,
        snapshot: &Snapshot,
        name: &TableName,
    ) -> Option<TableName> {
        let own = self.temporary_schema(snapshot);
        let schema = own_schema(name.schema.as_deref(), own.as_deref())?.map(str::to_owned);
        Some(TableName { schema, ..name.clone() })
    }

    /// Drops all temporary tables of the session, in the present transaction.
    pub async fn drop_temporary(&mut self) -> Result<()> {
        let Some(schema) = self.temporary.clone() else { return Ok(()) };
        drop_schema(self.transaction()?, &schema).await
    }

    /// Drops all temporary tables at the end of the session.
    pub(super) async fn end_temporary(&mut self) {
        let Some(schema) = self.temporary.take() else { return };
        let mut transaction = self.engine.transactions.begin(Start::default());
        let dropped = match drop_schema(&mut transaction, &schema).await {
            Ok(()) => transaction.commit().await,
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            tracing::warn!(schema, %error, "cannot drop temporary tables; the next start does");
        }
    }
}

/// The schema that a name stands for in a session with this schema of temporary tables; `None` if it
/// is that of another session, or of none.
pub(crate) fn own_schema<'a>(
    schema: Option<&'a str>,
    own: Option<&'a str>,
) -> Option<Option<&'a str>> {
    match schema {
        Some(OWN) => Some(Some(own?)),
        Some(named) if is_temporary(named) && Some(named) != own => None,
        other => Some(other),
    }
}

/// Whether a schema holds temporary tables.
pub(crate) fn is_temporary(schema: &str) -> bool {
    schema.starts_with(PREFIX)
}

async fn drop_schema(transaction: &mut Transaction, schema: &str) -> Result<()> {
    let view = transaction.view();
    if view.schema(schema).is_none() {
        return Ok(());
    }
    let tables: BTreeSet<TableId> = view.tables_of(schema).map(|table| table.id).collect();
    for table in &tables {
        transaction.lock(*table, LockMode::Exclusive).await?;
    }
    transaction.drop_tables(&tables, true).await?;
    transaction.change(Change::DropSchema(schema.to_owned()))
}

/// Drops the temporary tables of sessions that a crash has ended.
pub(crate) async fn drop_leftovers(engine: &Engine) -> Result<()> {
    let snapshot = engine.transactions.snapshot();
    let schemas: Vec<String> = snapshot
        .schemas()
        .filter(|schema| is_temporary(&schema.name))
        .map(|schema| schema.name.clone())
        .collect();
    drop(snapshot);
    if schemas.is_empty() {
        return Ok(());
    }
    let mut transaction = engine.transactions.begin(Start::default());
    for schema in schemas {
        drop_schema(&mut transaction, &schema).await?;
    }
    match transaction.commit().await {
        // They stay until the next start: what was acknowledged can be read meanwhile.
        Err(error) if is_full(&error) => {
            tracing::warn!(%error, "cannot drop temporary tables of earlier sessions");
            Ok(())
        }
        result => result,
    }
}
