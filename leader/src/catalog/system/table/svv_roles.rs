//! svv_roles: the roles. Users see those that they have.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 340,
    name: "svv_roles",
    is_view: true,
    columns: &[
        int4("role_id"),
        text("role_name"),
        text("role_owner"),
        nullable("external_id", Kind::Text),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for role in catalog.visible_roles() {
        let owner = catalog.snapshot.user_by_oid(role.owner);
        rows.add([
            ("role_id", role.oid.into()),
            ("role_name", role.name.clone().into()),
            ("role_owner", owner.map(|owner| owner.name.clone()).unwrap_or_default().into()),
        ]);
    }
}
