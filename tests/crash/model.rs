//! What the tables of one worker hold, and random work on them: statements, and what they make of
//! that. A worker's rows are changed by nobody else, so that its model is exact; the table `shared`
//! holds rows of all workers, so that their changes meet in the same segments.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// Tables of its own that a worker has at most.
const TABLES_MAX: usize = 4;
/// Rows of a table after which it is only made smaller.
const ROWS_MAX: usize = 1500;

/// A row but for its key `n`: `v`, and the number in `s`.
type Values = (i64, u32);

/// A table as the model has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    pub(crate) rows: BTreeMap<i64, Values>,
    /// Columns that were added, which hold their default in every row: 0, 1, ...
    pub(crate) added: usize,
}

impl Table {
    fn next_key(&self) -> i64 {
        self.rows.keys().next_back().map_or(0, |last| last + 1)
    }
}

/// All that a worker knows of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    /// By name; also its part of `shared`, as [`SHARED`].
    pub(crate) tables: BTreeMap<String, Table>,
    /// What its row of `progress` says.
    pub(crate) step: i64,
}

/// The table of all workers' rows.
pub(crate) const SHARED: &str = "shared";

/// Objects that COPY reads, each with rows of keys from 0 on.
pub(crate) const OBJECT_ROWS: i64 = 300;

/// Statements that belong together, and the model when all of them are done.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// The last one decides.
    pub(crate) statements: Vec<String>,
    pub(crate) after: Model,
}

/// Makes work for one worker.
pub(crate) struct Maker<'a> {
    pub(crate) worker: usize,
    pub(crate) random: &'a mut StdRng,
    /// How COPY logs in.
    pub(crate) keys: &'a str,
    /// No table that was made in this run has the name again.
    pub(crate) next_name: &'a mut u32,
}

impl Maker<'_> {
    /// Something to do.
    pub(crate) fn work(&mut self, model: &Model) -> Work {
        let mut after = model.clone();
        let own = after.tables.len() - 1;
        let pick = self.random.random_range(0..100);
        let statements = match pick {
            _ if own == 0 => vec![self.create(&mut after)],
            0..45 => vec![self.change(&mut after)],
            45..70 => self.transaction(model, &mut after),
            70..76 if own < TABLES_MAX => vec![self.create(&mut after)],
            76..80 if own < TABLES_MAX => vec![self.create_from(&mut after)],
            80..86 => vec![self.arrange(&after)],
            86..92 => vec![self.alter(&mut after)],
            92..95 => vec![self.append(&mut after)],
            _ => vec![self.drop(&mut after)],
        };
        Work { statements, after }
    }

    /// Several changes that belong together, with the worker's row of `progress`.
    fn transaction(&mut self, before: &Model, after: &mut Model) -> Vec<String> {
        let mut statements = vec!["BEGIN".to_owned()];
        for _ in 0..self.random.random_range(1..4) {
            if self.random.random_range(0..4) == 0 {
                // It is undone again.
                statements.push("SAVEPOINT here".to_owned());
                statements.push(self.change(&mut after.clone()));
                statements.push("ROLLBACK TO here".to_owned());
            }
            statements.push(match self.random.random_range(0..8) {
                0 if after.tables.len() <= TABLES_MAX => self.create_from(after),
                _ => self.change(after),
            });
        }
        after.step += 1;
        let (step, worker) = (after.step, self.worker);
        statements.push(format!("UPDATE progress SET step = {step} WHERE w = {worker}"));
        if self.random.random_range(0..6) == 0 {
            statements.push("ROLLBACK".to_owned());
            *after = before.clone();
        } else {
            statements.push("COMMIT".to_owned());
        }
        statements
    }

    /// Any table of the worker, its part of the shared one included.
    fn any(&mut self, model: &Model) -> String {
        let names: Vec<&String> = model.tables.keys().collect();
        names[self.random.random_range(0..names.len())].clone()
    }

    /// A table that is the worker's alone.
    fn own(&mut self, model: &Model) -> String {
        let names: Vec<&String> = model.tables.keys().filter(|name| *name != SHARED).collect();
        names[self.random.random_range(0..names.len())].clone()
    }

    fn new_name(&mut self) -> String {
        *self.next_name += 1;
        format!("w{}_{}", self.worker, self.next_name)
    }

    /// Rows come, change or go.
    fn change(&mut self, model: &mut Model) -> String {
        let name = self.any(model);
        let is_full = model.tables[&name].rows.len() > ROWS_MAX;
        match self.random.random_range(0..10) {
            _ if is_full => self.delete(model, &name),
            0..3 => self.insert(model, &name),
            3 => self.insert_select(model, &name),
            4 => self.copy(model, &name),
            5 | 6 => self.update(model, &name),
            7 => self.merge(model),
            _ => self.delete(model, &name),
        }
    }

    fn insert(&mut self, model: &mut Model, name: &str) -> String {
        let worker = self.worker;
        let table = model.tables.get_mut(name).unwrap();
        let count = if self.random.random() { 1 } else { self.random.random_range(2..200) };
        let mut values = Vec::new();
        for _ in 0..count {
            let (n, v) = (table.next_key(), self.random.random_range(0..1_000_000));
            let s = self.random.random_range(0..50);
            table.rows.insert(n, (v, s));
            values.push(match name {
                SHARED => format!("({worker}, {n}, {v}, 's{s}')"),
                _ => format!("({n}, {v}, 's{s}')"),
            });
        }
        format!("INSERT INTO {name} ({}) VALUES {}", columns(name), values.join(", "))
    }

    fn insert_select(&mut self, model: &mut Model, name: &str) -> String {
        let source = self.any(model);
        let (modulus, rest) = self.part();
        let taken: Vec<(i64, Values)> = model.tables[&source]
            .rows
            .iter()
            .filter(|(n, _)| *n % modulus == rest)
            .map(|(n, values)| (*n, *values))
            .collect();
        let table = model.tables.get_mut(name).unwrap();
        let shift = table.next_key();
        table.rows.extend(taken.into_iter().map(|(n, values)| (n + shift, values)));
        let own = self.of(&source);
        let first = if name == SHARED { format!("{}, ", self.worker) } else { String::new() };
        format!(
            "INSERT INTO {name} ({}) SELECT {first}n + {shift}, v, s FROM {source} \
             WHERE n % {modulus} = {rest}{own}",
            columns(name)
        )
    }

    fn copy(&mut self, model: &mut Model, name: &str) -> String {
        if name == SHARED || !model.tables[name].rows.is_empty() {
            return self.insert(model, name);
        }
        let table = model.tables.get_mut(name).unwrap();
        table.rows.extend((0..OBJECT_ROWS).map(object_row));
        format!("COPY {name} ({}) FROM 's3://load/rows/' {}", columns(name), self.keys)
    }

    fn update(&mut self, model: &mut Model, name: &str) -> String {
        let (modulus, rest) = self.part();
        let plus = self.random.random_range(1..100);
        let table = model.tables.get_mut(name).unwrap();
        for (n, (v, _)) in &mut table.rows {
            if n % modulus == rest {
                *v += plus;
            }
        }
        let own = self.of(name);
        format!("UPDATE {name} SET v = v + {plus} WHERE n % {modulus} = {rest}{own}")
    }

    fn delete(&mut self, model: &mut Model, name: &str) -> String {
        let (modulus, rest) = self.part();
        model.tables.get_mut(name).unwrap().rows.retain(|n, _| n % modulus != rest);
        let own = self.of(name);
        format!("DELETE FROM {name} WHERE n % {modulus} = {rest}{own}")
    }

    fn merge(&mut self, model: &mut Model) -> String {
        let (target, source) = (self.own(model), self.own(model));
        if target == source {
            return self.update(model, &target);
        }
        let from = model.tables[&source].rows.clone();
        let table = model.tables.get_mut(&target).unwrap();
        for (n, (v, s)) in from {
            table.rows.entry(n).and_modify(|values| values.0 = v).or_insert((v, s));
        }
        format!(
            "MERGE INTO {target} USING {source} ON {target}.n = {source}.n \
             WHEN MATCHED THEN UPDATE SET v = {source}.v \
             WHEN NOT MATCHED THEN INSERT (n, v, s) VALUES ({source}.n, {source}.v, {source}.s)"
        )
    }

    fn create(&mut self, model: &mut Model) -> String {
        let name = self.new_name();
        model.tables.insert(name.clone(), Table::default());
        let style = ["DISTSTYLE EVEN", "DISTKEY(n)", "DISTSTYLE ALL", "DISTSTYLE AUTO"];
        let style = style[self.random.random_range(0..style.len())];
        let sort = ["", " SORTKEY(n)", " SORTKEY(v, n)"];
        let sort = sort[self.random.random_range(0..sort.len())];
        format!("CREATE TABLE {name} (n bigint, v bigint, s varchar(20)) {style}{sort}")
    }

    fn create_from(&mut self, model: &mut Model) -> String {
        let (source, name) = (self.any(model), self.new_name());
        let (modulus, rest) = self.part();
        let mut rows = model.tables[&source].rows.clone();
        rows.retain(|n, _| n % modulus == rest);
        model.tables.insert(name.clone(), Table { rows, added: 0 });
        let own = self.of(&source);
        format!(
            "CREATE TABLE {name} AS SELECT n, v, s FROM {source} WHERE n % {modulus} = {rest}{own}"
        )
    }

    /// Rows that move and stay what they are.
    fn arrange(&mut self, model: &Model) -> String {
        let name = self.any(model);
        match self.random.random_range(0..5) {
            0 => format!("VACUUM FULL {name} TO 100 PERCENT"),
            1 => format!("VACUUM DELETE ONLY {name}"),
            2 => format!("ANALYZE {name}"),
            3 if name != SHARED => format!("ALTER TABLE {name} ALTER SORTKEY (v)"),
            _ if name != SHARED => {
                let styles = ["DISTSTYLE EVEN", "DISTSTYLE KEY DISTKEY n", "DISTSTYLE ALL"];
                let style = styles[self.random.random_range(0..styles.len())];
                format!("ALTER TABLE {name} ALTER {style}")
            }
            _ => format!("VACUUM {name}"),
        }
    }

    fn alter(&mut self, model: &mut Model) -> String {
        let name = self.own(model);
        if self.random.random() {
            let table = model.tables.get_mut(&name).unwrap();
            let number = table.added;
            table.added += 1;
            return format!("ALTER TABLE {name} ADD COLUMN c{number} bigint DEFAULT {number}");
        }
        let (to, table) = (self.new_name(), model.tables.remove(&name).unwrap());
        model.tables.insert(to.clone(), table);
        format!("ALTER TABLE {name} RENAME TO {to}")
    }

    fn append(&mut self, model: &mut Model) -> String {
        let (target, source) = (self.own(model), self.own(model));
        let keys = |name: &String| model.tables[name].rows.keys();
        let meet = keys(&target).any(|n| model.tables[&source].rows.contains_key(n));
        if target == source || meet || model.tables[&target].added != model.tables[&source].added {
            return self.truncate(model);
        }
        let rows = std::mem::take(&mut model.tables.get_mut(&source).unwrap().rows);
        model.tables.get_mut(&target).unwrap().rows.extend(rows);
        format!("ALTER TABLE {target} APPEND FROM {source}")
    }

    fn truncate(&mut self, model: &mut Model) -> String {
        let name = self.own(model);
        model.tables.get_mut(&name).unwrap().rows.clear();
        format!("TRUNCATE TABLE {name}")
    }

    fn drop(&mut self, model: &mut Model) -> String {
        let name = self.own(model);
        model.tables.remove(&name);
        format!("DROP TABLE {name}")
    }

    /// Some rows: those of a remainder.
    fn part(&mut self) -> (i64, i64) {
        let modulus = self.random.random_range(1..6);
        (modulus, self.random.random_range(0..modulus))
    }

    /// What keeps to the worker's rows.
    fn of(&self, name: &str) -> String {
        if name == SHARED { format!(" AND w = {}", self.worker) } else { String::new() }
    }
}

fn columns(name: &str) -> &'static str {
    if name == SHARED { "w, n, v, s" } else { "n, v, s" }
}

fn object_row(n: i64) -> (i64, Values) {
    (n, (n * 7 % 1000, u32::try_from(n % 50).unwrap()))
}

/// The lines of the objects that COPY reads, in two parts.
pub(crate) fn objects() -> [String; 2] {
    let line = |n| {
        let (n, (v, s)) = object_row(n);
        format!("{n}|{v}|s{s}\n")
    };
    [(0..OBJECT_ROWS / 2).map(line).collect(), (OBJECT_ROWS / 2..OBJECT_ROWS).map(line).collect()]
}
