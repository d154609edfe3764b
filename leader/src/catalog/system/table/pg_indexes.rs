//! pg_indexes: the indexes by name. There are none.

use super::{OWN_OIDS, SystemTable, none};
use crate::catalog::system::column::{name, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 6,
    name: "pg_indexes",
    is_view: true,
    columns: &[
        name("schemaname"),
        name("tablename"),
        name("indexname"),
        name("tablespace"),
        text("indexdef"),
    ],
    rows: none,
};
