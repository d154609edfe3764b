//! Texts and what they are parsed to.

use super::parse;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::statement::{
    Authorization, Compression, CopyFormat, CreateTable, DistStyle, Encoding, IsolationLevel,
    SetValue, SortKey, Statement, TransactionModes,
};
use crate::types::SqlType;

fn one(text: &str) -> Statement {
    let mut parsed = parse(text, &Limits::default()).unwrap();
    assert_eq!(parsed.len(), 1, "{text}");
    parsed.remove(0).statement
}

fn error(text: &str) -> Error {
    parse(text, &Limits::default()).unwrap_err()
}

fn table(text: &str) -> CreateTable {
    match one(text) {
        Statement::CreateTable(table) => table,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn several_statements_keep_their_texts() {
    let text = " select 1 ;; -- nothing\n select 'a;b' ;";
    let parsed = parse(text, &Limits::default()).unwrap();
    let texts: Vec<&str> = parsed.iter().map(|parsed| &text[parsed.text.clone()]).collect();
    assert_eq!(texts, ["select 1", "select 'a;b'"]);
    assert!(parse(" ; -- only a comment", &Limits::default()).unwrap().is_empty());
}

#[test]
fn create_table_attributes_come_in_any_order() {
    let table = table(
        "create table if not exists Public.\"T\" (a int not null encode az64 distkey, \
         b varchar(25) default 'x' sortkey, c decimal, d bpchar, primary key (a)) \
         backup no diststyle key",
    );
    assert_eq!(table.name.to_string(), "public.t");
    assert!(table.if_not_exists && table.columns[0].not_null);
    assert_eq!(table.columns[0].encoding, Some(Encoding::Az64));
    assert_eq!(table.columns[1].sql_type, SqlType::VarChar(25));
    assert_eq!(table.columns[1].default.as_deref(), Some("'x'"));
    assert_eq!(table.columns[2].sql_type, SqlType::Decimal { precision: 18, scale: 0 });
    assert_eq!(table.columns[3].sql_type, SqlType::Char(256));
    assert_eq!(table.attributes.dist_style, Some(DistStyle::Key));
    assert_eq!(table.attributes.dist_key.as_deref(), Some("a"));
    assert_eq!(table.attributes.sort_key, SortKey::Compound(vec!["b".to_owned()]));
    assert_eq!(table.attributes.backup, Some(false));
}

#[test]
fn create_table_is_checked() {
    let message = |text: &str| error(text).message;
    assert_eq!(
        message("create table t (a int) diststyle key"),
        "DISTKEY column must be specified for DISTSTYLE KEY"
    );
    assert_eq!(message("create table t (a int, a int)"), "column \"a\" specified more than once");
    assert_eq!(
        message("create table t (a real encode az64)"),
        "invalid encode option \"az64\" for column \"a\""
    );
    assert_eq!(
        message("create table t (a int) sortkey (b)"),
        "column \"b\" named in key does not exist"
    );
    assert_eq!(error("create table t (a int identity(0,1))").kind, ErrorKind::FeatureNotSupported);
    assert_eq!(error("create table t (a varchar(65536))").kind, ErrorKind::InvalidParameterValue);
}

#[test]
fn create_table_as_with_and_without_names() {
    for text in [
        "create table t as select 1 a",
        "create table t (a) distkey (a) as select 1",
        "create table t diststyle even sortkey (a) as (select 1 a)",
        "select 1 a into t",
    ] {
        assert!(matches!(one(text), Statement::CreateTableAs(_)), "{text}");
    }
}

#[test]
fn copy_options_come_in_any_order() {
    let Statement::Copy(copy) = one("copy s.t (a, b) from 's3://bucket/it''s' credentials \
         'aws_access_key_id=ID;aws_secret_access_key=KEY' delimiter '\\t' null as '\\N' gzip \
         ignoreheader 1 region 'us-east-1', compupdate off")
    else {
        unreachable!()
    };
    assert_eq!(copy.source, "s3://bucket/it's");
    assert_eq!(copy.null_as.as_deref(), Some("\\N"));
    let format = CopyFormat::Delimited { delimiter: b'\t', escape: false, remove_quotes: false };
    assert_eq!(copy.format, format);
    assert_eq!(copy.compression, Compression::Gzip);
    assert_eq!(copy.ignore_header, 1);
    assert!(matches!(&copy.authorization, Authorization::Keys { .. }));
    assert!(!format!("{copy:?}").contains("KEY\""));
    let Statement::Copy(copy) = one("copy t from 's3://b/p' iam_role default format as parquet")
    else {
        unreachable!()
    };
    assert_eq!(copy.format, CopyFormat::Parquet);
    assert_eq!(
        error("copy t from 's3://b/p' json 'auto'").message,
        "COPY option JSON is not supported"
    );
}

#[test]
fn session_statements() {
    let Statement::Set(set) = one("SET search_path TO \"$user\", public") else { unreachable!() };
    assert_eq!(set.name, "search_path");
    assert_eq!(set.value, SetValue::Values(vec!["$user".to_owned(), "public".to_owned()]));
    for text in [
        "begin read only",
        "start transaction isolation level serializable, read write",
        "set transaction isolation level read committed",
        "set session characteristics as transaction read only",
        "alter database dev isolation level snapshot",
        "end",
        "abort work",
        "show all",
        "reset query_group",
        "prepare p (int, varchar(3)) as select $1",
        "execute p (1, 'a')",
        "deallocate prepare p",
        "declare c cursor for select 1",
        "fetch forward 10 from c",
        "close c",
        "cancel 12 'stop'",
        "analyze t (a) predicate columns",
        "vacuum sort only t to 90 percent boost",
        "explain verbose select 1",
        "truncate table t",
        "delete t where a = 1",
        "insert into t (a) values (1), (default)",
        "drop table if exists a, b cascade",
        "create user ann with password 'Secret123' createdb in group g, h valid until 'infinity'",
        "create user ann password disable connection limit unlimited session timeout 120",
        "alter user ann nocreateuser reset session timeout",
        "alter user ann set query_group to 'reports'",
        "alter user ann reset query_group",
        "alter user ann rename to bob",
        "drop user if exists ann, bob",
        "create group g with user ann, bob",
        "alter group g add user ann",
        "alter group g drop user ann, bob",
        "alter group g rename to h",
        "drop group g",
        "create role r",
        "alter role r with rename to s",
        "alter role r owner to ann",
        "drop role r force",
        "drop role r restrict",
        "grant role r, s to ann, role t",
        "revoke role r from role t, ann",
    ] {
        one(text);
    }
}

#[test]
fn modes_of_transactions() {
    let modes = |isolation, read_only| TransactionModes { isolation, read_only };
    for (text, expected) in [
        ("begin", modes(None, None)),
        ("begin read write, read only", modes(None, Some(true))),
        (
            "start transaction isolation level serializable read write",
            modes(Some(IsolationLevel::Serializable), Some(false)),
        ),
        ("begin work isolation level snapshot", modes(Some(IsolationLevel::Snapshot), None)),
        (
            "begin isolation level repeatable read",
            modes(Some(IsolationLevel::RepeatableRead), None),
        ),
    ] {
        assert!(matches!(one(text), Statement::Begin(found) if found == expected), "{text}");
    }
    let level = modes(Some(IsolationLevel::ReadUncommitted), None);
    let found = one("set transaction isolation level read uncommitted");
    assert!(matches!(found, Statement::SetTransaction(found) if found == level));
    let found = one("set session characteristics as transaction isolation level read uncommitted");
    assert!(matches!(found, Statement::SetSessionTransactions(found) if found == level));
    assert_eq!(error("set transaction").kind, ErrorKind::Syntax);
    assert_eq!(error("begin isolation level high").kind, ErrorKind::Syntax);
    assert_eq!(error("alter database dev isolation level read committed").kind, ErrorKind::Syntax);
    let error = error("alter database dev rename to prod");
    assert_eq!(error.message, "ALTER DATABASE ... RENAME is not supported");
}

#[test]
fn passwords_and_keys_are_not_shown() {
    let shown = |text: &str| parse(text, &Limits::default()).unwrap().pop().unwrap().shown;
    for (text, expected) in [
        (
            "create user a password 'S3cret' valid until 'x'",
            "create user a password '***' valid until 'x'",
        ),
        (
            "select 1;  alter user \"\u{e9}\" PASSWORD\n 'it''s' ;",
            "alter user \"\u{e9}\" PASSWORD\n '***'",
        ),
        (
            "copy t from 's3://b/k' credentials as 'aws_access_key_id=1;aws_secret_access_key=2' csv",
            "copy t from 's3://b/k' credentials as '***' csv",
        ),
        (
            "copy t from 's3://b/k' access_key_id 'AK' secret_access_key 'SK' csv",
            "copy t from 's3://b/k' access_key_id '***' secret_access_key '***' csv",
        ),
        ("select 'password', 'x'", "select 'password', 'x'"),
    ] {
        assert_eq!(shown(text), expected);
    }
}

#[test]
fn options_of_users_are_given_once() {
    assert_eq!(error("create user a createdb nocreatedb").kind, ErrorKind::Syntax);
    assert_eq!(error("alter user a").kind, ErrorKind::Syntax);
    assert_eq!(error("alter user a password 5").kind, ErrorKind::Syntax);
}

#[test]
fn syntax_errors_say_where() {
    let error = error("select 1;\nselec 2");
    assert_eq!(error.message, "syntax error at or near \"selec\"");
    assert_eq!(error.kind, ErrorKind::Syntax);
}

#[test]
fn deep_and_long_shapes_are_refused() {
    let chain = |term: &str, separator: &str| vec![term; 10_000].join(separator);
    for text in [
        format!("select {}", chain("1", " + ")),
        format!("select 1 where {}", chain("true", " or ")),
        format!("select 1 where {}", chain("true", " and ")),
        format!("select {}", chain("'a'", " || ")),
        format!("select 1{}", "::int".repeat(10_000)),
        chain("select 1", " union all "),
        format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("select {}1", "- ".repeat(10_000)),
        format!("select 1 where {} true", "not ".repeat(10_000)),
        format!("select {} 1 {}", "case when true then ".repeat(10_000), "end ".repeat(10_000)),
    ] {
        assert_eq!(error(&text).kind, ErrorKind::StatementTooComplex, "{}", &text[..60]);
    }
}

#[test]
fn long_lists_are_accepted() {
    let list = vec!["1"; 20_000].join(", ");
    one(&format!("select 1 where 1 in ({list})"));
    let rows = vec!["(1, -1, 'a', 1 + 1)"; 20_000].join(", ");
    one(&format!("insert into t values {rows}"));
}
