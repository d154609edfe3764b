//! pg_database: the one database.

use super::{Rows, SystemTable};
use crate::catalog::system::column::{Constant, Kind, bool, int4, name, nullable, oid, or, text};
use crate::catalog::system::{DATABASE_OID, ENCODING_UTF8, SystemCatalog, TABLESPACE_OID};
use crate::engine::DATABASE;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 1262,
    name: "pg_database",
    is_view: false,
    columns: &[
        oid("oid"),
        name("datname"),
        oid("datdba"),
        int4("encoding"),
        bool("datistemplate"),
        or(bool("datallowconn"), Constant::Bool(true)),
        or(int4("datconnlimit"), Constant::Int(-1)),
        oid("dattablespace"),
        text("datcollate"),
        text("datctype"),
        nullable("datconfig", Kind::TextList),
        nullable("datacl", Kind::AclList),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    rows.add([
        ("oid", DATABASE_OID.into()),
        ("datname", DATABASE.into()),
        ("datdba", catalog.system_owner().into()),
        ("encoding", ENCODING_UTF8.into()),
        ("dattablespace", TABLESPACE_OID.into()),
        // Texts are ordered by their bytes; upper and lower case are Unicode's.
        ("datcollate", "C".into()),
        ("datctype", "C.UTF-8".into()),
    ]);
}
