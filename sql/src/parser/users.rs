//! Users and groups: CREATE, ALTER and DROP of either.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::session::{equals_or_to, parameter_name, set_value};
use super::tokens::Tokens;
use crate::error::{Error, Result};
use crate::statement::{
    AlterGroup, AlterUser, CreateGroup, CreateUser, DropNamed, GroupAction, NewPassword, Secret,
    Statement, UserAction, UserOptions,
};

/// After CREATE USER.
pub(super) fn create_user(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    tokens.take_word("with");
    let mut options = UserOptions::default();
    let mut groups = Vec::new();
    while !tokens.at_end() {
        if tokens.take_words(&["in", "group"]) {
            if !groups.is_empty() {
                return Err(conflicting());
            }
            groups = tokens.comma_separated(Tokens::name)?;
        } else {
            option(tokens, &mut options)?;
        }
    }
    Ok(Statement::CreateUser(CreateUser { name, options, groups }))
}

/// After ALTER USER.
pub(super) fn alter_user(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    if tokens.take_words(&["rename", "to"]) {
        let action = UserAction::Rename(tokens.name()?);
        return Ok(Statement::AlterUser(AlterUser { name, action }));
    }
    if tokens.take_word("set") {
        let parameter = parameter_name(tokens)?;
        equals_or_to(tokens)?;
        let action = UserAction::Set(parameter, set_value(tokens)?);
        return Ok(Statement::AlterUser(AlterUser { name, action }));
    }
    if tokens.next_is_word("reset") && !tokens.word_is(1, "session") {
        tokens.word()?;
        let parameter = if tokens.take_word("all") { None } else { Some(parameter_name(tokens)?) };
        let action = UserAction::Reset(parameter);
        return Ok(Statement::AlterUser(AlterUser { name, action }));
    }
    tokens.take_word("with");
    let mut options = UserOptions::default();
    option(tokens, &mut options)?;
    while !tokens.at_end() {
        option(tokens, &mut options)?;
    }
    let action = UserAction::Options(Box::new(options));
    Ok(Statement::AlterUser(AlterUser { name, action }))
}

/// One option of CREATE USER or ALTER USER; each may be given once.
fn option(tokens: &mut Tokens<'_>, options: &mut UserOptions) -> Result<()> {
    let word = tokens.word()?;
    match word.as_str() {
        "password" => {
            let password = if tokens.take_word("disable") {
                NewPassword::Disabled
            } else {
                NewPassword::Text(Secret::new(tokens.string()?))
            };
            once(&mut options.password, password)
        }
        "createdb" => once(&mut options.createdb, true),
        "nocreatedb" => once(&mut options.createdb, false),
        "createuser" => once(&mut options.superuser, true),
        "nocreateuser" => once(&mut options.superuser, false),
        "syslog" => {
            tokens.expect_word("access")?;
            let unrestricted = tokens.take_word("unrestricted");
            if !unrestricted {
                tokens.expect_word("restricted")?;
            }
            once(&mut options.syslog_unrestricted, unrestricted)
        }
        "valid" => {
            tokens.expect_word("until")?;
            once(&mut options.valid_until, tokens.string()?)
        }
        "connection" => {
            tokens.expect_word("limit")?;
            let limit = if tokens.take_word("unlimited") { None } else { Some(number(tokens)?) };
            once(&mut options.connection_limit, limit)
        }
        "session" => {
            tokens.expect_word("timeout")?;
            once(&mut options.session_timeout, Some(number(tokens)?))
        }
        "reset" => {
            tokens.expect_word("session")?;
            tokens.expect_word("timeout")?;
            once(&mut options.session_timeout, None)
        }
        "externalid" => Err(Error::not_supported("EXTERNALID")),
        _ => Err(tokens.unexpected_previous()),
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<()> {
    if place.is_some() {
        return Err(conflicting());
    }
    *place = Some(value);
    Ok(())
}

fn conflicting() -> Error {
    Error::syntax("conflicting or redundant options")
}

fn number(tokens: &mut Tokens<'_>) -> Result<u32> {
    let value = tokens.unsigned()?;
    u32::try_from(value).map_err(|_| tokens.unexpected_previous())
}

/// After CREATE GROUP.
pub(super) fn create_group(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    let with = tokens.take_word("with");
    let users = if tokens.take_word("user") {
        tokens.comma_separated(Tokens::name)?
    } else if with {
        return Err(tokens.unexpected());
    } else {
        Vec::new()
    };
    Ok(Statement::CreateGroup(CreateGroup { name, users }))
}

/// After ALTER GROUP.
pub(super) fn alter_group(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    let action = if tokens.take_words(&["add", "user"]) {
        GroupAction::Add(tokens.comma_separated(Tokens::name)?)
    } else if tokens.take_words(&["drop", "user"]) {
        GroupAction::Drop(tokens.comma_separated(Tokens::name)?)
    } else if tokens.take_words(&["rename", "to"]) {
        GroupAction::Rename(tokens.name()?)
    } else {
        return Err(tokens.unexpected());
    };
    Ok(Statement::AlterGroup(AlterGroup { name, action }))
}

/// After DROP USER.
pub(super) fn drop_user(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_exists = tokens.take_words(&["if", "exists"]);
    let names = tokens.comma_separated(Tokens::name)?;
    Ok(Statement::DropUser(DropNamed { names, if_exists }))
}

/// After DROP GROUP.
pub(super) fn drop_group(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    Ok(Statement::DropGroup(DropNamed { names: vec![name], if_exists: false }))
}

/// The words whose string must not be shown to anybody.
const SECRET_WORDS: [&str; 6] = [
    "password",
    "credentials",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "master_symmetric_key",
];

/// Whether the string after these tokens of a statement is a secret.
pub(super) fn is_secret(before: &[&Token]) -> bool {
    let is_filler = |token: &Token| {
        *token == Token::Eq || super::is_word(token, "as") || super::is_word(token, "to")
    };
    let last = before.iter().rev().find(|token| !is_filler(token));
    last.is_some_and(|token| SECRET_WORDS.iter().any(|word| super::is_word(token, word)))
}
