//! The rules of comparison, each with a case that it must let pass and one that it must not.

use super::*;

fn query(sort_keys: &'static [&'static str]) -> Query {
    Query { number: 1, sql: "", sort_keys }
}

fn rows(text: &[&[&str]]) -> Vec<Row> {
    text.iter().map(|row| row.iter().map(|cell| Some((*cell).to_owned())).collect()).collect()
}

#[track_caller]
fn same(kind: Kind, expected: &str, actual: &str) {
    assert!(value_matches("x", kind, expected, actual), "{expected} {actual}");
}

#[track_caller]
fn different(kind: Kind, expected: &str, actual: &str) {
    assert!(!value_matches("x", kind, expected, actual), "{expected} {actual}");
}

#[test]
fn integers_text_and_dates_are_exact() {
    same(Kind::Integer, "1478493", "1478493");
    same(Kind::Integer, "1995", "1995.0");
    different(Kind::Integer, "1478493", "1478494");
    different(Kind::Integer, "2", "2.5");
    different(Kind::Integer, "2", "two");
    same(Kind::Text, "a b ", "a b ");
    different(Kind::Text, "a b ", "a b");
    different(Kind::Date, "1995-03-15", "1995-03-16");
    assert!(value_matches("s_name", Kind::Text, "FRANCE", "FRANCE     "));
    assert!(!value_matches("s_name", Kind::Text, "FRANCE", "FRANC      "));
}

#[test]
fn decimals_are_exact_unless_a_long_scale_was_cut() {
    same(Kind::Decimal, "37734107.00", "37734107.00");
    same(Kind::Decimal, "37734107.00", "37734107");
    same(Kind::Decimal, "-0.50", "-0.5");
    different(Kind::Decimal, "37734107.00", "37734107.01");
    different(Kind::Decimal, "0.54", "0.5");
    same(Kind::Decimal, "55909065222.827692", "55909065222.8277");
    same(Kind::Decimal, "-0.000050", "-0.0001");
    different(Kind::Decimal, "55909065222.827692", "55909065222.8276");
    different(Kind::Decimal, "55909065222.827692", "55909065222.83");
    different(Kind::Decimal, "1.00", "1e0");
}

#[test]
fn ratios_allow_one_unit_of_a_short_decimal() {
    same(Kind::Ratio, "25.522005853257337", "25.5220058532573370");
    same(Kind::Ratio, "25.522005853257337", "25.52");
    same(Kind::Ratio, "25.529", "25.52");
    same(Kind::Ratio, "0.034435890", "0.0344");
    different(Kind::Ratio, "25.522005853257337", "25.54");
    different(Kind::Ratio, "25.522005853257337", "25.5");
    different(Kind::Ratio, "25.522005853257337", "26");
    different(Kind::Ratio, "25.522005853257337", "25.522015853257337");
    different(Kind::Ratio, "25.5", "NaN");
}

#[test]
fn rows_move_only_among_equal_sort_keys() {
    let columns = vec![("k".to_owned(), Kind::Integer), ("v".to_owned(), Kind::Text)];
    let reference = rows(&[&["1", "a"], &["2", "b"], &["2", "c"], &["3", "d"]]);
    let answer = Answer { columns, rows: reference.clone() };
    let check = |rows: &[Row]| answer.check(&query(&["k"]), rows);
    assert_eq!(check(&reference), Verdict::Right);
    assert_eq!(check(&rows(&[&["1", "a"], &["2", "c"], &["2", "b"], &["3", "d"]])), Verdict::Right);
    let wrong = [
        rows(&[&["2", "b"], &["1", "a"], &["2", "c"], &["3", "d"]]),
        rows(&[&["1", "a"], &["2", "c"], &["2", "c"], &["3", "d"]]),
        rows(&[&["1", "a"], &["2", "b"], &["2", "c"]]),
        rows(&[&["1"], &["2"], &["2"], &["3"]]),
    ];
    for wrong in wrong {
        assert!(matches!(check(&wrong), Verdict::Wrong(_)), "{wrong:?}");
    }
    let missing = Answer { columns: vec![("k".to_owned(), Kind::Integer)], rows: vec![vec![None]] };
    assert_eq!(missing.check(&query(&[]), &[vec![None]]), Verdict::Right);
    let zero = missing.check(&query(&[]), &rows(&[&["0"]]));
    assert_eq!(zero, Verdict::Wrong("row 1, k: \"0\", expected NULL".to_owned()));
}

#[test]
fn answers_are_read_from_csv() {
    let answer = Answer::from_csv("a:integer,b:text\n1,\"x, \"\"y\"\"\"\n,\"\"\n").unwrap();
    assert_eq!(answer.columns[1], ("b".to_owned(), Kind::Text));
    let expected = vec![
        vec![Some("1".to_owned()), Some("x, \"y\"".to_owned())],
        vec![None, Some(String::new())],
    ];
    assert_eq!(answer.rows, expected);
    for bad in ["", "a\n", "a:integer\n1", "a:integer\n\"1", "a:integer\n1,", "a:whole\n1\n"] {
        assert!(Answer::from_csv(bad).is_err(), "{bad:?}");
    }
}
