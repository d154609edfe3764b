//! pg_auth_members: who belongs to which role. There are no roles but users.

use super::{SystemTable, none};
use crate::catalog::system::column::{bool, oid};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1261,
    name: "pg_auth_members",
    is_view: false,
    columns: &[oid("roleid"), oid("member"), oid("grantor"), bool("admin_option")],
    rows: none,
};
