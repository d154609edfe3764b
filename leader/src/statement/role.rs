//! CREATE ROLE, ALTER ROLE, DROP ROLE, GRANT ROLE and REVOKE ROLE. Roles lead queries to queues of
//! workload management; they carry no rights, as there is no GRANT of rights yet.

use sql::statement::{AlterRole, DropRole, GrantRole, Grantee, RoleAction};

use super::command;
use super::user::check_name;
use crate::catalog::user::undefined;
use crate::catalog::{Change, RoleEntry, Snapshot};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;

/// CREATE ROLE
pub(super) fn create(session: &mut Session, name: &str) -> Result<Execution> {
    session.require_superuser("create roles")?;
    check_role_name(name)?;
    let view = session.transaction()?.view();
    if view.role(name).is_some() {
        let message = format!("role \"{name}\" already exists");
        return Err(Error::statement(code::DUPLICATE_OBJECT, message));
    }
    let entry = RoleEntry {
        oid: session.engine().transactions.new_oid(),
        name: name.to_owned(),
        owner: session.user_oid(),
        ..RoleEntry::default()
    };
    session.transaction()?.change(Change::PutRole(entry, None))?;
    Ok(command("CREATE ROLE"))
}

/// ALTER ROLE
pub(super) fn alter(session: &mut Session, statement: &AlterRole) -> Result<Execution> {
    session.require_superuser("alter roles")?;
    let view = session.transaction()?.view();
    let before = known(&view, &statement.name)?;
    let mut entry = before.clone();
    match &statement.action {
        RoleAction::Rename(name) => {
            check_role_name(name)?;
            entry.name.clone_from(name);
        }
        RoleAction::Owner(name) => {
            entry.owner = view.user(name).ok_or_else(|| undefined("user", name))?.oid;
        }
    }
    session.transaction()?.change(Change::PutRole(entry, Some(before.clone())))?;
    Ok(command("ALTER ROLE"))
}

/// DROP ROLE
pub(super) fn drop(session: &mut Session, statement: &DropRole) -> Result<Execution> {
    session.require_superuser("drop roles")?;
    let view = session.transaction()?.view();
    let role = known(&view, &statement.name)?;
    let of_users = role.users.iter().filter_map(|oid| view.user_by_oid(*oid));
    let of_users = of_users.map(|user| format!("user {}", user.name));
    let of_roles = role.roles.iter().filter_map(|oid| view.role_by_oid(*oid));
    let of_roles = of_roles.map(|role| format!("role {}", role.name));
    if !statement.force
        && let Some(grantee) = of_users.chain(of_roles).min()
    {
        let name = &statement.name;
        let message = format!("role \"{name}\" cannot be dropped because it is granted to others");
        return Err(Error::statement(code::DEPENDENT_OBJECTS_STILL_EXIST, message)
            .with_detail(format!("It is granted to {grantee}, for example."))
            .with_hint("Use DROP ROLE ... FORCE to drop it all the same."));
    }
    session.transaction()?.change(Change::DropRole(role.oid))?;
    Ok(command("DROP ROLE"))
}

/// GRANT ROLE, REVOKE ROLE
pub(super) fn grant(session: &mut Session, statement: &GrantRole) -> Result<Execution> {
    let revoke = statement.revoke;
    session.require_superuser(if revoke { "revoke roles" } else { "grant roles" })?;
    for name in &statement.roles {
        let view = session.transaction()?.view();
        let before = known(&view, name)?;
        let mut entry = before.clone();
        for grantee in &statement.grantees {
            let (list, oid, whom) = match grantee {
                Grantee::User(user) => {
                    let oid = view.user(user).ok_or_else(|| undefined("user", user))?.oid;
                    (&mut entry.users, oid, format!("user \"{user}\""))
                }
                Grantee::Role(role) => {
                    let oid = known(&view, role)?.oid;
                    if !revoke && view.includes_role(entry.oid, oid) {
                        return Err(circle(name, role));
                    }
                    (&mut entry.roles, oid, format!("role \"{role}\""))
                }
            };
            match (revoke, list.contains(&oid)) {
                (false, false) => list.push(oid),
                (true, true) => list.retain(|grantee| *grantee != oid),
                (false, true) => {
                    let text = format!("role \"{name}\" is already granted to {whom}");
                    session.notice(Severity::Notice, text);
                }
                (true, false) => {
                    let text = format!("role \"{name}\" is not granted to {whom}");
                    session.notice(Severity::Notice, text);
                }
            }
        }
        session.transaction()?.change(Change::PutRole(entry, Some(before.clone())))?;
    }
    Ok(command(if revoke { "REVOKE" } else { "GRANT" }))
}

fn known<'a>(view: &'a Snapshot, name: &str) -> Result<&'a RoleEntry> {
    view.role(name).ok_or_else(|| undefined("role", name))
}

/// Names with `sys:` are those of the system.
fn check_role_name(name: &str) -> Result<()> {
    check_name(name)?;
    if name.starts_with("sys:") {
        let message = format!("role name \"{name}\" is reserved");
        return Err(Error::statement(code::RESERVED_NAME, message));
    }
    Ok(())
}

fn circle(role: &str, grantee: &str) -> Error {
    let message = format!("role \"{role}\" cannot be granted to role \"{grantee}\"");
    let error = Error::statement(code::INVALID_GRANT_OPERATION, message);
    error.with_detail(format!("Role \"{grantee}\" is or has been granted to role \"{role}\"."))
}
