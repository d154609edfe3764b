//! The table and the JSON document of a small made-up run.

use super::*;

fn figures() -> Figures {
    let times = |cold_ms, warm: &[f64]| Times { cold_ms, warm_ms: warm.to_vec() };
    let run = |number, ours, peer, verdict| QueryRun {
        number,
        times: ours,
        rows: 4,
        verdict,
        peer: Some(peer),
    };
    let queries = [
        run(1, Some(times(90.0, &[20.0, 10.0, 60.0])), times(50.0, &[40.0]), Verdict::Right),
        run(6, Some(times(9.0, &[40.0])), times(50.0, &[10.0]), Verdict::NotChecked),
        run(7, None, times(50.0, &[30.0]), Verdict::Wrong("error: no".to_owned())),
    ];
    let mut figures = Figures {
        scale: 1.0,
        nodes: None,
        slices: None,
        cores: 2,
        server_version: Some("PostgreSQL 8.0.2".to_owned()),
        runs: 3,
        generate_ms: Some(1.0),
        load: Some(Load {
            rows: 1_000,
            parquet_bytes: 5_000_000,
            copy_ms: 1500.0,
            analyze_ms: 500.0,
            tables: Vec::new(),
        }),
        disk_bytes: Some(3_000_000),
        memory_bytes_peak: Some(64_000_000),
        queries: queries.into_iter().map(QueryFigures::from).collect(),
        duckdb: Some(PeerFigures {
            version: "1.2".to_owned(),
            threads: 2,
            load_ms: 4000.0,
            disk_bytes: 6_000_000,
        }),
        summary: Summary::default(),
    };
    figures.summarize();
    figures
}

#[test]
fn the_summary_counts_and_averages() {
    let summary = figures().summary;
    assert_eq!((summary.right, summary.wrong, summary.not_checked), (1, 1, 1));
    assert_eq!((summary.cold_ms, summary.best_ms, summary.median_ms), (99.0, 50.0, 60.0));
    let close = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < 1e-9;
    assert!(close(summary.best_ms_geometric_mean, 20.0));
    // Ratios 10/40 and 40/10.
    assert!(close(summary.ratio_geometric_mean, 1.0));
    assert!(close(summary.load_ratio, 0.5));
    assert!(close(summary.disk_ratio, 0.5));
}

#[test]
fn the_table_shows_every_query_and_names_what_is_wrong() {
    let table = figures().table();
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap();
    assert_eq!(*row("Q01"), ["Q01", "90.0", "10.0", "20.0", "4", "right", "40.0", "0.25"]);
    assert_eq!(*row("Q07"), ["Q07", "-", "-", "-", "4", "wrong", "30.0", "-"]);
    assert!(table.contains("answers: 1 right, 1 wrong, 1 not checked"), "{table}");
    assert!(table.contains("Q07: error: no"), "{table}");
    assert!(table.contains("5.0 MB of Parquet in 2.00 s"), "{table}");
}

#[test]
fn the_document_holds_the_same_figures() {
    let document = serde_json::to_value(figures()).unwrap();
    let query = &document["queries"][0];
    assert_eq!(query["best_ms"], 10.0);
    assert_eq!(query["warm_ms"].as_array().unwrap().len(), 3);
    assert_eq!(query["duckdb"]["best_ms"], 40.0);
    assert_eq!(document["queries"][2]["difference"], "error: no");
    assert_eq!(document["summary"]["wrong"], 1);
}
