//! Repository invariants. They are tests, in `tests/tidy.rs`, so that nobody can forget to run
//! them; the library itself is empty, so that running them builds nothing of the product.
