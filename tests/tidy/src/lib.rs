//! Repository invariants.
