//! pg_extension: the installed extensions. There are none.

use super::{SystemTable, none};
use crate::catalog::system::column::{Kind, bool, name, nullable, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 3079,
    name: "pg_extension",
    is_view: false,
    columns: &[
        oid("oid"),
        name("extname"),
        oid("extowner"),
        oid("extnamespace"),
        bool("extrelocatable"),
        text("extversion"),
        nullable("extconfig", Kind::OidList),
        nullable("extcondition", Kind::TextList),
    ],
    rows: none,
};
