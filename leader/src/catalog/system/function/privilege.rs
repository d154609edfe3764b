//! Who may do what. There are owners and superusers; GRANT is not supported yet.

use datafusion::error::Result;
use sql::error::{ErrorKind, raise};

use super::Argument::{Text, TextOrOid};
use super::reference::relation_of;
use super::{SystemFunction, error, strict};
use crate::catalog::system::column::Kind;
use crate::catalog::system::relation::Relation;
use crate::catalog::system::value::Value;
use crate::catalog::system::{DATABASE_OID, PG_CATALOG, SystemCatalog};
use crate::error::code;

/// Of the current user, or of a named one.
const OVERLOADS: &[&[super::Argument]] = &[&[TextOrOid, Text], &[TextOrOid, TextOrOid, Text]];

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("has_table_privilege", OVERLOADS, Kind::Bool, has_table_privilege),
    strict("has_any_column_privilege", OVERLOADS, Kind::Bool, has_table_privilege),
    strict("has_schema_privilege", OVERLOADS, Kind::Bool, has_schema_privilege),
    strict("has_database_privilege", OVERLOADS, Kind::Bool, has_database_privilege),
];

/// The three parts of a question: who, on what, which privileges.
struct Question<'a> {
    user: String,
    is_superuser: bool,
    object: &'a Value,
    privileges: Vec<String>,
}

impl<'a> Question<'a> {
    fn new(catalog: &SystemCatalog, arguments: &'a [Value], known: &[&str]) -> Result<Self> {
        let (asked, object, privileges) = match arguments {
            [object, privileges] => (None, object, privileges),
            [user, object, privileges] => (Some(user), object, privileges),
            _ => return Err(error(ErrorKind::Internal, "wrong number of arguments".to_owned())),
        };
        let (user, is_superuser) = match asked {
            None => (catalog.session.current_user.clone(), catalog.is_superuser()),
            Some(asked) => named_user(catalog, asked)?,
        };
        let text = privileges.as_text().unwrap_or_default();
        let mut words = Vec::new();
        for word in text.split(',') {
            let word = word.trim().to_ascii_uppercase();
            let bare = word.strip_suffix(" WITH GRANT OPTION").unwrap_or(&word);
            if !known.contains(&bare) {
                let message = format!("unrecognized privilege type: \"{}\"", word.to_lowercase());
                return Err(error(ErrorKind::InvalidParameterValue, message));
            }
            words.push(word);
        }
        Ok(Self { user, is_superuser, object, privileges: words })
    }

    /// Whether one of the privileges that everybody has is asked for.
    fn asks_only(&self, granted_to_all: &[&str]) -> bool {
        self.privileges.iter().any(|word| granted_to_all.contains(&word.as_str()))
    }
}

fn named_user(catalog: &SystemCatalog, asked: &Value) -> Result<(String, bool)> {
    let found = catalog.snapshot.users().find(|user| match asked {
        Value::Int(oid) => i64::from(user.oid) == *oid,
        other => other.as_text() == Some(user.name.as_str()),
    });
    match found {
        Some(user) => Ok((user.name.clone(), user.superuser)),
        None => {
            let name = asked.as_text().unwrap_or("?");
            Err(raise(code::UNDEFINED_OBJECT, format!("user \"{name}\" does not exist")))
        }
    }
}

fn has_table_privilege(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    const KNOWN: [&str; 9] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "DROP",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
        "RULE",
    ];
    let question = Question::new(catalog, arguments, &KNOWN)?;
    let relation = match question.object {
        Value::Int(oid) => match catalog.relation(*oid) {
            Some(relation) => relation,
            None => return Ok(Value::Null),
        },
        other => {
            let name = other.as_text().unwrap_or_default();
            relation_of(catalog, name).ok_or_else(|| {
                error(ErrorKind::UndefinedTable, format!("relation \"{name}\" does not exist"))
            })?
        }
    };
    Ok(match &relation {
        Relation::User(entry) => question.is_superuser || entry.owner == question.user,
        // Everybody reads the system catalog, nobody writes it.
        Relation::System(_) => question.asks_only(&["SELECT"]),
    }
    .into())
}

fn has_schema_privilege(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let question = Question::new(catalog, arguments, &["CREATE", "USAGE"])?;
    let name = match question.object {
        Value::Int(oid) => match catalog.schema_name(*oid) {
            Some(name) => name,
            None => return Ok(Value::Null),
        },
        other => other.as_text().unwrap_or_default().to_lowercase(),
    };
    if name == PG_CATALOG {
        return Ok(question.asks_only(&["USAGE"]).into());
    }
    match catalog.snapshot.schema(&name) {
        Some(schema) => Ok((question.is_superuser || schema.owner == question.user).into()),
        None => Err(error(ErrorKind::UndefinedSchema, format!("schema \"{name}\" does not exist"))),
    }
}

fn has_database_privilege(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    const KNOWN: [&str; 4] = ["CREATE", "CONNECT", "TEMPORARY", "TEMP"];
    let question = Question::new(catalog, arguments, &KNOWN)?;
    let is_ours = match question.object {
        Value::Int(oid) => *oid == i64::from(DATABASE_OID),
        other => other.as_text() == Some(catalog.session.database.as_str()),
    };
    if !is_ours {
        return Err(raise(code::UNDEFINED_DATABASE, "database does not exist".to_owned()));
    }
    Ok((question.is_superuser || question.asks_only(&["CONNECT", "TEMPORARY", "TEMP"])).into())
}
