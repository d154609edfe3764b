//! How the slices of the cluster are divided among its nodes.
//!
//! ```text
//! node       0        1        2
//! slices   0   1    2   3    4   5        2 slices per node
//! ```
//!
//! Task `i` of a stage runs on node `i`, and its partition `p` is slice `i * slices_per_node + p`.
//! Rows of a KEY table live on slice `hash % slices`; since the number of slices is a multiple of
//! the slices per node, `hash % slices_per_node` is the partition within the node. Plans rely on it:
//! an operator inside of one task, which knows only that task's partitions, routes rows by it.

use std::ops::Range;

/// The shape of the cluster. The same on all nodes for the life of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    nodes: usize,
    slices_per_node: usize,
}

impl Layout {
    /// A cluster of `nodes` nodes with the same number of slices each. None is no cluster.
    pub fn new(nodes: usize, slices_per_node: usize) -> Option<Self> {
        (nodes > 0 && slices_per_node > 0).then_some(Self { nodes, slices_per_node })
    }

    /// The number of nodes.
    pub fn nodes(self) -> usize {
        self.nodes
    }

    /// The number of slices of one node.
    pub fn slices_per_node(self) -> usize {
        self.slices_per_node
    }

    /// The number of slices of all nodes.
    pub fn slices(self) -> usize {
        self.nodes * self.slices_per_node
    }

    /// The slices of a node.
    pub fn slices_of(self, node: usize) -> Range<usize> {
        let first = node * self.slices_per_node;
        first..first + self.slices_per_node
    }

    /// The node that a slice belongs to: it reads and writes the slice while it is there.
    pub fn node_of(self, slice: usize) -> usize {
        slice / self.slices_per_node
    }

    /// The nodes that keep a node's slices if there are to be `copies` copies: itself, then those
    /// that stand in for it, in this order. They are the next ones in a ring, so that the loss of a
    /// node touches the copies of its `copies - 1` neighbours on each side and no others.
    pub fn holders(self, node: usize, copies: usize) -> impl Iterator<Item = usize> {
        (0..copies.clamp(1, self.nodes)).map(move |step| (node + step) % self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slice_is_on_one_node() {
        let layout = Layout::new(3, 2).unwrap();
        let all: Vec<usize> = (0..3).flat_map(|node| layout.slices_of(node)).collect();
        assert_eq!(all, (0..layout.slices()).collect::<Vec<_>>());
        for node in 0..3 {
            assert!(layout.slices_of(node).all(|slice| layout.node_of(slice) == node));
        }
        assert_eq!(Layout::new(0, 2), None);
        assert_eq!(Layout::new(2, 0), None);
    }

    #[test]
    fn copies_are_on_the_next_nodes() {
        let layout = Layout::new(3, 2).unwrap();
        let holders = |node, copies| layout.holders(node, copies).collect::<Vec<_>>();
        assert_eq!(holders(0, 2), [0, 1]);
        assert_eq!(holders(2, 2), [2, 0]);
        assert_eq!(holders(1, 1), [1]);
        assert_eq!(holders(1, 9), [1, 2, 0]);
    }
}
