//! stv_sessions: who is connected.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 300,
    name: "stv_sessions",
    is_view: true,
    columns: &[
        nullable("starttime", Kind::Timestamp),
        int4("process"),
        text("user_name"),
        text("db_name"),
        int4("timeout_sec"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    for session in live.activity.sessions() {
        if !catalog.sees(session.user) {
            continue;
        }
        rows.add([
            ("starttime", session.started_us.into()),
            ("process", session.process_id.into()),
            ("user_name", session.user_name.into()),
            ("db_name", session.database.into()),
            ("timeout_sec", session.timeout_seconds.into()),
        ]);
    }
}
