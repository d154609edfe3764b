//! Text to tokens, with Redshift's identifiers: folded to lower case even in double quotes, since
//! `enable_case_sensitive_identifier` is off.

use datafusion::sql::sqlparser::dialect::RedshiftSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Result};

/// Longest identifier, in bytes.
const IDENTIFIER_BYTES_MAX: usize = 127;

/// The dialect that the parser is given.
pub(crate) static DIALECT: RedshiftSqlDialect = RedshiftSqlDialect {};

/// Splits the text into tokens and folds identifiers.
pub(crate) fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>> {
    tokens_of(text, Tokenizer::new(&DIALECT, text))
}

/// As [`tokenize`], with the same tokens at the same places, but strings as written between their
/// quotes.
pub(crate) fn tokenize_raw(text: &str) -> Result<Vec<TokenWithSpan>> {
    tokens_of(text, Tokenizer::new(&DIALECT, text).with_unescape(false))
}

fn tokens_of(text: &str, mut tokenizer: Tokenizer<'_>) -> Result<Vec<TokenWithSpan>> {
    let mut tokens = tokenizer.tokenize_with_location().map_err(|error| {
        let mut syntax = Error::syntax(lower_first(&error.message));
        syntax.position = Some(Positions::new(text).character(error.location));
        syntax
    })?;
    for token in &mut tokens {
        if let Token::Word(word) = &mut token.token {
            word.value = word.value.to_lowercase();
            // As in Redshift a longer name means its first bytes.
            if word.value.len() > IDENTIFIER_BYTES_MAX {
                word.value.truncate(word.value.floor_char_boundary(IDENTIFIER_BYTES_MAX));
            }
        }
    }
    Ok(tokens)
}

fn lower_first(message: &str) -> String {
    let mut characters = message.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// From the tokenizer's line and column (both in characters from 1) to offsets in the text.
pub(crate) struct Positions<'a> {
    text: &'a str,
    /// Byte offset and character offset of the start of each line.
    lines: Vec<(usize, usize)>,
}

impl<'a> Positions<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut lines = vec![(0, 0)];
        let newlines = text.char_indices().enumerate().filter(|(_, (_, c))| *c == '\n');
        lines.extend(newlines.map(|(character, (byte, _))| (byte + 1, character + 1)));
        Self { text, lines }
    }

    /// Byte offset of a location; the end of the text for one outside it.
    pub(crate) fn byte(&self, location: Location) -> usize {
        let Some((line_byte, _)) = self.line(location) else { return self.text.len() };
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let rest = &self.text[line_byte..];
        rest.char_indices().nth(column).map_or(self.text.len(), |(byte, _)| line_byte + byte)
    }

    /// Character position of a location, from 1.
    pub(crate) fn character(&self, location: Location) -> usize {
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
        self.line(location).map_or(1, |(_, line_character)| line_character + column + 1)
    }

    fn line(&self, location: Location) -> Option<(usize, usize)> {
        let line = usize::try_from(location.line.saturating_sub(1)).ok()?;
        self.lines.get(line).copied()
    }
}
