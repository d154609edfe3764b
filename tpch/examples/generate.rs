//! Write the benchmark's data as Parquet files: `generate SCALE DIRECTORY`.
//! `answers/make.py` reads them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scale, directory] = arguments.as_slice() else {
        anyhow::bail!("usage: generate SCALE DIRECTORY");
    };
    tpch::generate::generate(Path::new(directory), scale.parse()?, 2, &AtomicBool::new(false))?;
    Ok(())
}
