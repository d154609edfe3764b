//! Bits that flip on the disk of a node: a query is answered from another copy, which then takes the
//! place of the damaged file; without one the query names what is damaged, and everything else goes
//! on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use super::kills::{make_numbers, wait_until_whole};
use super::mirrors::{files, node_directory};
use super::{answer, expect};
use crate::support::cluster::{Cluster, Options};

const COUNT: &str = "SELECT count(*), sum(k) FROM";
const COUNTED: &str = "262144|34359607296";
const HEALED_WITHIN: Duration = Duration::from_secs(60);

/// Two nodes on which nothing but queries reads or writes files, unless `integrity` says so.
fn nodes_with(integrity: &str, arguments: &[&str]) -> Cluster {
    let config = format!("[maintenance]\nautomatic_vacuum = false\n[integrity]\n{integrity}\n");
    let usual = ["--nodes", "2", "--slices", "2"];
    let arguments = usual.iter().chain(arguments).map(|text| (*text).to_owned()).collect();
    let options = Options { arguments, config: Some(config), ..Options::default() };
    let mut cluster = Cluster::start_own(options);
    cluster.expect_warnings();
    cluster
}

const NO_SCRUBBER: &str = "scrub_bytes_per_second = 0";

/// A table whose files nobody has read yet.
async fn make_unread(client: &Client, name: &str, style: &str) {
    expect(client, &format!("CREATE TABLE {name} {style} AS SELECT * FROM numbers")).await;
}

/// The files of a table on a node, those of a kind.
async fn files_of(client: &Client, node: &Path, table: &str, kind: &str) -> Vec<PathBuf> {
    let sql = format!("SELECT oid FROM pg_class WHERE relname = '{table}'");
    let oid: u32 = expect(client, &sql).await[0].parse().unwrap();
    let start = format!("{oid:08x}-");
    let is_of = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.starts_with(&start) && name.ends_with(kind)
    };
    files(node).into_keys().filter(is_of).collect()
}

/// Flips a bit of a file at a byte counted from its start, or from its end if it is negative.
fn flip(path: &Path, at: isize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = if at < 0 { bytes.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    bytes[at] ^= 4;
    // In place, as a disk does it.
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&bytes[at..=at], at as u64).unwrap();
}

/// Flips a bit in each file of a table that is of the node's own slices, which it reads while it is
/// there. Answers with how many.
async fn damage_own_slices(
    cluster: &Cluster,
    client: &Client,
    node: usize,
    table: &str,
    kind: &str,
    at: isize,
) -> usize {
    let directory = node_directory(cluster, node);
    let own = [2 * node, 2 * node + 1].map(|slice| format!("slice_{slice}"));
    let mut all = files_of(client, &directory, table, kind).await;
    all.retain(|file| own.iter().any(|slice| file.starts_with(slice)));
    all.iter().for_each(|file| flip(&directory.join(file), at));
    all.len()
}

/// The first block of the first column; the end of the file.
const FIRST_BLOCK: isize = 64;
const TRAILER: isize = -1;

async fn wait_until_equal(cluster: &Cluster) {
    let deadline = Instant::now() + HEALED_WITHIN;
    while files(&node_directory(cluster, 0)) != files(&node_directory(cluster, 1)) {
        assert!(Instant::now() < deadline, "the nodes have different files");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_read_elsewhere_and_healed() {
    let cluster = nodes_with(NO_SCRUBBER, &[]);
    let client = cluster.connect().await;
    make_numbers(&client).await;
    let mut counts = Vec::new();
    for (name, style) in
        [("by_key", "DISTKEY(k)"), ("even", "DISTSTYLE EVEN"), ("whole", "DISTSTYLE ALL")]
    {
        for at in [FIRST_BLOCK, TRAILER] {
            let table = format!("{name}_{}", at.unsigned_abs());
            make_unread(&client, &table, style).await;
            for node in [0, 1] {
                let damaged = damage_own_slices(&cluster, &client, node, &table, ".seg", at).await;
                assert!(damaged > 0 || (name, node) == ("whole", 1));
            }
            // Of a table that every node has each node reads its own copy.
            let sql =
                format!("SELECT count(*), sum(y.k) FROM numbers x JOIN {table} y ON x.k = y.k");
            assert_eq!(expect(&client, &sql).await, [COUNTED], "{table} at {at}");
            counts.push(sql);
        }
    }
    // Once a node is known to lack a file the other one answers for it: what else is damaged there is
    // found when it is asked again.
    let deadline = Instant::now() + HEALED_WITHIN;
    while files(&node_directory(&cluster, 0)) != files(&node_directory(&cluster, 1)) {
        assert!(Instant::now() < deadline, "the nodes have different files");
        wait_until_whole(&client).await;
        for sql in &counts {
            assert_eq!(expect(&client, sql).await, [COUNTED], "{sql}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let healed = "SELECT count(*) FROM stv_blueshift_damage WHERE state = 'healed'";
    assert_ne!(expect(&client, healed).await, ["0"]);
    // The leader hears with the next sign of life that a file is not damaged any more.
    let damaged = "SELECT * FROM stv_blueshift_damage WHERE state = 'damaged'";
    let deadline = Instant::now() + HEALED_WITHIN;
    while !expect(&client, damaged).await.is_empty() {
        assert!(Instant::now() < deadline, "{:?}", expect(&client, damaged).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_stay_deleted_when_their_vector_is_damaged() {
    let cluster = nodes_with(NO_SCRUBBER, &[]);
    let client = cluster.connect().await;
    make_numbers(&client).await;
    make_unread(&client, "even", "DISTSTYLE EVEN").await;
    expect(&client, "DELETE FROM even WHERE MOD(k, 2) = 0").await;
    assert!(damage_own_slices(&cluster, &client, 0, "even", ".dv", -20).await > 0);
    assert_eq!(expect(&client, &format!("{COUNT} even")).await, ["131072|17179869184"]);
    // It is a change as well to delete more rows of them.
    expect(&client, "DELETE FROM even WHERE k < 100").await;
    assert_eq!(expect(&client, &format!("{COUNT} even")).await, ["131022|17179866684"]);
    wait_until_whole(&client).await;
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrubber_heals_what_nobody_reads() {
    let quick = "scrub_bytes_per_second = 1000000000\nscrub_interval_seconds = 1";
    let cluster = nodes_with(quick, &[]);
    let client = cluster.connect().await;
    make_numbers(&client).await;
    make_unread(&client, "even", "DISTSTYLE EVEN").await;
    for (node, at) in [(0, FIRST_BLOCK), (1, TRAILER)] {
        let directory = node_directory(&cluster, node);
        let all = files_of(&client, &directory, "even", ".seg").await;
        flip(&directory.join(&all[node]), at);
    }
    let healed =
        "SELECT node, \"table\" FROM stv_blueshift_damage WHERE state = 'healed' ORDER BY 1";
    let deadline = Instant::now() + HEALED_WITHIN;
    while expect(&client, healed).await != ["0|even", "1|even"] {
        assert!(Instant::now() < deadline, "{:?}", expect(&client, healed).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_until_equal(&cluster).await;
    let scrubbed = "SELECT count(*) FROM stv_blueshift_scrub WHERE passes > 0 AND bytes > 0";
    assert_eq!(expect(&client, scrubbed).await, ["2"]);
    assert_eq!(expect(&client, &format!("{COUNT} even")).await, [COUNTED]);
}

/// Flips of a normal run; `BLUESHIFT_FLIPS` sets another number, `BLUESHIFT_SEED` another choice.
const FLIPS: usize = 40;
/// Files that are damaged at the same time.
const FLIPS_AT_ONCE: usize = 8;

/// Flips that bit of a file in place.
fn flip_bit(path: &Path, bit: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8).unwrap();
}

/// Any bit of any file of tables, on either node: it is found, and the file becomes what it was.
#[tokio::test(flavor = "multi_thread")]
async fn random_flips_are_healed_from_the_other_node() {
    let number = |name: &str, otherwise: usize| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
    };
    let (flips, seed) = (number("BLUESHIFT_FLIPS", FLIPS), number("BLUESHIFT_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed as u64);
    let quick = "scrub_bytes_per_second = 1000000000\nscrub_interval_seconds = 1";
    let cluster = nodes_with(quick, &[]);
    let client = cluster.connect().await;
    make_numbers(&client).await;
    let mut counts = Vec::new();
    for (name, style) in
        [("by_key", "DISTKEY(k)"), ("even", "DISTSTYLE EVEN"), ("whole", "DISTSTYLE ALL")]
    {
        make_unread(&client, name, style).await;
        expect(&client, &format!("DELETE FROM {name} WHERE MOD(k, 2) = 0")).await;
        counts.push(format!("{COUNT} {name}"));
    }
    let directories = [0, 1].map(|node| node_directory(&cluster, node));
    let whole = [0, 1].map(|node| files(&directories[node]));
    assert!(whole[0] == whole[1]);
    let kinds =
        |end: &str| whole[0].keys().filter(|name| name.to_string_lossy().ends_with(end)).count();
    eprintln!("seed {seed}: {} segments and {} deletion vectors", kinds(".seg"), kinds(".dv"));
    let (mut names, mut done) = (whole[0].keys().collect::<Vec<_>>(), 0);
    while done < flips {
        names.shuffle(&mut random);
        // The other node's copy of each is sound.
        for name in names.iter().take(FLIPS_AT_ONCE.min(flips - done)) {
            let bit = random.random_range(0..whole[0][*name].len() as u64 * 8);
            flip_bit(&directories[random.random_range(0..2)].join(name), bit);
            done += 1;
        }
        for sql in &counts {
            assert_eq!(expect(&client, sql).await, ["131072|17179869184"], "{sql}, {done} flips");
        }
        let is_whole = |node: usize| {
            let mut files = whole[node].iter();
            files.all(|(name, bytes)| {
                // It is replaced by a rename, so that some file of the name is always there.
                std::fs::read(directories[node].join(name)).is_ok_and(|found| found == *bytes)
            })
        };
        let deadline = Instant::now() + HEALED_WITHIN;
        while !(is_whole(0) && is_whole(1)) {
            assert!(Instant::now() < deadline, "not healed after {done} flips, seed {seed}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    wait_until_whole(&client).await;
    wait_until_equal(&cluster).await;
    eprintln!("{done} flips, each healed");
}

/// Nothing is asked of a copy of the catalog as long as the leader has its own, and so a damaged one
/// must cost nothing: the leader sends another.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_of_the_catalog_is_sent_anew() {
    let mut cluster = nodes_with(NO_SCRUBBER, &[]);
    let client = cluster.connect().await;
    expect(&client, "CREATE TABLE t (k bigint) DISTSTYLE EVEN").await;
    expect(&client, "INSERT INTO t VALUES (1), (2)").await;
    cluster.stop();
    for (node, kind) in [(0, "base-"), (1, "record-")] {
        let copies = std::fs::read_dir(node_directory(&cluster, node).join("catalog")).unwrap();
        let mut copies: Vec<PathBuf> = copies.map(|entry| entry.unwrap().path()).collect();
        copies.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(kind));
        flip(copies.iter().max().unwrap(), FIRST_BLOCK);
        let said = cluster.verify(&cluster.data_directory(), &[]);
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains(&format!("node {node}: copy of the catalog: ")), "{said}");
    }
    cluster.restart();
    let client = cluster.connect().await;
    wait_until_whole(&client).await;
    expect(&client, "INSERT INTO t VALUES (3)").await;
    assert_eq!(expect(&client, "SELECT sum(k) FROM t").await, ["6"]);
    cluster.stop();
    let output = cluster.verify(&cluster.data_directory(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A query over damaged rows fails with their place, and others do not.
async fn check_damaged(client: &Client, table: &str, file: &Path) {
    let error = answer(client, &format!("{COUNT} {table}")).await.unwrap_err();
    assert!(
        error.starts_with(&format!("XX001 table \"{table}\" is damaged at column \"k\"")),
        "{error}"
    );
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert_eq!(expect(client, &format!("{COUNT} numbers")).await, [COUNTED]);
    // Other columns of the same file can be read.
    assert_eq!(expect(client, &format!("SELECT count(DISTINCT w) FROM {table}")).await, ["1000"]);
    let damaged = "SELECT DISTINCT \"table\", \"column\", state FROM stv_blueshift_damage";
    assert_eq!(expect(client, damaged).await, [format!("{table}|k|damaged")]);
    // Writes go on too.
    expect(client, "INSERT INTO numbers SELECT * FROM numbers WHERE k < 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sound_copy_a_query_names_what_is_damaged() {
    // One copy, and two that are damaged at the same place.
    for (copies, damaged) in [("1", vec![0]), ("2", vec![0, 1])] {
        let cluster = nodes_with(NO_SCRUBBER, &["--copies", copies]);
        let client = cluster.connect().await;
        make_numbers(&client).await;
        make_unread(&client, "even", "DISTSTYLE EVEN").await;
        let name = {
            let all = files_of(&client, &node_directory(&cluster, 0), "even", ".seg").await;
            all.into_iter().next().unwrap()
        };
        for node in &damaged {
            flip(&node_directory(&cluster, *node).join(&name), FIRST_BLOCK);
        }
        check_damaged(&client, "even", &name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_names_what_is_damaged_and_goes_on() {
    let config = Some(format!("[integrity]\n{NO_SCRUBBER}\n"));
    let mut cluster = Cluster::start_own(Options { config, ..Options::default() });
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    make_unread(&client, "even", "DISTSTYLE EVEN").await;
    let directory = node_directory(&cluster, 0);
    let all = files_of(&client, &directory, "even", ".seg").await;
    flip(&directory.join(&all[0]), FIRST_BLOCK);
    check_damaged(&client, "even", &all[0]).await;
}
