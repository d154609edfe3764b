//! stl_querytext: the texts of queries that have ended, in pieces of 200 characters.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 304,
    name: "stl_querytext",
    is_view: true,
    columns: &[
        int4("userid"),
        nullable("xid", Kind::Int8),
        int4("pid"),
        int4("query"),
        int4("sequence"),
        text("text"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    for statement in live.activity.queries() {
        let Some(query) = statement.query.filter(|_| catalog.sees(statement.user)) else {
            continue;
        };
        // A line break is two characters here.
        let text: Vec<char> = statement.text.replace('\n', "\\n").chars().collect();
        for (sequence, piece) in text.chunks(200).enumerate() {
            rows.add([
                ("userid", statement.user.into()),
                ("xid", statement.xid.into()),
                ("pid", statement.process_id.into()),
                ("query", query.0.into()),
                ("sequence", sequence.into()),
                ("text", piece.iter().collect::<String>().into()),
            ]);
        }
    }
}
