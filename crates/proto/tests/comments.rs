//! Everything a client can name in `proto/` has a comment: the .proto files are the API reference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

// Field numbers in descriptor.proto, of which source locations' paths consist.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const SERVICE_METHODS: i32 = 2;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUMS: i32 = 4;
const MESSAGE_ONEOFS: i32 = 8;
const ENUM_VALUES: i32 = 2;

#[test]
fn every_item_has_a_leading_comment() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut compiler = protox::Compiler::new([&root]).unwrap();
    compiler.include_source_info(true);
    compiler.open_files(proto_files(&root)).unwrap();
    let files = compiler.file_descriptor_set().file;

    let items: Vec<_> = files.iter().map(Walk::of).collect();
    let seen: usize = items.iter().map(|w| w.seen).sum();
    let bare: Vec<_> = items.into_iter().flat_map(|w| w.bare).collect();
    assert!(seen > 900, "only {seen} items found");
    assert!(
        bare.is_empty(),
        "{} of {seen} items have no comment:\n{}",
        bare.len(),
        bare.join("\n")
    );
}

fn proto_files(dir: &Path) -> Vec<PathBuf> {
    let (dirs, files): (Vec<_>, Vec<_>) = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .partition(|p| p.is_dir());
    let here = files
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "proto"));
    here.chain(dirs.iter().flat_map(|d| proto_files(d))).collect()
}

/// Collects the names of a file's items whose location carries no comment.
struct Walk {
    commented: HashSet<Vec<i32>>,
    seen: usize,
    bare: Vec<String>,
}

impl Walk {
    fn of(file: &FileDescriptorProto) -> Self {
        let mut walk = Self {
            commented: commented_paths(file),
            seen: 0,
            bare: Vec::new(),
        };
        walk.services(file);
        for (i, message) in numbered(&file.message_type) {
            walk.message(&[FILE_MESSAGES, i], file.package(), message);
        }
        for (i, item) in numbered(&file.enum_type) {
            walk.enumeration(&[FILE_ENUMS, i], file.package(), item);
        }
        walk
    }

    fn check(&mut self, path: &[i32], scope: &str, name: &str) -> String {
        let full_name = format!("{scope}.{name}");
        self.seen += 1;
        if !self.commented.contains(path) {
            self.bare.push(full_name.clone());
        }
        full_name
    }

    fn services(&mut self, file: &FileDescriptorProto) {
        for (i, service) in numbered(&file.service) {
            let path = [FILE_SERVICES, i];
            let name = self.check(&path, file.package(), service.name());
            for (j, method) in numbered(&service.method) {
                self.check(&below(&path, SERVICE_METHODS, j), &name, method.name());
            }
        }
    }

    fn message(&mut self, path: &[i32], scope: &str, message: &DescriptorProto) {
        if message.options.as_ref().is_some_and(|o| o.map_entry()) {
            return;
        }
        let name = self.check(path, scope, message.name());
        for (i, field) in numbered(&message.field) {
            self.check(&below(path, MESSAGE_FIELDS, i), &name, field.name());
        }
        self.oneofs(path, &name, message);
        for (i, nested) in numbered(&message.nested_type) {
            self.message(&below(path, MESSAGE_NESTED, i), &name, nested);
        }
        for (i, item) in numbered(&message.enum_type) {
            self.enumeration(&below(path, MESSAGE_ENUMS, i), &name, item);
        }
    }

    fn oneofs(&mut self, path: &[i32], scope: &str, message: &DescriptorProto) {
        for (i, oneof) in numbered(&message.oneof_decl) {
            let written = message
                .field
                .iter()
                .any(|f| f.oneof_index == Some(i) && !f.proto3_optional());
            if written {
                self.check(&below(path, MESSAGE_ONEOFS, i), scope, oneof.name());
            }
        }
    }

    fn enumeration(&mut self, path: &[i32], scope: &str, item: &EnumDescriptorProto) {
        let name = self.check(path, scope, item.name());
        for (i, value) in numbered(&item.value) {
            self.check(&below(path, ENUM_VALUES, i), &name, value.name());
        }
    }
}

fn commented_paths(file: &FileDescriptorProto) -> HashSet<Vec<i32>> {
    let info = file.source_code_info.as_ref().expect("source info was asked for");
    let commented = info
        .location
        .iter()
        .filter(|l| !l.leading_comments().trim().is_empty());
    commented.map(|l| l.path.clone()).collect()
}

fn below(path: &[i32], kind: i32, index: i32) -> Vec<i32> {
    [path, &[kind, index]].concat()
}

fn numbered<T>(items: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (0..).zip(items)
}
