//! Expressions of a physical plan as EXPLAIN writes them: in the notation of PostgreSQL, with the
//! names of columns in place of their positions.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr,
    Literal, NegativeExpr, NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use sql::{Notation, SqlType, notation};

type Expr = Arc<dyn PhysicalExpr>;

/// Where the text of an expression is cut off. Columns stand for the expressions that they come
/// from, so that texts could grow with each operator.
const TEXT_BYTES_MAX: usize = 600;

/// A column of an operator's output: what it is made of.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// As it is written above its operator.
    pub(super) whole: String,
    /// Its bare name, if it is a column of a table; for conditions of joins.
    pub(super) name: Option<String>,
}

impl Text {
    /// A column that is computed.
    pub(super) fn computed(whole: String) -> Self {
        Self { whole, name: None }
    }

    /// The column as `"outer".name` or `"inner".name`; an expression as it is.
    pub(super) fn of_side(&self, side: &str) -> String {
        match &self.name {
            Some(name) => format!("\"{side}\".{}", quoted(name)),
            None => self.whole.clone(),
        }
    }
}

/// An identifier, in quotes where SQL needs them.
pub(super) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && !starts_with_digit && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The text of an expression over these columns.
pub(super) fn text(expr: &Expr, columns: &[Text]) -> String {
    let columns: Vec<&str> = columns.iter().map(|column| column.whole.as_str()).collect();
    text_over(expr, &columns)
}

/// The text of an expression over columns that are written so.
pub(super) fn text_over(expr: &Expr, columns: &[&str]) -> String {
    let mut writer = Writer { columns, out: String::new(), is_cut: false };
    writer.expr(expr);
    writer.out
}

/// The output column that an expression makes.
pub(super) fn output(expr: &Expr, columns: &[Text]) -> Text {
    match expr.downcast_ref::<Column>().and_then(|column| columns.get(column.index())) {
        Some(column) => column.clone(),
        None => Text::computed(text(expr, columns)),
    }
}

/// The conjuncts as one condition: in parentheses, each of several too.
pub(super) fn conjunction(conditions: &[String]) -> String {
    match conditions {
        [one] => one.clone(),
        several => format!("({})", several.join(" AND ")),
    }
}

struct Writer<'c> {
    columns: &'c [&'c str],
    out: String,
    is_cut: bool,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) {
        if self.is_cut {
            return;
        }
        if self.out.len() + text.len() > TEXT_BYTES_MAX {
            self.out.push_str("...");
            self.is_cut = true;
            return;
        }
        self.out.push_str(text);
    }

    fn expr(&mut self, expr: &Expr) {
        if self.is_cut {
            return;
        }
        if let Some(column) = expr.downcast_ref::<Column>() {
            let text = self.columns.get(column.index()).copied();
            self.push(text.unwrap_or_else(|| column.name()));
        } else if let Some(literal) = expr.downcast_ref::<Literal>() {
            self.push(&constant(literal.value()));
        } else if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            self.binary(binary);
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            self.call(call);
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            self.cast(cast.expr(), &type_name(cast.cast_type()));
        } else if let Some(cast) = expr.downcast_ref::<TryCastExpr>() {
            self.cast(cast.expr(), &type_name(cast.cast_type()));
        } else if let Some(list) = expr.downcast_ref::<InListExpr>() {
            self.list(list);
        } else if let Some(like) = expr.downcast_ref::<LikeExpr>() {
            let operator = match (like.negated(), like.case_insensitive()) {
                (false, false) => "~~",
                (false, true) => "~~*",
                (true, false) => "!~~",
                (true, true) => "!~~*",
            };
            self.infix(like.expr(), operator, like.pattern());
        } else if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            self.around("(", is_null.arg(), " IS NULL)");
        } else if let Some(is_not_null) = expr.downcast_ref::<IsNotNullExpr>() {
            self.around("(", is_not_null.arg(), " IS NOT NULL)");
        } else if let Some(not) = expr.downcast_ref::<NotExpr>() {
            self.around("(NOT ", not.arg(), ")");
        } else if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            self.around("(- ", negative.arg(), ")");
        } else if let Some(case) = expr.downcast_ref::<CaseExpr>() {
            self.case(case);
        } else {
            self.push(&expr.to_string());
        }
    }

    fn around(&mut self, before: &str, inner: &Expr, after: &str) {
        self.push(before);
        self.expr(inner);
        self.push(after);
    }

    fn infix(&mut self, left: &Expr, operator: &str, right: &Expr) {
        self.push("(");
        self.expr(left);
        self.push(" ");
        self.push(operator);
        self.push(" ");
        self.expr(right);
        self.push(")");
    }

    /// A chain of one operator is written without inner parentheses.
    fn binary(&mut self, binary: &BinaryExpr) {
        let chained = matches!(binary.op(), Operator::And | Operator::Or);
        if !chained {
            let operator = match binary.op() {
                Operator::NotEq => "<>".to_owned(),
                other => other.to_string(),
            };
            return self.infix(binary.left(), &operator, binary.right());
        }
        let mut terms = Vec::new();
        flatten(binary, &mut terms);
        self.push("(");
        for (at, term) in terms.into_iter().enumerate() {
            if at > 0 {
                self.push(if *binary.op() == Operator::And { " AND " } else { " OR " });
            }
            self.expr(&term);
        }
        self.push(")");
    }

    fn cast(&mut self, value: &Expr, target: &str) {
        self.around("(", value, ")::");
        self.push(target);
    }

    fn call(&mut self, call: &ScalarFunctionExpr) {
        match (notation(call.name()), call.args()) {
            (Notation::Infix(symbol), [left, right]) => self.infix(left, symbol, right),
            (Notation::Prefix(symbol), [value]) => self.around(&format!("({symbol} "), value, ")"),
            (Notation::Argument, [value]) => self.expr(value),
            (Notation::Cast, [value, target, ..]) => {
                let target = target.downcast_ref::<Literal>().map(Literal::value);
                let target = match target {
                    Some(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name))) => name,
                    _ => "unknown",
                };
                self.cast(value, target);
            }
            (_, args) => {
                self.push(call.name());
                self.arguments(args);
            }
        }
    }

    fn arguments(&mut self, args: &[Expr]) {
        self.push("(");
        for (at, arg) in args.iter().enumerate() {
            if at > 0 {
                self.push(", ");
            }
            self.expr(arg);
        }
        self.push(")");
    }

    /// `x IN (a, b)` is a chain of comparisons, as in PostgreSQL before arrays.
    fn list(&mut self, list: &InListExpr) {
        let (operator, between) = if list.negated() { ("<>", " AND ") } else { ("=", " OR ") };
        let several = list.list().len() > 1;
        if several {
            self.push("(");
        }
        for (at, value) in list.list().iter().enumerate() {
            if at > 0 {
                self.push(between);
            }
            self.infix(list.expr(), operator, value);
        }
        if several {
            self.push(")");
        }
    }

    fn case(&mut self, case: &CaseExpr) {
        self.push("CASE");
        if let Some(expr) = case.expr() {
            self.around(" ", expr, "");
        }
        for (when, then) in case.when_then_expr() {
            self.around(" WHEN ", when, "");
            self.around(" THEN ", then, "");
        }
        if let Some(otherwise) = case.else_expr() {
            self.around(" ELSE ", otherwise, "");
        }
        self.push(" END");
    }
}

/// The terms of a chain of ANDs or ORs.
fn flatten(binary: &BinaryExpr, terms: &mut Vec<Expr>) {
    for side in [binary.left(), binary.right()] {
        match side.downcast_ref::<BinaryExpr>() {
            Some(inner) if inner.op() == binary.op() => flatten(inner, terms),
            _ => terms.push(Arc::clone(side)),
        }
    }
}

fn type_name(data_type: &DataType) -> String {
    match SqlType::from_arrow(data_type) {
        Some(SqlType::VarChar(_)) => "text".to_owned(),
        Some(SqlType::Timestamp) => "timestamp without time zone".to_owned(),
        Some(SqlType::TimestampTz) => "timestamp with time zone".to_owned(),
        Some(sql_type) => sql_type.to_string(),
        None => data_type.to_string().to_ascii_lowercase(),
    }
}

/// A constant: numbers and booleans bare, everything else with its type.
fn constant(value: &ScalarValue) -> String {
    match value {
        value if value.is_null() => "NULL".to_owned(),
        ScalarValue::Boolean(Some(value)) => value.to_string(),
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => format!("'{}'::text", text.replace('\'', "''")),
        ScalarValue::Decimal128(..)
        | ScalarValue::Decimal256(..)
        | ScalarValue::Float32(_)
        | ScalarValue::Float64(_) => text_of(value),
        value if value.data_type().is_integer() => value.to_string(),
        value => format!("'{}'::{}", text_of(value), type_name(&value.data_type())),
    }
}

/// The value as text, as Arrow writes it.
fn text_of(value: &ScalarValue) -> String {
    let array = value.to_array().ok();
    let text = array.and_then(|array| array_value_to_string(&array, 0).ok());
    text.unwrap_or_else(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::physical_expr::expressions::{binary, in_list, is_null, lit};

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Date32, true),
            Field::new("c", DataType::Utf8View, true),
        ])
    }

    fn column(index: usize) -> Expr {
        Arc::new(Column::new(schema().field(index).name(), index))
    }

    fn check(expr: &Expr, expected: &str) {
        let names = ["t.a", "t.b", "t.\"C d\""];
        assert_eq!(text_over(expr, &names), expected);
    }

    #[test]
    fn operators_have_parentheses_and_chains_have_one_pair() {
        let schema = schema();
        let greater = |value: i64| binary(column(0), Operator::Gt, lit(value), &schema).unwrap();
        check(&greater(1), "(t.a > 1)");
        let and = binary(greater(1), Operator::And, greater(2), &schema).unwrap();
        let and = binary(and, Operator::And, greater(3), &schema).unwrap();
        check(&and, "((t.a > 1) AND (t.a > 2) AND (t.a > 3))");
        let or = binary(and, Operator::Or, is_null(column(2)).unwrap(), &schema).unwrap();
        check(&or, "(((t.a > 1) AND (t.a > 2) AND (t.a > 3)) OR (t.\"C d\" IS NULL))");
    }

    #[test]
    fn constants_show_their_type() {
        let schema = schema();
        let day = Arc::new(Literal::new(ScalarValue::Date32(Some(9_204)))) as Expr;
        let equal = binary(column(1), Operator::NotEq, day, &schema).unwrap();
        check(&equal, "(t.b <> '1995-03-15'::date)");
        let texts = vec![lit("MAIL"), lit("it's")];
        let listed = in_list(column(2), texts, &false, &schema).unwrap();
        check(&listed, "((t.\"C d\" = 'MAIL'::text) OR (t.\"C d\" = 'it''s'::text))");
        let money = ScalarValue::Decimal128(Some(12_345), 12, 2);
        check(&(Arc::new(Literal::new(money)) as Expr), "123.45");
    }

    #[test]
    fn a_long_text_is_cut() {
        let schema = schema();
        let mut chain = lit(0_i64);
        for value in 0..1000_i64 {
            chain = binary(chain, Operator::Plus, lit(value), &schema).unwrap();
        }
        let text = text_over(&chain, &[]);
        assert!(text.ends_with("...") && text.len() <= TEXT_BYTES_MAX + 3, "{text}");
    }
}
