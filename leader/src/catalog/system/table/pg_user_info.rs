//! pg_user_info: the users, with their limits.

use super::pg_user::settings;
use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Constant, Kind, bool, int4, name, nullable, or, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 321,
    name: "pg_user_info",
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
        text("useconnlimit"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for user in catalog.snapshot.users() {
        let limit = match user.connection_limit {
            Some(limit) => limit.to_string(),
            None => "UNLIMITED".to_owned(),
        };
        rows.add([
            ("usename", user.name.clone().into()),
            ("usesysid", user.oid.into()),
            ("usecreatedb", (user.superuser || user.createdb).into()),
            ("usesuper", user.superuser.into()),
            ("valuntil", user.valid_until_us.into()),
            ("useconfig", settings(user)),
            ("useconnlimit", limit.into()),
        ]);
    }
}
