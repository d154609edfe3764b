//! Finds what no isolation level, or a weak one only, would allow in a history of transactions that
//! append to lists and read them, after Adya's theory and Kingsbury's Elle.
//!
//! A value is appended to a key once, so that a list tells who wrote what, and in which order. From
//! that follow the edges of a graph of transactions:
//!
//! ```text
//!   ww   both appended to a key, one right after the other
//!   wr   one read a list whose last value the other had appended
//!   rw   one read a list to which the other appended next
//!   time one had ended before the other began
//! ```
//!
//! A cycle means that there is no order in which they could have run alone. A snapshot allows those
//! that have two rw edges in a row somewhere, and no others (Cerone and Gotsman).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::graph::{Cycle, Graph, Kind};

/// What lists are appended to.
pub(crate) type Key = u32;
/// What is appended.
pub(crate) type Value = u32;

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Append(Key, Value),
    Read(Key, Vec<Value>),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    Committed,
    RolledBack,
    /// Nobody was told.
    Unknown,
}

/// A transaction as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) steps: Vec<Step>,
    pub(crate) outcome: Outcome,
    /// Instants of one clock: before its first statement, and after its end was told.
    pub(crate) time: (u64, u64),
}

/// What is wrong with a history, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Anomaly {
    /// A value that nobody appended, or one that is there twice.
    Garbage,
    /// A transaction does not see what it did itself, or not the same twice.
    Internal,
    /// Two reads of a key of which neither continues the other.
    Order,
    /// What was committed is not there at the end.
    Lost,
    /// Read of what was rolled back.
    G1a,
    /// Read of what was appended to once more before its commit.
    G1b,
    /// A cycle of ww edges.
    G0,
    /// A cycle of ww and wr edges.
    G1c,
    /// A cycle with one rw edge: a lost update, or a read of two states.
    GSingle,
    /// A cycle with several rw edges, none right after another.
    GNonadjacent,
    /// The same with edges of time: somebody saw what was out of date when it began.
    Stale,
    /// Any cycle: write skew.
    G2,
    /// Any cycle with edges of time.
    NotStrict,
}

impl Anomaly {
    /// Whether transactions of snapshots may show it.
    pub(crate) fn is_allowed_to_snapshots(self) -> bool {
        matches!(self, Anomaly::G2 | Anomaly::NotStrict)
    }
}

/// An anomaly, and where.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) anomaly: Anomaly,
    pub(crate) text: String,
}

/// All that is wrong with a history. `end` is what the lists are when all transactions have ended.
pub(crate) fn check(history: &[Transaction], end: &BTreeMap<Key, Vec<Value>>) -> Vec<Found> {
    let mut checker = Checker::new(history, end);
    checker.check_end();
    for (number, transaction) in history.iter().enumerate() {
        if checker.has_committed(number) {
            checker.check_reads(number, transaction);
        }
    }
    // Without an order there are no edges.
    if checker.found.iter().all(|found| found.anomaly > Anomaly::Order) {
        checker.check_cycles();
    }
    checker.found.sort_by_key(|found| found.anomaly);
    checker.found
}

struct Checker<'a> {
    history: &'a [Transaction],
    end: &'a BTreeMap<Key, Vec<Value>>,
    /// Who appended a value.
    writers: HashMap<(Key, Value), usize>,
    /// Transactions of which nobody was told, and whose values are there.
    seen: HashSet<usize>,
    /// What each committed transaction read of others, by key.
    reads: Vec<(usize, Key, Vec<Value>)>,
    found: Vec<Found>,
}

impl<'a> Checker<'a> {
    fn new(history: &'a [Transaction], end: &'a BTreeMap<Key, Vec<Value>>) -> Self {
        let mut writers = HashMap::new();
        for (number, transaction) in history.iter().enumerate() {
            for step in &transaction.steps {
                if let Step::Append(key, value) = step {
                    let before = writers.insert((*key, *value), number);
                    assert_eq!(before, None, "a value is appended to a key once");
                }
            }
        }
        let values = end.iter().flat_map(|(key, list)| list.iter().map(|value| (*key, *value)));
        let seen = values.filter_map(|value| writers.get(&value).copied()).collect();
        Self { history, end, writers, seen, reads: Vec::new(), found: Vec::new() }
    }

    fn report(&mut self, anomaly: Anomaly, text: String) {
        self.found.push(Found { anomaly, text });
    }

    fn has_committed(&self, number: usize) -> bool {
        match self.history[number].outcome {
            Outcome::Committed => true,
            Outcome::RolledBack => false,
            Outcome::Unknown => self.seen.contains(&number),
        }
    }

    /// What is there at the end was committed, and what was committed is there, whole.
    fn check_end(&mut self) {
        for (key, list) in self.end {
            self.check_list(*key, list, "the end");
        }
        for (number, transaction) in self.history.iter().enumerate() {
            if !self.has_committed(number) {
                continue;
            }
            for step in &transaction.steps {
                let Step::Append(key, value) = step else { continue };
                if !self.end.get(key).is_some_and(|list| list.contains(value)) {
                    let text = format!("{value} of key {key}, by {number}: {transaction:?}");
                    self.report(Anomaly::Lost, text);
                }
            }
        }
    }

    fn check_list(&mut self, key: Key, list: &[Value], reader: &str) {
        let mut known = HashSet::new();
        for value in list {
            if !known.insert(*value) {
                self.report(Anomaly::Garbage, format!("{value} of key {key} twice: {reader}"));
            }
            match self.writers.get(&(key, *value)).copied() {
                None => self.report(Anomaly::Garbage, format!("{value} of key {key}: {reader}")),
                Some(writer) if self.history[writer].outcome == Outcome::RolledBack => {
                    let text = format!("{value} of key {key}, by {writer}: {reader}");
                    self.report(Anomaly::G1a, text);
                }
                Some(_) => {}
            }
        }
    }

    /// Compares what a transaction read with what it did itself, and keeps what it read of others.
    fn check_reads(&mut self, number: usize, transaction: &Transaction) {
        let name = format!("{number}: {transaction:?}");
        let mut own: HashMap<Key, Vec<Value>> = HashMap::new();
        let mut known: HashMap<Key, Vec<Value>> = HashMap::new();
        for step in &transaction.steps {
            match step {
                Step::Append(key, value) => own.entry(*key).or_default().push(*value),
                Step::Read(key, list) => {
                    let own = own.get(key).map_or(&[][..], Vec::as_slice);
                    let Some(others) = list.strip_suffix(own) else {
                        self.report(Anomaly::Internal, format!("key {key}: {name}"));
                        continue;
                    };
                    let before = known.entry(*key).or_insert_with(|| others.to_vec());
                    if before != others {
                        self.report(Anomaly::Internal, format!("key {key}: {name}"));
                    }
                }
            }
        }
        for (key, others) in known {
            self.check_list(key, &others, &name);
            self.check_order(key, &others, &name);
            self.check_last(number, key, &others, &name);
            self.reads.push((number, key, others));
        }
    }

    fn check_order(&mut self, key: Key, list: &[Value], reader: &str) {
        let whole = self.end.get(&key).map_or(&[][..], Vec::as_slice);
        if !whole.starts_with(list) {
            let text = format!("key {key}, {list:?} is no beginning of {whole:?}: {reader}");
            self.report(Anomaly::Order, text);
        }
    }

    /// The last value that is read is the last that its writer appended.
    fn check_last(&mut self, number: usize, key: Key, list: &[Value], reader: &str) {
        let Some(last) = list.last() else { return };
        let Some(writer) = self.writers.get(&(key, *last)).copied() else { return };
        let mut appended = self.history[writer].steps.iter().filter_map(|step| match step {
            Step::Append(to, value) if *to == key => Some(value),
            Step::Append(..) | Step::Read(..) => None,
        });
        if writer != number && appended.next_back() != Some(last) {
            let text = format!("{last} of key {key}, by {writer}: {reader}");
            self.report(Anomaly::G1b, text);
        }
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new(self.history.len());
        let writer = |key: Key, value: Value| self.writers.get(&(key, value)).copied();
        for (key, list) in self.end {
            for pair in list.windows(2) {
                if let (Some(from), Some(to)) = (writer(*key, pair[0]), writer(*key, pair[1])) {
                    graph.add(from, to, Kind::Ww);
                }
            }
        }
        for (reader, key, list) in &self.reads {
            let whole = &self.end[key];
            if let Some(from) = list.last().and_then(|last| writer(*key, *last)) {
                graph.add(from, *reader, Kind::Wr);
            }
            // Its own values come next if it appended some; then what matters is that ww follows.
            if let Some(to) = whole.get(list.len()).and_then(|next| writer(*key, *next)) {
                graph.add(*reader, to, Kind::Rw);
            }
        }
        self.add_time(&mut graph);
        graph
    }

    /// Edges of time, but those that follow from others.
    fn add_time(&self, graph: &mut Graph) {
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (number, transaction) in self.history.iter().enumerate() {
            if !self.has_committed(number) {
                continue;
            }
            events.push((transaction.time.0, true, number));
            // One of which nobody was told may have ended at any time later.
            if transaction.outcome == Outcome::Committed {
                events.push((transaction.time.1, false, number));
            }
        }
        events.sort_unstable();
        let mut ended: Vec<usize> = Vec::new();
        let mut before: HashMap<usize, Vec<usize>> = HashMap::new();
        for (_, begins, number) in events {
            if begins {
                ended.iter().for_each(|earlier| graph.add(*earlier, number, Kind::Time));
                before.insert(number, ended.clone());
            } else {
                let implied = before.remove(&number).unwrap_or_default();
                ended.retain(|earlier| !implied.contains(earlier));
                ended.push(number);
            }
        }
    }

    fn check_cycles(&mut self) {
        use Kind::{Rw, Time, Wr, Ww};
        let graph = self.graph();
        let single = |cycle: &Cycle| cycle.iter().filter(|(_, kind)| *kind == Rw).count() == 1;
        let looked_for: [(&[Kind], bool, Anomaly); 6] = [
            (&[Ww], true, Anomaly::G0),
            (&[Ww, Wr], true, Anomaly::G1c),
            (&[Ww, Wr, Rw], false, Anomaly::GNonadjacent),
            (&[Ww, Wr, Rw, Time], false, Anomaly::Stale),
            (&[Ww, Wr, Rw], true, Anomaly::G2),
            (&[Ww, Wr, Rw, Time], true, Anomaly::NotStrict),
        ];
        for (kinds, adjacent, anomaly) in looked_for {
            let cycle = match adjacent {
                true => graph.cycle(kinds),
                false => graph.cycle_without_adjacent(kinds, Rw),
            };
            let Some(cycle) = cycle else { continue };
            let is_single = anomaly == Anomaly::GNonadjacent && single(&cycle);
            let anomaly = if is_single { Anomaly::GSingle } else { anomaly };
            let step = |(number, kind): &(usize, Kind)| {
                format!("{number} {:?} -{kind:?}->", self.history[*number])
            };
            let text = cycle.iter().map(step).collect::<Vec<_>>().join("\n  ");
            self.report(anomaly, text);
            // Others would be the same, seen with weaker eyes.
            if !anomaly.is_allowed_to_snapshots() {
                return;
            }
        }
    }
}
