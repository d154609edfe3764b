//! What the system catalog says of itself and of a small cluster. Facts about PostgreSQL come from
//! its release 15.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use chrono::Utc;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use sql::SessionValues;
use sql::types::SqlType;
use storage::ids::{ColumnId, TableId};
use storage::schema::EncodeName;

use super::column::Kind;
use super::provider::SystemTableProvider;
use super::{SystemCatalog, table, types};
use crate::catalog::constraint::{ConstraintEntry, ConstraintKind};
use crate::catalog::{
    Change, DistributionStyle, SchemaEntry, SegmentList, Snapshot, TableColumn, TableEntry,
    UserEntry,
};
use crate::pgwire::types::WireType;

/// oid, name, length, by value, category, preferred, element, array, input, output, receive, send,
/// alignment, storage, collation.
const POSTGRES_TYPES: &str = "
16 bool 1 t B t 0 1000 boolin boolout boolrecv boolsend c p 0
17 bytea -1 f U f 0 1001 byteain byteaout bytearecv byteasend i x 0
18 char 1 t Z f 0 1002 charin charout charrecv charsend c p 0
19 name 64 f S f 18 1003 namein nameout namerecv namesend c p 950
20 int8 8 t N f 0 1016 int8in int8out int8recv int8send d p 0
21 int2 2 t N f 0 1005 int2in int2out int2recv int2send s p 0
22 int2vector -1 f A f 21 1006 int2vectorin int2vectorout int2vectorrecv int2vectorsend i p 0
23 int4 4 t N f 0 1007 int4in int4out int4recv int4send i p 0
25 text -1 f S t 0 1009 textin textout textrecv textsend i x 100
26 oid 4 t N t 0 1028 oidin oidout oidrecv oidsend i p 0
30 oidvector -1 f A f 26 1013 oidvectorin oidvectorout oidvectorrecv oidvectorsend i p 0
700 float4 4 t N f 0 1021 float4in float4out float4recv float4send i p 0
701 float8 8 t N t 0 1022 float8in float8out float8recv float8send d p 0
705 unknown -2 f X f 0 0 unknownin unknownout unknownrecv unknownsend c p 0
1000 _bool -1 f A f 16 0 array_in array_out array_recv array_send i x 0
1001 _bytea -1 f A f 17 0 array_in array_out array_recv array_send i x 0
1002 _char -1 f A f 18 0 array_in array_out array_recv array_send i x 0
1003 _name -1 f A f 19 0 array_in array_out array_recv array_send i x 950
1005 _int2 -1 f A f 21 0 array_in array_out array_recv array_send i x 0
1006 _int2vector -1 f A f 22 0 array_in array_out array_recv array_send i x 0
1007 _int4 -1 f A f 23 0 array_in array_out array_recv array_send i x 0
1009 _text -1 f A f 25 0 array_in array_out array_recv array_send i x 100
1013 _oidvector -1 f A f 30 0 array_in array_out array_recv array_send i x 0
1014 _bpchar -1 f A f 1042 0 array_in array_out array_recv array_send i x 100
1015 _varchar -1 f A f 1043 0 array_in array_out array_recv array_send i x 100
1016 _int8 -1 f A f 20 0 array_in array_out array_recv array_send d x 0
1021 _float4 -1 f A f 700 0 array_in array_out array_recv array_send i x 0
1022 _float8 -1 f A f 701 0 array_in array_out array_recv array_send d x 0
1028 _oid -1 f A f 26 0 array_in array_out array_recv array_send i x 0
1033 aclitem 12 f U f 0 1034 aclitemin aclitemout - - i p 0
1034 _aclitem -1 f A f 1033 0 array_in array_out array_recv array_send i x 0
1042 bpchar -1 f S f 0 1014 bpcharin bpcharout bpcharrecv bpcharsend i x 100
1043 varchar -1 f S f 0 1015 varcharin varcharout varcharrecv varcharsend i x 100
1082 date 4 t D f 0 1182 date_in date_out date_recv date_send i p 0
1083 time 8 t D f 0 1183 time_in time_out time_recv time_send d p 0
1114 timestamp 8 t D f 0 1115 timestamp_in timestamp_out timestamp_recv timestamp_send d p 0
1115 _timestamp -1 f A f 1114 0 array_in array_out array_recv array_send d x 0
1182 _date -1 f A f 1082 0 array_in array_out array_recv array_send i x 0
1183 _time -1 f A f 1083 0 array_in array_out array_recv array_send d x 0
1184 timestamptz 8 t D t 0 1185 timestamptz_in timestamptz_out timestamptz_recv timestamptz_send d p 0
1185 _timestamptz -1 f A f 1184 0 array_in array_out array_recv array_send d x 0
1186 interval 16 f T t 0 1187 interval_in interval_out interval_recv interval_send d p 0
1187 _interval -1 f A f 1186 0 array_in array_out array_recv array_send d x 0
1231 _numeric -1 f A f 1700 0 array_in array_out array_recv array_send i x 0
1266 timetz 12 f D f 0 1270 timetz_in timetz_out timetz_recv timetz_send d p 0
1270 _timetz -1 f A f 1266 0 array_in array_out array_recv array_send d x 0
1700 numeric -1 f N f 0 1231 numeric_in numeric_out numeric_recv numeric_send i m 0
";

#[test]
fn types_are_those_of_postgres() {
    let letter = |value: bool| if value { "t" } else { "f" };
    let ours: Vec<String> = types::all()
        .iter()
        .map(|known| {
            let (input, output, receive, send) = known.functions();
            format!(
                "{} {} {} {} {} {} {} {} {input} {output} {receive} {send} {} {} {}",
                known.oid,
                known.name,
                known.length,
                letter(known.by_value),
                known.category,
                letter(known.is_preferred),
                known.element,
                known.array,
                known.align,
                known.storage,
                known.collation
            )
        })
        .collect();
    let theirs: Vec<&str> = POSTGRES_TYPES.trim().lines().collect();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn every_column_has_a_type_that_is_listed() {
    let sql_types = [
        SqlType::Boolean,
        SqlType::SmallInt,
        SqlType::Integer,
        SqlType::BigInt,
        SqlType::Decimal { precision: 18, scale: 2 },
        SqlType::Real,
        SqlType::Double,
        SqlType::Char(3),
        SqlType::VarChar(3),
        SqlType::Date,
        SqlType::Time,
        SqlType::TimeTz,
        SqlType::Timestamp,
        SqlType::TimestampTz,
    ];
    let user = sql_types.iter().map(|sql_type| sql_type.field("c", true));
    let columns = table::all().iter().flat_map(|table| table.columns);
    let system = columns.map(|column| column.kind.field(column.name, true));
    for field in user.chain(system) {
        let oid = WireType::of_field(&field).oid;
        assert!(types::find(oid.into()).is_some(), "{field:?} has the type {oid}");
    }
}

#[test]
fn names_and_numbers_are_unique() {
    let oids: BTreeSet<u32> = table::all().iter().map(|table| table.oid).collect();
    assert_eq!(oids.len(), table::all().len());
    for table in table::all() {
        let names: BTreeSet<&str> = table.columns.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), table.columns.len(), "{}", table.name);
    }
}

#[test]
fn types_are_formatted_as_postgres_formats_them() {
    let cases = [
        (1042, Some(-1), "bpchar"),
        (1042, None, "character"),
        (1042, Some(14), "character(10)"),
        (1043, Some(-1), "character varying"),
        (1043, Some(29), "character varying(25)"),
        (1700, Some(-1), "numeric"),
        (1700, Some(786_438), "numeric(12,2)"),
        (1009, None, "text[]"),
        (1015, Some(29), "character varying(25)[]"),
        (0, None, "-"),
        (99_999, None, "???"),
        (22, None, "int2vector"),
        (18, Some(-1), "\"char\""),
        (1186, None, "interval"),
    ];
    for (oid, modifier, expected) in cases {
        assert_eq!(types::format_type(oid, modifier), expected);
    }
}

/// A schema with a table of two columns and a key.
fn catalog() -> SystemCatalog {
    let mut snapshot = Snapshot::default();
    let column = |id, name: &str, sql_type, default: Option<&str>| TableColumn {
        id: ColumnId(id),
        name: name.to_owned(),
        sql_type,
        nullable: id > 0,
        default: default.map(str::to_owned),
        identity: None,
        encode: EncodeName::Zstd,
    };
    let table = TableEntry {
        id: TableId(100_003),
        schema: "sales".to_owned(),
        name: "orders".to_owned(),
        owner: "ann".to_owned(),
        columns: vec![
            column(0, "id", SqlType::BigInt, None),
            column(1, "note", SqlType::VarChar(20), Some("'none'")),
        ],
        distribution: DistributionStyle::Key(0),
        is_automatic: false,
        sort_key: vec![1, 0],
        constraints: vec![ConstraintEntry {
            oid: 100_004,
            name: "orders_pkey".to_owned(),
            columns: vec![0],
            kind: ConstraintKind::PrimaryKey,
        }],
        placement_fingerprint: 0,
        slices: vec![SegmentList::new()],
        deletions: Default::default(),
        numbers_taken: 0,
    };
    let user = |oid, name: &str, superuser| UserEntry {
        oid,
        name: name.to_owned(),
        verifier: Some("SCRAM-SHA-256$secret".to_owned()),
        superuser,
        ..UserEntry::default()
    };
    let schema =
        |oid, name: &str| SchemaEntry { oid, name: name.to_owned(), owner: "awsuser".to_owned() };
    for change in [
        Change::PutUser(user(100_000, "awsuser", true), None),
        Change::PutUser(user(100_005, "ann", false), None),
        Change::CreateSchema(schema(100_001, "public")),
        Change::CreateSchema(schema(100_002, "sales")),
        Change::CreateTable(Arc::new(table)),
    ] {
        snapshot.apply(&change).unwrap();
    }
    let now = Utc::now();
    let session = SessionValues {
        now,
        statement_start: now,
        current_user: "ann".to_owned(),
        session_user: "ann".to_owned(),
        database: "dev".to_owned(),
        search_path: vec!["public".to_owned()],
        temporary_schema: None,
        backend_pid: 1,
        timezone: "UTC".to_owned(),
        settings: BTreeMap::from([("statement_timeout".to_owned(), "0".to_owned())]),
    };
    SystemCatalog::new(Arc::new(snapshot), Arc::new(session), None)
}

/// The rows of a system table as text, columns in order, NULL as an empty text.
fn rows(name: &str, columns: &[&str]) -> Vec<String> {
    let table = table::find(name).unwrap();
    let batch = SystemTableProvider::new(table, catalog()).batch().unwrap();
    let options = arrow::util::display::FormatOptions::default();
    let formatters: Vec<_> = columns
        .iter()
        .map(|column| {
            let array = batch.column_by_name(column).unwrap();
            arrow::util::display::ArrayFormatter::try_new(array, &options).unwrap()
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let values = formatters.iter().map(|formatter| formatter.value(row).to_string());
            values.collect::<Vec<_>>().join("|")
        })
        .collect()
}

#[test]
fn a_table_is_listed_with_its_design() {
    let class = rows("pg_class", &["oid", "relname", "relnamespace", "relowner", "reldiststyle"]);
    assert!(class.contains(&"100003|orders|100002|100005|1".to_owned()), "{class:?}");
    assert!(class.contains(&"1259|pg_class|11|100000|0".to_owned()), "{class:?}");
    let names = ["attname", "atttypid", "atttypmod", "attnum", "attnotnull", "atthasdef"];
    let design = ["attrelid", "attisdistkey", "attsortkeyord"];
    let attributes = rows("pg_attribute", &[&design[..], &names[..]].concat());
    let ours: Vec<&String> = attributes.iter().filter(|row| row.starts_with("100003|")).collect();
    assert_eq!(
        ours,
        ["100003|true|2|id|20|-1|1|true|false", "100003|false|1|note|1043|24|2|false|true"]
    );
    assert_eq!(rows("pg_attrdef", &["adrelid", "adnum", "adbin"]), ["100003|2|'none'"]);
    let key = ["oid", "conname", "contype", "conrelid", "conkey"];
    assert_eq!(rows("pg_constraint", &key), ["100004|orders_pkey|p|100003|[1]"]);
}

#[test]
fn schemas_and_users_are_listed_without_secrets() {
    assert_eq!(
        rows("pg_namespace", &["oid", "nspname", "nspowner"]),
        ["11|pg_catalog|100000", "100001|public|100000", "100002|sales|100000"]
    );
    assert_eq!(
        rows("pg_user", &["usename", "usesysid", "usesuper", "passwd"]),
        ["ann|100005|false|********", "awsuser|100000|true|********"]
    );
}

/// pg_table_def shows only tables that the search path leads to.
#[test]
fn tables_of_other_schemas_are_not_in_pg_table_def() {
    assert!(rows("pg_table_def", &["tablename"]).is_empty());
}

fn call(name: &str, arguments: Vec<ScalarValue>) -> Result<ScalarValue, String> {
    let function = catalog().function(name).unwrap();
    let given: Vec<_> = arguments.iter().map(ScalarValue::data_type).collect();
    let types = function.coerce_types(&given).map_err(|error| error.to_string())?;
    let arguments = arguments
        .into_iter()
        .zip(&types)
        .map(|(value, data_type)| ColumnarValue::Scalar(value.cast_to(data_type).unwrap()))
        .collect();
    let arguments = ScalarFunctionArgs {
        args: arguments,
        arg_fields: Vec::new(),
        number_rows: 1,
        return_field: Arc::new(Kind::Text.field(name, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let value = function.invoke_with_args(arguments).map_err(|error| error.to_string())?;
    let array = value.to_array(1).unwrap();
    Ok(ScalarValue::try_from_array(&array, 0).unwrap())
}

fn shown(name: &str, arguments: Vec<ScalarValue>) -> String {
    match call(name, arguments) {
        Ok(value) => value.to_string(),
        Err(error) => format!("! {error}"),
    }
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8View(Some(value.to_owned()))
}

fn int(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

#[test]
fn numbers_become_names_and_back() {
    assert_eq!(shown("pg_get_userbyid", vec![int(100_005)]), "ann");
    assert_eq!(shown("pg_get_userbyid", vec![int(5)]), "unknown (OID=5)");
    assert_eq!(shown("regclassin", vec![text("pg_class")]), "1259");
    assert_eq!(shown("regclassin", vec![text("Sales.\"orders\"")]), "100003");
    assert_eq!(shown("regclassout", vec![int(100_003)]), "sales.orders");
    assert_eq!(shown("regclassout", vec![int(1259)]), "pg_class");
    assert!(shown("regclassin", vec![text("orders")]).contains("does not exist"));
    assert_eq!(shown("to_regclass", vec![text("orders")]), "NULL");
    assert_eq!(shown("regtypein", vec![text("integer")]), "23");
    assert_eq!(shown("regtypeout", vec![int(1043)]), "character varying");
    assert_eq!(shown("pg_get_constraintdef", vec![int(100_004)]), "PRIMARY KEY (id)");
    assert_eq!(shown("format_type", vec![int(23), ScalarValue::Null]), "integer");
    assert_eq!(shown("format_type", vec![ScalarValue::Null, int(1)]), "NULL");
}

#[test]
fn visibility_follows_the_search_path() {
    assert_eq!(shown("pg_table_is_visible", vec![int(100_003)]), "false");
    assert_eq!(shown("pg_table_is_visible", vec![int(1259)]), "true");
    assert_eq!(shown("pg_table_is_visible", vec![int(7)]), "NULL");
    let all = call("current_schemas", vec![ScalarValue::Boolean(Some(true))]).unwrap();
    assert_eq!(all.to_string(), "[pg_catalog, public]");
}

#[test]
fn owners_and_superusers_may_and_others_may_not() {
    let asks = |arguments: &[&str]| {
        shown("has_table_privilege", arguments.iter().map(|argument| text(argument)).collect())
    };
    assert_eq!(asks(&["sales.orders", "select"]), "true");
    assert_eq!(asks(&["awsuser", "sales.orders", "INSERT"]), "true");
    assert_eq!(asks(&["pg_class", "select"]), "true");
    assert_eq!(asks(&["pg_class", "insert"]), "false");
    assert!(asks(&["sales.orders", "dance"]).contains("unrecognized privilege type"));
    assert!(asks(&["nobody", "sales.orders", "select"]).contains("does not exist"));
    let schema = |arguments: &[&str]| {
        shown("has_schema_privilege", arguments.iter().map(|argument| text(argument)).collect())
    };
    assert_eq!(schema(&["public", "create"]), "false");
    assert_eq!(schema(&["awsuser", "public", "create, usage"]), "true");
}

#[test]
fn sizes_are_printed_as_postgres_prints_them() {
    let cases = [
        (0, "0 bytes"),
        (1, "1 bytes"),
        (-5, "-5 bytes"),
        (10239, "10239 bytes"),
        (10240, "10 kB"),
        (10752, "11 kB"),
        (20000, "20 kB"),
        (1048576, "1024 kB"),
        (10485247, "10239 kB"),
        (10485760, "10 MB"),
        (1073741824, "1024 MB"),
        (10737418240, "10 GB"),
        (-20000000, "-19 MB"),
        (5000000000000, "4657 GB"),
        (1099511627776000, "1000 TB"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(shown("pg_size_pretty", vec![int(bytes)]), expected, "{bytes}");
    }
}

#[test]
fn quoting_is_that_of_postgres() {
    for (name, expected) in [
        ("plain", "plain"),
        ("Mixed", "\"Mixed\""),
        ("a\"b", "\"a\"\"b\""),
        ("user", "\"user\""),
        ("1a", "\"1a\""),
    ] {
        assert_eq!(shown("quote_ident", vec![text(name)]), expected);
    }
    assert_eq!(shown("quote_literal", vec![text("it's")]), "'it''s'");
    assert_eq!(shown("quote_literal", vec![text("a\\b")]), "E'a\\\\b'");
    assert_eq!(shown("quote_nullable", vec![ScalarValue::Utf8View(None)]), "NULL");
}

#[test]
fn lists_become_text() {
    let items = ["a", "b"].map(text);
    let list = ScalarValue::List(ScalarValue::new_list(&items, &Kind::Text.arrow_type(), true));
    assert_eq!(shown("array_to_string", vec![list.clone(), text(", ")]), "a, b");
    let none = ScalarValue::new_null_list(Kind::Text.arrow_type(), true, 1);
    assert_eq!(shown("array_to_string", vec![none.clone(), text(",")]), "NULL");
    let empty = call("array_or_empty", vec![none]).unwrap().to_array().unwrap();
    assert_eq!(empty.as_list::<i32>().value(0).len(), 0);
    assert!(!empty.is_null(0));
    let oid = call("regclassin", vec![text("pg_type")]).unwrap().to_array().unwrap();
    assert_eq!(oid.as_primitive::<Int64Type>().value(0), 1247);
}
