//! Parquet files: what fits, what does not, and what is damaged.

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression as PageCompression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    StructArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::TimestampMicrosecondType;

use super::*;

fn file(columns: Vec<(&str, ArrayRef)>, row_group_rows: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_compression(PageCompression::ZSTD(ZstdLevel::default()))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn one(array: impl Array + 'static) -> Vec<u8> {
    file(vec![("c", Arc::new(array) as ArrayRef)], 1000)
}

async fn load_one(target: TargetColumn, bytes: Vec<u8>) -> Result<ArrayRef, LoadError> {
    let request = request(Format::Parquet, vec![target]);
    load(request, &[("t/1", bytes)]).await.map(|batch| Arc::clone(batch.column(0)))
}

#[tokio::test]
async fn types_of_a_table_like_lineitem() {
    let bytes = file(
        vec![
            ("a", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            (
                "b",
                Arc::new(StringArray::from(vec![Some("a longer string than 12"), None, Some("z")])),
            ),
            (
                "c",
                Arc::new(
                    Decimal128Array::from(vec![Some(150), None, Some(-7)])
                        .with_precision_and_scale(15, 2)
                        .unwrap(),
                ),
            ),
            ("d", Arc::new(Date32Array::from(vec![Some(10_000), None, Some(-1)]))),
            ("e", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ],
        2,
    );
    let columns = vec![
        column("a", ColumnType::BigInt),
        varchar("b", 44),
        column("c", ColumnType::Decimal { precision: 15, scale: 2 }),
        column("d", ColumnType::Date),
        column("e", ColumnType::Boolean),
    ];
    let files = [("t/1", bytes.clone()), ("t/2", bytes)];
    let store = store(&files).await;
    let request = request(Format::Parquet, columns);
    let plan = plan(request, &storage(&store), 2).await.unwrap();
    let (batch, loaded) = run(&plan).await.unwrap();
    assert_eq!(loaded.iter().map(|file| file.rows).collect::<Vec<_>>(), [3, 3]);
    let mut keys = longs(batch.column(0));
    keys.sort();
    assert_eq!(keys, [None, None, Some(1), Some(1), Some(3), Some(3)]);
    let mut texts = strings(batch.column(1));
    texts.sort();
    assert_eq!(&texts[2..4], [Some("a longer string than 12"); 2]);
}

#[tokio::test]
async fn integers_are_widened_and_narrowed_with_a_check() {
    let wide = one(Int32Array::from(vec![Some(-5), None]));
    let loaded = load_one(column("c", ColumnType::BigInt), wide).await.unwrap();
    assert_eq!(longs(&loaded), [Some(-5), None]);
    let narrow = one(Int64Array::from(vec![Some(32_767), None]));
    let loaded = load_one(column("c", ColumnType::SmallInt), narrow).await.unwrap();
    assert_eq!(loaded.data_type(), &DataType::Int16);
    for (bytes, line) in [
        (one(Int64Array::from(vec![Some(1), None, Some(32_768)])), 3),
        (one(UInt64Array::from(vec![u64::MAX])), 1),
    ] {
        let error = load_one(column("c", ColumnType::SmallInt), bytes).await.unwrap_err();
        let LoadError::BadRow(bad) = error else { panic!("{error}") };
        assert_eq!((bad.line, bad.code), (line, ErrorCode::IntegerOverflow));
        assert_eq!((bad.column.as_str(), bad.file.as_str()), ("c", "s3://b/t/1"));
    }
}

#[tokio::test]
async fn the_row_of_a_bad_value_counts_all_row_groups() {
    let keys: Vec<i64> = (0..100).map(|key| if key == 77 { 1 << 40 } else { key }).collect();
    let bytes = file(vec![("c", Arc::new(Int64Array::from(keys)))], 10);
    let error = load_one(column("c", ColumnType::Integer), bytes).await.unwrap_err();
    let LoadError::BadRow(bad) = error else { panic!("{error}") };
    assert_eq!((bad.line, bad.raw_value.as_str()), (78, "1099511627776"));
}

#[tokio::test]
async fn decimals_are_rescaled_with_a_check() {
    let decimals = |values: Vec<i128>, precision, scale| {
        one(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    let target = |precision, scale| column("c", ColumnType::Decimal { precision, scale });
    let unscaled = async |target, bytes| {
        let loaded = load_one(target, bytes).await;
        loaded.map(|array| array.as_primitive::<Decimal128Type>().values().to_vec()).map_err(
            |error| match error {
                LoadError::BadRow(bad) => bad.code.number(),
                other => panic!("{other}"),
            },
        )
    };
    assert_eq!(unscaled(target(15, 2), decimals(vec![12345], 9, 4)).await, Ok(vec![123]));
    assert_eq!(unscaled(target(15, 2), decimals(vec![-12399], 9, 4)).await, Ok(vec![-123]));
    assert_eq!(unscaled(target(15, 6), decimals(vec![12345], 9, 4)).await, Ok(vec![1_234_500]));
    assert_eq!(unscaled(target(5, 2), decimals(vec![99999], 15, 2)).await, Ok(vec![99999]));
    assert_eq!(unscaled(target(5, 2), decimals(vec![100_000], 15, 2)).await, Err(1204));
    assert_eq!(unscaled(target(38, 10), decimals(vec![10_i128.pow(30)], 38, 0)).await, Err(1204));
    let from_long = one(Int64Array::from(vec![12]));
    assert_eq!(unscaled(target(5, 2), from_long).await, Ok(vec![1200]));
    assert_eq!(unscaled(target(5, 2), one(Int64Array::from(vec![1000]))).await, Err(1204));
}

#[tokio::test]
async fn times_come_in_microseconds() {
    let micros = async |bytes| {
        let loaded = load_one(column("c", ColumnType::Timestamp), bytes).await.unwrap();
        loaded.as_primitive::<TimestampMicrosecondType>().values().to_vec()
    };
    assert_eq!(micros(one(TimestampMillisecondArray::from(vec![-1, 5]))).await, [-1000, 5000]);
    let nanos = TimestampNanosecondArray::from(vec![-1, 1999]).with_timezone("UTC");
    assert_eq!(micros(one(nanos)).await, [-1, 1]);
    let overflow = one(TimestampMillisecondArray::from(vec![i64::MAX]));
    let error = load_one(column("c", ColumnType::TimestampTz), overflow).await.unwrap_err();
    assert!(matches!(error, LoadError::BadRow(_)), "{error}");
}

#[tokio::test]
async fn strings_are_held_to_their_column() {
    let words =
        || one(StringArray::from(vec![Some("ab  "), None, Some("a rather long string   ")]));
    let as_char = |bytes| TargetColumn { is_char: true, ..varchar("c", bytes) };
    let loaded = load_one(as_char(20), words()).await.unwrap();
    assert_eq!(strings(&loaded), [Some("ab"), None, Some("a rather long string")]);
    let loaded = load_one(varchar("c", 23), words()).await.unwrap();
    assert_eq!(strings(&loaded)[2], Some("a rather long string   "));
    for target in [as_char(19), varchar("c", 22)] {
        let error = load_one(target, words()).await.unwrap_err();
        let LoadError::BadRow(bad) = error else { panic!("{error}") };
        assert_eq!((bad.line, bad.code), (3, ErrorCode::OutOfRange));
    }
    for text in ["\u{e9}", "a\0"] {
        let error = load_one(as_char(9), one(StringArray::from(vec![text]))).await.unwrap_err();
        assert!(matches!(error, LoadError::BadRow(_)), "{error}");
    }
}

#[tokio::test]
async fn null_in_a_not_null_column() {
    let target = TargetColumn { nullable: false, ..column("c", ColumnType::BigInt) };
    let bytes = one(Int64Array::from(vec![Some(1), None]));
    let error = load_one(target.clone(), bytes).await.unwrap_err();
    let LoadError::BadRow(bad) = error else { panic!("{error}") };
    assert_eq!((bad.line, bad.reason.as_str()), (2, "Missing data for not-null field"));
    let loaded = load_one(target, one(Int64Array::from(vec![1, 2]))).await.unwrap();
    assert_eq!(loaded.len(), 2);
}

#[tokio::test]
async fn columns_that_do_not_fit_fail_before_anything_is_read() {
    let storage_of = async |bytes: Vec<u8>| storage(&store(&[("t/1", bytes)]).await);
    let refused = async |columns, bytes| {
        plan(request(Format::Parquet, columns), &storage_of(bytes).await, 1)
            .await
            .err()
            .unwrap()
            .to_string()
    };
    let text = refused(key_and_name(), one(Int64Array::from(vec![1]))).await;
    assert!(text.contains("Table columns: 2, Data columns: 1, File name: s3://b/t/1"), "{text}");
    let text = refused(vec![column("k", ColumnType::Integer)], one(Float64Array::from(vec![1.0])));
    let text = text.await;
    for part in ["s3://b/t/1", "incompatible Parquet schema for column 'k'", "INTEGER", "Float64"] {
        assert!(text.contains(part), "{text}");
    }
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let nested = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), inner)]);
    let text = refused(vec![varchar("k", 9)], one(nested)).await;
    assert!(text.contains("incompatible Parquet schema for column 'k'"), "{text}");
    let text = refused(vec![varchar("k", 9)], b"PAR1 this is no file".to_vec()).await;
    assert!(text.contains("File 's3://b/t/1' cannot be read"), "{text}");
}

/// A damaged file is an error that names it, or, where the damage is in what nobody reads, the
/// right rows; never a panic, never other rows.
#[tokio::test]
async fn every_damaged_byte() {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..300));
    let names: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..300).map(|key| format!("name {key}"))));
    let bytes = file(vec![("k", keys), ("name", names)], 100);
    let request = request(Format::Parquet, key_and_name());
    let length = bytes.len();
    for at in (0..length).rev().step_by(3).take(400) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        if let Err(error) = load(request.clone(), &[("t/1", damaged)]).await {
            assert!(error.to_string().contains("s3://b/t/1"), "{at}: {error}");
        }
    }
    for cut in [1, 4, 8, 12, length / 2, length - 1] {
        let result = load(request.clone(), &[("t/1", bytes[..cut].to_vec())]).await;
        assert!(result.is_err(), "{cut}");
    }
}
