//! The files of a node against what the catalog says of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use compute::FileInfo;
use compute::inspect::{FileReport, NamedFile, inspect_files, unnamed_files};
use compute::layout::Layout;
use storage::ids::{ColumnId, SliceId};
use storage::io::Io;
use storage::verify::{Depth, Place, Problem, ProblemKind};

use crate::catalog::{DistributionStyle, Snapshot, TableEntry};

/// Which of the files that the catalog names have to be in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder {
    /// Those of a node, of which so many copies are kept.
    Node { node: usize, copies: usize, layout: Layout },
    /// It is not known: those that are there.
    Unknown(Layout),
}

impl Holder {
    fn shall_have(self, slice: SliceId, everywhere: bool) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Node { node, copies, layout } => {
                let copies = if everywhere { layout.nodes() } else { copies };
                let owner = layout.node_of(slice.0 as usize);
                layout.holders(owner, copies).any(|holder| holder == node)
            }
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::Node { layout, .. } | Self::Unknown(layout) => layout,
        }
    }
}

/// What was found of a node's files.
pub(super) struct NodeReport {
    node: Option<usize>,
    files: Vec<(NamedFile, FileReport)>,
    /// Files that the catalog does not name, or why they could not be listed.
    unnamed: Result<Vec<PathBuf>, String>,
}

impl NodeReport {
    /// Checks the files of a node that the catalog names.
    pub(super) fn new(
        io: &Arc<dyn Io>,
        snapshot: &Snapshot,
        node: Option<usize>,
        directory: &Path,
        holder: Holder,
        depth: Depth,
    ) -> Self {
        let mut tables: Vec<&Arc<TableEntry>> = snapshot.tables().collect();
        tables.sort_by_key(|table| table.id);
        let all: Vec<NamedFile> = tables.iter().flat_map(|table| named_files(table)).collect();
        let slices = holder.layout().slices();
        let unnamed = unnamed_files(io.as_ref(), directory, slices, &all);
        let everywhere = |file: &NamedFile| {
            let table = snapshot.table_by_id(file.table);
            table.is_some_and(|table| table.distribution == DistributionStyle::All)
        };
        let shall_have = |file: &NamedFile| holder.shall_have(file.slice, everywhere(file));
        let named: Vec<NamedFile> = all.into_iter().filter(shall_have).collect();
        let reports = inspect_files(io, directory, &named, depth);
        let missed = matches!(holder, Holder::Node { .. });
        let files = named.into_iter().zip(reports);
        Self {
            node,
            files: files.filter(|(_, report)| missed || !report.is_missing).collect(),
            unnamed: unnamed.map_err(|error| error.to_string()),
        }
    }

    /// What is wrong, a line each. `all` are the reports of all nodes that are here.
    pub(super) fn findings(&self, snapshot: &Snapshot, all: &[Self]) -> Vec<String> {
        let mut lines = Vec::new();
        for (file, report) in &self.files {
            let table = snapshot.table_by_id(file.table);
            let of = table.map_or_else(String::new, |table| table_name(table));
            let elsewhere = match all.iter().find(|other| other.has_sound(file)) {
                Some(NodeReport { node: Some(node), .. }) => {
                    format!("; node {node} has a sound copy")
                }
                _ => String::new(),
            };
            let path = report.path.display();
            if report.is_missing {
                lines.push(format!("{of}: file {path} is missing{elsewhere}"));
            }
            for problem in &report.problems {
                let what = words(problem, table.map(Arc::as_ref));
                lines.push(format!("{of}{what}: file {path}{elsewhere}"));
            }
        }
        if let Err(error) = &self.unnamed {
            lines.push(format!("{}: {error}", self.name()));
        }
        lines
    }

    fn has_sound(&self, file: &NamedFile) -> bool {
        let number = file.file.number();
        let is_it = |(own, _): &&(NamedFile, FileReport)| own.file.number() == number;
        self.files.iter().find(is_it).is_some_and(|(_, report)| report.is_sound())
    }

    /// What was checked, in words.
    pub(super) fn summary(&self) -> String {
        let bytes: u64 = self.files.iter().map(|(file, _)| file.file.byte_count()).sum();
        let missing = self.files.iter().filter(|(_, report)| report.is_missing).count();
        let damaged = self.files.iter().filter(|(_, report)| !report.problems.is_empty()).count();
        let unnamed = self.unnamed.as_ref().map_or(0, Vec::len);
        format!(
            "{}: {} files of {bytes} bytes checked, {damaged} damaged, {missing} missing; {unnamed} \
             that the catalog does not name",
            self.name(),
            self.files.len()
        )
    }

    fn name(&self) -> String {
        self.node.map_or_else(|| "node".to_owned(), |node| format!("node {node}"))
    }
}

fn named_files(table: &TableEntry) -> impl Iterator<Item = NamedFile> + '_ {
    let slices = (0u32..).map(SliceId).zip(&table.slices);
    let segments = slices.flat_map(|(slice, segments)| segments.iter().map(move |s| (slice, s)));
    segments.flat_map(move |(slice, segment)| {
        let vector = table.deletions.get(&segment.id);
        let vector = vector.map(|vector| FileInfo::Deletions(Arc::clone(vector)));
        let files = [Some(FileInfo::Segment(Arc::clone(segment))), vector];
        let named = move |file| {
            let segment = Arc::clone(segment);
            NamedFile { table: table.id, slice, file, segment }
        };
        files.into_iter().flatten().map(named)
    })
}

fn table_name(table: &TableEntry) -> String {
    format!("table {}.{}", table.schema, table.name)
}

/// Where in a table something is wrong, and what.
fn words(problem: &Problem, table: Option<&TableEntry>) -> String {
    let name = |id: ColumnId| {
        let column = table.and_then(|table| table.columns.iter().find(|column| column.id == id));
        match column {
            Some(column) => format!("column {}", column.name),
            None => format!("column id {} (dropped)", id.0),
        }
    };
    let place = match problem.place {
        Place::Chunk { column, row_group } => {
            format!("{}, row group {row_group}", name(column))
        }
        Place::SharedPart { column } => format!("{}, shared part", name(column)),
        Place::Statistics { column } => format!("{}, statistics", name(column)),
        Place::DeletionVector => "deleted rows".to_owned(),
        Place::File => "the file as a whole".to_owned(),
        Place::Header | Place::Footer | Place::Trailer => problem.place.to_string(),
    };
    let block = match problem.bytes {
        (_, 0) => String::new(),
        (offset, length) => format!(", block of {length} bytes at byte {offset}"),
    };
    let kind = match problem.kind {
        ProblemKind::Damaged => "is damaged",
        ProblemKind::Unreadable(_) => "cannot be read",
    };
    format!(", {place}{block} {kind} ({})", problem.reason)
}
