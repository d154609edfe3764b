//! DELETE, UPDATE, MERGE and VACUUM: random statements against a model, conflicts of sessions, and
//! kill -9 in the middle.

mod automatic;
mod conflicts;
mod identity;
mod kills;
mod rearranged;
mod serializable;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options};

/// Random steps of a normal run; `BLUESHIFT_CHANGES_STEPS` sets another number.
const STEPS: usize = 150;

/// The number of rows that a statement says it changed, or its SQLSTATE.
async fn change(client: &Client, sql: &str) -> Result<u64, String> {
    let messages = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
        Some(error) => error.code().code().to_owned(),
        None => panic!("{sql}: {error}"),
    })?;
    let count = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::CommandComplete(count) => Some(*count),
        _ => None,
    };
    Ok(messages.iter().rev().find_map(count).unwrap_or(0))
}

async fn changes(client: &Client, sql: &str) -> u64 {
    change(client, sql).await.unwrap_or_else(|code| panic!("{sql}: {code}"))
}

/// The rows of a query, each as text.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL"));
            Some(values.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    messages.iter().filter_map(text).collect()
}

/// Rows of `t (id, v, w)` by id, which is unique; `w` is made of `v`.
type Rows = BTreeMap<i64, Option<i64>>;

/// What the table holds, by arithmetic of our own.
struct Model {
    rows: Rows,
    /// The rows at BEGIN, and at each savepoint.
    saved: Vec<Rows>,
    next_id: i64,
}

fn word(v: Option<i64>) -> String {
    v.map_or_else(|| "none".to_owned(), |v| format!("w{}", v.rem_euclid(17)))
}

impl Model {
    /// A random statement about the rows, and how many it changes.
    fn step(&mut self, random: &mut StdRng) -> (String, Option<u64>) {
        let (m, r) = (random.random_range(2..40), random.random_range(0..40));
        let hits = |id: &i64| id % m == r % m;
        match random.random_range(0..12) {
            0..=2 => self.insert(random),
            3 | 4 => {
                let before = self.rows.len();
                self.rows.retain(|id, _| !hits(id));
                let sql = format!("DELETE FROM t WHERE id % {m} = {}", r % m);
                (sql, Some((before - self.rows.len()) as u64))
            }
            5..=7 => {
                let add = random.random_range(-50..50);
                let mut count = 0;
                for (_, v) in self.rows.iter_mut().filter(|(id, _)| hits(id)) {
                    *v = v.map(|v| v + add);
                    count += 1;
                }
                let word = format!(
                    "CASE WHEN v IS NULL THEN 'none' ELSE 'w' || MOD(v + {add} + 17000, 17) END"
                );
                let sql =
                    format!("UPDATE t SET v = v + {add}, w = {word} WHERE id % {m} = {}", r % m);
                (sql, Some(count))
            }
            8 => {
                // Ids move, and with them rows to other slices.
                let shift = 1_000_000;
                let moved: Vec<i64> =
                    self.rows.keys().copied().filter(|id| hits(id) && *id < shift).collect();
                for id in &moved {
                    let v = self.rows.remove(id).unwrap();
                    self.rows.insert(id + shift, v);
                }
                let sql = format!(
                    "UPDATE t SET id = id + {shift} WHERE id % {m} = {} AND id < {shift}",
                    r % m
                );
                (sql, Some(moved.len() as u64))
            }
            9 => {
                // Each row matches several of `digits`.
                let (low, new) = (random.random_range(0..10), random.random_range(0..1000));
                let mut count = 0;
                for (_, v) in self.rows.iter_mut().filter(|(id, _)| *id % 10 < low) {
                    *v = Some(new);
                    count += 1;
                }
                let sql = format!(
                    "UPDATE t SET v = {new}, w = '{}' FROM digits a, digits b \
                     WHERE a.d = t.id % 10 AND a.d < {low} AND b.d < 3",
                    word(Some(new))
                );
                (sql, Some(count))
            }
            10 => {
                let low = random.random_range(0..10);
                let before = self.rows.len();
                self.rows.retain(|id, v| !(id % 10 >= low && v.is_some_and(|v| v % 3 == 0)));
                let sql = format!(
                    "DELETE FROM t USING digits a, digits b \
                     WHERE a.d = t.id % 10 AND a.d >= {low} AND b.d < 2 AND t.v % 3 = 0"
                );
                (sql, Some((before - self.rows.len()) as u64))
            }
            _ => {
                let max = self.rows.values().filter_map(|v| *v).max();
                let before = self.rows.len();
                self.rows.retain(|_, v| v.is_none() || *v != max);
                let sql = "DELETE FROM t WHERE v = (SELECT max(v) FROM t)".to_owned();
                (sql, Some((before - self.rows.len()) as u64))
            }
        }
    }

    fn insert(&mut self, random: &mut StdRng) -> (String, Option<u64>) {
        let count = *[1, 3, 40].get(random.random_range(0..3)).unwrap();
        let mut values = Vec::new();
        for _ in 0..count {
            self.next_id += 1;
            let v = random.random_bool(0.9).then(|| random.random_range(-500..500));
            self.rows.insert(self.next_id, v);
            let text = v.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
            values.push(format!("({}, {text}, '{}')", self.next_id, word(v)));
        }
        (format!("INSERT INTO t VALUES {}", values.join(", ")), Some(count))
    }

    /// A random statement about the transaction.
    fn transaction(&mut self, random: &mut StdRng) -> String {
        if self.saved.is_empty() {
            self.saved.push(self.rows.clone());
            return "BEGIN".to_owned();
        }
        match random.random_range(0..6) {
            0 | 1 => {
                self.saved.push(self.rows.clone());
                format!("SAVEPOINT s{}", self.saved.len() - 1)
            }
            2 if self.saved.len() > 1 => {
                let depth = random.random_range(1..self.saved.len());
                self.rows = self.saved[depth].clone();
                self.saved.truncate(depth + 1);
                format!("ROLLBACK TO s{depth}")
            }
            3 => {
                self.rows = self.saved.swap_remove(0);
                self.saved.clear();
                "ROLLBACK".to_owned()
            }
            _ => {
                self.saved.clear();
                "COMMIT".to_owned()
            }
        }
    }

    fn maintenance(random: &mut StdRng) -> &'static str {
        ["VACUUM t", "VACUUM DELETE ONLY t TO 100 PERCENT", "VACUUM SORT ONLY t TO 100 PERCENT"]
            [random.random_range(0..3)]
    }

    /// Compares all rows, and what statistics may answer.
    async fn check(&self, client: &Client, after: &str) {
        let expected: Vec<String> = self
            .rows
            .iter()
            .map(|(id, v)| {
                let text = v.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
                format!("{id}|{text}|{}", word(*v))
            })
            .collect();
        let found = rows(client, "SELECT id, v, w FROM t ORDER BY id").await;
        assert!(
            found == expected,
            "after {after}: {} rows, expected {}",
            found.len(),
            expected.len()
        );
        let text = |v: Option<i64>| v.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
        let values = || self.rows.values().filter_map(|v| *v);
        let expected = format!(
            "{}|{}|{}|{}|{}|{}",
            self.rows.len(),
            values().count(),
            text(self.rows.keys().next().copied()),
            text(self.rows.keys().next_back().copied()),
            text(values().min()),
            text(values().max()),
        );
        let sql = "SELECT count(*), count(v), min(id), max(id), min(v), max(v) FROM t";
        assert_eq!(rows(client, sql).await, [expected], "after {after}");
    }
}

/// Random statements on one table, each compared with the model.
async fn follow(cluster: &Cluster, attributes: &str, seed: u64) {
    let wanted = std::env::var("BLUESHIFT_CHANGES_STEPS");
    let steps = wanted.map_or(STEPS, |text| text.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let client = cluster.connect().await;
    let create = format!("CREATE TABLE t (id bigint, v bigint, w varchar(10)) {attributes}");
    client.batch_execute(&format!("DROP TABLE IF EXISTS t; {create}")).await.unwrap();
    let mut model = Model { rows: Rows::new(), saved: Vec::new(), next_id: 0 };
    for step in 0..steps {
        let sql = if random.random_bool(0.3) {
            let sql = model.transaction(&mut random);
            changes(&client, &sql).await;
            sql
        } else if model.saved.is_empty() && random.random_bool(0.12) {
            let sql = Model::maintenance(&mut random).to_owned();
            changes(&client, &sql).await;
            sql
        } else {
            let (sql, count) = model.step(&mut random);
            let told = changes(&client, &sql).await;
            assert!(
                count.is_none_or(|count| count == told),
                "{attributes} {sql}: {told} {count:?}"
            );
            sql
        };
        model.check(&client, &format!("step {step} {attributes}: {sql}")).await;
    }
    if !model.saved.is_empty() {
        changes(&client, "COMMIT").await;
    }
    model.check(&cluster.connect().await, "the end").await;
}

const STYLES: [&str; 4] = [
    "DISTKEY (id) SORTKEY (v)",
    "DISTSTYLE EVEN",
    "DISTSTYLE ALL SORTKEY (id)",
    "DISTKEY (v) SORTKEY (w, id)",
];

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_follow_a_model() {
    let mut random = seeded();
    let cluster = Cluster::start();
    crate::native::digits(&cluster.connect().await).await;
    for attributes in STYLES {
        follow(&cluster, attributes, random.random()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_follow_a_model_on_three_nodes() {
    let mut random = seeded();
    let arguments = ["--nodes", "3", "--slices", "2"].map(str::to_owned).to_vec();
    let cluster = Cluster::start_own(Options { arguments, ..Options::default() });
    crate::native::digits(&cluster.connect().await).await;
    for attributes in STYLES {
        follow(&cluster, attributes, random.random()).await;
    }
}
