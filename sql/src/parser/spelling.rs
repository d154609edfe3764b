//! Spellings that `sqlparser` does not know in this dialect, as tokens that it knows: strings with
//! escapes, whose escapes are undone already, and operators that are named with their schema.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::is_word;

/// The tokens of a statement in the parser's spelling.
pub(super) fn known(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut known = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if let Some((operator, behind)) = named_operator(first, others) {
            known.push(operator.clone());
            rest = behind;
            continue;
        }
        let mut token = first.clone();
        if let Token::EscapedStringLiteral(text) = token.token {
            token.token = Token::SingleQuotedString(text);
        }
        known.push(token);
    }
    known
}

/// `OPERATOR(pg_catalog.~)` is the operator ~. Gives the operator and what follows.
fn named_operator<'a>(
    first: &TokenWithSpan,
    others: &'a [TokenWithSpan],
) -> Option<(&'a TokenWithSpan, &'a [TokenWithSpan])> {
    if !is_word(&first.token, "operator") {
        return None;
    }
    match others {
        [open, schema, period, operator, close, behind @ ..]
            if open.token == Token::LParen
                && is_word(&schema.token, "pg_catalog")
                && period.token == Token::Period
                && close.token == Token::RParen =>
        {
            Some((operator, behind))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::tokenize;

    #[test]
    fn strings_and_operators_become_plain_ones() {
        let check = |text: &str, expected: &str| {
            let tokens = known(&tokenize(text).unwrap());
            let spelled: String = tokens
                .iter()
                .filter(|token| token.token != Token::EOF)
                .map(|token| token.token.to_string())
                .collect();
            assert_eq!(spelled, expected);
        };
        check("a OPERATOR(pg_catalog.~) E'x\\\\ty'", "a ~ 'x\\ty'");
        check("a operator(pg_catalog.!~*) b", "a !~* b");
        check("a operator(other.~) b", "a operator(other.~) b");
        check("operator", "operator");
    }
}
