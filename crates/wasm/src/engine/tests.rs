use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::*;

const SMALL: &str = r#"(module (memory (export "memory") 1) (func (export "f") (result i32) i32.const 7))"#;

fn engine(cache: Option<&Path>) -> Engine {
    Engine::new(&Settings {
        cache: cache.map(Path::to_owned),
        instances: 8,
        ..Settings::default()
    })
    .unwrap()
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// The files of the cache with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

fn refusal(bytes: &[u8]) -> String {
    engine(None).load(bytes).unwrap_err().to_string()
}

#[test]
fn bytes_that_are_no_module_are_refused_with_the_reason() {
    assert!(refusal(b"(module)").contains("not a WebAssembly module"));
    assert!(refusal(b"").contains("not a WebAssembly module"));
    assert!(refusal(b"\0asm\x0d\0\x01\0").contains("component"));
    assert_eq!(refusal(b"\0asm\x01\0\0\0\xff"), "not a valid module");
    assert!(refusal(&wasm("(module)")).contains("memory"));
    assert!(refusal(&vec![0; LONGEST_MODULE + 1]).contains("67108865 bytes"));
}

#[test]
fn an_invalid_module_says_where_it_is_wrong() {
    let mut bytes = wasm(SMALL);
    bytes.truncate(bytes.len() - 3);
    let error = engine(None).load(&bytes).unwrap_err();
    let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let text: String = causes.map(ToString::to_string).collect();
    assert!(text.contains("offset"), "{text}");
}

#[test]
fn a_compiled_module_is_taken_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = wasm(SMALL);
    engine(Some(folder.path())).load(&bytes).unwrap();
    let [file] = &files(folder.path(), "cwasm")[..] else {
        panic!("one file");
    };
    let before = fs::metadata(file).unwrap().modified().unwrap();
    let engine = engine(Some(folder.path()));
    let cache = engine.cache.as_ref().unwrap();
    assert!(
        cache
            .load(engine.wasmtime(), &cache.key(&sha256(&bytes)))
            .is_some()
    );
    engine.load(&bytes).unwrap();
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), before);
}

#[test]
fn another_content_has_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Some(folder.path()));
    engine.load(&wasm(SMALL)).unwrap();
    engine.load(&wasm(&SMALL.replace('7', "8"))).unwrap();
    assert_eq!(files(folder.path(), "cwasm").len(), 2);
}

#[test]
fn other_settings_have_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = |config: &Config| {
        let engine = wasmtime::Engine::new(config).unwrap();
        Cache::open(folder.path().to_owned(), &engine).unwrap().key("")
    };
    let mut other = config();
    other.epoch_interruption(false);
    assert_eq!(key(&config()), key(&config()));
    assert_ne!(key(&config()), key(&other));
}

/// Loads from a cache that `spoil` has changed: what it held is not used, and the module is there.
fn refused(spoil: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = wasm(SMALL);
    let engine = engine(Some(folder.path()));
    engine.load(&bytes).unwrap();
    spoil(&files(folder.path(), "cwasm")[0]);
    let cache = engine.cache.as_ref().unwrap();
    assert!(
        cache
            .load(engine.wasmtime(), &cache.key(&sha256(&bytes)))
            .is_none(),
        "not believed"
    );
    engine.load(&bytes).unwrap();
    assert!(
        cache
            .load(engine.wasmtime(), &cache.key(&sha256(&bytes)))
            .is_some(),
        "written anew"
    );
}

#[test]
fn a_corrupted_file_is_refused_and_replaced() {
    refused(|file| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    });
    refused(|file| fs::write(file, b"").unwrap());
}

#[test]
fn a_file_without_its_digest_is_refused() {
    refused(|file| fs::remove_file(file.with_extension("sha256")).unwrap());
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    refused(|file| fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap());
}

#[test]
fn a_file_of_another_engine_is_refused_though_its_digest_is_right() {
    refused(|file| {
        let mut config = config();
        config.epoch_interruption(false);
        let other = wasmtime::Engine::new(&config).unwrap();
        let bytes = Module::new(&other, SMALL_BYTES).unwrap().serialize().unwrap();
        let sum = ring::digest::digest(&ring::digest::SHA256, &bytes);
        fs::write(file, bytes).unwrap();
        fs::write(file.with_extension("sha256"), crate::hex(sum.as_ref())).unwrap();
    });
}

/// An empty module.
const SMALL_BYTES: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn a_folder_that_others_may_write_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(engine(Some(folder.path())).cache.is_none());
}
