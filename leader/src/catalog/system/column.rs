//! The columns of system tables: their types, and what they hold where a row says nothing.

use arrow::datatypes::{DataType, Field};
use sql::types::TYPE_METADATA_KEY;
use std::collections::HashMap;
use std::sync::Arc;

use super::value::Value;

/// A type of a system table's column. Those that tables of users cannot have carry their name as
/// metadata, from where the wire takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Real,
    Double,
    /// A decimal with two digits after the point; its values are hundredths.
    Hundredths,
    /// A 64-bit integer inside, so that it compares with every integer.
    Oid,
    Name,
    /// The type that Postgres writes "char".
    Char,
    Text,
    /// Microseconds since 1970.
    Timestamp,
    TimestampTz,
    Int2Vector,
    OidVector,
    Int2List,
    OidList,
    CharList,
    NameList,
    TextList,
    AclList,
}

impl Kind {
    /// The Arrow type of its values.
    pub(crate) fn arrow_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Hundredths => DataType::Decimal128(38, 2),
            Self::Timestamp => sql::SqlType::Timestamp.arrow_type(),
            Self::Name | Self::Char | Self::Text => DataType::Utf8View,
            Self::TimestampTz => sql::SqlType::TimestampTz.arrow_type(),
            Self::Int2Vector
            | Self::OidVector
            | Self::Int2List
            | Self::OidList
            | Self::CharList
            | Self::NameList
            | Self::TextList
            | Self::AclList => DataType::List(Arc::new(self.element_field())),
        }
    }

    /// The type of a list's elements; of anything else itself.
    pub(crate) fn element(self) -> Self {
        match self {
            Self::Int2Vector | Self::Int2List => Self::Int2,
            Self::OidVector | Self::OidList => Self::Oid,
            Self::CharList => Self::Char,
            Self::NameList => Self::Name,
            Self::TextList | Self::AclList => Self::Text,
            other => other,
        }
    }

    /// The field of a list's elements.
    pub(crate) fn element_field(self) -> Field {
        match self {
            Self::AclList => declared(Field::new("item", DataType::Utf8View, true), "aclitem"),
            other => other.element().field("item", true),
        }
    }

    /// A field of this type.
    pub(crate) fn field(self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow_type(), nullable);
        match self {
            Self::Oid => declared(field, "oid"),
            Self::Name => declared(field, "name"),
            Self::Char => declared(field, "\"char\""),
            Self::Text => declared(field, "text"),
            Self::Int2Vector => declared(field, "int2vector"),
            Self::OidVector => declared(field, "oidvector"),
            _ => field,
        }
    }
}

fn declared(field: Field, name: &str) -> Field {
    field.with_metadata(HashMap::from([(TYPE_METADATA_KEY.to_owned(), name.to_owned())]))
}

/// A constant that a column holds where a row does not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Text(&'static str),
}

impl From<Constant> for Value {
    fn from(constant: Constant) -> Self {
        match constant {
            Constant::Null => Self::Null,
            Constant::Bool(value) => Self::Bool(value),
            Constant::Int(value) => Self::Int(value),
            Constant::Text(value) => Self::from(value),
        }
    }
}

/// A column of a system table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its type.
    pub(crate) kind: Kind,
    /// Where a row does not name the column.
    pub(crate) default: Constant,
}

/// false where a row says nothing.
pub(super) const fn bool(name: &'static str) -> Column {
    Column { name, kind: Kind::Bool, default: Constant::Bool(false) }
}

/// 0 where a row says nothing.
pub(super) const fn int2(name: &'static str) -> Column {
    Column { name, kind: Kind::Int2, default: Constant::Int(0) }
}

/// 0 where a row says nothing.
pub(super) const fn int4(name: &'static str) -> Column {
    Column { name, kind: Kind::Int4, default: Constant::Int(0) }
}

/// 0, no object, where a row says nothing.
pub(super) const fn oid(name: &'static str) -> Column {
    Column { name, kind: Kind::Oid, default: Constant::Int(0) }
}

/// NULL where a row says nothing.
pub(super) const fn name(name: &'static str) -> Column {
    Column { name, kind: Kind::Name, default: Constant::Null }
}

/// NULL where a row says nothing.
pub(super) const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, default: Constant::Null }
}

/// NULL where a row says nothing: lists, moments, numbers with a fraction.
pub(super) const fn nullable(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, default: Constant::Null }
}

/// One letter, the given one where a row says nothing.
pub(super) const fn char(name: &'static str, default: &'static str) -> Column {
    Column { name, kind: Kind::Char, default: Constant::Text(default) }
}

/// Another value where a row says nothing.
pub(super) const fn or(column: Column, default: Constant) -> Column {
    Column { default, ..column }
}

impl Column {
    /// Whether it may hold NULL, as far as its definition says.
    pub(crate) fn is_nullable(&self) -> bool {
        self.default == Constant::Null
    }
}
