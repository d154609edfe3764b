//! pg_namespace: the schemas.

use super::{Rows, SystemTable};
use crate::catalog::system::column::{Kind, name, nullable, oid};
use crate::catalog::system::{PG_CATALOG, PG_CATALOG_OID, SystemCatalog};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2615,
    name: "pg_namespace",
    is_view: false,
    columns: &[oid("oid"), name("nspname"), oid("nspowner"), nullable("nspacl", Kind::AclList)],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    rows.add([
        ("oid", PG_CATALOG_OID.into()),
        ("nspname", PG_CATALOG.into()),
        ("nspowner", catalog.system_owner().into()),
    ]);
    for schema in catalog.snapshot.schemas() {
        rows.add([
            ("oid", schema.oid.into()),
            ("nspname", schema.name.clone().into()),
            ("nspowner", catalog.user_oid(&schema.owner).into()),
        ]);
    }
}
