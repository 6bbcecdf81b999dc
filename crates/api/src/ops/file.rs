//! File stores.

use layotto_core::{
    Error, Metadata, Result,
    file::{Content, FileStore, List, Page, Stat},
};

use crate::{
    Slot,
    runtime::{Runtime, component_error, look_up},
};

/// The most bytes of one piece of a file that [`get`] returns.
pub const PIECE: usize = 102_400;

/// Opens a file to read it.
pub async fn get(runtime: &Runtime, store: &str, name: &str, metadata: &Metadata) -> Result<Content> {
    let unknown = || format!("not supported store type: {store}");
    let slot = look_up(&runtime.components.file, store, unknown, unknown)?;
    let content = async { slot.get()?.get(name, metadata).await }.await;
    content.map_err(|error| read_error(store, error))
}

/// Shapes an error met while the content of a file is read.
pub fn read_error(store: &str, error: Error) -> Error {
    component_error("file", store, format!("get file fail,err: {error}"), error)
}

/// Writes a file.
pub async fn put(
    runtime: &Runtime,
    store: &str,
    name: &str,
    metadata: &Metadata,
    content: Content,
) -> Result<()> {
    let slot = find(runtime, store)?;
    let written = async { slot.get()?.put(name, metadata, content).await }.await;
    written.map_err(|error| unwrapped(store, error))
}

/// Lists a directory.
pub async fn list(runtime: &Runtime, store: &str, request: &List) -> Result<Page> {
    let slot = find(runtime, store)?;
    let page = async { slot.get()?.list(request).await }.await;
    page.map_err(|error| unwrapped(store, error))
}

/// Deletes a file.
pub async fn delete(runtime: &Runtime, store: &str, name: &str, metadata: &Metadata) -> Result<()> {
    let slot = find(runtime, store)?;
    let deleted = async { slot.get()?.delete(name, metadata).await }.await;
    deleted.map_err(|error| unwrapped(store, error))
}

/// Describes a file.
pub async fn stat(runtime: &Runtime, store: &str, name: &str, metadata: &Metadata) -> Result<Stat> {
    let slot = find(runtime, store)?;
    let stat = async { slot.get()?.stat(name, metadata).await }.await;
    stat.map_err(|error| unwrapped(store, error))
}

fn find<'a>(runtime: &'a Runtime, store: &str) -> Result<&'a Slot<dyn FileStore>> {
    let unknown = || format!("not support store type: {store}");
    look_up(&runtime.components.file, store, unknown, unknown).map(|slot| &**slot)
}

fn unwrapped(store: &str, error: Error) -> Error {
    component_error("file", store, error.message().to_owned(), error)
}
