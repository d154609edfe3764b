//! DISTSTYLE AUTO: on every node while the table is small, by its primary key or in turn when it has
//! grown.

use tokio_postgres::Client;

use super::{expect, nodes};

/// The motion of a join, from EXPLAIN.
async fn motion(client: &Client, sql: &str) -> String {
    let plan = expect(client, &format!("EXPLAIN {sql}")).await.join("\n");
    let words = plan.split_whitespace();
    words.filter(|word| word.starts_with("DS_")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn small_tables_are_everywhere_and_large_ones_are_not() {
    let mut cluster = nodes(3);
    let client = cluster.connect().await;
    expect(&client, "CREATE TABLE fact (k bigint, r bigint) DISTKEY(k)").await;
    let values: Vec<String> = (0..500).map(|n| format!("({n}, {})", n % 10)).collect();
    expect(&client, &format!("INSERT INTO fact VALUES {}", values.join(", "))).await;
    expect(&client, "CREATE TABLE dimension (k bigint, w varchar(10))").await;
    expect(&client, "INSERT INTO dimension SELECT k, 'w' || k FROM fact WHERE k < 10").await;
    let join = "SELECT count(*), count(DISTINCT d.w) FROM fact f JOIN dimension d ON f.r = d.k";
    assert_eq!(motion(&client, join).await, "DS_DIST_ALL_NONE");
    assert_eq!(expect(&client, join).await, ["500|10"]);

    // Rows are few until they are counted: 250,000 of a join of 500 with themselves.
    let grow = "INSERT INTO dimension SELECT 1000 * (a.k + 1) + b.k, 'x' FROM fact a, fact b";
    expect(&client, grow).await;
    assert_ne!(motion(&client, join).await, "DS_DIST_ALL_NONE");
    assert_eq!(expect(&client, join).await, ["500|10"]);
    let all = "SELECT count(*), count(DISTINCT k), sum(CASE WHEN w = 'x' THEN 0 ELSE 1 END)
        FROM dimension";
    assert_eq!(expect(&client, all).await, ["250010|250010|10"]);
    expect(&client, "DELETE FROM dimension WHERE k < 5").await;
    expect(&client, "UPDATE dimension SET w = 'y' WHERE k = 9").await;
    assert_eq!(expect(&client, all).await, ["250005|250005|5"]);

    // Many rows into an empty table with a primary key: placed by it.
    expect(&client, "CREATE TABLE keyed (a int, k bigint PRIMARY KEY)").await;
    expect(&client, "INSERT INTO keyed SELECT 1, k FROM dimension").await;
    let keyed = "SELECT count(*) FROM keyed x JOIN keyed y ON x.k = y.k";
    assert_eq!(motion(&client, keyed).await, "DS_DIST_NONE");
    assert_eq!(expect(&client, keyed).await, ["250005"]);
    let shown = "SELECT relname, reldiststyle FROM pg_class
        WHERE relname IN ('dimension', 'fact', 'keyed') ORDER BY 1";
    assert_eq!(expect(&client, shown).await, ["dimension|9", "fact|1", "keyed|9"]);

    assert_eq!(cluster.stop().code(), Some(0));
    cluster.restart();
    let client = cluster.connect().await;
    assert_eq!(expect(&client, all).await, ["250005|250005|5"]);
    assert_eq!(motion(&client, keyed).await, "DS_DIST_NONE");
    assert_eq!(expect(&client, keyed).await, ["250005"]);
}
