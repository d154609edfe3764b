//! svv_user_grants: which user was granted which role. Users see their own.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{bool, int4, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 342,
    name: "svv_user_grants",
    is_view: true,
    columns: &[
        int4("user_id"),
        text("user_name"),
        int4("role_id"),
        text("role_name"),
        bool("admin_option"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for role in catalog.snapshot.roles() {
        let users = role.users.iter().filter_map(|oid| catalog.snapshot.user_by_oid(*oid));
        for user in users.filter(|user| catalog.sees_user(user.oid)) {
            rows.add([
                ("user_id", user.oid.into()),
                ("user_name", user.name.clone().into()),
                ("role_id", role.oid.into()),
                ("role_name", role.name.clone().into()),
            ]);
        }
    }
}
