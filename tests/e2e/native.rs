//! tokio-postgres: the extended protocol with binary results, portals, pipelining, cancel.

use std::error::Error;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, NoTls};

use crate::support::cluster::{Cluster, connect};

const CREATE_TYPES: &str = "CREATE TABLE t (a smallint, b int, c bigint, d decimal(18,4), e real,
    f double precision, g boolean, h char(4), i varchar(30), j date, k timestamp, l timestamptz)";

/// A value as its binary form, byte for byte.
#[derive(Debug, PartialEq)]
struct Binary(Vec<u8>);

impl<'a> FromSql<'a> for Binary {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Binary, Box<dyn Error + Sync + Send>> {
        Ok(Binary(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Expected bytes follow the binary formats of PostgreSQL's types: big-endian integers, dates in
/// days and timestamps in microseconds since 2000-01-01, numerics in groups of four digits.
#[tokio::test]
async fn binary_results_of_every_type() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute(CREATE_TYPES).await.unwrap();
    let insert =
        "INSERT INTO t VALUES (-2, 70000, -5000000000, 1234567.0089, 1.5, -2.25, true, 'ab',
        'caf\u{e9}', '2000-01-11', '2000-01-01 00:00:01.5', '1999-12-31 23:59:59+00')";
    client.batch_execute(insert).await.unwrap();
    let row = client.query_one("SELECT * FROM t", &[]).await.unwrap();
    let types: Vec<&Type> = row.columns().iter().map(|column| column.type_()).collect();
    let expected_types = [
        &Type::INT2,
        &Type::INT4,
        &Type::INT8,
        &Type::NUMERIC,
        &Type::FLOAT4,
        &Type::FLOAT8,
        &Type::BOOL,
        &Type::BPCHAR,
        &Type::VARCHAR,
        &Type::DATE,
        &Type::TIMESTAMP,
        &Type::TIMESTAMPTZ,
    ];
    assert_eq!(types, expected_types);
    let expected: [Vec<u8>; 12] = [
        (-2_i16).to_be_bytes().to_vec(),
        70_000_i32.to_be_bytes().to_vec(),
        (-5_000_000_000_i64).to_be_bytes().to_vec(),
        // 1234567.0089: three groups 123 4567 . 0089, weight of the first 1, positive, scale 4
        [3_i16, 1, 0, 4, 123, 4567, 89].iter().flat_map(|part| part.to_be_bytes()).collect(),
        1.5_f32.to_be_bytes().to_vec(),
        (-2.25_f64).to_be_bytes().to_vec(),
        vec![1],
        b"ab  ".to_vec(),
        "caf\u{e9}".as_bytes().to_vec(),
        10_i32.to_be_bytes().to_vec(),
        1_500_000_i64.to_be_bytes().to_vec(),
        (-1_000_000_i64).to_be_bytes().to_vec(),
    ];
    for (column, bytes) in expected.into_iter().enumerate() {
        assert_eq!(row.get::<_, Binary>(column), Binary(bytes), "column {column}");
    }
}

#[tokio::test]
async fn null_in_every_type() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute(CREATE_TYPES).await.unwrap();
    client.batch_execute("INSERT INTO t (a) VALUES (NULL)").await.unwrap();
    let row = client.query_one("SELECT * FROM t", &[]).await.unwrap();
    for column in 0..row.len() {
        assert_eq!(row.get::<_, Option<Binary>>(column), None, "column {column}");
    }
}

#[tokio::test]
async fn numerics_of_every_shape() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let cases: [(&str, &[i16]); 7] = [
        ("0::decimal(5,2)", &[0, 0, 0, 2]),
        ("0.05::decimal(5,2)", &[1, -1, 0, 2, 500]),
        ("(-0.0001)::decimal(9,4)", &[1, -1, 0x4000, 4, 1]),
        ("10000::decimal(9,0)", &[1, 1, 0, 0, 1]),
        ("10000.5::decimal(9,1)", &[3, 1, 0, 1, 1, 0, 5000]),
        ("(-123456789.987)::decimal(18,3)", &[4, 2, 0x4000, 3, 1, 2345, 6789, 9870]),
        (
            "99999999999999999999999999999999999999::decimal(38,0)",
            &[10, 9, 0, 0, 99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999],
        ),
    ];
    for (expression, parts) in cases {
        let row = client.query_one(&format!("SELECT {expression}"), &[]).await.unwrap();
        let expected = parts.iter().flat_map(|part| part.to_be_bytes()).collect();
        assert_eq!(row.get::<_, Binary>(0), Binary(expected), "{expression}");
    }
}

#[tokio::test]
async fn parameters_take_their_types_from_the_statement() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    let sql = "SELECT d FROM digits WHERE d BETWEEN $1 AND $2 ORDER BY d";
    let statement = client.prepare(sql).await.unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::INT8]);
    for low in 0..5_i64 {
        let rows = client.query(&statement, &[&low, &(low + 2)]).await.unwrap();
        let values: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(values, [low, low + 1, low + 2]);
    }
    let rows = client.query(&statement, &[&None::<i64>, &5_i64]).await.unwrap();
    assert!(rows.is_empty(), "a comparison with NULL selects nothing");
}

#[tokio::test]
async fn a_parameter_of_any_text_is_a_value_and_never_sql() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE words (word varchar(60))").await.unwrap();
    let words = ["", " ", "'", "''; DROP TABLE words; --", "\\", "$1", "\u{1f980}", "a\nb"];
    for word in words {
        client.execute("INSERT INTO words VALUES ($1)", &[&word]).await.unwrap();
        let sql = "SELECT count(*) FROM words WHERE word = $1";
        let count: i64 = client.query_one(sql, &[&word]).await.unwrap().get(0);
        assert!(count >= 1, "{word:?}");
    }
    let row = client.query_one("SELECT count(*) FROM words", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), i64::try_from(words.len()).unwrap());
}

#[tokio::test]
async fn a_portal_is_read_in_parts() {
    let cluster = Cluster::start();
    let mut client = cluster.connect().await;
    digits(&client).await;
    let transaction = client.transaction().await.unwrap();
    let sql = "SELECT a.d * 10 + b.d FROM digits a, digits b ORDER BY 1";
    let portal = transaction.bind(sql, &[]).await.unwrap();
    let mut values: Vec<i64> = Vec::new();
    for part in [1, 30, 69] {
        let rows = transaction.query_portal(&portal, part).await.unwrap();
        assert_eq!(rows.len(), usize::try_from(part).unwrap());
        values.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert!(transaction.query_portal(&portal, 10).await.unwrap().is_empty());
    assert_eq!(values, (0..100).collect::<Vec<i64>>());
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn two_portals_are_read_in_turn() {
    let cluster = Cluster::start();
    let mut client = cluster.connect().await;
    digits(&client).await;
    let transaction = client.transaction().await.unwrap();
    let up = transaction.bind("SELECT d FROM digits ORDER BY d", &[]).await.unwrap();
    let down = transaction.bind("SELECT d FROM digits ORDER BY d DESC", &[]).await.unwrap();
    for turn in 0..10_i64 {
        let first: i64 = transaction.query_portal(&up, 1).await.unwrap()[0].get(0);
        let second: i64 = transaction.query_portal(&down, 1).await.unwrap()[0].get(0);
        assert_eq!((first, second), (turn, 9 - turn));
    }
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn statements_in_a_pipeline_each_get_their_own_answer() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    let sums = (0..30_i64).map(|add| {
        let client = &client;
        async move {
            let sql = "SELECT sum(d) + $1::bigint FROM digits WHERE d < 3";
            let row = client.query_one(sql, &[&add]).await?;
            Ok::<String, tokio_postgres::Error>(format!("{:?}", row.get::<_, Binary>(0)))
        }
    });
    let answers = try_join_all(sums).await.unwrap();
    let distinct: std::collections::BTreeSet<&String> = answers.iter().collect();
    assert_eq!(distinct.len(), 30, "every answer differs");
    // An error in the middle does not touch the others.
    let (first, second, third) = futures::join!(
        client.query_one("SELECT 1", &[]),
        client.query_one("SELECT 1 / (d - d) FROM digits LIMIT 1", &[]),
        client.query_one("SELECT 3", &[]),
    );
    assert_eq!(first.unwrap().get::<_, i32>(0), 1);
    assert_eq!(second.unwrap_err().code().unwrap().code(), "22012");
    assert_eq!(third.unwrap().get::<_, i32>(0), 3);
}

#[tokio::test]
async fn a_cancel_token_ends_the_query_and_only_it() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let other = cluster.connect().await;
    digits(&client).await;
    let token = client.cancel_token();
    let sql = crate::psql::endless_query();
    let query = client.simple_query(&sql);
    let cancel = async {
        // Long enough for the query to be running, and the other session to be unharmed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        token.cancel_query(NoTls).await.unwrap();
        begun
    };
    let (result, begun) = futures::join!(query, cancel);
    let took = begun.elapsed();
    assert_eq!(result.unwrap_err().code().unwrap().code(), "57014");
    assert!(took < Duration::from_secs(5), "the cancel took {took:?}");
    client.simple_query("SELECT 1").await.unwrap();
    other.simple_query("SELECT 1").await.unwrap();
    // A cancel that comes when nothing runs is no error of the next statement.
    token.cancel_query(NoTls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_cancel_with_a_wrong_key_does_nothing() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    // CancelRequest with keys that nobody has.
    let mut raw = crate::raw_wire::Raw::open(&cluster.address);
    let request = [16_u32, 80_877_102, 1, 0x5eed_5eed].map(u32::to_be_bytes).concat();
    let (result, ()) = futures::join!(
        client.query_one("SELECT count(*) FROM digits a, digits b, digits c, digits d", &[]),
        async { raw.send(&request) }
    );
    assert_eq!(result.unwrap().get::<_, i64>(0), 10_000);
    assert!(raw.read_until_closed().is_empty(), "a cancel gets no answer");
}

#[tokio::test]
async fn many_sessions_at_once() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    let sessions = (0..24_i64).map(|number| {
        let config = cluster.address.config();
        async move {
            let client = connect(&config).await?;
            for _ in 0..5 {
                let sql = "SELECT count(*) FROM digits a, digits b WHERE a.d * 10 + b.d < $1";
                let count: i64 = client.query_one(sql, &[&number]).await?.get(0);
                assert_eq!(count, number);
            }
            Ok::<(), tokio_postgres::Error>(())
        }
    });
    try_join_all(sessions).await.unwrap();
}

#[tokio::test]
async fn the_server_introduces_itself_as_drivers_expect() {
    let cluster = Cluster::start();
    if cluster.is_foreign() {
        return; // PostgreSQL tells its own version
    }
    let (client, connection) = cluster.address.config().connect(NoTls).await.unwrap();
    for (name, value) in [
        ("server_version", "8.0.2"),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ] {
        assert_eq!(connection.parameter(name), Some(value), "{name}");
    }
    drop(client);
}

pub(crate) async fn digits(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE digits (d bigint);
             INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
        )
        .await
        .unwrap();
}
