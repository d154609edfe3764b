//! stv_blueshift_damage: files of tables that are damaged, and the last ones that were.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{int4, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 42,
    name: "stv_blueshift_damage",
    is_view: true,
    columns: &[
        int4("node"),
        int4("slice"),
        int4("table_id"),
        // None if the table was dropped meanwhile.
        text("schema"),
        text("table"),
        // None if the damage is in no column, or the column was dropped.
        text("column"),
        text("file"),
        // Which part of the file was read first of those that are damaged.
        text("place"),
        text("reason"),
        // damaged; healed: a sound copy has taken its place.
        text("state"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for (node, status) in catalog.integrity().into_iter().enumerate() {
        for damage in status.damages {
            let table = catalog.snapshot.table_by_id(damage.table);
            let column = table.and_then(|table| {
                table.columns.iter().find(|column| Some(column.id) == damage.column)
            });
            rows.add([
                ("node", node.into()),
                ("slice", damage.slice.0.into()),
                ("table_id", damage.table.0.into()),
                ("schema", table.map(|table| table.schema.clone()).into()),
                ("table", table.map(|table| table.name.clone()).into()),
                ("column", column.map(|column| column.name.clone()).into()),
                ("file", damage.path.into()),
                ("place", damage.place.into()),
                ("reason", damage.reason.into()),
                ("state", if damage.is_healed { "healed" } else { "damaged" }.into()),
            ]);
        }
    }
}
