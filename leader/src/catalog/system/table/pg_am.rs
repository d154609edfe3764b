//! pg_am: the access methods of indexes. There are no indexes.

use super::{SystemTable, none};
use crate::catalog::system::column::{char, name, oid};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2601,
    name: "pg_am",
    is_view: false,
    columns: &[oid("oid"), name("amname"), name("amhandler"), char("amtype", "i")],
    rows: none,
};
