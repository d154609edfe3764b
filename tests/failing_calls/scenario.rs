//! The statements, in order, and what each does to the model. Small, so that one run takes about a
//! second, and wide: each kind of statement that writes, and each kind of file.

use crate::model::{Effect, Model, MustFail, Row, number, row};

/// Tables that the scenario knows.
pub(crate) const TABLES: [&str; 4] = ["base", "side", "t", "c"];

/// A step of the scenario.
pub(crate) enum Step {
    /// A statement that is a transaction of its own.
    Single(String, Effect),
    /// Statements between BEGIN and the last one, COMMIT or ROLLBACK, which are one effect.
    Block(Vec<&'static str>, Effect),
}

/// What the directory holds before calls fail.
pub(crate) fn preparation() -> Vec<Step> {
    let side: Vec<String> = (0..8).map(|k| format!("({}, {k})", k * 10)).collect();
    vec![
        single("CREATE TABLE base (k int, v varchar(20)) DISTKEY(k) SORTKEY(k)", |m| {
            m.create("base", vec![])
        }),
        single("INSERT INTO base VALUES (1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e')", |m| {
            m.insert("base", base())
        }),
        single("CREATE TABLE side (k int, n bigint) DISTSTYLE EVEN", |m| m.create("side", vec![])),
        single(&format!("INSERT INTO side VALUES {}", side.join(",")), |m| {
            m.insert("side", (0..8).map(|k| row([&(k * 10), &k])).collect())
        }),
    ]
}

fn base() -> Vec<Row> {
    (1..).zip("abcde".chars()).map(|(k, v)| row([&k, &v])).collect()
}

/// The object that COPY reads, and its rows.
pub(crate) fn object() -> String {
    (0..20).map(|k| format!("{k},l{k}\n")).collect()
}

/// What a first start is asked for.
pub(crate) fn first_steps() -> Vec<Step> {
    vec![
        single("CREATE TABLE t (k int, v varchar(20))", |m| m.create("t", vec![])),
        single("INSERT INTO t VALUES (1, 'x')", |m| m.insert("t", vec![row([&1, &"x"])])),
    ]
}

/// The scenario; `keys` are those of the object store.
pub(crate) fn steps(keys: &str) -> Vec<Step> {
    let mut steps = writes(keys);
    steps.extend(blocks());
    steps.extend(definitions());
    steps
}

fn writes(keys: &str) -> Vec<Step> {
    let many: Vec<String> = (100..150).map(|k| format!("({k}, 'm{k}')")).collect();
    let merge = "MERGE INTO t USING side ON t.k = side.k WHEN MATCHED THEN UPDATE SET v = 'merged' \
                 WHEN NOT MATCHED THEN INSERT VALUES (side.k, 'new')";
    vec![
        single("CREATE TABLE t (k int, v varchar(20)) DISTKEY(k) SORTKEY(k)", |m| {
            m.create("t", vec![])
        }),
        single(&format!("COPY t FROM 's3://load/t.csv' {keys} CSV"), |m| {
            m.insert("t", (0..20).map(|k| row([&k, &format!("l{k}")])).collect())
        }),
        single("INSERT INTO t VALUES (50, 'one')", |m| m.insert("t", vec![row([&50, &"one"])])),
        single(&format!("INSERT INTO t VALUES {}", many.join(",")), |m| {
            m.insert("t", (100..150).map(|k| row([&k, &format!("m{k}")])).collect())
        }),
        single("UPDATE t SET v = 'updated' WHERE k % 5 = 0", |m| {
            let rows = m.rows("t")?.iter_mut().filter(|row| number(row) % 5 == 0);
            rows.for_each(|row| row[1] = "updated".to_owned());
            Ok(())
        }),
        single("DELETE FROM t WHERE k % 7 = 3", |m| {
            m.rows("t")?.retain(|row| number(row) % 7 != 3);
            Ok(())
        }),
        single(merge, merged),
    ]
}

fn merged(model: &mut Model) -> Result<(), MustFail> {
    let side: Vec<i64> = model.rows("side")?.iter().map(number).collect();
    let rows = model.rows("t")?;
    for key in side {
        let mut is_there = false;
        for row in rows.iter_mut().filter(|row| number(row) == key) {
            row[1] = "merged".to_owned();
            is_there = true;
        }
        if !is_there {
            rows.push(row([&key, &"new"]));
        }
    }
    Ok(())
}

/// Transactions over two tables: one with a savepoint that is gone back to, one that is given up.
fn blocks() -> Vec<Step> {
    let kept = [
        "BEGIN",
        "INSERT INTO base VALUES (6, 'f')",
        "INSERT INTO side VALUES (60, 600)",
        "SAVEPOINT s",
        "DELETE FROM base WHERE k < 3",
        "INSERT INTO side VALUES (61, 610)",
        "ROLLBACK TO SAVEPOINT s",
        "UPDATE side SET n = n + 1 WHERE k < 20",
        "COMMIT",
    ];
    let given_up = [
        "BEGIN",
        "DELETE FROM base",
        "INSERT INTO side VALUES (70, 700)",
        "CREATE TABLE c (k int)",
        "ROLLBACK",
    ];
    let effect: Effect = |m| {
        m.insert("base", vec![row([&6, &"f"])])?;
        m.insert("side", vec![row([&60, &600])])?;
        let rows = m.rows("side")?.iter_mut().filter(|row| number(row) < 20);
        rows.for_each(|row| row[1] = (row[1].parse::<i64>().unwrap() + 1).to_string());
        Ok(())
    };
    vec![Step::Block(kept.to_vec(), effect), Step::Block(given_up.to_vec(), |_| Ok(()))]
}

fn definitions() -> Vec<Step> {
    vec![
        single("CREATE TABLE c AS SELECT v, count(*) AS n FROM t GROUP BY v", |m| {
            let mut counts = std::collections::BTreeMap::new();
            m.rows("t")?.iter().for_each(|row| *counts.entry(row[1].clone()).or_insert(0) += 1);
            m.create("c", counts.iter().map(|(v, n)| row([v, n])).collect())
        }),
        single("ALTER TABLE t ADD COLUMN extra int", |m| {
            m.rows("t")?.iter_mut().for_each(|row| row.push("NULL".to_owned()));
            m.made.insert("extra");
            Ok(())
        }),
        single("UPDATE t SET extra = k WHERE k < 9", |m| {
            if !m.made.contains("extra") {
                return Err(MustFail);
            }
            for row in m.rows("t")?.iter_mut().filter(|row| number(row) < 9) {
                row[2] = row[0].clone();
            }
            Ok(())
        }),
        single("ALTER TABLE base ALTER DISTSTYLE EVEN", |_| Ok(())),
        single("ALTER TABLE t ALTER SORTKEY (v)", |m| m.rows("t").map(|_| ())),
        single("VACUUM t", |m| m.rows("t").map(|_| ())),
        single("VACUUM", |_| Ok(())),
        single("ANALYZE", |_| Ok(())),
        single("TRUNCATE side", |m| {
            m.rows("side")?.clear();
            Ok(())
        }),
        single("DROP TABLE c", |m| m.tables.remove("c").map(|_| ()).ok_or(MustFail)),
        single("INSERT INTO side SELECT k, k FROM t WHERE k < 12", |m| {
            let keys: Vec<i64> = m.rows("t")?.iter().map(number).filter(|k| *k < 12).collect();
            m.insert("side", keys.iter().map(|k| row([k, k])).collect())
        }),
        single("CREATE USER other PASSWORD 'Correct8Horse'", |m| {
            m.made.insert("user");
            Ok(())
        }),
        single("DROP USER other", |m| if m.made.remove("user") { Ok(()) } else { Err(MustFail) }),
    ]
}

/// What must be possible again when no call fails any more.
pub(crate) fn afterwards() -> Vec<Step> {
    vec![
        single("INSERT INTO base VALUES (900, 'after')", |m| {
            m.insert("base", vec![row([&900, &"after"])])
        }),
        single("DELETE FROM base WHERE k = 900", |m| {
            m.rows("base")?.retain(|row| number(row) != 900);
            Ok(())
        }),
    ]
}

/// The same where there are no tables yet.
pub(crate) fn afterwards_first() -> Vec<Step> {
    vec![single("CREATE TABLE base (k int)", |m| m.create("base", vec![]))]
}

fn single(sql: &str, effect: Effect) -> Step {
    Step::Single(sql.to_owned(), effect)
}
