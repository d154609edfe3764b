//! pg_group: the groups of users.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, name, nullable};
use crate::catalog::system::value::Value;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 5,
    name: "pg_group",
    is_view: true,
    columns: &[name("groname"), int4("grosysid"), nullable("grolist", Kind::OidList)],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for group in catalog.snapshot.groups() {
        let members = group.members.iter().map(|member| (*member).into()).collect();
        rows.add([
            ("groname", group.name.clone().into()),
            ("grosysid", group.oid.into()),
            ("grolist", Value::List(members)),
        ]);
    }
}
