//! pg_enum: the labels of enumerated types. There are no such types.

use super::{SystemTable, none};
use crate::catalog::system::column::{Kind, name, nullable, oid};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 3501,
    name: "pg_enum",
    is_view: false,
    columns: &[
        oid("oid"),
        oid("enumtypid"),
        nullable("enumsortorder", Kind::Real),
        name("enumlabel"),
    ],
    rows: none,
};
