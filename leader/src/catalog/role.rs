//! Roles in the catalog, and how a commit changes them.

use std::collections::BTreeSet;

use super::Snapshot;
use super::user::{changed_meanwhile, duplicate, undefined};
use crate::error::Result;

/// A role: users have it, and other roles, and so their users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleEntry {
    /// Its number, never used again.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// The number of the user who owns it.
    pub owner: u32,
    /// The numbers of the users to whom it was granted, in the order of the grants.
    pub users: Vec<u32>,
    /// The numbers of the roles to which it was granted.
    pub roles: Vec<u32>,
}

impl Snapshot {
    /// All roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &RoleEntry> {
        self.roles.values()
    }

    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&RoleEntry> {
        self.roles.get(name)
    }

    /// The role with that number.
    pub fn role_by_oid(&self, oid: u32) -> Option<&RoleEntry> {
        self.roles.values().find(|role| role.oid == oid)
    }

    /// The roles that a user has, also by way of others; by name.
    pub fn roles_of(&self, user: u32) -> Vec<&RoleEntry> {
        let mut known: BTreeSet<u32> = BTreeSet::new();
        loop {
            let is_new = |role: &&RoleEntry| {
                !known.contains(&role.oid)
                    && (role.users.contains(&user)
                        || role.roles.iter().any(|grantee| known.contains(grantee)))
            };
            let new: Vec<u32> = self.roles.values().filter(is_new).map(|role| role.oid).collect();
            if new.is_empty() {
                return self.roles.values().filter(|role| known.contains(&role.oid)).collect();
            }
            known.extend(new);
        }
    }

    /// Whether who has the role `grantee` has the role `role`, also by way of others.
    pub fn includes_role(&self, grantee: u32, role: u32) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![role];
        while let Some(oid) = next.pop() {
            if oid == grantee {
                return true;
            }
            if seen.insert(oid)
                && let Some(role) = self.role_by_oid(oid)
            {
                next.extend(&role.roles);
            }
        }
        false
    }

    /// A role has this entry from now on; under another name it is renamed. `before` is what it was
    /// when the change was made of it: by now there must be no other.
    pub(super) fn put_role(&mut self, entry: &RoleEntry, before: Option<&RoleEntry>) -> Result<()> {
        if self.roles.get(&entry.name).is_some_and(|known| known.oid != entry.oid) {
            return Err(duplicate("role", &entry.name));
        }
        if self.role_by_oid(entry.oid) != before {
            return Err(changed_meanwhile("role", &entry.name));
        }
        self.roles.retain(|_, role| role.oid != entry.oid);
        self.roles.insert(entry.name.clone(), entry.clone());
        Ok(())
    }

    /// A role is gone, and nobody has it any more.
    pub(super) fn drop_role(&mut self, oid: u32) -> Result<()> {
        let before = self.roles.len();
        self.roles.retain(|_, role| role.oid != oid);
        if self.roles.len() == before {
            return Err(undefined("role", &oid.to_string()));
        }
        for role in self.roles.values_mut() {
            role.roles.retain(|grantee| *grantee != oid);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Change;

    fn role(oid: u32, name: &str, users: &[u32], roles: &[u32]) -> Change {
        Change::PutRole(entry(oid, name, users, roles), None)
    }

    fn entry(oid: u32, name: &str, users: &[u32], roles: &[u32]) -> RoleEntry {
        let (users, roles) = (users.to_vec(), roles.to_vec());
        RoleEntry { oid, name: name.to_owned(), owner: 1, users, roles }
    }

    fn names(snapshot: &Snapshot, user: u32) -> Vec<&str> {
        snapshot.roles_of(user).iter().map(|role| role.name.as_str()).collect()
    }

    #[test]
    fn a_user_has_roles_by_way_of_roles() {
        let mut snapshot = Snapshot::default();
        // c is granted to b, b to a, a to user 7; d to user 8 only.
        let all = [
            role(10, "a", &[7], &[]),
            role(11, "b", &[], &[10]),
            role(12, "c", &[], &[11]),
            role(13, "d", &[8], &[]),
        ];
        for change in &all {
            snapshot.apply(change).unwrap();
        }
        assert_eq!(names(&snapshot, 7), ["a", "b", "c"]);
        assert_eq!(names(&snapshot, 8), ["d"]);
        assert!(snapshot.includes_role(10, 12) && !snapshot.includes_role(12, 10));
        snapshot.apply(&Change::DropRole(11)).unwrap();
        assert_eq!(names(&snapshot, 7), ["a"]);
        assert!(snapshot.role("c").unwrap().roles.is_empty());
        assert!(snapshot.apply(&Change::DropRole(11)).is_err());
        assert!(snapshot.apply(&role(14, "a", &[], &[])).is_err());
    }

    #[test]
    fn a_change_of_what_was_changed_meanwhile_is_refused() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(&role(10, "a", &[7], &[])).unwrap();
        let known = entry(10, "a", &[7], &[]);
        let revoked = Change::PutRole(entry(10, "a", &[], &[]), Some(known.clone()));
        let granted = Change::PutRole(entry(10, "a", &[7, 8], &[]), Some(known));
        snapshot.apply(&revoked).unwrap();
        assert!(snapshot.apply(&granted).is_err());
        snapshot.apply(&Change::DropRole(10)).unwrap();
        assert!(snapshot.apply(&granted).is_err());
    }
}
