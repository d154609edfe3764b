//! The system catalog: schema `pg_catalog`, computed from a snapshot whenever a query reads it.
//!
//! Nothing here is stored. A system table is a file in [`table`] that turns a [`SystemCatalog`] (a
//! snapshot, seen by one session) into rows; a system function is a row of a list in [`function`].
//! Both are planned and run like the tables and functions of users, so that they may be joined with
//! those. What is shown is what is: a kind of object that cannot exist here has an empty table.
//!
//! Oids are those of the durable catalog for what users made, and those of PostgreSQL for what it
//! has as well.

mod column;
mod comment;
mod function;
mod live;
mod provider;
mod relation;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::sync::Arc;

use arrow::datatypes::Schema;
use compute::integrity::IntegrityStatus;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::ScalarUDF;
use sql::SessionValues;

use crate::catalog::RoleEntry;
use crate::catalog::Snapshot;
use crate::cluster::{Cluster, NodeSet};
use crate::engine::{Engine, SUPERUSER};

/// The schema of the system catalog.
pub const PG_CATALOG: &str = sql::SYSTEM_SCHEMA;
/// Its number, as in PostgreSQL.
const PG_CATALOG_OID: u32 = 11;
/// The number of the database: there is one.
const DATABASE_OID: u32 = 1;
/// The number of the place where all data is.
const TABLESPACE_OID: u32 = 1663;
/// What pg_encoding_to_char calls UTF8.
const ENCODING_UTF8: u32 = 6;

/// A snapshot of the catalog as a session may see it, and the server that it runs in.
#[derive(Clone)]
pub struct SystemCatalog {
    snapshot: Arc<Snapshot>,
    session: Arc<SessionValues>,
    engine: Option<Arc<Engine>>,
}

impl std::fmt::Debug for SystemCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemCatalog").field("session", &self.session).finish_non_exhaustive()
    }
}

impl SystemCatalog {
    /// The system catalog of a snapshot, in a running server if there is one.
    pub fn new(
        snapshot: Arc<Snapshot>,
        session: Arc<SessionValues>,
        engine: Option<Arc<Engine>>,
    ) -> Self {
        Self { snapshot, session, engine }
    }

    /// Whether the session's user may read the system table of that name.
    pub fn may_read(&self, name: &str) -> bool {
        !table::is_for_superusers(name) || self.is_superuser()
    }

    /// The system table of that name, ready to be scanned.
    pub fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let table = table::find(name)?;
        Some(Arc::new(provider::SystemTableProvider::new(table, self.clone())))
    }

    /// The system function of that name.
    pub fn function(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        function::find(name, self)
    }

    /// The number of a user, 0 for a name that nobody has.
    fn user_oid(&self, name: &str) -> u32 {
        self.snapshot.user(name).map_or(0, |user| user.oid)
    }

    /// The nodes of the server; None if there is one, in this process.
    fn nodes(&self) -> Option<&NodeSet> {
        match &self.engine.as_ref()?.cluster {
            Cluster::Alone(_) => None,
            Cluster::Nodes(nodes) => Some(nodes),
        }
    }

    /// What is known of the soundness of the nodes' files, in their order.
    fn integrity(&self) -> Vec<IntegrityStatus> {
        match self.engine.as_ref().map(|engine| &engine.cluster) {
            None => Vec::new(),
            Some(Cluster::Alone(node)) => vec![node.integrity()],
            Some(Cluster::Nodes(nodes)) => nodes.integrity(),
        }
    }

    /// The owner of what the system itself made.
    fn system_owner(&self) -> u32 {
        self.user_oid(SUPERUSER)
    }

    /// The number of a schema, 0 for a name that none has.
    fn schema_oid(&self, name: &str) -> u32 {
        if name == PG_CATALOG {
            return PG_CATALOG_OID;
        }
        self.snapshot.schema(name).map_or(0, |schema| schema.oid)
    }

    /// The name of a schema.
    fn schema_name(&self, oid: i64) -> Option<String> {
        if oid == i64::from(PG_CATALOG_OID) {
            return Some(PG_CATALOG.to_owned());
        }
        self.snapshot
            .schemas()
            .find(|schema| i64::from(schema.oid) == oid)
            .map(|schema| schema.name.clone())
    }

    /// Whether the session's user sees what belongs to this user.
    fn sees_user(&self, oid: u32) -> bool {
        self.is_superuser() || self.user_oid(&self.session.current_user) == oid
    }

    /// The roles that the session's user sees: superusers all, others those that they have.
    fn visible_roles(&self) -> Vec<&RoleEntry> {
        if self.is_superuser() {
            return self.snapshot.roles().collect();
        }
        self.snapshot.roles_of(self.user_oid(&self.session.current_user))
    }

    /// Whether the session's user may do everything.
    fn is_superuser(&self) -> bool {
        self.snapshot.user(&self.session.current_user).is_some_and(|user| user.superuser)
    }
}

/// The system table that has exactly these columns.
pub(crate) fn table_with_columns(schema: &Schema) -> Option<&'static str> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let mut tables = table::all().iter();
    let found = tables.find(|table| table.columns.iter().map(|column| column.name).eq(names()));
    found.map(|table| table.name)
}

/// Whether pg_catalog has a table of that name.
pub fn is_system_table(name: &str) -> bool {
    table::find(name).is_some()
}
