# The menu of commands. Every line is plain cargo or bash, so it works where just is missing.

default:
    @just --list

# Format, lint, repository invariants and the tests of the leaf crates.
check:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings
    cargo nextest run -p tidy -p storage -p wlm

# Everything, as CI runs it; installs what is missing.
test:
    tests/run

# The simulation of workload management; BLUESHIFT_SEED repeats a run.
sim ARRIVALS="10000000":
    BLUESHIFT_SIM_ARRIVALS={{ARRIVALS}} cargo nextest run --release -p wlm --test sim --no-capture

# Every bit of every file of a small database flipped, random ones of a larger one, and of two nodes that
# heal them.
flips FLIPS="10000" HEALED="400":
    cargo nextest run -p storage -E 'test(/every_flipped_bit/)'
    TMPDIR=/dev/shm BLUESHIFT_FLIPS=all cargo nextest run --release -p blueshift -p compute -p leader \
        -p sql -p tpch --no-capture -E 'test(/every_(flip|flipped_bit|bit)_/)'
    BLUESHIFT_FLIPS={{FLIPS}} BLUESHIFT_SEGMENTS=64 cargo nextest run --release -p blueshift -p compute \
        -p leader -p sql -p tpch --no-capture -E 'test(random_flips_in_larger_files_are_found)'
    BLUESHIFT_FLIPS={{HEALED}} cargo nextest run --release -p blueshift -p compute -p leader -p sql \
        -p tpch --no-capture -E 'test(random_flips_are_healed_from_the_other_node)'

# The .slt files whose path contains FILTER.
slt FILTER="":
    cargo build --release
    BLUESHIFT_BINARY="${CARGO_TARGET_DIR:-$PWD/target}/release/blueshift" cargo test -p slt -- {{FILTER}}

# The client tests whose name contains FILTER.
e2e FILTER="/./":
    cargo nextest run --release -p blueshift -p compute -p leader -p sql -p tpch \
        -E 'package(blueshift) and test({{FILTER}})'

# TPC-H at scale SF, answers checked, DuckDB beside it.
tpch SF="1":
    cargo run --release -- tpch --scale {{SF}} --compare duckdb

# A server on the standard port with its data in ./blueshift-data.
run:
    cargo run --release -- start
