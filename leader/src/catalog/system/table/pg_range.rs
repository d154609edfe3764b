//! pg_range: the range types. There are none.

use super::{SystemTable, none};
use crate::catalog::system::column::{name, oid};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 3541,
    name: "pg_range",
    is_view: false,
    columns: &[
        oid("rngtypid"),
        oid("rngsubtype"),
        oid("rngmultitypid"),
        oid("rngcollation"),
        oid("rngsubopc"),
        name("rngcanonical"),
        name("rngsubdiff"),
    ],
    rows: none,
};
