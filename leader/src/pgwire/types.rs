//! Arrow types and the types of the protocol: which OID, length and modifier a client is told.
//!
//! The Arrow type decides, refined by the field's metadata [`TYPE_METADATA_KEY`], which carries the
//! declared SQL type, for example `character varying(25)`.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

use crate::pgwire::report::{Report, sqlstate};

/// The key of a field's metadata that holds the SQL type as Redshift prints it.
pub const TYPE_METADATA_KEY: &str = "blueshift.type";

/// OIDs of types, as in Postgres' `pg_type.dat` and Redshift's drivers.
pub mod oid {
    /// boolean
    pub const BOOL: u32 = 16;
    /// bytea
    pub const BYTEA: u32 = 17;
    /// "char"
    pub const CHAR: u32 = 18;
    /// name
    pub const NAME: u32 = 19;
    /// bigint
    pub const INT8: u32 = 20;
    /// smallint
    pub const INT2: u32 = 21;
    /// int2vector
    pub const INT2VECTOR: u32 = 22;
    /// integer
    pub const INT4: u32 = 23;
    /// regproc
    pub const REGPROC: u32 = 24;
    /// text
    pub const TEXT: u32 = 25;
    /// oid
    pub const OID: u32 = 26;
    /// oidvector
    pub const OIDVECTOR: u32 = 30;
    /// real
    pub const FLOAT4: u32 = 700;
    /// double precision
    pub const FLOAT8: u32 = 701;
    /// unknown
    pub const UNKNOWN: u32 = 705;
    /// aclitem
    pub const ACLITEM: u32 = 1033;
    /// character(n)
    pub const BPCHAR: u32 = 1042;
    /// character varying(n)
    pub const VARCHAR: u32 = 1043;
    /// date
    pub const DATE: u32 = 1082;
    /// time without time zone
    pub const TIME: u32 = 1083;
    /// timestamp without time zone
    pub const TIMESTAMP: u32 = 1114;
    /// timestamp with time zone
    pub const TIMESTAMPTZ: u32 = 1184;
    /// interval
    pub const INTERVAL: u32 = 1186;
    /// time with time zone
    pub const TIMETZ: u32 = 1266;
    /// numeric
    pub const NUMERIC: u32 = 1700;
    /// Redshift's SUPER
    pub const SUPER: u32 = 4000;
    /// Redshift's VARBYTE
    pub const VARBYTE: u32 = 6551;
}

/// What some drivers send as the type of NULL.
const NO_OID: u32 = 0xffff_ffff;
/// Postgres adds the size of a length word to the modifiers of strings and numerics.
const MODIFIER_HEADER: i32 = 4;

/// A type as the protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireType {
    /// The type's OID.
    pub oid: u32,
    /// The type's modifier, or -1.
    pub modifier: i32,
}

impl WireType {
    fn plain(oid: u32) -> Self {
        Self { oid, modifier: -1 }
    }

    /// The type of a result column.
    pub fn of_field(field: &Field) -> Self {
        field
            .metadata()
            .get(TYPE_METADATA_KEY)
            .and_then(|declared| Self::of_declared(declared))
            .unwrap_or_else(|| Self::of_data_type(field.data_type()))
    }

    /// The types that Arrow cannot tell from others.
    fn of_declared(declared: &str) -> Option<Self> {
        let (name, length) = match declared.split_once('(') {
            Some((name, rest)) => (name.trim(), rest.strip_suffix(')')?.trim().parse::<i32>().ok()),
            None => (declared.trim(), None),
        };
        let modifier = length.and_then(|length| length.checked_add(MODIFIER_HEADER)).unwrap_or(-1);
        let oid = match name {
            "character varying" | "varchar" => oid::VARCHAR,
            "character" | "char" | "bpchar" => oid::BPCHAR,
            "text" => oid::TEXT,
            "name" => oid::NAME,
            "\"char\"" => oid::CHAR,
            "oid" => oid::OID,
            "int2vector" => oid::INT2VECTOR,
            "oidvector" => oid::OIDVECTOR,
            "aclitem" => oid::ACLITEM,
            "regproc" => oid::REGPROC,
            "super" => oid::SUPER,
            "varbyte" | "binary varying" => oid::VARBYTE,
            _ => return None,
        };
        Some(Self { oid, modifier })
    }

    /// The type of a value without a declared type.
    pub fn of_data_type(data_type: &DataType) -> Self {
        let oid = match data_type {
            DataType::Boolean => oid::BOOL,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => oid::INT2,
            DataType::UInt16 | DataType::Int32 => oid::INT4,
            DataType::UInt32 | DataType::Int64 => oid::INT8,
            DataType::Float16 | DataType::Float32 => oid::FLOAT4,
            DataType::Float64 => oid::FLOAT8,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                let scale = i32::from(*scale).max(0);
                let modifier = ((i32::from(*precision) << 16) | scale) + MODIFIER_HEADER;
                return Self { oid: oid::NUMERIC, modifier };
            }
            DataType::UInt64 => oid::NUMERIC,
            DataType::Date32 => oid::DATE,
            DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => oid::TIME,
            // Redshift's TIMETZ is the only type that is kept in nanoseconds.
            DataType::Time64(_) => oid::TIMETZ,
            DataType::Date64 | DataType::Timestamp(_, None) => oid::TIMESTAMP,
            DataType::Timestamp(_, Some(_)) => oid::TIMESTAMPTZ,
            DataType::Interval(_) | DataType::Duration(_) => oid::INTERVAL,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => oid::BYTEA,
            DataType::Null => oid::TEXT,
            DataType::Dictionary(_, values) => return Self::of_data_type(values),
            DataType::RunEndEncoded(_, values) => return Self::of_data_type(values.data_type()),
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::FixedSizeList(element, _) => array_oid(Self::of_field(element).oid),
            // Strings, and what has no counterpart and is sent as text.
            _ => oid::VARCHAR,
        };
        Self::plain(oid)
    }

    /// The number of bytes of a value in Postgres' memory, -1 if it varies.
    pub fn length(self) -> i16 {
        match self.oid {
            oid::BOOL | oid::CHAR => 1,
            oid::INT2 => 2,
            oid::INT4 | oid::FLOAT4 | oid::DATE | oid::OID | oid::REGPROC => 4,
            oid::INT8 | oid::FLOAT8 | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ => 8,
            oid::TIMETZ | oid::ACLITEM => 12,
            oid::INTERVAL => 16,
            oid::NAME => 64,
            _ => -1,
        }
    }
}

/// The OID of an array of a type; text for elements without an array type.
fn array_oid(element: u32) -> u32 {
    match element {
        oid::BOOL => 1000,
        oid::BYTEA => 1001,
        oid::CHAR => 1002,
        oid::NAME => 1003,
        oid::INT2 => 1005,
        oid::INT4 => 1007,
        oid::TEXT => 1009,
        oid::BPCHAR => 1014,
        oid::VARCHAR => 1015,
        oid::INT8 => 1016,
        oid::FLOAT4 => 1021,
        oid::FLOAT8 => 1022,
        oid::OID => 1028,
        oid::ACLITEM => 1034,
        oid::TIMESTAMP => 1115,
        oid::DATE => 1182,
        oid::TIME => 1183,
        oid::TIMESTAMPTZ => 1185,
        oid::INTERVAL => 1187,
        oid::NUMERIC => 1231,
        oid::TIMETZ => 1270,
        // An array of arrays has the type of the inner one.
        array @ (1000..=1003 | 1005..=1028 | 1034 | 1115 | 1182..=1187 | 1231 | 1270) => array,
        _ => oid::TEXT,
    }
}

/// Does the client leave the type of a parameter to us?
pub(crate) fn is_unknown(oid: u32) -> bool {
    oid == 0 || oid == oid::UNKNOWN || oid == NO_OID
}

/// The Arrow type of a parameter that a client declared; `None` is to be inferred. A numeric is
/// inferred too, since its declaration says nothing of its scale.
///
/// # Errors
/// 42704 for a type that parameters cannot have.
pub(crate) fn declared_type(oid: u32) -> Result<Option<DataType>, Report> {
    let data_type = match oid {
        oid if is_unknown(oid) => return Ok(None),
        oid::NUMERIC => return Ok(None),
        oid::BOOL => DataType::Boolean,
        oid::INT2 => DataType::Int16,
        oid::INT4 => DataType::Int32,
        oid::INT8 | oid::OID => DataType::Int64,
        oid::FLOAT4 => DataType::Float32,
        oid::FLOAT8 => DataType::Float64,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR => DataType::Utf8View,
        oid::BYTEA => DataType::Binary,
        oid::DATE => DataType::Date32,
        oid::TIME => DataType::Time64(TimeUnit::Microsecond),
        oid::TIMETZ => DataType::Time64(TimeUnit::Nanosecond),
        oid::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        oid::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        oid::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        oid => {
            return Err(Report::error(
                sqlstate::UNDEFINED_OBJECT,
                format!("parameters of the type with OID {oid} are not supported"),
            ));
        }
    };
    Ok(Some(data_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_refine_what_arrow_says() {
        let check = |declared: &str, oid, modifier| {
            let metadata = [(TYPE_METADATA_KEY.to_owned(), declared.to_owned())].into();
            let field = Field::new("c", DataType::Utf8View, true).with_metadata(metadata);
            assert_eq!(WireType::of_field(&field), WireType { oid, modifier }, "{declared}");
        };
        check("character varying(25)", 1043, 29);
        check("character(10)", 1042, 14);
        check("text", 25, -1);
        check("name", 19, -1);
        check("something new(3)", 1043, -1);
    }

    #[test]
    fn a_numeric_carries_precision_and_scale() {
        let wire_type = WireType::of_data_type(&DataType::Decimal128(12, 2));
        assert_eq!(wire_type, WireType { oid: 1700, modifier: 786_438 });
    }
}
