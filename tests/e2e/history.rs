//! Histories of random transactions of several sessions, with kill -9 in between, checked for what
//! their isolation level does not allow.

mod checker;
mod checker_tests;
mod graph;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options};
use checker::{Key, Outcome, Step, Transaction, Value, check};

/// Steps of transactions of a normal run, for each level; `BLUESHIFT_HISTORY_OPERATIONS` sets another
/// number.
const OPERATIONS: u64 = 1_500;
/// Steps after which a history is checked and the next begins.
const OPERATIONS_OF_ROUND: u64 = 1_500;
const SESSIONS: usize = 6;
const TABLES: u32 = 2;
const KEYS_OF_TABLE: u32 = 4;
/// One round in so many has a kill in the middle.
const ROUNDS_OF_KILL: u64 = 2;

/// What all sessions of a round share.
struct Round {
    /// The clock of the history.
    clock: AtomicU64,
    next_value: AtomicU32,
    operations: AtomicU64,
    stops: AtomicBool,
}

impl Round {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn is_over(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
            || self.operations.load(Ordering::SeqCst) >= OPERATIONS_OF_ROUND
    }
}

/// How a statement failed.
enum Failure {
    /// The server said so.
    Refused(String),
    /// The connection is gone.
    Gone,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(error) => Failure::Refused(format!("{} {}", error.code().code(), error.message())),
            None => Failure::Gone,
        }
    }
}

/// Losing against another transaction is all that may go wrong.
fn expect_conflict(why: &str) {
    let usual = ["XX000 1023", "40P01 deadlock detected"];
    assert!(usual.contains(&why), "{why}");
}

/// A session and what it has done.
struct Worker {
    client: Client,
    random: StdRng,
    round: Arc<Round>,
    history: Vec<Transaction>,
    maintains: bool,
}

impl Worker {
    async fn run(mut self) -> Vec<Transaction> {
        while !self.round.is_over() {
            if self.maintains && self.random.random_bool(0.02) {
                let table = self.random.random_range(0..TABLES);
                let vacuum = format!("VACUUM l{table} TO 100 PERCENT");
                if self.client.batch_execute(&vacuum).await.is_err() {
                    break;
                }
            }
            if !self.transaction().await {
                break;
            }
        }
        self.history
    }

    /// Runs one, and says whether the connection is still there.
    async fn transaction(&mut self) -> bool {
        let mut steps = Vec::new();
        let began = self.round.now();
        let ended = if self.random.random_bool(0.25) {
            self.alone(&mut steps).await
        } else {
            self.block(&mut steps).await
        };
        self.round.operations.fetch_add(steps.len().max(1) as u64, Ordering::SeqCst);
        let (outcome, goes_on) = match ended {
            Ok(outcome) => (outcome, true),
            Err(outcome) => (outcome, false),
        };
        self.history.push(Transaction { steps, outcome, time: (began, self.round.now()) });
        goes_on
    }

    /// A statement without a block. An error of the connection is an `Err`.
    async fn alone(&mut self, steps: &mut Vec<Step>) -> Result<Outcome, Outcome> {
        match self.step(steps).await {
            Ok(()) => Ok(Outcome::Committed),
            Err(Failure::Refused(why)) => {
                expect_conflict(&why);
                Ok(Outcome::RolledBack)
            }
            Err(Failure::Gone) => Err(Outcome::Unknown),
        }
    }

    async fn block(&mut self, steps: &mut Vec<Step>) -> Result<Outcome, Outcome> {
        let done = self.statements(steps).await;
        let end = match &done {
            Ok(()) if self.random.random_bool(0.95) => "COMMIT",
            Ok(()) | Err(Failure::Refused(_)) => "ROLLBACK",
            Err(Failure::Gone) => return Err(Outcome::RolledBack),
        };
        if let Err(Failure::Refused(why)) = &done {
            expect_conflict(why);
        }
        match self.client.batch_execute(end).await.map_err(Failure::from) {
            Ok(()) if end == "COMMIT" => Ok(Outcome::Committed),
            Ok(()) => Ok(Outcome::RolledBack),
            Err(Failure::Refused(why)) => {
                expect_conflict(&why);
                Ok(Outcome::RolledBack)
            }
            Err(Failure::Gone) if end == "COMMIT" => Err(Outcome::Unknown),
            Err(Failure::Gone) => Err(Outcome::RolledBack),
        }
    }

    async fn statements(&mut self, steps: &mut Vec<Step>) -> Result<(), Failure> {
        self.client.batch_execute("BEGIN").await?;
        for _ in 0..self.random.random_range(1..5) {
            self.step(steps).await?;
            if self.random.random_bool(0.1) {
                // What is done there counts as read and not as done.
                self.client.batch_execute("SAVEPOINT s").await?;
                let mut forgotten = Vec::new();
                self.step(&mut forgotten).await?;
                self.client.batch_execute("ROLLBACK TO s; RELEASE s").await?;
                steps.extend(forgotten.into_iter().filter(|step| matches!(step, Step::Read(..))));
            }
        }
        Ok(())
    }

    /// Appends, or reads a list or all lists of a table.
    async fn step(&mut self, steps: &mut Vec<Step>) -> Result<(), Failure> {
        let table = self.random.random_range(0..TABLES);
        let key = table * KEYS_OF_TABLE + self.random.random_range(0..KEYS_OF_TABLE);
        if self.random.random_bool(0.45) {
            let value = self.round.next_value.fetch_add(1, Ordering::SeqCst);
            // Whatever becomes of it, it may have been done.
            steps.push(Step::Append(key, value));
            let sql = format!("UPDATE l{table} SET list = list || '{value},' WHERE k = {key}");
            self.client.batch_execute(&sql).await?;
            return Ok(());
        }
        let only = match self.random.random_bool(0.2) {
            true => String::new(),
            false => format!("WHERE k = {key}"),
        };
        let sql = format!("SELECT k, list FROM l{table} {only}");
        for (key, list) in read(&self.client, &sql).await? {
            steps.push(Step::Read(key, list));
        }
        Ok(())
    }
}

async fn read(client: &Client, sql: &str) -> Result<BTreeMap<Key, Vec<Value>>, Failure> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let mut lists = BTreeMap::new();
    for row in rows {
        let key: Key = row.get(0).unwrap().parse().unwrap();
        let list = row.get(1).unwrap().split_terminator(',');
        let before = lists.insert(key, list.map(|value| value.parse().unwrap()).collect());
        assert_eq!(before, None, "a row is there twice: {sql}");
    }
    Ok(lists)
}

/// Empty lists for the next round.
async fn reset(client: &Client) {
    for table in 0..TABLES {
        let keys = (0..KEYS_OF_TABLE).map(|key| format!("({}, '')", table * KEYS_OF_TABLE + key));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS l{table} (k int, list varchar(65535)) DISTKEY (k);
             TRUNCATE l{table}; INSERT INTO l{table} VALUES {keys}"
        );
        for statement in sql.split(';') {
            client.batch_execute(statement).await.unwrap();
        }
    }
}

/// Runs sessions until the round is over, or until the server is killed at a random moment. A session
/// that loses its connection ends.
async fn run_sessions(
    cluster: &mut Cluster,
    round: &Arc<Round>,
    random: &mut StdRng,
    kills: bool,
) -> Vec<Transaction> {
    let mut tasks = Vec::new();
    for session in 0..SESSIONS {
        let worker = Worker {
            client: cluster.connect().await,
            random: StdRng::seed_from_u64(random.random()),
            round: Arc::clone(round),
            history: Vec::new(),
            maintains: session == 0,
        };
        tasks.push(tokio::spawn(worker.run()));
    }
    if kills {
        let at = random.random_range(0..OPERATIONS_OF_ROUND);
        while round.operations.load(Ordering::SeqCst) < at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.kill();
        // Whoever has not noticed yet need not begin another one.
        round.stops.store(true, Ordering::SeqCst);
    }
    let mut history = Vec::new();
    for task in tasks {
        history.extend(task.await.unwrap());
    }
    history
}

/// Counts of a run.
#[derive(Default, Debug)]
struct Counts {
    rounds: u64,
    kills: u64,
    operations: u64,
    committed: u64,
    rolled_back: u64,
    unknown: u64,
    /// Rounds in which snapshots showed what they may.
    write_skew: u64,
}

impl Counts {
    fn add(&mut self, round: &Round, history: &[Transaction]) {
        self.rounds += 1;
        self.operations += round.operations.load(Ordering::SeqCst);
        let of = |outcome| history.iter().filter(|txn| txn.outcome == outcome).count() as u64;
        self.committed += of(Outcome::Committed);
        self.rolled_back += of(Outcome::RolledBack);
        self.unknown += of(Outcome::Unknown);
    }
}

/// Runs rounds at a level and checks each. Several nodes are killed in the tests of clusters.
async fn run(level: &str, random: &mut StdRng, options: Options) -> Counts {
    let wanted = std::env::var("BLUESHIFT_HISTORY_OPERATIONS");
    let operations = wanted.map_or(OPERATIONS, |text| text.parse().unwrap());
    let is_one_node = options.arguments.is_empty();
    let mut cluster = Cluster::start_own(options);
    let client = cluster.connect().await;
    let alter = format!("ALTER DATABASE dev ISOLATION LEVEL {level}");
    client.batch_execute(&alter).await.unwrap();
    drop(client);
    let mut counts = Counts::default();
    while counts.operations < operations {
        reset(&cluster.connect().await).await;
        let round = Arc::new(Round {
            clock: AtomicU64::new(0),
            next_value: AtomicU32::new(1),
            operations: AtomicU64::new(0),
            stops: AtomicBool::new(false),
        });
        let kills = is_one_node && counts.rounds % ROUNDS_OF_KILL == 0;
        let mut history = run_sessions(&mut cluster, &round, random, kills).await;
        if kills {
            counts.kills += 1;
            cluster.restart();
            // The rest of the round, over what the restart has found.
            round.stops.store(false, Ordering::SeqCst);
            history.extend(run_sessions(&mut cluster, &round, random, false).await);
        }
        let client = cluster.connect().await;
        let mut end = BTreeMap::new();
        for table in 0..TABLES {
            let sql = format!("SELECT k, list FROM l{table}");
            end.extend(read(&client, &sql).await.unwrap_or_else(|_| panic!("{sql}")));
        }
        counts.add(&round, &history);
        let found = check(&history, &end);
        for found in &found {
            let allowed = level == "SNAPSHOT" && found.anomaly.is_allowed_to_snapshots();
            assert!(allowed, "{level}, {counts:?}: {:?}\n  {}", found.anomaly, found.text);
        }
        counts.write_skew += u64::from(!found.is_empty());
        if counts.rounds % 50 == 0 {
            eprintln!("{level}: {counts:?}");
        }
    }
    eprintln!("{level}: {counts:?}");
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_show_nothing_worse_than_write_skew() {
    let counts = run("SNAPSHOT", &mut seeded(), Options::default()).await;
    assert!(counts.committed > counts.rounds * 100, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serializable_transactions_show_no_anomaly() {
    let counts = run("SERIALIZABLE", &mut seeded(), Options::default()).await;
    assert!(counts.committed > counts.rounds * 100, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serializable_transactions_show_no_anomaly_on_three_nodes() {
    let arguments = ["--nodes", "3", "--slices", "2"].map(str::to_owned).to_vec();
    let options = Options { arguments, ..Options::default() };
    let counts = run("SERIALIZABLE", &mut seeded(), options).await;
    assert!(counts.committed > counts.rounds * 100, "{counts:?}");
}
