//! svv_table_info: tables with rows, and how they lie. What needs the disk (`pct_used`) or a history
//! (`risk_event`, `create_time`) is NULL.

use storage::schema::EncodeName;
use storage::statistics::SegmentInfo;

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use crate::catalog::system::relation::Relation;
use crate::catalog::system::types::{encoding_code, encoding_name};
use crate::catalog::system::value::Value;
use crate::catalog::{DistributionStyle, SegmentList, TableEntry};
use sql::types::SqlType;

/// Bytes of a block, in which Redshift counts.
const BLOCK_BYTES: u64 = 1 << 20;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 343,
    name: "svv_table_info",
    is_view: true,
    columns: &[
        text("database"),
        text("schema"),
        nullable("table_id", Kind::Oid),
        text("table"),
        text("encoded"),
        text("diststyle"),
        nullable("sortkey1", Kind::Text),
        int4("max_varchar"),
        nullable("sortkey1_enc", Kind::Text),
        int4("sortkey_num"),
        nullable("size", Kind::Int8),
        nullable("pct_used", Kind::Hundredths),
        nullable("empty", Kind::Int8),
        nullable("unsorted", Kind::Hundredths),
        nullable("stats_off", Kind::Hundredths),
        nullable("tbl_rows", Kind::Int8),
        nullable("skew_sortkey1", Kind::Hundredths),
        nullable("skew_rows", Kind::Hundredths),
        nullable("estimated_visible_rows", Kind::Int8),
        nullable("risk_event", Kind::Text),
        nullable("vacuum_sort_benefit", Kind::Hundredths),
        nullable("create_time", Kind::Timestamp),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for relation in catalog.relations() {
        let Relation::User(entry) = &relation else { continue };
        if entry.slices.iter().all(SegmentList::is_empty) {
            continue;
        }
        let segments = || entry.slices.iter().flatten();
        let bytes: u64 = segments().map(|segment| segment.byte_count).sum();
        let stored: u64 = segments().map(|segment| segment.row_count).sum();
        let key = entry.sort_key.first().and_then(|key| entry.columns.get(*key));
        let encoding =
            key.map(|key| encoding_name(encoding_code(key.encode).into()).unwrap_or("none"));
        rows.add([
            ("database", catalog.session.database.clone().into()),
            ("schema", entry.schema.clone().into()),
            ("table_id", entry.id.0.into()),
            ("table", entry.name.clone().into()),
            ("encoded", encoded(entry).into()),
            ("diststyle", diststyle(entry).into()),
            ("sortkey1", key.map_or(Value::Null, |key| key.name.clone().into())),
            ("max_varchar", max_varchar(entry).into()),
            ("sortkey1_enc", encoding.map_or(Value::Null, Value::from)),
            ("sortkey_num", Value::from(entry.sort_key.len() as u64)),
            ("size", bytes.div_ceil(BLOCK_BYTES).into()),
            ("empty", 0.into()),
            ("unsorted", unsorted(entry)),
            ("stats_off", 0.into()),
            ("tbl_rows", stored.into()),
            ("skew_sortkey1", skew_of_key(entry)),
            ("skew_rows", skew(entry)),
            ("estimated_visible_rows", entry.row_count().into()),
        ]);
    }
}

/// Without an encoding that somebody has asked for, the server chooses.
fn encoded(entry: &TableEntry) -> &'static str {
    let encodings = || entry.columns.iter().map(|column| column.encode);
    if encodings().all(|encode| encode == EncodeName::Auto) {
        "Y, AUTO(ENCODE)"
    } else if encodings().all(|encode| encode == EncodeName::Raw) {
        "N"
    } else {
        "Y"
    }
}

fn diststyle(entry: &TableEntry) -> String {
    let style = match entry.distribution {
        DistributionStyle::Even => "EVEN".to_owned(),
        DistributionStyle::All => "ALL".to_owned(),
        DistributionStyle::Key(position) => {
            format!("KEY({})", entry.columns.get(position).map_or("", |column| &column.name))
        }
    };
    if entry.is_automatic { format!("AUTO({style})") } else { style }
}

fn max_varchar(entry: &TableEntry) -> u32 {
    let length = |sql_type| match sql_type {
        SqlType::VarChar(length) => length,
        _ => 0,
    };
    entry.columns.iter().map(|column| length(column.sql_type)).max().unwrap_or(0)
}

/// Rows out of the order of the sort key in percent of all.
fn unsorted(entry: &TableEntry) -> Value {
    let Some(slices) = entry.sorted_rows() else { return Value::Null };
    let all: u64 = slices.iter().map(|rows| rows.all).sum();
    let sorted: u64 = slices.iter().map(|rows| rows.sorted).sum();
    hundredths(100 * (all - sorted), all)
}

/// The largest column that is not the first sort key, by that one.
fn skew_of_key(entry: &TableEntry) -> Value {
    let Some(first) = entry.sort_key.first() else { return Value::Null };
    let bytes_of = |position: usize| -> u64 {
        let id = entry.columns[position].id;
        let bytes = |segment: &SegmentInfo| segment.column(id).map_or(0, |c| c.encoded_bytes);
        entry.slices.iter().flatten().map(|segment| bytes(segment)).sum()
    };
    let others = (0..entry.columns.len()).filter(|position| !entry.sort_key.contains(position));
    others.map(bytes_of).max().map_or(Value::Null, |largest| hundredths(largest, bytes_of(*first)))
}

/// The rows of the fullest slice by those of the emptiest.
fn skew(entry: &TableEntry) -> Value {
    if entry.distribution == DistributionStyle::All {
        return Value::Null;
    }
    let slices = entry.slices.iter();
    let rows: Vec<u64> = slices.map(|slice| slice.iter().map(|s| s.row_count).sum()).collect();
    let (max, min) = (rows.iter().max().copied(), rows.iter().min().copied());
    max.zip(min).map_or(Value::Null, |(max, min)| hundredths(max, min))
}

/// A quotient as hundredths; NULL if there is none.
fn hundredths(dividend: u64, divisor: u64) -> Value {
    match divisor {
        0 => Value::Null,
        _ => Value::from((u128::from(dividend) * 100 / u128::from(divisor)) as u64),
    }
}
