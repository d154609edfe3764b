//! Binding, and running what was bound on tables in memory.
