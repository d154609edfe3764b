//! The tree that EXPLAIN prints, and how it is written.
//!
//! ```text
//! XN Merge  (cost=1.20..1.21 rows=5 width=27)
//!   Merge Key: sum(sales.pricepaid)
//!   ->  XN Network  (cost=1.20..1.20 rows=5 width=27)
//!         Send to leader
//! ```

use super::actual::Actual;
use super::estimate::{Cost, Estimate};
use super::expression::{Text, conjunction};

/// Rows, costs and widths above it are written as this: nothing real is so large.
const FIGURE_MAX: f64 = 1e15;

/// What other operators need to know of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads a table.
    Scan,
    /// Groups rows, or makes one row of all.
    Aggregate {
        /// Of one slice only: another puts these together.
        is_partial: bool,
    },
    /// Joins two inputs.
    Join,
    /// Stops after some rows.
    Limit,
    /// Anything else.
    Other,
}

/// An operator as EXPLAIN shows it, with what stands below it.
#[derive(Debug)]
pub(super) struct Step {
    /// Without the prefix that says where it runs.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Lines below the first, but for conditions on the output.
    pub(super) details: Vec<String>,
    /// Conditions on the output.
    pub(super) filters: Vec<String>,
    pub(super) cost: Cost,
    pub(super) estimate: Estimate,
    /// What the columns of the output are made of.
    pub(super) columns: Vec<Text>,
    /// What happened when it ran.
    pub(super) actual: Option<Actual>,
    pub(super) inputs: Vec<Step>,
}

impl Step {
    /// An operator on top of another that gives the same columns.
    pub(super) fn over(name: &str, input: Step) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Other,
            details: Vec::new(),
            filters: Vec::new(),
            cost: input.cost,
            estimate: input.estimate.clone(),
            columns: input.columns.clone(),
            actual: None,
            inputs: vec![input],
        }
    }

    /// Notes what was moved from here.
    pub(super) fn note_moved(&mut self, moved: Option<Actual>) {
        if let Some(moved) = moved {
            self.actual.get_or_insert_default().note_moved(&moved);
        }
    }

    /// The lines of the tree. `prefix` goes before the name of each operator.
    pub(super) fn lines(&self, prefix: &str) -> Vec<String> {
        let mut lines = Vec::new();
        self.write(prefix, 0, &mut lines);
        lines
    }

    fn write(&self, prefix: &str, depth: usize, lines: &mut Vec<String>) {
        let (indent, arrow) = match depth {
            0 => (0, ""),
            _ => (depth * INDENT - INDENT_DETAIL * 2, "->  "),
        };
        lines.push(format!("{:indent$}{arrow}{prefix}{}  {}", "", self.name, self.figures()));
        let indent = depth * INDENT + INDENT_DETAIL;
        for detail in &self.details {
            lines.push(format!("{:indent$}{detail}", ""));
        }
        if !self.filters.is_empty() {
            lines.push(format!("{:indent$}Filter: {}", "", conjunction(&self.filters)));
        }
        for line in self.actual.iter().flat_map(Actual::lines) {
            lines.push(format!("{:indent$}{line}", ""));
        }
        for input in &self.inputs {
            input.write(prefix, depth + 1, lines);
        }
    }

    fn figures(&self) -> String {
        let Cost { startup, total } = self.cost;
        let rows = self.estimate.rows.round().clamp(0.0, FIGURE_MAX);
        let width = self.estimate.width().round().clamp(0.0, FIGURE_MAX);
        let (startup, total) = (startup.min(FIGURE_MAX), total.min(FIGURE_MAX));
        format!("(cost={startup:.2}..{total:.2} rows={rows:.0} width={width:.0})")
    }
}

/// How much further right each level of the tree stands.
const INDENT: usize = 6;
/// How much further right details stand than their operator.
const INDENT_DETAIL: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, details: &[&str], inputs: Vec<Step>) -> Step {
        Step {
            name: name.to_owned(),
            kind: Kind::Other,
            details: details.iter().map(|detail| (*detail).to_owned()).collect(),
            filters: Vec::new(),
            cost: Cost { startup: 0.0, total: 87.98 },
            estimate: Estimate { rows: 8798.0, columns: Vec::new() },
            columns: Vec::new(),
            actual: None,
            inputs,
        }
    }

    /// The shape is that of the examples in the documentation of Redshift.
    #[test]
    fn lines_stand_where_redshift_puts_them() {
        let scan = step("Seq Scan on event", &[], vec![]);
        let hash = step("Hash", &[], vec![scan]);
        let mut sales = step("Seq Scan on sales", &[], vec![]);
        sales.filters = vec!["(a = 1)".to_owned(), "(b = 2)".to_owned()];
        let condition = "Hash Cond: (\"outer\".eventid = \"inner\".eventid)";
        let join = step("Hash Join DS_BCAST_INNER", &[condition], vec![sales, hash]);
        let lines = step("Network", &["Send to leader"], vec![join]).lines("XN ");
        let figures = "(cost=0.00..87.98 rows=8798 width=0)";
        let expected = [
            format!("XN Network  {figures}"),
            "  Send to leader".to_owned(),
            format!("  ->  XN Hash Join DS_BCAST_INNER  {figures}"),
            format!("        {condition}"),
            format!("        ->  XN Seq Scan on sales  {figures}"),
            "              Filter: ((a = 1) AND (b = 2))".to_owned(),
            format!("        ->  XN Hash  {figures}"),
            format!("              ->  XN Seq Scan on event  {figures}"),
        ];
        assert_eq!(lines, expected);
    }
}
