//! For tests and fuzzing: a guest that passes every call on to the host.

use std::fmt::Write;

use wasmtime::{ExternType, Linker, Store, ValType};

use crate::guest::Guest;

/// A host function: its module, its name, and the types of what it takes and answers.
pub(crate) type Signature = (String, String, Vec<&'static str>, Vec<&'static str>);

/// Every host function, those of WASI under one of the names of that.
pub(crate) fn functions(linker: &Linker<Guest>, store: &mut Store<Guest>) -> Vec<Signature> {
    let found: Vec<_> = linker
        .iter(&mut *store)
        .map(|(module, name, found)| (module.to_owned(), name.to_owned(), found))
        .filter(|(module, _, _)| module != "wasi_unstable")
        .collect();
    let kind = |kind: ValType| if kind.is_i64() { "i64" } else { "i32" };
    let mut all: Vec<Signature> = found
        .into_iter()
        .map(|(module, name, found)| {
            let ExternType::Func(signature) = found.ty(&*store) else {
                panic!("{name} is a function");
            };
            let (params, results) = (signature.params().map(kind), signature.results().map(kind));
            (module, name, params.collect(), results.collect())
        })
        .collect();
    all.sort();
    all
}

/// A module that exports `functions` under their own names, with memory and allocator of its own;
/// `$host_<name>` are the host functions.
pub(crate) fn text(functions: &[Signature], own: &str) -> String {
    let (mut imports, mut exports) = (String::new(), String::new());
    for (module, name, params, results) in functions {
        let locals: String = (0..params.len()).fold(String::new(), |mut out, at| {
            write!(out, "local.get {at} ").expect("a text takes what is written");
            out
        });
        let (params, results) = (params.join(" "), results.join(" "));
        let signature = format!("(param {params}) (result {results})");
        writeln!(
            imports,
            "(import {module:?} {name:?} (func $host_{name} {signature}))"
        )
        .expect("a text takes what is written");
        writeln!(
            exports,
            "(func (export {name:?}) {signature} {locals} call $host_{name})"
        )
        .expect("a text takes what is written");
    }
    format!("(module {imports} {own} {exports})")
}
