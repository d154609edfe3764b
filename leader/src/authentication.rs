//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, over stored verifiers.
//!
//! The server never sees nor stores a password: it keeps a [`ScramVerifier`], from which a client's
//! proof can be checked but a password cannot be had. An unknown user goes through the very same
//! exchange against a mock verifier, so that neither messages nor timing tell which users exist.
//! What is compared with a secret is compared in constant time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2};

use crate::pgwire::report::{Report, sqlstate};

/// The only mechanism offered.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// Rounds of PBKDF2 in new verifiers, as in Postgres; the work is the client's.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 18;
const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// What is stored of a password. Its text form is that of Postgres' `pg_authid.rolpassword`:
/// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl ScramVerifier {
    /// Derives the verifier of a password, with a fresh salt. Takes about a millisecond.
    ///
    /// # Errors
    /// If the source of randomness fails.
    pub fn from_password(
        password: &str,
        random: &dyn SecureRandom,
    ) -> Result<Self, AuthenticationError> {
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt).map_err(|_| AuthenticationError::Random)?;
        Ok(Self::derive(password, &salt, ITERATIONS))
    }

    fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // A password that SASLprep refuses is used as it is, on both sides: so does Postgres.
        let prepared = stringprep::saslprep(password);
        let prepared = prepared.as_deref().unwrap_or(password);
        let mut salted = [0; KEY_BYTES];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, salt, prepared.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: hash(&client_key),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// The verifier that stands in for a user who does not exist: the same salt each time for the
    /// same name, and keys that no password has.
    fn mock(user: &str, mock_secret: &[u8; 32]) -> Self {
        let derived = |purpose: &[u8]| sign(mock_secret, &[purpose, user.as_bytes()].concat());
        Self {
            iterations: ITERATIONS,
            salt: derived(b"salt:")[..SALT_BYTES].to_vec(),
            stored_key: derived(b"stored key:"),
            server_key: derived(b"server key:"),
        }
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCRAM_SHA_256}${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        )
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The server key would let a thief of logs play the server.
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl FromStr for ScramVerifier {
    type Err = AuthenticationError;

    fn from_str(text: &str) -> Result<Self, AuthenticationError> {
        let parse = || {
            let rest = text.strip_prefix(SCRAM_SHA_256)?.strip_prefix('$')?;
            let (cost, keys) = rest.split_once('$')?;
            let (iterations, salt) = cost.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            Some(Self {
                iterations: iterations.parse().ok()?,
                salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?,
                stored_key: BASE64.decode(stored_key).ok()?.try_into().ok()?,
                server_key: BASE64.decode(server_key).ok()?.try_into().ok()?,
            })
        };
        parse().ok_or(AuthenticationError::MalformedVerifier)
    }
}

/// Why a verifier could not be made or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthenticationError {
    /// The operating system gave no random bytes.
    #[error("no random bytes to be had")]
    Random,
    /// A stored verifier is not in the form this server writes; the catalog is damaged.
    #[error("the stored verifier is malformed")]
    MalformedVerifier,
}

/// One exchange: first message in, challenge out, then final message in, verdict out.
pub(crate) struct ScramExchange {
    user: String,
    verifier: ScramVerifier,
    /// There is no such user: whatever the client proves, the answer is no.
    is_mock: bool,
    gs2_header: String,
    nonce: String,
    /// The client's first message without the header, a comma, our challenge.
    transcript: String,
}

impl ScramExchange {
    /// Reads the client's first message. Returns the exchange and the challenge to send.
    ///
    /// # Errors
    /// A FATAL report if the message is malformed or wants what is not offered.
    pub(crate) fn start(
        user: &str,
        verifier: Option<ScramVerifier>,
        mock_secret: &[u8; 32],
        client_first: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<(Self, String), Report> {
        let text = std::str::from_utf8(client_first).map_err(|_| malformed("it is not UTF-8"))?;
        let (flag, rest) = text.split_once(',').ok_or_else(|| malformed("no header"))?;
        if flag != "n" && flag != "y" {
            return Err(malformed("channel binding was not offered"));
        }
        let (authorization, bare) = rest.split_once(',').ok_or_else(|| malformed("no header"))?;
        if !authorization.is_empty() {
            return Err(malformed("an authorization identity is not supported"));
        }
        let client_nonce = client_nonce(bare)?;
        let mut fresh = [0; NONCE_BYTES];
        random.fill(&mut fresh).map_err(|_| {
            Report::fatal(sqlstate::INTERNAL_ERROR, "could not generate a random nonce")
        })?;
        let nonce = format!("{client_nonce}{}", BASE64.encode(fresh));
        let is_mock = verifier.is_none();
        let verifier = verifier.unwrap_or_else(|| ScramVerifier::mock(user, mock_secret));
        let challenge =
            format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let exchange = Self {
            user: user.to_owned(),
            verifier,
            is_mock,
            gs2_header: format!("{flag},,"),
            nonce,
            transcript: format!("{bare},{challenge}"),
        };
        Ok((exchange, challenge))
    }

    /// Checks the client's final message. Returns our own proof, to be sent with the acceptance.
    ///
    /// # Errors
    /// A FATAL report: malformed (08P01) or wrong (28P01).
    pub(crate) fn finish(self, client_final: &[u8]) -> Result<String, Report> {
        let text = std::str::from_utf8(client_final).map_err(|_| malformed("it is not UTF-8"))?;
        let (unproved, proof) = text.rsplit_once(",p=").ok_or_else(|| malformed("no proof"))?;
        let mut attributes = unproved.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        if binding != Some(BASE64.encode(&self.gs2_header).as_str()) {
            return Err(malformed("the channel binding does not match"));
        }
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        if nonce != Some(self.nonce.as_str()) {
            return Err(malformed("the nonce does not match"));
        }
        let proof: [u8; KEY_BYTES] = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or_else(|| malformed("the proof is malformed"))?;
        let message = format!("{},{unproved}", self.transcript);
        let mut client_key = sign(&self.verifier.stored_key, message.as_bytes());
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let proved = equal_in_constant_time(&hash(&client_key), &self.verifier.stored_key);
        if self.is_mock || !proved {
            return Err(Report::fatal(
                sqlstate::INVALID_PASSWORD,
                format!("password authentication failed for user \"{}\"", self.user),
            ));
        }
        let signature = sign(&self.verifier.server_key, message.as_bytes());
        Ok(format!("v={}", BASE64.encode(signature)))
    }
}

/// The nonce of `n=<ignored>,r=<nonce>[,extensions]`. The user's name is that of the startup
/// packet, as in Postgres.
fn client_nonce(bare: &str) -> Result<&str, Report> {
    let mut attributes = bare.split(',');
    if !attributes.next().is_some_and(|attribute| attribute.starts_with("n=")) {
        return Err(malformed("no user name, or an extension that is not supported"));
    }
    attributes
        .next()
        .and_then(|attribute| attribute.strip_prefix("r="))
        .filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| malformed("no nonce"))
}

fn malformed(detail: &str) -> Report {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "malformed SCRAM message")
        .with_detail(format!("The message was refused: {detail}."))
}

fn sign(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("an HMAC-SHA-256 tag has 32 bytes")
}

fn hash(message: &[u8]) -> [u8; KEY_BYTES] {
    let value = digest::digest(&digest::SHA256, message);
    value.as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

fn equal_in_constant_time(left: &[u8; KEY_BYTES], right: &[u8; KEY_BYTES]) -> bool {
    // No early exit: the time taken must not tell how many bytes are right.
    let difference = left.iter().zip(right).fold(0, |seen, (left, right)| seen | (left ^ right));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive("pencil", &salt, ITERATIONS);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let exchange = ScramExchange {
            user: "user".to_owned(),
            verifier,
            is_mock: false,
            gs2_header: "n,,".to_owned(),
            nonce: nonce.to_owned(),
            transcript: format!(
                "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
            ),
        };
        let message = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(
            exchange.finish(message.as_bytes()).unwrap(),
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn a_verifier_survives_its_text_form() {
        let verifier = ScramVerifier::from_password("pa ss", &SystemRandom::new()).unwrap();
        assert_eq!(verifier.to_string().parse(), Ok(verifier.clone()));
        assert!(!format!("{verifier:?}").contains(&BASE64.encode(verifier.server_key)));
        for damaged in ["", "md5abc", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$4096:$:"] {
            assert_eq!(
                damaged.parse::<ScramVerifier>(),
                Err(AuthenticationError::MalformedVerifier),
                "{damaged}"
            );
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let random = SystemRandom::new();
        for first in
            ["", "n", "n,,", "n,,r=x", "p=tls-unique,,n=,r=x", "n,a=x,n=,r=x", "n,,n=,r=", "n,,m=1"]
        {
            let result = ScramExchange::start("u", None, &[7; 32], first.as_bytes(), &random);
            assert_eq!(result.err().unwrap().sqlstate, "08P01", "{first}");
        }
    }

    #[test]
    fn an_unknown_user_sees_a_stable_salt() {
        let random = SystemRandom::new();
        let challenge = |user| {
            let start = ScramExchange::start(user, None, &[7; 32], b"n,,n=,r=x", &random);
            start.unwrap().1.split_once(",s=").unwrap().1.to_owned()
        };
        assert_eq!(challenge("nobody"), challenge("nobody"));
        assert_ne!(challenge("nobody"), challenge("noone"));
    }
}
