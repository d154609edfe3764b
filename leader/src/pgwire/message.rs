//! Messages of protocol 3: the bodies a client sends, taken apart; the frames a server sends.
//!
//! A body is read with checked steps only: no length from the wire is trusted before it has been
//! compared with the bytes that are really there, and nothing is allocated by a count alone.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::pgwire::backend::TransactionStatus;
use crate::pgwire::report::{Report, sqlstate};

/// Text or binary, chosen per parameter and per column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Binary,
}

/// The format codes of a Bind: none (all text), one for all, or one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formats(Vec<Format>);

impl Formats {
    /// The format of each of `count` values.
    ///
    /// # Errors
    /// 08P01 if there are several codes, but not as many as values.
    pub(crate) fn expand(&self, count: usize, what: &str) -> Result<Vec<Format>, Report> {
        match self.0.as_slice() {
            [] => Ok(vec![Format::Text; count]),
            [format] => Ok(vec![*format; count]),
            formats if formats.len() == count => Ok(formats.to_vec()),
            formats => Err(Report::error(
                sqlstate::PROTOCOL_VIOLATION,
                format!("bind message has {} {what} formats but {count} {what}s", formats.len()),
            )),
        }
    }
}

/// What Describe and Close name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// A message of an authenticated client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrontendMessage {
    Query(String),
    Parse {
        name: String,
        text: String,
        parameter_oids: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    /// `max_rows` below 1 means all rows.
    Execute {
        portal: String,
        max_rows: i32,
    },
    Close(Target),
    Flush,
    Sync,
    FunctionCall,
    Terminate,
    /// Parts of a COPY that is not going on; ignored, as the protocol says.
    CopyPart,
}

/// The body of a Bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) parameter_formats: Formats,
    /// `None` is NULL.
    pub(crate) parameters: Vec<Option<Bytes>>,
    pub(crate) result_formats: Formats,
}

/// Is this a message type a client may send after authentication?
pub(crate) fn is_known(tag: u8) -> bool {
    b"QPBDECHSFXdcf".contains(&tag)
}

/// Message types that may be long: they carry SQL texts or values.
pub(crate) fn may_be_long(tag: u8) -> bool {
    b"QPBdF".contains(&tag)
}

/// Takes a message's body apart.
///
/// # Errors
/// 08P01 if the body is not what its type demands; 22021 if a text is not UTF-8. The frame was
/// whole, so the connection can go on.
pub(crate) fn parse(tag: u8, body: Bytes) -> Result<FrontendMessage, Report> {
    let mut body = Body(body);
    let message = match tag {
        b'Q' => FrontendMessage::Query(body.text()?),
        b'P' => parse_parse(&mut body)?,
        b'B' => FrontendMessage::Bind(parse_bind(&mut body)?),
        b'D' => FrontendMessage::Describe(parse_target(&mut body)?),
        b'E' => FrontendMessage::Execute { portal: body.text()?, max_rows: body.int32()? },
        b'C' => FrontendMessage::Close(parse_target(&mut body)?),
        b'H' => FrontendMessage::Flush,
        b'S' => FrontendMessage::Sync,
        b'X' => FrontendMessage::Terminate,
        b'F' => return Ok(FrontendMessage::FunctionCall),
        // is_known() was asked before the body was read, so only d, c and f remain.
        _ => return Ok(FrontendMessage::CopyPart),
    };
    body.end()?;
    Ok(message)
}

fn parse_parse(body: &mut Body) -> Result<FrontendMessage, Report> {
    let name = body.text()?;
    let text = body.text()?;
    let count = body.count()?;
    let mut parameter_oids = Vec::with_capacity(count.min(body.0.len() / 4));
    for _ in 0..count {
        parameter_oids.push(body.int32()?.cast_unsigned());
    }
    Ok(FrontendMessage::Parse { name, text, parameter_oids })
}

fn parse_bind(body: &mut Body) -> Result<Bind, Report> {
    let portal = body.text()?;
    let statement = body.text()?;
    let parameter_formats = body.formats()?;
    let count = body.count()?;
    let mut parameters = Vec::with_capacity(count.min(body.0.len() / 4));
    for _ in 0..count {
        let length = body.int32()?;
        parameters.push(match usize::try_from(length) {
            Ok(length) => Some(body.bytes(length)?),
            Err(_) if length == -1 => None,
            Err(_) => return Err(invalid_format()),
        });
    }
    let result_formats = body.formats()?;
    Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
}

fn parse_target(body: &mut Body) -> Result<Target, Report> {
    match body.bytes(1)?[0] {
        b'S' => Ok(Target::Statement(body.text()?)),
        b'P' => Ok(Target::Portal(body.text()?)),
        kind => Err(Report::error(
            sqlstate::PROTOCOL_VIOLATION,
            format!("invalid subtype {kind} of a describe or close message"),
        )),
    }
}

/// The unread rest of a message's body.
pub(crate) struct Body(pub(crate) Bytes);

impl Body {
    /// A text that ends with a zero byte.
    pub(crate) fn text(&mut self) -> Result<String, Report> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(invalid_format)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(invalid_utf8(&text, error.valid_up_to())),
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<Bytes, Report> {
        if count > self.0.len() {
            return Err(invalid_format());
        }
        Ok(self.0.split_to(count))
    }

    pub(crate) fn int32(&mut self) -> Result<i32, Report> {
        self.0.try_get_i32().map_err(|_| invalid_format())
    }

    /// An unsigned count of 16 bits.
    fn count(&mut self) -> Result<usize, Report> {
        self.0.try_get_u16().map(usize::from).map_err(|_| invalid_format())
    }

    fn formats(&mut self) -> Result<Formats, Report> {
        let count = self.count()?;
        let mut formats = Vec::with_capacity(count.min(self.0.len() / 2));
        for _ in 0..count {
            formats.push(match self.0.try_get_i16() {
                Ok(0) => Format::Text,
                Ok(1) => Format::Binary,
                Ok(code) => {
                    return Err(Report::error(
                        sqlstate::PROTOCOL_VIOLATION,
                        format!("unsupported format code: {code}"),
                    ));
                }
                Err(_) => return Err(invalid_format()),
            });
        }
        Ok(Formats(formats))
    }

    fn end(&self) -> Result<(), Report> {
        if self.0.is_empty() { Ok(()) } else { Err(invalid_format()) }
    }
}

fn invalid_format() -> Report {
    Report::error(sqlstate::PROTOCOL_VIOLATION, "invalid message format")
}

/// The error for bytes that are not UTF-8.
pub(crate) fn invalid_utf8(bytes: &[u8], valid_up_to: usize) -> Report {
    let shown: Vec<String> =
        bytes[valid_up_to..].iter().take(4).map(|byte| format!("0x{byte:02x}")).collect();
    Report::error(
        sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
        format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
    )
}

/// Appends one message: its type, its length, its body.
pub(crate) fn frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_i32(0);
    body(out);
    // All messages built here are short; rows, which may be long, check their own length.
    let length = i32::try_from(out.len() - start).expect("a control message is below 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a text and its zero byte. A zero byte inside would end it early, so it becomes a space.
pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    for part in text.split_inclusive('\0') {
        match part.strip_suffix('\0') {
            Some(part) => {
                out.put_slice(part.as_bytes());
                out.put_u8(b' ');
            }
            None => out.put_slice(part.as_bytes()),
        }
    }
    out.put_u8(0);
}

/// Appends an ErrorResponse or a NoticeResponse.
pub(crate) fn put_report(out: &mut BytesMut, report: &Report) {
    use crate::pgwire::report::Severity;
    let tag = match report.severity {
        Severity::Fatal | Severity::Error => b'E',
        Severity::Warning | Severity::Notice | Severity::Info => b'N',
    };
    frame(out, tag, |out| {
        let mut field = |code: u8, text: &str| {
            out.put_u8(code);
            put_text(out, text);
        };
        field(b'S', report.severity.as_str());
        field(b'V', report.severity.as_str());
        field(b'C', &report.sqlstate);
        field(b'M', &report.message);
        let position = report.position.map(|position| position.to_string());
        let optional = [
            (b'D', &report.detail),
            (b'H', &report.hint),
            (b'P', &position),
            (b'W', &report.context),
        ];
        for (code, text) in optional {
            if let Some(text) = text {
                field(code, text);
            }
        }
        out.put_u8(0);
    });
}

/// Appends a ReadyForQuery.
pub(crate) fn put_ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    frame(out, b'Z', |out| {
        out.put_u8(match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InBlock => b'T',
            TransactionStatus::Failed => b'E',
        });
    });
}

/// Appends a ParameterStatus.
pub(crate) fn put_parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    frame(out, b'S', |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// Appends a CommandComplete.
pub(crate) fn put_command_complete(out: &mut BytesMut, tag: &str) {
    frame(out, b'C', |out| put_text(out, tag));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_without_bytes_behind_them_are_refused() {
        let bodies: [(u8, &[u8]); 8] = [
            (b'Q', b"select 1"),
            (b'P', b"a\0b\0\xff\xff"),
            (b'B', b"\0\0\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe"),
            (b'D', b"S"),
            (b'E', b"\0\0\0"),
            (b'S', b"x"),
        ];
        for (tag, body) in bodies {
            let result = parse(tag, Bytes::from_static(body));
            assert_eq!(result.unwrap_err().sqlstate, "08P01", "{body:?}");
        }
    }

    #[test]
    fn a_whole_bind_is_understood() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x02\0\0\0\x01";
        let bind = Bind {
            portal: "p".to_owned(),
            statement: "s".to_owned(),
            parameter_formats: Formats(vec![Format::Binary]),
            parameters: vec![Some(Bytes::from_static(b"x")), None],
            result_formats: Formats(vec![Format::Text, Format::Binary]),
        };
        assert_eq!(parse(b'B', Bytes::from_static(body)), Ok(FrontendMessage::Bind(bind)));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let result = parse(b'Q', Bytes::from_static(b"select '\xff'\0"));
        assert_eq!(result.unwrap_err().sqlstate, "22021");
    }

    #[test]
    fn a_zero_byte_cannot_end_a_text_early() {
        let mut out = BytesMut::new();
        put_text(&mut out, "a\0b");
        assert_eq!(&out[..], b"a b\0");
    }
}
