//! A graph of transactions, and cycles in it.

use std::collections::{HashMap, VecDeque};

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Ww,
    Wr,
    Rw,
    Time,
}

/// The nodes of a cycle, each with the kind of the edge that leaves it.
pub(crate) type Cycle = Vec<(usize, Kind)>;

/// Nodes of a strongly connected part from which a short cycle is looked for.
const STARTS_MAX: usize = 200;

/// A graph whose nodes are numbers.
pub(crate) struct Graph {
    edges: Vec<Vec<(usize, Kind)>>,
}

impl Graph {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { edges: vec![Vec::new(); nodes] }
    }

    /// Adds an edge; one from a node to itself means nothing.
    pub(crate) fn add(&mut self, from: usize, to: usize, kind: Kind) {
        if from != to {
            self.edges[from].push((to, kind));
        }
    }

    /// A cycle of edges of these kinds, a short one.
    pub(crate) fn cycle(&self, kinds: &[Kind]) -> Option<Cycle> {
        let filtered = |edges: &Vec<(usize, Kind)>| {
            edges.iter().filter(|(_, kind)| kinds.contains(kind)).copied().collect()
        };
        shortest_cycle(&self.edges.iter().map(filtered).collect::<Vec<_>>())
    }

    /// The same in which no two edges of the one kind follow each other.
    pub(crate) fn cycle_without_adjacent(&self, kinds: &[Kind], once: Kind) -> Option<Cycle> {
        // Each node twice: 2n + 1 is reached by that kind, and left by others only.
        let mut doubled = vec![Vec::new(); self.edges.len() * 2];
        for (from, edges) in self.edges.iter().enumerate() {
            for (to, kind) in edges.iter().filter(|(_, kind)| kinds.contains(kind)) {
                if *kind == once {
                    doubled[2 * from].push((2 * to + 1, *kind));
                } else {
                    doubled[2 * from].push((2 * to, *kind));
                    doubled[2 * from + 1].push((2 * to, *kind));
                }
            }
        }
        let cycle = shortest_cycle(&doubled)?;
        Some(cycle.into_iter().map(|(node, kind)| (node / 2, kind)).collect())
    }
}

fn shortest_cycle(edges: &[Vec<(usize, Kind)>]) -> Option<Cycle> {
    let parts = connected_parts(edges);
    let mut sizes: HashMap<usize, Vec<usize>> = HashMap::new();
    for (node, part) in parts.iter().enumerate() {
        sizes.entry(*part).or_default().push(node);
    }
    let part = sizes.into_values().filter(|nodes| nodes.len() > 1).min_by_key(Vec::len)?;
    let cycles = part.iter().take(STARTS_MAX).filter_map(|start| cycle_from(edges, &parts, *start));
    cycles.min_by_key(Vec::len)
}

/// The shortest way from a node back to it.
fn cycle_from(edges: &[Vec<(usize, Kind)>], parts: &[usize], start: usize) -> Option<Cycle> {
    let mut came: HashMap<usize, (usize, Kind)> = HashMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(node) = next.pop_front() {
        for (to, kind) in edges[node].iter().filter(|(to, _)| parts[*to] == parts[start]) {
            if came.contains_key(to) {
                continue;
            }
            came.insert(*to, (node, *kind));
            if *to == start {
                let mut cycle = vec![came[&start]];
                while cycle[cycle.len() - 1].0 != start {
                    let last = cycle[cycle.len() - 1].0;
                    cycle.push(came[&last]);
                }
                cycle.reverse();
                return Some(cycle);
            }
            next.push_back(*to);
        }
    }
    None
}

/// The strongly connected part of each node, by Tarjan's algorithm without recursion.
fn connected_parts(edges: &[Vec<(usize, Kind)>]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let count = edges.len();
    let (mut index, mut low, mut part) = (vec![NONE; count], vec![0; count], vec![NONE; count]);
    let (mut open, mut next) = (Vec::new(), 0);
    for root in 0..count {
        if index[root] != NONE {
            continue;
        }
        let mut path = vec![(root, 0)];
        while let Some((node, edge)) = path.pop() {
            if edge == 0 {
                (index[node], low[node]) = (next, next);
                next += 1;
                open.push(node);
            }
            if let Some((to, _)) = edges[node].get(edge) {
                path.push((node, edge + 1));
                if index[*to] == NONE {
                    path.push((*to, 0));
                } else if part[*to] == NONE {
                    low[node] = low[node].min(index[*to]);
                }
                continue;
            }
            if low[node] == index[node] {
                while let Some(member) = open.pop() {
                    part[member] = node;
                    if member == node {
                        break;
                    }
                }
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
        }
    }
    part
}
