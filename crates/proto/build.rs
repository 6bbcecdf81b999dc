//! Compiles `proto/` with protox (no `protoc`) and writes the gRPC code and the descriptor set to `OUT_DIR`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message as _;
use tonic_prost_build::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", root.display());

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(proto_files(&root)?)?;
    let set = compiler.file_descriptor_set();

    fs::write(
        out.join("descriptors.bin"),
        without_comments(set.clone()).encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .include_file("layotto.rs")
        .compile_fds(set)?;
    Ok(())
}

/// Every `.proto` file below `dir`, in a stable order.
fn proto_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(dir)?
        .map(|e| Ok(e?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reflection clients read no comments, so the embedded set goes without.
fn without_comments(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}
