//! pg_user: the users, without their passwords.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Constant, Kind, bool, int4, name, nullable, or, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS,
    name: "pg_user",
    is_view: true,
    columns: &[
        name("usename"),
        int4("usesysid"),
        bool("usecreatedb"),
        bool("usesuper"),
        bool("usecatupd"),
        or(text("passwd"), Constant::Text("********")),
        nullable("valuntil", Kind::TimestampTz),
        nullable("useconfig", Kind::TextList),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for user in catalog.snapshot.users() {
        rows.add([
            ("usename", user.name.clone().into()),
            ("usesysid", user.oid.into()),
            ("usecreatedb", user.superuser.into()),
            ("usesuper", user.superuser.into()),
        ]);
    }
}
