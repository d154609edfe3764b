//! What an attacker sends before logging in, and what a broken client sends after.
//!
//! Each case was a real defect of a protocol library: queries that ran after a refused password,
//! plaintext taken over into the encrypted session, messages that claimed gigabytes, row limits
//! that made the server reserve memory for two thousand million rows.

use rand::rngs::StdRng;
use rand::{Rng, RngCore};

use crate::raw_wire::{
    Message, Raw, bind, execute, message, message_claiming, parse, query, ssl_request, startup,
    sync,
};
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options};
use crate::support::program::{psql, run};

/// Memory that a refused connection may leave behind or use meanwhile.
const PRE_LOGIN_BYTES_MAX: u64 = 32 << 20;

#[tokio::test]
async fn nothing_runs_after_a_wrong_password() {
    let cluster = Cluster::start();
    let evil = query("CREATE TABLE evil (a int)");
    let mut raw = Raw::open(&cluster.address);
    raw.send(&startup(&cluster.address.user, &cluster.address.database));
    // In one packet with the proof, and once more when the refusal is there.
    raw.answer_password_challenge("Wrong7Horse", &evil);
    let refusal = raw.read().expect("an error");
    assert_eq!((refusal.tag, refusal.field(b'C').as_deref()), (b'E', Some("28P01")), "{refusal:?}");
    assert_eq!(refusal.field(b'S').as_deref(), Some("FATAL"));
    raw.try_send(&evil);
    assert_no_session(&raw.read_until_closed());
    assert_table_absent(&cluster, "evil").await;
}

#[tokio::test]
async fn nothing_runs_before_the_password() {
    let cluster = Cluster::start();
    for early in [query("CREATE TABLE evil (a int)"), parse("", "CREATE TABLE evil (a int)")] {
        let mut raw = Raw::open(&cluster.address);
        raw.send(&startup(&cluster.address.user, &cluster.address.database));
        assert_eq!(raw.read().unwrap().tag, b'R');
        raw.send(&[early, bind("", ""), execute("", 0), sync()].concat());
        raw.finish_sending();
        assert_no_session(&raw.read_until_closed());
    }
    assert_table_absent(&cluster, "evil").await;
}

#[tokio::test]
async fn an_unknown_user_is_refused_as_a_wrong_password_is() {
    let cluster = Cluster::start();
    let mut raw = Raw::open(&cluster.address);
    raw.send(&startup("nobody_of_that_name", &cluster.address.database));
    // The challenge comes all the same, so that names cannot be probed.
    raw.answer_password_challenge("Wrong7Horse", &query("SELECT 1"));
    let messages = raw.read_until_closed();
    assert_eq!(messages[0].field(b'C').as_deref(), Some("28P01"), "{messages:?}");
    assert_no_session(&messages);
}

#[tokio::test]
async fn bytes_before_the_tls_handshake_close_the_connection() {
    let cluster = Cluster::start_own(Options::default());
    let mut raw = Raw::open(&cluster.address);
    let smuggled = startup(&cluster.address.user, &cluster.address.database);
    raw.send(&[ssl_request(), smuggled].concat());
    // 'S' may or may not be on its way when the server notices; a challenge must never come.
    match raw.read_byte() {
        None => {}
        Some(b'S') => assert_eq!(raw.read_byte(), None, "the handshake must not go on"),
        Some(b'E') => {}
        Some(other) => panic!("answered {:?} to smuggled bytes", other as char),
    }
}

#[tokio::test]
async fn require_ssl_refuses_a_connection_in_clear() {
    let config = Some("[parameters]\nrequire_ssl = true\n".to_owned());
    let cluster = Cluster::start_own(Options { config, ..Options::default() });
    let mut raw = Raw::open(&cluster.address);
    raw.send(&startup(&cluster.address.user, &cluster.address.database));
    let messages = raw.read_until_closed();
    assert_eq!(messages[0].field(b'C').as_deref(), Some("28000"), "{messages:?}");
    assert_eq!(messages[0].field(b'S').as_deref(), Some("FATAL"));
    assert_no_session(&messages);
    let mut encrypted = psql(&cluster.address);
    let output = run(encrypted.env("PGSSLMODE", "require"), "SELECT 1;\n").expect_success();
    assert_eq!(output, "1\n");
}

#[tokio::test]
async fn lengths_that_lie_close_the_connection_before_login() {
    let cluster = Cluster::start_own(Options::default());
    // A first session takes memory of its own.
    assert_still_serves(&cluster).await;
    let before = cluster.resident_bytes();
    let lies = [i32::MIN, -1, 0, 1, 3, i32::MAX];
    for length in lies {
        // As the very first message, which has no tag.
        let mut raw = Raw::open(&cluster.address);
        raw.try_send(&[length.to_be_bytes().as_slice(), &[0; 64]].concat());
        raw.finish_sending();
        assert_no_session(&raw.read_until_closed());
        // In place of the password, under the tag of a password and of other messages.
        for tag in [b'p', b'Q', b'P', b'd', b'X', 0, 0xff] {
            let mut raw = Raw::open(&cluster.address);
            raw.send(&startup(&cluster.address.user, &cluster.address.database));
            assert_eq!(raw.read().unwrap().tag, b'R');
            raw.try_send(&message_claiming(tag, length, &[0; 64]));
            raw.finish_sending();
            assert_no_session(&raw.read_until_closed());
        }
    }
    assert_still_serves(&cluster).await;
    let grown = cluster.resident_bytes().saturating_sub(before);
    assert!(grown < PRE_LOGIN_BYTES_MAX, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn an_endless_message_before_login_takes_no_memory() {
    const CLAIMED: i32 = 200 << 20;
    let cluster = Cluster::start_own(Options::default());
    assert_still_serves(&cluster).await;
    let before = cluster.resident_bytes();
    for tag in [b'Q', b'p', b'P', b'd'] {
        let mut raw = Raw::open(&cluster.address);
        raw.send(&startup(&cluster.address.user, &cluster.address.database));
        assert_eq!(raw.read().unwrap().tag, b'R');
        let mut taken = raw.try_send(&message_claiming(tag, CLAIMED, &[]));
        let mebibyte = vec![b' '; 1 << 20];
        let mut peak = 0;
        for _ in 0..(CLAIMED >> 20) - 1 {
            if !taken {
                break;
            }
            taken = raw.try_send(&mebibyte);
            peak = peak.max(cluster.resident_bytes());
        }
        assert!(!taken, "the server went on reading a message of {CLAIMED} bytes");
        assert!(peak < before + PRE_LOGIN_BYTES_MAX, "memory grew from {before} to {peak}");
    }
    assert_still_serves(&cluster).await;
}

#[tokio::test]
async fn two_thousand_connections_of_noise_leave_the_server_alive() {
    let mut random = seeded();
    let mut cluster = Cluster::start_own(Options::default());
    assert_still_serves(&cluster).await;
    let before = cluster.resident_bytes();
    for _ in 0..2_000 {
        let mut raw = Raw::open(&cluster.address);
        let noise = noise(&mut random, &cluster);
        raw.try_send(&noise);
    }
    assert!(cluster.is_alive());
    assert_still_serves(&cluster).await;
    let grown = cluster.resident_bytes().saturating_sub(before);
    assert!(grown < 4 * PRE_LOGIN_BYTES_MAX, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn a_row_limit_is_a_limit_and_no_reservation() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE digits (d int)").await.unwrap();
    let values = "(0),(1),(2),(3),(4),(5),(6),(7),(8),(9)";
    client.batch_execute(&format!("INSERT INTO digits VALUES {values}")).await.unwrap();
    let sql = "SELECT a.d, b.d FROM digits a, digits b, digits c";
    for rows_max in [i32::MAX, -1, i32::MIN, 0] {
        let mut raw = Raw::logged_in(&cluster.address);
        raw.send(&[parse("", sql), bind("", ""), execute("", rows_max), sync()].concat());
        let rows = raw.read_until(b'Z').iter().filter(|message| message.tag == b'D').count();
        assert_eq!(rows, 1_000, "with a limit of {rows_max}");
    }
    // A small limit suspends the portal; the rest comes with the next Execute.
    let mut raw = Raw::logged_in(&cluster.address);
    raw.send(&query("BEGIN"));
    raw.read_until(b'Z');
    raw.send(&[parse("", sql), bind("p", ""), execute("p", 30), sync()].concat());
    let messages = raw.read_until(b'Z');
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 30);
    assert!(messages.iter().any(|message| message.tag == b's'), "PortalSuspended");
    raw.send(&[execute("p", 0), sync()].concat());
    let rows = raw.read_until(b'Z').iter().filter(|message| message.tag == b'D').count();
    assert_eq!(rows, 970);
}

#[tokio::test]
async fn wrong_use_of_the_extended_protocol_is_an_error_and_not_the_end() {
    let cluster = Cluster::start();
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("portal that does not exist", execute("nope", 0), &["34000"]),
        ("statement that does not exist", bind("", "nope"), &["26000"]),
        ("describe of neither kind", message(b'D', b"Xname\0"), &["08P01"]),
        ("parameters that are not there", bind_with_one_parameter(), &["08P01"]),
        ("text without an end", message(b'P', b"name"), &["08P01"]),
        ("not UTF-8", message(b'P', b"\0SELECT '\xff\xfe'\0\0\0"), &["22021", "08P01"]),
    ];
    for (what, bytes, codes) in cases {
        let mut raw = Raw::logged_in(&cluster.address);
        raw.send(&[parse("", "SELECT 1"), bytes, sync()].concat());
        let mut messages = Vec::new();
        while let Some(message) = raw.read() {
            messages.push(message.clone());
            if message.tag == b'Z' {
                break;
            }
        }
        let error = messages.iter().find(|message| message.tag == b'E').expect(what);
        let code = error.field(b'C').unwrap();
        assert!(codes.contains(&code.as_str()), "{what}: {code}, expected {codes:?}");
        let ready = messages.last().is_some_and(|message| message.tag == b'Z');
        if ready {
            raw.send(&query("SELECT 1"));
            assert!(raw.read_until(b'Z').iter().any(|message| message.tag == b'D'), "{what}");
        }
    }
}

#[tokio::test]
async fn a_statement_name_in_use_is_refused() {
    let cluster = Cluster::start();
    let mut raw = Raw::logged_in(&cluster.address);
    raw.send(&[parse("s", "SELECT 1"), parse("s", "SELECT 2"), sync()].concat());
    let messages = raw.read_until(b'Z');
    let error = messages.iter().find(|message| message.tag == b'E').expect("an error");
    assert_eq!(error.field(b'C').as_deref(), Some("42P05"));
}

#[tokio::test]
async fn a_message_of_two_gigabytes_after_login_takes_no_memory() {
    let cluster = Cluster::start_own(Options::default());
    assert_still_serves(&cluster).await;
    let before = cluster.resident_bytes();
    let mut raw = Raw::logged_in(&cluster.address);
    raw.try_send(&message_claiming(b'Q', i32::MAX, &[]));
    raw.finish_sending();
    let messages = raw.read_until_closed();
    assert!(messages.iter().all(|message| message.tag != b'Z'), "{messages:?}");
    let grown = cluster.resident_bytes().saturating_sub(before);
    assert!(grown < PRE_LOGIN_BYTES_MAX, "memory grew by {grown} bytes");
    assert_still_serves(&cluster).await;
}

/// Bytes that look right for a while: a start that is real or not, then tags and lengths by chance.
fn noise(random: &mut StdRng, cluster: &Cluster) -> Vec<u8> {
    let mut bytes = match random.random_range(0..4) {
        0 => ssl_request(),
        1 | 2 => startup(&cluster.address.user, &cluster.address.database),
        _ => Vec::new(),
    };
    for _ in 0..random.random_range(0..5) {
        let mut body = vec![0; random.random_range(0..80)];
        random.fill_bytes(&mut body);
        let tags = b"pQPBEDSCHdcfFX\0R";
        let tag = tags[random.random_range(0..tags.len())];
        match random.random_range(0..3) {
            0 => bytes.extend(&body),
            1 => bytes.extend(message(tag, &body)),
            _ => bytes.extend(message_claiming(tag, random.random_range(-5..300), &body)),
        }
    }
    bytes
}

fn bind_with_one_parameter() -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend([0, 0]); // all formats are text
    body.extend([0, 1]); // one parameter, which the statement does not have
    body.extend([0, 0, 0, 1, b'1']);
    body.extend([0, 0]);
    message(b'B', &body)
}

fn assert_no_session(messages: &[Message]) {
    for message in messages {
        let authenticated = message.tag == b'R' && message.body == [0; 4];
        assert!(!authenticated && !b"ZTDCK".contains(&message.tag), "{messages:?}");
    }
}

async fn assert_table_absent(cluster: &Cluster, table: &str) {
    let client = cluster.connect().await;
    let error = client.simple_query(&format!("SELECT * FROM {table}")).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42P01"), "{error:?}");
}

async fn assert_still_serves(cluster: &Cluster) {
    let client = cluster.connect().await;
    client.simple_query("SELECT 1").await.unwrap();
}
