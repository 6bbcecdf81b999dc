//! The modules that are measured: examples of the repository, as they were built.

use std::path::{Path, PathBuf};

/// What asks the functions are given. A request without a body has its query in the place of it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The path with the query.
    pub path: &'static str,
    /// What the function answers.
    pub answer: &'static str,
}

/// A function that answers by itself, or with the store.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its language, for the table.
    pub language: &'static str,
    /// Where it is.
    pub file: PathBuf,
    /// The id that it is installed by.
    pub id: &'static str,
    /// A request to it.
    pub ask: Ask,
}

/// `id_1` and `id_2`, of which the first asks the second, which asks the store.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Their language.
    pub language: &'static str,
    /// Their files.
    pub files: [PathBuf; 2],
}

/// The key of the store that the pair reads, and how long its value is.
pub const KEY: (&str, usize) = ("book1", 3);

/// What both of the pair answer; the value is what [`crate::load::save`] writes.
const BOOKS: &str = "There are xxx inventories for book1.";

/// The smallest Rust module that answers 200 with a text, asking nobody; it has no id of its own.
pub fn alone() -> Module {
    Module {
        language: "Rust",
        file: built("rust-bad"),
        id: "alone",
        ask: Ask {
            path: "/?none",
            answer: "loop, memory, pointers, recursion or trap?",
        },
    }
}

/// The pair in Rust.
pub fn rust_pair() -> Pair {
    Pair {
        language: "Rust",
        files: ["rust-id_1", "rust-id_2"].map(built),
    }
}

/// The pair in Go, which is not kept in the repository; the error says what is missing.
pub fn go_pair() -> Result<Pair, String> {
    let target = std::env::current_exe().ok();
    // target/PROFILE/layotto-bench
    let folder = target.as_deref().and_then(|program| program.ancestors().nth(2));
    let folder = folder
        .map(|target| target.join("functions/go"))
        .unwrap_or_default();
    let files = ["go-id_1.wasm", "go-id_2.wasm"].map(|name| folder.join(name));
    match files.iter().find(|file| !file.is_file()) {
        None => Ok(Pair {
            language: "Go",
            files,
        }),
        Some(_) => Err("`cargo xtask build-functions go` has not built it".to_owned()),
    }
}

impl Pair {
    /// A request to the first.
    pub fn ask(&self) -> Ask {
        Ask {
            path: "/?name=book1",
            answer: BOOKS,
        }
    }

    /// The second alone.
    pub fn second(&self) -> Module {
        let [_, file] = &self.files;
        Module {
            language: self.language,
            file: file.clone(),
            id: "id_2",
            ask: Ask {
                path: "/?book1",
                answer: BOOKS,
            },
        }
    }
}

fn built(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/functions/built");
    folder.join(format!("{name}.wasm"))
}

/// The same module with a custom section of its own, so that its bytes are those of no other.
pub fn distinct(module: &[u8], number: u32) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    const NAME: &[u8] = b"bench";
    let content = number.to_le_bytes();
    // Both lengths are of one byte in LEB128.
    let length = 1 + NAME.len() + content.len();
    [module, &[CUSTOM, length as u8, NAME.len() as u8], NAME, &content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_the_bounds_is_no_longer_than_150_kb() {
        let length = std::fs::metadata(alone().file).unwrap().len();
        assert!(length <= 150_000, "{length}");
    }

    #[test]
    fn modules_with_different_sections_are_valid_and_differ() {
        let module = std::fs::read(alone().file).unwrap();
        let [one, other] = [1, 2].map(|number| distinct(&module, number));
        assert_ne!(one, other);
        let engine = wasmtime::Engine::default();
        for bytes in [one, other] {
            wasmtime::Module::validate(&engine, &bytes).unwrap();
        }
    }
}
