//! Whole loads, from an object store in memory to batches.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Int32Type, Int64Type, Schema};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use storage::schema::ColumnType;

use super::*;
use crate::object_storage::{Credentials, ObjectStorage, ObjectStoreConfig};

mod columnar;
mod round_trip;

const PIPE: Format = Format::Delimited { delimiter: b'|' };
const CSV: Format = Format::Csv { delimiter: b',', quote: b'"' };

fn column(name: &str, column_type: ColumnType) -> TargetColumn {
    TargetColumn {
        name: name.to_owned(),
        column_type,
        type_name: format!("{column_type:?}").to_lowercase(),
        bytes_max: None,
        is_char: false,
        nullable: true,
        position: 0,
    }
}

fn varchar(name: &str, bytes: u32) -> TargetColumn {
    let type_name = format!("varchar({bytes})");
    TargetColumn { bytes_max: Some(bytes), type_name, ..column(name, ColumnType::Text) }
}

fn request(format: Format, columns: Vec<TargetColumn>) -> CopyRequest {
    let columns: Vec<TargetColumn> = columns
        .into_iter()
        .enumerate()
        .map(|(position, column)| TargetColumn { position, ..column })
        .collect();
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| Field::new(&column.name, column.column_type.arrow_type(), column.nullable))
        .collect();
    CopyRequest {
        url: "s3://b/t/".to_owned(),
        credentials: Credentials::Default,
        region: None,
        format,
        compression: Compression::None,
        conversion: Conversion::default(),
        columns,
        omitted: Vec::new(),
        counted: Vec::new(),
        schema: Arc::new(Schema::new(fields)),
    }
}

async fn store(files: &[(&str, Vec<u8>)]) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    for (key, bytes) in files {
        store.put(&Path::from(*key), bytes.clone().into()).await.unwrap();
    }
    store
}

fn storage(store: &Arc<InMemory>) -> ObjectStorage {
    let objects: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    ObjectStorage::new(ObjectStoreConfig::default(), []).unwrap().with_bucket("b", objects)
}

/// Runs all partitions at once and gives their rows, and the rows of each file.
async fn run(plan: &LoadPlan) -> Result<(RecordBatch, Vec<LoadedFile>), LoadError> {
    let streams = (0..plan.partitions()).map(|partition| plan.execute(partition));
    let schema = plan.execute(0).schema();
    let drained = streams.map(|stream| stream.try_collect::<Vec<RecordBatch>>());
    let batches = futures::future::try_join_all(drained).await;
    let batches = batches.map_err(|error| match LoadError::find(&error) {
        Some(LoadError::BadRow(bad)) => LoadError::BadRow(bad.clone()),
        Some(other) => LoadError::Options(other.to_string()),
        None => panic!("{error}"),
    })?;
    let files = plan.finish()?;
    let batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
    Ok((concat_batches(&schema, &batches).unwrap(), files))
}

async fn load(request: CopyRequest, files: &[(&str, Vec<u8>)]) -> Result<RecordBatch, LoadError> {
    let store = store(files).await;
    let plan = plan(request, &storage(&store), 2).await?;
    run(&plan).await.map(|(batch, _)| batch)
}

async fn load_text(request: CopyRequest, text: &str) -> Result<RecordBatch, LoadError> {
    load(request, &[("t/1", text.as_bytes().to_vec())]).await
}

async fn bad_row(request: CopyRequest, text: &str) -> BadRow {
    match load_text(request, text).await {
        Err(LoadError::BadRow(bad)) => *bad,
        Err(other) => panic!("{other}"),
        Ok(batch) => panic!("{} rows loaded", batch.num_rows()),
    }
}

fn strings(array: &ArrayRef) -> Vec<Option<&str>> {
    array.as_string_view().iter().collect()
}

fn longs(array: &ArrayRef) -> Vec<Option<i64>> {
    array.as_primitive::<Int64Type>().iter().collect()
}

fn key_and_name() -> Vec<TargetColumn> {
    vec![TargetColumn { nullable: false, ..column("k", ColumnType::BigInt) }, varchar("name", 10)]
}

#[tokio::test]
async fn every_type() {
    let columns = vec![
        column("boolean", ColumnType::Boolean),
        column("short", ColumnType::SmallInt),
        column("int", ColumnType::Integer),
        column("long", ColumnType::BigInt),
        column("decimal", ColumnType::Decimal { precision: 12, scale: 2 }),
        column("real", ColumnType::Real),
        column("double", ColumnType::Double),
        varchar("text", 20),
        column("date", ColumnType::Date),
        column("time", ColumnType::Time),
        column("timetz", ColumnType::TimeTz),
        column("timestamp", ColumnType::Timestamp),
        column("timestamptz", ColumnType::TimestampTz),
    ];
    // The first line ends with a delimiter, as dbgen writes them.
    let text = "t|-1| 2 |3|-4.567|1.5|2.5|ab \u{e9}|1998-12-01|01:02:03|01:02:03+01|\
                1998-12-01 01:02:03.5|1998-12-01 01:02:03+01|\n\
                \\N||  |\\N||||\\N||||||\r\n";
    let batch = load_text(request(PIPE, columns), text).await.unwrap();
    assert_eq!(batch.num_rows(), 2);
    let shown: Vec<String> = batch
        .columns()
        .iter()
        .map(|array| arrow::util::display::array_value_to_string(array, 0).unwrap())
        .collect();
    let expected = [
        "true",
        "-1",
        "2",
        "3",
        "-4.56",
        "1.5",
        "2.5",
        "ab \u{e9}",
        "1998-12-01",
        "01:02:03",
        "00:02:03",
        "1998-12-01T01:02:03.500",
        "1998-12-01T00:02:03Z",
    ];
    assert_eq!(shown, expected);
    for (array, field) in batch.columns().iter().zip(batch.schema().fields()) {
        assert!(array.is_null(1), "{}", field.name());
    }
}

#[tokio::test]
async fn a_bad_row_is_named() {
    let text = "1|one\n2|two\nx3|three\n4|four and far too long\n";
    let bad = bad_row(request(PIPE, key_and_name()), text).await;
    let expected = BadRow {
        file: "s3://b/t/1".to_owned(),
        line: 3,
        column: "k".to_owned(),
        column_type: "bigint".to_owned(),
        column_bytes: None,
        position: 0,
        raw_value: "x3".to_owned(),
        raw_line: "x3|three".to_owned(),
        code: ErrorCode::Digit,
        reason: "Invalid digit, Value 'x', Pos 0, Type: Long".to_owned(),
    };
    assert_eq!(bad, expected);
    let shown = bad.to_string();
    for part in ["s3://b/t/1", "line 3", "column k", "x3", "Invalid digit", "1207"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[tokio::test]
async fn the_first_bad_row_wins_over_later_ones_of_earlier_columns() {
    let text = "1|one\n2|far too long for it\nx|three\n";
    let bad = bad_row(request(PIPE, key_and_name()), text).await;
    assert_eq!((bad.line, bad.column.as_str(), bad.position), (2, "name", 2));
    assert_eq!(bad.reason, "String length exceeds DDL length");
    let bad = bad_row(request(PIPE, key_and_name()), "1|one\nx|two\n3|a|b|c\n").await;
    assert_eq!((bad.line, bad.code), (2, ErrorCode::Digit));
}

#[tokio::test]
async fn faults_of_lines() {
    let pipe = || request(PIPE, key_and_name());
    let csv = || request(CSV, key_and_name());
    let three = || {
        let number = vec![column("n", ColumnType::Integer)];
        request(PIPE, [key_and_name(), number].concat())
    };
    for (request, text, line, code, reason) in [
        (pipe(), "1|a\n2\n", 2, 1214, "Delimiter not found"),
        (three(), "1|a|2\n3|b\n", 2, 1214, "Delimiter not found"),
        (pipe(), "1|a\n\n", 2, 1211, "Line has no data"),
        (pipe(), "1|a\n2|b|c\n", 2, 1202, "Extra column(s) found"),
        (pipe(), "1|a\n|b\n", 2, 1213, "Missing data for not-null field"),
        (csv(), "1,a\n2,\"b\nc\n", 2, 1214, "Invalid quote formatting for CSV"),
        (csv(), "1,\"a\nb\"\n2,b\"c\n", 3, 1214, "Invalid quote formatting for CSV"),
        (csv(), "1,\"a\"b\n", 1, 1214, "Invalid quote formatting for CSV"),
        (csv(), "1,\"a\nb\"\n2,c,\n", 3, 1202, "Extra column(s) found"),
        (csv(), "1,\"a\nb\"\n2\n", 3, 1214, "Delimiter not found"),
    ] {
        let bad = bad_row(request, text).await;
        assert_eq!((bad.line, bad.code.number(), bad.reason.as_str()), (line, code, reason));
    }
}

#[tokio::test]
async fn faults_of_strings() {
    let char_column = |bytes| TargetColumn { is_char: true, ..varchar("c", bytes) };
    let bytes = |field: &[u8]| [field, b"\n"].concat();
    let reason = async |column: TargetColumn, field: &[u8]| {
        let request = request(PIPE, vec![column]);
        match load(request, &[("t/1", bytes(field))]).await {
            Err(LoadError::BadRow(bad)) => (bad.code.number(), bad.reason),
            other => panic!("{other:?}"),
        }
    };
    let length = (1204, "String length exceeds DDL length".to_owned());
    assert_eq!(reason(varchar("v", 3), "\u{e9}\u{e9}".as_bytes()).await, length);
    let length = (1204, "Char length exceeds DDL length".to_owned());
    assert_eq!(reason(char_column(2), b"abc").await, length);
    let (code, text) = reason(char_column(9), "\u{e9}".as_bytes()).await;
    assert!(code == 1215 && text.contains("Multibyte") && text.ends_with("c3 a9"));
    let (code, text) = reason(varchar("v", 9), b"a\xa4b").await;
    assert!(code == 1220 && text.ends_with("Bad UTF8 hex sequence: a4 (error 3)"), "{text}");
    let (_, text) = reason(varchar("v", 9), b"a\xed\xa0\x80").await;
    assert!(text.ends_with("(error 5)"), "{text}");
    assert_eq!(reason(varchar("v", 9), b"a\0b").await.0, 1220);
    let batch = load_text(request(PIPE, vec![char_column(3)]), "a  \nab     \n").await.unwrap();
    assert_eq!(strings(batch.column(0)), [Some("a"), Some("ab")]);
}

#[tokio::test]
async fn options_of_strings() {
    let load_with = async |change: fn(&mut Conversion), text: &str| {
        let mut request = request(PIPE, key_and_name());
        change(&mut request.conversion);
        let batch = load_text(request, text).await.unwrap();
        let found = strings(batch.column(1));
        found.into_iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let text = "1|\n2|  \n3|\\N\n4|nil\n";
    assert_eq!(load_with(|_| {}, text).await, [some(""), some("  "), None, some("nil")]);
    let found = load_with(|conversion| conversion.empty_as_null = true, text).await;
    assert_eq!(found, [None, some("  "), None, some("nil")]);
    let found = load_with(|conversion| conversion.blanks_as_null = true, text).await;
    assert_eq!(found, [some(""), None, None, some("nil")]);
    let found = load_with(|conversion| conversion.null_as = "nil".to_owned(), text).await;
    assert_eq!(found, [some(""), some("  "), some("\\N"), None]);
    let found = load_with(|conversion| conversion.trim_blanks = true, "1|a \t\n").await;
    assert_eq!(found, [some("a")]);
    let found = load_with(
        |conversion| conversion.truncate_columns = true,
        "1|\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\n",
    )
    .await;
    assert_eq!(found, [some("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}")]);
    let found = load_with(|conversion| conversion.fill_record = true, "1\n2|b\n").await;
    assert_eq!(found, [some(""), some("b")]);
    let found =
        load_with(|conversion| conversion.ignore_blank_lines = true, "\n1|a\n\r\n\n2|b\n\n").await;
    assert_eq!(found, [some("a"), some("b")]);
}

#[tokio::test]
async fn headers_marks_and_empty_objects() {
    let mut request = request(CSV, key_and_name());
    request.conversion.ignore_header = 1;
    let files = [
        ("t/", Vec::new()),
        ("t/1", b"\xef\xbb\xbfk,name\r\n1,a\r\n2,b".to_vec()),
        ("t/2", b"k,name\n3,c\n".to_vec()),
        ("t/3", b"k,name".to_vec()),
        ("u", b"not asked for".to_vec()),
    ];
    let store = store(&files).await;
    let plan = plan(request, &storage(&store), 3).await.unwrap();
    let (batch, loaded) = run(&plan).await.unwrap();
    let mut keys = longs(batch.column(0));
    keys.sort();
    assert_eq!(keys, [Some(1), Some(2), Some(3)]);
    let rows: Vec<(&str, u64)> = loaded.iter().map(|file| (file.url.as_str(), file.rows)).collect();
    assert_eq!(rows, [("s3://b/t/1", 2), ("s3://b/t/2", 1), ("s3://b/t/3", 0)]);
}

#[tokio::test]
async fn a_column_list_and_defaults() {
    let mut request = request(PIPE, vec![varchar("c", 9), column("a", ColumnType::BigInt)]);
    request.columns[0].position = 2;
    request.columns[1].position = 0;
    request.omitted = vec![OmittedColumn { position: 1, value: ScalarValue::Int32(Some(7)) }];
    request.schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int32, false),
        Field::new("c", DataType::Utf8View, true),
    ]));
    let batch = load_text(request.clone(), "x|1\ny|2\n").await.unwrap();
    assert_eq!(longs(batch.column(0)), [Some(1), Some(2)]);
    assert_eq!(batch.column(1).as_ref(), &arrow::array::Int32Array::from(vec![7, 7]));
    assert_eq!(strings(batch.column(2)), [Some("x"), Some("y")]);
    request.omitted[0].value = ScalarValue::Int32(None);
    let error = load_text(request, "x|1\n").await.unwrap_err();
    assert!(error.to_string().contains("\"b\" is not null"), "{error}");
}

#[tokio::test]
async fn columns_that_count_differ_in_all_rows_of_all_shares() {
    let mut request = request(PIPE, vec![column("a", ColumnType::BigInt)]);
    request.columns[0].position = 1;
    request.counted = vec![
        CountedColumn { position: 0, first: 100, step: -3 },
        CountedColumn { position: 2, first: 1, step: 1 },
    ];
    request.schema = Arc::new(Schema::new(vec![
        Field::new("down", DataType::Int32, false),
        Field::new("a", DataType::Int64, true),
        Field::new("up", DataType::Int64, false),
    ]));
    let files: Vec<(String, Vec<u8>)> =
        (0..7).map(|file| (format!("t/{file}"), b"1\n2\n3\n".to_vec())).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let storage = storage(&store(&files).await);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for share in plan(request.clone(), &storage, 6).await.unwrap().into_shares(3) {
        let share = LoadShare::from_proto(share.to_proto().unwrap()).unwrap();
        let (batch, _) = run(&share.open(&storage, 2).await.unwrap()).await.unwrap();
        up.extend(longs(batch.column(2)).into_iter().flatten());
        down.extend(batch.column(0).as_primitive::<Int32Type>().values().iter().copied());
    }
    assert_eq!(up.len(), 21);
    let row_of: Vec<i64> = up.iter().map(|up| 100 - 3 * (up - 1)).collect();
    assert_eq!(row_of, down.iter().map(|down| i64::from(*down)).collect::<Vec<_>>());
    up.sort_unstable();
    up.dedup();
    assert_eq!(up.len(), 21, "{up:?}");
    // No row of a share of six partitions gets more than its own rows' worth of numbers.
    assert!(up[0] >= 1 && up[20] <= 21 * 6, "{up:?}");

    request.counted[0].first = i64::from(i32::MIN);
    let error = run(&plan(request, &storage, 2).await.unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("out of range"), "{error}");
}

/// More than two parts of the smallest size.
fn large_file(bad_at: Option<u64>) -> (Vec<u8>, u64) {
    let mut text = Vec::new();
    let mut rows = 0;
    while text.len() < (50 << 20) {
        rows += 1;
        let key = if bad_at == Some(rows) { "bad".to_owned() } else { rows.to_string() };
        writeln!(text, "{key}|{}", "x".repeat(rows as usize % 10)).unwrap();
    }
    (text, rows)
}

#[tokio::test]
async fn a_large_file_is_read_in_parts() {
    let (text, rows) = large_file(None);
    let store = store(&[("t/1", text)]).await;
    let plan = plan(request(PIPE, key_and_name()), &storage(&store), 2).await.unwrap();
    let (batch, loaded) = run(&plan).await.unwrap();
    assert_eq!(loaded[0].rows, rows);
    let sum: i64 = longs(batch.column(0)).into_iter().flatten().sum();
    assert_eq!(sum as u64, rows * (rows + 1) / 2);
}

#[tokio::test]
async fn lines_are_counted_from_the_start_of_the_file_in_every_part() {
    let (_, rows) = large_file(None);
    for line in [1, rows / 2, rows - 5] {
        let (text, _) = large_file(Some(line));
        let error = load(request(PIPE, key_and_name()), &[("t/1", text)]).await.unwrap_err();
        let LoadError::BadRow(bad) = error else { panic!("{error}") };
        assert_eq!((bad.line, bad.raw_value.as_str()), (line, "bad"));
    }
}

#[tokio::test]
async fn compressed_files() {
    let text = large_file(None).0[..3 << 20].to_vec();
    let complete = text.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let text = &text[..complete];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(text, 1).unwrap();
    let expected = memchr::memchr_iter(b'\n', text).count();
    for (compression, packed) in [(Compression::Gzip, gzip), (Compression::Zstd, zstd)] {
        let request = CopyRequest { compression, ..request(PIPE, key_and_name()) };
        let two_members = [packed.clone(), packed.clone()].concat();
        let batch = load(request.clone(), &[("t/1", two_members)]).await.unwrap();
        assert_eq!(batch.num_rows(), 2 * expected);
        for cut in [1, 5, packed.len() / 2, packed.len() - 1] {
            let result = load(request.clone(), &[("t/1", packed[..cut].to_vec())]).await;
            let error = result.unwrap_err().to_string();
            assert!(error.contains("s3://b/t/1"), "{error}");
        }
        let error = load(request, &[("t/1", b"1|plain\n".to_vec())]).await.unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_bounded() {
    for format in [PIPE, CSV] {
        let text = [b"1|\"1,".to_vec(), vec![b'"'; 1], vec![b'x'; 12 << 20]].concat();
        let error = load(request(format, key_and_name()), &[("t/1", text)]).await.unwrap_err();
        let LoadError::BadRow(bad) = error else { panic!("{error}") };
        assert!(bad.raw_line.len() <= RAW_BYTES_MAX);
        assert_eq!(bad.line, 1);
    }
}

#[tokio::test]
async fn what_is_not_there_or_has_changed() {
    let missing = load(request(PIPE, key_and_name()), &[("u", b"1|a\n".to_vec())]).await;
    let text = missing.unwrap_err().to_string();
    assert_eq!(text, "The specified S3 prefix 't/' does not exist");
    let store = store(&[("t/1", b"1|a\n".to_vec())]).await;
    let plan = plan(request(PIPE, key_and_name()), &storage(&store), 1).await.unwrap();
    store.put(&Path::from("t/1"), "2|b\n".into()).await.unwrap();
    let text = run(&plan).await.unwrap_err().to_string();
    assert!(text.contains("changed while it was being read: s3://b/t/1"), "{text}");
    assert!(plan.finish().is_err());
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_not_a_finished_load() {
    let files: Vec<(&str, Vec<u8>)> = vec![("t/1", b"1|a\n".to_vec()), ("t/2", b"2|b\n".to_vec())];
    let store = store(&files).await;
    let plan = plan(request(PIPE, key_and_name()), &storage(&store), 1).await.unwrap();
    let mut stream = plan.execute(0);
    assert_eq!(stream.try_next().await.unwrap().unwrap().num_rows(), 1);
    drop(stream);
    assert!(matches!(plan.finish(), Err(LoadError::Incomplete(_))));
}

#[tokio::test]
async fn options_that_do_not_go_together() {
    let refused = async |request: CopyRequest| {
        let result = load_text(request, "1|a\n").await;
        matches!(result, Err(LoadError::Options(_) | LoadError::Location(_)))
    };
    let columns = key_and_name;
    assert!(refused(request(Format::Delimited { delimiter: b'\n' }, columns())).await);
    assert!(refused(request(Format::Csv { delimiter: b'"', quote: b'"' }, columns())).await);
    let compressed = request(Format::Parquet, columns());
    assert!(refused(CopyRequest { compression: Compression::Gzip, ..compressed }).await);
    assert!(refused(request(PIPE, Vec::new())).await);
    let other = CopyRequest { url: "/etc/passwd".to_owned(), ..request(PIPE, columns()) };
    assert!(refused(other).await);
}
