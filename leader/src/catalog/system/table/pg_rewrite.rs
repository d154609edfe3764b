//! pg_rewrite: the rules of views. There are no views of users yet.

use super::{SystemTable, none};
use crate::catalog::system::column::{bool, char, name, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2618,
    name: "pg_rewrite",
    is_view: false,
    columns: &[
        oid("oid"),
        name("rulename"),
        oid("ev_class"),
        char("ev_type", "1"),
        char("ev_enabled", "O"),
        bool("is_instead"),
        text("ev_qual"),
        text("ev_action"),
    ],
    rows: none,
};
