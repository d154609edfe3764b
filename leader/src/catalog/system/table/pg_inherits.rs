//! pg_inherits: which table inherits from which other one. None does.

use super::{SystemTable, none};
use crate::catalog::system::column::{bool, int4, oid};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2611,
    name: "pg_inherits",
    is_view: false,
    columns: &[oid("inhrelid"), oid("inhparent"), int4("inhseqno"), bool("inhdetachpending")],
    rows: none,
};
