//! A reader over the tokens of one statement: `sqlparser`'s parser with words instead of its
//! keyword table, since many words of Redshift are not in it.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::{DIALECT, Positions};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::statement::TableName;
use crate::types::SqlType;

/// The tokens that are left.
pub(super) struct Tokens<'a> {
    parser: Parser<'a>,
}

impl Tokens<'_> {
    pub(super) fn new(mut tokens: Vec<TokenWithSpan>, limits: &Limits) -> Self {
        tokens.retain(|token| token.token != Token::EOF);
        // The shape was checked before; each level of nesting takes several levels of the parser.
        let recursion_limit = limits.nesting_max.saturating_mul(4).saturating_add(64);
        let parser = Parser::new(&DIALECT)
            .with_recursion_limit(recursion_limit)
            .with_tokens_with_locations(tokens);
        Self { parser }
    }

    /// Adds to an error where it happened.
    pub(super) fn locate(&self, mut error: Error, positions: &Positions<'_>) -> Error {
        if error.kind == ErrorKind::Syntax && error.position.is_none() {
            let token = self.parser.peek_token_ref();
            if token.token != Token::EOF {
                error.position = Some(positions.character(token.span.start));
            }
        }
        error
    }

    /// The error for the next token.
    pub(super) fn unexpected(&self) -> Error {
        near(&self.parser.peek_token_ref().token)
    }

    /// The error for the token that was just taken.
    pub(super) fn unexpected_previous(&self) -> Error {
        near(&self.parser.get_current_token().token)
    }

    fn convert(&self, error: ParserError) -> Error {
        match error {
            ParserError::RecursionLimitExceeded => {
                Error::new(ErrorKind::StatementTooComplex, "stack depth limit exceeded")
            }
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                self.unexpected().with_detail(message)
            }
        }
    }

    /// Fails unless all tokens were taken.
    pub(super) fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    /// Whether a query starts here, perhaps behind parentheses.
    pub(super) fn starts_query(&self) -> bool {
        let mut index = 0;
        while self.parser.peek_nth_token_ref(index).token == Token::LParen {
            index += 1;
        }
        matches!(self.peek_word(index).as_deref(), Some("select" | "with" | "values"))
    }

    /// Whether WITH is next, before a statement that changes rows: the first of these words outside of
    /// parentheses says so.
    pub(super) fn with_changes_rows(&self) -> bool {
        if !self.next_is_word("with") {
            return false;
        }
        let mut depth = 0_usize;
        for index in 1.. {
            match &self.parser.peek_nth_token_ref(index).token {
                Token::EOF => return false,
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                _ if self.word_is(index, "update") || self.word_is(index, "delete") => return true,
                _ if self.word_is(index, "select") || self.word_is(index, "values") => {
                    return false;
                }
                _ => {}
            }
        }
        false
    }

    /// WITH and its common table expressions.
    pub(super) fn with_clause(&mut self) -> Result<ast::With> {
        self.expect_word("with")?;
        let recursive = self.take_word("recursive");
        let cte =
            |tokens: &mut Self| tokens.parser.parse_cte().map_err(|error| tokens.convert(error));
        let cte_tables = self.comma_separated(cte)?;
        let with_token = ast::helpers::attached_token::AttachedToken::empty();
        Ok(ast::With { with_token, recursive, cte_tables })
    }

    /// The unquoted word at a distance, folded.
    pub(super) fn peek_word(&self, index: usize) -> Option<String> {
        match &self.parser.peek_nth_token_ref(index).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.clone()),
            _ => None,
        }
    }

    pub(super) fn peek_is(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    pub(super) fn next_is_word(&self, expected: &str) -> bool {
        self.word_is(0, expected)
    }

    pub(super) fn word_is(&self, index: usize, expected: &str) -> bool {
        match &self.parser.peek_nth_token_ref(index).token {
            Token::Word(word) => word.quote_style.is_none() && word.value == expected,
            _ => false,
        }
    }

    /// Takes an unquoted word.
    pub(super) fn word(&mut self) -> Result<String> {
        match self.peek_word(0) {
            Some(word) => {
                self.parser.advance_token();
                Ok(word)
            }
            None => Err(self.unexpected()),
        }
    }

    /// Takes the word if it is next.
    pub(super) fn take_word(&mut self, expected: &str) -> bool {
        let found = self.next_is_word(expected);
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// Takes all the words if they are next, or none.
    pub(super) fn take_words(&mut self, expected: &[&str]) -> bool {
        let found = expected.iter().enumerate().all(|(index, word)| self.word_is(index, word));
        if found {
            expected.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    pub(super) fn expect_word(&mut self, expected: &str) -> Result<()> {
        if self.take_word(expected) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes whatever is next.
    pub(super) fn next(&mut self) -> Token {
        self.parser.next_token().token
    }

    /// A name, quoted or not. Whether a keyword may be a name is not checked.
    pub(super) fn name(&mut self) -> Result<String> {
        match &self.parser.peek_token_ref().token {
            Token::Word(word) => {
                let name = word.value.clone();
                self.parser.advance_token();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A table name with up to two qualifiers.
    pub(super) fn table_name(&mut self) -> Result<TableName> {
        let mut parts = vec![self.name()?];
        while self.take(&Token::Period) {
            parts.push(self.name()?);
        }
        table_name(parts)
    }

    /// A parenthesized list of names.
    pub(super) fn name_list(&mut self) -> Result<Vec<String>> {
        self.expect(&Token::LParen)?;
        let names = self.comma_separated(Self::name)?;
        self.expect(&Token::RParen)?;
        Ok(names)
    }

    pub(super) fn comma_separated<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// The name of a column with that of its table before it.
    pub(super) fn column_name(&mut self) -> Result<(TableName, String)> {
        let (mut parts, mut last) = (Vec::new(), self.name()?);
        while self.take(&Token::Period) {
            parts.push(std::mem::replace(&mut last, self.name()?));
        }
        if parts.is_empty() {
            return Err(Error::syntax("column name must be qualified"));
        }
        Ok((table_name(parts)?, last))
    }

    /// Takes a string literal.
    pub(super) fn string(&mut self) -> Result<String> {
        let text = match &self.parser.peek_token_ref().token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(quoted) => quoted.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.parser.advance_token();
        Ok(text)
    }

    pub(super) fn peek_string(&self) -> bool {
        matches!(
            self.parser.peek_token_ref().token,
            Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_)
        )
    }

    pub(super) fn peek_unsigned(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::Number(..))
    }

    pub(super) fn unsigned(&mut self) -> Result<u64> {
        let value = match &self.parser.peek_token_ref().token {
            Token::Number(text, _) => text.parse().ok(),
            _ => None,
        };
        match value {
            Some(value) => {
                self.parser.advance_token();
                Ok(value)
            }
            None => Err(self.unexpected()),
        }
    }

    /// A whole number with a sign.
    pub(super) fn integer(&mut self) -> Result<i64> {
        let negative = self.take(&Token::Minus);
        if !negative {
            self.take(&Token::Plus);
        }
        let value = i128::from(self.unsigned()?);
        let value = if negative { -value } else { value };
        i64::try_from(value).map_err(|_| self.unexpected_previous())
    }

    pub(super) fn query(&mut self) -> Result<Box<ast::Query>> {
        self.parser.parse_query().map_err(|error| self.convert(error))
    }

    pub(super) fn expression(&mut self) -> Result<ast::Expr> {
        self.parser.parse_expr().map_err(|error| self.convert(error))
    }

    /// The expression after DEFAULT.
    pub(super) fn default_expression(&mut self) -> Result<ast::Expr> {
        self.expression()
    }

    /// Whether a parenthesized list of names without types is next.
    pub(super) fn is_bare_name_list(&self) -> bool {
        let mut index = 1;
        loop {
            if !matches!(self.parser.peek_nth_token_ref(index).token, Token::Word(_)) {
                return false;
            }
            match self.parser.peek_nth_token_ref(index + 1).token {
                Token::Comma => index += 2,
                Token::RParen => return true,
                _ => return false,
            }
        }
    }

    pub(super) fn tables_and_joins(&mut self) -> Result<ast::TableWithJoins> {
        self.parser.parse_table_and_joins().map_err(|error| self.convert(error))
    }

    /// One table or query of a FROM clause.
    pub(super) fn table_factor(&mut self) -> Result<ast::TableFactor> {
        self.parser.parse_table_factor().map_err(|error| self.convert(error))
    }

    /// A type as a column declaration or parameter list names it.
    pub(super) fn sql_type(&mut self) -> Result<SqlType> {
        let data_type = self.parser.parse_data_type().map_err(|error| self.convert(error))?;
        SqlType::from_ast(&data_type)
    }
}

/// The error for a token that the grammar does not allow here.
fn near(token: &Token) -> Error {
    match token {
        Token::EOF => Error::syntax("syntax error at end of input"),
        token => Error::syntax(format!("syntax error at or near \"{token}\"")),
    }
}

fn table_name(mut parts: Vec<String>) -> Result<TableName> {
    let name = parts.pop().ok_or_else(|| Error::syntax("a table name is missing"))?;
    let schema = parts.pop();
    let database = parts.pop();
    if parts.is_empty() {
        Ok(TableName { database, schema, name })
    } else {
        Err(Error::syntax("improper qualified name (too many dotted names)"))
    }
}

/// A table name from the parts of a compound identifier.
pub(super) fn table_name_of(parts: &[ast::Ident]) -> Result<TableName> {
    table_name(parts.iter().map(|part| part.value.clone()).collect())
}
