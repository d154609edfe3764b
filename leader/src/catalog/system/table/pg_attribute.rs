//! pg_attribute: the columns of all relations.

use super::{Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{
    Constant, Kind, bool, char, int2, int4, name, nullable, oid, or,
};
use crate::catalog::system::relation::{Relation, RelationColumn};
use crate::catalog::system::types::{self, encoding_code};
use crate::catalog::{DistributionStyle, TableEntry};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1249,
    name: "pg_attribute",
    is_view: false,
    columns: &[
        oid("attrelid"),
        name("attname"),
        oid("atttypid"),
        or(int4("attstattarget"), Constant::Int(-1)),
        int2("attlen"),
        int2("attnum"),
        int4("attndims"),
        or(int4("attcacheoff"), Constant::Int(-1)),
        int4("atttypmod"),
        bool("attbyval"),
        char("attstorage", "p"),
        char("attalign", "i"),
        bool("attnotnull"),
        bool("atthasdef"),
        bool("atthasmissing"),
        char("attidentity", ""),
        char("attgenerated", ""),
        bool("attisdropped"),
        or(bool("attislocal"), Constant::Bool(true)),
        int4("attinhcount"),
        bool("attisdistkey"),
        int4("attsortkeyord"),
        int4("attencodingtype"),
        oid("attcollation"),
        nullable("attacl", Kind::AclList),
        nullable("attoptions", Kind::TextList),
        nullable("attfdwoptions", Kind::TextList),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for relation in catalog.relations() {
        for (number, column) in (1i64..).zip(relation.columns()) {
            let wire_type = column.wire_type();
            let known = types::find(wire_type.oid.into());
            let design = match (&relation, &column) {
                (Relation::User(entry), RelationColumn::User(position, _)) => {
                    Design::of(entry, *position)
                }
                _ => Design::default(),
            };
            rows.add([
                ("attrelid", relation.oid().into()),
                ("attname", column.name().to_owned().into()),
                ("atttypid", wire_type.oid.into()),
                ("attlen", known.map_or(-1, |known| known.length).into()),
                ("attnum", number.into()),
                ("attndims", i32::from(known.is_some_and(|known| known.element != 0)).into()),
                ("atttypmod", wire_type.modifier.into()),
                ("attbyval", known.is_some_and(|known| known.by_value).into()),
                ("attstorage", known.map_or("x", |known| known.storage).into()),
                ("attalign", known.map_or("i", |known| known.align).into()),
                ("attnotnull", (!column.is_nullable()).into()),
                ("atthasdef", design.has_default.into()),
                ("attidentity", design.identity.into()),
                ("attisdistkey", design.is_distkey.into()),
                ("attsortkeyord", design.sort_key_order.into()),
                ("attencodingtype", design.encoding.into()),
                ("attcollation", known.map_or(0, |known| known.collation).into()),
            ]);
        }
    }
}

/// What only columns of users' tables have.
#[derive(Default)]
struct Design {
    has_default: bool,
    /// As PostgreSQL has it: always or by default.
    identity: &'static str,
    is_distkey: bool,
    /// From 1; 0 for a column that is not in the sort key.
    sort_key_order: usize,
    encoding: i32,
}

impl Design {
    fn of(entry: &TableEntry, position: usize) -> Self {
        let column = &entry.columns[position];
        let sorted = entry.sort_key.iter().position(|sorted| *sorted == position);
        Self {
            has_default: column.default.is_some() || column.identity.is_some(),
            identity: column.identity.map_or("", |identity| match identity.by_default {
                true => "d",
                false => "a",
            }),
            is_distkey: entry.distribution == DistributionStyle::Key(position),
            sort_key_order: sorted.map_or(0, |order| order + 1),
            encoding: encoding_code(column.encode),
        }
    }
}
