//! The eight tables: their names, sizes and rows as Arrow columns.
//!
//! Rows come from `tpchgen`, which makes the same rows as the reference generator dbgen.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, StringArray, StringBuilder,
};
use arrow::datatypes::DataType;
use tpchgen::dates::TPCHDate;
use tpchgen::decimal::TPCHDecimal;
use tpchgen::generators::{
    Customer, CustomerGenerator, LineItem, LineItemGenerator, Nation, NationGenerator, Order,
    OrderGenerator, Part, PartGenerator, PartSupp, PartSuppGenerator, Region, RegionGenerator,
    Supplier, SupplierGenerator,
};

/// Named columns of one batch of rows, in the order of `schema.sql`.
pub(crate) type Columns = Vec<(&'static str, ArrayRef)>;

/// A TPC-H table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Region,
    Nation,
    Supplier,
    Customer,
    Part,
    PartSupp,
    Orders,
    LineItem,
}

impl Table {
    /// All tables, small ones first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Region,
        Self::Nation,
        Self::Supplier,
        Self::Customer,
        Self::Part,
        Self::PartSupp,
        Self::Orders,
        Self::LineItem,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Nation => "nation",
            Self::Supplier => "supplier",
            Self::Customer => "customer",
            Self::Part => "part",
            Self::PartSupp => "partsupp",
            Self::Orders => "orders",
            Self::LineItem => "lineitem",
        }
    }

    /// The number of rows at a scale factor; of lineitem, whose size is random, only about.
    pub(crate) fn rows_expected(self, scale: f64) -> u64 {
        let orders = |per_order: i64| OrderGenerator::calculate_row_count(scale, 1, 1) * per_order;
        let rows = match self {
            Self::Region => 5,
            Self::Nation => 25,
            Self::Supplier => SupplierGenerator::calculate_row_count(scale, 1, 1),
            Self::Customer => CustomerGenerator::calculate_row_count(scale, 1, 1),
            Self::Part => PartGenerator::calculate_row_count(scale, 1, 1),
            // The generator counts parts; each has four suppliers.
            Self::PartSupp => PartSuppGenerator::calculate_row_count(scale, 1, 1) * 4,
            Self::Orders => orders(1),
            Self::LineItem => orders(4),
        };
        u64::try_from(rows).unwrap_or(0)
    }

    /// Whether [`Self::rows_expected`] is exact.
    pub(crate) fn rows_are_exact(self) -> bool {
        self != Self::LineItem
    }

    /// Pass the rows of one part of the table (`part` counts from 1) to `sink`, in batches of at
    /// most `batch_rows`. A part without rows passes one empty batch, so that columns are known.
    pub(crate) fn generate<F>(
        self,
        scale: f64,
        (part, part_count): (i32, i32),
        batch_rows: usize,
        sink: F,
    ) -> anyhow::Result<u64>
    where
        F: FnMut(Columns) -> anyhow::Result<()>,
    {
        macro_rules! rows {
            ($generator:ident, $columns:ident) => {{
                let generator = $generator::new(scale, part, part_count);
                batches(generator.iter(), batch_rows, $columns, sink)
            }};
        }
        match self {
            Self::Region => rows!(RegionGenerator, region),
            Self::Nation => rows!(NationGenerator, nation),
            Self::Supplier => rows!(SupplierGenerator, supplier),
            Self::Customer => rows!(CustomerGenerator, customer),
            Self::Part => rows!(PartGenerator, part_columns),
            Self::PartSupp => rows!(PartSuppGenerator, partsupp),
            Self::Orders => rows!(OrderGenerator, orders),
            Self::LineItem => rows!(LineItemGenerator, lineitem),
        }
    }
}

/// Cut rows into batches; the result is the number of rows.
fn batches<R>(
    mut rows: impl Iterator<Item = R>,
    batch_rows: usize,
    columns: fn(&[R]) -> Columns,
    mut sink: impl FnMut(Columns) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut total = 0;
    let mut batch = Vec::with_capacity(batch_rows);
    loop {
        batch.extend(rows.by_ref().take(batch_rows));
        if batch.is_empty() && total > 0 {
            return Ok(total);
        }
        total += batch.len() as u64;
        sink(columns(&batch))?;
        if batch.len() < batch_rows {
            return Ok(total);
        }
        batch.clear();
    }
}

fn region(rows: &[Region<'_>]) -> Columns {
    vec![
        ("r_regionkey", int64(rows, |row| row.r_regionkey)),
        ("r_name", text(rows, |row| row.r_name)),
        ("r_comment", text(rows, |row| row.r_comment)),
    ]
}

fn nation(rows: &[Nation<'_>]) -> Columns {
    vec![
        ("n_nationkey", int64(rows, |row| row.n_nationkey)),
        ("n_name", text(rows, |row| row.n_name)),
        ("n_regionkey", int64(rows, |row| row.n_regionkey)),
        ("n_comment", text(rows, |row| row.n_comment)),
    ]
}

fn supplier(rows: &[Supplier]) -> Columns {
    vec![
        ("s_suppkey", int64(rows, |row| row.s_suppkey)),
        ("s_name", display(rows, |row| &row.s_name)),
        ("s_address", display(rows, |row| &row.s_address)),
        ("s_nationkey", int64(rows, |row| row.s_nationkey)),
        ("s_phone", display(rows, |row| &row.s_phone)),
        ("s_acctbal", decimal(rows, |row| row.s_acctbal)),
        ("s_comment", text(rows, |row| &row.s_comment)),
    ]
}

fn customer(rows: &[Customer<'_>]) -> Columns {
    vec![
        ("c_custkey", int64(rows, |row| row.c_custkey)),
        ("c_name", display(rows, |row| &row.c_name)),
        ("c_address", display(rows, |row| &row.c_address)),
        ("c_nationkey", int64(rows, |row| row.c_nationkey)),
        ("c_phone", display(rows, |row| &row.c_phone)),
        ("c_acctbal", decimal(rows, |row| row.c_acctbal)),
        ("c_mktsegment", text(rows, |row| row.c_mktsegment)),
        ("c_comment", text(rows, |row| row.c_comment)),
    ]
}

fn part_columns(rows: &[Part<'_>]) -> Columns {
    vec![
        ("p_partkey", int64(rows, |row| row.p_partkey)),
        ("p_name", display(rows, |row| &row.p_name)),
        ("p_mfgr", display(rows, |row| &row.p_mfgr)),
        ("p_brand", display(rows, |row| &row.p_brand)),
        ("p_type", text(rows, |row| row.p_type)),
        ("p_size", int32(rows, |row| row.p_size)),
        ("p_container", text(rows, |row| row.p_container)),
        ("p_retailprice", decimal(rows, |row| row.p_retailprice)),
        ("p_comment", text(rows, |row| row.p_comment)),
    ]
}

fn partsupp(rows: &[PartSupp<'_>]) -> Columns {
    vec![
        ("ps_partkey", int64(rows, |row| row.ps_partkey)),
        ("ps_suppkey", int64(rows, |row| row.ps_suppkey)),
        ("ps_availqty", int32(rows, |row| row.ps_availqty)),
        ("ps_supplycost", decimal(rows, |row| row.ps_supplycost)),
        ("ps_comment", text(rows, |row| row.ps_comment)),
    ]
}

fn orders(rows: &[Order<'_>]) -> Columns {
    vec![
        ("o_orderkey", int64(rows, |row| row.o_orderkey)),
        ("o_custkey", int64(rows, |row| row.o_custkey)),
        ("o_orderstatus", text(rows, |row| row.o_orderstatus.as_str())),
        ("o_totalprice", decimal(rows, |row| row.o_totalprice)),
        ("o_orderdate", date(rows, |row| row.o_orderdate)),
        ("o_orderpriority", text(rows, |row| row.o_orderpriority)),
        ("o_clerk", display(rows, |row| &row.o_clerk)),
        ("o_shippriority", int32(rows, |row| row.o_shippriority)),
        ("o_comment", text(rows, |row| row.o_comment)),
    ]
}

fn lineitem(rows: &[LineItem<'_>]) -> Columns {
    vec![
        ("l_orderkey", int64(rows, |row| row.l_orderkey)),
        ("l_partkey", int64(rows, |row| row.l_partkey)),
        ("l_suppkey", int64(rows, |row| row.l_suppkey)),
        ("l_linenumber", int32(rows, |row| row.l_linenumber)),
        // The generator gives whole units, the table keeps hundredths like any amount.
        ("l_quantity", decimal(rows, |row| TPCHDecimal(row.l_quantity * 100))),
        ("l_extendedprice", decimal(rows, |row| row.l_extendedprice)),
        ("l_discount", decimal(rows, |row| row.l_discount)),
        ("l_tax", decimal(rows, |row| row.l_tax)),
        ("l_returnflag", text(rows, |row| row.l_returnflag)),
        ("l_linestatus", text(rows, |row| row.l_linestatus)),
        ("l_shipdate", date(rows, |row| row.l_shipdate)),
        ("l_commitdate", date(rows, |row| row.l_commitdate)),
        ("l_receiptdate", date(rows, |row| row.l_receiptdate)),
        ("l_shipinstruct", text(rows, |row| row.l_shipinstruct)),
        ("l_shipmode", text(rows, |row| row.l_shipmode)),
        ("l_comment", text(rows, |row| row.l_comment)),
    ]
}

fn int64<R>(rows: &[R], value: impl Fn(&R) -> i64) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int64Array>())
}

fn int32<R>(rows: &[R], value: impl Fn(&R) -> i32) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int32Array>())
}

/// `DECIMAL(15,2)`: the generator counts in hundredths.
fn decimal<R>(rows: &[R], value: impl Fn(&R) -> TPCHDecimal) -> ArrayRef {
    let hundredths = rows.iter().map(|row| i128::from(value(row).into_inner()));
    let array = Decimal128Array::from_iter_values(hundredths);
    Arc::new(array.with_data_type(DataType::Decimal128(15, 2)))
}

fn date<R>(rows: &[R], value: impl Fn(&R) -> TPCHDate) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| value(row).to_unix_epoch())))
}

fn text<R>(rows: &[R], value: impl Fn(&R) -> &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

fn display<'a, R, V: Display + 'a>(rows: &'a [R], value: impl Fn(&'a R) -> &'a V) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * 24);
    for row in rows {
        // Writing into memory cannot fail.
        let _ = write!(builder, "{}", value(row));
        builder.append_value("");
    }
    Arc::new(builder.finish())
}
