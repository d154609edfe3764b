//! The queries, each cold and then warm, in turn with the peer when there is one.
//!
//! "Cold" is a query's first run after the load in this session; no caches of the machine are
//! dropped. The result cache is off, so a warm run computes its answer again. The time of ours
//! runs from sending the statement to the last row received over the socket; the peer's ends when
//! its result is complete in its own memory. Every run's answer is checked, outside the time.

use serde::Serialize;
use tokio_postgres::error::SqlState;

use crate::answers;
use crate::check::{Answer, Verdict};
use crate::client::{Client, describe};
use crate::duckdb::DuckDb;
use crate::progress::Progress;
use crate::queries::Query;

/// What is run and how often.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scale: f64,
    pub(crate) queries: Vec<Query>,
    /// Warm runs of each query.
    pub(crate) runs: u32,
}

/// Milliseconds of the runs of one query in one engine.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Times {
    pub(crate) cold_ms: f64,
    pub(crate) warm_ms: Vec<f64>,
}

impl Times {
    /// The shortest warm run.
    pub(crate) fn best_ms(&self) -> f64 {
        self.warm_ms.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The middle warm run, of an even number the mean of the middle two.
    pub(crate) fn median_ms(&self) -> f64 {
        let mut sorted = self.warm_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }
}

/// What happened to one query.
#[derive(Debug)]
pub(crate) struct QueryRun {
    pub(crate) number: u8,
    /// Absent when the query failed.
    pub(crate) times: Option<Times>,
    pub(crate) rows: u64,
    /// A query that failed is wrong.
    pub(crate) verdict: Verdict,
    pub(crate) peer: Option<Times>,
}

/// Run all queries of the plan.
pub(crate) async fn run(
    plan: &Plan,
    client: &mut Client,
    mut peer: Option<&mut DuckDb>,
) -> anyhow::Result<Vec<QueryRun>> {
    prepare(client).await?;
    let progress = Progress::new("running", plan.queries.len());
    let mut results = Vec::new();
    for query in &plan.queries {
        progress.at(&format!("Q{}", query.number));
        results.push(run_query(plan, query, client, peer.as_deref_mut()).await?);
        progress.step(&format!("Q{}", query.number));
        if client.reconnect_if_closed().await? {
            prepare(client).await?;
        }
    }
    progress.finish();
    Ok(results)
}

/// Make the server compute each answer anew.
async fn prepare(client: &Client) -> anyhow::Result<()> {
    match client.execute("SET enable_result_cache_for_session TO off").await {
        Ok(()) => Ok(()),
        // A server without the setting has no result cache either.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
        Err(error) => anyhow::bail!("cannot turn the result cache off: {}", describe(&error)),
    }
}

async fn run_query(
    plan: &Plan,
    query: &Query,
    client: &Client,
    mut peer: Option<&mut DuckDb>,
) -> anyhow::Result<QueryRun> {
    let mut answer = answers::answer(plan.scale, query.number)?;
    let mut result = QueryRun {
        number: query.number,
        times: None,
        rows: 0,
        verdict: Verdict::NotChecked,
        peer: None,
    };
    let mut times = Times::default();
    let mut peer_times = Times::default();
    let mut failure = None;
    // Run 0 is the cold one.
    for run in 0..=plan.runs {
        if failure.is_none() {
            match client.fetch(query.sql).await {
                Ok(fetched) => {
                    let elapsed_ms = fetched.elapsed.as_secs_f64() * 1000.0;
                    record(&mut times, run, elapsed_ms);
                    result.rows = fetched.rows.len() as u64;
                    // The peer's answer comes after our first run, so rows wait for it.
                    if answer.is_none()
                        && let Some(peer) = peer.as_deref_mut()
                    {
                        let (peer_run, peer_answer) = peer.answer(query.sql).await?;
                        record(&mut peer_times, run, peer_run.milliseconds);
                        answer = Some(peer_answer);
                        merge(&mut result.verdict, check(answer.as_ref(), query, &fetched.rows));
                        continue;
                    }
                    merge(&mut result.verdict, check(answer.as_ref(), query, &fetched.rows));
                }
                Err(error) => failure = Some(describe(&error)),
            }
        }
        if let Some(peer) = peer.as_deref_mut() {
            let peer_run = peer.run(query.sql).await?;
            record(&mut peer_times, run, peer_run.milliseconds);
        }
    }
    match failure {
        Some(error) => result.verdict = Verdict::Wrong(format!("error: {error}")),
        None => result.times = Some(times),
    }
    result.peer = peer.is_some().then_some(peer_times);
    Ok(result)
}

fn record(times: &mut Times, run: u32, milliseconds: f64) {
    match run {
        0 => times.cold_ms = milliseconds,
        _ => times.warm_ms.push(milliseconds),
    }
}

fn check(answer: Option<&Answer>, query: &Query, rows: &[crate::check::Row]) -> Verdict {
    answer.map_or(Verdict::NotChecked, |answer| answer.check(query, rows))
}

/// One wrong run makes the query wrong.
fn merge(verdict: &mut Verdict, latest: Verdict) {
    if !matches!(verdict, Verdict::Wrong(_)) {
        *verdict = latest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_middle_of_the_warm_runs() {
        let times = |warm: &[f64]| Times { cold_ms: 99.0, warm_ms: warm.to_vec() };
        assert_eq!(times(&[3.0, 1.0, 8.0]).best_ms(), 1.0);
        assert_eq!(times(&[3.0, 1.0, 8.0]).median_ms(), 3.0);
        assert_eq!(times(&[3.0, 1.0, 8.0, 4.0]).median_ms(), 3.5);
    }

    #[test]
    fn one_wrong_run_is_enough() {
        let wrong = || Verdict::Wrong("x".to_owned());
        let mut verdict = Verdict::Right;
        merge(&mut verdict, wrong());
        merge(&mut verdict, Verdict::Right);
        assert_eq!(verdict, wrong());
    }
}
