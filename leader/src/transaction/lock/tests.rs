//! Waits, circles and releases.

use std::time::Duration;

use super::LockMode::{Exclusive, Shared};
use super::*;

fn owner(xid: u64) -> Owner {
    Owner { xid: Xid(xid), process_id: 100, started_us: 7 }
}

fn locks(table: &Arc<LockTable>, xid: u64) -> HeldLocks {
    HeldLocks::new(Arc::clone(table), owner(xid))
}

fn rows(segment: u64, rows: &[u32]) -> ClaimedRows {
    let mut set = RowSet::new(1000);
    set.insert(rows);
    Arc::new(BTreeMap::from([(SegmentId(segment), Arc::new(set))]))
}

async fn until_waiting(table: &LockTable, xid: u64) {
    let waiting = async {
        while !table.state.lock().waits.contains_key(&Xid(xid)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

fn is_empty(table: &LockTable) -> bool {
    let state = table.state.lock();
    state.tables.is_empty() && state.waits.is_empty() && state.owners.is_empty()
}

#[tokio::test]
async fn locks_taken_late_can_be_released_first() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Exclusive).await.unwrap();
    let count = first.count();
    first.acquire(TableId(20), Exclusive).await.unwrap();
    first.acquire(TableId(10), Shared).await.unwrap();
    first.release_since(count);
    second.acquire(TableId(20), Exclusive).await.unwrap();
    assert_eq!(table.state.lock().mode_of(Xid(1), TableId(10)), Some(Exclusive));
    drop((first, second));
    assert!(is_empty(&table));
}

#[tokio::test]
async fn a_circle_of_waits_is_refused() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Exclusive).await.unwrap();
    second.acquire(TableId(20), Exclusive).await.unwrap();
    let waiting = tokio::spawn(async move {
        first.acquire(TableId(20), Exclusive).await.unwrap();
        first
    });
    until_waiting(&table, 1).await;
    let error = second.acquire(TableId(10), Exclusive).await.unwrap_err();
    assert_eq!(error.to_string(), "deadlock detected");
    drop(second);
    drop(waiting.await.unwrap());
    assert!(is_empty(&table));
}

#[tokio::test]
async fn shared_holders_do_not_wait_for_each_other_but_for_one_alone() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Shared).await.unwrap();
    second.acquire(TableId(10), Shared).await.unwrap();
    let mut alone = locks(&table, 3);
    let waiting = tokio::spawn(async move {
        alone.acquire(TableId(10), Exclusive).await.unwrap();
        alone
    });
    until_waiting(&table, 3).await;
    // A newcomer does not overtake it; who has the table already may go on.
    let mut late = locks(&table, 4);
    let late = tokio::spawn(async move {
        late.acquire(TableId(10), Shared).await.unwrap();
        late
    });
    until_waiting(&table, 4).await;
    second.acquire(TableId(10), Shared).await.unwrap();
    drop(first);
    drop(second);
    let alone = waiting.await.unwrap();
    assert!(!late.is_finished());
    drop(alone);
    drop(late.await.unwrap());
    assert!(is_empty(&table));
}

#[tokio::test]
async fn two_that_want_to_be_alone_after_sharing_are_a_circle() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Shared).await.unwrap();
    second.acquire(TableId(10), Shared).await.unwrap();
    let waiting = tokio::spawn(async move {
        first.acquire(TableId(10), Exclusive).await.unwrap();
        first
    });
    until_waiting(&table, 1).await;
    let error = second.acquire(TableId(10), Exclusive).await.unwrap_err();
    assert_eq!(error.to_string(), "deadlock detected");
    drop(second);
    drop(waiting.await.unwrap());
    assert!(is_empty(&table));
}

#[tokio::test]
async fn a_table_held_alone_is_shared_again_after_going_back() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Shared).await.unwrap();
    let count = first.count();
    first.acquire(TableId(10), Exclusive).await.unwrap();
    first.release_since(count);
    second.acquire(TableId(10), Shared).await.unwrap();
    drop((first, second));
    assert!(is_empty(&table));
}

#[tokio::test]
async fn only_common_rows_are_waited_for() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    assert_eq!(first.claim(TableId(10), rows(5, &[1, 2])).await.unwrap(), None);
    assert_eq!(first.claim(TableId(10), rows(5, &[2, 3])).await.unwrap(), None);
    assert_eq!(second.claim(TableId(10), rows(5, &[4])).await.unwrap(), None);
    assert_eq!(second.claim(TableId(10), rows(6, &[1])).await.unwrap(), None);
    let waiting = tokio::spawn(async move {
        let waited_for = second.claim(TableId(10), rows(5, &[3])).await.unwrap();
        (second, waited_for)
    });
    until_waiting(&table, 2).await;
    let error = first.claim(TableId(10), rows(6, &[1])).await.unwrap_err();
    assert_eq!(error.to_string(), "deadlock detected");
    drop(first);
    let (second, waited_for) = waiting.await.unwrap();
    assert_eq!(waited_for, Some(Xid(1)));
    drop(second);
    assert!(is_empty(&table));
}

#[tokio::test]
async fn who_gives_up_waiting_holds_nobody_up() {
    let table = Arc::new(LockTable::default());
    let mut first = locks(&table, 1);
    first.acquire(TableId(10), Shared).await.unwrap();
    let mut alone = locks(&table, 2);
    let waiting = tokio::spawn(async move { alone.acquire(TableId(10), Exclusive).await });
    until_waiting(&table, 2).await;
    let mut late = locks(&table, 3);
    let late = tokio::spawn(async move {
        late.acquire(TableId(10), Shared).await.unwrap();
        late
    });
    until_waiting(&table, 3).await;
    waiting.abort();
    let late = tokio::time::timeout(Duration::from_secs(20), late).await.unwrap().unwrap();
    drop((first, late));
    assert!(is_empty(&table));
}

#[tokio::test]
async fn rows_say_who_holds_a_table_and_who_waits_for_it() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Shared).await.unwrap();
    first.claim(TableId(10), rows(5, &[1])).await.unwrap();
    second.acquire(TableId(20), Exclusive).await.unwrap();
    second.acquire(TableId(10), Shared).await.unwrap();
    let waiting = tokio::spawn(async move {
        second.claim(TableId(10), rows(5, &[1])).await.unwrap();
        second
    });
    until_waiting(&table, 2).await;
    let mut alone = locks(&table, 3);
    let last = tokio::spawn(async move {
        alone.acquire(TableId(20), Exclusive).await.unwrap();
        alone
    });
    until_waiting(&table, 3).await;
    let row = |id, xid, mode, waits| LockRow { table: TableId(id), owner: owner(xid), mode, waits };
    let expected = [
        row(10, 1, Shared, false),
        row(10, 2, Shared, true),
        row(20, 2, Exclusive, false),
        row(20, 3, Exclusive, true),
    ];
    assert_eq!(table.rows(), expected);
    // A commit goes on with the locks of a transaction that is gone.
    let handed_over = first.hand_over();
    drop(first);
    assert_eq!(table.rows(), expected);
    drop(handed_over);
    drop(waiting.await.unwrap());
    drop(last.await.unwrap());
    assert!(is_empty(&table));
}

/// A circle may lead through places of workload management, of which any one would do.
#[tokio::test]
async fn a_place_that_is_never_given_back_is_not_waited_for() {
    let table = Arc::new(LockTable::default());
    let (mut first, mut second) = (locks(&table, 1), locks(&table, 2));
    first.acquire(TableId(10), Exclusive).await.unwrap();
    second.acquire(TableId(30), Exclusive).await.unwrap();
    let waiting = tokio::spawn(async move {
        second.acquire(TableId(10), Shared).await.unwrap();
        second
    });
    until_waiting(&table, 2).await;
    let waits = |waits: &[(u64, &[u64])]| -> PlaceWaits {
        let xids = |xids: &[u64]| xids.iter().map(|xid| Xid(*xid)).collect();
        waits.iter().map(|(xid, holders)| (Xid(*xid), xids(holders))).collect()
    };
    let stuck = |of: u64, places: &[(u64, &[u64])]| {
        let result = table.refuse_stuck(Xid(of), &waits(places));
        result.err().map(|error| error.to_string())
    };
    // The second one has the place and waits for the first one.
    assert!(stuck(1, &[(1, &[2])]).is_some_and(|text| text.contains("deadlock detected")));
    // Somebody else has a place too, or there is room, or memory has to become free.
    assert_eq!(stuck(1, &[(1, &[2, 3])]), None);
    assert_eq!(stuck(1, &[(1, &[])]), None);
    // That one waits as well: for the first one, or for a place that somebody will give back.
    assert!(stuck(1, &[(1, &[2, 3]), (3, &[2])]).is_some());
    assert_eq!(stuck(1, &[(1, &[2, 3]), (3, &[4])]), None);
    // Whoever is not in the circle, but waits behind it.
    assert!(stuck(5, &[(1, &[2]), (5, &[2])]).is_some());
    drop(first);
    let second = waiting.await.unwrap();
    assert_eq!(stuck(1, &[(1, &[2])]), None);
    drop(second);
    assert!(is_empty(&table));
}
