//! Messages, clients and servers of the runtime API, generated from `proto/` by `build.rs`.
//!
//! Holds no logic. Modules are named after the protobuf packages without `spec.proto`.

#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the comments are those of the .proto files"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/layotto.rs"));
}

pub use generated::spec::proto::{extension, pluggable, runtime};

/// Encoded `FileDescriptorSet` of every package and its imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
