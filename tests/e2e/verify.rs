//! `blueshift verify` on the directories of servers that were stopped, killed, or still run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio_postgres::Client;

use crate::support::cluster::{Cluster, Options};

/// A directory as it lies: each file with its bytes and when it was changed.
fn state(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(state(&path));
        } else {
            let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), changed));
        }
    }
    found
}

/// What verify says, and whether it found all to be sound. It changes nothing.
fn verify(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let before = state(&cluster.data_directory());
    let output = cluster.verify(&cluster.data_directory(), arguments);
    assert!(state(&cluster.data_directory()) == before, "verify has changed something");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

async fn fill(client: &Client) {
    let statements = "CREATE TABLE t (k bigint, zebra varchar(20)) DISTKEY(k);
        INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL), (4, 'four');
        INSERT INTO t SELECT k + 4, zebra FROM t;
        INSERT INTO t SELECT k + 8, zebra FROM t;
        INSERT INTO t SELECT k + 16, zebra FROM t;
        CREATE TABLE other (k int) DISTSTYLE ALL;
        INSERT INTO other VALUES (1);
        DELETE FROM t WHERE k IN (2, 20, 25)";
    for statement in statements.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
}

/// The files of a kind, in order.
fn files(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let all = state(directory).into_keys();
    all.filter(|path| path.extension().is_some_and(|end| end == kind)).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_checked_when_its_server_does_not_run() {
    let arguments = ["--slices", "2"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_own(Options { arguments, ..Options::default() });
    fill(&cluster.connect().await).await;
    let output = cluster.verify(&cluster.data_directory(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is in use by a server"), "{said}");
    // What was committed just now is not in the catalog's main file yet.
    cluster.kill();
    let (is_sound, said) = verify(&cluster, &[]);
    assert!(is_sound && said.contains("catalog: 2 tables"), "{said}");
    cluster.restart();
    assert_eq!(cluster.stop().code(), Some(0));
    let (is_sound, said) = verify(&cluster, &["--checksums"]);
    assert!(is_sound && said.ends_with("sound: nothing is wrong\n"), "{said}");
    let data = cluster.data_directory();
    let segment = &files(&data, "seg")[0];
    flip(segment, 64);
    let (is_sound, said) = verify(&cluster, &[]);
    let found = "table public.t, column k, row group 0, block of ";
    assert!(
        !is_sound && said.contains(found) && said.contains(&segment.display().to_string()),
        "{said}"
    );
    flip(segment, 64);
    let vector = &files(&data, "dv")[0];
    flip(vector, 60);
    let (is_sound, said) = verify(&cluster, &["--checksums"]);
    assert!(!is_sound && said.contains("table public.t, deleted rows"), "{said}");
    flip(vector, 60);
    let away = segment.with_extension("away");
    std::fs::rename(segment, &away).unwrap();
    let (is_sound, said) = verify(&cluster, &[]);
    let missing = format!("table public.t: file {} is missing\n", segment.display());
    assert!(!is_sound && said.contains(&missing), "{said}");
    assert!(said.contains("1 missing; 1 that the catalog does not name"), "{said}");
    std::fs::rename(&away, segment).unwrap();
    assert!(verify(&cluster, &[]).0);
    // A page of the catalog.
    let catalog = data.join("catalog.sqlite");
    flip(&catalog, 100);
    let (is_sound, said) = verify(&cluster, &[]);
    assert!(!is_sound && said.contains("the catalog: "), "{said}");
    flip(&catalog, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_checked_node_by_node() {
    let arguments = ["--nodes", "2", "--slices", "2"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_own(Options { arguments, ..Options::default() });
    fill(&cluster.connect().await).await;
    assert_eq!(cluster.stop().code(), Some(0));
    let (is_sound, said) = verify(&cluster, &[]);
    assert!(is_sound && said.contains("node 0: ") && said.contains("node 1: "), "{said}");
    let node = cluster.data_directory().join("node1");
    let segment = files(&node, "seg").remove(0);
    flip(&segment, 64);
    let (is_sound, said) = verify(&cluster, &[]);
    assert!(!is_sound && said.contains("; node 0 has a sound copy"), "{said}");
    // A node by itself, by its copy of the catalog.
    let config = cluster.data_directory().join("cluster/node-1.toml");
    let config = config.display().to_string();
    let alone = |arguments: &[&str]| {
        let output = cluster.verify(&node, arguments);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (is_sound, said) = alone(&["--config", &config]);
    assert!(!is_sound && said.contains("node 1: ") && said.contains("1 damaged"), "{said}");
    std::fs::remove_file(&segment).unwrap();
    let (is_sound, said) = alone(&["--config", &config]);
    assert!(!is_sound && said.contains("is missing"), "{said}");
    let (is_sound, said) = alone(&[]);
    assert!(is_sound && said.contains("go unnoticed"), "{said}");
    // A commit in the leader's write-ahead log, behind which there are others.
    let log = cluster.data_directory().join("catalog.sqlite-wal");
    let bytes = std::fs::read(&log).unwrap();
    flip(&log, bytes.windows(5).position(|bytes| bytes == b"zebra").unwrap());
    let (is_sound, said) = verify(&cluster, &[]);
    assert!(!is_sound && said.contains("the catalog: a bit of its write-ahead log is"), "{said}");
}

/// A bit of a name in the catalog of a single node, and one in the last commit of its write-ahead log.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_on_no_flipped_bit_of_its_catalog() {
    let mut cluster = Cluster::start_own(Options::default());
    fill(&cluster.connect().await).await;
    assert_eq!(cluster.stop().code(), Some(0));
    let catalog = cluster.data_directory().join("catalog.sqlite");
    let bytes = std::fs::read(&catalog).unwrap();
    let places = bytes.windows(5).enumerate().filter(|(_, bytes)| bytes == b"zebra");
    let mut found = 0;
    for at in places.map(|(at, _)| at + 3) {
        flip(&catalog, at);
        let (is_sound, said) = verify(&cluster, &[]);
        if !is_sound {
            found += 1;
            assert!(said.contains("the rows of columns are not those written"), "{said}");
            let refused = cluster.refuses_to_start(&[]);
            assert!(refused.contains("the rows of columns are not those written"), "{refused}");
        }
        flip(&catalog, at);
    }
    assert!(found > 0);
    cluster.restart();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE giraffe (neck int)").await.unwrap();
    client.batch_execute("INSERT INTO giraffe VALUES (1)").await.unwrap();
    cluster.kill();
    cluster.expect_warnings();
    let log = cluster.data_directory().join("catalog.sqlite-wal");
    let frame = 24 + 4096;
    // In the frames of the last commit, which SQLite would take to be torn, and in the header.
    for place in [Some(100), Some(5), None] {
        let frames = (std::fs::read(&log).unwrap().len() - 32) / frame;
        let at = place.map_or(3, |place| 32 + (frames - 1) * frame + place);
        flip(&log, at);
        let (is_sound, said) = verify(&cluster, &[]);
        assert!(!is_sound && said.contains("a bit of its write-ahead log is flipped"), "{said}");
        cluster.restart();
        assert!(cluster.log().contains("was mended"), "byte {at}");
        let client = cluster.connect().await;
        client.batch_execute("INSERT INTO giraffe SELECT 2 FROM giraffe").await.unwrap();
        cluster.kill();
    }
    cluster.restart();
    let row = cluster.connect().await.query_one("SELECT count(*) FROM giraffe", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 8);
}
