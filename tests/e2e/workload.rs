//! Workload management as clients see it: the scenarios of Redshift's documentation, waiting and
//! cancelling, memory of queries, and a server that has more clients than slots.

mod cancels;

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

use crate::native::digits;
use crate::psql::endless_query;
use crate::raw_wire::{Raw, query};
use crate::support::cluster::{Cluster, Options, connect};

/// However loaded the machine is, what is awaited comes before this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with this configuration of workload management.
pub(crate) fn configured(json: &str) -> Cluster {
    let config = format!("[parameters]\nwlm_json_configuration = '''{json}'''\n");
    Cluster::start_own(Options { config: Some(config), ..Options::default() })
}

/// Waits until a query gives a value.
async fn until(client: &Client, sql: &str, expected: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = number(client, sql).await;
        if value == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql} is {value}, not {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The one number that a query gives, -1 for none.
async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(&format!("SELECT nvl(({sql})::bigint, -1)"), &[]).await.unwrap().get(0)
}

/// A query that runs until it is cancelled.
struct Endless {
    process_id: i32,
    ended: JoinHandle<tokio_postgres::Error>,
}

impl Endless {
    /// Started in a session with these settings.
    async fn start(config: &Config, settings: &str) -> Endless {
        Self::run(config, settings, endless_query()).await
    }

    async fn run(config: &Config, settings: &str, sql: String) -> Endless {
        let client = connect(config).await.unwrap();
        client.batch_execute(settings).await.unwrap();
        let process_id = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let ended = tokio::spawn(async move { client.simple_query(&sql).await.unwrap_err() });
        Endless { process_id, ended }
    }

    /// Cancels it, and gives the code and the message that its client got.
    async fn cancel(self, by: &Client) -> (String, String) {
        by.batch_execute(&format!("CANCEL {}", self.process_id)).await.unwrap();
        self.end().await
    }

    async fn end(self) -> (String, String) {
        let error = tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap();
        let error = error.as_db_error().unwrap();
        (error.code().code().to_owned(), error.message().to_owned())
    }
}

const RUNNING: &str = "SELECT count(*) FROM stv_wlm_query_state WHERE state = 'Running'";
const QUEUED: &str = "SELECT count(*) FROM stv_wlm_query_state WHERE state = 'QueuedWaiting'";

/// Scenario 1 of the documentation: groups of users, query groups, and the order of queues; and
/// roles.
#[tokio::test]
async fn queries_go_to_the_queue_that_the_configuration_says() {
    let cluster = configured(
        r#"[{"user_group":["admin"]},{"query_group":["QG_B"]},{"user_group":["analysts"]},
            {"query_group":["QG_C*"],"query_group_wild_card":1},{"user_role":["loads"]},{}]"#,
    );
    let admin = cluster.connect().await;
    admin
        .batch_execute(
            "CREATE USER adminuser PASSWORD 'Correct7Horse' CREATEUSER;
             CREATE USER admin1 PASSWORD 'Correct7Horse'; CREATE USER vp1 PASSWORD 'Correct7Horse';
             CREATE USER analyst1 PASSWORD 'Correct7Horse';
             CREATE USER ralph PASSWORD 'Correct7Horse'; CREATE USER nora PASSWORD 'Correct7Horse';
             CREATE ROLE night_loads; CREATE ROLE loads; GRANT ROLE night_loads TO nora;
             GRANT ROLE loads TO ROLE night_loads; CREATE GROUP admin WITH USER admin1; CREATE GROUP analysts WITH USER analyst1",
        )
        .await
        .unwrap();
    for (user, group, expected) in [
        ("adminuser", Some("superuser"), 5),
        ("admin1", None, 6),
        ("admin1", Some("QG_B"), 6),
        ("vp1", Some("QG_B"), 7),
        ("analyst1", Some("QG_B"), 7),
        ("analyst1", None, 8),
        ("analyst1", Some("superuser"), 8),
        ("ralph", Some("qg_c_7"), 9),
        // By way of another role.
        ("nora", None, 10),
        ("ralph", Some("QG_D"), 11),
        ("ralph", None, 11),
    ] {
        let mut config = cluster.address.config();
        let client = connect(config.user(user)).await.unwrap();
        if let Some(group) = group {
            client.batch_execute(&format!("SET query_group TO '{group}'")).await.unwrap();
        }
        let table = format!("t_{user}_{}", group.unwrap_or("none").to_lowercase());
        client
            .batch_execute(&format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)"))
            .await
            .unwrap();
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
        let class = "SELECT service_class FROM stl_wlm_query WHERE query = pg_last_query_id()";
        until(&client, class, expected).await;
    }
}

/// Scenario 2: memory and slots of a queue change while its queries run.
#[tokio::test]
async fn slots_change_while_queries_run() {
    let config = |percent: u32, slots: u32| {
        format!(
            r#"[{{"query_group":["a"],"query_concurrency":{slots},"memory_percent_to_use":{percent}}},
                {{"query_concurrency":2,"memory_percent_to_use":{}}}]"#,
            100 - percent
        )
    };
    let cluster = configured(&config(50, 4));
    let admin = cluster.connect().await;
    digits(&admin).await;
    let address = cluster.address.config();
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(Endless::start(&address, "SET query_group TO 'a'").await);
    }
    until(&admin, RUNNING, 4).await;
    admin
        .batch_execute(&format!("ALTER SYSTEM SET wlm_json_configuration TO '{}'", config(75, 3)))
        .await
        .unwrap();
    let waiting = Endless::start(&address, "SET query_group TO 'a'").await;
    until(&admin, QUEUED, 1).await;
    let of_queue = |column: &str| {
        format!("SELECT {column} FROM stv_wlm_service_class_config WHERE service_class = 6")
    };
    assert_eq!(number(&admin, &of_queue("num_query_tasks")).await, 4);
    assert_eq!(number(&admin, &of_queue("target_num_query_tasks")).await, 3);
    let before = number(&admin, &of_queue("query_working_mem")).await;
    let target = number(&admin, &of_queue("target_query_working_mem")).await;
    assert!((target - 2 * before).abs() <= 2, "75 % by 3 is twice 50 % by 4: {before}, {target}");

    running.pop().unwrap().cancel(&admin).await;
    until(&admin, RUNNING, 3).await;
    assert_eq!(number(&admin, QUEUED).await, 1, "three slots are as many as there shall be");
    running.pop().unwrap().cancel(&admin).await;
    until(&admin, QUEUED, 0).await;
    until(&admin, RUNNING, 3).await;
    for query in running.into_iter().chain([waiting]) {
        query.cancel(&admin).await;
    }
    until(&admin, &of_queue("query_working_mem"), target).await;
    assert_eq!(number(&admin, &of_queue("num_query_tasks")).await, 3);
}

/// Scenario 3: a time limit moves a SELECT to the next queue that takes it, or ends it.
#[tokio::test]
async fn a_time_limit_moves_queries_or_ends_them() {
    let cluster = configured(
        r#"[{"query_group":["both","only"],"query_concurrency":2,"max_execution_time":300},
            {"query_group":["both"],"query_concurrency":1},{"query_concurrency":2}]"#,
    );
    let admin = cluster.connect().await;
    digits(&admin).await;
    let address = cluster.address.config();
    let in_second = "SELECT count(*) FROM stv_wlm_query_state WHERE service_class = 7";

    let moved = Endless::start(&address, "SET query_group TO 'both'").await;
    until(&admin, in_second, 1).await;
    let stays = "SELECT count(*) FROM stl_wlm_query
        WHERE service_class = 6 AND final_state = 'Evicted'";
    assert_eq!(number(&admin, stays).await, 1);

    let ended = Endless::start(&address, "SET query_group TO 'only'").await.end().await;
    assert_eq!(ended.0, "57014");
    assert!(ended.1.contains("WLM timeout"), "{}", ended.1);
    admin.batch_execute("CREATE TABLE sums (s bigint)").await.unwrap();
    let insert = format!("INSERT INTO sums {}", endless_query());
    let ended = Endless::run(&address, "SET query_group TO 'both'", insert).await.end().await;
    assert_eq!(ended.0, "57014", "{}", ended.1);

    // The second queue is full: a query starts again there, when it has its turn.
    let client = connect(&address).await.unwrap();
    client.batch_execute("SET query_group TO 'both'").await.unwrap();
    let sum = "SELECT sum(a.d * b.d)::bigint FROM digits a, digits b, digits c, digits d, digits e,
        digits f, digits g, digits h";
    let restarted = tokio::spawn(async move {
        let row = client.query_one(sum, &[]).await.unwrap();
        (client, row.get::<_, i64>(0))
    });
    until(&admin, QUEUED, 1).await;
    moved.cancel(&admin).await;
    let (client, answer) = tokio::time::timeout(PATIENCE, restarted).await.unwrap().unwrap();
    assert_eq!(answer, 45 * 45 * 1_000_000);
    let aborted = "SELECT count(*) FROM stl_query WHERE aborted = 1 AND querytxt LIKE 'SELECT sum(a.d * b.d)::bigint%'";
    assert_eq!(number(&admin, aborted).await, 1, "under its old number it was aborted");
    let last = "SELECT service_class FROM stl_wlm_query WHERE query = pg_last_query_id()";
    until(&client, last, 7).await;
}

/// Scenario 4: a query with three of five slots leaves two.
#[tokio::test]
async fn slots_count_as_many_as_a_query_takes() {
    let cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    digits(&admin).await;
    let address = cluster.address.config();
    let wide = Endless::start(&address, "SET wlm_query_slot_count TO 3").await;
    until(&admin, RUNNING, 1).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(Endless::start(&address, "").await);
    }
    until(&admin, RUNNING, 3).await;
    until(&admin, QUEUED, 1).await;
    let slots = "SELECT sum(slot_count) FROM stv_wlm_query_task_state";
    assert_eq!(number(&admin, slots).await, 5);
    wide.cancel(&admin).await;
    until(&admin, QUEUED, 0).await;
    for other in others {
        other.cancel(&admin).await;
    }
    let client = connect(&address).await.unwrap();
    client.batch_execute("SET wlm_query_slot_count TO 6").await.unwrap();
    let error = client.simple_query("SELECT count(*) FROM digits").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53400", "{error:?}");
    until(&admin, "SELECT count(*) FROM stl_wlm_error", 1).await;
}

/// Scenario 5: a rule ends a query, within ten seconds of what it says.
#[tokio::test]
async fn a_rule_ends_a_query() {
    let cluster = configured(
        r#"[{"query_concurrency":3,"rules":[{"rule_name":"long","predicate":[
            {"metric_name":"query_execution_time","operator":">","value":1}],"action":"abort"},
            {"rule_name":"seen","predicate":[
            {"metric_name":"query_execution_time","operator":">","value":0}],"action":"log"}]}]"#,
    );
    let admin = cluster.connect().await;
    digits(&admin).await;
    let begun = Instant::now();
    let ended = Endless::start(&cluster.address.config(), "").await.end().await;
    assert_eq!(ended.0, "57014");
    assert!(
        ended.1.contains("cancelled by WLM abort action of Query Monitoring Rule \"long\""),
        "{}",
        ended.1
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let actions =
        "SELECT count(*) FROM stl_wlm_rule_action WHERE rule = 'long' AND action = 'abort'";
    assert_eq!(number(&admin, actions).await, 1);
    let rules =
        "SELECT count(*) FROM stv_wlm_qmr_config WHERE metric_name = 'query_execution_time'";
    assert_eq!(number(&admin, rules).await, 2);
    let cpu = "SELECT max(query_cpu_time) FROM svl_query_metrics_summary";
    assert!(number(&admin, cpu).await >= 1);
}

/// What nodes have done counts: it is in the tables, and rules see it while the query runs.
#[tokio::test]
async fn figures_of_all_nodes_count() {
    let config = r#"[parameters]
wlm_json_configuration = '''[{"query_concurrency":3,"rules":[{"rule_name":"wide",
    "predicate":[{"metric_name":"query_cpu_time","operator":">","value":1}],
    "action":"abort"}]}]'''
"#;
    let cluster = Cluster::start_own(Options {
        config: Some(config.to_owned()),
        arguments: vec!["--nodes".to_owned(), "2".to_owned()],
        ..Options::default()
    });
    let admin = cluster.connect().await;
    digits(&admin).await;
    let tables = "digits a, digits b, digits c, digits d, digits e";
    admin
        .batch_execute(&format!(
            "CREATE TABLE numbers DISTKEY (n) AS
             SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d AS n FROM {tables};
             CREATE TABLE others DISTSTYLE EVEN AS SELECT n FROM numbers WHERE n < 1000"
        ))
        .await
        .unwrap();
    let joined = "SELECT count(*) FROM numbers JOIN others USING (n)";
    assert_eq!(number(&admin, joined).await, 1000);
    let figure = |name: &str| {
        let of_last = "FROM svl_query_metrics_summary WHERE query = pg_last_query_id()";
        format!("SELECT {name} {of_last}")
    };
    // Each node has its part of them.
    assert_eq!(number(&admin, &figure("join_row_count")).await, 1000);
    assert_eq!(number(&admin, "SELECT sum(n) % 1000 FROM numbers").await, 0);
    assert_eq!(number(&admin, &figure("scan_row_count")).await, 100_000);
    // All of its work is on the nodes.
    let ended = Endless::start(&cluster.address.config(), "").await.end().await;
    assert_eq!(ended.0, "57014");
    assert!(ended.1.contains("Query Monitoring Rule \"wide\""), "{}", ended.1);
}

/// Queries that wait, and those that run, end when they are told to, and leave nothing.
#[tokio::test]
async fn waiting_and_running_queries_can_be_cancelled() {
    let cluster = configured(r#"[{"query_concurrency":1}]"#);
    let admin = cluster.connect().await;
    digits(&admin).await;
    let address = cluster.address.config();
    let running = Endless::start(&address, "").await;
    until(&admin, RUNNING, 1).await;

    let waiting = Endless::start(&address, "").await;
    until(&admin, QUEUED, 1).await;
    let sql = format!("CANCEL {} 'make room'", waiting.process_id);
    admin.batch_execute(&sql).await.unwrap();
    assert_eq!(waiting.end().await, ("57014".to_owned(), "make room".to_owned()));

    let waiting = Endless::start(&address, "SET statement_timeout TO 200").await.end().await;
    assert!(waiting.1.contains("statement timeout"), "{}", waiting.1);

    let waiting = Endless::start(&address, "").await;
    until(&admin, QUEUED, 1).await;
    let ended = format!("SELECT pg_cancel_backend({})", waiting.process_id);
    assert_eq!(number(&admin, &ended).await, 1);
    assert_eq!(waiting.end().await.0, "57014");

    let mut gone = Raw::logged_in(&cluster.address);
    gone.send(&query(&endless_query()));
    until(&admin, QUEUED, 1).await;
    drop(gone);
    until(&admin, QUEUED, 0).await;

    // A superuser's own queue is free while all others are full.
    let other = connect(&address).await.unwrap();
    other.batch_execute("SET query_group TO 'superuser'").await.unwrap();
    other.simple_query("SELECT count(*) FROM digits").await.unwrap();

    let number_of = "SELECT max(query) FROM stv_inflight";
    let query = number(&admin, number_of).await;
    let (code, message) = running.cancel(&admin).await;
    assert_eq!(code, "57014");
    assert_eq!(message, format!("Query ({query}) canceled on user's request"));
    until(&admin, "SELECT count(*) FROM stv_wlm_query_state", 0).await;
    admin.simple_query("SELECT count(*) FROM digits").await.unwrap();

    let running = Endless::start(&address, "").await;
    until(&admin, RUNNING, 1).await;
    let ended = format!("SELECT pg_terminate_backend({})", running.process_id);
    assert_eq!(number(&admin, &ended).await, 1);
    assert_eq!(running.end().await.0, "57P01");
    until(&admin, "SELECT count(*) FROM stv_wlm_query_state", 0).await;
    until(&admin, "SELECT count(*) FROM stv_sessions", 2).await;
}

/// Many cancels at random moments leak neither a slot nor memory.
#[tokio::test]
async fn no_slot_is_lost_by_cancels() {
    let cluster = configured(r#"[{"query_concurrency":2}]"#);
    let admin = cluster.connect().await;
    digits(&admin).await;
    let mut clients = Vec::new();
    for lane in 0..6_u64 {
        let client = cluster.connect().await;
        clients.push(tokio::spawn(async move {
            let sql = "SELECT a.d, count(*) FROM digits a, digits b, digits c, digits d, digits e,
                digits f, digits g GROUP BY a.d ORDER BY 2, 1";
            for turn in 0..40_u64 {
                let token = client.cancel_token();
                let pause = Duration::from_micros((lane * 7_919 + turn * 104_729) % 30_000);
                let cancel = async {
                    tokio::time::sleep(pause).await;
                    token.cancel_query(tokio_postgres::NoTls).await.unwrap();
                };
                let (result, ()) = tokio::join!(client.simple_query(sql), cancel);
                if let Err(error) = result {
                    assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    until(&admin, "SELECT count(*) FROM stv_wlm_query_state", 0).await;
    let idle = "SELECT num_query_tasks FROM stv_wlm_service_class_config WHERE service_class = 6";
    assert_eq!(number(&admin, idle).await, 2);
    let first = Endless::start(&cluster.address.config(), "").await;
    let second = Endless::start(&cluster.address.config(), "").await;
    until(&admin, RUNNING, 2).await;
    first.cancel(&admin).await;
    second.cancel(&admin).await;
}

/// A session that reads one result and asks for another never waits for itself.
#[tokio::test]
async fn open_cursors_share_their_sessions_slot() {
    let cluster = configured(r#"[{"query_concurrency":1}]"#);
    let client = cluster.connect().await;
    digits(&client).await;
    let wide = "SELECT a.d FROM digits a, digits b, digits c, digits d, digits e, digits f";
    client.batch_execute("BEGIN").await.unwrap();
    for name in ["one", "two", "three"] {
        client.batch_execute(&format!("DECLARE {name} CURSOR FOR {wide}")).await.unwrap();
        let rows = client.simple_query(&format!("FETCH 2 FROM {name}")).await.unwrap();
        assert!(rows.len() >= 3, "two rows and the end");
    }
    assert_eq!(number(&client, "SELECT count(*) FROM digits").await, 10);
    let slots = "SELECT sum(slot_count) FROM stv_wlm_query_task_state";
    assert_eq!(number(&client, slots).await, 1);
    client.batch_execute("COMMIT").await.unwrap();
    until(&client, "SELECT count(*) FROM stv_wlm_query_state", 0).await;
}

/// A session with open rows waits for a lock whose owner waits for the slot of these rows.
#[tokio::test]
async fn a_circle_of_locks_and_slots_is_refused() {
    let cluster = configured(r#"[{"query_concurrency":1}]"#);
    let (reader, writer) = (cluster.connect().await, cluster.connect().await);
    digits(&reader).await;
    reader.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    writer.batch_execute("BEGIN; UPDATE t SET a = 2").await.unwrap();
    let wide = "SELECT a.d FROM digits a, digits b, digits c, digits d, digits e, digits f";
    reader.batch_execute(&format!("BEGIN; DECLARE wide CURSOR FOR {wide}")).await.unwrap();
    reader.simple_query("FETCH 2 FROM wide").await.unwrap();
    let update = tokio::spawn(async move { reader.batch_execute("UPDATE t SET a = 3").await });
    let admin = cluster.connect().await;
    let waits = "SELECT count(*) FROM stv_locks WHERE lock_status LIKE 'Waiting%'";
    until(&admin, waits, 1).await;
    let error = writer.simple_query("SELECT count(*) FROM digits").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("40P01", "deadlock detected"));
    writer.batch_execute("ROLLBACK").await.unwrap();
    update.await.unwrap().unwrap();
}

/// 500 clients and five slots: everybody gets an answer, the 501st a polite refusal.
#[tokio::test]
async fn five_hundred_clients_wait_for_their_turn() {
    let cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    digits(&admin).await;
    let mut clients = Vec::new();
    for _ in 1..500 {
        clients.push(cluster.connect().await);
    }
    let error = connect(&cluster.address.config()).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "53300");
    assert!(error.message().contains("connection limit \"500\" exceeded"), "{}", error.message());
    let sql = "SELECT sum(a.d + b.d)::bigint FROM digits a, digits b, digits c, digits d";
    let running: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move { client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) })
        })
        .collect();
    let mut at_once = 0;
    while !running.iter().all(JoinHandle::is_finished) {
        let slots = "SELECT nvl(sum(slot_count), 0) FROM stv_wlm_query_task_state";
        at_once = at_once.max(number(&admin, slots).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for client in running {
        assert_eq!(client.await.unwrap(), 90_000);
    }
    assert!(at_once <= 5, "{at_once} slots at once");
    let answered = "SELECT count(*) FROM stl_wlm_query
        WHERE service_class = 6 AND final_state = 'Completed'";
    assert!(number(&admin, answered).await >= 499);
}

/// Ten queries that would each take all memory: they spill or are refused, and the server stays
/// within its bounds.
#[tokio::test]
async fn hungry_queries_stay_within_the_pool() {
    const POOL: u64 = 2 << 30;
    let cluster = Cluster::start_own(Options {
        config: Some(format!("[memory]\nquery_bytes = {POOL}\ncache_bytes = 67108864\n")),
        ..Options::default()
    });
    let admin = cluster.connect().await;
    digits(&admin).await;
    admin
        .batch_execute(
            "CREATE TABLE big AS SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d
                + 100000 * f.d + 1000000 * g.d AS n, repeat('x', 100) || a.d::varchar AS text
             FROM digits a, digits b, digits c, digits d, digits e, digits f, digits g
             WHERE g.d < 4",
        )
        .await
        .unwrap();
    let sql = "SELECT count(*), sum(length(text))::bigint FROM
        (SELECT n, text, row_number() OVER (ORDER BY text, n DESC) AS r FROM big) x WHERE r > 0";
    let mut hungry = Vec::new();
    for _ in 0..10 {
        let client = cluster.connect().await;
        hungry.push(tokio::spawn(async move {
            match client.query_one(sql, &[]).await {
                Ok(row) => assert_eq!(
                    (row.get::<_, i64>(0), row.get::<_, i64>(1)),
                    (4_000_000, 4_000_000 * 101)
                ),
                Err(error) => {
                    assert_eq!(error.code().map(|code| code.code()), Some("53200"), "{error:?}");
                }
            }
        }));
    }
    let mut peak = 0;
    while !hungry.iter().all(JoinHandle::is_finished) {
        peak = peak.max(cluster.resident_bytes());
        // A modest query is not harmed.
        let row = admin.query_one("SELECT count(*) FROM digits", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 10);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for client in hungry {
        client.await.unwrap();
    }
    assert!(peak < POOL / 4 * 5, "{} MiB resident", peak >> 20);
    until(&admin, "SELECT count(*) FROM stv_wlm_query_state", 0).await;
}

/// A configuration that is wrong is refused with the reason, and the old one stays.
#[tokio::test]
async fn a_wrong_configuration_is_refused() {
    let mut cluster = configured(r#"[{"query_concurrency":3}]"#);
    let admin = cluster.connect().await;
    let slots = "SELECT num_query_tasks FROM stv_wlm_service_class_config WHERE service_class = 6";
    let error = admin
        .simple_query("ALTER SYSTEM SET wlm_json_configuration = '[{\"query_concurrency\":60}]'")
        .await
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "22023");
    assert!(error.detail().unwrap().contains("from 1 to 50"), "{error:?}");
    assert_eq!(number(&admin, slots).await, 3);
    admin
        .batch_execute("ALTER SYSTEM SET wlm_json_configuration = '[{\"query_concurrency\":4}]'")
        .await
        .unwrap();
    assert_eq!(number(&admin, slots).await, 4);
    let shown = admin.query_one("SHOW wlm_json_configuration", &[]).await.unwrap();
    assert_eq!(shown.get::<_, String>(0), r#"[{"query_concurrency":4}]"#);
    cluster.stop();
    cluster.restart();
    let admin = cluster.connect().await;
    assert_eq!(number(&admin, slots).await, 4, "what SQL has set goes above the file");
    admin.batch_execute("ALTER SYSTEM SET wlm_json_configuration TO DEFAULT").await.unwrap();
    assert_eq!(number(&admin, slots).await, 3);
}

/// `blueshift wlm check` says what a file means, or why it is refused.
#[test]
fn a_configuration_can_be_checked_without_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut command = std::process::Command::new(crate::support::cluster::binary());
        let output = command.args(["wlm", "check"]).arg(path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, words) =
        check("good.json", r#"[{"user_group":["etl"],"query_concurrency":2},{}]"#);
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("manual workload management: 2 user queues, 7 slots"), "{words}");
    let (status, words) = check("bad.json", r#"[{"query_concurrency":0}]"#);
    assert_eq!(status, Some(1));
    assert!(words.starts_with("refused: element 1"), "{words}");
    let toml = "[parameters]\nwlm_json_configuration = '[{\"auto_wlm\":true}]'\n";
    let (status, words) = check("server.toml", toml);
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("automatic workload management"), "{words}");
}
