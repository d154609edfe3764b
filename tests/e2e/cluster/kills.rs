//! kill -9 and SIGSTOP of compute processes while queries and loads run. A SELECT of which no row was
//! sent is answered by the copies; one of which rows were sent is an error or whole; a load is whole
//! or not there; nothing takes long; and afterwards every segment has its copies again.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tokio_postgres::Client;

use super::{answer, expect, nodes, nodes_with};
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, signal};
use crate::support::object_store::ObjectStore;

/// Kills of a normal run; `BLUESHIFT_KILLS` sets another number.
const KILLS: usize = 10;
/// From the kill to the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Queries that move rows in every way, with their answers over `numbers`; `small` is a copy of the
/// rows below 100 on every node.
pub(super) const QUERIES: [(&str, &str); 7] = [
    // gather
    ("SELECT count(*) FROM (SELECT k FROM numbers ORDER BY k LIMIT 300000) q", "262144"),
    // partial aggregate
    ("SELECT count(*), sum(k) FROM numbers", "262144|34359607296"),
    // shuffle
    ("SELECT count(*) FROM (SELECT w, count(*) FROM numbers GROUP BY w) q", "1000"),
    ("SELECT count(*) FROM numbers x JOIN numbers y ON x.k = y.r", "262144"),
    // broadcast
    (
        "SELECT count(*) FROM numbers x JOIN (SELECT k FROM numbers WHERE k < 100) y ON x.w = y.k",
        "26300",
    ),
    // a table that every node has
    ("SELECT count(*), sum(y.r) FROM numbers x JOIN small y ON x.w = y.k", "26300|6893059050"),
    // top
    ("SELECT k, w FROM numbers ORDER BY w DESC, k LIMIT 1", "999|999"),
];

/// What a kill hits.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// A query with one row.
    Query(usize),
    /// A query with many rows, which are sent as they come.
    Rows,
    /// COPY into a table of some distribution.
    Load(usize),
    /// INSERT ... SELECT.
    Insert,
    /// CREATE TABLE AS.
    Create,
}

/// The tables that loads go to.
const LOADED: [(&str, &str); 3] =
    [("by_key", "DISTKEY(k)"), ("even", "DISTSTYLE EVEN"), ("whole", "DISTSTYLE ALL")];
const OBJECTS: usize = 6;
const LINES: usize = 30_000;

/// A cluster under kills, and what its tables hold.
struct Victim {
    cluster: Cluster,
    store: ObjectStore,
    client: Client,
    nodes: usize,
    /// Loads that each table of [`LOADED`] has had.
    loads: [usize; LOADED.len()],
    inserts: usize,
    created: usize,
}

/// What came of the work.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    rows_failed: usize,
    writes_done: usize,
    writes_failed: usize,
    longest: Duration,
}

impl Victim {
    async fn start(count: usize) -> Self {
        let store = ObjectStore::start().await;
        for object in 0..OBJECTS {
            let lines = (0..LINES).map(|line| format!("{}|{line}|7\n", object * LINES + line));
            store.put(&format!("part/{object}"), lines.collect::<String>());
        }
        let mut cluster = nodes_with(count, store.environment());
        cluster.expect_warnings();
        let client = cluster.connect().await;
        make_numbers(&client).await;
        for (table, style) in LOADED {
            let create = format!("CREATE TABLE {table} (k bigint, r bigint, w bigint) {style}");
            expect(&client, &create).await;
        }
        expect(&client, "CREATE TABLE inserted (LIKE numbers)").await;
        Self { cluster, store, client, nodes: count, loads: [0; 3], inserts: 0, created: 0 }
    }

    fn statement(&self, work: Work) -> String {
        match work {
            Work::Query(query) => QUERIES[query].0.to_owned(),
            Work::Rows => "SELECT k, r, w FROM numbers".to_owned(),
            Work::Load(table) => {
                let (name, _) = LOADED[table];
                format!("COPY {name} FROM 's3://load/part/' {} DELIMITER '|'", self.store.keys())
            }
            Work::Insert => "INSERT INTO inserted SELECT * FROM numbers".to_owned(),
            Work::Create => format!("CREATE TABLE made_{} AS SELECT * FROM numbers", self.created),
        }
    }

    /// Looks at what the statement answered, which must be right or, where that is allowed, an error.
    fn judge(&mut self, work: Work, found: Result<Vec<String>, String>, tally: &mut Tally) {
        let lost = |error: &str| error.starts_with("58030") || error.starts_with("08006");
        match (work, found) {
            (Work::Query(query), found) => {
                assert_eq!(found, Ok(vec![QUERIES[query].1.to_owned()]), "{}", QUERIES[query].0);
                tally.answered += 1;
            }
            (Work::Rows, Ok(rows)) => {
                assert_eq!(rows.len(), 262_144);
                tally.answered += 1;
            }
            (Work::Rows, Err(error)) => {
                assert!(lost(&error), "{error}");
                tally.rows_failed += 1;
            }
            (write, Ok(_)) => {
                tally.writes_done += 1;
                match write {
                    Work::Load(table) => self.loads[table] += 1,
                    Work::Insert => self.inserts += 1,
                    Work::Create => self.created += 1,
                    Work::Query(_) | Work::Rows => {}
                }
            }
            (write, Err(error)) => {
                assert!(lost(&error), "{write:?}: {error}");
                tally.writes_failed += 1;
            }
        }
    }

    /// Every table has all rows that were acknowledged, and no others.
    async fn check(&self) {
        let rows = OBJECTS * LINES;
        for (loads, (table, _)) in self.loads.iter().zip(LOADED) {
            let sum = (0..rows).sum::<usize>() * loads;
            let sum = if *loads == 0 { "NULL".to_owned() } else { sum.to_string() };
            let sql = format!("SELECT count(*), sum(k) FROM {table}");
            let expected = format!("{}|{sum}", rows * loads);
            assert_eq!(expect(&self.client, &sql).await, [expected], "{table}");
        }
        let count = "SELECT count(*) FROM inserted";
        let expected = (262_144 * self.inserts).to_string();
        assert_eq!(expect(&self.client, count).await, [expected]);
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'made%'";
        assert_eq!(expect(&self.client, tables).await, [self.created.to_string()]);
        if let Some(last) = self.created.checked_sub(1) {
            let made = format!("SELECT count(*), sum(k) FROM made_{last}");
            assert_eq!(expect(&self.client, &made).await, ["262144|34359607296"]);
        }
    }

    /// So that a long run does not fill the disk.
    async fn make_room(&mut self) {
        for (loads, (table, _)) in self.loads.iter_mut().zip(LOADED) {
            if *loads > 3 {
                expect(&self.client, &format!("TRUNCATE {table}")).await;
                *loads = 0;
            }
        }
        if self.inserts > 3 {
            expect(&self.client, "TRUNCATE inserted").await;
            self.inserts = 0;
        }
        if self.created > 3 {
            for table in 0..self.created {
                expect(&self.client, &format!("DROP TABLE made_{table}")).await;
            }
            self.created = 0;
        }
    }

    /// Kills or stops a node somewhere within the work.
    async fn strike(&mut self, work: Work, stops: bool, random: &mut StdRng, tally: &mut Tally) {
        let within = match work {
            Work::Query(_) => 60,
            Work::Rows => 250,
            Work::Load(_) | Work::Insert | Work::Create => 500,
        };
        let delay = Duration::from_millis(random.random_range(0..within));
        let node = random.random_range(0..self.nodes);
        let (found, process) = self.hit(&self.statement(work), delay, node, stops, tally).await;
        self.judge(work, found, tally);
        // With the node away.
        self.check().await;
        if stops {
            signal(process, if random.random_bool(0.5) { "CONT" } else { "KILL" });
        }
    }

    /// The answer of a statement during which a node was hit, and the node's process.
    async fn hit(
        &self,
        sql: &str,
        delay: Duration,
        node: usize,
        stops: bool,
        tally: &mut Tally,
    ) -> (Result<Vec<String>, String>, u32) {
        let mut asking = std::pin::pin!(answer(&self.client, sql));
        let early = tokio::select! {
            found = &mut asking => Some(found),
            () = tokio::time::sleep(delay) => None,
        };
        let process = node_process(&self.cluster, node);
        let begun = Instant::now();
        signal(process, if stops { "STOP" } else { "KILL" });
        let found = match early {
            Some(found) => found,
            None => asking.await,
        };
        let took = begun.elapsed();
        assert!(took < ANSWER_WITHIN, "{sql}: {took:?}");
        tally.longest = tally.longest.max(took);
        (found, process)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_cost_no_answer_and_no_row() {
    let wanted = std::env::var("BLUESHIFT_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut random = seeded();
    let mut victim = Victim::start(3).await;
    for (sql, expected) in QUERIES {
        assert_eq!(expect(&victim.client, sql).await, [expected], "{sql}");
    }
    wait_until_whole(&victim.client).await;
    let mut tally = Tally::default();
    let begun = Instant::now();
    for kill in 0..wanted {
        let work = match kill % 14 {
            query @ 0..7 => Work::Query(query),
            7 | 8 => Work::Rows,
            9..12 => Work::Load(kill % 14 - 9),
            12 => Work::Insert,
            _ => Work::Create,
        };
        // Not always the same of the two for the same work.
        let stops = (kill + kill / 14) % 2 == 1;
        victim.strike(work, stops, &mut random, &mut tally).await;
        wait_until_whole(&victim.client).await;
        victim.check().await;
        victim.make_room().await;
    }
    let Tally { answered, rows_failed, writes_done, writes_failed, longest } = tally;
    // With one node away at a time there are copies to begin again on.
    assert!(writes_failed * 20 <= writes_done, "{writes_failed} writes failed");
    eprintln!(
        "{wanted} kills in {} s: {answered} right answers, {rows_failed} errors after rows were \
         sent, {writes_done} writes done, {writes_failed} writes rolled back, 0 wrong, longest {} ms",
        begun.elapsed().as_secs(),
        longest.as_millis()
    );
    let files = segment_files(&victim.cluster.data_directory());
    eprintln!("{files} segment files at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_whole_or_not_there_when_a_node_is_killed() {
    let mut random = seeded();
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    expect(&client, "DROP TABLE small").await;
    expect(&client, "CREATE TABLE copy (LIKE numbers)").await;
    let insert = "INSERT INTO copy SELECT * FROM numbers";
    let count = "SELECT count(*) FROM copy";
    let mut rows = 0;
    for _ in 0..KILLS / 2 {
        let asking = answer(&client, insert);
        let mut asking = std::pin::pin!(asking);
        let delay = Duration::from_millis(random.random_range(1..250));
        let early = tokio::select! {
            found = &mut asking => Some(found),
            () = tokio::time::sleep(delay) => None,
        };
        signal(node_process(&cluster, random.random_range(0..2)), "KILL");
        let found = match early {
            Some(found) => found,
            None => asking.await,
        };
        if found.is_ok() {
            rows += 262_144;
        }
        wait_until_back(&client, count, &rows.to_string()).await;
    }
    // What failed writes left is removed: no more files than committed segments and their copies, and
    // a few more rounds of the watch for those that wait for their node.
    expect(&client, "CREATE TABLE last (k int)").await;
    let deadline = Instant::now() + BACK_WITHIN;
    let committed = rows / 262_144;
    loop {
        let files = segment_files(&cluster.data_directory());
        // Each write makes one segment per slice, and a copy.
        if files <= 8 * (1 + usize::try_from(committed).unwrap()) {
            break;
        }
        assert!(Instant::now() < deadline, "{files} segment files after {committed} writes");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// 262,144 rows: `k` counts, `r` counts backwards, `w` is `k` modulo 1000. `small` has the first 100.
pub(super) async fn make_numbers(client: &Client) {
    expect(client, "CREATE TABLE numbers (k bigint, r bigint, w bigint) DISTKEY(k)").await;
    expect(client, "INSERT INTO numbers VALUES (0, 0, 0)").await;
    for power in 0..18 {
        let add = 1_i64 << power;
        expect(client, &format!("INSERT INTO numbers SELECT k + {add}, 0, 0 FROM numbers")).await;
    }
    expect(client, "CREATE TABLE finished (LIKE numbers)").await;
    let finish = "INSERT INTO finished SELECT k, 262143 - k, mod(k, 1000) FROM numbers";
    expect(client, finish).await;
    expect(client, "TRUNCATE numbers").await;
    expect(client, "INSERT INTO numbers SELECT * FROM finished").await;
    expect(client, "DROP TABLE finished").await;
    expect(client, "CREATE TABLE small (k bigint, r bigint, w bigint) DISTSTYLE ALL").await;
    expect(client, "INSERT INTO small SELECT * FROM numbers WHERE k < 100").await;
}

/// Waits until every segment has all its copies, on nodes that are there.
pub(super) async fn wait_until_whole(client: &Client) {
    let sql = "SELECT node, state, sum(under_replicated) FROM stv_blueshift_replication \
               WHERE under_replicated > 0 OR state <> 'whole' OR served_by IS NULL \
               GROUP BY node, state ORDER BY node";
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        let lacking = expect(client, sql).await;
        if lacking.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{lacking:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_until_back(client: &Client, sql: &str, expected: &str) {
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        match answer(client, sql).await {
            Ok(rows) => return assert_eq!(rows, [expected], "{sql}"),
            Err(error) => assert!(Instant::now() < deadline, "{sql}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The process id of a compute node: the child of the server that was started with its file.
pub(super) fn node_process(cluster: &Cluster, node: usize) -> u32 {
    let file = cluster.data_directory().join("cluster").join(format!("node-{node}.toml"));
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = name.parse() else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&command);
            if text.contains("\0compute\0") && text.contains(&*file.to_string_lossy()) {
                return id;
            }
        }
        assert!(Instant::now() < deadline, "node {node} runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn segment_files(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += segment_files(&path);
        } else if path.extension().is_some_and(|extension| extension == "seg") {
            count += 1;
        }
    }
    count
}
