//! File stores.

use std::sync::Arc;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use layotto_core::{
    Error, ErrorKind, Metadata, Result,
    file::{Content, Entry, List, Page, Stat},
};
use layotto_proto::runtime::v1::{
    DelFileRequest, FileInfo, FileMeta, FileMetaValue, FileRequest, GetFileMetaRequest, GetFileMetaResponse,
    GetFileRequest, GetFileResponse, ListFileRequest, ListFileResp, PutFileRequest,
};
use tonic::{Code, Request, Status, Streaming};

use super::{framework, upload::Ending};
use crate::{
    Runtime,
    ops::file::{self, PIECE},
    status::from_error,
};

type Answer = std::result::Result<GetFileResponse, Status>;

pub(super) async fn get(runtime: &Runtime, request: GetFileRequest) -> Result<BoxStream<'static, Answer>> {
    let GetFileRequest {
        store_name,
        name,
        metadata,
    } = request;
    let content = file::get(runtime, &store_name, &name, &metadata).await?;
    let store: Arc<str> = store_name.into();
    let pieces = content.map(move |data| data.map_err(|error| (Arc::clone(&store), error)));
    let answers = pieces.flat_map(|data| match data {
        Ok(data) => stream::iter(pieces_of(data)).map(Ok).left_stream(),
        Err((store, error)) => {
            let status = from_error(&file::read_error(&store, error));
            stream::once(std::future::ready(Err(status))).right_stream()
        }
    });
    Ok(answers.boxed())
}

/// Messages of at most [`PIECE`] bytes, none of them empty.
fn pieces_of(mut data: Bytes) -> impl Iterator<Item = GetFileResponse> {
    std::iter::from_fn(move || {
        let piece = data.split_to(data.len().min(PIECE));
        (!piece.is_empty()).then_some(GetFileResponse { data: piece })
    })
}

pub(super) async fn put(
    runtime: &Runtime,
    request: Request<Streaming<PutFileRequest>>,
) -> std::result::Result<(), Status> {
    let ending = request.extensions().get::<Ending>().cloned().unwrap_or_default();
    let mut requests = request.into_inner();
    let first = match requests.message().await {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(()),
        Err(status) => return Err(not_received(status)),
    };
    let PutFileRequest {
        store_name,
        name,
        data,
        metadata,
    } = first;
    let content = content(data, requests, ending);
    file::put(runtime, &store_name, &name, &metadata, content)
        .await
        .map_err(|error| from_error(&error))
}

fn not_received(status: Status) -> Status {
    let status = framework::reword(status);
    let text = format!("receive file data fail: err: {}", status.message());
    let kind = match status.code() {
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Internal,
    };
    from_error(&Error::new(kind, text))
}

/// The content, pulled from the client message by message. A client that goes away in the middle
/// is an error: no store may take the part for the whole.
fn content(first: Bytes, requests: Streaming<PutFileRequest>, ending: Ending) -> Content {
    let rest = stream::unfold(Some(requests), move |requests| {
        let ending = ending.clone();
        async move {
            let mut requests = requests?;
            match requests.message().await {
                Ok(Some(message)) => Some((Ok(message.data), Some(requests))),
                Ok(None) if ending.is_broken() => {
                    let error = Error::new(ErrorKind::Cancelled, "the client cancelled the call");
                    Some((Err(error), None))
                }
                Ok(None) => None,
                Err(status) => Some((Err(receive_error(status)), None)),
            }
        }
    });
    Box::pin(stream::once(std::future::ready(Ok(first))).chain(rest))
}

fn receive_error(status: Status) -> Error {
    let status = framework::reword(status);
    let kind = match status.code() {
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::Cancelled | Code::Unavailable => ErrorKind::Cancelled,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, status.message())
}

pub(super) async fn list(runtime: &Runtime, request: ListFileRequest) -> Result<ListFileResp> {
    let ListFileRequest {
        request,
        page_size,
        marker,
    } = request;
    let (store, directory, metadata) = named(request)?;
    let wish = List {
        directory,
        page_size,
        marker,
        metadata,
    };
    let Page {
        files,
        marker,
        is_truncated,
    } = file::list(runtime, &store, &wish).await?;
    Ok(ListFileResp {
        files: files.into_iter().map(info).collect(),
        marker,
        is_truncated,
    })
}

fn info(entry: Entry) -> FileInfo {
    let Entry {
        name,
        size,
        last_modified,
        metadata,
    } = entry;
    FileInfo {
        file_name: name,
        size,
        last_modified,
        metadata,
    }
}

pub(super) async fn delete(runtime: &Runtime, request: DelFileRequest) -> Result<()> {
    let (store, name, metadata) = named(request.request)?;
    file::delete(runtime, &store, &name, &metadata).await
}

pub(super) async fn stat(runtime: &Runtime, request: GetFileMetaRequest) -> Result<GetFileMetaResponse> {
    let (store, name, metadata) = named(request.request)?;
    let Stat {
        size,
        last_modified,
        metadata,
    } = file::stat(runtime, &store, &name, &metadata).await?;
    let metadata = metadata
        .into_iter()
        .map(|(key, value)| (key, FileMetaValue { value }))
        .collect();
    Ok(GetFileMetaResponse {
        size,
        last_modified,
        response: Some(FileMeta { metadata }),
    })
}

fn named(request: Option<FileRequest>) -> Result<(String, String, Metadata)> {
    let FileRequest {
        store_name,
        name,
        metadata,
    } = request.ok_or_else(|| Error::invalid("request can't be nil"))?;
    Ok((store_name, name, metadata))
}
