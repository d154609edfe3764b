//! Kills and power cuts of a server under work. Sessions change tables at random; the server dies, at
//! a named place of a commit or of a recovery or anywhere; it is started again; and it must have all
//! that was acknowledged, each transaction whole or not at all, and nothing else. The sessions go on
//! with what they found.
//!
//! ```text
//! BLUESHIFT_CRASH_KILLS     kills, of a leader or a node (72)
//! BLUESHIFT_CRASH_CUTS      power cuts of the disk of all processes (36)
//! BLUESHIFT_CRASH_NODES     nodes of the clusters, comma-separated (1,2)
//! BLUESHIFT_CRASH_FAILURES  failures after which the run ends (5)
//! BLUESHIFT_SEED            repeats a run as far as chance allows
//! BLUESHIFT_BINARY          the server, built with the feature `faults`
//! ```
//!
//! Where there are power cuts, servers are also started on a full disk first (`full_disk.rs`).
//!
//! The closing line is `N passed, N failed`, counting deaths and those starts. Power cuts and full disks
//! need root and a loop device.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test program, which compares the time of a file with that of the clock"
)]

mod disk;
mod full_disk;
mod inserter;
mod model;
#[path = "../support/object_store.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite, which uses all of it")]
mod object_store;
mod round;
mod server;
mod worker;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use full_disk::End;
use object_store::ObjectStore;
use round::{Death, Victim};

/// Deaths after which a new cluster is made, at most.
const DEATHS_OF_CLUSTER: usize = 60;

/// How the deaths went.
#[derive(Default)]
struct Tally {
    kills: usize,
    cuts: usize,
    /// Starts on a full disk.
    full: usize,
    failed: usize,
    /// By place; `anywhere` for those that chance has chosen.
    places: BTreeMap<String, usize>,
    acknowledged: u64,
    /// Work whose end nobody was told of: was there afterwards, or not.
    done: usize,
    undone: usize,
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS; // asked by nextest, which cannot run this suite
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tally = runtime.block_on(run());
    let tried = tally.kills + tally.cuts + tally.full;
    for (place, count) in &tally.places {
        println!("{count:6} {place}");
    }
    println!(
        "{} kills, {} power cuts; {} transactions acknowledged; of those that were cut off {} were \
         there and {} were not",
        tally.kills, tally.cuts, tally.acknowledged, tally.done, tally.undone
    );
    println!("{} passed, {} failed", tried - tally.failed, tally.failed);
    if tally.failed == 0 && tried > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wanted(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

async fn run() -> Tally {
    let (kills, cuts) = (wanted("BLUESHIFT_CRASH_KILLS", 72), wanted("BLUESHIFT_CRASH_CUTS", 36));
    let failures = wanted("BLUESHIFT_CRASH_FAILURES", 5);
    let nodes = std::env::var("BLUESHIFT_CRASH_NODES").unwrap_or_else(|_| "1,2".to_owned());
    let nodes: Vec<usize> = nodes.split(',').map(|count| count.parse().unwrap()).collect();
    let seed = wanted_seed();
    println!("seed {seed}: set BLUESHIFT_SEED to repeat");
    let mut random = StdRng::seed_from_u64(seed);
    let store = ObjectStore::start().await;
    for (at, text) in model::objects().into_iter().enumerate() {
        store.put(&format!("rows/{at}"), text);
    }
    round::check_that_it_can_die(&store);
    let mut tally = Tally::default();
    if cuts > 0 {
        start_on_full_disks(&mut tally).await;
    }
    let begun = Instant::now();
    let mut clusters = 0;
    while (tally.kills < kills || tally.cuts < cuts) && tally.failed < failures {
        let left = [kills - tally.kills.min(kills), cuts - tally.cuts.min(cuts)];
        let with_disk = random.random_range(0..left[0] + left[1]) >= left[0];
        let death = if with_disk { Death::Cut } else { Death::Kill };
        // Small runs see every kind of cluster too.
        let most = DEATHS_OF_CLUSTER.min(8 + (kills + cuts) / 10);
        let deaths = random.random_range(1..=most).min(left[usize::from(with_disk)]);
        let count = nodes[clusters % nodes.len()];
        clusters += 1;
        let mut victim = Victim::new(count, death, &store, random.next_u64());
        for _ in 0..deaths {
            let died = victim.round(&mut tally).await;
            match death {
                Death::Kill => tally.kills += 1,
                Death::Cut => tally.cuts += 1,
            }
            if let Err(complaint) = died {
                tally.failed += 1;
                println!("FAILED, {count} nodes, {death:?}: {complaint}\n{}", victim.last_words());
                victim.keep();
                break;
            }
        }
        if !victim.is_kept()
            && let Err(complaint) = victim.finish().await
        {
            tally.failed += 1;
            println!("FAILED, {count} nodes, {death:?}, at its end: {complaint}");
            victim.keep();
        }
        println!(
            "{:6} s: {} kills, {} cuts, {} failed",
            begun.elapsed().as_secs(),
            tally.kills,
            tally.cuts,
            tally.failed
        );
    }
    tally
}

async fn start_on_full_disks(tally: &mut Tally) {
    for end in [End::Stop, End::Kill] {
        tally.full += 1;
        match full_disk::check(end).await {
            Ok(()) => println!("a start on a full disk after {end:?}: right"),
            Err(complaint) => {
                tally.failed += 1;
                println!("FAILED, full disk after {end:?}: {complaint}");
            }
        }
    }
}

fn wanted_seed() -> u64 {
    match std::env::var("BLUESHIFT_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => rand::rng().next_u64(),
    }
}
