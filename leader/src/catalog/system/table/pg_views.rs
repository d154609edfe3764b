//! pg_views: the views that users made. They cannot make any yet.

use super::{OWN_OIDS, SystemTable, none};
use crate::catalog::system::column::{name, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 7,
    name: "pg_views",
    is_view: true,
    columns: &[name("schemaname"), name("viewname"), name("viewowner"), text("definition")],
    rows: none,
};
