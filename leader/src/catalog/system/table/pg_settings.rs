//! pg_settings: the session's parameters.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::text;
use crate::session::settings;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 2,
    name: "pg_settings",
    is_view: true,
    columns: &[
        text("name"),
        text("setting"),
        text("unit"),
        text("category"),
        text("short_desc"),
        text("extra_desc"),
        text("context"),
        text("vartype"),
        text("source"),
        text("min_val"),
        text("max_val"),
        text("boot_val"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for (name, setting) in &catalog.session.settings {
        let known = settings::description(name);
        let context = known.as_ref().map_or("user", |known| known.context);
        rows.add([
            ("name", name.clone().into()),
            ("setting", setting.clone().into()),
            ("unit", known.as_ref().and_then(|known| known.unit).into()),
            ("context", context.into()),
            ("vartype", known.as_ref().map_or("string", |known| known.vartype).into()),
            ("min_val", known.as_ref().and_then(|known| known.min.clone()).into()),
            ("max_val", known.as_ref().and_then(|known| known.max.clone()).into()),
            ("boot_val", known.as_ref().map(|known| known.default).into()),
        ]);
    }
}
