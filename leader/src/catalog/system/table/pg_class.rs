//! pg_class: the relations, those of the system catalog among them.

use super::{Rows, SystemTable};
use crate::catalog::constraint::ConstraintKind;
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, bool, char, int2, int4, name, nullable, oid};
use crate::catalog::system::relation::Relation;
use crate::catalog::system::value::Value;
use crate::catalog::{DistributionStyle, TableEntry};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1259,
    name: "pg_class",
    is_view: false,
    columns: &[
        oid("oid"),
        name("relname"),
        oid("relnamespace"),
        oid("reltype"),
        oid("reloftype"),
        oid("relowner"),
        oid("relam"),
        oid("relfilenode"),
        oid("reltablespace"),
        int4("relpages"),
        nullable("reltuples", Kind::Real),
        oid("reltoastrelid"),
        bool("relhasindex"),
        bool("relisshared"),
        char("relpersistence", "p"),
        char("relkind", "r"),
        int2("relnatts"),
        int2("relchecks"),
        bool("relhasoids"),
        bool("relhaspkey"),
        bool("relhasrules"),
        bool("relhastriggers"),
        bool("relhassubclass"),
        bool("relrowsecurity"),
        bool("relforcerowsecurity"),
        bool("relispartition"),
        char("relreplident", "n"),
        int4("reldiststyle"),
        nullable("relacl", Kind::AclList),
        nullable("reloptions", Kind::TextList),
    ],
    rows,
};

/// What PostgreSQL counts in relpages.
const PAGE_BYTES: u64 = 8192;

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for relation in catalog.relations() {
        let (owner, row_count, style, has_primary_key) = match &relation {
            Relation::User(entry) => (
                catalog.user_oid(&entry.owner),
                i64::try_from(entry.row_count()).ok(),
                style_code(entry),
                entry.constraints.iter().any(|key| key.kind == ConstraintKind::PrimaryKey),
            ),
            Relation::System(_) => (catalog.system_owner(), None, 0, false),
        };
        let pages = i64::try_from(relation.bytes().div_ceil(PAGE_BYTES)).ok();
        rows.add([
            ("oid", relation.oid().into()),
            ("relname", relation.name().to_owned().into()),
            ("relnamespace", catalog.schema_oid(relation.schema()).into()),
            ("relowner", owner.into()),
            ("relpages", pages.into()),
            ("reltuples", row_count.into()),
            ("relkind", kind(&relation)),
            ("relnatts", relation.columns().len().into()),
            ("relhaspkey", has_primary_key.into()),
            ("reldiststyle", style.into()),
        ]);
    }
}

fn kind(relation: &Relation) -> Value {
    match relation {
        Relation::System(table) if table.is_view => "v".into(),
        Relation::System(_) | Relation::User(_) => "r".into(),
    }
}

/// Redshift's numbers for distribution styles.
fn style_code(entry: &TableEntry) -> i32 {
    if entry.is_automatic {
        return 9;
    }
    match entry.distribution {
        DistributionStyle::Even => 0,
        DistributionStyle::Key(_) => 1,
        DistributionStyle::All => 8,
    }
}
