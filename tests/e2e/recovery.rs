//! kill -9 during COPY, then a restart: what was acknowledged is there and whole, what was not is
//! there whole or not at all, and the server is ready for more.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::support::cluster::{Cluster, Options, bytes_below};
use crate::support::object_store::ObjectStore;

const KILLS: usize = 50;
const ROWS: i64 = 60_000;

/// What a batch's COPY told its client before the kill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Loaded,
    Nothing,
}

#[tokio::test]
async fn fifty_kills_during_copy_lose_nothing_and_leave_nothing_half_done() {
    let mut random = seeded();
    let store = ObjectStore::start().await;
    let options = Options { environment: store.environment(), ..Options::default() };
    let mut cluster = Cluster::start_own(options);
    let create = "CREATE TABLE t (batch bigint, n bigint, word varchar(20)) DISTKEY(n) SORTKEY(n)";
    cluster.connect().await.batch_execute(create).await.unwrap();

    // One COPY to its end tells how long the points of a kill have to be spread.
    let begun = Instant::now();
    assert_eq!(copy(&cluster, &store, 0).await, Told::Loaded);
    let whole = begun.elapsed();
    let mut told = vec![Told::Loaded];
    for batch in 1..=KILLS {
        let delay = whole.mul_f64(random.random_range(0.0..1.3));
        told.push(copy_and_kill(&mut cluster, &store, batch, delay).await);
        cluster.restart();
        check(&cluster, &told).await;
    }
    let loaded = told.iter().filter(|told| **told == Told::Loaded).count();
    eprintln!("{KILLS} kills, {loaded} of {} copies were acknowledged", told.len());

    // Files of copies that never committed do not pile up.
    assert_eq!(copy(&cluster, &store, KILLS + 1).await, Told::Loaded);
    told.push(Told::Loaded);
    check(&cluster, &told).await;
    assert_eq!(cluster.stop().code(), Some(0));
    cluster.restart();
    check(&cluster, &told).await;
    let bytes = bytes_below(&cluster.data_directory());
    let written_at_most = (KILLS as u64 + 2) * ROWS.unsigned_abs() * 40;
    assert!(bytes < written_at_most, "{bytes} bytes on disk");
}

/// Random numbers whose seed is printed and can be set.
pub(crate) fn seeded() -> StdRng {
    let seed = match std::env::var("BLUESHIFT_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => rand::rng().next_u64(),
    };
    eprintln!("seed {seed}: set BLUESHIFT_SEED to repeat");
    StdRng::seed_from_u64(seed)
}

/// Starts the COPY of a batch, kills the server after the delay, and tells what the client heard.
async fn copy_and_kill(
    cluster: &mut Cluster,
    store: &ObjectStore,
    batch: usize,
    delay: Duration,
) -> Told {
    let told = {
        let copy = copy(cluster, store, batch);
        let mut copy = std::pin::pin!(copy);
        tokio::select! {
            told = &mut copy => Some(told),
            () = tokio::time::sleep(delay) => None,
        }
    };
    cluster.kill();
    told.unwrap_or(Told::Nothing)
}

async fn copy(cluster: &Cluster, store: &ObjectStore, batch: usize) -> Told {
    let text: String = (0..ROWS).map(|n| format!("{batch}|{n}|word {}\n", n % 977)).collect();
    let (first, second) = text.split_at(text.len() / 2);
    let cut = second.find('\n').unwrap() + 1;
    store.put(&format!("b{batch}/1.tbl"), format!("{first}{}", &second[..cut]));
    store.put(&format!("b{batch}/2.tbl"), &second[cut..]);
    let client = cluster.connect().await;
    let sql = format!("COPY t FROM 's3://load/b{batch}/' {}", store.keys());
    match client.batch_execute(&sql).await {
        Ok(()) => Told::Loaded,
        Err(_) => Told::Nothing,
    }
}

/// Every batch is whole or absent, and those that were acknowledged are whole.
async fn check(cluster: &Cluster, told: &[Told]) {
    let client = cluster.connect().await;
    let sql = "SELECT batch, count(*), sum(n)::bigint, min(n), max(n), count(DISTINCT word)
        FROM t GROUP BY batch ORDER BY batch";
    let rows = client.query(sql, &[]).await.unwrap();
    let mut present = vec![false; told.len()];
    for row in &rows {
        let batch = usize::try_from(row.get::<_, i64>(0)).unwrap();
        let found: [i64; 5] = [1, 2, 3, 4, 5].map(|column| row.get(column));
        let whole = [ROWS, ROWS * (ROWS - 1) / 2, 0, ROWS - 1, 977];
        assert_eq!(found, whole, "batch {batch} is neither whole nor absent");
        present[batch] = true;
    }
    for (batch, told) in told.iter().enumerate() {
        assert!(present[batch] || *told == Told::Nothing, "batch {batch} was acknowledged");
    }
}

/// What the tables hold, as far as clients were told.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    /// Rows of the table `grown`.
    grown: i64,
    /// The numbers of the tables `made_N`.
    made: Vec<u32>,
}

impl Model {
    /// A statement that changes something, and the model after it.
    fn next(&self, random: &mut StdRng, step: u32) -> (String, Model) {
        let mut after = self.clone();
        let statement = match random.random_range(0..5) {
            0 => {
                after.grown = 0;
                "TRUNCATE TABLE grown".to_owned()
            }
            1 if !self.made.is_empty() => {
                let victim = after.made.remove(random.random_range(0..after.made.len()));
                format!("DROP TABLE made_{victim}")
            }
            2 => {
                after.made.push(step);
                format!("CREATE TABLE made_{step} AS SELECT a.d AS x FROM digits a, digits b")
            }
            3 => {
                after.made.push(step);
                after.grown += 10;
                format!(
                    "BEGIN; CREATE TABLE made_{step} (x bigint); INSERT INTO made_{step} \
                     SELECT a.d FROM digits a, digits b; INSERT INTO grown SELECT d FROM digits; \
                     COMMIT"
                )
            }
            _ => {
                after.grown += 10_000;
                "INSERT INTO grown SELECT a.d FROM digits a, digits b, digits c, digits d"
                    .to_owned()
            }
        };
        (statement, after)
    }

    /// What the server holds now.
    async fn observe(client: &tokio_postgres::Client, tables_max: u32) -> Model {
        let row = client.query_one("SELECT count(*) FROM grown", &[]).await.unwrap();
        let mut made = Vec::new();
        for number in 0..=tables_max {
            let sql = format!("SELECT count(*), sum(x)::bigint FROM made_{number}");
            match client.query_one(&sql, &[]).await {
                Ok(row) => {
                    let found = (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1));
                    assert_eq!(found, (100, Some(450)), "made_{number} is not whole");
                    made.push(number);
                }
                Err(error) => assert_eq!(error.code().unwrap().code(), "42P01", "{error:?}"),
            }
        }
        Model { grown: row.get(0), made }
    }
}

#[tokio::test]
async fn kills_during_other_statements_leave_the_state_before_or_after() {
    const STEPS: u32 = 25;
    let mut random = seeded();
    let mut cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    crate::native::digits(&client).await;
    client.batch_execute("CREATE TABLE grown (x bigint) DISTSTYLE EVEN").await.unwrap();
    let mut before = Model { grown: 0, made: Vec::new() };
    for step in 0..STEPS {
        let (statement, after) = before.next(&mut random, step);
        let client = cluster.connect().await;
        let delay = Duration::from_micros(random.random_range(0..60_000));
        let acknowledged = tokio::select! {
            result = client.batch_execute(&statement) => result.is_ok(),
            () = tokio::time::sleep(delay) => false,
        };
        cluster.kill();
        cluster.restart();
        let found = Model::observe(&cluster.connect().await, STEPS).await;
        let right = found == after || !acknowledged && found == before;
        assert!(right, "{statement} (acknowledged: {acknowledged}): {found:?}, before {before:?}");
        before = found;
    }
}
