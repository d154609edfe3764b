//! The scan kernels on columns of TPC-H's LINEITEM and PART at scale 1, in memory; before each run the
//! processor's cache is filled with something else. Criterion's throughput is in rows.
#![expect(clippy::unwrap_used, reason = "a bench stops at the first thing that goes wrong")]

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Date32Array, Decimal128Array, Int64Array, StringViewArray};
use criterion::{BatchSize, Criterion, Throughput};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::encoding::{
    ColumnBuilder, ColumnChunk, ColumnEncoder, CompiledCondition, Mask, SharedColumn,
};
use storage::ids::ColumnId;
use storage::io::EncodingAim;
use storage::predicate::{Comparison, Condition, Constant};
use storage::schema::{Column, ColumnType, EncodeName};
use storage::{ROW_GROUP_ROWS, VECTOR_ROWS};
use tpchgen::decimal::TPCHDecimal;
use tpchgen::generators::{LineItem, LineItemGenerator, PartGenerator};

/// Row groups of LINEITEM, and of PART, which has 200,000 rows.
const ROW_GROUPS: usize = 16;
const PART_ROW_GROUPS: usize = 3;
/// Vectors of a window; also how far ahead a filter prefetches.
const WINDOW_VECTORS: usize = 8;
const AHEAD: usize = 2;
const MONEY: ColumnType = ColumnType::Decimal { precision: 15, scale: 2 };
/// More than processors have as cache.
const COLD_BYTES: usize = 96 << 20;

const YEAR_1994: i64 = 8766;
const YEAR_1995: i64 = 9131;
const Q1_LAST_DAY: i64 = 10_471;

/// One encoded column.
struct Stored {
    column_type: ColumnType,
    arrays: Vec<ArrayRef>,
    chunks: Vec<ColumnChunk>,
}

fn column(column_type: ColumnType) -> Column {
    Column {
        id: ColumnId(0),
        name: "c".into(),
        column_type,
        nullable: false,
        encode: EncodeName::Auto,
    }
}

fn store(column_type: ColumnType, arrays: Vec<ArrayRef>) -> Stored {
    let encoder = ColumnEncoder::plan(&column(column_type), &arrays, EncodingAim::Speed);
    let shared = Arc::new(SharedColumn::open(column_type, &encoder.shared_bytes()).unwrap());
    let open = |rows: &ArrayRef| {
        let bytes = bytes::Bytes::from(encoder.encode(rows));
        ColumnChunk::open(Arc::clone(&shared), rows.len(), bytes).unwrap()
    };
    Stored { column_type, chunks: arrays.iter().map(open).collect(), arrays }
}

/// The columns of LINEITEM that the kernels read.
struct Lines {
    keys: Stored,
    dates: Stored,
    quantity: Stored,
    price: Stored,
    discount: Stored,
    tax: Stored,
    flags: Stored,
    status: Stored,
    modes: Stored,
    comments: Stored,
}

impl Lines {
    fn generate() -> Lines {
        let generator = LineItemGenerator::new(1.0, 1, 1);
        let lines: Vec<LineItem<'_>> = generator.iter().take(ROW_GROUPS * ROW_GROUP_ROWS).collect();
        let money = |value: fn(&LineItem<'_>) -> TPCHDecimal| {
            per_group(MONEY, &lines, |lines| {
                let values = lines.iter().map(|line| i128::from(value(line).into_inner()));
                let values = Decimal128Array::from_iter_values(values);
                Arc::new(values.with_data_type(MONEY.arrow_type()))
            })
        };
        Lines {
            keys: per_group(ColumnType::BigInt, &lines, |lines| {
                Arc::new(Int64Array::from_iter_values(lines.iter().map(|line| line.l_orderkey)))
            }),
            dates: per_group(ColumnType::Date, &lines, |lines| {
                let days = lines.iter().map(|line| line.l_shipdate.to_unix_epoch());
                Arc::new(Date32Array::from_iter_values(days))
            }),
            quantity: money(|line| TPCHDecimal::new(line.l_quantity * 100)),
            price: money(|line| line.l_extendedprice),
            discount: money(|line| line.l_discount),
            tax: money(|line| line.l_tax),
            flags: text(&lines, |line| line.l_returnflag.to_owned()),
            status: text(&lines, |line| line.l_linestatus.to_owned()),
            modes: text(&lines, |line| line.l_shipmode.to_owned()),
            comments: text(&lines, |line| line.l_comment.to_owned()),
        }
    }
}

fn per_group<R>(column_type: ColumnType, rows: &[R], array: impl Fn(&[R]) -> ArrayRef) -> Stored {
    store(column_type, rows.chunks(ROW_GROUP_ROWS).map(array).collect())
}

fn text<R>(rows: &[R], value: impl Fn(&R) -> String) -> Stored {
    per_group(ColumnType::Text, rows, |rows| {
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(&value)))
    })
}

fn part_names() -> Stored {
    let generator = PartGenerator::new(1.0, 1, 1);
    let parts: Vec<_> = generator.iter().take(PART_ROW_GROUPS * ROW_GROUP_ROWS).collect();
    text(&parts, |part| part.p_name.to_string())
}

/// Memory that takes the place of everything else in the processor's cache when it is read.
struct Cold(Vec<u64>);

impl Cold {
    fn new() -> Cold {
        Cold((0..COLD_BYTES as u64 / 8).collect())
    }

    fn sweep(&self) {
        black_box(self.0.iter().step_by(8).sum::<u64>());
    }
}

/// The vectors of a row group, window by window.
fn windows() -> impl Iterator<Item = std::ops::Range<usize>> {
    let vectors = ROW_GROUP_ROWS / VECTOR_ROWS;
    (0..vectors).step_by(WINDOW_VECTORS).map(|first| first..first + WINDOW_VECTORS)
}

/// Conditions made ready for the chunks of a row group, as a scan does when it opens one.
type Filters<'a> = Vec<(&'a ColumnChunk, CompiledCondition)>;

fn compile<'a>(filters: &[(&'a Stored, Condition)], group: usize) -> Filters<'a> {
    let ready = |(column, condition): &(&'a Stored, Condition)| {
        let chunk = &column.chunks[group];
        (chunk, chunk.compile(condition))
    };
    filters.iter().map(ready).collect()
}

fn decode_window(
    column: &Stored,
    group: usize,
    vectors: std::ops::Range<usize>,
    masks: &[(Mask, usize)],
) -> ArrayRef {
    let selected = masks.iter().map(|(_, count)| count).sum();
    let mut out = ColumnBuilder::new(column.column_type, selected);
    let chunk = &column.chunks[group];
    for (vector, (mask, count)) in vectors.zip(masks) {
        chunk.prefetch(vector + AHEAD);
        chunk.decode(vector, mask, *count, &mut out).unwrap();
    }
    out.finish()
}

fn filter_window(filters: &Filters<'_>, vectors: std::ops::Range<usize>) -> Vec<(Mask, usize)> {
    let filtered = vectors.map(|vector| {
        let mut mask = Mask::full(VECTOR_ROWS);
        for (chunk, condition) in filters {
            chunk.prefetch(vector + AHEAD);
            if !mask.is_empty() {
                chunk.filter(vector, condition, &mut mask).unwrap();
            }
        }
        (mask, mask.count())
    });
    filtered.collect()
}

fn count_matching(column: &Stored, condition: &Condition) -> usize {
    let filters = [(column, condition.clone())];
    let mut count = 0;
    for group in 0..column.chunks.len() {
        let filters = compile(&filters, group);
        for vectors in windows() {
            count += filter_window(&filters, vectors).iter().map(|(_, count)| count).sum::<usize>();
        }
    }
    count
}

fn sum_of_products(prices: &ArrayRef, discounts: &ArrayRef) -> i128 {
    let decimals = |array: &ArrayRef| {
        array.as_any().downcast_ref::<Decimal128Array>().unwrap().values().clone()
    };
    decimals(prices).iter().zip(decimals(discounts).iter()).map(|(a, b)| a * b).sum()
}

fn decimal(value: i128) -> Constant {
    Constant::Decimal(value)
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Measures a kernel on `rows` rows, out of cache.
fn bench(group: &mut Group<'_>, cold: &Cold, name: &str, rows: usize, mut kernel: impl FnMut()) {
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(|| cold.sweep(), |()| kernel(), BatchSize::PerIteration);
    });
}

const LINES: usize = ROW_GROUPS * ROW_GROUP_ROWS;

fn bench_q6(group: &mut Group<'_>, cold: &Cold, lines: &Lines) {
    let year = Condition::Between(Constant::Int(YEAR_1994), Constant::Int(YEAR_1995 - 1));
    let q6 = [
        (&lines.dates, year),
        (&lines.discount, Condition::Between(decimal(5), decimal(7))),
        (&lines.quantity, Condition::Compare(Comparison::Less, decimal(2400))),
    ];
    bench(group, cold, "K1 filter and sum of Q6", LINES, || {
        let mut sum = 0;
        for group in 0..ROW_GROUPS {
            let filters = compile(&q6, group);
            for vectors in windows() {
                let masks = filter_window(&filters, vectors.clone());
                let prices = decode_window(&lines.price, group, vectors.clone(), &masks);
                let discounts = decode_window(&lines.discount, group, vectors, &masks);
                sum += sum_of_products(&prices, &discounts);
            }
        }
        black_box(sum);
    });
}

fn bench_q1(group: &mut Group<'_>, cold: &Cold, lines: &Lines) {
    let last_day = Condition::Compare(Comparison::LessOrEqual, Constant::Int(Q1_LAST_DAY));
    let q1 = [(&lines.dates, last_day)];
    let Lines { dates, quantity, price, discount, tax, flags, status, .. } = lines;
    let columns = [quantity, price, discount, tax, flags, status, dates];
    bench(group, cold, "K2 decode the columns of Q1", LINES, || {
        for group in 0..ROW_GROUPS {
            let filters = compile(&q1, group);
            for vectors in windows() {
                let masks = filter_window(&filters, vectors.clone());
                for column in columns {
                    black_box(decode_window(column, group, vectors.clone(), &masks));
                }
            }
        }
    });
}

fn bench_probe(group: &mut Group<'_>, cold: &Cold, lines: &Lines) {
    let mut rng = StdRng::seed_from_u64(7);
    // A bit for each possible key: 4 times as many as lines cover.
    let wanted: Vec<u64> = (0..LINES.div_ceil(64)).map(|_| two_percent(&mut rng)).collect();
    let all = vec![(Mask::full(VECTOR_ROWS), VECTOR_ROWS); WINDOW_VECTORS];
    bench(group, cold, "K3 probe two percent of the orders", LINES, || {
        let all_windows = (0..ROW_GROUPS).flat_map(|group| windows().map(move |w| (group, w)));
        for (group, vectors) in all_windows {
            let found = decode_window(&lines.keys, group, vectors.clone(), &all);
            let found = found.as_any().downcast_ref::<Int64Array>().unwrap();
            let vector_keys = found.values().chunks(VECTOR_ROWS);
            let masks: Vec<_> = vector_keys.map(|keys| probe(keys, &wanted)).collect();
            for column in [&lines.price, &lines.discount, &lines.comments] {
                black_box(decode_window(column, group, vectors.clone(), &masks));
            }
        }
    });
}

fn two_percent(rng: &mut StdRng) -> u64 {
    (0..64).fold(0, |bits, bit| bits | u64::from(rng.random_bool(0.02)) << bit)
}

/// The rows whose order is wanted.
fn probe(keys: &[i64], wanted: &[u64]) -> (Mask, usize) {
    let mut words = [0; VECTOR_ROWS / 64];
    for (word, keys) in words.iter_mut().zip(keys.chunks(64)) {
        for (row, key) in keys.iter().enumerate() {
            let key = *key as usize;
            let bits = wanted.get(key / 64).copied().unwrap_or_default();
            *word |= (bits >> (key % 64) & 1) << row;
        }
    }
    let mask = Mask::from_words(words);
    (mask, mask.count())
}

fn bench_text(group: &mut Group<'_>, cold: &Cold, lines: &Lines) {
    let names = part_names();
    let green = Condition::Like("%green%".into());
    bench(group, cold, "K4a LIKE '%green%'", PART_ROW_GROUPS * ROW_GROUP_ROWS, || {
        black_box(count_matching(&names, &green));
    });
    let mail_or_ship = ["MAIL", "SHIP"].map(|mode| Constant::Text(mode.into()));
    let mail_or_ship = Condition::In(mail_or_ship.into());
    bench(group, cold, "K4b IN of two", LINES, || {
        black_box(count_matching(&lines.modes, &mail_or_ship));
    });
}

fn bench_encode(group: &mut Group<'_>, cold: &Cold, name: &str, stored: &Stored) {
    bench(group, cold, &format!("K5 encode {name}"), LINES, || {
        let encoder =
            ColumnEncoder::plan(&column(stored.column_type), &stored.arrays, EncodingAim::Speed);
        for rows in &stored.arrays {
            black_box(encoder.encode(rows));
        }
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let mut group = criterion.benchmark_group("kernels");
    let (cold, lines) = (Cold::new(), Lines::generate());
    bench_q6(&mut group, &cold, &lines);
    bench_q1(&mut group, &cold, &lines);
    bench_probe(&mut group, &cold, &lines);
    bench_text(&mut group, &cold, &lines);
    bench_encode(&mut group, &cold, "date", &lines.dates);
    bench_encode(&mut group, &cold, "price", &lines.price);
    bench_encode(&mut group, &cold, "mode", &lines.modes);
    bench_encode(&mut group, &cold, "comment", &lines.comments);
    group.finish();
}
