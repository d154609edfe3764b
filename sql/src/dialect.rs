//! Text to tokens, with Redshift's identifiers: folded to lower case even in double quotes, since
//! `enable_case_sensitive_identifier` is off.
//!
//! The grammar is `sqlparser`'s for Redshift, corrected where it differs from what Redshift does:
//! operators bind as in Postgres, a backslash in an ordinary string is a plain character
//! (`standard_conforming_strings` is on), and GROUP BY knows ROLLUP, CUBE and GROUPING SETS.

use datafusion::sql::sqlparser::ast::{Expr, TrimWhereField, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{
    Dialect, PostgreSqlDialect, Precedence, RedshiftSqlDialect,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use std::any::TypeId;

use crate::error::{Error, Result};

/// Longest identifier, in bytes.
const IDENTIFIER_BYTES_MAX: usize = 127;

/// The dialect that the parser is given.
pub(crate) static DIALECT: Redshift = Redshift;

const BASE: RedshiftSqlDialect = RedshiftSqlDialect {};
const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Redshift;

impl Dialect for Redshift {
    /// What the parser asks of a dialect by name it asks of Redshift's.
    fn dialect(&self) -> TypeId {
        BASE.dialect()
    }

    /// Brackets are subscripts, whatever is within; the base takes `[a]` for a name in quotes.
    fn is_nested_delimited_identifier_start(&self, _ch: char) -> bool {
        false
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        BASE.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        BASE.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        BASE.is_reserved_for_identifier(keyword)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    fn get_next_precedence(
        &self,
        parser: &Parser<'_>,
    ) -> Option<std::result::Result<u8, ParserError>> {
        // A colon belongs to PartiQL here.
        match parser.peek_token_ref().token {
            Token::Colon => None,
            _ => POSTGRES.get_next_precedence(parser),
        }
    }

    fn parse_prefix(
        &self,
        parser: &mut Parser<'_>,
    ) -> Option<std::result::Result<Expr, ParserError>> {
        let op = match parser.peek_token_ref().token {
            Token::PGSquareRoot => UnaryOperator::PGSquareRoot,
            Token::PGCubeRoot => UnaryOperator::PGCubeRoot,
            Token::AtSign => UnaryOperator::PGAbs,
            _ => return trim_without_what(parser).or_else(|| approximate(parser)),
        };
        parser.advance_token();
        let operand = parser.parse_subexpr(self.prec_value(Precedence::PgOther));
        Some(operand.map(|expr| Expr::UnaryOp { op, expr: Box::new(expr) }))
    }

    fn convert_type_before_value(&self) -> bool {
        true
    }

    fn supports_connect_by(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_top_before_distinct(&self) -> bool {
        true
    }

    fn supports_partiql(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        false
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_with_alias(&self) -> bool {
        true
    }

    fn supports_select_exclude(&self) -> bool {
        true
    }

    fn supports_create_table_like_parenthesized(&self) -> bool {
        true
    }

    fn supports_string_literal_concatenation_with_newline(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }
}

/// `TRIM(TRAILING FROM string)`, which the parser takes only with the characters to trim.
fn trim_without_what(parser: &mut Parser<'_>) -> Option<std::result::Result<Expr, ParserError>> {
    let keyword = |index: usize| match &parser.peek_nth_token_ref(index).token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    };
    let place = match keyword(2) {
        Some(Keyword::BOTH) => TrimWhereField::Both,
        Some(Keyword::LEADING) => TrimWhereField::Leading,
        Some(Keyword::TRAILING) => TrimWhereField::Trailing,
        _ => return None,
    };
    let is_trim = keyword(0) == Some(Keyword::TRIM)
        && parser.peek_nth_token_ref(1).token == Token::LParen
        && keyword(3) == Some(Keyword::FROM);
    if !is_trim {
        return None;
    }
    (0..4).for_each(|_| parser.advance_token());
    let trimmed = parser.parse_expr().and_then(|expr| {
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Trim {
            expr: Box::new(expr),
            trim_where: Some(place),
            trim_what: None,
            trim_characters: None,
        })
    });
    Some(trimmed)
}

/// `APPROXIMATE COUNT(...)`: the exact answer is an approximation too.
fn approximate(parser: &mut Parser<'_>) -> Option<std::result::Result<Expr, ParserError>> {
    let is_word = |index: usize, expected: &str| {
        matches!(&parser.peek_nth_token_ref(index).token,
            Token::Word(word) if word.quote_style.is_none() && word.value == expected)
    };
    let follows = is_word(0, "approximate")
        && ["count", "percentile_disc"].iter().any(|name| is_word(1, name))
        && parser.peek_nth_token_ref(2).token == Token::LParen;
    if !follows {
        return None;
    }
    parser.advance_token();
    Some(parser.parse_prefix())
}

/// Characters that only names of our own hold: no text can name what they name.
const RESERVED: [char; 2] = ['\u{1e}', '\u{1f}'];

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
        // The parser knows escaped strings in other dialects only.
        if let Token::EscapedStringLiteral(text) = &mut token.token {
            token.token = Token::SingleQuotedString(std::mem::take(text));
        }
        if let Token::Word(word) = &mut token.token {
            if word.value.contains(RESERVED) {
                return Err(Error::syntax("an identifier holds a control character"));
            }
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
