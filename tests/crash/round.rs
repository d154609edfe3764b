//! One death of a server, from the work before it to the look at what is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use faults::Place;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::Tally;
use crate::disk::Disk;
use crate::inserter::{INSERTED, INSERTERS, Inserted, insert};
use crate::model::{Model, SHARED, Table};
use crate::object_store::ObjectStore;
use crate::server::{Server, kill};
use crate::worker::{Shared, Told, Worker, look, observe, rows, shared_rows, steps};

/// Sessions that change tables.
pub(crate) const WORKERS: usize = 3;
const DISK_BYTES: u64 = 1 << 30;
/// How long work goes on at most before the death that comes at no named place.
const WORK_MAX: Duration = Duration::from_millis(600);
/// How long a named place may let wait for itself.
const PLACE_WAIT: Duration = Duration::from_millis(2500);
/// By how much the time of a file may be behind that of the clock.
const CLOCK_TICK: Duration = Duration::from_millis(12);
/// In which copies must be whole again.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
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
    inserted: Vec<Inserted>,
    seen: BTreeMap<usize, i64>,
    is_made: bool,
    /// When a node was killed while the others went on.
    killed: Option<SystemTime>,
}

impl Victim {
    /// One that has not run yet.
    pub(crate) fn new(nodes: usize, death: Death, store: &ObjectStore, seed: u64) -> Victim {
        let directory = tempfile::Builder::new().prefix("blueshift-crash-").tempdir().unwrap();
        let forgetful = seed.is_multiple_of(2);
        let disk =
            (death == Death::Cut).then(|| Disk::new(directory.path(), DISK_BYTES, forgetful));
        let data = disk.as_ref().map_or_else(|| directory.path(), Disk::path).join("data");
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
            inserted: Vec::new(),
            seen: BTreeMap::new(),
            is_made: false,
            killed: None,
        }
    }

    /// Leaves its files where they are.
    pub(crate) fn keep(&mut self) {
        self.server.kill();
        if let Some(directory) = self.directory.take() {
            println!("kept: {}", directory.keep().display());
        }
    }

    /// Whether its files were left.
    pub(crate) fn is_kept(&self) -> bool {
        self.directory.is_none()
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
        let place = match self.server.start(environment.as_slice()) {
            Ok(()) => self.work_and_die(armed.is_some(), tally).await?,
            // It died on the way.
            Err(_) if self.leader_mark() => self.read_mark(),
            Err(why) => return Err(format!("it does not start: {why}")),
        };
        self.end();
        let place = place.unwrap_or_else(|| match armed {
            Some(_) => "anywhere, the place was not reached".to_owned(),
            None => "anywhere".to_owned(),
        });
        *tally.places.entry(place).or_default() += 1;
        if let Some(line) = self.server.panic() {
            return Err(line);
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
             DROP TABLE IF EXISTS {INSERTED};
             CREATE TABLE {SHARED} (w int, n bigint, v bigint, s varchar(20)) DISTSTYLE EVEN;
             CREATE TABLE {INSERTED} (w int, n bigint) DISTSTYLE EVEN;
             CREATE TABLE progress (w int, step bigint) DISTSTYLE ALL;"
        );
        for worker in 0..WORKERS {
            sql.push_str(&format!("INSERT INTO progress VALUES ({worker}, 0);"));
            let mut model = Model::default();
            model.tables.insert(SHARED.to_owned(), Table::default());
            self.told.push(Told::new(model, 0));
        }
        self.inserted.resize_with(INSERTERS, Inserted::default);
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
            };
            workers.push(tokio::spawn(worker.run(address.clone(), Arc::clone(&shared))));
        }
        let mut inserters = Vec::new();
        if self.random.random_range(0..3) == 0 {
            for (inserter, told) in self.inserted.iter().enumerate() {
                let (address, shared) = (address.clone(), Arc::clone(&shared));
                let run = insert(inserter, told.acknowledged, address, shared);
                inserters.push(tokio::spawn(run));
            }
        }
        let observer = tokio::spawn(observe(address, Arc::clone(&shared)));
        let place = if armed { self.wait_for_place().await } else { self.wait_at_random().await };
        let node_died = place.is_some() && self.server.is_alive();
        let died =
            self.server.mark_time().or_else(|| self.killed.take()).unwrap_or_else(SystemTime::now);
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
        let observed = observer.await.map_err(|error| format!("the observer failed: {error}"))?;
        for (inserter, known) in inserters.into_iter().zip(&mut self.inserted) {
            *known = inserter.await.map_err(|error| format!("an inserter failed: {error}"))?;
        }
        let troubles = told.iter_mut().flat_map(|told| std::mem::take(&mut told.troubles));
        let troubles =
            troubles.chain(self.inserted.iter_mut().filter_map(|told| told.trouble.take()));
        // The clock of a file's times ticks slowly.
        let too_early = |(when, _): &(SystemTime, String)| *when + CLOCK_TICK < died;
        let early = troubles.chain(observed.trouble).find(too_early).map(|(_, trouble)| trouble);
        let complaints = told.iter_mut().filter_map(|told| told.complaint.take());
        let complaints =
            complaints.chain(self.inserted.iter_mut().filter_map(|told| told.complaint.take()));
        if let Some(complaint) = complaints.chain(observed.complaint).chain(early).next() {
            return Err(complaint);
        }
        self.told = told;
        self.seen = observed.steps;
        tally.acknowledged += shared.acknowledged.load(Ordering::Relaxed);
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

    /// Whether the leader is who died at its place.
    fn leader_mark(&self) -> bool {
        let text = std::fs::read_to_string(self.server.mark()).unwrap_or_default();
        text.split_whitespace().nth(1).and_then(|id| id.parse().ok()) == self.server.id()
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
            self.killed = Some(SystemTime::now());
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

    /// Lets it end in peace, with all copies where they have to be, and has everything checked.
    ///
    /// # Errors
    /// Tells what is damaged or missing.
    pub(crate) async fn finish(&mut self) -> Result<(), String> {
        if self.nodes > 1 {
            let client = self.client().await?;
            let lacking =
                "SELECT count(*) FROM stv_blueshift_replication WHERE under_replicated > 0";
            let deadline = Instant::now() + WHOLE_WITHIN;
            while rows(&client, lacking).await? != [["0"]] {
                if Instant::now() > deadline {
                    return Err("copies stay missing".to_owned());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.server.stop()?;
        self.server.damage().map_or(Ok(()), |damage| Err(format!("verify says: {damage}")))
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
        let mut shared = 0;
        for worker in 0..WORKERS {
            let found = look(&client, worker).await?;
            shared += found.tables[SHARED].rows.len() as u64;
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
        for (inserter, told) in self.inserted.iter_mut().enumerate() {
            match told.compare(&client, inserter).await? {
                Some(true) => tally.done += 1,
                Some(false) => tally.undone += 1,
                None => {}
            }
        }
        let (counted, read) = shared_rows(&client).await?;
        if (counted, read) != (shared, shared) {
            return Err(format!(
                "{SHARED} has {read} rows, counts {counted}, and should have {shared}"
            ));
        }
        Ok(())
    }
}

/// A server that knows no places would never die at one, and nobody would notice.
pub(crate) fn check_that_it_can_die(store: &ObjectStore) {
    let mut victim = Victim::new(1, Death::Kill, store, 0);
    let nowhere = ("BLUESHIFT_FAULT_KILL", "nowhere:1".to_owned());
    let started = victim.server.start(&[nowhere]);
    assert!(started.is_err(), "BLUESHIFT_BINARY is built without the feature faults");
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
