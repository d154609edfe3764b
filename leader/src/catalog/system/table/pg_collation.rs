//! pg_collation: the orders of text. There is one, by bytes, under two names.

use super::{Rows, SystemTable};
use crate::catalog::system::column::{Constant, char, int4, name, oid, or, text};
use crate::catalog::system::{PG_CATALOG_OID, SystemCatalog};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 3456,
    name: "pg_collation",
    is_view: false,
    columns: &[
        oid("oid"),
        name("collname"),
        oid("collnamespace"),
        oid("collowner"),
        char("collprovider", "c"),
        or(int4("collencoding"), Constant::Int(-1)),
        text("collcollate"),
        text("collctype"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for (oid, name, provider) in [(100, "default", "d"), (950, "C", "c")] {
        rows.add([
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", PG_CATALOG_OID.into()),
            ("collowner", catalog.system_owner().into()),
            ("collprovider", provider.into()),
            ("collcollate", "C".into()),
            ("collctype", "C.UTF-8".into()),
        ]);
    }
}
