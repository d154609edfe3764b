//! svv_role_grants: which role has which other role. Users see the roles that they have.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{int4, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 341,
    name: "svv_role_grants",
    is_view: true,
    columns: &[
        int4("role_id"),
        text("role_name"),
        int4("granted_role_id"),
        text("granted_role_name"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let visible = catalog.visible_roles();
    for granted in &visible {
        for role in visible.iter().filter(|role| granted.roles.contains(&role.oid)) {
            rows.add([
                ("role_id", role.oid.into()),
                ("role_name", role.name.clone().into()),
                ("granted_role_id", granted.oid.into()),
                ("granted_role_name", granted.name.clone().into()),
            ]);
        }
    }
}
