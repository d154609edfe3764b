//! Every bit of every file of a small database's directory, by what `blueshift verify` says: that the
//! bit is found, and in which file. There is no file of which nobody says what keeps it.
//!
//! `BLUESHIFT_FLIPS=all` flips every bit, but for files that have a faster test of their own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::num::NonZero;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use leader::config::FileConfig;
use leader::verify::{Depth, VerifyOptions, verify};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::cluster::{Cluster, Options};

/// Bits of each file in a normal run, and of those files whose every bit is flipped elsewhere.
const SAMPLE: usize = 25;
const LARGE_SAMPLE: usize = 2000;

/// What is to be said of a flipped bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// It is found, and the file named.
    Found,
    /// It is found, and it is said that it is in this part of the catalog.
    FoundIn(&'static str),
    /// It is found in the catalog, or changes nothing that is read;
    /// `every_flip_in_a_catalog_file_is_found_or_changes_nothing` looks at each.
    FoundOrUnread,
    /// It is found, and the file named; `every_flipped_bit_is_found_and_what_is_missing` looks at each
    /// of a small one.
    FoundInLarge,
    /// It is nothing that was stored: it is derived, or configuration, or a key.
    NotStored,
}

/// What keeps a file, by its name.
fn judgement(path: &Path) -> Judgement {
    use Judgement::{Found, FoundIn, FoundInLarge, FoundOrUnread, NotStored};
    let name = path.file_name().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    match (folder, name) {
        (_, "catalog.sqlite") => FoundOrUnread,
        (_, "catalog.sqlite-wal") => {
            FoundIn("the catalog: a bit of its write-ahead log is flipped")
        }
        (_, "epoch" | "membership") | ("cluster", "shape.json") => Found,
        ("catalog", name) if name.starts_with("base-") => FoundInLarge,
        ("catalog", name) if name.starts_with("record-") => Found,
        (slice, name)
            if slice.starts_with("slice_") && (ends(name, ".seg") || ends(name, ".dv")) =>
        {
            Found
        }
        (_, "lock" | "server.crt" | "server.key") => NotStored,
        ("cluster", name) if [".pem", ".key", ".toml"].iter().any(|end| ends(name, end)) => {
            NotStored
        }
        _ => panic!("nobody says what keeps {}", path.display()),
    }
}

fn ends(name: &str, end: &str) -> bool {
    name.ends_with(end)
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// What verify says of a directory, and whether it found all to be sound.
fn said(directory: &Path) -> (bool, String) {
    let options = VerifyOptions {
        data_dir: directory.to_owned(),
        file: FileConfig::default(),
        depth: Depth::Checksums,
    };
    let mut out = Vec::new();
    let is_sound = verify(&options, &mut out).unwrap();
    (is_sound, String::from_utf8(out).unwrap())
}

/// Flips a bit of a file in a directory that is sound otherwise. Whether it was found.
fn flip(directory: &Path, path: &Path, bit: usize, judgement: Judgement) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (mut byte, at) = ([0], (bit / 8) as u64);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], at).unwrap();
    let (is_sound, said) = said(directory);
    file.write_all_at(&byte, at).unwrap();
    let path = path.display().to_string();
    let is_right = match judgement {
        Judgement::Found | Judgement::FoundInLarge => !is_sound && said.contains(&path),
        Judgement::FoundIn(words) => !is_sound && said.contains(words),
        Judgement::FoundOrUnread => is_sound || said.contains("the catalog: "),
        Judgement::NotStored => is_sound,
    };
    assert!(is_right, "bit {bit} of {path}: {said}");
    !is_sound
}

/// Which bits of a file of so many bytes are flipped.
fn bits(bytes: usize, judgement: Judgement, random: &mut StdRng) -> Vec<usize> {
    let bits = bytes * 8;
    let is_large = matches!(judgement, Judgement::FoundOrUnread | Judgement::FoundInLarge);
    let sample = match std::env::var("BLUESHIFT_FLIPS").as_deref() {
        Ok("all") if is_large => LARGE_SAMPLE,
        Ok("all") if judgement != Judgement::NotStored => return (0..bits).collect(),
        _ => SAMPLE.min(bits),
    };
    (0..sample).map(|_| random.random_range(0..bits)).collect()
}

/// Goes through the files of a directory that no server uses any more. Answers with the kinds of files
/// there are.
fn go_through(directory: &Path) -> Vec<Judgement> {
    let (is_sound, text) = said(directory);
    assert!(is_sound, "{text}");
    let mut random = StdRng::seed_from_u64(3);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let copies: Vec<_> = (0..threads).map(|_| tempfile::tempdir().unwrap()).collect();
    copies.iter().for_each(|own| copy(directory, own.path()));
    let mut kinds = Vec::new();
    for path in files(directory) {
        let judgement = judgement(&path);
        kinds.push(judgement);
        let bits = bits(fs::metadata(&path).unwrap().len() as usize, judgement, &mut random);
        let name = path.strip_prefix(directory).unwrap();
        let found: usize = thread::scope(|scope| {
            let run = |(first, own): (usize, &tempfile::TempDir)| {
                let (directory, path) = (own.path().to_owned(), own.path().join(name));
                let own = bits.iter().copied().skip(first).step_by(threads);
                scope.spawn(move || {
                    own.filter(|bit| flip(&directory, &path, *bit, judgement)).count()
                })
            };
            let running: Vec<_> = copies.iter().enumerate().map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        eprintln!("{:8} flips, {found:8} found, {judgement:?}: {}", bits.len(), name.display());
    }
    kinds
}

/// A small database with each kind of file: segments, deletion vectors, and what the catalog keeps.
async fn fill(cluster: &Cluster) {
    let client = cluster.connect().await;
    for statement in [
        "CREATE TABLE t (k bigint, word varchar(20)) DISTSTYLE EVEN",
        "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL), (4, 'four')",
        "DELETE FROM t WHERE k < 3",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
}

fn check_kinds(kinds: &[Judgement], expected: &[(Judgement, usize)]) {
    let mut counts = BTreeMap::new();
    kinds.iter().for_each(|kind| *counts.entry(format!("{kind:?}")).or_insert(0) += 1);
    for (kind, count) in expected {
        let found = counts.get(&format!("{kind:?}")).copied().unwrap_or(0);
        assert!(found >= *count, "{kind:?}: {found} files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_a_small_server_is_found_or_not_read() {
    let arguments = ["--slices", "1"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_own(Options { arguments, ..Options::default() });
    fill(&cluster).await;
    assert_eq!(cluster.stop().code(), Some(0));
    // With one commit in the write-ahead log.
    cluster.restart();
    let client = cluster.connect().await;
    client.batch_execute("INSERT INTO t VALUES (5, 'five')").await.unwrap();
    cluster.kill();
    let kinds = go_through(&cluster.data_directory());
    let log = Judgement::FoundIn("the catalog: a bit of its write-ahead log is flipped");
    check_kinds(&kinds, &[(Judgement::Found, 3), (log, 1), (Judgement::FoundOrUnread, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_two_small_nodes_is_found_or_not_read() {
    let arguments = ["--nodes", "2", "--slices", "2"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_own(Options { arguments, ..Options::default() });
    fill(&cluster).await;
    assert_eq!(cluster.stop().code(), Some(0));
    let kinds = go_through(&cluster.data_directory());
    let expected = [
        // Epoch and shape; of each node its membership, its segment, the other's, and records.
        (Judgement::Found, 12),
        (Judgement::FoundInLarge, 2),
        (Judgement::FoundOrUnread, 1),
    ];
    check_kinds(&kinds, &expected);
}
