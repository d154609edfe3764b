//! A system table as DataFusion's planner takes it.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::SystemCatalog;
use super::table::{Rows, SystemTable};
use super::value::array_of;

/// A system table over a snapshot.
#[derive(Debug)]
pub(super) struct SystemTableProvider {
    table: &'static SystemTable,
    catalog: SystemCatalog,
    schema: SchemaRef,
}

impl SystemTableProvider {
    pub(super) fn new(table: &'static SystemTable, catalog: SystemCatalog) -> Self {
        let field =
            |column: &super::column::Column| column.kind.field(column.name, column.is_nullable());
        let fields: Vec<_> = table.columns.iter().map(field).collect();
        Self { table, catalog, schema: Arc::new(Schema::new(fields)) }
    }

    /// All rows, as they are now.
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        let mut rows = Rows::new(self.table);
        (self.table.rows)(&self.catalog, &mut rows);
        let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let arrays = self
            .table
            .columns
            .iter()
            .zip(rows.into_columns())
            .map(|(column, values)| array_of(column.kind, &values))
            .collect::<Result<_>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &count)
            .map_err(DataFusionError::from)
    }
}

#[async_trait]
impl TableProvider for SystemTableProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = self.batch()?;
        let schema = Arc::clone(&self.schema);
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, projection.cloned())?)
    }
}
