//! The checker finds each anomaly in a history that has it, and nothing in those that have none.

use std::collections::BTreeMap;

use super::checker::{Anomaly, Key, Outcome, Step, Transaction, Value, check};
use Anomaly::{
    G0, G1a, G1b, G1c, G2, GNonadjacent, GSingle, Garbage, Internal, Lost, NotStrict, Order, Stale,
};
use Outcome::{Committed, RolledBack, Unknown};

fn a(key: Key, value: Value) -> Step {
    Step::Append(key, value)
}

fn r(key: Key, list: &[Value]) -> Step {
    Step::Read(key, list.to_vec())
}

fn txn(steps: &[Step], outcome: Outcome, time: (u64, u64)) -> Transaction {
    Transaction { steps: steps.to_vec(), outcome, time }
}

/// A history of committed transactions that all overlap.
fn beside(steps: &[&[Step]]) -> Vec<Transaction> {
    let number = |at: usize| at as u64;
    let steps = steps.iter().enumerate();
    steps.map(|(at, steps)| txn(steps, Committed, (number(at), 100 + number(at)))).collect()
}

/// The same one after the other.
fn in_turn(steps: &[&[Step]]) -> Vec<Transaction> {
    let number = |at: usize| 2 * at as u64;
    let steps = steps.iter().enumerate();
    steps.map(|(at, steps)| txn(steps, Committed, (number(at), number(at) + 1))).collect()
}

/// What is found; `end` are the lists of the keys 1, 2 and so on.
fn found(history: &[Transaction], end: &[&[Value]]) -> Vec<Anomaly> {
    let lists = (1..).zip(end).map(|(key, list)| (key, list.to_vec()));
    let end: BTreeMap<Key, Vec<Value>> = lists.collect();
    check(history, &end).into_iter().map(|found| found.anomaly).collect()
}

#[test]
fn a_history_in_turn_has_nothing() {
    let history = in_turn(&[
        &[a(1, 1), a(2, 2), r(1, &[1])],
        &[r(2, &[2]), a(1, 3), r(1, &[1, 3])],
        &[r(1, &[1, 3]), r(2, &[2])],
    ]);
    assert_eq!(found(&history, &[&[1, 3], &[2]]), []);
    // Side by side, but as if in turn.
    let history = beside(&[&[r(1, &[]), a(2, 1)], &[r(2, &[]), r(1, &[])], &[r(2, &[1]), a(1, 2)]]);
    assert_eq!(found(&history, &[&[2], &[1]]), []);
}

#[test]
fn g0_writes_of_two_are_mixed() {
    let history = beside(&[&[a(1, 1), a(2, 2)], &[a(1, 3), a(2, 4)]]);
    assert_eq!(found(&history, &[&[1, 3], &[4, 2]]), [G0]);
    assert_eq!(found(&history, &[&[1, 3], &[2, 4]]), []);
}

#[test]
fn g1a_something_rolled_back_is_read() {
    let mut history = beside(&[&[a(1, 1)], &[r(1, &[1])], &[a(1, 2)]]);
    history[0].outcome = RolledBack;
    assert!(found(&history, &[&[2]]).contains(&G1a));
    // Rolled back, and there all the same.
    let mut history = beside(&[&[a(1, 1)], &[a(1, 2)]]);
    history[0].outcome = RolledBack;
    assert_eq!(found(&history, &[&[1, 2]]), [G1a]);
}

#[test]
fn g1b_something_half_done_is_read() {
    let history = beside(&[&[a(1, 1), a(1, 2)], &[r(1, &[1])]]);
    assert!(found(&history, &[&[1, 2]]).contains(&G1b));
    let history = beside(&[&[a(1, 1), a(1, 2)], &[r(1, &[1, 2])]]);
    assert_eq!(found(&history, &[&[1, 2]]), []);
}

#[test]
fn g1c_two_read_of_each_other() {
    let history = beside(&[&[a(1, 1), r(2, &[2])], &[a(2, 2), r(1, &[1])]]);
    assert_eq!(found(&history, &[&[1], &[2]]), [G1c]);
}

#[test]
fn a_lost_update_is_g_single() {
    let history = beside(&[&[r(1, &[]), a(1, 1)], &[r(1, &[]), a(1, 2)]]);
    assert_eq!(found(&history, &[&[1, 2]]), [GSingle]);
    // Overwritten, as an update that copies the list does it.
    assert!(found(&history, &[&[2]]).contains(&Lost));
}

#[test]
fn g_single_two_states_are_read() {
    let history = beside(&[&[a(1, 1), a(2, 2)], &[r(1, &[]), r(2, &[2])]]);
    assert_eq!(found(&history, &[&[1], &[2]]), [GSingle]);
}

#[test]
fn g_nonadjacent_two_readers_see_two_writers_in_either_order() {
    let history =
        beside(&[&[a(1, 1)], &[a(2, 2)], &[r(1, &[1]), r(2, &[])], &[r(2, &[2]), r(1, &[])]]);
    assert_eq!(found(&history, &[&[1], &[2]]), [GNonadjacent]);
}

#[test]
fn g2_write_skew() {
    let history = beside(&[&[r(1, &[]), r(2, &[]), a(1, 1)], &[r(1, &[]), r(2, &[]), a(2, 2)]]);
    assert_eq!(found(&history, &[&[1], &[2]]), [G2, NotStrict]);
    // The reader between two writers.
    let history = beside(&[
        &[r(1, &[]), r(2, &[]), a(1, 1)],
        &[r(2, &[]), a(2, 2)],
        &[r(1, &[]), r(2, &[2])],
    ]);
    assert_eq!(found(&history, &[&[1], &[2]]), [G2, NotStrict]);
}

#[test]
fn what_is_out_of_date_is_found_by_time() {
    let history = in_turn(&[&[a(1, 1)], &[r(1, &[])]]);
    assert_eq!(found(&history, &[&[1]]), [Stale]);
    let history = beside(&[&[a(1, 1)], &[r(1, &[])]]);
    assert_eq!(found(&history, &[&[1]]), []);
    // Three in turn, the first and the last of which do not know each other.
    let history = in_turn(&[&[a(1, 1)], &[r(2, &[])], &[r(1, &[])]]);
    assert_eq!(found(&history, &[&[1], &[]]), [Stale]);
    // Nobody knows when one ended whose commit was not told; if it is there, it was committed.
    let mut history = in_turn(&[&[a(1, 1)], &[r(1, &[])], &[r(1, &[1])]]);
    history[0].outcome = Unknown;
    assert_eq!(found(&history, &[&[1]]), []);
    assert!(found(&history, &[&[]]).contains(&Order));
}

#[test]
fn what_no_level_allows() {
    let history = in_turn(&[&[a(1, 1)], &[a(1, 2)]]);
    assert_eq!(found(&history, &[&[2]]), [Lost]);
    assert!(found(&history, &[&[1, 2, 2]]).contains(&Garbage));
    assert!(found(&history, &[&[1, 2, 7]]).contains(&Garbage));
    let history = in_turn(&[&[a(1, 1), r(1, &[])]]);
    assert!(found(&history, &[&[1]]).contains(&Internal));
    let history = beside(&[&[a(1, 1)], &[r(1, &[]), r(1, &[1])]]);
    assert!(found(&history, &[&[1]]).contains(&Internal));
    let history = beside(&[&[a(1, 1)], &[a(1, 2)], &[r(1, &[2, 1])]]);
    assert!(found(&history, &[&[1, 2]]).contains(&Order));
    // Half of a transaction, of which nobody was told, is there.
    let mut history = in_turn(&[&[a(1, 1), a(2, 2)]]);
    history[0].outcome = Unknown;
    assert_eq!(found(&history, &[&[1], &[]]), [Lost]);
    assert_eq!(found(&history, &[&[], &[]]), []);
}
