//! The protocol by hand, byte for byte, for what no driver would ever send.
//! Message layouts are those of the PostgreSQL manual, chapter "Message Formats".

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use crate::support::cluster::Address;

/// One message of the server.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse: `C` code, `M` message, `S` severity.
    pub(crate) fn field(&self, name: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        let text = fields.find(|field| field.first() == Some(&name))?;
        Some(String::from_utf8_lossy(&text[1..]).into_owned())
    }
}

/// A connection whose bytes the test writes itself.
pub(crate) struct Raw {
    socket: TcpStream,
}

impl Raw {
    pub(crate) fn open(address: &Address) -> Raw {
        Raw { socket: address.socket() }
    }

    /// A connection that has logged in and read everything up to the first ReadyForQuery.
    pub(crate) fn logged_in(address: &Address) -> Raw {
        let mut raw = Raw::open(address);
        raw.send(&startup(&address.user, &address.database));
        raw.answer_password_challenge(&address.password, &[]);
        raw.read_until(b'Z');
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Writes as far as the server lets us; true when everything was taken.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    pub(crate) fn finish_sending(&mut self) {
        // The server may have closed already.
        let _closed = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// The next message, or None when the server has closed the connection.
    pub(crate) fn read(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        if !self.fill(&mut head) {
            return None;
        }
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.fill(&mut body).then_some(Message { tag: head[0], body })
    }

    /// One byte, as the answer to an SSLRequest.
    pub(crate) fn read_byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.fill(&mut byte).then_some(byte[0])
    }

    /// All messages up to and including the first with the tag.
    pub(crate) fn read_until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.read().unwrap_or_else(|| {
                panic!("closed before message {:?}; got {messages:?}", tag as char)
            });
            messages.push(message);
            if messages.last().unwrap().tag == tag {
                return messages;
            }
        }
    }

    /// All messages until the server closes; fails if it does not close in time.
    pub(crate) fn read_until_closed(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.read() {
            messages.push(message);
        }
        messages
    }

    /// Plays the client's part of SCRAM-SHA-256; `pipelined` goes out in the same packet as the
    /// proof, before its answer is known. Ends after the proof has been sent.
    pub(crate) fn answer_password_challenge(&mut self, password: &str, pipelined: &[u8]) {
        let request = self.read().expect("an authentication request");
        assert_eq!((request.tag, &request.body[..4]), (b'R', &[0, 0, 0, 10][..]), "{request:?}");
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut first = SCRAM_SHA_256.as_bytes().to_vec();
        first.push(0);
        first.extend(u32::try_from(scram.message().len()).unwrap().to_be_bytes());
        first.extend(scram.message());
        self.send(&message(b'p', &first));
        let challenge = self.read().expect("a challenge");
        assert_eq!((challenge.tag, &challenge.body[..4]), (b'R', &[0, 0, 0, 11][..]));
        scram.update(&challenge.body[4..]).unwrap();
        let mut bytes = message(b'p', scram.message());
        bytes.extend(pipelined);
        self.send(&bytes);
    }

    /// Fills the buffer; false at the end of the stream. A read that takes too long panics: the
    /// server then neither answers nor closes.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        match self.socket.read_exact(buffer) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server neither answered nor closed the connection")
            }
            Err(_closed) => false,
        }
    }
}

/// A tagged message with its length.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A message whose length field is a lie.
pub(crate) fn message_claiming(tag: u8, length: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// StartupMessage of protocol 3.0.
pub(crate) fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, ""] {
        body.extend(text.as_bytes());
        body.push(0);
    }
    let mut bytes = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// SSLRequest.
pub(crate) fn ssl_request() -> Vec<u8> {
    [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(sql))
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut body = text(name);
    body.extend(text(sql));
    body.extend(0_u16.to_be_bytes());
    message(b'P', &body)
}

/// Binds without parameters, results as text.
pub(crate) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    let mut body = text(portal);
    body.extend(text(statement));
    body.extend([0; 6]);
    message(b'B', &body)
}

pub(crate) fn execute(portal: &str, rows_max: i32) -> Vec<u8> {
    let mut body = text(portal);
    body.extend(rows_max.to_be_bytes());
    message(b'E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
