//! stv_blueshift_scrub: how far each node's scrubber is.

use compute::integrity::IntegrityStatus;

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Constant, Kind, int4, nullable, or, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 41,
    name: "stv_blueshift_scrub",
    is_view: true,
    columns: &[
        int4("node"),
        // running: a pass is at work; waiting: for the next one, or there is no scrubber.
        text("state"),
        // Passes that have begun since the start of the node.
        or(nullable("passes", Kind::Int8), Constant::Int(0)),
        // What the last of them has checked so far.
        or(nullable("files", Kind::Int8), Constant::Int(0)),
        or(nullable("bytes", Kind::Int8), Constant::Int(0)),
        nullable("began", Kind::Timestamp),
        // The end of the last pass that came to its end.
        nullable("ended", Kind::Timestamp),
        // Files that are damaged now, whoever has found it.
        or(nullable("damaged", Kind::Int8), Constant::Int(0)),
        // Files that were read back after they were written.
        or(nullable("writes_verified", Kind::Int8), Constant::Int(0)),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for (node, IntegrityStatus { scrub, damages }) in catalog.integrity().iter().enumerate() {
        rows.add([
            ("node", node.into()),
            ("state", if scrub.is_running { "running" } else { "waiting" }.into()),
            ("passes", scrub.passes.into()),
            ("files", scrub.files.into()),
            ("bytes", scrub.bytes.into()),
            ("began", scrub.began_us.into()),
            ("ended", scrub.ended_us.into()),
            ("damaged", damages.iter().filter(|damage| !damage.is_healed).count().into()),
            ("writes_verified", scrub.writes_verified.into()),
        ]);
    }
}
