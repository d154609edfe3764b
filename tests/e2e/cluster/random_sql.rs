//! Random queries over three tables `t0`, `t1`, `t2` with columns `k`, `a`, `s`, `v`.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

const TABLES: [&str; 3] = ["t0", "t1", "t2"];
const COLUMNS: [&str; 4] = ["k", "a", "s", "v"];
const KEYS: [&str; 3] = ["k", "a", "s"];

/// Rows for a VALUES list.
pub(super) fn rows_of_table(random: &mut StdRng, count: usize) -> Vec<String> {
    let keys = random.random_range(3..60);
    let row = |random: &mut StdRng| {
        let k = match random.random_bool(0.05) {
            true => "NULL".to_owned(),
            false => random.random_range(0..keys).to_string(),
        };
        let a = match random.random_bool(0.1) {
            true => "NULL".to_owned(),
            false => random.random_range(0..keys.min(12)).to_string(),
        };
        let s = match random.random_range(0..10) {
            0 => "NULL".to_owned(),
            word @ 1..=4 => format!("'s{word}'"),
            word => format!("'a long string value number {word}'"),
        };
        format!("({k}, {a}, {s}, {})", random.random_range(-50..1000))
    };
    (0..count).map(|_| row(random)).collect()
}

/// A query. If its order is determined, it says `ORDER BY c0` or `ORDER BY n`.
pub(super) fn query(random: &mut StdRng) -> String {
    let (from, names) = from(random);
    let from = format!("{from}{}", conditions(random, &names));
    let column = |random: &mut StdRng| {
        format!("{}.{}", names.choose(random).unwrap(), COLUMNS.choose(random).unwrap())
    };
    let three = |random: &mut StdRng| {
        let columns: Vec<String> =
            (0..3).map(|at| format!("{} AS c{at}", column(random))).collect();
        columns.join(", ")
    };
    match random.random_range(0..6) {
        0 => format!("SELECT {} FROM {from}", three(random)),
        1 => {
            let limit = random.random_range(1..60);
            format!("SELECT {} FROM {from} ORDER BY c0 DESC, c1, c2 LIMIT {limit}", three(random))
        }
        2 => {
            let (group, value) = (column(random), column(random));
            let having = if random.random_bool(0.3) { " HAVING count(*) > 2" } else { "" };
            format!(
                "SELECT {group} AS g, count(*) AS n, sum(x.v) AS t, min({value}) AS m, \
                 count(DISTINCT {value}) AS d FROM {from} GROUP BY {group}{having}"
            )
        }
        3 => {
            let (first, second) = (column(random), column(random));
            let limit = random.random_range(1..30);
            format!(
                "SELECT {first} AS g, {second} AS h, count(*) AS n, max(x.v) AS t FROM {from} \
                 GROUP BY 1, 2 ORDER BY n DESC, g, h LIMIT {limit}"
            )
        }
        4 => format!(
            "SELECT count(*), sum(x.v), min(x.s), count(DISTINCT x.a), \
             (SELECT max(v) FROM {}) FROM {from}",
            TABLES.choose(random).unwrap()
        ),
        _ => format!(
            "SELECT x.k, x.v, rank() OVER (PARTITION BY {} ORDER BY x.v) AS r FROM {from}",
            column(random)
        ),
    }
}

fn from(random: &mut StdRng) -> (String, Vec<&'static str>) {
    let mut from = format!("{} x", source(random));
    let mut names = vec!["x"];
    match random.random_range(0..10) {
        0 => {}
        1 => {
            let kind = ["JOIN", "LEFT JOIN", "RIGHT JOIN"].choose(random).unwrap();
            from += &format!(" {kind} {} y ON x.v + 300 < y.v AND y.v > 900", source(random));
            names.push("y");
        }
        2 => {
            from += &format!(" CROSS JOIN (SELECT * FROM {} q WHERE q.v > 900) y", source(random));
            names.push("y");
        }
        _ => {
            let kinds = ["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];
            let kind = kinds.choose(random).unwrap();
            from += &format!(" {kind} {} y ON {}", source(random), equal(random, "x", "y"));
            names.push("y");
            if random.random_bool(0.35) {
                let kind = ["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN"].choose(random).unwrap();
                let left = ["x", "y"].choose(random).unwrap();
                let table = TABLES.choose(random).unwrap();
                from += &format!(" {kind} {table} z ON {}", equal(random, left, "z"));
                names.push("z");
            }
        }
    }
    (from, names)
}

fn source(random: &mut StdRng) -> String {
    let table = *TABLES.choose(random).unwrap();
    if random.random_bool(0.6) {
        return table.to_owned();
    }
    let other = TABLES.choose(random).unwrap();
    match random.random_range(0..6) {
        0 => format!("(SELECT k, a, s, v FROM {table} WHERE v > {})", random.random_range(0..900)),
        1 => {
            let key = *KEYS.choose(random).unwrap();
            let or = |column: &str, aggregate: &str| match column == key {
                true => column.to_owned(),
                false => format!("{aggregate}({column}) AS {column}"),
            };
            let columns = [or("k", "min"), or("a", "max"), or("s", "min")].join(", ");
            format!("(SELECT {columns}, sum(v) AS v FROM {table} GROUP BY {key})")
        }
        2 => format!("(SELECT k, a, s, v FROM {table} UNION ALL SELECT k, a, s, v FROM {other})"),
        3 => format!("(SELECT DISTINCT k, a, s, v FROM {table})"),
        4 => format!(
            "(SELECT k, a, s, v FROM {table} ORDER BY v, k, a, s LIMIT {})",
            random.random_range(1..40)
        ),
        _ => {
            let key = KEYS.choose(random).unwrap();
            format!("(SELECT k, a, s, sum(v) OVER (PARTITION BY {key}) AS v FROM {table})")
        }
    }
}

fn equal(random: &mut StdRng, left: &str, right: &str) -> String {
    let pairs = [("k", "k"), ("k", "k"), ("k", "a"), ("a", "k"), ("a", "a"), ("s", "s")];
    let (first, second) = pairs.choose(random).unwrap();
    let mut condition = format!("{left}.{first} = {right}.{second}");
    if random.random_bool(0.2) {
        condition += &format!(" AND {left}.a = {right}.a");
    }
    if random.random_bool(0.25) {
        condition += &format!(" AND {left}.v < {right}.v");
    }
    condition
}

fn conditions(random: &mut StdRng, names: &[&str]) -> String {
    let mut all = Vec::new();
    if random.random_bool(0.3) {
        let name = names.choose(random).unwrap();
        all.push(format!("{name}.v > {}", random.random_range(0..900)));
    }
    if random.random_bool(0.15) {
        let aggregate = ["max", "min", "avg"].choose(random).unwrap();
        all.push(format!("x.v > (SELECT {aggregate}(v) - 300 FROM {} sq)", source(random)));
    }
    if random.random_bool(0.2) {
        let not = ["", "NOT "].choose(random).unwrap();
        let on = equal(random, "e", "x");
        all.push(format!("{not}EXISTS (SELECT 1 FROM {} e WHERE {on})", source(random)));
    }
    if random.random_bool(0.2) {
        let not = ["", "NOT "].choose(random).unwrap();
        let key = KEYS.choose(random).unwrap();
        let known = if random.random_bool(0.5) {
            format!(" WHERE {key} IS NOT NULL")
        } else {
            String::new()
        };
        all.push(format!("x.{key} {not}IN (SELECT {key} FROM {} i{known})", source(random)));
    }
    if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
}
