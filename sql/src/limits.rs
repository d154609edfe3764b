//! How large and how deep a statement may be.
//!
//! The parser, the planner and the drop of their trees recurse, so the shape of a text is judged on
//! its tokens, before anything recursive sees it. What passes here must be plannable on a stack of
//! 64 MiB.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::error::{Error, ErrorKind, Result};

/// Named limits of a statement.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest text, in bytes.
    pub text_bytes_max: usize,
    /// Most operators that can stand on one path from the root of an expression tree to a leaf.
    pub terms_max: usize,
    /// Deepest nesting of parentheses, brackets and CASE.
    pub nesting_max: usize,
    /// Most UNION, INTERSECT, EXCEPT and MINUS of a statement.
    pub set_operations_max: usize,
    /// Most relations: JOIN keywords, and commas of FROM lists.
    pub relations_max: usize,
    /// Most common table expressions, in effect most AS ( of a statement outside CREATE.
    pub subqueries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes_max: 16 * 1024 * 1024,
            terms_max: 2_000,
            nesting_max: 100,
            set_operations_max: 500,
            relations_max: 500,
            subqueries_max: 500,
        }
    }
}

/// Refuses a text that is too long.
pub(crate) fn check_text(text: &str, limits: &Limits) -> Result<()> {
    if text.len() <= limits.text_bytes_max {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ProgramLimitExceeded,
        format!("statement is too large: {} bytes, at most {}", text.len(), limits.text_bytes_max),
    ))
}

/// Refuses tokens of one statement that would make too deep a tree.
pub(crate) fn check_shape(tokens: &[TokenWithSpan], limits: &Limits) -> Result<()> {
    let mut shape = Shape::new(limits);
    let significant = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    for token in significant {
        shape.take(&token.token)?;
    }
    Ok(())
}

/// Operators counted on the open path: one counter for each open parenthesis or CASE.
struct Shape<'a> {
    limits: &'a Limits,
    open: Vec<Level>,
    path_terms: usize,
    set_operations: usize,
    relations: usize,
    subqueries: usize,
}

#[derive(Default)]
struct Level {
    terms: usize,
    in_from: bool,
    is_case: bool,
}

impl<'a> Shape<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            open: vec![Level::default()],
            path_terms: 0,
            set_operations: 0,
            relations: 0,
            subqueries: 0,
        }
    }

    fn take(&mut self, token: &Token) -> Result<()> {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => self.push(false),
            Token::RParen | Token::RBracket | Token::RBrace => {
                self.pop(false);
                Ok(())
            }
            Token::Comma => {
                let in_from = self.level().in_from;
                self.reset_terms();
                if in_from { self.add_relation() } else { Ok(()) }
            }
            Token::Word(word) if word.quote_style.is_none() => self.take_word(word),
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Period
            | Token::SemiColon
            | Token::Placeholder(_)
            | Token::EOF => Ok(()),
            _ => self.add_term(),
        }
    }

    fn take_word(&mut self, word: &Word) -> Result<()> {
        match word.keyword {
            Keyword::CASE => self.push(true),
            Keyword::END => {
                self.pop(true);
                Ok(())
            }
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS => {
                self.reset_terms();
                self.set_operations += 1;
                self.check(self.set_operations, self.limits.set_operations_max)
            }
            Keyword::SELECT => {
                self.reset_terms();
                self.level().in_from = false;
                self.subqueries += 1;
                let limit = self.limits.subqueries_max + self.set_operations;
                self.check(self.subqueries, limit)
            }
            Keyword::FROM => {
                self.reset_terms();
                self.level().in_from = true;
                Ok(())
            }
            Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER => {
                self.reset_terms();
                self.level().in_from = false;
                Ok(())
            }
            Keyword::JOIN => {
                self.reset_terms();
                self.add_relation()
            }
            // Each branch of a CASE is a sibling of the others, not below them.
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE => {
                self.reset_terms();
                Ok(())
            }
            Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::IN
            | Keyword::BETWEEN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::INTERVAL
            | Keyword::PRIOR
            | Keyword::EXPLAIN => self.add_term(),
            _ => Ok(()),
        }
    }

    fn level(&mut self) -> &mut Level {
        if self.open.is_empty() {
            self.open.push(Level::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn push(&mut self, is_case: bool) -> Result<()> {
        self.open.push(Level { terms: 0, in_from: false, is_case });
        self.check(self.open.len() - 1, self.limits.nesting_max)
    }

    /// A stray closing token is left for the parser to report.
    fn pop(&mut self, is_case: bool) {
        if self.open.len() > 1 && self.level().is_case == is_case {
            self.reset_terms();
            self.open.pop();
        }
    }

    fn reset_terms(&mut self) {
        let terms = std::mem::take(&mut self.level().terms);
        self.path_terms -= terms;
    }

    fn add_term(&mut self) -> Result<()> {
        self.level().terms += 1;
        self.path_terms += 1;
        self.check(self.path_terms, self.limits.terms_max)
    }

    fn add_relation(&mut self) -> Result<()> {
        self.relations += 1;
        self.check(self.relations, self.limits.relations_max)
    }

    fn check(&self, count: usize, max: usize) -> Result<()> {
        if count <= max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::StatementTooComplex, "stack depth limit exceeded")
            .with_detail(format!("An expression or query nests or chains more than {max} times."))
            .with_hint("Split the statement, or use IN or a table instead of a long chain."))
    }
}
