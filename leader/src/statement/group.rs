//! CREATE GROUP, ALTER GROUP and DROP GROUP. Groups lead queries to queues of workload management.

use sql::statement::{AlterGroup, CreateGroup, DropNamed, GroupAction};

use super::command;
use super::user::check_name;
use crate::catalog::user::undefined;
use crate::catalog::{Change, GroupEntry, Snapshot};
use crate::error::{Error, Result};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;

/// CREATE GROUP
pub(super) fn create(session: &mut Session, statement: &CreateGroup) -> Result<Execution> {
    session.require_superuser("create groups")?;
    check_name(&statement.name)?;
    let view = session.transaction()?.view();
    if view.group(&statement.name).is_some() {
        let message = format!("group \"{}\" already exists", statement.name);
        return Err(Error::statement(crate::error::code::DUPLICATE_OBJECT, message));
    }
    let entry = GroupEntry {
        oid: session.engine().transactions.new_oid(),
        name: statement.name.clone(),
        members: members(&view, &statement.users)?,
    };
    session.transaction()?.change(Change::PutGroup(entry, None))?;
    Ok(command("CREATE GROUP"))
}

/// ALTER GROUP
pub(super) fn alter(session: &mut Session, statement: &AlterGroup) -> Result<Execution> {
    session.require_superuser("alter groups")?;
    let view = session.transaction()?.view();
    let known = view.group(&statement.name).ok_or_else(|| undefined("group", &statement.name))?;
    let mut entry = known.clone();
    match &statement.action {
        GroupAction::Add(users) => {
            for (member, name) in members(&view, users)?.into_iter().zip(users) {
                if entry.members.contains(&member) {
                    let group = &statement.name;
                    let text = format!("user \"{name}\" is already in group \"{group}\"");
                    session.notice(Severity::Warning, text);
                } else {
                    entry.members.push(member);
                }
            }
        }
        GroupAction::Drop(users) => {
            for (member, name) in members(&view, users)?.into_iter().zip(users) {
                if !entry.members.contains(&member) {
                    let group = &statement.name;
                    let text = format!("user \"{name}\" is not in group \"{group}\"");
                    session.notice(Severity::Warning, text);
                }
                entry.members.retain(|known| *known != member);
            }
        }
        GroupAction::Rename(name) => {
            check_name(name)?;
            entry.name.clone_from(name);
        }
    }
    session.transaction()?.change(Change::PutGroup(entry, Some(known.clone())))?;
    Ok(command("ALTER GROUP"))
}

/// DROP GROUP
pub(super) fn drop(session: &mut Session, statement: &DropNamed) -> Result<Execution> {
    session.require_superuser("drop groups")?;
    for name in &statement.names {
        let view = session.transaction()?.view();
        let oid = view.group(name).ok_or_else(|| undefined("group", name))?.oid;
        session.transaction()?.change(Change::DropGroup(oid))?;
    }
    Ok(command("DROP GROUP"))
}

/// The numbers of users, each once.
fn members(view: &Snapshot, names: &[String]) -> Result<Vec<u32>> {
    let number =
        |name: &String| view.user(name).map(|user| user.oid).ok_or_else(|| undefined("user", name));
    let mut members = names.iter().map(number).collect::<Result<Vec<_>>>()?;
    let mut seen = std::collections::BTreeSet::new();
    members.retain(|member| seen.insert(*member));
    Ok(members)
}
