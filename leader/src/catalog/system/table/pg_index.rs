//! pg_index: the indexes. There are none: sort keys and zone maps take their place, and keys are not
//! enforced.

use super::{SystemTable, none};
use crate::catalog::system::column::{Kind, bool, int2, nullable, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2610,
    name: "pg_index",
    is_view: false,
    columns: &[
        oid("indexrelid"),
        oid("indrelid"),
        int2("indnatts"),
        int2("indnkeyatts"),
        bool("indisunique"),
        bool("indisprimary"),
        bool("indisexclusion"),
        bool("indimmediate"),
        bool("indisclustered"),
        bool("indisvalid"),
        bool("indisready"),
        bool("indislive"),
        bool("indisreplident"),
        nullable("indkey", Kind::Int2Vector),
        nullable("indcollation", Kind::OidVector),
        nullable("indclass", Kind::OidVector),
        nullable("indoption", Kind::Int2Vector),
        text("indexprs"),
        text("indpred"),
    ],
    rows: none,
};
