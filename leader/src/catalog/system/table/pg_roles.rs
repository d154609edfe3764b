//! pg_roles: the users again, as PostgreSQL shows them since its release 8.1.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Constant, Kind, bool, int4, name, nullable, oid, or, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 1,
    name: "pg_roles",
    is_view: true,
    columns: &[
        name("rolname"),
        bool("rolsuper"),
        or(bool("rolinherit"), Constant::Bool(true)),
        bool("rolcreaterole"),
        bool("rolcreatedb"),
        or(bool("rolcanlogin"), Constant::Bool(true)),
        bool("rolreplication"),
        or(int4("rolconnlimit"), Constant::Int(-1)),
        or(text("rolpassword"), Constant::Text("********")),
        nullable("rolvaliduntil", Kind::TimestampTz),
        bool("rolbypassrls"),
        nullable("rolconfig", Kind::TextList),
        oid("oid"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for user in catalog.snapshot.users() {
        rows.add([
            ("rolname", user.name.clone().into()),
            ("rolsuper", user.superuser.into()),
            ("rolcreaterole", user.superuser.into()),
            ("rolcreatedb", (user.superuser || user.createdb).into()),
            ("rolconnlimit", user.connection_limit.map_or(-1, i64::from).into()),
            ("rolvaliduntil", user.valid_until_us.into()),
            ("oid", user.oid.into()),
        ]);
    }
}
