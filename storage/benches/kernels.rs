//! The scan kernels on columns drawn as TPC-H draws those of LINEITEM, in memory and out of cache.
//! Times are per call over all rows; divide by ROWS for time per row.
#![expect(clippy::unwrap_used, reason = "a bench stops at the first thing that goes wrong")]

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Date32Array, Decimal128Array, Int64Array, StringViewArray};
use criterion::{Criterion, Throughput};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::encoding::{ColumnBuilder, ColumnChunk, ColumnEncoder, Mask, SharedColumn};
use storage::ids::ColumnId;
use storage::io::EncodingAim;
use storage::predicate::{Comparison, Condition, Constant};
use storage::schema::{Column, ColumnType, EncodeName};
use storage::{ROW_GROUP_ROWS, VECTOR_ROWS};

const ROW_GROUPS: usize = 16;
const ROWS: usize = ROW_GROUPS * ROW_GROUP_ROWS;
/// Vectors of a window; also how far ahead a filter prefetches.
const WINDOW_VECTORS: usize = 8;
const AHEAD: usize = 2;
const MONEY: ColumnType = ColumnType::Decimal { precision: 15, scale: 2 };

/// Days since 1970-01-01.
const FIRST_ORDER_DAY: i32 = 8035;
const LAST_ORDER_DAY: i32 = 10_440;
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

fn store(column_type: ColumnType, draw: &mut dyn FnMut(usize) -> ArrayRef) -> Stored {
    let arrays: Vec<ArrayRef> = (0..ROW_GROUPS).map(draw).collect();
    let encoder = ColumnEncoder::plan(&column(column_type), &arrays, EncodingAim::Speed);
    let shared = Arc::new(SharedColumn::open(column_type, &encoder.shared_bytes()).unwrap());
    let open = |rows: &ArrayRef| {
        let bytes = bytes::Bytes::from(encoder.encode(rows));
        ColumnChunk::open(Arc::clone(&shared), rows.len(), bytes).unwrap()
    };
    Stored { column_type, chunks: arrays.iter().map(open).collect(), arrays }
}

fn money(draw: impl Fn(&mut StdRng) -> i128) -> Stored {
    let mut rng = StdRng::seed_from_u64(1);
    store(MONEY, &mut |_| {
        let values = (0..ROW_GROUP_ROWS).map(|_| draw(&mut rng));
        Arc::new(Decimal128Array::from_iter_values(values).with_data_type(MONEY.arrow_type()))
    })
}

fn words(choices: &'static [&'static str]) -> Stored {
    let mut rng = StdRng::seed_from_u64(2);
    store(ColumnType::Text, &mut |_| {
        let values = (0..ROW_GROUP_ROWS).map(|_| choices[rng.random_range(0..choices.len())]);
        Arc::new(StringViewArray::from_iter_values(values))
    })
}

fn ship_dates() -> Stored {
    let mut rng = StdRng::seed_from_u64(3);
    store(ColumnType::Date, &mut |_| {
        let day = |_| rng.random_range(FIRST_ORDER_DAY..LAST_ORDER_DAY) + rng.random_range(1..122);
        Arc::new(Date32Array::from_iter_values((0..ROW_GROUP_ROWS).map(day)))
    })
}

/// One to seven lines an order; eight of every 32 numbers are used.
fn order_keys() -> Stored {
    let mut rng = StdRng::seed_from_u64(4);
    let (mut order, mut lines) = (0_i64, 0);
    store(ColumnType::BigInt, &mut |_| {
        let key = |_| {
            if lines == 0 {
                (order, lines) = (order + 1, rng.random_range(1..8));
            }
            lines -= 1;
            (order / 8) * 32 + order % 8
        };
        Arc::new(Int64Array::from_iter_values((0..ROW_GROUP_ROWS).map(key)))
    })
}

fn comments() -> Stored {
    const WORDS: [&str; 16] = [
        "furiously",
        "carefully",
        "regular",
        "deposits",
        "packages",
        "even",
        "final",
        "accounts",
        "the",
        "sleep",
        "special",
        "requests",
        "ironic",
        "quickly",
        "bold",
        "pending",
    ];
    let mut rng = StdRng::seed_from_u64(5);
    store(ColumnType::Text, &mut |_| {
        let text = |_| {
            let length = rng.random_range(10..44);
            let mut text = String::new();
            while text.len() < length {
                text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
                text.push(' ');
            }
            text.truncate(length);
            text
        };
        Arc::new(StringViewArray::from_iter_values((0..ROW_GROUP_ROWS).map(text)))
    })
}

fn part_names() -> Stored {
    const COLOURS: [&str; 24] = [
        "almond",
        "antique",
        "aquamarine",
        "azure",
        "beige",
        "bisque",
        "black",
        "blanched",
        "blue",
        "blush",
        "brown",
        "burlywood",
        "chartreuse",
        "chocolate",
        "coral",
        "cornflower",
        "cream",
        "cyan",
        "dark",
        "dodger",
        "forest",
        "gainsboro",
        "green",
        "honeydew",
    ];
    let mut rng = StdRng::seed_from_u64(6);
    store(ColumnType::Text, &mut |_| {
        let name = |_| {
            let words = (0..5).map(|_| COLOURS[rng.random_range(0..COLOURS.len())]);
            words.collect::<Vec<_>>().join(" ")
        };
        Arc::new(StringViewArray::from_iter_values((0..ROW_GROUP_ROWS).map(name)))
    })
}

fn windows(column: &Stored) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let groups = column.chunks.len();
    (0..groups).flat_map(|group| {
        let vectors = ROW_GROUP_ROWS / VECTOR_ROWS;
        (0..vectors)
            .step_by(WINDOW_VECTORS)
            .map(move |first| (group, first..first + WINDOW_VECTORS))
    })
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

fn filter_window(
    filters: &[(&Stored, Condition)],
    group: usize,
    vectors: std::ops::Range<usize>,
) -> Vec<(Mask, usize)> {
    let compiled: Vec<_> = filters
        .iter()
        .map(|(column, condition)| (&column.chunks[group], column.chunks[group].compile(condition)))
        .collect();
    let filtered = vectors.map(|vector| {
        let mut mask = Mask::full(VECTOR_ROWS);
        for (chunk, condition) in &compiled {
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
    let counts =
        windows(column).flat_map(|(group, vectors)| filter_window(&filters, group, vectors));
    counts.map(|(_, count)| count).sum()
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

/// The money columns.
struct Money {
    discount: Stored,
    tax: Stored,
    quantity: Stored,
    price: Stored,
}

fn bench_q6(group: &mut Group<'_>, dates: &Stored, money: &Money) {
    let year = Condition::Between(Constant::Int(YEAR_1994), Constant::Int(YEAR_1995 - 1));
    let q6 = [
        (dates, year),
        (&money.discount, Condition::Between(decimal(5), decimal(7))),
        (&money.quantity, Condition::Compare(Comparison::Less, decimal(2400))),
    ];
    group.bench_function("K1 filter and sum of Q6", |bencher| {
        bencher.iter(|| {
            let sums = windows(dates).map(|(group, vectors)| {
                let masks = filter_window(&q6, group, vectors.clone());
                let prices = decode_window(&money.price, group, vectors.clone(), &masks);
                let discounts = decode_window(&money.discount, group, vectors, &masks);
                sum_of_products(&prices, &discounts)
            });
            black_box(sums.sum::<i128>())
        });
    });
}

fn bench_q1(group: &mut Group<'_>, dates: &Stored, money: &Money) {
    let flags = words(&["A", "N", "R"]);
    let status = words(&["F", "O"]);
    let q1 = [(dates, Condition::Compare(Comparison::LessOrEqual, Constant::Int(Q1_LAST_DAY)))];
    let columns =
        [&money.quantity, &money.price, &money.discount, &money.tax, &flags, &status, dates];
    group.bench_function("K2 decode the columns of Q1", |bencher| {
        bencher.iter(|| {
            for (group, vectors) in windows(dates) {
                let masks = filter_window(&q1, group, vectors.clone());
                for column in columns {
                    black_box(decode_window(column, group, vectors.clone(), &masks));
                }
            }
        });
    });
}

fn bench_probe(group: &mut Group<'_>, money: &Money, comments: &Stored) {
    let keys = order_keys();
    let mut rng = StdRng::seed_from_u64(7);
    let wanted: Vec<bool> = (0..ROWS).map(|_| rng.random_bool(0.02)).collect();
    let all = vec![(Mask::full(VECTOR_ROWS), VECTOR_ROWS); WINDOW_VECTORS];
    group.bench_function("K3 probe two percent of the orders", |bencher| {
        bencher.iter(|| {
            for (group, vectors) in windows(&keys) {
                let found = decode_window(&keys, group, vectors.clone(), &all);
                let found = found.as_any().downcast_ref::<Int64Array>().unwrap();
                let vector_keys = found.values().chunks(VECTOR_ROWS);
                let masks: Vec<_> = vector_keys.map(|keys| probe(keys, &wanted)).collect();
                for column in [&money.price, &money.discount, comments] {
                    black_box(decode_window(column, group, vectors.clone(), &masks));
                }
            }
        });
    });
}

/// The rows whose order is wanted; the order keys of eight in 32 are used.
fn probe(keys: &[i64], wanted: &[bool]) -> (Mask, usize) {
    let mut words = [0; VECTOR_ROWS / 64];
    for (word, keys) in words.iter_mut().zip(keys.chunks(64)) {
        for (row, key) in keys.iter().enumerate() {
            let order = (key / 32 * 8 + key % 32) as usize;
            *word |= u64::from(wanted.get(order).copied().unwrap_or_default()) << row;
        }
    }
    let mask = Mask::from_words(words);
    (mask, mask.count())
}

fn bench_text(group: &mut Group<'_>, modes: &Stored) {
    let names = part_names();
    let green = Condition::Like("%green%".into());
    group.bench_function("K4a LIKE '%green%'", |bencher| {
        bencher.iter(|| black_box(count_matching(&names, &green)));
    });
    let mail_or_ship = ["MAIL", "SHIP"].map(|mode| Constant::Text(mode.into()));
    let mail_or_ship = Condition::In(mail_or_ship.into());
    group.bench_function("K4b IN of two", |bencher| {
        bencher.iter(|| black_box(count_matching(modes, &mail_or_ship)));
    });
}

fn bench_encode(group: &mut Group<'_>, name: &str, stored: &Stored) {
    group.bench_function(format!("K5 encode {name}"), |bencher| {
        bencher.iter(|| {
            let encoder = ColumnEncoder::plan(
                &column(stored.column_type),
                &stored.arrays,
                EncodingAim::Speed,
            );
            for rows in &stored.arrays {
                black_box(encoder.encode(rows));
            }
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("kernels");
    group.throughput(Throughput::Elements(ROWS as u64));
    let (dates, comments) = (ship_dates(), comments());
    let modes = words(&["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"]);
    let money = Money {
        discount: money(|rng| rng.random_range(0..11)),
        tax: money(|rng| rng.random_range(0..9)),
        quantity: money(|rng| rng.random_range(1..51) * 100),
        price: money(|rng| rng.random_range(90_000..10_494_951)),
    };
    bench_q6(&mut group, &dates, &money);
    bench_q1(&mut group, &dates, &money);
    bench_probe(&mut group, &money, &comments);
    bench_text(&mut group, &modes);
    bench_encode(&mut group, "date", &dates);
    bench_encode(&mut group, "price", &money.price);
    bench_encode(&mut group, "mode", &modes);
    bench_encode(&mut group, "comment", &comments);
    group.finish();
}
