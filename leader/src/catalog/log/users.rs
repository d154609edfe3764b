//! Users, groups, roles and the parameters of ALTER SYSTEM in the catalog file.

use rusqlite::{Connection, params};

use super::{Writer, damaged};
use crate::catalog::{Change, GroupEntry, RoleEntry, Snapshot, UserEntry};
use crate::error::{Error, Result};

/// Reads all of them.
pub(super) fn read(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    read_users(connection, snapshot)?;
    let mut query = connection.prepare("SELECT oid, name, members FROM groups")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let members: String = row.get(2)?;
        let group = GroupEntry {
            oid: row.get(0)?,
            name: row.get(1)?,
            members: from_json("members", &members)?,
        };
        snapshot.apply(&Change::PutGroup(group, None))?;
    }
    for role in read_roles(connection)? {
        snapshot.apply(&Change::PutRole(role, None))?;
    }
    let mut query = connection.prepare("SELECT name, value FROM parameters")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        snapshot.apply(&Change::PutParameter(row.get(0)?, Some(row.get(1)?)))?;
    }
    Ok(())
}

fn read_users(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    let sql = "SELECT name, oid, verifier, superuser, createdb, valid_until_us, connection_limit, \
               session_timeout, syslog_unrestricted, settings FROM users";
    let mut query = connection.prepare(sql)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let verifier: String = row.get(2)?;
        let settings: String = row.get(9)?;
        let user = UserEntry {
            name: row.get(0)?,
            oid: row.get(1)?,
            verifier: Some(verifier).filter(|verifier| !verifier.is_empty()),
            superuser: row.get(3)?,
            createdb: row.get(4)?,
            valid_until_us: row.get(5)?,
            connection_limit: row.get(6)?,
            session_timeout: row.get(7)?,
            syslog_unrestricted: row.get(8)?,
            settings: from_json("settings", &settings)?,
        };
        snapshot.apply(&Change::PutUser(user, None))?;
    }
    Ok(())
}

fn read_roles(connection: &Connection) -> Result<Vec<RoleEntry>> {
    let mut query = connection.prepare("SELECT oid, name, owner, users, roles FROM roles")?;
    let mut rows = query.query([])?;
    let mut roles = Vec::new();
    while let Some(row) = rows.next()? {
        let (users, granted): (String, String) = (row.get(3)?, row.get(4)?);
        roles.push(RoleEntry {
            oid: row.get(0)?,
            name: row.get(1)?,
            owner: row.get(2)?,
            users: from_json("users", &users)?,
            roles: from_json("roles", &granted)?,
        });
    }
    Ok(roles)
}

/// Writes a user, and its new name to what it owns.
pub(super) fn write_user(writer: &mut Writer<'_>, user: &UserEntry) -> Result<()> {
    for owned in ["schemas", "tables"] {
        let sql = format!(
            "UPDATE {owned} SET owner = ?1 \
             WHERE owner = (SELECT name FROM users WHERE oid = ?2 AND name <> ?1)"
        );
        writer.run(&sql, params![user.name, user.oid])?;
    }
    writer.run("DELETE FROM users WHERE oid = ?1", params![user.oid])?;
    let sql = "INSERT INTO users (name, oid, verifier, superuser, createdb, valid_until_us, \
               connection_limit, session_timeout, syslog_unrestricted, settings) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    writer.run(
        sql,
        params![
            user.name,
            user.oid,
            user.verifier.as_deref().unwrap_or_default(),
            user.superuser,
            user.createdb,
            user.valid_until_us,
            user.connection_limit,
            user.session_timeout,
            user.syslog_unrestricted,
            to_json(&user.settings)?,
        ],
    )
}

/// Removes a user from the list and from its groups and roles.
pub(super) fn delete_user(writer: &mut Writer<'_>, oid: u32) -> Result<()> {
    writer.run("DELETE FROM users WHERE oid = ?1", params![oid])?;
    let mut query = writer.transaction.prepare("SELECT oid, name, members FROM groups")?;
    let mut rows = query.query([])?;
    let mut changed = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(2)?;
        let mut members: Vec<u32> = from_json("members", &text)?;
        if members.contains(&oid) {
            members.retain(|member| *member != oid);
            changed.push(GroupEntry { oid: row.get(0)?, name: row.get(1)?, members });
        }
    }
    changed.iter().try_for_each(|group| write_group(writer, group))?;
    for mut role in read_roles(writer.transaction)? {
        if role.users.contains(&oid) {
            role.users.retain(|user| *user != oid);
            write_role(writer, &role)?;
        }
    }
    Ok(())
}

pub(super) fn write_role(writer: &mut Writer<'_>, role: &RoleEntry) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO roles (oid, name, owner, users, roles) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let (users, roles) = (to_json(&role.users)?, to_json(&role.roles)?);
    writer.run(sql, params![role.oid, role.name, role.owner, users, roles])
}

/// Removes a role from the list and from others.
pub(super) fn delete_role(writer: &mut Writer<'_>, oid: u32) -> Result<()> {
    writer.run("DELETE FROM roles WHERE oid = ?1", params![oid])?;
    for mut role in read_roles(writer.transaction)? {
        if role.roles.contains(&oid) {
            role.roles.retain(|grantee| *grantee != oid);
            write_role(writer, &role)?;
        }
    }
    Ok(())
}

pub(super) fn write_group(writer: &mut Writer<'_>, group: &GroupEntry) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO groups (oid, name, members) VALUES (?1, ?2, ?3)";
    writer.run(sql, params![group.oid, group.name, to_json(&group.members)?])
}

pub(super) fn write_parameter(
    writer: &mut Writer<'_>,
    name: &str,
    value: Option<&str>,
) -> Result<()> {
    match value {
        Some(value) => {
            let sql = "INSERT OR REPLACE INTO parameters (name, value) VALUES (?1, ?2)";
            writer.run(sql, params![name, value])
        }
        None => writer.run("DELETE FROM parameters WHERE name = ?1", params![name]),
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| damaged(what, text))
}

#[cfg(test)]
mod tests {
    use storage::ids::Xid;

    use super::super::{CatalogLog, NextIds, SCHEMA, SCHEMA_OF_USERS};
    use super::*;
    use crate::catalog::SchemaEntry;

    const NEXT: NextIds = NextIds { xid: 9, oid: 200_000, segment: 1 };

    fn commit(log: &mut CatalogLog, xid: u64, changes: &[Change]) {
        log.commit(&[(Xid(xid), changes)], NEXT).unwrap();
    }

    #[test]
    fn what_was_committed_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog");
        let user = UserEntry {
            oid: 7,
            name: "ann".to_owned(),
            verifier: None,
            createdb: true,
            valid_until_us: Some(-5),
            connection_limit: Some(2),
            session_timeout: Some(60),
            syslog_unrestricted: true,
            settings: vec![("query_group".to_owned(), "it's".to_owned())],
            ..UserEntry::default()
        };
        let other = UserEntry { oid: 8, name: "bob".to_owned(), ..UserEntry::default() };
        let group = GroupEntry { oid: 9, name: "g".to_owned(), members: vec![7, 8] };
        let schema = SchemaEntry { oid: 10, name: "s".to_owned(), owner: "ann".to_owned() };
        let role = |oid, name: &str, roles: &[u32]| RoleEntry {
            oid,
            name: name.to_owned(),
            owner: 7,
            users: vec![8, 7],
            roles: roles.to_vec(),
        };
        let mut log = CatalogLog::open(&path).unwrap();
        let set =
            |value: Option<&str>| Change::PutParameter("p".to_owned(), value.map(str::to_owned));
        let first = [
            Change::PutUser(user.clone(), None),
            Change::PutUser(other, None),
            Change::PutGroup(group, None),
            Change::PutRole(role(11, "r", &[]), None),
            Change::PutRole(role(12, "q", &[11]), None),
            Change::CreateSchema(schema),
            set(Some("1")),
        ];
        commit(&mut log, 1, &first);
        let renamed = UserEntry { name: "eve".to_owned(), ..user.clone() };
        commit(&mut log, 2, &[Change::PutUser(renamed.clone(), Some(user)), Change::DropUser(8)]);
        drop(log);
        let mut log = CatalogLog::open(&path).unwrap();
        let (snapshot, _) = log.read().unwrap();
        assert_eq!(snapshot.users().collect::<Vec<_>>(), [&renamed]);
        assert_eq!(snapshot.group("g").unwrap().members, [7]);
        assert_eq!(snapshot.role("r").unwrap().users, [7]);
        assert_eq!(snapshot.role("q").unwrap().roles, [11]);
        assert_eq!(snapshot.schema("s").unwrap().owner, "eve");
        assert_eq!(snapshot.parameters().get("p").map(String::as_str), Some("1"));
        commit(&mut log, 3, &[set(None), Change::DropGroup(9), Change::DropRole(11)]);
        let (snapshot, _) = log.read().unwrap();
        assert_eq!(snapshot.roles().count(), 1);
        assert!(snapshot.role("q").unwrap().roles.is_empty());
        assert!(snapshot.parameters().is_empty() && snapshot.groups().next().is_none());
    }

    #[test]
    fn a_file_without_groups_gets_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        old.execute_batch(SCHEMA_OF_USERS).unwrap();
        old.execute_batch(
            "INSERT INTO meta VALUES ('format', 2), ('next_xid', 1), ('next_oid', 8),
             ('next_segment', 1); INSERT INTO users VALUES ('awsuser', 7, 'v', 1);",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let log = CatalogLog::open(&path).unwrap();
            let (snapshot, _) = log.read().unwrap();
            let user = snapshot.user("awsuser").unwrap();
            assert!(user.superuser && user.verifier.as_deref() == Some("v"));
            assert_eq!(user.connection_limit, None);
        }
    }
}
