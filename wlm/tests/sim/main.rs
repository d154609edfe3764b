//! The simulation of workload management: random configurations, random arrivals, reconfigurations,
//! cancels, lost nodes, panics, moves and restarts, with every promise checked after every event.
//!
//! A *world* is one scheduler with its cluster. Worlds are independent: world `i` of a run with
//! seed `s` has the seed `s + i`, so a failed world is run again alone with
//! `BLUESHIFT_SEED=<its seed> BLUESHIFT_SIM_ARRIVALS=1`.
//!
//! * `BLUESHIFT_SEED`: the seed; by default another one each time. It is printed.
//! * `BLUESHIFT_SIM_ARRIVALS`: how many queries arrive in all; the default takes a few seconds.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helper functions of tests; a panic shows the line"
)]

mod configs;
mod judge;
mod model;
mod random;
mod world;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world::{Totals, World};

const ARRIVALS_DEFAULT: u64 = 60_000;

/// One world in so many has a twin that is told the same and must answer the same.
const TWIN_EVERY: u64 = 16;

#[test]
fn every_promise_holds_whatever_happens() {
    let seed =
        setting("BLUESHIFT_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let arrivals = setting("BLUESHIFT_SIM_ARRIVALS").unwrap_or(ARRIVALS_DEFAULT);
    println!("BLUESHIFT_SEED={seed} BLUESHIFT_SIM_ARRIVALS={arrivals}");

    let (next, arrived, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals = std::thread::scope(|scope| {
        let work = || {
            let mut totals = Totals::default();
            while arrived.load(Ordering::Relaxed) < arrivals && !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let world_seed = seed.wrapping_add(index);
                let run = || World::new(world_seed, world_seed % TWIN_EVERY == 0).run();
                let Ok(world) = catch_unwind(AssertUnwindSafe(run)) else {
                    println!("failed: BLUESHIFT_SEED={world_seed} BLUESHIFT_SIM_ARRIVALS=1");
                    failed.store(true, Ordering::Relaxed);
                    break;
                };
                arrived.fetch_add(world.arrivals, Ordering::Relaxed);
                totals.add(&world);
            }
            totals
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut totals = Totals::default();
        for thread in threads {
            totals.add(&thread.join().unwrap());
        }
        totals
    });
    println!("{totals:#?}");
    assert!(!failed.load(Ordering::Relaxed), "a world failed, see above");
    if arrivals >= ARRIVALS_DEFAULT {
        totals.assert_everything_happened();
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}
