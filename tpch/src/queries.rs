//! The 22 queries, in Redshift's dialect with the specification's validation parameters.

use anyhow::{Context as _, bail};

/// One query of the benchmark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    /// 1 to 22.
    pub(crate) number: u8,
    /// One SQL statement, without a semicolon.
    pub(crate) sql: &'static str,
    /// The output columns of ORDER BY: rows equal in all of them may come in any order.
    pub(crate) sort_keys: &'static [&'static str],
}

macro_rules! query {
    ($number:literal, $file:literal, [$($key:literal),*]) => {
        Query {
            number: $number,
            sql: include_str!(concat!("../queries/", $file, ".sql")),
            sort_keys: &[$($key),*],
        }
    };
}

const QUERIES: [Query; 22] = [
    query!(1, "q01", ["l_returnflag", "l_linestatus"]),
    query!(2, "q02", ["s_acctbal", "n_name", "s_name", "p_partkey"]),
    query!(3, "q03", ["revenue", "o_orderdate"]),
    query!(4, "q04", ["o_orderpriority"]),
    query!(5, "q05", ["revenue"]),
    query!(6, "q06", []),
    query!(7, "q07", ["supp_nation", "cust_nation", "l_year"]),
    query!(8, "q08", ["o_year"]),
    query!(9, "q09", ["nation", "o_year"]),
    query!(10, "q10", ["revenue"]),
    query!(11, "q11", ["value"]),
    query!(12, "q12", ["l_shipmode"]),
    query!(13, "q13", ["custdist", "c_count"]),
    query!(14, "q14", []),
    query!(15, "q15", ["s_suppkey"]),
    query!(16, "q16", ["supplier_cnt", "p_brand", "p_type", "p_size"]),
    query!(17, "q17", []),
    query!(18, "q18", ["o_totalprice", "o_orderdate"]),
    query!(19, "q19", []),
    query!(20, "q20", ["s_name"]),
    query!(21, "q21", ["numwait", "s_name"]),
    query!(22, "q22", ["cntrycode"]),
];

impl Query {
    /// All queries in order.
    pub(crate) fn all() -> Vec<Self> {
        QUERIES.iter().map(|query| Self { sql: statement(query.sql), ..*query }).collect()
    }

    /// The queries of a list such as `1,3,7-9`.
    pub(crate) fn list(list: &str) -> anyhow::Result<Vec<Self>> {
        let all = Self::all();
        let mut chosen = Vec::new();
        for item in list.split(',').map(str::trim) {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let number = |text: &str| {
                text.trim_start_matches(['q', 'Q'])
                    .parse::<usize>()
                    .with_context(|| format!("\"{item}\" is not a query number"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first < 1 || last > all.len() || first > last {
                bail!("\"{item}\" is not within 1 to {}", all.len());
            }
            chosen.extend_from_slice(&all[first - 1..last]);
        }
        Ok(chosen)
    }
}

/// A query's file without the semicolon and line ends around it.
fn statement(text: &'static str) -> &'static str {
    text.trim().trim_end_matches(';').trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_numbers_and_ranges() {
        let numbers = |list: &str| -> Vec<u8> {
            Query::list(list).unwrap().iter().map(|query| query.number).collect()
        };
        assert_eq!(numbers("1,3,7-9"), [1, 3, 7, 8, 9]);
        assert_eq!(numbers("q06"), [6]);
        for bad in ["0", "23", "5-3", "x", ""] {
            assert!(Query::list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_query_is_one_statement_and_numbered_in_order() {
        for (index, query) in Query::all().iter().enumerate() {
            assert_eq!(usize::from(query.number), index + 1);
            assert!(!query.sql.contains(';'), "{}", query.number);
        }
    }
}
