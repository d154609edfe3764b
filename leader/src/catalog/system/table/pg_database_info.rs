//! pg_database_info: pg_database, with what Redshift keeps of a database beside it.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::column::{Constant, Kind, bool, int4, name, nullable, oid, or, text};
use crate::catalog::system::{DATABASE_OID, ENCODING_UTF8, SystemCatalog, TABLESPACE_OID};
use crate::engine::DATABASE;
use crate::transaction::isolation::Isolation;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 334,
    name: "pg_database_info",
    is_view: true,
    columns: &[
        oid("datid"),
        name("datname"),
        oid("datdba"),
        int4("encoding"),
        bool("datistemplate"),
        or(bool("datallowconn"), Constant::Bool(true)),
        oid("dattablespace"),
        nullable("datconfig", Kind::TextList),
        nullable("datacl", Kind::AclList),
        or(text("datconnlimit"), Constant::Text("UNLIMITED")),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let model = match Isolation::of_database(&catalog.snapshot) {
        Isolation::Snapshot => 1,
        Isolation::Serializable => 2,
    };
    rows.add([
        ("datid", DATABASE_OID.into()),
        ("datname", DATABASE.into()),
        ("datdba", catalog.system_owner().into()),
        ("encoding", ENCODING_UTF8.into()),
        ("dattablespace", TABLESPACE_OID.into()),
        ("datconfig", format!("{{concurrency_model={model}}}").into()),
    ]);
}
