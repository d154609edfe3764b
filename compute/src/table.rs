//! A table as a query sees it: a fixed list of segments per slice ([`TableVersion`]), and that list
//! as DataFusion's planner takes it ([`SliceTable`]).
//!
//! A version never changes. A query plans and scans one version of each table, so that it sees one
//! snapshot however long it runs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result, Statistics, internal_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{ColumnId, SegmentId, TableId};
use storage::schema::TableSchema;
use storage::statistics::SegmentInfo;
use storage::verify::Place;

use crate::error::{Error, storage_code, storage_error, with_sqlstate};
use crate::layout::Layout;
use crate::node::Node;
use crate::placement;
use crate::plan::slice_scan::SliceScanExec;
use crate::statistics::table_statistics;

/// How a table's rows are divided among slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// DISTSTYLE EVEN: any row on any slice.
    Even,
    /// DISTSTYLE ALL: every node has all rows, as copies of the first slice.
    All,
    /// DISTSTYLE KEY: by the hash of the column at this position.
    Key(usize),
}

/// The deletion vectors of a table: for each segment with deleted rows the one that counts.
pub type Deletions = Arc<HashMap<SegmentId, Arc<DeletionVectorInfo>>>;

/// The column of row ids, after the columns of a table ([`TableVersion::with_row_ids`]): a
/// [`storage::ids::RowId`] packed into a BIGINT.
pub use sql::ROW_ID_COLUMN;

/// A table as of a snapshot.
#[derive(Debug, Clone)]
pub struct TableVersion {
    /// The table.
    pub table: TableId,
    /// Its name, for plans and messages.
    pub name: String,
    /// Columns and sort key as segments store them.
    pub schema: Arc<TableSchema>,
    /// The same columns for plans, in the same order and with the same types; may carry metadata, and
    /// [`ROW_ID_COLUMN`] may follow.
    pub arrow_schema: SchemaRef,
    /// How rows are divided among slices.
    pub distribution: Distribution,
    /// [`placement::fingerprint`] of the process that placed the rows of a KEY table.
    pub placement_fingerprint: u64,
    /// The segments of each slice of the cluster, in the order in which they were written. All rows
    /// of an ALL table belong to the first slice, of which every node has a copy.
    pub slices: Vec<Vec<Arc<SegmentInfo>>>,
    /// The rows of these segments that are deleted.
    pub deletions: Deletions,
}

impl TableVersion {
    /// The number of rows that are not deleted.
    pub fn row_count(&self) -> u64 {
        self.segments().map(|segment| self.live_rows(segment)).sum()
    }

    /// Whether any row that [`TableVersion::segments`] hold is deleted.
    pub fn has_deletions(&self) -> bool {
        !self.deletions.is_empty()
            && self.segments().any(|segment| self.deletions.contains_key(&segment.id))
    }

    /// The rows of a segment that are not deleted.
    pub fn live_rows(&self, segment: &SegmentInfo) -> u64 {
        let deleted = self.deletions.get(&segment.id).map_or(0, |vector| vector.deleted_rows);
        segment.row_count.saturating_sub(deleted)
    }

    /// The same version, whose scans can tell which rows they give: the target of DELETE and UPDATE.
    #[must_use]
    pub fn with_row_ids(&self) -> Self {
        let row_id = Arc::new(Field::new(ROW_ID_COLUMN, DataType::Int64, false));
        let fields = self.arrow_schema.fields().iter().map(Arc::clone).chain([row_id]);
        let metadata = self.arrow_schema.metadata().clone();
        let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata);
        Self { arrow_schema: Arc::new(schema), ..self.clone() }
    }

    /// What a scan of the table raises when a node cannot give it a segment.
    pub(crate) fn node_error(&self, error: Error) -> DataFusionError {
        match error {
            Error::Storage(error) => self.storage_error(error),
            other => with_sqlstate("XX000", other.to_string()),
        }
    }

    /// A storage error of a scan of this table, as its query sees it: a damage with table, column,
    /// block and file.
    pub(crate) fn storage_error(&self, error: storage::error::Error) -> DataFusionError {
        let storage::error::Error::Corrupt { path, place, reason } = &error else {
            return storage_error(error);
        };
        let name = |id: ColumnId| {
            let column = self.schema.columns.iter().find(|column| column.id == id);
            column.map_or_else(|| format!("id {}", id.0), |column| format!("\"{}\"", column.name))
        };
        let place = match *place {
            Place::Chunk { column, row_group } => {
                format!("column {}, row group {row_group}", name(column))
            }
            Place::SharedPart { column } => format!("column {}, shared part", name(column)),
            Place::Statistics { column } => format!("column {}, statistics", name(column)),
            Place::File
            | Place::Header
            | Place::Footer
            | Place::Trailer
            | Place::DeletionVector => place.to_string(),
        };
        let text = format!(
            "table \"{}\" is damaged at {place} of file {}: {reason}",
            self.name,
            path.display()
        );
        with_sqlstate(storage_code(&error), text)
    }

    /// The segments that together hold every row once: of an ALL table those of the first slice.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<SegmentInfo>> {
        let slices = match self.distribution {
            Distribution::All => self.slices.len().min(1),
            Distribution::Even | Distribution::Key(_) => self.slices.len(),
        };
        self.slices[..slices].iter().flatten()
    }

    /// The distribution that plans may rely on: EVEN if the rows of a KEY table were placed by
    /// another hash than this process has.
    pub fn planned_distribution(&self) -> Distribution {
        match self.distribution {
            Distribution::Key(_) if self.placement_fingerprint != placement::fingerprint() => {
                Distribution::Even
            }
            other => other,
        }
    }
}

/// Where a table is read.
#[derive(Debug, Clone)]
pub enum Home {
    /// On this node.
    Node(Arc<Node>),
    /// On the nodes of a cluster, none of which is this process: good for planning only.
    Cluster(Layout),
}

impl Home {
    /// The shape of the cluster.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Node(node) => node.layout(),
            Self::Cluster(layout) => *layout,
        }
    }

    /// The node, to read from.
    pub(crate) fn node(&self) -> Result<&Arc<Node>> {
        match self {
            Self::Node(node) => Ok(node),
            Self::Cluster(_) => internal_err!("only a compute node reads tables"),
        }
    }
}

/// DataFusion's view of a table version.
#[derive(Debug)]
pub struct SliceTable {
    version: Arc<TableVersion>,
    home: Home,
    statistics: OnceLock<Arc<Statistics>>,
}

impl SliceTable {
    /// A table to plan with. Keep it as long as the version: it remembers merged statistics.
    pub fn new(version: Arc<TableVersion>, home: Home) -> Arc<Self> {
        Arc::new(Self { version, home, statistics: OnceLock::new() })
    }

    /// The version that this table reads.
    pub fn version(&self) -> &Arc<TableVersion> {
        &self.version
    }

    fn merged_statistics(&self) -> &Arc<Statistics> {
        self.statistics.get_or_init(|| Arc::new(table_statistics(&self.version)))
    }
}

#[async_trait]
impl TableProvider for SliceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.version.arrow_schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.merged_statistics().as_ref().clone())
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        filters.iter().map(|filter| pushdown(filter)).collect()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = DFSchema::try_from(self.schema())?;
        let filters = filters
            .iter()
            .map(|filter| state.create_physical_expr(filter.clone(), &columns))
            .collect::<Result<Vec<_>>>()?;
        let projection = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.version.arrow_schema.fields().len()).collect(),
        };
        let scan = SliceScanExec::try_new(
            Arc::clone(&self.version),
            self.home.clone(),
            Arc::clone(self.merged_statistics()),
            projection,
        )?;
        Ok(Arc::new(scan.with_filters(filters).with_limit(limit)))
    }
}

/// The scan evaluates every filter itself, except those whose value depends on another plan or on
/// the number of times they are evaluated.
fn pushdown(filter: &Expr) -> Result<TableProviderFilterPushDown> {
    let mut exact = !filter.is_volatile();
    filter.apply(|part| {
        let depends_on_plan = matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        );
        exact &= !depends_on_plan;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(if exact {
        TableProviderFilterPushDown::Exact
    } else {
        TableProviderFilterPushDown::Unsupported
    })
}
