//! pg_group: the groups of users. CREATE GROUP is not supported, so there are none.

use super::{OWN_OIDS, SystemTable, none};
use crate::catalog::system::column::{Kind, int4, name, nullable};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 5,
    name: "pg_group",
    is_view: true,
    columns: &[name("groname"), int4("grosysid"), nullable("grolist", Kind::OidList)],
    rows: none,
};
