//! One death of a server, from the work before it to the look at what is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use faults::Place;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::Tally;
use crate::disk::Disk;
use crate::model::{Model, SHARED, Table};
use crate::object_store::ObjectStore;
use crate::server::{Server, kill};
use crate::worker::{Shared, Told, Worker, look, observe, steps};

const WORKERS: usize = 3;
const DISK_BYTES: u64 = 1 << 30;
/// How long work goes on at most before the death that comes at no named place.
const WORK_MAX: Duration = Duration::from_millis(600);
/// How long a named place may let wait for itself.
const PLACE_WAIT: Duration = Duration::from_millis(2500);
/// Passes of a place before the one that counts, at most.
const PASSES_MAX: u64 = 40;

/// How a cluster's processes die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// By SIGKILL: what they wrote is there.
    Kill,
    /// By a power cut: what they synced is there.
    Cut,
}

/// A server that dies, and what its sessions know.
pub(crate) struct Victim {
    server: Server,
    nodes: usize,
    death: Death,
    disk: Option<Disk>,
    directory: Option<TempDir>,
    keys: Arc<str>,
    random: StdRng,
    told: Vec<Told>,
    seen: BTreeMap<usize, i64>,
    is_made: bool,
}

impl Victim {
    /// One that has not run yet.
    pub(crate) fn new(nodes: usize, death: Death, store: &ObjectStore, seed: u64) -> Victim {
        let directory = tempfile::Builder::new().prefix("blueshift-crash-").tempdir().unwrap();
        let disk = (death == Death::Cut).then(|| Disk::new(directory.path(), DISK_BYTES));
        let data = disk.as_ref().map_or(directory.path(), Disk::path).join("data");
        let mut arguments = vec!["--slices".to_owned(), "2".to_owned()];
        if nodes > 1 {
            arguments.extend(["--nodes".to_owned(), nodes.to_string()]);
        }
        let server = Server::new(data, directory.path(), arguments, store.environment());
        Victim {
            server,
            nodes,
            death,
            disk,
            directory: Some(directory),
            keys: store.keys().into(),
            random: StdRng::seed_from_u64(seed),
            told: Vec::new(),
            seen: BTreeMap::new(),
            is_made: false,
        }
    }

    /// Leaves its files where they are.
    pub(crate) fn keep(&mut self) {
        self.server.kill();
        if let Some(directory) = self.directory.take() {
            println!("kept: {}", directory.keep().display());
        }
    }

    pub(crate) fn last_words(&self) -> String {
        self.server.last_words()
    }

    /// Works, dies, starts again and compares.
    ///
    /// # Errors
    /// Tells what is wrong.
    pub(crate) async fn round(&mut self, tally: &mut Tally) -> Result<(), String> {
        self.server.clear_log();
        let mut armed = None;
        if !self.is_made {
            self.make().await?;
        } else if self.random.random_range(0..10) < 7 {
            armed = Some(self.place());
        }
        let environment = armed
            .map(|(place, passes)| ("BLUESHIFT_FAULT_KILL", format!("{}:{passes}", place.name())));
        if self.server.is_started() {
            self.end();
        }
        let started = self.server.start(environment.as_slice());
        if started.is_err() && !self.server.mark().exists() {
            return started.map_err(|why| format!("it does not start: {why}"));
        }
        let place = match started {
            Ok(()) => self.work_and_die(armed.is_some(), tally).await?,
            // It died on the way.
            Err(_) => self.read_mark(),
        };
        self.end();
        *tally.places.entry(place.unwrap_or_else(|| "anywhere".to_owned())).or_default() += 1;
        for told in &self.told {
            if let Some(complaint) = &told.complaint {
                return Err(complaint.clone());
            }
        }
        self.die_starting();
        // A node that died lacks what it has not copied since: only of one node all is there at once.
        if self.nodes == 1
            && self.random.random_range(0..8) == 0
            && let Some(damage) = self.server.damage()
        {
            return Err(format!("verify says: {damage}"));
        }
        self.server.start(&[]).map_err(|why| format!("it does not start again: {why}"))?;
        self.compare(tally).await
    }

    /// A place to die at, and the passes of it until then.
    fn place(&mut self) -> (Place, u64) {
        let alone = self.nodes == 1;
        loop {
            let place = Place::ALL[self.random.random_range(0..Place::ALL.len())];
            let only_nodes =
                matches!(place, Place::CopyReceived | Place::CopyDurable | Place::CatalogCopied);
            let only_alone = matches!(place, Place::StartRead | Place::StartSwept);
            if alone && only_nodes || !alone && only_alone {
                continue;
            }
            let most = match place {
                Place::StartRead | Place::StartSwept => 1,
                Place::VacuumWritten | Place::IdsNoted => 3,
                _ => PASSES_MAX,
            };
            // The first passes are tried more often.
            let bound = self.random.random_range(1..=most);
            return (place, self.random.random_range(1..=bound));
        }
    }

    /// Makes the tables of all workers. The very first start may die too.
    async fn make(&mut self) -> Result<(), String> {
        if self.random.random_range(0..3) == 0 {
            let time = Duration::from_millis(self.random.random_range(1..400));
            self.server.start_for(time);
            self.cut_and_restore();
        }
        self.server.start(&[]).map_err(|why| format!("it does not start anew: {why}"))?;
        let client = self.client().await?;
        let mut sql = format!(
            "DROP TABLE IF EXISTS {SHARED}; DROP TABLE IF EXISTS progress;
             CREATE TABLE {SHARED} (w int, n bigint, v bigint, s varchar(20)) DISTSTYLE EVEN;
             CREATE TABLE progress (w int, step bigint) DISTSTYLE ALL;"
        );
        for worker in 0..WORKERS {
            sql.push_str(&format!("INSERT INTO progress VALUES ({worker}, 0);"));
            let mut model = Model::default();
            model.tables.insert(SHARED.to_owned(), Table::default());
            self.told.push(Told { before: model, after: None, next_name: 0, complaint: None });
        }
        client.batch_execute(&sql).await.map_err(|error| format!("{error:?}"))?;
        self.is_made = true;
        Ok(())
    }

    async fn client(&self) -> Result<Client, String> {
        self.server.connect().await.map_err(|error| format!("no session: {error:?}"))
    }

    /// Has sessions work until the server dies; where it did, if that has a name.
    async fn work_and_die(
        &mut self,
        armed: bool,
        tally: &mut Tally,
    ) -> Result<Option<String>, String> {
        let shared = Arc::new(Shared::default());
        let address = self.server.address();
        let mut workers = Vec::new();
        for (number, told) in self.told.iter().enumerate() {
            let worker = Worker {
                number,
                model: told.before.clone(),
                next_name: told.next_name,
                seed: self.random.next_u64(),
                keys: Arc::clone(&self.keys),
                errors_expected: self.nodes > 1 || self.death == Death::Cut,
            };
            workers.push(tokio::spawn(worker.run(address.clone(), Arc::clone(&shared))));
        }
        let observer = tokio::spawn(observe(address, Arc::clone(&shared)));
        let place = if armed { self.wait_for_place().await } else { self.wait_at_random().await };
        let node_died = place.is_some() && self.server.is_alive();
        if node_died && self.death == Death::Kill {
            // The others go on.
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..500))).await;
        }
        if let Some(disk) = &self.disk {
            shared.is_cut.store(true, Ordering::SeqCst);
            disk.cut();
            self.server.kill();
        } else if place.is_none() && self.random.random() {
            // Of several nodes, the old ones may still be there when the next leader starts.
            self.server.kill_leader();
        } else {
            self.server.kill();
        }
        shared.stops.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        for worker in workers {
            told.push(worker.await.map_err(|error| format!("a worker failed: {error}"))?);
        }
        self.told = told;
        tally.acknowledged += shared.acknowledged.load(Ordering::Relaxed);
        self.seen = observer.await.map_err(|error| format!("the observer failed: {error}"))?;
        Ok(place)
    }

    /// Waits until a process has died at its place.
    async fn wait_for_place(&mut self) -> Option<String> {
        let deadline = Instant::now() + PLACE_WAIT;
        while Instant::now() < deadline {
            if let Some(place) = self.read_mark() {
                return Some(place);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }

    fn read_mark(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.server.mark()).ok()?;
        Some(text.split_whitespace().next()?.to_owned())
    }

    /// Waits for a while; of several nodes one may die then.
    async fn wait_at_random(&mut self) -> Option<String> {
        tokio::time::sleep(self.random.random_range(Duration::ZERO..WORK_MAX)).await;
        let nodes = self.server.nodes();
        if self.death == Death::Kill && !nodes.is_empty() && self.random.random() {
            kill(nodes[self.random.random_range(0..nodes.len())]);
            return Some("a node, anywhere".to_owned());
        }
        None
    }

    /// Ends all processes, with the power if that is how they die.
    fn end(&mut self) {
        if let Some(disk) = &self.disk {
            disk.cut();
        }
        self.server.kill();
        if let Some(disk) = &mut self.disk {
            disk.restore();
        }
    }

    /// What a recovery has done does not matter to the next one.
    fn die_starting(&mut self) {
        while self.random.random_range(0..3) == 0 {
            let time = Duration::from_millis(self.random.random_range(1..250));
            self.server.start_for(time);
            self.cut_and_restore();
        }
    }

    fn cut_and_restore(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.cut();
            disk.restore();
        }
    }

    /// Compares what is there with what was told. What is there is what the next round begins with.
    async fn compare(&mut self, tally: &mut Tally) -> Result<(), String> {
        let client = self.client().await?;
        let steps = steps(&client).await?;
        for (worker, seen) in &self.seen {
            let there = steps.get(worker).copied().unwrap_or(-1);
            if there < *seen {
                return Err(format!(
                    "somebody saw step {seen} of worker {worker}, and {there} is there"
                ));
            }
        }
        self.seen.clear();
        for worker in 0..WORKERS {
            let found = look(&client, worker, &self.told[worker]).await?;
            let told = &mut self.told[worker];
            match told.after.take() {
                // What changes nothing tells nothing.
                None if told.before == found => {}
                Some(work) if told.before == found => {
                    tally.undone += usize::from(work.after != found);
                }
                Some(work) if work.after == found => {
                    tally.done += 1;
                    told.before = work.after;
                }
                after => {
                    let mut text = format!("worker {worker}: {}", difference(&told.before, &found));
                    if let Some(work) = after {
                        let other = difference(&work.after, &found);
                        text.push_str(&format!("; after {:?}: {other}", work.statements));
                    }
                    return Err(text);
                }
            }
        }
        Ok(())
    }
}

/// Where two models differ first.
fn difference(expected: &Model, found: &Model) -> String {
    if expected.step != found.step {
        return format!("step {} is there, not {}", found.step, expected.step);
    }
    for (name, table) in &expected.tables {
        let Some(other) = found.tables.get(name) else { return format!("{name} is not there") };
        if table.added != other.added {
            return format!("{name} has {} more columns, not {}", other.added, table.added);
        }
        for (key, values) in &table.rows {
            if other.rows.get(key) != Some(values) {
                let is = other.rows.get(key);
                return format!("{name}, row {key}: {is:?} is there, not {values:?}");
            }
        }
        if let Some(key) = other.rows.keys().find(|key| !table.rows.contains_key(key)) {
            return format!("{name} has a row {key}");
        }
    }
    let more: Vec<&String> =
        found.tables.keys().filter(|name| !expected.tables.contains_key(*name)).collect();
    format!("{more:?} is there")
}
