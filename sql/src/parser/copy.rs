//! COPY: options in any order, every documented one known by name.
//!
//! String literals come as written between their quotes, so this file undoes doubled quotes and the
//! few backslash escapes that COPY defines itself.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::statement::{
    Authorization, CompUpdate, Compression, Copy, CopyFormat, Secret, Statement,
};

/// Most tolerated errors.
const MAX_ERROR_MAX: u64 = 100_000;

/// Documented options that are not supported.
const UNSUPPORTED: [&str; 21] = [
    "fixedwidth",
    "json",
    "avro",
    "orc",
    "shapefile",
    "bzip2",
    "lzop",
    "encrypted",
    "master_symmetric_key",
    "ssh",
    "readratio",
    "acceptanydate",
    "encoding",
    "roundec",
    "serializetojson",
    "ignoreallerrors",
    "comprows",
    "simplify",
    "kms_key_id",
    "allowoverwrite",
    "maxfilesize",
];

/// Options as they are found; formats are put together at the end.
#[derive(Default)]
struct Options {
    format: Format,
    delimiter: Option<u8>,
    quote: Option<u8>,
    escape: bool,
    remove_quotes: bool,
    iam_role: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    session_token: Option<Secret>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Format {
    #[default]
    Delimited,
    Csv,
    Parquet,
}

/// After COPY.
pub(super) fn copy(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let table = tokens.table_name()?;
    let columns = if tokens.peek_is(&Token::LParen) { tokens.name_list()? } else { Vec::new() };
    tokens.expect_word("from")?;
    if tokens.next_is_word("stdin") {
        return Err(Error::not_supported("COPY FROM STDIN"));
    }
    let source = text(tokens)?;
    let mut copy = Copy {
        table,
        columns,
        source,
        authorization: Authorization::Server,
        region: None,
        format: CopyFormat::Parquet,
        compression: Compression::None,
        manifest: false,
        ignore_header: 0,
        null_as: None,
        date_format: None,
        time_format: None,
        empty_as_null: false,
        blanks_as_null: false,
        truncate_columns: false,
        trim_blanks: false,
        ignore_blank_lines: false,
        fill_record: false,
        explicit_ids: false,
        accept_invalid_characters: None,
        max_error: 0,
        no_load: false,
        compupdate: CompUpdate::Default,
        statupdate: None,
    };
    let mut options = Options::default();
    while !tokens.at_end() {
        if tokens.take(&Token::Comma) {
            continue;
        }
        let word = tokens.word()?;
        let known = format_option(tokens, &word, &mut options)?
            || authorization_option(tokens, &word, &mut options, &mut copy)?
            || flag(&word, &mut copy)
            || conversion_option(tokens, &word, &mut copy)?
            || load_option(tokens, &word, &mut copy)?;
        if !known {
            return Err(unknown(&word, tokens));
        }
    }
    copy.format = options.copy_format()?;
    copy.authorization = options.authorization()?;
    check(&copy)?;
    Ok(Statement::Copy(Box::new(copy)))
}

fn unknown(word: &str, tokens: &Tokens<'_>) -> Error {
    if UNSUPPORTED.contains(&word) {
        Error::not_supported(format!("COPY option {}", word.to_ascii_uppercase()))
    } else {
        tokens.unexpected_previous()
    }
}

fn format_option(tokens: &mut Tokens<'_>, word: &str, options: &mut Options) -> Result<bool> {
    match word {
        // FORMAT [AS] introduces the name of a format.
        "format" => {
            tokens.take_word("as");
        }
        "csv" => {
            options.set_format(Format::Csv)?;
            if tokens.take_word("quote") {
                tokens.take_word("as");
                options.quote = Some(single_byte("QUOTE", &text(tokens)?)?);
            }
        }
        "quote" => {
            tokens.take_word("as");
            options.quote = Some(single_byte("QUOTE", &text(tokens)?)?);
        }
        "parquet" => options.set_format(Format::Parquet)?,
        "delimiter" => {
            tokens.take_word("as");
            options.delimiter = Some(single_byte("DELIMITER", &text(tokens)?)?);
        }
        "escape" => options.escape = true,
        "removequotes" => options.remove_quotes = true,
        _ => return Ok(false),
    }
    Ok(true)
}

fn authorization_option(
    tokens: &mut Tokens<'_>,
    word: &str,
    options: &mut Options,
    copy: &mut Copy,
) -> Result<bool> {
    match word {
        "iam_role" => {
            let role =
                if tokens.take_word("default") { "default".to_owned() } else { text(tokens)? };
            options.iam_role = Some(role);
        }
        "access_key_id" => options.access_key_id = Some(argument(tokens)?),
        "secret_access_key" => options.secret_access_key = Some(Secret::new(argument(tokens)?)),
        "session_token" => options.session_token = Some(Secret::new(argument(tokens)?)),
        "with" => {
            tokens.expect_word("credentials")?;
            options.take_credentials(&argument(tokens)?)?;
        }
        "credentials" => options.take_credentials(&argument(tokens)?)?,
        "region" => copy.region = Some(argument(tokens)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn flag(word: &str, copy: &mut Copy) -> bool {
    match word {
        "gzip" => copy.compression = Compression::Gzip,
        "zstd" => copy.compression = Compression::Zstd,
        "manifest" => copy.manifest = true,
        "emptyasnull" => copy.empty_as_null = true,
        "blanksasnull" => copy.blanks_as_null = true,
        "truncatecolumns" => copy.truncate_columns = true,
        "trimblanks" => copy.trim_blanks = true,
        "ignoreblanklines" => copy.ignore_blank_lines = true,
        "fillrecord" => copy.fill_record = true,
        "explicit_ids" => copy.explicit_ids = true,
        "noload" => copy.no_load = true,
        _ => return false,
    }
    true
}

fn conversion_option(tokens: &mut Tokens<'_>, word: &str, copy: &mut Copy) -> Result<bool> {
    match word {
        "null" => copy.null_as = Some(argument(tokens)?),
        "dateformat" => copy.date_format = Some(argument(tokens)?),
        "timeformat" => copy.time_format = Some(argument(tokens)?),
        "acceptinvchars" => {
            tokens.take_word("as");
            let replacement = if tokens.peek_string() { text(tokens)? } else { "?".to_owned() };
            let mut characters = replacement.chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) if character.is_ascii() && character != '\0' => {
                    copy.accept_invalid_characters = Some(character);
                }
                _ => return Err(invalid("ACCEPTINVCHARS must be a single ASCII character")),
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn load_option(tokens: &mut Tokens<'_>, word: &str, copy: &mut Copy) -> Result<bool> {
    match word {
        "ignoreheader" => {
            tokens.take_word("as");
            copy.ignore_header = tokens.unsigned()?;
        }
        "maxerror" => {
            tokens.take_word("as");
            copy.max_error = tokens.unsigned()?;
            if copy.max_error > MAX_ERROR_MAX {
                return Err(invalid(&format!("MAXERROR must be at most {MAX_ERROR_MAX}")));
            }
        }
        "compupdate" => {
            copy.compupdate = if tokens.take_word("preset") {
                CompUpdate::Preset
            } else {
                match on_or_off(tokens) {
                    Some(false) => CompUpdate::Off,
                    Some(true) | None => CompUpdate::On,
                }
            };
        }
        "statupdate" => copy.statupdate = Some(on_or_off(tokens).unwrap_or(true)),
        _ => return Ok(false),
    }
    Ok(true)
}

fn on_or_off(tokens: &mut Tokens<'_>) -> Option<bool> {
    if tokens.take_word("on") || tokens.take_word("true") {
        Some(true)
    } else if tokens.take_word("off") || tokens.take_word("false") {
        Some(false)
    } else {
        None
    }
}

/// [AS] 'text'
fn argument(tokens: &mut Tokens<'_>) -> Result<String> {
    tokens.take_word("as");
    text(tokens)
}

/// A string as COPY reads it: doubled quotes are one.
fn text(tokens: &mut Tokens<'_>) -> Result<String> {
    Ok(tokens.string()?.replace("''", "'"))
}

/// One ASCII character, possibly written as \t, \n, \\ or octal \ddd.
fn single_byte(option: &str, written: &str) -> Result<u8> {
    let byte = match written.as_bytes() {
        [b'\\', b't'] => Some(b'\t'),
        [b'\\', b'n'] => Some(b'\n'),
        [b'\\', b'\\'] => Some(b'\\'),
        [b'\\', octal @ ..] if (1..=3).contains(&octal.len()) => {
            u8::from_str_radix(&written[1..], 8).ok().filter(u8::is_ascii)
        }
        [byte] if byte.is_ascii() => Some(*byte),
        _ => None,
    };
    match byte {
        Some(byte) if byte != b'\n' && byte != b'\r' => Ok(byte),
        _ => Err(invalid(&format!("COPY {option} must be a single ASCII character"))),
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidParameterValue, message)
}

impl Options {
    fn set_format(&mut self, format: Format) -> Result<()> {
        if self.format != Format::Delimited && self.format != format {
            return Err(Error::syntax("conflicting or redundant COPY formats"));
        }
        self.format = format;
        Ok(())
    }

    /// aws_iam_role=..., or aws_access_key_id=...;aws_secret_access_key=...[;token=...]
    fn take_credentials(&mut self, credentials: &str) -> Result<()> {
        for pair in credentials.split(';').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("aws_iam_role", role)) => self.iam_role = Some(role.to_owned()),
                Some(("aws_access_key_id", id)) => self.access_key_id = Some(id.to_owned()),
                Some(("aws_secret_access_key", secret)) => {
                    self.secret_access_key = Some(Secret::new(secret.to_owned()));
                }
                Some(("token", token)) => {
                    self.session_token = Some(Secret::new(token.to_owned()));
                }
                Some(("master_symmetric_key", _)) => {
                    return Err(Error::not_supported("COPY option MASTER_SYMMETRIC_KEY"));
                }
                _ => return Err(invalid_credentials()),
            }
        }
        Ok(())
    }

    fn authorization(&mut self) -> Result<Authorization> {
        let keys = (self.access_key_id.take(), self.secret_access_key.take());
        match (self.iam_role.take(), keys) {
            (None, (None, None)) if self.session_token.is_none() => Ok(Authorization::Server),
            (Some(role), (None, None)) if self.session_token.is_none() => {
                Ok(Authorization::IamRole(role))
            }
            (None, (Some(access_key_id), Some(secret_access_key))) => Ok(Authorization::Keys {
                access_key_id,
                secret_access_key,
                session_token: self.session_token.take(),
            }),
            _ => Err(invalid_credentials()),
        }
    }

    fn copy_format(&self) -> Result<CopyFormat> {
        let delimited_only = self.escape || self.remove_quotes;
        match self.format {
            Format::Delimited if self.quote.is_some() => {
                Err(Error::syntax("COPY QUOTE is only allowed with CSV"))
            }
            Format::Delimited => Ok(CopyFormat::Delimited {
                delimiter: self.delimiter.unwrap_or(b'|'),
                escape: self.escape,
                remove_quotes: self.remove_quotes,
            }),
            Format::Csv if delimited_only => {
                Err(Error::syntax("CSV is not compatible with ESCAPE or REMOVEQUOTES"))
            }
            Format::Csv => Ok(CopyFormat::Csv {
                delimiter: self.delimiter.unwrap_or(b','),
                quote: self.quote.unwrap_or(b'"'),
            }),
            Format::Parquet
                if delimited_only || self.delimiter.is_some() || self.quote.is_some() =>
            {
                Err(Error::syntax(
                    "PARQUET is not compatible with DELIMITER, QUOTE, ESCAPE or REMOVEQUOTES",
                ))
            }
            Format::Parquet => Ok(CopyFormat::Parquet),
        }
    }
}

fn invalid_credentials() -> Error {
    invalid(
        "Invalid credentials. Must be of the format: credentials 'aws_iam_role=...' or \
         'aws_access_key_id=...;aws_secret_access_key=...[;token=...]'",
    )
}

/// Options that make no sense together.
fn check(copy: &Copy) -> Result<()> {
    if let CopyFormat::Delimited { delimiter, .. } | CopyFormat::Csv { delimiter, .. } = copy.format
    {
        if let CopyFormat::Csv { quote, .. } = copy.format
            && quote == delimiter
        {
            return Err(invalid("COPY DELIMITER and QUOTE must be different"));
        }
        return Ok(());
    }
    let text_only = [
        ("IGNOREHEADER", copy.ignore_header > 0),
        ("NULL AS", copy.null_as.is_some()),
        ("DATEFORMAT", copy.date_format.is_some()),
        ("TIMEFORMAT", copy.time_format.is_some()),
        ("EMPTYASNULL", copy.empty_as_null),
        ("BLANKSASNULL", copy.blanks_as_null),
        ("TRUNCATECOLUMNS", copy.truncate_columns),
        ("TRIMBLANKS", copy.trim_blanks),
        ("IGNOREBLANKLINES", copy.ignore_blank_lines),
        ("MAXERROR", copy.max_error > 0),
        ("GZIP or ZSTD", copy.compression != Compression::None),
    ];
    match text_only.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Error::new(
            ErrorKind::FeatureNotSupported,
            format!("{name} argument is not supported for PARQUET based COPY"),
        )),
        None => Ok(()),
    }
}
