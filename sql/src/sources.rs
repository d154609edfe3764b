//! Which tables a statement names, before it is bound.

use std::ops::ControlFlow;

use crate::ast::{self, visit_relations};
use crate::statement::{Assignment, Delete, Insert, InsertSource, InsertValue, TableName, Update};

impl Insert {
    /// Whether what it inserts may depend on rows of its own table: it names one that is called so,
    /// in whichever schema.
    pub fn may_read_target(&self) -> bool {
        match &self.source {
            InsertSource::Defaults => false,
            InsertSource::Query(query) => names(query.as_ref(), &self.table),
            InsertSource::Values(rows) => rows.iter().flatten().any(|value| match value {
                InsertValue::Default => false,
                InsertValue::Expression(expression) => names(expression.as_ref(), &self.table),
            }),
        }
    }
}

impl Delete {
    /// Whether which rows go may depend on other rows of its own table; as
    /// [`Insert::may_read_target`].
    pub fn may_read_target(&self) -> bool {
        names(&self.with, &self.table)
            || names(&self.using, &self.table)
            || names(&self.selection, &self.table)
    }
}

impl Update {
    /// Whether what it changes may depend on other rows of its own table; as
    /// [`Insert::may_read_target`].
    pub fn may_read_target(&self) -> bool {
        let in_value = |assignment: &Assignment| match &assignment.value {
            InsertValue::Default => false,
            InsertValue::Expression(value) => names(value.as_ref(), &self.table),
        };
        names(&self.with, &self.table)
            || names(&self.from, &self.table)
            || names(&self.selection, &self.table)
            || self.assignments.iter().any(in_value)
    }
}

fn names(node: &impl ast::Visit, table: &TableName) -> bool {
    let found = visit_relations(node, |relation| {
        let last = relation.0.last().and_then(|part| part.as_ident());
        let is_same = last.is_none_or(|last| last.value.eq_ignore_ascii_case(&table.name));
        if is_same { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

#[cfg(test)]
mod tests {
    use crate::statement::Statement;
    use crate::{Limits, parse};

    #[test]
    fn an_insert_that_names_its_own_table_may_read_it() {
        for (text, expected) in [
            ("insert into t values (1), (default)", false),
            ("insert into t default values", false),
            ("insert into t select a from s.u join v on true", false),
            ("insert into t select a from u where a in (select a from T)", true),
            ("insert into t select max(a) + 1 from s.\"t\"", true),
            ("insert into t values ((select max(a) from t))", true),
            ("insert into t with t as (select 1) select * from t", true),
        ] {
            let mut parsed = parse(text, &Limits::default()).unwrap();
            let Statement::Insert(insert) = parsed.pop().unwrap().statement else {
                panic!("{text}")
            };
            assert_eq!(insert.may_read_target(), expected, "{text}");
        }
    }
}
