//! pg_description: the comments on objects. COMMENT is not supported, so there are none.

use super::{SystemTable, none};
use crate::catalog::system::column::{int4, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2609,
    name: "pg_description",
    is_view: false,
    columns: &[oid("objoid"), oid("classoid"), int4("objsubid"), text("description")],
    rows: none,
};
