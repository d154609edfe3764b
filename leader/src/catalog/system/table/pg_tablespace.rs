//! pg_tablespace: the one place where data is, the data directory.

use super::{Rows, SystemTable};
use crate::catalog::system::column::{Kind, name, nullable, oid};
use crate::catalog::system::{SystemCatalog, TABLESPACE_OID};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1213,
    name: "pg_tablespace",
    is_view: false,
    columns: &[
        oid("oid"),
        name("spcname"),
        oid("spcowner"),
        nullable("spcacl", Kind::AclList),
        nullable("spcoptions", Kind::TextList),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    rows.add([
        ("oid", TABLESPACE_OID.into()),
        ("spcname", "pg_default".into()),
        ("spcowner", catalog.system_owner().into()),
    ]);
}
