//! A panic in one partition of a scan is an error of the query, whatever reads the partition.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};

use super::fixture::*;
use crate::Distribution;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_partition_is_an_error_under_every_operator() {
    let mut random = Random(31);
    let fixture = Fixture::new(2);
    let all = wide_rows(&mut random, 0, 20_000);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Key(0));
    let version = fixture.insert(&empty, vec![vec![all]]).await;
    let session = fixture.session();
    fixture.register(&session, &version);
    session.register_udf(create_udf(
        "explode_at",
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(|arguments| {
            let ids = ColumnarValue::values_to_arrays(arguments)?.remove(0);
            let ids = ids.as_primitive::<Int64Type>();
            assert!(!ids.values().contains(&12_345), "planted");
            Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(vec![true; ids.len()]))))
        }),
    ));
    for query in [
        // gather
        "SELECT id FROM t WHERE explode_at(id)",
        // partial aggregate
        "SELECT count(*) FROM t WHERE explode_at(id)",
        "SELECT id, count(*) FROM t WHERE explode_at(id) GROUP BY id",
        // sort and merge
        "SELECT id FROM t WHERE explode_at(id) ORDER BY name",
        // As many as there are: with fewer, what cannot be among them is not looked at.
        "SELECT id FROM t WHERE explode_at(id) ORDER BY name LIMIT 20000",
        // shuffle
        "SELECT k, count(*) FROM t WHERE explode_at(id) GROUP BY k",
        // both sides of a join
        "SELECT a.id FROM t a JOIN t b ON a.id = b.id WHERE explode_at(a.id)",
        "SELECT a.id FROM t a LEFT JOIN t b ON a.k = b.s AND explode_at(b.id)",
        "SELECT id FROM t WHERE explode_at(id) UNION ALL SELECT id FROM t",
    ] {
        let result = session.sql(query).await.unwrap().collect().await;
        let error = result.map(|batches| text_of(&batches).len()).unwrap_err().to_string();
        assert!(error.contains("a partition panicked: planted"), "{query}: {error}");
    }
}
