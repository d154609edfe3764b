//! stv_recents: statements that run, and those that have ended lately.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use crate::catalog::system::live::first;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 301,
    name: "stv_recents",
    is_view: true,
    columns: &[
        int4("userid"),
        text("status"),
        nullable("starttime", Kind::Timestamp),
        int4("duration"),
        text("user_name"),
        text("db_name"),
        text("query"),
        int4("pid"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    let now_us = live.activity.now_us();
    let all = live.activity.running().into_iter().chain(live.activity.recents());
    for statement in all.filter(|statement| catalog.sees(statement.user)) {
        let ended_us = statement.ended_us.unwrap_or(now_us);
        let is_running = statement.ended_us.is_none();
        rows.add([
            ("userid", statement.user.into()),
            ("status", if is_running { "Running" } else { "Done" }.into()),
            ("starttime", statement.started_us.into()),
            ("duration", (ended_us - statement.started_us).into()),
            ("user_name", statement.user_name.into()),
            ("db_name", statement.database.into()),
            ("query", first(&statement.text, 600).into()),
            ("pid", if is_running { statement.process_id } else { -1 }.into()),
        ]);
    }
}
