//! The network between the processes is cut: whoever waits for the other side gets an error within
//! seconds, or the whole answer, and never a short one; when it is back, so is the cluster.

use std::time::{Duration, Instant};

use rand::Rng;

use super::kills::QUERIES;
use crate::recovery::seeded;
use crate::support::network::{Host, HostCluster};
use crate::support::program::{self, Finished};

/// Cuts of a normal run; `BLUESHIFT_NETWORK_CUTS` sets another number.
const CUTS: usize = 6;
const NODES: usize = 2;
/// A query that hangs this long after the cut hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Cut {
    Host(Host),
    Between(Host, Host),
}

impl Cut {
    fn make(self, cluster: &HostCluster) {
        match self {
            Cut::Host(host) => cluster.cut(host),
            Cut::Between(one, other) => cluster.cut_between(one, other),
        }
    }

    fn heal(self, cluster: &HostCluster) {
        match self {
            Cut::Host(host) => cluster.heal(host),
            Cut::Between(one, other) => cluster.heal_between(one, other),
        }
    }
}

#[test]
fn a_cut_network_gives_an_error_in_seconds_and_never_a_short_answer() {
    let wanted = std::env::var("BLUESHIFT_NETWORK_CUTS");
    let wanted = wanted.map_or(CUTS, |text| text.parse().unwrap());
    let mut random = seeded();
    let cluster = HostCluster::start(NODES);
    make_numbers(&cluster);
    let cuts = [
        Cut::Host(Host::Node(0)),
        Cut::Between(Host::Node(0), Host::Node(1)),
        Cut::Host(Host::Node(1)),
        Cut::Between(Host::Leader, Host::Node(1)),
        Cut::Host(Host::Leader),
    ];
    let (mut errors, mut answers, mut slowest) = (0, 0, Duration::ZERO);
    for number in 0..wanted {
        let (sql, expected) = QUERIES[random.random_range(0..QUERIES.len())];
        let begun = Instant::now();
        assert_eq!(ask(&cluster, sql).expect_success().trim(), expected, "{sql}");
        let delay = begun.elapsed().mul_f64(random.random_range(0.2..0.9));
        let running = program::start(cluster.psql().args(["-c", sql]), "");
        std::thread::sleep(delay);
        let cut = cuts[number % cuts.len()];
        cut.make(&cluster);
        let since = Instant::now();
        let finished = running.finish();
        let waited = since.elapsed();
        cut.heal(&cluster);
        assert!(waited < ANSWER_WITHIN, "{cut:?}, {sql}: {waited:?}");
        slowest = slowest.max(waited);
        if finished.status.success() {
            assert_eq!(finished.stdout.trim(), expected, "{cut:?}, {sql}");
            answers += 1;
        } else {
            let is_clear =
                ["08006", "57P03", "58030"].iter().any(|code| finished.stderr.contains(code));
            assert!(is_clear, "{cut:?}, {sql}: {}", finished.stderr);
            errors += 1;
        }
        wait_until_back(&cluster, sql, expected);
    }
    eprintln!("{wanted} cuts: {errors} errors, {answers} whole answers, the slowest {slowest:?}");
}

fn ask(cluster: &HostCluster, sql: &str) -> Finished {
    program::run(cluster.psql().args(["-c", sql]), "")
}

fn wait_until_back(cluster: &HostCluster, sql: &str, expected: &str) {
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        let finished = ask(cluster, sql);
        if finished.status.success() {
            return assert_eq!(finished.stdout.trim(), expected, "{sql}");
        }
        assert!(Instant::now() < deadline, "{sql}: {}", finished.stderr);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// As in `kills`: `k` counts, `r` counts backwards, `w` is `k` modulo 1000.
fn make_numbers(cluster: &HostCluster) {
    let mut script = String::from(
        "CREATE TABLE counted (k bigint) DISTKEY(k); INSERT INTO counted VALUES (0);\n",
    );
    for power in 0..18 {
        let add = 1_i64 << power;
        script.push_str(&format!("INSERT INTO counted SELECT k + {add} FROM counted;\n"));
    }
    script.push_str(
        "CREATE TABLE numbers (k bigint, r bigint, w bigint) DISTKEY(k);
         INSERT INTO numbers SELECT k, 262143 - k, mod(k, 1000) FROM counted;
         CREATE TABLE small (k bigint, r bigint, w bigint) DISTSTYLE ALL;
         INSERT INTO small SELECT * FROM numbers WHERE k < 100;\n",
    );
    let mut psql = cluster.psql();
    program::run(psql.args(["-v", "ON_ERROR_STOP=1", "-f", "-"]), &script).expect_success();
}
