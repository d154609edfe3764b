//! Random tables, written in every way that the formats allow, are read back as they were.

use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, NaiveDate};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Row {
    long: Option<i64>,
    text: Option<String>,
    decimal: Option<i64>,
    date: Option<i32>,
    timestamp: Option<i64>,
}

/// How a field of CSV is written where there is a choice.
#[derive(Clone, Debug)]
struct Style {
    quoted: bool,
    blanks: usize,
}

fn columns() -> Vec<TargetColumn> {
    vec![
        column("long", ColumnType::BigInt),
        varchar("text", 65_535),
        column("decimal", ColumnType::Decimal { precision: 18, scale: 3 }),
        column("date", ColumnType::Date),
        column("timestamp", ColumnType::Timestamp),
    ]
}

fn rows(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Row>> {
    let row = (
        any::<Option<i64>>(),
        proptest::option::of(text.prop_filter("NULL AS", |text| text != "\\N")),
        proptest::option::of(-999_999_999_999_999_999_i64..=999_999_999_999_999_999),
        proptest::option::of(-300_000_i32..2_000_000),
        proptest::option::of(-20_000_000_000_000_000_i64..100_000_000_000_000_000),
    );
    let row = row.prop_map(|(long, text, decimal, date, timestamp)| Row {
        long,
        text,
        decimal,
        date,
        timestamp,
    });
    vec(row, 0..40)
}

/// The fields of a row as text, None for NULL; values come from chrono and std.
fn fields(row: &Row) -> [Option<String>; 5] {
    let decimal = |unscaled: i64| {
        let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs());
        format!("{sign}{}.{:03}", digits / 1000, digits % 1000)
    };
    let date = |days: i32| {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        (epoch + chrono::Duration::days(days.into())).format("%Y-%m-%d").to_string()
    };
    let timestamp = |micros: i64| {
        let time = DateTime::from_timestamp_micros(micros).unwrap();
        time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
    };
    [
        row.long.map(|value| value.to_string()),
        row.text.clone(),
        row.decimal.map(decimal),
        row.date.map(date),
        row.timestamp.map(timestamp),
    ]
}

fn read_back(batch: &RecordBatch) -> Vec<Row> {
    let long = longs(batch.column(0));
    let text = strings(batch.column(1));
    let decimal = batch.column(2).as_primitive::<Decimal128Type>();
    let date = batch.column(3).as_primitive::<Date32Type>();
    let timestamp = batch.column(4).as_primitive::<TimestampMicrosecondType>();
    (0..batch.num_rows())
        .map(|row| Row {
            long: long[row],
            text: text[row].map(str::to_owned),
            decimal: decimal.is_valid(row).then(|| decimal.value(row) as i64),
            date: date.is_valid(row).then(|| date.value(row)),
            timestamp: timestamp.is_valid(row).then(|| timestamp.value(row)),
        })
        .collect()
}

fn parse(request: CopyRequest, text: String) -> Result<Vec<Row>, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(load_text(request, &text)).map(|batch| read_back(&batch))
}

fn csv_field(field: Option<&str>, style: &Style) -> String {
    let text = field.unwrap_or("\\N");
    if !style.quoted && !text.contains(['"', ',', '\n', '\r']) {
        return text.to_owned();
    }
    let blanks = " ".repeat(style.blanks);
    format!("{blanks}\"{}\"{blanks}", text.replace('"', "\"\""))
}

proptest! {
    #[test]
    fn csv(
        rows in rows("[a-z\"', \n\r|\u{e9}\u{1F600}\t\\\\]{0,12}"),
        styles in vec((any::<bool>(), 0_usize..3), 1..20),
        line_end in prop_oneof![Just("\n"), Just("\r\n")],
        ended in any::<bool>(),
    ) {
        let mut styles = styles
            .iter()
            .map(|(quoted, blanks)| Style { quoted: *quoted, blanks: *blanks })
            .cycle();
        let lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let fields = fields(row);
                let written = fields.iter().map(|field| {
                    csv_field(field.as_deref(), &styles.next().unwrap())
                });
                written.collect::<Vec<_>>().join(",")
            })
            .collect();
        let mut text = lines.join(line_end);
        if ended && !rows.is_empty() {
            text.push_str(line_end);
        }
        if !text.is_empty() {
            prop_assert_eq!(parse(request(CSV, columns()), text).unwrap(), rows);
        }
    }

    #[test]
    fn delimited(
        rows in rows("[a-z\"', \u{e9}\u{1F600}\t\\\\]{0,12}"),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("|\n")],
    ) {
        let mut text = String::new();
        for row in &rows {
            let fields = fields(row).map(|field| field.unwrap_or_else(|| "\\N".to_owned()));
            text.push_str(&fields.join("|"));
            text.push_str(line_end);
        }
        if !text.is_empty() {
            prop_assert_eq!(parse(request(PIPE, columns()), text).unwrap(), rows);
        }
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(
        bytes in vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'"'), Just(b',')], 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for format in [CSV, PIPE] {
            let request = request(format, vec![varchar("a", 9), varchar("b", 9)]);
            let _ = runtime.block_on(load(request, &[("t/1", bytes.clone())]));
        }
    }
}
