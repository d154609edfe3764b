//! Users and groups in the catalog, and how a commit changes them.

use std::sync::Arc;

use super::{SchemaEntry, Snapshot, TableEntry};
use crate::error::{Error, Result, code};

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserEntry {
    /// Its number, never used again.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// The SCRAM-SHA-256 verifier in PostgreSQL's text form; never a password. None: nobody can log
    /// in with a password.
    pub verifier: Option<String>,
    /// CREATEUSER: may do everything.
    pub superuser: bool,
    /// CREATEDB
    pub createdb: bool,
    /// VALID UNTIL in microseconds since 1970 UTC: after it the password is refused.
    pub valid_until_us: Option<i64>,
    /// CONNECTION LIMIT
    pub connection_limit: Option<u32>,
    /// SESSION TIMEOUT in seconds.
    pub session_timeout: Option<u32>,
    /// SYSLOG ACCESS UNRESTRICTED: sees the rows of all users in the tables that users see.
    pub syslog_unrestricted: bool,
    /// What sessions begin with: names of parameters and their values.
    pub settings: Vec<(String, String)>,
}

/// A group of users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its number, never used again.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// The numbers of its users, in no order.
    pub members: Vec<u32>,
}

impl Snapshot {
    /// A user has this entry from now on; under another name it is renamed.
    pub(super) fn put_user(&mut self, entry: &UserEntry, before: Option<&UserEntry>) -> Result<()> {
        if self.users.get(&entry.name).is_some_and(|known| known.oid != entry.oid) {
            return Err(duplicate("user", &entry.name));
        }
        if self.user_by_oid(entry.oid) != before {
            return Err(changed_meanwhile("user", &entry.name));
        }
        let before = before.map(|user| user.name.clone());
        if let Some(before) = before.filter(|before| *before != entry.name) {
            self.users.remove(&before);
            self.change_owner(&before, &entry.name);
        }
        self.users.insert(entry.name.clone(), entry.clone());
        Ok(())
    }

    fn change_owner(&mut self, from: &str, to: &str) {
        let owns_schema = |schema: &&mut SchemaEntry| schema.owner == from;
        for schema in self.schemas.values_mut().filter(owns_schema) {
            to.clone_into(&mut schema.owner);
        }
        let owns_table = |table: &&mut Arc<TableEntry>| table.owner == from;
        for table in self.tables.values_mut().filter(owns_table) {
            to.clone_into(&mut Arc::make_mut(table).owner);
        }
    }

    /// A user is gone, and leaves its groups and roles. Nobody who owns something can go.
    pub(super) fn drop_user(&mut self, oid: u32) -> Result<()> {
        let Some(name) = self.user_by_oid(oid).map(|user| user.name.clone()) else {
            return Err(undefined("user", &oid.to_string()));
        };
        let owned = self
            .schemas
            .values()
            .filter(|schema| schema.owner == name)
            .map(|schema| format!("schema {}", schema.name))
            .chain(
                self.tables
                    .values()
                    .filter(|table| table.owner == name)
                    .map(|table| format!("table {}.{}", table.schema, table.name)),
            )
            .chain(
                self.roles
                    .values()
                    .filter(|role| role.owner == oid)
                    .map(|role| format!("role {}", role.name)),
            )
            .min();
        if let Some(owned) = owned {
            let message =
                format!("user \"{name}\" cannot be dropped because the user owns some object");
            return Err(Error::statement(code::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_detail(format!("The user owns {owned}, for example.")));
        }
        self.users.remove(&name);
        for group in self.groups.values_mut() {
            group.members.retain(|member| *member != oid);
        }
        for role in self.roles.values_mut() {
            role.users.retain(|user| *user != oid);
        }
        Ok(())
    }

    /// A group has this entry from now on; under another name it is renamed.
    pub(super) fn put_group(
        &mut self,
        entry: &GroupEntry,
        before: Option<&GroupEntry>,
    ) -> Result<()> {
        if self.groups.get(&entry.name).is_some_and(|known| known.oid != entry.oid) {
            return Err(duplicate("group", &entry.name));
        }
        if self.groups.values().find(|group| group.oid == entry.oid) != before {
            return Err(changed_meanwhile("group", &entry.name));
        }
        self.groups.retain(|_, group| group.oid != entry.oid);
        self.groups.insert(entry.name.clone(), entry.clone());
        Ok(())
    }

    pub(super) fn drop_group(&mut self, oid: u32) -> Result<()> {
        let before = self.groups.len();
        self.groups.retain(|_, group| group.oid != oid);
        if self.groups.len() == before {
            return Err(undefined("group", &oid.to_string()));
        }
        Ok(())
    }
}

/// Who began with another entry than there is by now would undo what made it.
pub(super) fn changed_meanwhile(kind: &str, name: &str) -> Error {
    let message = format!("{kind} \"{name}\" was changed by another transaction");
    Error::statement(code::SERIALIZATION_FAILURE, message)
}

/// `user "x" already exists`
pub(super) fn duplicate(what: &str, name: &str) -> Error {
    Error::statement(code::DUPLICATE_OBJECT, format!("{what} \"{name}\" already exists"))
}

/// `user "x" does not exist`
pub fn undefined(what: &str, name: &str) -> Error {
    Error::statement(code::UNDEFINED_OBJECT, format!("{what} \"{name}\" does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Change;

    fn entry(oid: u32, name: &str) -> UserEntry {
        UserEntry { oid, name: name.to_owned(), ..UserEntry::default() }
    }

    fn user(oid: u32, name: &str) -> Change {
        Change::PutUser(entry(oid, name), None)
    }

    /// Who has read it before somebody else has changed it.
    #[test]
    fn what_was_changed_meanwhile_is_not_written_over() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&user(1, "ann")).unwrap();
        let before = UserEntry { superuser: true, ..entry(1, "ann") };
        let late = Change::PutUser(UserEntry { createdb: true, ..before.clone() }, Some(before));
        assert!(snapshot.apply(&late).is_err());
        snapshot.apply(&Change::DropUser(1)).unwrap();
        let late = Change::PutUser(entry(1, "eve"), Some(entry(1, "ann")));
        assert!(snapshot.apply(&late).is_err());
        let group = |members| GroupEntry { oid: 2, name: "g".to_owned(), members };
        snapshot.apply(&Change::PutGroup(group(vec![]), None)).unwrap();
        snapshot.apply(&Change::PutGroup(group(vec![3]), Some(group(vec![])))).unwrap();
        let late = Change::PutGroup(group(vec![4]), Some(group(vec![])));
        assert!(snapshot.apply(&late).is_err());
    }

    #[test]
    fn who_is_renamed_keeps_what_it_owns_and_is_in() {
        let mut snapshot = Snapshot::default();
        let schema = SchemaEntry { oid: 3, name: "s".to_owned(), owner: "ann".to_owned() };
        let group = GroupEntry { oid: 2, name: "g".to_owned(), members: vec![1] };
        for change in [user(1, "ann"), Change::CreateSchema(schema), Change::PutGroup(group, None)]
        {
            snapshot.apply(&change).unwrap();
        }
        let renamed = Change::PutUser(entry(1, "bob"), Some(entry(1, "ann")));
        snapshot.apply(&renamed).unwrap();
        assert!(snapshot.user("ann").is_none());
        assert_eq!(snapshot.schema("s").unwrap().owner, "bob");
        assert_eq!(snapshot.groups_of(1).count(), 1);
        let refused = snapshot.apply(&Change::DropUser(1)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "user \"bob\" cannot be dropped because the user owns some object"
        );
        snapshot.apply(&Change::DropSchema("s".to_owned())).unwrap();
        snapshot.apply(&Change::DropUser(1)).unwrap();
        assert!(snapshot.group("g").unwrap().members.is_empty());
    }

    #[test]
    fn a_name_is_one_users() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&user(1, "ann")).unwrap();
        assert!(snapshot.apply(&user(2, "ann")).is_err());
        snapshot.apply(&user(2, "bob")).unwrap();
        assert!(snapshot.apply(&user(2, "ann")).is_err());
    }
}
