//! Roles: CREATE, ALTER and DROP ROLE, GRANT ROLE and REVOKE ROLE.

use super::tokens::Tokens;
use crate::error::{Error, Result};
use crate::statement::{AlterRole, DropRole, GrantRole, Grantee, RoleAction, Statement};

/// After CREATE ROLE.
pub(super) fn create(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    if tokens.take_word("externalid") {
        return Err(Error::not_supported("EXTERNALID"));
    }
    Ok(Statement::CreateRole(name))
}

/// After ALTER ROLE.
pub(super) fn alter(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    tokens.take_word("with");
    let action = if tokens.take_words(&["rename", "to"]) {
        RoleAction::Rename(tokens.name()?)
    } else if tokens.take_words(&["owner", "to"]) {
        RoleAction::Owner(tokens.name()?)
    } else if tokens.take_word("externalid") {
        return Err(Error::not_supported("EXTERNALID"));
    } else {
        return Err(tokens.unexpected());
    };
    Ok(Statement::AlterRole(AlterRole { name, action }))
}

/// After DROP ROLE.
pub(super) fn drop(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    let force = tokens.take_word("force");
    if !force {
        tokens.take_word("restrict");
    }
    Ok(Statement::DropRole(DropRole { name, force }))
}

/// After GRANT.
pub(super) fn grant(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if !tokens.take_word("role") {
        return Err(Error::not_supported("GRANT of anything but roles"));
    }
    let roles = tokens.comma_separated(Tokens::name)?;
    tokens.expect_word("to")?;
    let grantees = tokens.comma_separated(grantee)?;
    Ok(Statement::GrantRole(GrantRole { roles, grantees, revoke: false }))
}

/// After REVOKE.
pub(super) fn revoke(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.take_words(&["admin", "option", "for"]) {
        return Err(Error::not_supported("ADMIN OPTION"));
    }
    if !tokens.take_word("role") {
        return Err(Error::not_supported("REVOKE of anything but roles"));
    }
    let roles = tokens.comma_separated(Tokens::name)?;
    tokens.expect_word("from")?;
    let grantees = tokens.comma_separated(grantee)?;
    Ok(Statement::GrantRole(GrantRole { roles, grantees, revoke: true }))
}

fn grantee(tokens: &mut Tokens<'_>) -> Result<Grantee> {
    let grantee = if tokens.take_word("role") {
        Grantee::Role(tokens.name()?)
    } else {
        Grantee::User(tokens.name()?)
    };
    if tokens.take_words(&["with", "admin", "option"]) {
        return Err(Error::not_supported("WITH ADMIN OPTION"));
    }
    Ok(grantee)
}
