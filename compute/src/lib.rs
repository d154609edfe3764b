//! Placeholder.

pub mod load;
pub mod object_storage;
