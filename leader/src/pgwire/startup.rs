//! From an accepted socket to an authenticated client.
//!
//! ```text
//!   accepted -> [GSSENCRequest: 'N'] [SSLRequest: 'S' or 'N'] -> CancelRequest: done
//!            -> StartupMessage -> SCRAM-SHA-256 -> AuthenticationOk -> [`Authenticated`]
//! ```
//!
//! Everything here fails closed: any error is FATAL and ends the connection, and the only way out
//! to the handlers of queries is a value of [`Authenticated`], which nothing else can make. Packets
//! are read byte for byte up to the startup message, so no plaintext can be carried into TLS.

use std::collections::BTreeMap;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::authentication::{SCRAM_SHA_256, ScramExchange, ScramVerifier};
use crate::pgwire::message::{self, Body};
use crate::pgwire::report::{Report, sqlstate};
use crate::pgwire::transport::{ReadError, Reader, Writer};

const PROTOCOL_3: i32 = 3 << 16;
const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
/// A startup packet, as in Postgres.
const PACKET_BYTES_MAX: usize = 10_000;

/// A connection as a pair of directions.
pub(crate) struct Streams {
    pub(crate) source: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) sink: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) tls: bool,
}

/// What a client came for.
pub(crate) enum Opening {
    /// A session.
    Session { packet: Packet, streams: Streams },
    /// To cancel the statement of another connection.
    Cancel { process_id: i32, secret: u32 },
}

/// A StartupMessage, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Options of the protocol itself that we do not know (`_pq_...`).
    unknown_options: Vec<String>,
    /// The client asked for a newer minor version of the protocol than 0.
    newer_minor: bool,
}

/// Why no session came about.
#[derive(Debug)]
pub(crate) enum StartupError {
    /// Nobody to tell.
    Gone,
    /// The client is told, then the connection ends. Always FATAL.
    Refused(Report),
}

impl From<io::Error> for StartupError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<Report> for StartupError {
    fn from(report: Report) -> Self {
        Self::Refused(report.into_fatal())
    }
}

impl From<ReadError> for StartupError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Gone,
            ReadError::Protocol(report) => report.into(),
        }
    }
}

/// The proof that the client of this connection has shown its password. Only
/// [`authenticate`] makes one, and every handler of queries is a method of a type that holds one.
#[derive(Debug)]
pub(crate) struct Authenticated {
    user: String,
}

impl Authenticated {
    /// The user's name; never empty.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

/// Speaks the part of the protocol that comes before a session. An error in it is sent from here,
/// since only here the stream is at hand.
pub(crate) async fn open(
    mut stream: TcpStream,
    tls: Option<&TlsAcceptor>,
) -> Result<Opening, StartupError> {
    let (mut ssl_seen, mut gss_seen) = (false, false);
    loop {
        let packet = read_packet(&mut stream).await;
        let (code, body) = told(&mut stream, packet).await?;
        match code {
            SSL_REQUEST if !ssl_seen => {
                ssl_seen = true;
                if let Some(acceptor) = tls {
                    let plaintext = refuse_buffered_plaintext(&stream);
                    told(&mut stream, plaintext).await?;
                    stream.write_all(b"S").await?;
                    return open_over_tls(acceptor.accept(stream).await?).await;
                }
                stream.write_all(b"N").await?;
            }
            GSSENC_REQUEST if !gss_seen => {
                gss_seen = true;
                stream.write_all(b"N").await?;
            }
            _ => {
                let opening = parse_opening(code, body);
                let opening = told(&mut stream, opening).await?;
                return Ok(opening.with(|| {
                    let (source, sink) = stream.into_split();
                    Streams { source: Box::new(source), sink: Box::new(sink), tls: false }
                }));
            }
        }
    }
}

async fn open_over_tls(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
) -> Result<Opening, StartupError> {
    let packet = read_packet(&mut stream).await;
    let (code, body) = told(&mut stream, packet).await?;
    let opening = parse_opening(code, body);
    let opening = told(&mut stream, opening).await?;
    Ok(opening.with(|| {
        let (source, sink) = tokio::io::split(stream);
        Streams { source: Box::new(source), sink: Box::new(sink), tls: true }
    }))
}

/// Sends a refusal to the client before passing it on.
async fn told<T>(
    stream: &mut (impl AsyncWrite + Unpin),
    result: Result<T, StartupError>,
) -> Result<T, StartupError> {
    if let Err(StartupError::Refused(report)) = &result {
        let mut out = BytesMut::new();
        message::put_report(&mut out, report);
        stream.write_all(&out).await?;
        stream.shutdown().await?;
    }
    result
}

/// Bytes that came along with an SSLRequest could be an attacker's, to be taken for the client's
/// after the handshake (CVE-2021-23214).
fn refuse_buffered_plaintext(stream: &TcpStream) -> Result<(), StartupError> {
    match stream.try_read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
        Ok(0) => Err(StartupError::Gone),
        Ok(_) => Err(protocol_error("received unencrypted data after SSL request").into()),
    }
}

async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<(i32, Bytes), StartupError> {
    let length = stream.read_i32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(8..=PACKET_BYTES_MAX).contains(&length) {
        return Err(protocol_error("invalid length of startup packet").into());
    }
    let code = stream.read_i32().await?;
    let mut body = vec![0; length - 8];
    stream.read_exact(&mut body).await?;
    Ok((code, Bytes::from(body)))
}

/// What [`Opening`] will be, before the stream is split.
enum Request {
    Session(Packet),
    Cancel { process_id: i32, secret: u32 },
}

impl Request {
    fn with(self, streams: impl FnOnce() -> Streams) -> Opening {
        match self {
            Self::Session(packet) => Opening::Session { packet, streams: streams() },
            Self::Cancel { process_id, secret } => Opening::Cancel { process_id, secret },
        }
    }
}

fn parse_opening(code: i32, body: Bytes) -> Result<Request, StartupError> {
    match code {
        CANCEL_REQUEST => {
            let mut body = Body(body);
            let (process_id, secret) = (body.int32()?, body.int32()?.cast_unsigned());
            Ok(Request::Cancel { process_id, secret })
        }
        SSL_REQUEST | GSSENC_REQUEST => {
            Err(protocol_error("encryption was requested more than once").into())
        }
        code if code >> 16 == PROTOCOL_3 >> 16 => Ok(Request::Session(parse_packet(code, body)?)),
        code => Err(Report::fatal(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
                code >> 16,
                code & 0xffff
            ),
        )
        .into()),
    }
}

fn parse_packet(code: i32, body: Bytes) -> Result<Packet, Report> {
    let mut body = Body(body);
    let mut packet = Packet { newer_minor: code != PROTOCOL_3, ..Packet::default() };
    loop {
        let name = body.text()?;
        if name.is_empty() {
            break;
        }
        let value = body.text()?;
        match name.starts_with("_pq_.") {
            true => packet.unknown_options.push(name),
            false => {
                packet.parameters.insert(name.to_ascii_lowercase(), value);
            }
        }
    }
    if !body.0.is_empty() {
        return Err(protocol_error(
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    if let Some(options) = packet.parameters.remove("options") {
        // A parameter of the packet itself wins over the same one in the options.
        for (name, value) in parse_options(&options)? {
            packet.parameters.entry(name).or_insert(value);
        }
    }
    if packet.parameters.get("user").is_none_or(String::is_empty) {
        return Err(Report::fatal(
            sqlstate::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if let Some(replication) = packet.parameters.get("replication")
        && !["false", "off", "no", "0"].contains(&replication.as_str())
    {
        return Err(Report::fatal(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "replication connections are not supported",
        ));
    }
    Ok(packet)
}

/// Takes `-c name=value`, `-cname=value` and `--name=value` apart; a backslash keeps the next
/// character.
fn parse_options(text: &str) -> Result<Vec<(String, String)>, Report> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().expect("there is always a word");
        match character {
            '\\' => word.extend(characters.next()),
            character if character.is_ascii_whitespace() => words.push(String::new()),
            character => word.push(character),
        }
    }
    let invalid = || {
        Report::fatal(sqlstate::SYNTAX_ERROR, "invalid command-line argument for server process")
            .with_hint("Options are given as -c name=value.")
    };
    let mut options = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().ok_or_else(invalid)?,
            Some(setting) => setting.to_owned(),
            None => return Err(invalid()),
        };
        let (name, value) = setting.split_once('=').ok_or_else(invalid)?;
        options.push((name.to_ascii_lowercase().replace('-', "_"), value.to_owned()));
    }
    Ok(options)
}

/// Answers a request for a newer protocol than ours with what we speak.
pub(crate) fn put_negotiation(out: &mut BytesMut, packet: &Packet) {
    if !packet.newer_minor && packet.unknown_options.is_empty() {
        return;
    }
    message::frame(out, b'v', |out| {
        out.put_i32(PROTOCOL_3);
        // A startup packet has less than 10,000 bytes, so its options can be counted in 32 bits.
        out.put_i32(i32::try_from(packet.unknown_options.len()).unwrap_or(0));
        for option in &packet.unknown_options {
            message::put_text(out, option);
        }
    });
}

/// Runs the SCRAM exchange and sends AuthenticationOk.
///
/// # Errors
/// Whatever goes wrong is FATAL; the caller sends the report and closes.
pub(crate) async fn authenticate(
    user: &str,
    verifier: Option<ScramVerifier>,
    secrets: &Secrets<'_>,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Authenticated, StartupError> {
    message::frame(&mut writer.buffer, b'R', |out| {
        out.put_i32(10);
        message::put_text(out, SCRAM_SHA_256);
        out.put_u8(0);
    });
    writer.flush().await?;
    let initial = reader.authentication_message().await?;
    let client_first = parse_initial_response(initial)?;
    let (exchange, challenge) =
        ScramExchange::start(user, verifier, secrets.mock, &client_first, secrets.random)?;
    message::frame(&mut writer.buffer, b'R', |out| {
        out.put_i32(11);
        out.put_slice(challenge.as_bytes());
    });
    writer.flush().await?;
    let client_final = reader.authentication_message().await?;
    let proof = exchange.finish(&client_final)?;
    message::frame(&mut writer.buffer, b'R', |out| {
        out.put_i32(12);
        out.put_slice(proof.as_bytes());
    });
    message::frame(&mut writer.buffer, b'R', |out| out.put_i32(0));
    Ok(Authenticated { user: user.to_owned() })
}

/// What an exchange needs that no client may know.
pub(crate) struct Secrets<'a> {
    /// From which mock verifiers are derived.
    pub(crate) mock: &'a [u8; 32],
    pub(crate) random: &'a ring::rand::SystemRandom,
}

/// The mechanism's name and the first message of it.
fn parse_initial_response(body: Bytes) -> Result<Bytes, Report> {
    let mut body = Body(body);
    let mechanism = body.text()?;
    if mechanism != SCRAM_SHA_256 {
        return Err(protocol_error("client selected an invalid SASL authentication mechanism"));
    }
    let length = usize::try_from(body.int32()?)
        .map_err(|_| protocol_error("the SASL mechanism needs an initial response"))?;
    if length != body.0.len() {
        return Err(protocol_error("invalid message format"));
    }
    body.bytes(length)
}

fn protocol_error(message: &str) -> Report {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: &'static [u8]) -> Result<Packet, Report> {
        parse_packet(PROTOCOL_3, Bytes::from_static(body))
    }

    #[test]
    fn parameters_and_options_are_merged() {
        let body = b"user\0u\0TimeZone\0UTC\0options\0-c timezone=CET --a-b=c\\ d -cx=1\0\0";
        let parameters = packet(body).unwrap().parameters;
        let expected = [("a_b", "c d"), ("timezone", "UTC"), ("user", "u"), ("x", "1")];
        assert!(
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected),
            "{parameters:?}"
        );
    }

    #[test]
    fn malformed_packets_are_refused() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "08P01"),
            (b"user", "08P01"),
            (b"user\0u\0", "08P01"),
            (b"user\0u\0\0x", "08P01"),
            (b"database\0d\0\0", "28000"),
            (b"user\0u\0options\0nonsense\0\0", "42601"),
            (b"user\0u\0replication\0database\0\0", "0A000"),
        ];
        for (body, code) in cases {
            assert_eq!(packet(body).unwrap_err().sqlstate, code, "{body:?}");
        }
    }

    #[test]
    fn unknown_protocol_options_are_negotiated_away() {
        let packet = packet(b"user\0u\0_pq_.compression\0zstd\0\0").unwrap();
        let mut out = BytesMut::new();
        put_negotiation(&mut out, &packet);
        assert_eq!(&out[..], b"v\0\0\0\x1d\0\x03\0\0\0\0\0\x01_pq_.compression\0");
    }
}
