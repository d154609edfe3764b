//! ODBC: psqlodbc through unixODBC, driven from Python by pyodbc.

use crate::python::run_scenario;

#[test]
fn values_of_every_type() {
    run_scenario("odbc_types");
}

#[test]
fn statements_prepared_on_the_server() {
    run_scenario("odbc_prepared");
}

#[test]
fn rows_in_parts() {
    run_scenario("odbc_fetch");
}

#[test]
fn errors_have_their_state() {
    run_scenario("odbc_error");
}

#[test]
fn transactions() {
    run_scenario("odbc_transaction");
}

#[test]
fn a_savepoint_before_each_statement() {
    run_scenario("odbc_savepoint");
}

#[test]
fn rows_through_cursors_of_sql() {
    run_scenario("odbc_declare_fetch");
}

#[test]
fn tables_columns_and_keys() {
    run_scenario("odbc_catalog");
}

#[test]
fn cancel_from_another_thread() {
    run_scenario("odbc_cancel");
}
