//! pg_type: the types of values, those of the system catalog's columns among them.

use super::{Rows, SystemTable};
use crate::catalog::system::column::{
    Constant, Kind, bool, char, int2, int4, name, nullable, oid, or, text,
};
use crate::catalog::system::types::{self, KnownType};
use crate::catalog::system::{PG_CATALOG_OID, SystemCatalog};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1247,
    name: "pg_type",
    is_view: false,
    columns: &[
        oid("oid"),
        name("typname"),
        oid("typnamespace"),
        oid("typowner"),
        int2("typlen"),
        bool("typbyval"),
        char("typtype", "b"),
        char("typcategory", "U"),
        bool("typispreferred"),
        or(bool("typisdefined"), Constant::Bool(true)),
        char("typdelim", ","),
        oid("typrelid"),
        oid("typelem"),
        oid("typarray"),
        // The names of functions; PostgreSQL's type for them prints alike.
        name("typinput"),
        name("typoutput"),
        name("typreceive"),
        name("typsend"),
        or(name("typanalyze"), Constant::Text("-")),
        char("typalign", "i"),
        char("typstorage", "p"),
        bool("typnotnull"),
        oid("typbasetype"),
        or(int4("typtypmod"), Constant::Int(-1)),
        int4("typndims"),
        oid("typcollation"),
        text("typdefaultbin"),
        text("typdefault"),
        nullable("typacl", Kind::AclList),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let owner = catalog.system_owner();
    for known in types::all() {
        let (input, output, receive, send) = known.functions();
        rows.add([
            ("oid", known.oid.into()),
            ("typname", known.name.into()),
            ("typnamespace", PG_CATALOG_OID.into()),
            ("typowner", owner.into()),
            ("typlen", known.length.into()),
            ("typbyval", known.by_value.into()),
            ("typtype", if known.category == KnownType::PSEUDO { "p" } else { "b" }.into()),
            ("typcategory", known.category.into()),
            ("typispreferred", known.is_preferred.into()),
            ("typelem", known.element.into()),
            ("typarray", known.array.into()),
            ("typinput", input.into()),
            ("typoutput", output.into()),
            ("typreceive", receive.into()),
            ("typsend", send.into()),
            ("typalign", known.align.into()),
            ("typstorage", known.storage.into()),
            ("typcollation", known.collation.into()),
        ]);
    }
}
