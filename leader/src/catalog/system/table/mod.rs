//! The system tables, one file each: a table's columns, and a function that adds its rows.
//!
//! Columns are those of PostgreSQL 8.0 with Redshift's additions, and those of later releases that
//! clients of an old server ask for all the same. A row names the columns whose value it knows to
//! differ from the column's default, which is true of everything that can exist here.

mod pg_am;
mod pg_attrdef;
mod pg_attribute;
mod pg_auth_members;
mod pg_class;
mod pg_collation;
mod pg_constraint;
mod pg_database;
mod pg_database_info;
mod pg_depend;
mod pg_description;
mod pg_enum;
mod pg_extension;
mod pg_group;
mod pg_index;
mod pg_indexes;
mod pg_inherits;
mod pg_namespace;
mod pg_proc;
mod pg_range;
mod pg_rewrite;
mod pg_roles;
mod pg_settings;
mod pg_shdescription;
mod pg_table_def;
mod pg_tables;
mod pg_tablespace;
mod pg_trigger;
mod pg_type;
mod pg_user;
mod pg_user_info;
mod pg_views;
mod stl_query;
mod stl_query_metrics;
mod stl_querytext;
mod stl_tr_conflict;
mod stl_wlm_error;
mod stl_wlm_query;
mod stl_wlm_rule_action;
mod stv_blueshift_damage;
mod stv_blueshift_replication;
mod stv_blueshift_scrub;
mod stv_db_isolation_level;
mod stv_inflight;
mod stv_locks;
mod stv_query_metrics;
mod stv_recents;
mod stv_sessions;
mod stv_wlm_classification_config;
mod stv_wlm_qmr_config;
mod stv_wlm_query_queue_state;
mod stv_wlm_query_state;
mod stv_wlm_query_task_state;
mod stv_wlm_service_class_config;
mod stv_wlm_service_class_state;
mod svl_qlog;
mod svl_query_metrics;
mod svl_query_metrics_summary;
mod svl_query_queue_info;
mod svv_role_grants;
mod svv_roles;
mod svv_table_info;
mod svv_transactions;
mod svv_user_grants;

use super::SystemCatalog;
use super::column::Column;
use super::value::Value;

/// A system table.
#[derive(Debug)]
pub(crate) struct SystemTable {
    /// Its number: PostgreSQL's, or one of [`OWN_OIDS`] and above.
    pub(crate) oid: u32,
    /// Its name.
    pub(crate) name: &'static str,
    /// A table, or a view on others.
    pub(crate) is_view: bool,
    /// In order.
    pub(crate) columns: &'static [Column],
    /// Adds the rows.
    pub(crate) rows: fn(&SystemCatalog, &mut Rows),
}

/// Where numbers of relations begin that PostgreSQL numbers anew in each cluster.
const OWN_OIDS: u32 = 12_000;

static TABLES: [&SystemTable; 64] = [
    &pg_am::TABLE,
    &pg_attrdef::TABLE,
    &pg_attribute::TABLE,
    &pg_auth_members::TABLE,
    &pg_class::TABLE,
    &pg_collation::TABLE,
    &pg_constraint::TABLE,
    &pg_database::TABLE,
    &pg_database_info::TABLE,
    &pg_depend::TABLE,
    &pg_description::TABLE,
    &pg_enum::TABLE,
    &pg_extension::TABLE,
    &pg_group::TABLE,
    &pg_index::TABLE,
    &pg_indexes::TABLE,
    &pg_inherits::TABLE,
    &pg_namespace::TABLE,
    &pg_proc::TABLE,
    &pg_range::TABLE,
    &pg_rewrite::TABLE,
    &pg_roles::TABLE,
    &pg_settings::TABLE,
    &pg_shdescription::TABLE,
    &pg_table_def::TABLE,
    &pg_tables::TABLE,
    &pg_tablespace::TABLE,
    &pg_trigger::TABLE,
    &pg_type::TABLE,
    &pg_user::TABLE,
    &pg_user_info::TABLE,
    &pg_views::TABLE,
    &stl_query::TABLE,
    &stl_query_metrics::TABLE,
    &stl_querytext::TABLE,
    &stl_tr_conflict::TABLE,
    &stl_wlm_error::TABLE,
    &stl_wlm_query::TABLE,
    &stl_wlm_rule_action::TABLE,
    &stv_blueshift_damage::TABLE,
    &stv_blueshift_replication::TABLE,
    &stv_blueshift_scrub::TABLE,
    &stv_db_isolation_level::TABLE,
    &stv_inflight::TABLE,
    &stv_locks::TABLE,
    &stv_query_metrics::TABLE,
    &stv_recents::TABLE,
    &stv_sessions::TABLE,
    &stv_wlm_classification_config::TABLE,
    &stv_wlm_qmr_config::TABLE,
    &stv_wlm_query_queue_state::TABLE,
    &stv_wlm_query_state::TABLE,
    &stv_wlm_query_task_state::TABLE,
    &stv_wlm_service_class_config::TABLE,
    &stv_wlm_service_class_state::TABLE,
    &svl_qlog::TABLE,
    &svl_query_metrics::TABLE,
    &svl_query_metrics_summary::TABLE,
    &svl_query_queue_info::TABLE,
    &svv_role_grants::TABLE,
    &svv_roles::TABLE,
    &svv_table_info::TABLE,
    &svv_transactions::TABLE,
    &svv_user_grants::TABLE,
];

/// All system tables.
pub(super) fn all() -> &'static [&'static SystemTable] {
    &TABLES
}

/// The system table of that name.
pub(super) fn find(name: &str) -> Option<&'static SystemTable> {
    TABLES.iter().find(|table| table.name == name).copied()
}

/// Tables that only superusers read: as in Redshift, and one that names files of the server.
static FOR_SUPERUSERS: [&str; 9] = [
    "stl_tr_conflict",
    "stv_blueshift_damage",
    "stv_locks",
    "stv_wlm_service_class_config",
    "stv_wlm_service_class_state",
    "stv_wlm_classification_config",
    "stv_wlm_qmr_config",
    "svl_query_queue_info",
    "svv_table_info",
];

/// Whether only superusers read the table of that name.
pub(super) fn is_for_superusers(name: &str) -> bool {
    FOR_SUPERUSERS.contains(&name)
}

/// The rows of a kind of object that cannot exist here.
fn none(_catalog: &SystemCatalog, _rows: &mut Rows) {}

/// The rows of a system table while they are made, by column.
pub(crate) struct Rows {
    columns: &'static [Column],
    values: Vec<Vec<Value>>,
    count: usize,
}

impl Rows {
    /// No rows yet.
    pub(super) fn new(table: &SystemTable) -> Self {
        Self {
            columns: table.columns,
            values: table.columns.iter().map(|_| Vec::new()).collect(),
            count: 0,
        }
    }

    /// Adds a row: these columns have these values, all others their default.
    fn add<const N: usize>(&mut self, named: [(&'static str, Value); N]) {
        for (column, values) in self.columns.iter().zip(&mut self.values) {
            values.push(column.default.into());
        }
        for (name, value) in named {
            let position = self.columns.iter().position(|column| column.name == name);
            let position = position.expect("a row names columns of its own table");
            self.values[position][self.count] = value;
        }
        self.count += 1;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The values, by column.
    pub(super) fn into_columns(self) -> Vec<Vec<Value>> {
        self.values
    }
}
