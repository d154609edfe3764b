//! Binding, and running what was bound on tables in memory.

use chrono::{TimeZone, Utc};
use datafusion::arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, StringViewArray,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{Catalog, ResolvedTable, SessionValues, TargetColumn, TargetTable};
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::rewrite::optimizer_rules;
use crate::statement::Statement;
use crate::types::SqlType;
use crate::{Binder, functions, parse};

struct Tables(BTreeMap<&'static str, Arc<MemTable>>);

impl Catalog for Tables {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<ResolvedTable> {
        if schema.is_some_and(|schema| schema != "public") {
            return None;
        }
        let table = Arc::clone(self.0.get(name)?);
        let source = provider_as_source(table);
        Some(ResolvedTable { schema: "public".to_owned(), name: name.to_owned(), source })
    }

    fn target(&self, _: &str, _: &str) -> Option<ResolvedTable> {
        None
    }

    fn has_schema(&self, schema: &str) -> bool {
        schema == "public"
    }
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Arc<MemTable> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
}

fn tables() -> Tables {
    let money = Decimal128Array::from(vec![Some(10_050), Some(200), None])
        .with_precision_and_scale(12, 2)
        .unwrap();
    let t = table(vec![
        ("k", Arc::new(Int32Array::from(vec![Some(1), Some(2), None]))),
        ("big", Arc::new(Int64Array::from(vec![i64::MAX, 1, 5]))),
        ("price", Arc::new(money)),
        ("name", Arc::new(StringViewArray::from(vec![Some("a"), Some("b"), None]))),
        ("day", Arc::new(Date32Array::from(vec![10_000, 10_001, 10_002]))),
    ]);
    let t0 = table(vec![
        ("k", Arc::new(Int32Array::from(vec![13, 3, 5, 0]))),
        ("a", Arc::new(Int32Array::from(vec![1, 1, 1, 1]))),
    ]);
    let t1 = table(vec![
        ("k", Arc::new(Int32Array::from(vec![1, 2]))),
        ("v", Arc::new(Int32Array::from(vec![10, 20]))),
    ]);
    Tables(BTreeMap::from([("t", t), ("t0", t0), ("t1", t1)]))
}

fn session() -> SessionValues {
    let now = Utc.with_ymd_and_hms(2024, 2, 29, 12, 30, 45).unwrap();
    SessionValues {
        now,
        statement_start: now,
        current_user: "awsuser".to_owned(),
        session_user: "awsuser".to_owned(),
        database: "dev".to_owned(),
        search_path: vec!["public".to_owned()],
        temporary_schema: None,
        backend_pid: 42,
        timezone: "UTC".to_owned(),
        settings: BTreeMap::new(),
    }
}

fn bind(text: &str) -> Result<LogicalPlan, Error> {
    let tables = tables();
    let session = session();
    let binder = Binder::new(&tables, &session);
    match parse(text, &Limits::default())?.pop().unwrap().statement {
        Statement::Query(query) => binder.bind_query(&query, &[]),
        other => unreachable!("not a query: {other:?}"),
    }
}

fn execute(plan: LogicalPlan) -> Result<Vec<RecordBatch>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_scalar_functions(functions().scalar)
            .with_aggregate_functions(functions().aggregate)
            .with_optimizer_rules(optimizer_rules())
            .build();
        let physical = state.create_physical_plan(&plan).await?;
        Ok(collect(physical, state.task_ctx()).await?)
    })
}

fn rows(batches: &[RecordBatch]) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values: Vec<String> = batch
                .columns()
                .iter()
                .map(|column| {
                    ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
                })
                .collect();
            lines.push(values.join("|"));
        }
    }
    lines.join("\n")
}

/// The rows of a query, or its error as `! message`.
fn run(text: &str) -> String {
    match bind(text).and_then(execute) {
        Ok(batches) => rows(&batches),
        Err(error) => format!("! {}", error.message),
    }
}

#[test]
fn arithmetic_never_wraps() {
    assert_eq!(run("select 9223372036854775807 + 1"), "! bigint out of range");
    assert_eq!(run("select 2147483647 + 1"), "! integer out of range");
    assert_eq!(run("select big + 1 from t where k = 1"), "! bigint out of range");
    assert_eq!(run("select 1 / 0"), "! division by zero");
    assert_eq!(run("select 7 / 2, -7 / 2, 7 % 3"), "3|-3|1");
    assert_eq!(run("select -(-9223372036854775808)"), "! bigint out of range");
    assert_eq!(run("select sum(big) from t"), "! bigint out of range");
}

#[test]
fn decimals_follow_the_documented_types() {
    assert_eq!(run("select price * (1 - 0.05) from t where k = 1"), "95.4750");
    assert_eq!(run("select 1.5 + 1"), "2.5");
    assert_eq!(run("select sum(price), avg(price) from t"), "102.50|51.25");
    assert_eq!(run("select avg(k), sum(k) from t"), "1|3");
}

#[test]
fn names_are_those_of_redshift() {
    let names = |text: &str| -> Vec<String> {
        bind(text).unwrap().schema().fields().iter().map(|field| field.name().clone()).collect()
    };
    assert_eq!(
        names("select count(*), 1, k + 1, k from t group by k"),
        ["count", "?column?", "?column?", "k"]
    );
    assert_eq!(
        names("select 1, 1, sum(k), sum(big) from t"),
        ["?column?", "?column?", "sum", "sum"]
    );
    assert_eq!(names("select *, k from t0"), ["k", "a", "k"]);
    assert_eq!(names("select \"K\" as \"Big Name\" from t"), ["big name"]);
}

#[test]
fn lateral_aliases_but_columns_win() {
    assert_eq!(run("select k + 1 as x, x * 10 from t where x = 2"), "2|20");
    assert_eq!(run("select big as k, k + 1 from t where k = 2"), "1|3");
}

#[test]
fn scalar_subquery_of_two_rows_is_an_error() {
    assert_eq!(
        run("select count(*) from t where k = (select k from t1)"),
        "! more than one row returned by a subquery used as an expression"
    );
    assert_eq!(run("select (select k from t1 where k = 2)"), "2");
    assert_eq!(run("select (select k from t1 where k = 99)"), "NULL");
}

/// The optimizer once dropped `h` as functionally dependent on `g`.
#[test]
fn order_by_keeps_its_keys() {
    let text = "select y.k g, x.k h from t0 x join (select k, sum(v) v from t1 group by k) y \
                on x.a = y.k group by 1, 2 order by g, h";
    assert_eq!(run(text), "1|0\n1|3\n1|5\n1|13");
}

#[test]
fn date_comparison_keeps_the_column_bare() {
    let plan = bind("select k from t where day <= date '1998-12-01' - interval '90' day").unwrap();
    let text = plan.display_indent().to_string();
    assert!(text.contains("t.day <= Date32(\"1998-09-02\")"), "{text}");
}

#[test]
fn session_values_are_folded() {
    assert_eq!(
        run("select current_date, current_user, current_schema()"),
        "2024-02-29|awsuser|public"
    );
    assert_eq!(run("select dateadd(month, 1, '2024-01-31'::date)"), "2024-02-29T00:00:00");
    assert_eq!(run("select datediff(day, '2024-01-31'::date, current_date)"), "29");
    assert_eq!(run("select extract(year from current_date)"), "2024");
}

#[test]
fn casts_follow_redshift() {
    assert_eq!(run("select 'Incomplete'::char(3), 1.5::int, 2.5::int, -1.5::int"), "Inc|2|3|-2");
    assert_eq!(run("select 'x'::int"), "! invalid input syntax for integer: \"x\"");
    assert_eq!(run("select 40000::smallint"), "! smallint out of range");
    assert_eq!(run("select 20.259::decimal(4,2)"), "20.26");
    assert_eq!(run("select 120.259::decimal(4,2)"), "! Numeric data overflow (result precision)");
}

#[test]
fn functions_are_bounded() {
    assert_eq!(
        run("select repeat('x', 2000000000)"),
        "! result of a string function exceeds 65535 bytes"
    );
    assert_eq!(
        run("select decode(k, 1, 'one', null, 'none', 'other') from t order by k"),
        "one\nother\nnone"
    );
    assert_eq!(run("select nvl2(k, 1, 0), nvl(k, 9) from t order by big"), "1|2\n0|9\n1|1");
}

#[test]
fn set_operations_and_top() {
    assert_eq!(run("select k from t0 minus select 13 minus select 3 minus select 5"), "0");
    assert_eq!(run("select top 1 k from t0 order by k desc"), "13");
    assert_eq!(run("select k from t order by k desc"), "NULL\n2\n1");
    assert_eq!(run("select count(*) from t0 where k not in (select k from t)"), "0");
}

#[test]
fn errors_name_what_is_wrong() {
    let kind = |text: &str| bind(text).unwrap_err().kind;
    assert_eq!(run("select nothing from t"), "! column \"nothing\" does not exist");
    assert_eq!(run("select 1 from nothing"), "! relation \"nothing\" does not exist");
    assert_eq!(kind("select nofunction(1)"), ErrorKind::UndefinedFunction);
    assert_eq!(kind("select k, count(*) from t"), ErrorKind::Grouping);
    assert_eq!(kind("select k from t0 x, t1 y"), ErrorKind::AmbiguousColumn);
    assert_eq!(kind("selec 1"), ErrorKind::Syntax);
}

fn target() -> TargetTable {
    let column = |name: &str, sql_type, default: Option<&str>| TargetColumn {
        name: name.to_owned(),
        sql_type,
        not_null: false,
        default: default.map(str::to_owned),
        identity: None,
    };
    TargetTable {
        schema: "public".to_owned(),
        name: "target".to_owned(),
        next_number: 0,
        columns: vec![
            column("a", SqlType::Integer, None),
            column("b", SqlType::VarChar(3), Some("'def'")),
            column("c", SqlType::Decimal { precision: 6, scale: 2 }, Some("1 + 1")),
        ],
    }
}

fn insert(text: &str) -> String {
    let tables = tables();
    let session = session();
    let binder = Binder::new(&tables, &session);
    let Statement::Insert(insert) =
        parse(text, &Limits::default()).unwrap().pop().unwrap().statement
    else {
        unreachable!("not an insert")
    };
    match binder.bind_insert(&insert, &target(), &[]).and_then(execute) {
        Ok(batches) => {
            let expected: Vec<_> =
                target().columns.iter().map(|column| column.sql_type.arrow_type()).collect();
            for batch in &batches {
                let schema = batch.schema();
                let types: Vec<_> =
                    schema.fields().iter().map(|field| field.data_type().clone()).collect();
                assert_eq!(types, expected);
            }
            rows(&batches)
        }
        Err(error) => format!("! {}", error.message),
    }
}

#[test]
fn insert_casts_to_the_target() {
    assert_eq!(insert("insert into target values (1, 'abc  ', 20.259)"), "1|abc|20.26");
    assert_eq!(
        insert("insert into target values (1, 'abcd', 1)"),
        "! value too long for type character varying(3)"
    );
    assert_eq!(
        insert("insert into target (c) values (default), (1.1)"),
        "NULL|def|2.00\nNULL|def|1.10"
    );
    assert_eq!(insert("insert into target default values"), "NULL|def|2.00");
    assert_eq!(insert("insert into target values (1 + 1, 'x' || 'y')"), "2|xy|2.00");
    assert_eq!(
        insert("insert into target select k, name, price from t order by k"),
        "1|a|100.50\n2|b|2.00\nNULL|NULL|NULL"
    );
    assert_eq!(insert("insert into target values (3000000000)"), "! integer out of range");
    assert_eq!(
        insert("insert into target values (1, 2, 3, 4)"),
        "! INSERT has more expressions than target columns"
    );
}
