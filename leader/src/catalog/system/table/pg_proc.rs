//! pg_proc: the functions that users made. They cannot make any yet; those that are built in are not
//! listed.

use super::{SystemTable, none};
use crate::catalog::system::column::{Kind, bool, char, int2, name, nullable, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1255,
    name: "pg_proc",
    is_view: false,
    columns: &[
        oid("oid"),
        name("proname"),
        oid("pronamespace"),
        oid("proowner"),
        oid("prolang"),
        bool("proisagg"),
        bool("proiswindow"),
        char("prokind", "f"),
        bool("prosecdef"),
        bool("proisstrict"),
        bool("proretset"),
        char("provolatile", "v"),
        int2("pronargs"),
        int2("pronargdefaults"),
        oid("prorettype"),
        nullable("proargtypes", Kind::OidVector),
        nullable("proallargtypes", Kind::OidList),
        nullable("proargmodes", Kind::CharList),
        nullable("proargnames", Kind::TextList),
        text("proargdefaults"),
        text("prosrc"),
        text("probin"),
        nullable("proconfig", Kind::TextList),
        nullable("proacl", Kind::AclList),
    ],
    rows: none,
};
