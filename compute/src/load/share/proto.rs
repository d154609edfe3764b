//! A share on its way to its node. It carries the statement's credentials, and so does nothing but
//! travel: it is never logged.

use std::sync::Arc;

use arrow::datatypes::Schema;
use chrono::DateTime;
use datafusion::common::Result;
use datafusion::scalar::ScalarValue;
use datafusion_proto::protobuf;
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::Message;

use super::super::parquet::RowGroup;
use super::super::plan::{SharePlace, Work};
use super::super::request::{
    Compression, Conversion, CopyRequest, CountedColumn, DateFormat, Format, OmittedColumn,
    TargetColumn, TimeFormat,
};
use super::super::value::datetime::{DatePattern, TimestampPattern};
use super::LoadShare;
use crate::codec::table::{number, type_from_numbers, type_to_numbers};
use crate::codec::{missing, unreadable};
use crate::object_storage::{Credentials, Secret};

/// [`LoadShare`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoadShareProto {
    #[prost(string, tag = "1")]
    url: String,
    #[prost(message, optional, tag = "2")]
    keys: Option<KeysProto>,
    #[prost(string, optional, tag = "3")]
    region: Option<String>,
    #[prost(uint32, tag = "4")]
    format: u32,
    #[prost(uint32, tag = "5")]
    delimiter: u32,
    #[prost(uint32, tag = "6")]
    quote: u32,
    #[prost(uint32, tag = "7")]
    compression: u32,
    #[prost(message, optional, tag = "8")]
    conversion: Option<ConversionProto>,
    #[prost(message, repeated, tag = "9")]
    columns: Vec<TargetProto>,
    #[prost(message, repeated, tag = "10")]
    omitted: Vec<OmittedProto>,
    #[prost(message, optional, tag = "11")]
    schema: Option<protobuf::Schema>,
    #[prost(message, repeated, tag = "12")]
    objects: Vec<ObjectProto>,
    #[prost(message, repeated, tag = "13")]
    work: Vec<WorkProto>,
    #[prost(message, repeated, tag = "14")]
    counted: Vec<CountedProto>,
    /// Which share this is, and of how many.
    #[prost(uint32, tag = "15")]
    share: u32,
    #[prost(uint32, tag = "16")]
    shares: u32,
}

#[derive(Clone, PartialEq, Message)]
struct KeysProto {
    #[prost(string, tag = "1")]
    access_key_id: String,
    #[prost(string, tag = "2")]
    secret_access_key: String,
    #[prost(string, optional, tag = "3")]
    session_token: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ConversionProto {
    #[prost(uint64, tag = "1")]
    ignore_header: u64,
    #[prost(string, tag = "2")]
    null_as: String,
    /// Empty is the default; "auto" or a pattern.
    #[prost(string, tag = "3")]
    date_format: String,
    /// As `date_format`, and "epochsecs", "epochmillisecs".
    #[prost(string, tag = "4")]
    time_format: String,
    #[prost(bool, tag = "5")]
    empty_as_null: bool,
    #[prost(bool, tag = "6")]
    blanks_as_null: bool,
    #[prost(bool, tag = "7")]
    truncate_columns: bool,
    #[prost(bool, tag = "8")]
    trim_blanks: bool,
    #[prost(bool, tag = "9")]
    ignore_blank_lines: bool,
    #[prost(bool, tag = "10")]
    fill_record: bool,
    #[prost(bool, tag = "11")]
    accept_any_date: bool,
    #[prost(bool, tag = "12")]
    round_decimals: bool,
}

#[derive(Clone, PartialEq, Message)]
struct TargetProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(uint32, tag = "3")]
    precision: u32,
    #[prost(uint32, tag = "4")]
    scale: u32,
    #[prost(string, tag = "5")]
    type_name: String,
    #[prost(uint32, optional, tag = "6")]
    bytes_max: Option<u32>,
    #[prost(bool, tag = "7")]
    is_char: bool,
    #[prost(bool, tag = "8")]
    nullable: bool,
    #[prost(uint32, tag = "9")]
    position: u32,
}

#[derive(Clone, PartialEq, Message)]
struct OmittedProto {
    #[prost(uint32, tag = "1")]
    position: u32,
    #[prost(message, optional, tag = "2")]
    value: Option<protobuf::ScalarValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CountedProto {
    #[prost(uint32, tag = "1")]
    position: u32,
    #[prost(int64, tag = "2")]
    first: i64,
    #[prost(int64, tag = "3")]
    step: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectProto {
    #[prost(string, tag = "1")]
    location: String,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(int64, tag = "3")]
    modified_us: i64,
    #[prost(string, optional, tag = "4")]
    e_tag: Option<String>,
    #[prost(string, optional, tag = "5")]
    version: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct WorkProto {
    #[prost(uint32, tag = "1")]
    file: u32,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(message, optional, tag = "4")]
    row_group: Option<RowGroupProto>,
}

#[derive(Clone, PartialEq, Message)]
struct RowGroupProto {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    first_row: u64,
    #[prost(uint64, tag = "3")]
    row_count: u64,
}

const FORMAT_DELIMITED: u32 = 1;
const FORMAT_CSV: u32 = 2;
const FORMAT_PARQUET: u32 = 3;
const COMPRESSIONS: [(u32, Compression); 3] =
    [(1, Compression::None), (2, Compression::Gzip), (3, Compression::Zstd)];

impl LoadShare {
    pub(crate) fn to_proto(&self) -> Result<LoadShareProto> {
        let request = &self.request;
        let (format, delimiter, quote) = match request.format {
            Format::Delimited { delimiter } => (FORMAT_DELIMITED, delimiter, 0),
            Format::Csv { delimiter, quote } => (FORMAT_CSV, delimiter, quote),
            Format::Parquet => (FORMAT_PARQUET, 0, 0),
        };
        let compression = COMPRESSIONS.iter().find(|(_, known)| *known == request.compression);
        Ok(LoadShareProto {
            url: request.url.clone(),
            keys: keys(&request.credentials),
            region: request.region.clone(),
            format,
            delimiter: u32::from(delimiter),
            quote: u32::from(quote),
            compression: compression.map_or(0, |(number, _)| *number),
            conversion: Some(conversion(&request.conversion)),
            columns: request.columns.iter().map(target).collect::<Result<_>>()?,
            omitted: request.omitted.iter().map(omitted).collect::<Result<_>>()?,
            schema: Some(request.schema.as_ref().try_into()?),
            objects: self.objects.iter().map(object).collect(),
            work: self.work.iter().map(work).collect::<Result<_>>()?,
            counted: request.counted.iter().map(counted).collect::<Result<_>>()?,
            share: number(self.place.index)?,
            shares: number(self.place.count)?,
        })
    }

    pub(crate) fn from_proto(proto: LoadShareProto) -> Result<Self> {
        let byte = |number: u32| u8::try_from(number).map_err(unreadable);
        let schema: Schema =
            proto.schema.as_ref().ok_or_else(|| missing("the schema of a load"))?.try_into()?;
        let compression = COMPRESSIONS.iter().find(|(number, _)| *number == proto.compression);
        let request = CopyRequest {
            url: proto.url,
            credentials: credentials(proto.keys),
            region: proto.region,
            format: match proto.format {
                FORMAT_DELIMITED => Format::Delimited { delimiter: byte(proto.delimiter)? },
                FORMAT_CSV => {
                    Format::Csv { delimiter: byte(proto.delimiter)?, quote: byte(proto.quote)? }
                }
                FORMAT_PARQUET => Format::Parquet,
                _ => return Err(missing("the format of a load")),
            },
            compression: compression.ok_or_else(|| missing("the compression of a load"))?.1,
            conversion: read_conversion(
                proto.conversion.ok_or_else(|| missing("the conversion of a load"))?,
            )?,
            columns: proto.columns.into_iter().map(read_target).collect::<Result<_>>()?,
            omitted: proto.omitted.iter().map(read_omitted).collect::<Result<_>>()?,
            counted: proto.counted.iter().map(read_counted).collect(),
            schema: Arc::new(schema),
        };
        let objects: Vec<ObjectMeta> =
            proto.objects.into_iter().map(read_object).collect::<Result<_>>()?;
        let work: Vec<Work> = proto.work.iter().map(read_work).collect::<Result<_>>()?;
        if work.iter().any(|item| item.file() >= objects.len()) {
            return Err(missing("an object of a load"));
        }
        let place =
            SharePlace { index: proto.share as usize, count: (proto.shares as usize).max(1) };
        let columns = request.schema.fields().len();
        if request.counted.iter().any(|column| column.position >= columns) {
            return Err(missing("a column that counts"));
        }
        Ok(Self { request: Arc::new(request), objects, work, place })
    }
}

fn keys(credentials: &Credentials) -> Option<KeysProto> {
    match credentials {
        Credentials::Default => None,
        Credentials::Keys { access_key_id, secret_access_key, session_token } => Some(KeysProto {
            access_key_id: access_key_id.clone(),
            secret_access_key: secret_access_key.expose().to_owned(),
            session_token: session_token.as_ref().map(|token| token.expose().to_owned()),
        }),
    }
}

fn credentials(keys: Option<KeysProto>) -> Credentials {
    match keys {
        None => Credentials::Default,
        Some(keys) => Credentials::Keys {
            access_key_id: keys.access_key_id,
            secret_access_key: Secret::new(keys.secret_access_key),
            session_token: keys.session_token.map(Secret::new),
        },
    }
}

fn conversion(conversion: &Conversion) -> ConversionProto {
    ConversionProto {
        ignore_header: conversion.ignore_header as u64,
        null_as: conversion.null_as.clone(),
        date_format: match &conversion.date_format {
            DateFormat::Iso => String::new(),
            DateFormat::Auto => "auto".to_owned(),
            DateFormat::Pattern(pattern) => pattern.text().to_owned(),
        },
        time_format: match &conversion.time_format {
            TimeFormat::Iso => String::new(),
            TimeFormat::Auto => "auto".to_owned(),
            TimeFormat::EpochSeconds => "epochsecs".to_owned(),
            TimeFormat::EpochMillis => "epochmillisecs".to_owned(),
            TimeFormat::Pattern(pattern) => pattern.text().to_owned(),
        },
        empty_as_null: conversion.empty_as_null,
        blanks_as_null: conversion.blanks_as_null,
        truncate_columns: conversion.truncate_columns,
        trim_blanks: conversion.trim_blanks,
        ignore_blank_lines: conversion.ignore_blank_lines,
        fill_record: conversion.fill_record,
        accept_any_date: conversion.accept_any_date,
        round_decimals: conversion.round_decimals,
    }
}

fn read_conversion(proto: ConversionProto) -> Result<Conversion> {
    Ok(Conversion {
        ignore_header: usize::try_from(proto.ignore_header).map_err(unreadable)?,
        null_as: proto.null_as,
        date_format: match proto.date_format.as_str() {
            "" => DateFormat::Iso,
            "auto" => DateFormat::Auto,
            text => DateFormat::Pattern(
                DatePattern::parse(text).ok_or_else(|| missing("the pattern of a date"))?,
            ),
        },
        time_format: match proto.time_format.as_str() {
            "" => TimeFormat::Iso,
            "auto" => TimeFormat::Auto,
            "epochsecs" => TimeFormat::EpochSeconds,
            "epochmillisecs" => TimeFormat::EpochMillis,
            text => TimeFormat::Pattern(
                TimestampPattern::parse(text).ok_or_else(|| missing("the pattern of a time"))?,
            ),
        },
        empty_as_null: proto.empty_as_null,
        blanks_as_null: proto.blanks_as_null,
        truncate_columns: proto.truncate_columns,
        trim_blanks: proto.trim_blanks,
        ignore_blank_lines: proto.ignore_blank_lines,
        fill_record: proto.fill_record,
        accept_any_date: proto.accept_any_date,
        round_decimals: proto.round_decimals,
    })
}

fn target(column: &TargetColumn) -> Result<TargetProto> {
    let (kind, precision, scale) = type_to_numbers(column.column_type)?;
    Ok(TargetProto {
        name: column.name.clone(),
        kind,
        precision,
        scale,
        type_name: column.type_name.clone(),
        bytes_max: column.bytes_max,
        is_char: column.is_char,
        nullable: column.nullable,
        position: number(column.position)?,
    })
}

fn read_target(proto: TargetProto) -> Result<TargetColumn> {
    Ok(TargetColumn {
        name: proto.name,
        column_type: type_from_numbers(proto.kind, proto.precision, proto.scale)?,
        type_name: proto.type_name,
        bytes_max: proto.bytes_max,
        is_char: proto.is_char,
        nullable: proto.nullable,
        position: proto.position as usize,
    })
}

fn omitted(column: &OmittedColumn) -> Result<OmittedProto> {
    let value = Some((&column.value).try_into().map_err(unreadable)?);
    Ok(OmittedProto { position: number(column.position)?, value })
}

fn read_omitted(proto: &OmittedProto) -> Result<OmittedColumn> {
    let value = proto.value.as_ref().ok_or_else(|| missing("the value of a column"))?;
    let value = ScalarValue::try_from(value).map_err(unreadable)?;
    Ok(OmittedColumn { position: proto.position as usize, value })
}

fn counted(column: &CountedColumn) -> Result<CountedProto> {
    let CountedColumn { position, first, step } = *column;
    Ok(CountedProto { position: number(position)?, first, step })
}

fn read_counted(proto: &CountedProto) -> CountedColumn {
    CountedColumn { position: proto.position as usize, first: proto.first, step: proto.step }
}

fn object(object: &ObjectMeta) -> ObjectProto {
    ObjectProto {
        location: object.location.as_ref().to_owned(),
        size: object.size,
        modified_us: object.last_modified.timestamp_micros(),
        e_tag: object.e_tag.clone(),
        version: object.version.clone(),
    }
}

fn read_object(proto: ObjectProto) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: Path::parse(&proto.location).map_err(unreadable)?,
        size: proto.size,
        last_modified: DateTime::from_timestamp_micros(proto.modified_us)
            .ok_or_else(|| missing("the time of an object"))?,
        e_tag: proto.e_tag,
        version: proto.version,
    })
}

fn work(item: &Work) -> Result<WorkProto> {
    let file = number(item.file())?;
    Ok(match item {
        Work::Text { part, .. } => {
            WorkProto { file, start: part.start, end: part.end, row_group: None }
        }
        Work::RowGroup { group, .. } => WorkProto {
            file,
            start: group.range.start,
            end: group.range.end,
            row_group: Some(RowGroupProto {
                index: group.index as u64,
                first_row: group.first_row,
                row_count: group.row_count,
            }),
        },
    })
}

fn read_work(proto: &WorkProto) -> Result<Work> {
    let (file, part) = (proto.file as usize, proto.start..proto.end);
    Ok(match &proto.row_group {
        None => Work::Text { file, part },
        Some(group) => Work::RowGroup {
            file,
            group: RowGroup {
                index: usize::try_from(group.index).map_err(unreadable)?,
                range: part,
                first_row: group.first_row,
                row_count: group.row_count,
            },
        },
    })
}
