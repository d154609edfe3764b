//! The end of a plan that writes: rows go to the slices where they belong, and what the nodes have
//! written comes back.

use std::sync::Arc;

use compute::layout::Layout;
use compute::plan::delete_rows::{DeleteRowsExec, RowTarget};
use compute::plan::drop_repeated::DropRepeatedExec;
use compute::plan::on_task::OnTaskExec;
use compute::plan::slice_write::SliceWriteExec;
use compute::row_ids::Repeated;
use compute::{Distribution, Home, TableVersion};
use datafusion::common::{Result, internal_err, not_impl_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlanProperties, Partitioning};

use super::Locus::{Everywhere, Leader, Single, Sliced};
use super::{Locus, Motions, Plan, divided, merge};

/// What rows are written to.
#[derive(Debug, Clone)]
pub(crate) struct WriteEnd {
    /// The table.
    pub(crate) version: Arc<TableVersion>,
    /// The first of the segment ids that the leader has reserved for the write.
    pub(crate) first_segment: u64,
    /// Where rows go that could go anywhere: another node for each write.
    pub(crate) turn: usize,
    /// Set if the rows replace others, whose ids are the last column.
    pub(crate) replaces: Option<RowTarget>,
}

impl Motions {
    /// The rows that a source names by their ids, its last column.
    pub(super) fn delete(&self, source: Plan, target: RowTarget, layout: Layout) -> Result<Plan> {
        // Rows that several tasks find are one deletion, unless that is to be refused.
        let source = match target.repeated {
            Repeated::Refused => self.each_once(source, &target, layout)?,
            Repeated::FirstCounts | Repeated::Never => source,
        };
        let (rows, locus) = self.place(source)?;
        let (rows, locus) = match locus {
            Everywhere => self.to_one(rows, locus)?,
            Sliced | Single | Leader => (rows, locus),
        };
        let found: Plan = Arc::new(DeleteRowsExec::new(target, rows));
        merge(self.gather(found, locus)?)
    }

    pub(super) fn write(&self, source: Plan, end: &WriteEnd, layout: Layout) -> Result<Plan> {
        let source = match &end.replaces {
            Some(target) => self.each_once(source, target, layout)?,
            None => source,
        };
        let (rows, locus) = match end.version.distribution {
            Distribution::Key(key) => self.to_key(source, key, layout)?,
            Distribution::Even => {
                let (rows, locus) = self.place(source)?;
                self.to_any(rows, locus, end.turn, layout)?
            }
            Distribution::All => {
                // One task writes the rows; every node gets a copy of what it has written.
                let (rows, locus) = self.place(source)?;
                let all = self.to_all(rows, locus)?;
                let one: Plan = Arc::new(OnTaskExec::new(end.turn % self.nodes, all));
                (one, if locus == Leader { Leader } else { Sliced })
            }
        };
        if locus == Leader {
            return not_impl_err!("inserting rows that only the leader node has");
        }
        let home = Home::Cluster(layout);
        let version = Arc::clone(&end.version);
        let write = SliceWriteExec::new(version, home, end.first_segment, rows);
        let write = Arc::new(write.replacing(end.replaces.clone()));
        // Each task reports what it has written.
        merge(self.gather(write, Sliced)?)
    }

    /// Brings what replaces the same row to one place, where all but one are dropped.
    fn each_once(&self, source: Plan, target: &RowTarget, layout: Layout) -> Result<Plan> {
        if target.repeated == Repeated::Never {
            return Ok(source);
        }
        let schema = source.schema();
        let Some(last) = schema.fields().len().checked_sub(1) else {
            return internal_err!("rows that replace others have no ids");
        };
        let id: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(last).name(), last));
        let partitioning = Partitioning::Hash(vec![id], layout.slices_per_node());
        let rows = Arc::new(RepartitionExec::try_new(source, partitioning)?);
        Ok(Arc::new(DropRepeatedExec::new(target.clone(), rows)))
    }

    /// Each row on the slice of its key.
    fn to_key(&self, source: Plan, key: usize, layout: Layout) -> Result<(Plan, Locus)> {
        let field = source.schema().field(key).name().clone();
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&field, key));
        let wanted = Partitioning::Hash(vec![Arc::clone(&key)], layout.slices_per_node());
        let is_there = matches!(
            source.output_partitioning(),
            Partitioning::Hash(keys, count)
                if *count == layout.slices_per_node() && keys.len() == 1 && keys[0].eq(&key)
        );
        let source = if is_there {
            source
        } else {
            Arc::new(RepartitionExec::try_new(source, wanted)?) as Plan
        };
        let (rows, locus) = self.place(source)?;
        Ok(match locus {
            Everywhere => (divided(rows), Sliced),
            Sliced | Leader => (rows, locus),
            // One task holds the rows after all: they are sent to their slices.
            Single => {
                let partitioning = Partitioning::Hash(vec![key], layout.slices_per_node());
                self.repartition(partitioning, rows, Single)?
            }
        })
    }

    /// Rows stay where they are; rows of one task are divided by all their columns.
    fn to_any(
        &self,
        rows: Plan,
        locus: Locus,
        turn: usize,
        layout: Layout,
    ) -> Result<(Plan, Locus)> {
        match locus {
            Sliced | Leader => Ok((rows, locus)),
            Everywhere => Ok((Arc::new(OnTaskExec::new(turn % self.nodes, rows)), Sliced)),
            Single => {
                let schema = rows.schema();
                let columns = schema.fields().iter().enumerate();
                let columns = columns.map(|(position, field)| {
                    Arc::new(Column::new(field.name(), position)) as Arc<dyn PhysicalExpr>
                });
                let columns = columns.collect();
                let partitioning = Partitioning::Hash(columns, layout.slices_per_node());
                self.repartition(partitioning, rows, Single)
            }
        }
    }
}
