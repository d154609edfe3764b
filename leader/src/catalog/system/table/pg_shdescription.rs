//! pg_shdescription: the comments on databases and users. COMMENT is not supported, so there are none.

use super::{SystemTable, none};
use crate::catalog::system::column::{oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2396,
    name: "pg_shdescription",
    is_view: false,
    columns: &[oid("objoid"), oid("classoid"), text("description")],
    rows: none,
};
