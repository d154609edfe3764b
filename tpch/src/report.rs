//! The figures of a run: one table for people, one JSON document for machines.

use std::fmt::Write as _;

use serde::Serialize;

use crate::check::Verdict;
use crate::load::Load;
use crate::run::{QueryRun, Times};

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) scale: f64,
    /// Of a server that this run started; absent where the server chose or was given.
    pub(crate) nodes: Option<u32>,
    pub(crate) slices: Option<u32>,
    /// Cores of this machine.
    pub(crate) cores: usize,
    /// What the server says to `SELECT version()`.
    pub(crate) server_version: Option<String>,
    /// Warm runs of each query.
    pub(crate) runs: u32,
    pub(crate) generate_ms: Option<f64>,
    /// Absent when the tables were there already.
    pub(crate) load: Option<Load>,
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) memory_bytes_peak: Option<u64>,
    pub(crate) queries: Vec<QueryFigures>,
    pub(crate) duckdb: Option<PeerFigures>,
    pub(crate) summary: Summary,
}

/// The figures of one query.
#[derive(Debug, Serialize)]
pub(crate) struct QueryFigures {
    query: u8,
    /// `right`, `wrong` or `not checked`.
    answer: &'static str,
    /// The first difference, or the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<String>,
    rows: u64,
    #[serde(flatten)]
    times: Option<Measured>,
    duckdb: Option<Measured>,
    /// Ours divided by DuckDB's, best warm runs.
    ratio: Option<f64>,
}

/// Times with their two digests.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    times: Times,
    best_ms: f64,
    median_ms: f64,
}

/// DuckDB's part that is not per query.
#[derive(Debug, Serialize)]
pub(crate) struct PeerFigures {
    pub(crate) version: String,
    pub(crate) threads: usize,
    pub(crate) load_ms: f64,
    pub(crate) disk_bytes: u64,
}

/// Sums and means over the queries that ran.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) not_checked: usize,
    cold_ms: f64,
    best_ms: f64,
    median_ms: f64,
    best_ms_geometric_mean: Option<f64>,
    duckdb_best_ms: Option<f64>,
    duckdb_best_ms_geometric_mean: Option<f64>,
    ratio_geometric_mean: Option<f64>,
    load_ratio: Option<f64>,
    disk_ratio: Option<f64>,
}

impl From<Times> for Measured {
    fn from(times: Times) -> Self {
        Self { best_ms: times.best_ms(), median_ms: times.median_ms(), times }
    }
}

impl From<QueryRun> for QueryFigures {
    fn from(run: QueryRun) -> Self {
        let (answer, difference) = match run.verdict {
            Verdict::Right => ("right", None),
            Verdict::Wrong(difference) => ("wrong", Some(difference)),
            Verdict::NotChecked => ("not checked", None),
        };
        let times = run.times.map(Measured::from);
        let duckdb = run.peer.map(Measured::from);
        let ratio =
            times.as_ref().zip(duckdb.as_ref()).map(|(ours, peer)| ours.best_ms / peer.best_ms);
        Self { query: run.number, answer, difference, rows: run.rows, times, duckdb, ratio }
    }
}

impl Figures {
    /// Fill in the summary from the other fields.
    pub(crate) fn summarize(&mut self) {
        let count = |answer| self.queries.iter().filter(|query| query.answer == answer).count();
        let ours = || self.queries.iter().filter_map(|query| query.times.as_ref());
        let peer = || self.queries.iter().filter_map(|query| query.duckdb.as_ref());
        let has_peer = self.duckdb.is_some();
        let load = self.load.as_ref().zip(self.duckdb.as_ref());
        let disk = self.disk_bytes.zip(self.duckdb.as_ref());
        self.summary = Summary {
            right: count("right"),
            wrong: count("wrong"),
            not_checked: count("not checked"),
            cold_ms: ours().map(|measured| measured.times.cold_ms).sum(),
            best_ms: ours().map(|measured| measured.best_ms).sum(),
            median_ms: ours().map(|measured| measured.median_ms).sum(),
            best_ms_geometric_mean: geometric_mean(ours().map(|measured| measured.best_ms)),
            duckdb_best_ms: has_peer.then(|| peer().map(|measured| measured.best_ms).sum()),
            duckdb_best_ms_geometric_mean: geometric_mean(peer().map(|measured| measured.best_ms)),
            ratio_geometric_mean: geometric_mean(self.queries.iter().filter_map(|q| q.ratio)),
            load_ratio: load.map(|(ours, peer)| ours.total_ms() / peer.load_ms),
            disk_ratio: disk.map(|(ours, peer)| ours as f64 / peer.disk_bytes as f64),
        };
    }

    /// The table, ready to print.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        self.write_heading(&mut text);
        for query in &self.queries {
            self.write_query(&mut text, query);
        }
        self.write_totals(&mut text);
        text.push('\n');
        self.write_load(&mut text);
        self.write_space(&mut text);
        self.write_answers(&mut text);
        text
    }

    fn write_heading(&self, text: &mut String) {
        line(text, format!("TPC-H at scale {}, {} warm runs", self.scale, self.runs));
        if let Some(version) = &self.server_version {
            line(text, version.clone());
        }
        if let Some(peer) = &self.duckdb {
            line(text, format!("DuckDB {} with {} threads", peer.version, peer.threads));
        }
        text.push('\n');
        let peer = if self.duckdb.is_some() {
            format!("{:>12}{:>8}", "duckdb ms", "ratio")
        } else {
            String::new()
        };
        line(
            text,
            format!(
                "{:<10}{:>12}{:>12}{:>12}{:>9}  {:<12}{peer}",
                "query", "cold ms", "best ms", "median ms", "rows", "answer"
            ),
        );
    }

    fn write_query(&self, text: &mut String, query: &QueryFigures) {
        let times = query.times.as_ref();
        let cells = [
            milliseconds(times.map(|measured| measured.times.cold_ms)),
            milliseconds(times.map(|measured| measured.best_ms)),
            milliseconds(times.map(|measured| measured.median_ms)),
        ];
        let peer = query.duckdb.as_ref().map_or_else(String::new, |peer| {
            let ratio = query.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            format!("{:>12}{ratio:>8}", milliseconds(Some(peer.best_ms)))
        });
        let [cold, best, median] = cells;
        let (name, rows, answer) = (format!("Q{:02}", query.query), query.rows, query.answer);
        line(
            text,
            format!("{name:<10}{cold:>12}{best:>12}{median:>12}{rows:>9}  {answer:<12}{peer}"),
        );
    }

    fn write_totals(&self, text: &mut String) {
        let summary = &self.summary;
        let [cold, best, median] = [summary.cold_ms, summary.best_ms, summary.median_ms]
            .map(|value| milliseconds(Some(value)));
        let peer = summary.duckdb_best_ms.map_or_else(String::new, |peer| {
            format!("{:>12}{:>8.2}", milliseconds(Some(peer)), summary.best_ms / peer)
        });
        line(
            text,
            format!("{:<10}{cold:>12}{best:>12}{median:>12}{:>9}  {:<12}{peer}", "total", "", ""),
        );
        let mean = milliseconds(summary.best_ms_geometric_mean);
        let peer = summary.duckdb_best_ms_geometric_mean.map_or_else(String::new, |peer| {
            let ratio = summary.ratio_geometric_mean;
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            format!("{:>12}{ratio:>8}", milliseconds(Some(peer)))
        });
        line(
            text,
            format!("{:<10}{:>12}{mean:>12}{:>12}{:>9}  {:<12}{peer}", "geo. mean", "", "", "", ""),
        );
    }

    fn write_load(&self, text: &mut String) {
        let Some(load) = &self.load else {
            line(text, "load: the tables were there already".to_owned());
            return;
        };
        let seconds = load.total_ms() / 1000.0;
        let copy_seconds = load.copy_ms / 1000.0;
        line(
            text,
            format!(
                "load: {} rows, {} of Parquet in {seconds:.2} s (COPY {copy_seconds:.2} s, ANALYZE {:.2} s): \
                 {:.0} rows/s, {}/s by COPY",
                load.rows,
                megabytes(load.parquet_bytes as f64),
                load.analyze_ms / 1000.0,
                load.rows as f64 / copy_seconds,
                megabytes(load.parquet_bytes as f64 / copy_seconds),
            ),
        );
        if let (Some(peer), Some(ratio)) = (&self.duckdb, self.summary.load_ratio) {
            line(text, format!("      DuckDB {:.2} s, ratio {ratio:.2}", peer.load_ms / 1000.0));
        }
    }

    fn write_space(&self, text: &mut String) {
        if let Some(bytes) = self.disk_bytes {
            line(text, format!("on disk: {}", megabytes(bytes as f64)));
        }
        if let (Some(peer), Some(ratio)) = (&self.duckdb, self.summary.disk_ratio) {
            let bytes = megabytes(peer.disk_bytes as f64);
            line(text, format!("      DuckDB {bytes}, ratio {ratio:.2}"));
        }
        if let Some(bytes) = self.memory_bytes_peak {
            line(text, format!("peak memory of the server: {}", megabytes(bytes as f64)));
        }
    }

    fn write_answers(&self, text: &mut String) {
        let Summary { right, wrong, not_checked, .. } = self.summary;
        line(text, format!("answers: {right} right, {wrong} wrong, {not_checked} not checked"));
        if not_checked > 0 {
            line(
                text,
                "  no answers are kept for this scale: --compare duckdb checks it".to_owned(),
            );
        }
        for query in &self.queries {
            if let Some(difference) = &query.difference {
                line(text, format!("  Q{:02}: {difference}", query.query));
            }
        }
    }
}

fn line(text: &mut String, content: String) {
    // Writing into memory cannot fail.
    let _ = writeln!(text, "{}", content.trim_end());
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<f64> = values.map(f64::ln).collect();
    let count = logarithms.len() as f64;
    (count > 0.0).then(|| (logarithms.iter().sum::<f64>() / count).exp())
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
