//! pg_trigger: the triggers. There are none.

use super::{SystemTable, none};
use crate::catalog::system::column::{Kind, bool, char, int2, name, nullable, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2620,
    name: "pg_trigger",
    is_view: false,
    columns: &[
        oid("oid"),
        oid("tgrelid"),
        oid("tgparentid"),
        name("tgname"),
        oid("tgfoid"),
        int2("tgtype"),
        char("tgenabled", "O"),
        bool("tgisconstraint"),
        bool("tgisinternal"),
        name("tgconstrname"),
        oid("tgconstrrelid"),
        oid("tgconstrindid"),
        oid("tgconstraint"),
        bool("tgdeferrable"),
        bool("tginitdeferred"),
        int2("tgnargs"),
        nullable("tgattr", Kind::Int2Vector),
        text("tgargs"),
        text("tgqual"),
    ],
    rows: none,
};
