//! pg_depend: which object needs which other one. Nothing refers to another object yet.

use super::{SystemTable, none};
use crate::catalog::system::column::{char, int4, oid};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2608,
    name: "pg_depend",
    is_view: false,
    columns: &[
        oid("classid"),
        oid("objid"),
        int4("objsubid"),
        oid("refclassid"),
        oid("refobjid"),
        int4("refobjsubid"),
        char("deptype", "n"),
    ],
    rows: none,
};
