//! The types that columns and results can have, with PostgreSQL's numbers and properties, which
//! clients know by heart; and Redshift's numbers of encodings.

use storage::schema::EncodeName;

/// A row of pg_type.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownType {
    pub(super) oid: u32,
    /// As pg_type names it.
    pub(super) name: &'static str,
    /// As [`format_type`] names it.
    sql_name: &'static str,
    /// Bytes, or -1 if they vary.
    pub(super) length: i32,
    pub(super) by_value: bool,
    pub(super) category: &'static str,
    pub(super) is_preferred: bool,
    /// The type of a list's elements, or 0.
    pub(super) element: u32,
    /// The type of lists of it, or 0.
    pub(super) array: u32,
    pub(super) align: &'static str,
    pub(super) storage: &'static str,
    pub(super) collation: u32,
}

impl KnownType {
    /// The category of types that no column can have.
    pub(super) const PSEUDO: &'static str = "X";

    /// The names of the functions that read and write it: text in and out, binary in and out.
    pub(super) fn functions(&self) -> (String, String, String, String) {
        if self.name.starts_with('_') {
            let name = |way: &str| format!("array_{way}");
            return (name("in"), name("out"), name("recv"), name("send"));
        }
        // Names with a number or a vector are older than the underscore.
        let older = ["date", "time", "interval", "numeric", "timetz"];
        let stem = match self.name {
            name if older.contains(&name) || name.starts_with("timestamp") => format!("{name}_"),
            name => name.to_owned(),
        };
        let name = |way: &str| format!("{stem}{way}");
        match self.name {
            "aclitem" => (name("in"), name("out"), "-".to_owned(), "-".to_owned()),
            _ => (name("in"), name("out"), name("recv"), name("send")),
        }
    }
}

/// A type that fits a machine word.
const fn word(
    oid: u32,
    name: &'static str,
    sql_name: &'static str,
    length: i32,
    category: &'static str,
    array: u32,
) -> KnownType {
    let align = match length {
        1 => "c",
        2 => "s",
        4 => "i",
        _ => "d",
    };
    KnownType {
        oid,
        name,
        sql_name,
        length,
        by_value: true,
        category,
        is_preferred: false,
        element: 0,
        array,
        align,
        storage: "p",
        collation: 0,
    }
}

/// A type whose values have different lengths.
const fn varying(
    oid: u32,
    name: &'static str,
    sql_name: &'static str,
    category: &'static str,
    array: u32,
) -> KnownType {
    KnownType {
        length: -1,
        by_value: false,
        align: "i",
        storage: "x",
        ..word(oid, name, sql_name, -1, category, array)
    }
}

/// A type of texts, which have an order.
const fn string(oid: u32, name: &'static str, sql_name: &'static str, array: u32) -> KnownType {
    KnownType { collation: 100, ..varying(oid, name, sql_name, "S", array) }
}

const fn preferred(known: KnownType) -> KnownType {
    KnownType { is_preferred: true, ..known }
}

/// A list of another type, aligned as its elements.
const fn list(oid: u32, name: &'static str, element: u32, align: &'static str) -> KnownType {
    KnownType { element, align, ..varying(oid, name, "", "A", 0) }
}

const fn collated(known: KnownType, collation: u32) -> KnownType {
    KnownType { collation, ..known }
}

static TYPES: [KnownType; 47] = [
    preferred(word(16, "bool", "boolean", 1, "B", 1000)),
    varying(17, "bytea", "bytea", "U", 1001),
    word(18, "char", "\"char\"", 1, "Z", 1002),
    KnownType {
        length: 64,
        element: 18,
        align: "c",
        storage: "p",
        collation: 950,
        ..varying(19, "name", "name", "S", 1003)
    },
    word(20, "int8", "bigint", 8, "N", 1016),
    word(21, "int2", "smallint", 2, "N", 1005),
    KnownType { element: 21, storage: "p", ..varying(22, "int2vector", "int2vector", "A", 1006) },
    word(23, "int4", "integer", 4, "N", 1007),
    preferred(string(25, "text", "text", 1009)),
    preferred(word(26, "oid", "oid", 4, "N", 1028)),
    KnownType { element: 26, storage: "p", ..varying(30, "oidvector", "oidvector", "A", 1013) },
    word(700, "float4", "real", 4, "N", 1021),
    preferred(word(701, "float8", "double precision", 8, "N", 1022)),
    KnownType {
        length: -2,
        align: "c",
        storage: "p",
        ..varying(705, "unknown", "unknown", KnownType::PSEUDO, 0)
    },
    list(1000, "_bool", 16, "i"),
    list(1001, "_bytea", 17, "i"),
    list(1002, "_char", 18, "i"),
    collated(list(1003, "_name", 19, "i"), 950),
    list(1005, "_int2", 21, "i"),
    list(1006, "_int2vector", 22, "i"),
    list(1007, "_int4", 23, "i"),
    collated(list(1009, "_text", 25, "i"), 100),
    list(1013, "_oidvector", 30, "i"),
    collated(list(1014, "_bpchar", 1042, "i"), 100),
    collated(list(1015, "_varchar", 1043, "i"), 100),
    list(1016, "_int8", 20, "d"),
    list(1021, "_float4", 700, "i"),
    list(1022, "_float8", 701, "d"),
    list(1028, "_oid", 26, "i"),
    KnownType { length: 12, storage: "p", ..varying(1033, "aclitem", "aclitem", "U", 1034) },
    list(1034, "_aclitem", 1033, "i"),
    string(1042, "bpchar", "character", 1014),
    string(1043, "varchar", "character varying", 1015),
    word(1082, "date", "date", 4, "D", 1182),
    word(1083, "time", "time without time zone", 8, "D", 1183),
    word(1114, "timestamp", "timestamp without time zone", 8, "D", 1115),
    list(1115, "_timestamp", 1114, "d"),
    list(1182, "_date", 1082, "i"),
    list(1183, "_time", 1083, "d"),
    preferred(word(1184, "timestamptz", "timestamp with time zone", 8, "D", 1185)),
    list(1185, "_timestamptz", 1184, "d"),
    KnownType { by_value: false, ..preferred(word(1186, "interval", "interval", 16, "T", 1187)) },
    list(1187, "_interval", 1186, "d"),
    list(1231, "_numeric", 1700, "i"),
    KnownType { by_value: false, ..word(1266, "timetz", "time with time zone", 12, "D", 1270) },
    list(1270, "_timetz", 1266, "d"),
    KnownType { storage: "m", ..varying(1700, "numeric", "numeric", "N", 1231) },
];

/// All types, by number.
pub(super) fn all() -> &'static [KnownType] {
    &TYPES
}

/// The type with that number.
pub(super) fn find(oid: i64) -> Option<&'static KnownType> {
    TYPES.iter().find(|known| i64::from(known.oid) == oid)
}

/// The type that a name stands for: pg_type's name or that of [`format_type`].
pub(super) fn named(name: &str) -> Option<&'static KnownType> {
    TYPES
        .iter()
        .find(|known| known.name == name || (!known.sql_name.is_empty() && known.sql_name == name))
}

/// Postgres adds the size of a length word to the modifiers of strings and numerics.
const MODIFIER_HEADER: i64 = 4;

/// A type as SQL writes it, with its modifier unless that is NULL or negative.
pub(super) fn format_type(oid: i64, modifier: Option<i64>) -> String {
    let Some(known) = find(oid) else {
        return if oid == 0 { "-".to_owned() } else { "???".to_owned() };
    };
    if known.name.starts_with('_')
        && let Some(element) = find(known.element.into())
    {
        return format!("{}[]", format_type(element.oid.into(), modifier));
    }
    match (known.name, modifier) {
        // Without a modifier at all the length of a character is 1; one of -1 says that there is
        // no limit.
        ("bpchar", Some(-1)) => "bpchar".to_owned(),
        ("bpchar" | "varchar", Some(modifier)) if modifier > MODIFIER_HEADER => {
            format!("{}({})", known.sql_name, modifier - MODIFIER_HEADER)
        }
        ("numeric", Some(modifier)) if modifier > MODIFIER_HEADER => {
            let digits = modifier - MODIFIER_HEADER;
            format!("numeric({},{})", digits >> 16, digits & 0xffff)
        }
        _ => known.sql_name.to_owned(),
    }
}

/// The numbers of encodings in attencodingtype, with their names.
const ENCODINGS: [(i32, &str); 14] = [
    (0, "none"),
    (1, "bytedict"),
    (2, "delta"),
    (3, "delta32k"),
    (4, "lzo"),
    (5, "mostly8"),
    (6, "mostly16"),
    (7, "mostly32"),
    (8, "runlength"),
    (9, "text255"),
    (10, "text32k"),
    (11, "zstd"),
    (12, "az64"),
    (128, "none"),
];

/// The number of a column's encoding. What AUTO chose differs between segments: it has the number
/// of no encoding.
pub(super) fn encoding_code(encode: EncodeName) -> i32 {
    match encode {
        EncodeName::Auto => 128,
        EncodeName::Raw => 0,
        EncodeName::Bytedict => 1,
        EncodeName::Delta => 2,
        EncodeName::Delta32k => 3,
        EncodeName::Lzo => 4,
        EncodeName::Mostly8 => 5,
        EncodeName::Mostly16 => 6,
        EncodeName::Mostly32 => 7,
        EncodeName::Runlength => 8,
        EncodeName::Text255 => 9,
        EncodeName::Text32k => 10,
        EncodeName::Zstd => 11,
        EncodeName::Az64 => 12,
    }
}

/// The name of an encoding's number.
pub(super) fn encoding_name(code: i64) -> Option<&'static str> {
    ENCODINGS.iter().find(|(known, _)| i64::from(*known) == code).map(|(_, name)| *name)
}
