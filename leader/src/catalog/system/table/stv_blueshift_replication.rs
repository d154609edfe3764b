//! stv_blueshift_replication: which node has copies of which slices, and what is under-replicated.
//!
//! A row for each slice on each node that shall have a copy of it; every node shall have one of
//! slice 0, where tables with DISTSTYLE ALL are. Empty on a cluster of one node, which has no other
//! to copy to.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Constant, Kind, int4, nullable, or, text};
use crate::cluster::NodeState;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 40,
    name: "stv_blueshift_replication",
    is_view: true,
    columns: &[
        int4("node"),
        int4("slice"),
        // primary: of the node's own slices; copy: of another node's.
        text("role"),
        // Files that the node shall have of the slice: segments and deletion vectors.
        or(nullable("segments", Kind::Int8), Constant::Int(0)),
        // Those of them that it is not known to have.
        or(nullable("under_replicated", Kind::Int8), Constant::Int(0)),
        // whole, rebuilding, lost: of the node.
        text("state"),
        // The node that runs queries over the slice now; none if none that is there has all of it.
        nullable("served_by", Kind::Int4),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(nodes) = catalog.nodes() else { return };
    for status in nodes.status() {
        let state = match status.state {
            NodeState::Whole => "whole",
            NodeState::Rebuilding => "rebuilding",
            NodeState::Lost => "lost",
        };
        rows.add([
            ("node", status.node.into()),
            ("slice", status.slice.into()),
            ("role", if status.primary { "primary" } else { "copy" }.into()),
            ("segments", status.segments.into()),
            ("under_replicated", status.missing.into()),
            ("state", state.into()),
            ("served_by", status.served_by.into()),
        ]);
    }
}
