//! svl_query_queue_info: queries that have waited for a slot, with their texts. Spans are whole seconds.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use crate::catalog::system::live::first;
use std::collections::HashMap;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 316,
    name: "svl_query_queue_info",
    is_view: true,
    columns: &[
        text("database"),
        int4("query"),
        nullable("xid", Kind::Int8),
        int4("userid"),
        text("querytxt"),
        nullable("queue_start_time", Kind::Timestamp),
        nullable("exec_start_time", Kind::Timestamp),
        int4("service_class"),
        int4("slots"),
        nullable("queue_elapsed", Kind::Int8),
        nullable("exec_elapsed", Kind::Int8),
        nullable("wlm_total_elapsed", Kind::Int8),
        nullable("commit_queue_elapsed", Kind::Int8),
        nullable("commit_exec_time", Kind::Int8),
        text("service_class_name"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    let texts: HashMap<_, _> = live
        .activity
        .queries()
        .into_iter()
        .filter_map(|statement| Some((statement.query?, statement)))
        .collect();
    let finished = catalog.workload(|_, history| {
        history.queries().map(|finished| finished.row.clone()).collect::<Vec<_>>()
    });
    let seconds = |micros: u64| micros / 1_000_000;
    for row in finished.into_iter().flatten() {
        let statement = texts.get(&row.query);
        rows.add([
            ("database", statement.map(|statement| statement.database.clone()).into()),
            ("query", row.query.0.into()),
            ("xid", row.xid.into()),
            ("userid", row.userid.0.into()),
            ("querytxt", statement.map(|statement| first(&statement.text, 100)).into()),
            ("queue_start_time", row.queue_start_time.0.into()),
            ("exec_start_time", row.exec_start_time.map(|time| time.0).into()),
            ("service_class", u32::from(row.service_class.0).into()),
            ("slots", row.slot_count.into()),
            ("queue_elapsed", seconds(row.total_queue_time).into()),
            ("exec_elapsed", seconds(row.total_exec_time).into()),
            ("wlm_total_elapsed", seconds(row.total_queue_time + row.total_exec_time).into()),
            ("service_class_name", row.service_class_name.to_string().into()),
        ]);
    }
}
