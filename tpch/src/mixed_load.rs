//! Long and short queries at the same time: what short ones wait, and what it costs the long ones.
//!
//! Three phases on a running server that has the tables: short queries alone, long ones alone, both
//! together. Long sessions run a fixed list of queries in turn, each beginning at another place.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_postgres::Config;

use crate::client::{Client, describe};
use crate::queries::Query;

/// Sessions that run long queries.
const LONG_SESSIONS: usize = 4;
/// What they run: scans, joins, large groups.
const LONG_QUERIES: [u8; 6] = [1, 9, 18, 21, 3, 13];
/// Between two short queries.
const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// Keys of orders that short queries look for, at any scale of at least 0.01.
const KEYS: u64 = 60_000;

/// What was measured in a phase.
#[derive(Debug, Default)]
struct Phase {
    /// Times of short queries, ascending.
    short_ms: Vec<f64>,
    /// Long queries that ended.
    long: usize,
}

/// Run the three phases, each for so many seconds, and print what came out.
pub(crate) async fn run(config: &Config, seconds: u64) -> anyhow::Result<()> {
    let span = Duration::from_secs(seconds);
    // Caches and predictions are warm in all phases alike.
    phase(config, span / 4, 1, LONG_SESSIONS).await?;
    let idle = phase(config, span, 1, 0).await?;
    let long = phase(config, span, 0, LONG_SESSIONS).await?;
    let both = phase(config, span, 1, LONG_SESSIONS).await?;
    let mut out = std::io::stdout();
    writeln!(out, "phase        short   p50 ms   p95 ms   p99 ms    long  per minute")?;
    for (name, phase) in [("short only", &idle), ("long only", &long), ("both", &both)] {
        let per_minute = phase.long as f64 * 60.0 / span.as_secs_f64();
        writeln!(
            out,
            "{name:<11} {:>6} {:>8.1} {:>8.1} {:>8.1} {:>7} {per_minute:>11.1}",
            phase.short_ms.len(),
            percentile(&phase.short_ms, 50),
            percentile(&phase.short_ms, 95),
            percentile(&phase.short_ms, 99),
            phase.long,
        )?;
    }
    Ok(())
}

fn percentile(ascending: &[f64], percent: usize) -> f64 {
    let at = (ascending.len() * percent).div_ceil(100).saturating_sub(1);
    ascending.get(at).copied().unwrap_or(f64::NAN)
}

async fn phase(
    config: &Config,
    span: Duration,
    short: usize,
    long: usize,
) -> anyhow::Result<Phase> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut sessions = JoinSet::new();
    for number in 0..short {
        let client = Client::connect(config.clone()).await?;
        sessions.spawn(short_session(client, number as u64, Arc::clone(&stop)));
    }
    for number in 0..long {
        let client = Client::connect(config.clone()).await?;
        sessions.spawn(long_session(client, number, Arc::clone(&stop)));
    }
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut phase = Phase::default();
    while let Some(session) = sessions.join_next().await {
        let part = session.context("a session panicked")??;
        phase.short_ms.extend(part.short_ms);
        phase.long += part.long;
    }
    phase.short_ms.sort_by(f64::total_cmp);
    Ok(phase)
}

async fn short_session(
    client: Client,
    number: u64,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Phase> {
    let mut phase = Phase::default();
    let mut key = number;
    while !stop.load(Ordering::Relaxed) {
        // Any order of keys does, as long as they differ.
        key = (key + 7_919) % KEYS;
        let sql = format!(
            "SELECT o_orderstatus, count(*), sum(l_extendedprice) FROM orders, lineitem \
             WHERE o_orderkey = l_orderkey AND o_orderkey BETWEEN {key} AND {} GROUP BY 1",
            key + 10
        );
        let fetched = client.fetch(&sql).await.map_err(|e| anyhow::anyhow!(describe(&e)))?;
        phase.short_ms.push(fetched.elapsed.as_secs_f64() * 1000.0);
        tokio::time::sleep(SHORT_PAUSE).await;
    }
    Ok(phase)
}

async fn long_session(
    client: Client,
    number: usize,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Phase> {
    let queries: Vec<Query> =
        Query::all().into_iter().filter(|query| LONG_QUERIES.contains(&query.number)).collect();
    let mut phase = Phase::default();
    for query in queries.iter().cycle().skip(number) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        client.fetch(query.sql).await.map_err(|e| anyhow::anyhow!(describe(&e)))?;
        // What ends after the phase is not part of it.
        phase.long += usize::from(!stop.load(Ordering::Relaxed));
    }
    Ok(phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 10.0);
        assert_eq!(percentile(&values, 95), 19.0);
        assert_eq!(percentile(&values, 99), 20.0);
        assert!(percentile(&[], 50).is_nan());
    }
}
