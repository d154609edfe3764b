//! Dropping what other objects need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::ids::TableId;

use super::Transaction;
use super::lock::LockMode;
use crate::catalog::dependency::{ForeignKey, is_needed};
use crate::catalog::{Change, Definition, TableEntry};
use crate::error::Result;

impl Transaction {
    /// Whether a table that it sees has been dropped by another transaction.
    pub fn is_gone(&self, table: TableId) -> bool {
        !self.made.contains(&table) && self.manager.snapshot().table_by_id(table).is_none()
    }

    /// Drops tables that it holds alone, and all that they need of each other. With `cascade` foreign
    /// keys of other tables go too; the answer names these.
    ///
    /// # Errors
    /// If other tables need one of them.
    pub async fn drop_tables(
        &mut self,
        tables: &BTreeSet<TableId>,
        cascade: bool,
    ) -> Result<Vec<ForeignKey>> {
        let view = Arc::clone(&self.view);
        let mut all = Vec::new();
        for entry in tables.iter().filter_map(|table| view.table_by_id(*table)) {
            let keys = view.keys_to_table(entry);
            let others: Vec<ForeignKey> =
                keys.iter().filter(|key| !tables.contains(&key.table)).cloned().collect();
            if !others.is_empty() && !cascade {
                return Err(is_needed(&format!("table {}", entry.name), &others));
            }
            all.extend(keys);
        }
        drop(view);
        self.drop_foreign_keys(&all).await?;
        for table in tables {
            self.change(Change::DropTable(*table))?;
        }
        all.retain(|key| !tables.contains(&key.table));
        Ok(all)
    }

    /// Takes foreign keys off their tables.
    ///
    /// # Errors
    /// If one of these was dropped meanwhile; whoever begins again does not find it.
    pub async fn drop_foreign_keys(&mut self, keys: &[ForeignKey]) -> Result<()> {
        let mut by_table: BTreeMap<TableId, BTreeSet<u32>> = BTreeMap::new();
        for key in keys {
            by_table.entry(key.table).or_default().insert(key.oid);
        }
        for (table, keys) in by_table {
            let locked = self.lock(table, LockMode::Exclusive).await;
            if self.is_gone(table) {
                // The statement sees it still.
                return Err(self.conflict(table));
            }
            locked?;
            let Some(entry) = self.view.table_by_id(table).map(Arc::clone) else { continue };
            let mut next = TableEntry::clone(&entry);
            next.constraints.retain(|constraint| !keys.contains(&constraint.oid));
            self.change(Change::Define(table, Definition::change(&entry, Arc::new(next))))?;
        }
        Ok(())
    }
}
