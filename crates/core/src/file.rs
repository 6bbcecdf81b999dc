//! File stores.

use std::{collections::HashMap, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

use crate::{Component, Metadata, Result};

/// The content of a file, in pieces.
pub type Content = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Which files to list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct List {
    /// The directory.
    pub directory: String,
    /// The most files to return; 0 or less: all.
    pub page_size: i32,
    /// The last name of the page before; empty for the first page.
    pub marker: String,
    /// Settings of this call.
    pub metadata: Metadata,
}

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: i64,
    /// When it was last changed, as the store writes times.
    pub last_modified: String,
    /// What else the store says.
    pub metadata: Metadata,
}

/// A page of files, sorted by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The files.
    pub files: Vec<Entry>,
    /// The last name, to ask for the page after.
    pub marker: String,
    /// Whether there are more.
    pub is_truncated: bool,
}

/// What a store knows of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stat {
    /// Its size in bytes.
    pub size: i64,
    /// When it was last changed, as the store writes times.
    pub last_modified: String,
    /// What else the store says.
    pub metadata: HashMap<String, Vec<String>>,
}

/// A file store.
#[async_trait]
pub trait FileStore: Component {
    /// Opens a file to read it.
    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Content>;

    /// Writes a file, pulling `content` as fast as it can be stored.
    async fn put(&self, name: &str, metadata: &Metadata, content: Content) -> Result<()>;

    /// Lists a directory.
    async fn list(&self, request: &List) -> Result<Page>;

    /// Deletes a file.
    async fn delete(&self, name: &str, metadata: &Metadata) -> Result<()>;

    /// Describes a file.
    async fn stat(&self, name: &str, metadata: &Metadata) -> Result<Stat>;
}
