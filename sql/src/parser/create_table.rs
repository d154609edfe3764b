//! CREATE TABLE, with columns, LIKE or AS, and the checks that need no catalog.

use datafusion::sql::sqlparser::tokenizer::Token;
use std::collections::HashSet;

use super::table_attributes::{encoding, table_attributes};
use super::tokens::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;
use crate::statement::{
    ColumnDefinition, Constraint, CreateTable, CreateTableAs, DistStyle, Encoding, LikeTable,
    NamedConstraint, SortKey, Statement, TableAttributes, TableName,
};
use crate::types::SqlType;

/// Most columns of a table.
const COLUMNS_MAX: usize = 1_600;
/// Most columns of a compound sort key.
const COMPOUND_SORT_COLUMNS_MAX: usize = 400;
/// Most columns of an interleaved sort key.
const INTERLEAVED_SORT_COLUMNS_MAX: usize = 8;
/// Names that every table has already in Postgres.
const SYSTEM_COLUMNS: [&str; 7] = ["oid", "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// What the parentheses of a CREATE TABLE hold.
#[derive(Default)]
struct Elements {
    columns: Vec<ColumnDefinition>,
    like: Option<LikeTable>,
    constraints: Vec<NamedConstraint>,
    dist_keys: Vec<String>,
    sort_keys: Vec<String>,
    /// After CONSTRAINT: the name of what comes next.
    next_name: Option<String>,
}

impl Elements {
    fn add(&mut self, constraint: Constraint) {
        self.constraints.push(NamedConstraint { name: self.next_name.take(), constraint });
    }
}

/// After CREATE TABLE.
pub(super) fn create_table(tokens: &mut Tokens<'_>, temporary: bool) -> Result<Statement> {
    let if_not_exists = tokens.take_words(&["if", "not", "exists"]);
    let name = tokens.table_name()?;
    let temporary = is_temporary(&name, temporary)?;
    if is_create_as(tokens) {
        return create_table_as(tokens, name, if_not_exists, temporary);
    }
    tokens.expect(&Token::LParen)?;
    let mut elements = Elements::default();
    loop {
        element(tokens, &mut elements)?;
        if !tokens.take(&Token::Comma) {
            break;
        }
    }
    tokens.expect(&Token::RParen)?;
    let attributes = table_attributes(tokens)?;
    let table = CreateTable { temporary, ..assemble(name, if_not_exists, elements, attributes)? };
    check(&table)?;
    Ok(Statement::CreateTable(table))
}

/// Whether a table belongs to its session: if it was said so, or by its name.
pub(super) fn is_temporary(name: &TableName, said: bool) -> Result<bool> {
    let temporary = said || name.name.starts_with('#');
    if temporary && name.schema.is_some() {
        let message = "temporary tables may not specify a schema name";
        return Err(Error::new(ErrorKind::InvalidTableDefinition, message));
    }
    Ok(temporary)
}

/// CREATE TABLE AS starts with attributes, with AS, or with a list of bare column names.
fn is_create_as(tokens: &Tokens<'_>) -> bool {
    if !tokens.peek_is(&Token::LParen) {
        return true;
    }
    // A column definition has a type after its name; a bare name is followed by , or ).
    tokens.is_bare_name_list()
}

fn create_table_as(
    tokens: &mut Tokens<'_>,
    name: TableName,
    if_not_exists: bool,
    temporary: bool,
) -> Result<Statement> {
    let columns = if tokens.peek_is(&Token::LParen) { tokens.name_list()? } else { Vec::new() };
    let attributes = table_attributes(tokens)?;
    tokens.expect_word("as")?;
    let query = tokens.query()?;
    check_distribution(&attributes)?;
    check_unique(columns.iter())?;
    Ok(Statement::CreateTableAs(CreateTableAs {
        name,
        temporary,
        if_not_exists,
        columns,
        attributes,
        query,
    }))
}

/// The column of ALTER TABLE ADD.
pub(super) fn added_column(tokens: &mut Tokens<'_>) -> Result<ColumnDefinition> {
    let mut elements = Elements::default();
    column(tokens, &mut elements)?;
    let Elements { columns, constraints, dist_keys, sort_keys, .. } = elements;
    if !(constraints.is_empty() && dist_keys.is_empty() && sort_keys.is_empty()) {
        return Err(Error::not_supported("a key in ALTER TABLE ADD COLUMN")
            .with_hint("Add a constraint with a statement of its own."));
    }
    let added = columns.into_iter().next().ok_or_else(|| tokens.unexpected())?;
    if added.identity.is_some() {
        let message = "ALTER TABLE ADD COLUMN does not support columns with type IDENTITY";
        return Err(Error::new(ErrorKind::FeatureNotSupported, message));
    }
    check_column_name(&added.name)?;
    check_encoding(&added.name, added.sql_type, added.encoding)?;
    Ok(added)
}

/// The constraint of ALTER TABLE ADD.
pub(super) fn added_constraint(tokens: &mut Tokens<'_>) -> Result<Constraint> {
    let mut elements = Elements::default();
    table_constraint(tokens, &mut elements)?;
    elements.constraints.pop().map(|named| named.constraint).ok_or_else(|| tokens.unexpected())
}

fn element(tokens: &mut Tokens<'_>, elements: &mut Elements) -> Result<()> {
    if tokens.next_is_word("like") && !tokens.word_is(1, "like") {
        tokens.expect_word("like")?;
        return like(tokens, elements);
    }
    if tokens.take_word("constraint") {
        elements.next_name = Some(tokens.name()?);
        return table_constraint(tokens, elements);
    }
    let is_constraint = ["unique", "primary", "foreign", "check", "exclude"]
        .iter()
        .any(|word| tokens.next_is_word(word));
    if is_constraint { table_constraint(tokens, elements) } else { column(tokens, elements) }
}

fn like(tokens: &mut Tokens<'_>, elements: &mut Elements) -> Result<()> {
    let parent = tokens.table_name()?;
    let including_defaults = tokens.take_word("including");
    if including_defaults || tokens.take_word("excluding") {
        tokens.expect_word("defaults")?;
    }
    if elements.like.replace(LikeTable { parent, including_defaults }).is_some() {
        return Err(Error::not_supported("CREATE TABLE with several LIKE clauses"));
    }
    Ok(())
}

fn table_constraint(tokens: &mut Tokens<'_>, elements: &mut Elements) -> Result<()> {
    let constraint = match tokens.word()?.as_str() {
        "unique" => Constraint::Unique(tokens.name_list()?),
        "primary" => {
            tokens.expect_word("key")?;
            Constraint::PrimaryKey(tokens.name_list()?)
        }
        "foreign" => {
            tokens.expect_word("key")?;
            let columns = tokens.name_list()?;
            tokens.expect_word("references")?;
            references(tokens, columns)?
        }
        "check" => return Err(Error::not_supported("CHECK constraint")),
        "exclude" => return Err(Error::not_supported("EXCLUDE constraint")),
        _ => return Err(tokens.unexpected_previous()),
    };
    elements.add(constraint);
    Ok(())
}

fn references(tokens: &mut Tokens<'_>, columns: Vec<String>) -> Result<Constraint> {
    let table = tokens.table_name()?;
    let referenced = if tokens.peek_is(&Token::LParen) { tokens.name_list()? } else { Vec::new() };
    Ok(Constraint::ForeignKey { columns, table, referenced })
}

fn column(tokens: &mut Tokens<'_>, elements: &mut Elements) -> Result<()> {
    let name = tokens.name()?;
    if matches!(tokens.peek_word(0).as_deref(), Some("serial" | "bigserial")) {
        return Err(Error::not_supported("type serial").with_hint("Use IDENTITY or a default."));
    }
    let sql_type = tokens.sql_type()?;
    let mut column = ColumnDefinition {
        name,
        sql_type,
        not_null: false,
        default: None,
        identity: None,
        encoding: None,
    };
    while let Some(word) = tokens.peek_word(0) {
        tokens.expect_word(&word)?;
        column_attribute(tokens, &word, &mut column, elements)?;
    }
    check_identity(&column)?;
    elements.columns.push(column);
    Ok(())
}

fn column_attribute(
    tokens: &mut Tokens<'_>,
    word: &str,
    column: &mut ColumnDefinition,
    elements: &mut Elements,
) -> Result<()> {
    match word {
        "constraint" => {
            elements.next_name = Some(tokens.name()?);
            let is_kind = ["not", "null", "unique", "primary", "references", "check"];
            if !is_kind.iter().any(|word| tokens.next_is_word(word)) {
                return Err(tokens.unexpected());
            }
        }
        "default" => column.default = Some(tokens.default_expression()?.to_string()),
        "not" => {
            tokens.expect_word("null")?;
            column.not_null = true;
            // The name of a NOT NULL is kept nowhere, as in Redshift.
            elements.next_name = None;
        }
        "null" => elements.next_name = None,
        "encode" => column.encoding = encoding(tokens)?,
        "distkey" => elements.dist_keys.push(column.name.clone()),
        "sortkey" => elements.sort_keys.push(column.name.clone()),
        "unique" => elements.add(Constraint::Unique(vec![column.name.clone()])),
        "primary" => {
            tokens.expect_word("key")?;
            column.not_null = true;
            elements.add(Constraint::PrimaryKey(vec![column.name.clone()]));
        }
        "references" => {
            let constraint = references(tokens, vec![column.name.clone()])?;
            elements.add(constraint);
        }
        "collate" => {
            if tokens.word()? != "case_sensitive" {
                return Err(Error::not_supported("COLLATE CASE_INSENSITIVE"));
            }
        }
        "identity" => set_identity(tokens, column, false)?,
        "generated" => {
            for word in ["by", "default", "as", "identity"] {
                tokens.expect_word(word)?;
            }
            set_identity(tokens, column, true)?;
        }
        "check" => return Err(Error::not_supported("CHECK constraint")),
        _ => return Err(tokens.unexpected_previous()),
    }
    Ok(())
}

/// (seed, step)
fn set_identity(
    tokens: &mut Tokens<'_>,
    column: &mut ColumnDefinition,
    by_default: bool,
) -> Result<()> {
    tokens.expect(&Token::LParen)?;
    let seed = tokens.integer()?;
    tokens.expect(&Token::Comma)?;
    let step = tokens.integer()?;
    tokens.expect(&Token::RParen)?;
    if column.identity.replace(Identity { seed, step, by_default }).is_some() {
        return Err(Error::syntax("conflicting or redundant IDENTITY declarations"));
    }
    column.not_null = true;
    Ok(())
}

fn check_identity(column: &ColumnDefinition) -> Result<()> {
    let Some(identity) = column.identity else { return Ok(()) };
    let name = &column.name;
    if !matches!(column.sql_type, SqlType::Integer | SqlType::BigInt) {
        return Err(invalid(format!("identity column \"{name}\" must be of type INT or BIGINT")));
    }
    if column.default.is_some() {
        return Err(invalid(format!("both default and identity specified for column \"{name}\"")));
    }
    if identity.step == 0 {
        return Err(invalid(format!("the step of identity column \"{name}\" cannot be 0")));
    }
    identity.value(0, column.sql_type).map(drop)
}

fn assemble(
    name: TableName,
    if_not_exists: bool,
    elements: Elements,
    mut attributes: TableAttributes,
) -> Result<CreateTable> {
    let Elements { mut columns, like, constraints, dist_keys, sort_keys, .. } = elements;
    let dist_key_count = dist_keys.len() + usize::from(attributes.dist_key.is_some());
    if dist_key_count > 1 {
        return Err(invalid(format!("multiple distkeys specified for table \"{}\"", name.name)));
    }
    if let Some(dist_key) = dist_keys.into_iter().next() {
        attributes.dist_key = Some(dist_key);
    }
    if attributes.dist_key.is_some() && attributes.dist_style.is_none() {
        attributes.dist_style = Some(DistStyle::Key);
    }
    if !sort_keys.is_empty() {
        if attributes.sort_key != SortKey::Auto {
            return Err(invalid(format!(
                "multiple sortkeys specified for table \"{}\"",
                name.name
            )));
        }
        attributes.sort_key = SortKey::Compound(sort_keys);
    }
    for constraint in &constraints {
        if let Constraint::PrimaryKey(keys) = &constraint.constraint {
            let keyed = columns.iter_mut().filter(|column| keys.contains(&column.name));
            keyed.for_each(|column| column.not_null = true);
        }
    }
    let temporary = false;
    Ok(CreateTable { name, temporary, if_not_exists, columns, like, constraints, attributes })
}

fn check(table: &CreateTable) -> Result<()> {
    check_unique(table.columns.iter().map(|column| &column.name))?;
    check_distribution(&table.attributes)?;
    table.columns.iter().try_for_each(|column| check_column_name(&column.name))?;
    if table.like.is_some() && table.attributes != TableAttributes::default() {
        return Err(Error::syntax("CREATE TABLE LIKE cannot have table attributes"));
    }
    for column in &table.columns {
        check_encoding(&column.name, column.sql_type, column.encoding)?;
    }
    if table.like.is_none() {
        check_keys(table)?;
    }
    Ok(())
}

/// Every table has some columns already.
pub(super) fn check_column_name(name: &str) -> Result<()> {
    if SYSTEM_COLUMNS.contains(&name) {
        let message = format!("column name \"{name}\" conflicts with a system column name");
        return Err(Error::new(ErrorKind::DuplicateColumn, message));
    }
    Ok(())
}

fn check_unique<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Result<()> {
    if names.len() > COLUMNS_MAX {
        return Err(Error::new(
            ErrorKind::TooManyColumns,
            format!("tables can have at most {COLUMNS_MAX} columns"),
        ));
    }
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{name}\" specified more than once"),
            ));
        }
    }
    Ok(())
}

fn check_distribution(attributes: &TableAttributes) -> Result<()> {
    match (attributes.dist_style, &attributes.dist_key) {
        (Some(DistStyle::Key), None) => {
            Err(invalid("DISTKEY column must be specified for DISTSTYLE KEY".to_owned()))
        }
        (Some(DistStyle::Even | DistStyle::All | DistStyle::Auto), Some(_)) => Err(invalid(
            "DISTSTYLE EVEN, ALL or AUTO is incompatible with DISTKEY column specification"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The columns of a sort key, if they are not too many.
pub(super) fn sort_columns(sort_key: &SortKey) -> Result<&[String]> {
    let (columns, max): (&[String], usize) = match sort_key {
        SortKey::Auto => (&[], 0),
        SortKey::Compound(columns) => (columns, COMPOUND_SORT_COLUMNS_MAX),
        SortKey::Interleaved(columns) => (columns, INTERLEAVED_SORT_COLUMNS_MAX),
    };
    if columns.len() > max {
        return Err(invalid(format!("a sort key of this kind can have at most {max} columns")));
    }
    Ok(columns)
}

fn check_keys(table: &CreateTable) -> Result<()> {
    let exists = |name: &String| table.columns.iter().any(|column| column.name == *name);
    let sort_columns = sort_columns(&table.attributes.sort_key)?;
    if let Some(name) =
        table.attributes.dist_key.iter().chain(sort_columns).find(|name| !exists(name))
    {
        return Err(missing_key(name));
    }
    for constraint in &table.constraints {
        let (Constraint::PrimaryKey(columns)
        | Constraint::Unique(columns)
        | Constraint::ForeignKey { columns, .. }) = &constraint.constraint;
        if let Some(name) = columns.iter().find(|name| !exists(name)) {
            return Err(missing_key(name));
        }
    }
    let primary_keys = table
        .constraints
        .iter()
        .filter(|named| matches!(named.constraint, Constraint::PrimaryKey(_)));
    if primary_keys.count() > 1 {
        return Err(invalid(format!(
            "multiple primary keys for table \"{}\" are not allowed",
            table.name.name
        )));
    }
    Ok(())
}

fn missing_key(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedColumn, format!("column \"{name}\" named in key does not exist"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidTableDefinition, message)
}

/// Which encoding may hold which type, as documented.
/// Refuses an encoding that is not for values of the column's type.
///
/// # Errors
/// If it is not; AUTO, which is `None`, always is.
pub fn check_encoding(name: &str, sql_type: SqlType, encoding: Option<Encoding>) -> Result<()> {
    let Some(encoding) = encoding else { return Ok(()) };
    use SqlType::{
        BigInt, Boolean, Char, Date, Decimal, Double, Integer, Real, SmallInt, Time, TimeTz,
        Timestamp, TimestampTz, VarChar,
    };
    let allowed = match encoding {
        Encoding::Raw | Encoding::RunLength | Encoding::Zstd => true,
        Encoding::Az64 => !matches!(sql_type, Real | Double | Boolean | Char(_) | VarChar(_)),
        Encoding::Bytedict => !matches!(sql_type, Boolean | Time | TimeTz),
        Encoding::Delta => matches!(
            sql_type,
            SmallInt | Integer | BigInt | Decimal { .. } | Date | Timestamp | TimestampTz
        ),
        Encoding::Delta32k => {
            matches!(sql_type, Integer | BigInt | Decimal { .. } | Date | Timestamp | TimestampTz)
        }
        Encoding::Lzo => !matches!(sql_type, Real | Double | Boolean | Time | TimeTz),
        Encoding::Mostly8 => matches!(sql_type, SmallInt | Integer | BigInt | Decimal { .. }),
        Encoding::Mostly16 => matches!(sql_type, Integer | BigInt | Decimal { .. }),
        Encoding::Mostly32 => matches!(sql_type, BigInt | Decimal { .. }),
        Encoding::Text255 | Encoding::Text32k => matches!(sql_type, VarChar(_)),
    };
    if allowed {
        return Ok(());
    }
    let encoding = format!("{encoding:?}").to_ascii_lowercase();
    Err(invalid(format!("invalid encode option \"{encoding}\" for column \"{name}\""))
        .with_detail(format!("The column has type {sql_type}.")))
}
