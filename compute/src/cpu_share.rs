//! Shares of the processor.
//!
//! Whatever a query does runs in tasks that DataFusion spawns, and for each of them it calls a hook:
//! there they become [`Sharing`], as parts of the query that spawned them. A query that uses the
//! processor while others are at work on the same threads pays with virtual time: processor time
//! divided by its share (Demers, Keshav and Shenker, Analysis and Simulation of a Fair Queueing
//! Algorithm, 1989; where queries begin as in Goyal, Vin and Cheng, Start-time Fair Queuing, 1996). A
//! task whose query has paid more than one with a larger share goes to the end of the line, a number
//! of times at most before it has its turn: if nobody is in line, that takes some microseconds.
//!
//! Queries of equal shares are left to the threads. While all shares are equal nothing is measured.

use std::any::Any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::yield_now;

use crate::query_threads::Pace;

/// The virtual time of a query with this share goes as fast as its processor time.
const UNIT_SHARE: u64 = 32;
/// How far ahead a query may be, virtual nanoseconds: some polls, so that turns do not change with
/// each of them.
const AHEAD_MAX_NS: u64 = 5_000_000;
/// A task lets others go first so many times, and then has its turn.
const PASSES_MAX: u32 = 32;
/// A query that was polled so lately is at work.
const AT_WORK: Duration = Duration::from_millis(20);

/// The share of a query in the processors of this process, for as long as it runs.
#[derive(Debug, Clone)]
pub struct CpuShare(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    account: Arc<Account>,
    /// For the nodes that work for the query.
    changes: watch::Sender<u32>,
}

#[derive(Debug)]
struct Account {
    share: AtomicU32,
    /// The threads that it runs on: only queries on the same threads wait for each other.
    pace: Pace,
    /// Virtual nanoseconds.
    paid: AtomicU64,
    /// How many of its tasks are polled now.
    polls: AtomicUsize,
    /// When a poll ended last, nanoseconds since the process began to count.
    polled_at: AtomicU64,
}

/// The accounts of all queries.
struct Books {
    started: Instant,
    open: Mutex<Vec<Arc<Account>>>,
    /// Whether there are different shares.
    are_unequal: AtomicBool,
    /// How far the payments have come, virtual nanoseconds: those who begin, or begin again, start
    /// from here.
    time: AtomicU64,
}

static BOOKS: LazyLock<Books> = LazyLock::new(|| Books {
    started: Instant::now(),
    open: Mutex::default(),
    are_unequal: AtomicBool::new(false),
    time: AtomicU64::new(0),
});

tokio::task_local! {
    /// Of the query whose task is polled.
    static CURRENT: CpuShare;
}

impl CpuShare {
    /// Opens an account. Two queries that want all the same threads get them in the proportion of
    /// their shares.
    pub fn new(share: u32, pace: Pace) -> Self {
        let account = Arc::new(Account {
            share: AtomicU32::new(share.max(1)),
            pace,
            paid: AtomicU64::new(BOOKS.time.load(Ordering::Relaxed)),
            polls: AtomicUsize::new(0),
            polled_at: AtomicU64::new(0),
        });
        BOOKS.change(|open| open.push(Arc::clone(&account)));
        let changes = watch::Sender::new(share);
        Self(Arc::new(Entry { account, changes }))
    }

    /// The threads that the query runs on.
    pub fn pace(&self) -> Pace {
        self.0.account.pace
    }

    /// The share now, and whenever it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u32> {
        self.0.changes.subscribe()
    }

    /// From now on the query has another share.
    pub fn set(&self, share: u32) {
        let account = &self.0.account;
        BOOKS.change(|_| account.share.store(share.max(1), Ordering::Relaxed));
        self.0.changes.send_replace(share);
    }

    /// What is spawned meanwhile, by this thread, belongs to the query.
    pub fn scope<T>(&self, spawn: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), spawn)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        BOOKS.change(|open| open.retain(|account| !Arc::ptr_eq(account, &self.account)));
    }
}

/// What a task that is about to be polled finds.
enum Turn {
    /// Nobody else is at work on the threads.
    Free,
    /// Others are: it pays.
    Paid,
    /// Others go first.
    NotYet,
}

impl Books {
    /// Changes accounts or their shares.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Account>>)) {
        let mut open = self.open.lock();
        change(&mut open);
        let first = open.first().map(|account| account.share());
        let are_unequal = open.iter().any(|account| Some(account.share()) != first);
        if are_unequal && !self.are_unequal.load(Ordering::Relaxed) {
            // Nobody has paid for anything lately.
            let time = self.time.load(Ordering::Relaxed);
            open.iter().for_each(|account| account.paid.store(time, Ordering::Relaxed));
        }
        self.are_unequal.store(are_unequal, Ordering::Relaxed);
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    fn turn(&self, account: &Account) -> Turn {
        let now = self.now_ns();
        if !account.is_at_work(now) {
            // Who did not want the processor has not saved it up.
            account.paid.fetch_max(self.time.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let open = self.open.lock();
        let is_rival = |other: &&Arc<Account>| {
            !std::ptr::eq(other.as_ref(), account)
                && other.pace == account.pace
                && other.is_at_work(now)
        };
        let paid = account.paid();
        let mut turn = Turn::Free;
        for other in open.iter().filter(is_rival) {
            if other.share() > account.share() && paid > other.paid() + AHEAD_MAX_NS {
                return Turn::NotYet;
            }
            turn = Turn::Paid;
        }
        turn
    }
}

impl Account {
    fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    fn paid(&self) -> u64 {
        self.paid.load(Ordering::Relaxed)
    }

    fn is_at_work(&self, now_ns: u64) -> bool {
        let polled_at = self.polled_at.load(Ordering::Relaxed);
        let is_lately = polled_at > 0 && now_ns.saturating_sub(polled_at) < nanoseconds(AT_WORK);
        is_lately || self.polls.load(Ordering::Relaxed) > 0
    }

    fn begin_poll(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
    }

    fn end_poll(&self) {
        self.polled_at.store(BOOKS.now_ns(), Ordering::Relaxed);
        self.polls.fetch_sub(1, Ordering::Relaxed);
    }

    fn pay(&self, cpu_ns: u64) {
        let virtual_ns = cpu_ns * UNIT_SHARE / u64::from(self.share());
        let before = self.paid.fetch_add(virtual_ns, Ordering::Relaxed);
        BOOKS.time.fetch_max(before, Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the calling thread has used.
fn thread_cpu_ns() -> u64 {
    nanoseconds(ThreadTime::now().as_duration())
}

/// A task of a query: polled when it is the query's turn.
struct Sharing {
    task: BoxFuture<'static, Box<dyn Any + Send>>,
    share: CpuShare,
    /// How often it has let others go first since its last turn.
    passes: u32,
}

impl Sharing {
    fn poll_task(&mut self, context: &mut Context<'_>) -> Poll<Box<dyn Any + Send>> {
        let task = &mut self.task;
        CURRENT.sync_scope(self.share.clone(), || task.poll_unpin(context))
    }
}

impl Future for Sharing {
    type Output = Box<dyn Any + Send>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !BOOKS.are_unequal.load(Ordering::Relaxed) {
            return self.poll_task(context);
        }
        let account = Arc::clone(&self.share.0.account);
        let must_pay = match BOOKS.turn(&account) {
            Turn::NotYet if self.passes < PASSES_MAX => {
                self.passes += 1;
                // To the end of the line, behind those who have yielded too. It is woken whatever
                // becomes of this future.
                let mut yielding = std::pin::pin!(yield_now());
                if yielding.poll_unpin(context).is_pending() {
                    return Poll::Pending;
                }
                true
            }
            Turn::NotYet | Turn::Paid => true,
            Turn::Free => false,
        };
        self.passes = 0;
        account.begin_poll();
        let before = must_pay.then(thread_cpu_ns);
        let polled = self.poll_task(context);
        if let Some(before) = before {
            account.pay(thread_cpu_ns().saturating_sub(before));
        }
        account.end_poll();
        polled
    }
}

/// Puts tasks into the share of the query that spawns them.
struct Hook;

impl JoinSetTracer for Hook {
    fn trace_future(
        &self,
        task: BoxFuture<'static, Box<dyn Any + Send>>,
    ) -> BoxFuture<'static, Box<dyn Any + Send>> {
        match CURRENT.try_with(CpuShare::clone) {
            Ok(share) => Sharing { task, share, passes: 0 }.boxed(),
            Err(_) => task,
        }
    }

    fn trace_block(
        &self,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        work
    }
}

/// Makes shares count in this process, from now on. More than once does nothing.
pub fn enable() {
    // There is no other hook in the process, and this one again is none the worse.
    let _ = set_join_set_tracer(&Hook);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::common::runtime::JoinSet;
    use tokio::runtime::Builder;

    use super::*;

    /// Uses the processor for about half a millisecond.
    fn work() {
        let before = thread_cpu_ns();
        while thread_cpu_ns() - before < 500_000 {
            std::hint::spin_loop();
        }
    }

    /// A query: its share, how many tasks it works in, and how long it sleeps after each piece.
    type Query = (u32, usize, Duration);

    /// Two queries on so many threads: how often the second has worked when the first has done so
    /// `count` times. Then the second gets the share `change`, if there is one, from the beginning.
    fn race(threads: usize, queries: [Query; 2], count: usize, change: Option<u32>) -> usize {
        enable();
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        let done: [Arc<AtomicUsize>; 2] = [Arc::default(), Arc::default()];
        let shares = queries.map(|(share, ..)| CpuShare::new(share, Pace::Long));
        let mut tasks = JoinSet::new();
        for ((share, (_, width, pause)), done) in shares.iter().zip(queries).zip(&done) {
            let done = Arc::clone(done);
            let outer = async move {
                let mut inner = JoinSet::new();
                for _ in 0..width {
                    let done = Arc::clone(&done);
                    inner.spawn(async move {
                        loop {
                            work();
                            done.fetch_add(1, Ordering::Relaxed);
                            if pause.is_zero() {
                                yield_now().await;
                            } else {
                                tokio::time::sleep(pause).await;
                            }
                        }
                    });
                }
                inner.join_next().await;
            };
            share.scope(|| tasks.spawn_on(outer, runtime.handle()));
        }
        if let Some(share) = change {
            shares[1].set(share);
        }
        while done[0].load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(1));
        }
        let second = done[1].load(Ordering::Relaxed);
        drop(tasks);
        runtime.shutdown_background();
        second
    }

    const NO: Duration = Duration::ZERO;

    #[test]
    fn the_processor_is_shared_as_the_shares_say() {
        // An eighth; without shares it were as much. Other processes want the processor too.
        let second = race(1, [(32, 1, NO), (4, 1, NO)], 400, None);
        assert!((10..200).contains(&second), "{second} of 400");
        // However many tasks it has.
        let second = race(1, [(32, 1, NO), (4, 5, NO)], 400, None);
        assert!((10..200).contains(&second), "{second} of 400");
        // One that is changed while it runs.
        let second = race(1, [(4, 1, NO), (4, 1, NO)], 400, Some(32));
        assert!(second > 800, "{second} of 400");
    }

    #[test]
    fn what_nobody_wants_is_free() {
        // The first wants a part of the one thread only.
        let pause = Duration::from_millis(5);
        let second = race(1, [(32, 1, pause), (1, 1, NO)], 40, None);
        assert!(second > 80, "{second} while the other worked 40 times");
    }

    #[test]
    fn who_begins_owes_nothing_and_has_saved_nothing() {
        let old = CpuShare::new(1, Pace::Long);
        let _idle = CpuShare::new(2, Pace::Long);
        // It has worked for long beside others.
        old.0.account.begin_poll();
        for _ in 0..1000 {
            old.0.account.pay(1_000_000);
        }
        let new = CpuShare::new(32, Pace::Long);
        new.0.account.begin_poll();
        // As much as for one poll.
        assert_eq!(old.0.account.paid() - new.0.account.paid(), 1_000_000 * UNIT_SHARE);
        assert!(matches!(BOOKS.turn(&old.0.account), Turn::NotYet));
        new.0.account.pay(30_000_000);
        assert!(matches!(BOOKS.turn(&old.0.account), Turn::Paid));
        // On other threads nobody is in the way.
        let quick = CpuShare::new(1, Pace::Quick);
        quick.0.account.begin_poll();
        quick.0.account.pay(1_000_000_000);
        assert!(matches!(BOOKS.turn(&quick.0.account), Turn::Free));
    }
}
