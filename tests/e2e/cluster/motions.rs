//! What plans move: nothing where the design of the tables has put rows together.

use super::{expect, nodes};

/// TPC-H's tables as far as these queries need them, with its usual distribution.
pub(super) const TABLES: [&str; 5] = [
    "CREATE TABLE lineitem (l_orderkey bigint, l_suppkey bigint, l_quantity decimal(12,2), \
     l_extendedprice decimal(12,2), l_discount decimal(12,2), l_shipdate date, l_commitdate date, \
     l_receiptdate date, l_shipmode varchar(10)) DISTKEY(l_orderkey) SORTKEY(l_shipdate)",
    "CREATE TABLE orders (o_orderkey bigint, o_custkey bigint, o_orderstatus varchar(1), \
     o_totalprice decimal(12,2), o_orderdate date, o_orderpriority varchar(15), \
     o_shippriority int) DISTKEY(o_orderkey) SORTKEY(o_orderdate)",
    "CREATE TABLE customer (c_custkey bigint, c_name varchar(25), c_mktsegment varchar(10)) \
     DISTKEY(c_custkey)",
    "CREATE TABLE supplier (s_suppkey bigint, s_name varchar(25), s_nationkey bigint) DISTSTYLE ALL",
    "CREATE TABLE nation (n_nationkey bigint, n_name varchar(25)) DISTSTYLE ALL",
];

/// Name and text.
pub(super) const QUERIES: [(&str, &str); 5] = [
    (
        "Q3",
        "SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, \
         o_shippriority FROM customer, orders, lineitem WHERE c_mktsegment = 'BUILDING' \
         AND c_custkey = o_custkey AND l_orderkey = o_orderkey AND o_orderdate < '1995-03-15' \
         AND l_shipdate > '1995-03-15' GROUP BY l_orderkey, o_orderdate, o_shippriority \
         ORDER BY revenue DESC, o_orderdate LIMIT 10",
    ),
    (
        "Q4",
        "SELECT o_orderpriority, count(*) FROM orders WHERE EXISTS (SELECT 1 FROM lineitem \
         WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate) \
         GROUP BY o_orderpriority ORDER BY 1",
    ),
    (
        "Q12",
        "SELECT l_shipmode, count(*) FROM orders, lineitem WHERE o_orderkey = l_orderkey \
         AND l_shipmode IN ('MAIL', 'SHIP') GROUP BY l_shipmode ORDER BY 1",
    ),
    (
        "Q18",
        "SELECT c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) \
         FROM customer, orders, lineitem WHERE o_orderkey IN (SELECT l_orderkey FROM lineitem \
         GROUP BY l_orderkey HAVING sum(l_quantity) > 300) AND c_custkey = o_custkey \
         AND o_orderkey = l_orderkey GROUP BY 1, 2, 3, 4, 5 ORDER BY 5 DESC, 4 LIMIT 100",
    ),
    (
        "Q21",
        "SELECT s_name, count(*) AS numwait FROM supplier, lineitem l1, orders, nation \
         WHERE s_suppkey = l1.l_suppkey AND o_orderkey = l1.l_orderkey AND o_orderstatus = 'F' \
         AND l1.l_receiptdate > l1.l_commitdate AND EXISTS (SELECT 1 FROM lineitem l2 \
         WHERE l2.l_orderkey = l1.l_orderkey AND l2.l_suppkey <> l1.l_suppkey) \
         AND NOT EXISTS (SELECT 1 FROM lineitem l3 WHERE l3.l_orderkey = l1.l_orderkey \
         AND l3.l_suppkey <> l1.l_suppkey AND l3.l_receiptdate > l3.l_commitdate) \
         AND s_nationkey = n_nationkey AND n_name = 'SAUDI ARABIA' \
         GROUP BY s_name ORDER BY numwait DESC, s_name LIMIT 100",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_between_orders_and_lineitem() {
    let cluster = nodes(2);
    let client = cluster.connect().await;
    for table in TABLES {
        expect(&client, table).await;
    }
    expect(&client, "INSERT INTO lineitem VALUES (1, 1, 1, 1, 0, '1995-04-01', '1995-04-01', '1995-04-02', 'MAIL'), (2, 1, 400, 1, 0, '1995-04-01', '1995-04-01', '1995-04-02', 'MAIL')").await;
    expect(&client, "INSERT INTO orders VALUES (1, 1, 'F', 1, '1995-01-01', 'H', 0), (2, 1, 'F', 1, '1995-01-01', 'H', 0)").await;
    expect(&client, "INSERT INTO customer VALUES (1, 'c', 'BUILDING')").await;
    expect(&client, "INSERT INTO supplier VALUES (1, 's', 1)").await;
    expect(&client, "INSERT INTO nation VALUES (1, 'SAUDI ARABIA')").await;
    for (name, sql) in QUERIES {
        let plan = expect(&client, &format!("EXPLAIN VERBOSE {sql}")).await;
        let text = plan.join("\n");
        assert!(text.contains("DistributedExec"), "{name}:\n{text}");
        let joins = plan.iter().enumerate().filter(|(_, line)| {
            line.contains("HashJoinExec") && line.contains("orderkey@") && line.contains("on=[(")
        });
        let mut together = 0;
        for (at, join) in joins {
            let keys = join.split("on=[").nth(1).unwrap().split(']').next().unwrap();
            if !keys.contains("o_orderkey") && !keys.contains("l_orderkey") {
                continue;
            }
            together += 1;
            let sides = below(&plan, at);
            for (at, line) in sides.iter().enumerate().filter(|(_, line)| is_motion(line)) {
                let moved = below(&sides, at).join("\n");
                let theirs = moved.contains("table=orders") || moved.contains("table=lineitem");
                assert!(!theirs, "{name}: {line}\n{text}");
            }
        }
        assert!(together > 0, "{name} joins by the order key:\n{text}");
    }
}

fn is_motion(line: &str) -> bool {
    line.contains("NetworkShuffleExec") || line.contains("NetworkBroadcastExec")
}

/// The lines of the plan below one.
fn below(plan: &[String], at: usize) -> Vec<String> {
    let depth = |line: &String| line.len() - line.trim_start().len();
    let own = depth(&plan[at]);
    plan[at + 1..].iter().take_while(|line| depth(line) > own).cloned().collect()
}
