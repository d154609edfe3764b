//! What binding a statement needs, detached from the session so that it can run on another thread:
//! a snapshot, the session's values, the engine.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use parking_lot::Mutex;
use sql::{Binder, Catalog, ResolvedTable, SessionValues, TargetColumn, TargetTable};

use crate::catalog::system::{PG_CATALOG, SystemCatalog};
use crate::catalog::{Snapshot, TableEntry};
use crate::engine::Engine;
use crate::error::Result;
use crate::session::permission;
use crate::session::temporary::own_schema;
use crate::transaction::isolation::Reads;

/// A snapshot with the values of a session.
#[derive(Clone)]
pub struct Binding {
    engine: Arc<Engine>,
    snapshot: Arc<Snapshot>,
    values: Arc<SessionValues>,
    /// A table that was named and that the user may not read.
    denied: Arc<Mutex<Option<String>>>,
    /// Where tables are noted that are read.
    reads: Reads,
}

impl Binding {
    /// Names are looked up in `snapshot` along the search path of `values`.
    pub fn new(engine: Arc<Engine>, snapshot: Arc<Snapshot>, values: SessionValues) -> Self {
        let reads = Reads::default();
        Self { engine, snapshot, values: Arc::new(values), denied: Arc::default(), reads }
    }

    /// What it binds will be run: tables that it reads are noted there.
    pub fn noting(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    /// Refuses what was bound if it names a table that the user may not read.
    fn check_permitted(&self) -> Result<()> {
        match &*self.denied.lock() {
            Some(table) => Err(permission::denied("relation", table)),
            None => Ok(()),
        }
    }

    fn may_read(&self, entry: &TableEntry) -> bool {
        let user = &self.values.current_user;
        entry.owner == *user || self.snapshot.user(user).is_some_and(|user| user.superuser)
    }

    /// The binder over this snapshot.
    pub fn binder(&self) -> Binder<'_> {
        Binder::new(self, &self.values)
    }

    /// Fills in parameters and makes a bound plan executable.
    pub fn physical(
        &self,
        plan: LogicalPlan,
        parameters: Vec<ScalarValue>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.check_permitted()?;
        self.engine.planner.physical(&with_parameters(plan, parameters)?)
    }

    /// Fills in parameters and plans rows that will be written.
    pub fn source(
        &self,
        plan: LogicalPlan,
        parameters: Vec<ScalarValue>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.check_permitted()?;
        self.engine.planner.source(&with_parameters(plan, parameters)?)
    }

    /// The value of an expression that reads no column.
    pub fn constant(&self, expression: &Expr) -> Result<ScalarValue> {
        let schema = DFSchema::empty();
        let physical =
            self.engine.planner.state().create_physical_expr(expression.clone(), &schema)?;
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(schema.inner()), Vec::new(), &one_row)
                .map_err(DataFusionError::from)?;
        let array = physical.evaluate(&batch)?.into_array(1)?;
        Ok(ScalarValue::try_from_array(&array, 0)?)
    }

    /// Optimizes a bound plan, for its final schema.
    pub fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.check_permitted()?;
        self.engine.planner.optimize(plan)
    }
}

fn with_parameters(plan: LogicalPlan, parameters: Vec<ScalarValue>) -> Result<LogicalPlan> {
    if parameters.is_empty() {
        return Ok(plan);
    }
    Ok(plan.with_param_values(ParamValues::from(parameters))?)
}

impl Catalog for Binding {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<ResolvedTable> {
        match schema {
            Some(schema) => self.table_in(schema, name),
            None => {
                let path = self.values.effective_search_path();
                path.into_iter().find_map(|schema| self.table_in(schema, name))
            }
        }
    }

    fn target(&self, schema: &str, name: &str) -> Option<ResolvedTable> {
        let schema = own_schema(Some(schema), self.values.temporary_schema.as_deref())??;
        let entry = self.snapshot.table(schema, name)?;
        if !self.may_read(entry) {
            self.denied.lock().get_or_insert_with(|| name.to_owned());
        }
        self.reads.note(entry.id);
        Some(ResolvedTable {
            schema: schema.to_owned(),
            name: name.to_owned(),
            source: provider_as_source(self.engine.target_table(entry)),
        })
    }

    fn has_schema(&self, schema: &str) -> bool {
        schema == PG_CATALOG || self.snapshot.schema(schema).is_some()
    }

    fn function(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.system_catalog().function(name)
    }
}

impl Binding {
    fn table_in(&self, schema: &str, name: &str) -> Option<ResolvedTable> {
        let schema = own_schema(Some(schema), self.values.temporary_schema.as_deref())??;
        let provider: Arc<dyn TableProvider> = if schema == PG_CATALOG {
            let system = self.system_catalog();
            if !system.may_read(name) {
                self.denied.lock().get_or_insert_with(|| name.to_owned());
            }
            system.table(name)?
        } else {
            let entry = self.snapshot.table(schema, name)?;
            if !self.may_read(entry) {
                self.denied.lock().get_or_insert_with(|| name.to_owned());
            }
            self.reads.note(entry.id);
            self.engine.slice_table(entry)
        };
        Some(ResolvedTable {
            schema: schema.to_owned(),
            name: name.to_owned(),
            source: provider_as_source(provider),
        })
    }

    fn system_catalog(&self) -> SystemCatalog {
        let snapshot = Arc::clone(&self.snapshot);
        SystemCatalog::new(snapshot, Arc::clone(&self.values), Some(Arc::clone(&self.engine)))
    }
}

/// A table as the target of INSERT.
pub fn target_table(entry: &TableEntry) -> TargetTable {
    let column = |column: &crate::catalog::TableColumn| TargetColumn {
        name: column.name.clone(),
        sql_type: column.sql_type,
        not_null: !column.nullable,
        default: column.default.clone(),
        identity: column.identity,
    };
    TargetTable {
        schema: entry.schema.clone(),
        name: entry.name.clone(),
        columns: entry.columns.iter().map(column).collect(),
        next_number: entry.numbers_taken,
    }
}
