//! pg_user: the users, without their passwords.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::UserEntry;
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Constant, Kind, bool, int4, name, nullable, or, text};
use crate::catalog::system::value::Value;

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
            ("usecreatedb", (user.superuser || user.createdb).into()),
            ("usesuper", user.superuser.into()),
            ("valuntil", user.valid_until_us.into()),
            ("useconfig", settings(user)),
        ]);
    }
}

/// What sessions of a user begin with, as `name=value`.
pub(super) fn settings(user: &UserEntry) -> Value {
    if user.settings.is_empty() {
        return Value::Null;
    }
    let setting = |(name, value): &(String, String)| format!("{name}={value}").into();
    Value::List(user.settings.iter().map(setting).collect())
}
