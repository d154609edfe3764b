//! Admission against a real scheduler and real pools, without a server.

use std::sync::Arc;
use std::time::Duration;

use compute::memory::{MemoryLimits, runtime_env};
use datafusion::execution::memory_pool::MemoryConsumer;
use wlm::{Identity, PlanFeatures, QueryKind, UserId};

use super::*;

const MEMORY_BYTES: usize = 64 << 20;

fn workload(json: &str) -> (Arc<Workload>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let limits = MemoryLimits {
        memory_bytes: MEMORY_BYTES,
        spill_dir: directory.path().join("spill"),
        spill_bytes_max: 1 << 20,
    };
    let base = runtime_env(&limits).unwrap();
    let config = Config::parse(json).unwrap().config;
    let workload =
        Workload::new(config, 1, MEMORY_BYTES, base, Arc::new(chrono::Utc::now)).unwrap();
    workload.watch(&Handle::current());
    (workload, directory)
}

fn request(slot_count: u32, kind: QueryKind) -> Request {
    Request {
        user: UserId(100),
        session: SessionId(1),
        xid: 1,
        identity: Arc::new(Identity::default()),
        query_group: None,
        kind,
        slot_count,
        statement_started: Time(0),
        statement_timeout: None,
        features: PlanFeatures::default(),
    }
}

fn select() -> Request {
    request(1, QueryKind::Select)
}

/// Waits for a condition, not for a time.
async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
}

fn waiting(workload: &Workload) -> usize {
    workload.inner.lock().waiting.len()
}

#[tokio::test]
async fn the_next_one_starts_when_one_ends() {
    let (workload, _directory) = workload(r#"[{"query_concurrency":1}]"#);
    let first = workload.admit(select()).await.unwrap();
    let other = Arc::clone(&workload);
    let second = tokio::spawn(async move { other.admit(select()).await.unwrap().query() });
    until(|| waiting(&workload) == 1).await;
    drop(first);
    assert_eq!(second.await.unwrap(), QueryId(2));
    until(|| workload.is_idle()).await;
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_no_trace() {
    let (workload, _directory) = workload(r#"[{"query_concurrency":1}]"#);
    let first = workload.admit(select()).await.unwrap();
    for _ in 0..100 {
        let other = Arc::clone(&workload);
        let waiter = tokio::spawn(async move { other.admit(select()).await.map(drop) });
        until(|| waiting(&workload) == 1).await;
        waiter.abort();
        until(|| waiting(&workload) == 0).await;
    }
    drop(first);
    until(|| workload.is_idle()).await;
    workload.admit(select()).await.unwrap();
}

#[tokio::test]
async fn too_many_slots_are_refused() {
    let (workload, _directory) = workload(r#"[{"query_concurrency":2}]"#);
    let error = workload.admit(request(3, QueryKind::Select)).await.unwrap_err();
    let report = crate::pgwire::report::Report::from(error);
    assert_eq!(report.sqlstate, code::CONFIGURATION_LIMIT_EXCEEDED);
    assert!(workload.is_idle());
}

/// 64 MiB: a sixteenth for the leader, a twentieth of the rest for superusers.
#[tokio::test]
async fn a_slot_is_a_hard_limit_of_memory() {
    let (workload, _directory) = workload(r#"[{"query_concurrency":2}]"#);
    let pool = (MEMORY_BYTES - MEMORY_BYTES / 16) as u64;
    let slot = (pool - pool / 20) / 2;
    let admission = workload.admit(select()).await.unwrap();
    assert_eq!(admission.grant.memory_bytes, slot);
    let runtime = admission.memory().runtime_env();
    let held = MemoryConsumer::new("test").register(&runtime.memory_pool);
    held.try_grow(usize::try_from(slot).unwrap()).unwrap();
    assert!(held.try_grow(1).is_err());
    // The place is given away only when the memory is free.
    drop(admission);
    let second = workload.admit(request(1, QueryKind::Write)).await.unwrap();
    let other = Arc::clone(&workload);
    let third = tokio::spawn(async move { other.admit(select()).await.map(drop) });
    until(|| waiting(&workload) == 1).await;
    drop(held);
    third.await.unwrap().unwrap();
    drop(second);
    until(|| workload.is_idle()).await;
}

#[tokio::test]
async fn a_time_limit_stops_a_write_and_restarts_a_query_elsewhere() {
    let (workload, _directory) = workload(
        r#"[{"user_group":["a"],"query_concurrency":1,"max_execution_time":20},
            {"query_group":["b"],"query_concurrency":1},{"query_concurrency":1}]"#,
    );
    let identity = Arc::new(Identity { groups: vec!["a".to_owned()], ..Identity::default() });
    let of_group = |kind, query_group: Option<&str>| Request {
        identity: Arc::clone(&identity),
        query_group: query_group.map(Arc::from),
        ..request(1, kind)
    };
    let write = workload.admit(of_group(QueryKind::Write, None)).await.unwrap();
    let order = write.orders().next().await;
    assert_eq!(order, Order::Stop(EndReason::ExecutionTimeLimit));
    drop(write);

    // The next queue is taken: the query has to start again there.
    let blocker = Request { query_group: Some(Arc::from("b")), ..select() };
    let blocker = workload.admit(blocker).await.unwrap();
    let query = Request { query_group: None, ..of_group(QueryKind::Select, None) };
    let query = Request { query_group: Some(Arc::from("b")), ..query };
    let query = Arc::new(workload.admit(query).await.unwrap());
    assert_eq!(query.grant.service_class.0, 6);
    assert_eq!(query.orders().next().await, Order::Restart);
    assert!(!query.begin_returning(), "no row may go any more");
    let restarting = tokio::spawn(query.restart());
    until(|| waiting(&workload) == 1).await;
    drop(blocker);
    let renamed = restarting.await.unwrap().unwrap();
    assert_eq!(renamed.grant.service_class.0, 7);
    drop(renamed);
    until(|| workload.is_idle()).await;
}

#[tokio::test]
async fn a_query_that_returns_rows_is_not_restarted() {
    let (workload, _directory) = workload(
        r#"[{"user_group":["a"],"query_concurrency":1,"max_execution_time":20},
            {"query_concurrency":1}]"#,
    );
    let identity = Arc::new(Identity { groups: vec!["a".to_owned()], ..Identity::default() });
    let query = workload.admit(Request { identity, ..select() }).await.unwrap();
    assert!(query.begin_returning());
    let order =
        tokio::time::timeout(Duration::from_millis(200), async { query.orders().next().await });
    assert!(order.await.is_err(), "it goes on");
}

#[tokio::test]
async fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let (workload, _directory) = workload(r#"[{"query_concurrency":3}]"#);
    for bad in [r#"[{"query_concurrency":51}]"#, "nonsense", r#"[{"memory_percent_to_use":120}]"#] {
        let error = workload.check(bad).unwrap_err();
        let report = crate::pgwire::report::Report::from(error);
        assert_eq!(report.sqlstate, code::INVALID_PARAMETER_VALUE);
        assert!(report.detail.is_some(), "{bad}");
    }
    let slots = |workload: &Workload| {
        workload.read(|scheduler, _| scheduler.service_class_config_rows()[1].num_query_tasks)
    };
    assert_eq!(slots(&workload), 3);
    let parsed = workload.check(r#"[{"query_concurrency":4}]"#).unwrap();
    let changed = workload.reconfigure(parsed.config).unwrap();
    assert!(changed.after_restart.is_empty());
    assert_eq!(slots(&workload), 4);
}
