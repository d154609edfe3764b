//! What DataFusion's planner may see: the tables of our catalog, our functions, and those of its
//! own functions that mean the same in Redshift.

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference};
use datafusion::datasource::{cte_worktable::CteWorkTable, provider_as_source};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use std::sync::Arc;

use super::planner::{CheckedArithmetic, RedshiftTypes};
use crate::catalog::{Catalog, SessionValues};
use crate::error::{Error, ErrorKind};
use crate::functions::{Registry, registry, undefined};
use crate::statement::TableName;
use crate::types::with_blanks;

/// As the database of a table's name: the table is the target of the statement. No identifier holds
/// the character.
pub(super) const TARGET: &str = "\u{1e}target";

/// The planner's view of one binding.
pub(super) struct Provider<'a> {
    catalog: &'a dyn Catalog,
    session: &'a SessionValues,
    options: &'a ConfigOptions,
    functions: &'static Registry,
    planners: Vec<Arc<dyn ExprPlanner>>,
    types: Arc<dyn TypePlanner>,
}

impl<'a> Provider<'a> {
    pub(super) fn new(
        catalog: &'a dyn Catalog,
        session: &'a SessionValues,
        options: &'a ConfigOptions,
    ) -> Self {
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(CheckedArithmetic)];
        planners.extend(SessionStateDefaults::default_expr_planners());
        Self {
            catalog,
            session,
            options,
            functions: registry(),
            planners,
            types: Arc::new(RedshiftTypes),
        }
    }

    fn missing(&self, name: &TableName) -> Error {
        if let Some(schema) = &name.schema
            && !self.catalog.has_schema(schema)
        {
            return Error::new(
                ErrorKind::UndefinedSchema,
                format!("schema \"{schema}\" does not exist"),
            );
        }
        Error::new(ErrorKind::UndefinedTable, format!("relation \"{name}\" does not exist"))
    }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let name = TableName {
            database: name.catalog().map(str::to_owned),
            schema: name.schema().map(str::to_owned),
            name: name.table().to_owned(),
        };
        if name.database.as_deref() == Some(TARGET)
            && let Some(schema) = &name.schema
        {
            let target = self.catalog.target(schema, &name.name);
            return target.map(|table| table.source).ok_or_else(|| self.missing(&name).into());
        }
        if let Some(database) = &name.database
            && *database != self.session.database
        {
            return Err(Error::not_supported("a query across databases").into());
        }
        match self.catalog.table(name.schema.as_deref(), &name.name) {
            Some(table) => Ok(table.source),
            None => Err(self.missing(&name).into()),
        }
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        // What the recursive term adds may be otherwise than what the first term is known to be.
        let fields = schema.fields().iter().map(|field| with_blanks(field.as_ref().clone()));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let found = self.catalog.function(name).or_else(|| self.functions.scalar(name));
        if found.is_none() && !self.functions.knows(name) {
            return Some(Arc::new(undefined(name)));
        }
        found
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.options
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
