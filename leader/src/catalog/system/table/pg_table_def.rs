//! pg_table_def: the columns of the tables that the search path leads to, with their physical
//! design. Redshift's own; tables of other schemas are not shown.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::DistributionStyle;
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{bool, int4, name, text};
use crate::catalog::system::relation::Relation;
use crate::catalog::system::types::{encoding_code, encoding_name};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 4,
    name: "pg_table_def",
    is_view: true,
    columns: &[
        name("schemaname"),
        name("tablename"),
        name("column"),
        text("type"),
        text("encoding"),
        bool("distkey"),
        int4("sortkey"),
        bool("notnull"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let path = catalog.session.effective_search_path();
    for relation in catalog.relations() {
        let Relation::User(entry) = &relation else { continue };
        if !path.contains(&entry.schema.as_str()) {
            continue;
        }
        for (position, column) in entry.columns.iter().enumerate() {
            let sorted = entry.sort_key.iter().position(|sorted| *sorted == position);
            let encoding = encoding_name(encoding_code(column.encode).into()).unwrap_or("none");
            rows.add([
                ("schemaname", entry.schema.clone().into()),
                ("tablename", entry.name.clone().into()),
                ("column", column.name.clone().into()),
                ("type", column.sql_type.to_string().into()),
                ("encoding", encoding.into()),
                ("distkey", (entry.distribution == DistributionStyle::Key(position)).into()),
                ("sortkey", sorted.map_or(0, |order| order + 1).into()),
                ("notnull", (!column.nullable).into()),
            ]);
        }
    }
}
