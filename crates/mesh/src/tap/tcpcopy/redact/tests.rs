use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Redactor;
use crate::tap::tcpcopy::{
    hpack::{Decoder, Field, HiddenNames, encode},
    http2::{END_HEADERS, END_STREAM, HEAD, Head, Kind, PADDED, PREFACE, PRIORITY},
};

fn redactor() -> Redactor {
    Redactor::new(HiddenNames::new(["authorization", "Cookie"]))
}

fn copy(redactor: &mut Redactor, reads: &[&str]) -> String {
    let copies = reads.iter().map(|read| redactor.copy(read.as_bytes()));
    String::from_utf8(copies.flatten().collect()).unwrap()
}

/// `bytes`, cut into reads of these sizes, over and over.
fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let (mut reads, mut rest, mut sizes) = (Vec::new(), bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (read, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        reads.push(read.to_vec());
        rest = behind;
    }
    reads
}

fn copy_cut(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut redactor = redactor();
    cut(bytes, sizes)
        .iter()
        .flat_map(|read| redactor.copy(read))
        .collect()
}

const REQUEST: &str = "POST /hello HTTP/1.1\r\nHost: a\r\nAUTHORIZATION: Bearer s3cret\r\ncookie : a=s3cret\r\n \
                       folded=s3cret\r\nauthorizations: 1\r\ncontent-length: 21\r\n\r\nhello\ncookie:s3cret\nx\n";

const REDACTED: &str = "POST /hello HTTP/1.1\r\nHost: a\r\nAUTHORIZATION: ****** ******\r\ncookie : ********\r\n \
                        *************\r\nauthorizations: 1\r\ncontent-length: 21\r\n\r\nhello\ncookie:******\nx\n";

#[test]
fn values_of_hidden_headers_are_blanked_over_http1() {
    assert_eq!(
        copy(&mut redactor(), &[REQUEST, REQUEST]),
        format!("{REDACTED}{REDACTED}")
    );
}

#[test]
fn a_gap_over_http1_ends_with_the_next_request() {
    let mut redactor = redactor();
    assert_eq!(
        copy(&mut redactor, &["GET / HTTP/1.1\r\nauthoriz"]),
        "GET / HTTP/1.1\r\nauthoriz"
    );
    redactor.skip(b"ation: Bea");
    assert_eq!(copy(&mut redactor, &["rer s3cret\r\n\r\n", "more s3cret\n"]), "");
    assert_eq!(
        copy(&mut redactor, &["GET /b HTTP/1.1\r\n\r\n"]),
        "GET /b HTTP/1.1\r\n\r\n"
    );
}

#[test]
fn a_connection_whose_first_reads_were_skipped_is_known() {
    let mut http1 = redactor();
    http1.skip(b"PR");
    http1.skip(b"OPFIND / HTTP/1.1\r\n\r\n");
    assert_eq!(copy(&mut http1, &[REQUEST]), REDACTED);
    let mut other = redactor();
    other.skip(b"P\x01");
    assert_eq!(copy(&mut other, &["GET / HTTP/1.1\r\n"]), "");
}

#[test]
fn http2_in_the_middle_of_http1_is_not_shown() {
    let mut redactor = redactor();
    let shown = copy(
        &mut redactor,
        &[
            "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\ns3cret",
        ],
    );
    assert_eq!(shown, "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\nPRI ");
    assert_eq!(copy(&mut redactor, &["s3cret"]), "");
}

#[test]
fn other_protocols_are_withheld_unless_nothing_is_hidden() {
    for bytes in [
        &b"\x01\x01\x00\x01authorization"[..],
        b"\xda\xbb\xc2",
        b"hello",
        b"PRI\x00",
        b"A\x00",
    ] {
        assert!(redactor().copy(bytes).is_empty(), "{bytes:?}");
        let mut open = Redactor::new(HiddenNames::default());
        assert_eq!(open.copy(bytes), bytes);
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        encode(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

/// Frames behind a preface.
fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frames.concat()].concat()
}

/// The frames of a copy, with the fields of header blocks, which need no table.
fn frames(mut bytes: &[u8]) -> Vec<(Kind, u8, String)> {
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut frames = Vec::new();
    while let Some(head) = Head::first(bytes) {
        let payload = &bytes[HEAD..HEAD + head.length];
        let text = match head.kind {
            Kind::Headers => fields(payload),
            _ => String::from_utf8_lossy(payload).into_owned(),
        };
        frames.push((head.kind, head.flags, text));
        bytes = &bytes[HEAD + head.length..];
    }
    assert!(bytes.is_empty(), "ends within a frame");
    frames
}

fn fields(block: &[u8]) -> String {
    let mut text = String::new();
    let mut each = |field: Field<'_>| {
        let [name, value] = [field.name, field.value].map(|part| String::from_utf8_lossy(part.unwrap()));
        text += &format!("{name}={value};");
    };
    Decoder::new(HiddenNames::default())
        .decode(block, &mut each)
        .unwrap();
    text
}

#[test]
fn a_block_of_several_frames_becomes_one_without_padding_and_priority() {
    let block = block(&[(":path", "/hello"), ("authorization", "s3cret"), ("a", "b")]);
    let (first, second) = block.split_at(20);
    let first = [&[3], &[9; 5][..], first, &[0; 3]].concat();
    let bytes = connection(&[
        frame(1, PADDED | PRIORITY | END_STREAM, &first),
        frame(9, 0, second),
        frame(9, END_HEADERS, &[]),
        frame(0, 0, b"data"),
    ]);
    let expected = [
        (
            Kind::Headers,
            END_STREAM | END_HEADERS,
            ":path=/hello;authorization=***;a=b;".to_owned(),
        ),
        (Kind::Data, 0, "data".to_owned()),
    ];
    for size in 1..bytes.len() {
        assert_eq!(frames(&copy_cut(&bytes, &[size])), expected, "in reads of {size}");
    }
}

#[test]
fn unknown_frames_are_blanked_and_pushes_left_out() {
    let bytes = connection(&[
        frame(0x4d, 0, b"s3cret"),
        frame(5, END_HEADERS, &[0, 0, 0, 2, 0x82]),
        frame(6, 0, b"12345678"),
    ]);
    let expected = [
        (Kind::Other(0x4d), 0, "******".to_owned()),
        (Kind::Ping, 0, "12345678".to_owned()),
    ];
    assert_eq!(frames(&copy_cut(&bytes, &[1000])), expected);
}

#[test]
fn nothing_is_trusted_behind_a_malformed_block() {
    let bytes = connection(&[
        frame(6, 0, b"12345678"),
        frame(1, END_HEADERS, &[0x80]),
        frame(0, 0, b"s3cret"),
    ]);
    let copied = frames(&copy_cut(&bytes, &[1000]));
    assert_eq!(copied.len(), 1, "the ping only: {copied:?}");
}

#[test]
fn a_frame_that_began_unseen_is_left_out() {
    let mut redactor = redactor();
    let bytes = connection(&[frame(0, 0, b"unseen"), frame(0, 0, b"seen")]);
    let (unseen, seen) = bytes.split_at(PREFACE.len() + HEAD + 2);
    redactor.skip(unseen);
    assert_eq!(frames(&redactor.copy(seen)), [(Kind::Data, 0, "seen".to_owned())]);
}

#[test]
fn a_block_that_is_cut_by_a_gap_is_left_out() {
    let headers = frame(1, END_HEADERS, &block(&[("authorization", "s3cret")]));
    let bytes = connection(&[headers, frame(0, 0, b"seen")]);
    for start in 0..bytes.len() - HEAD - 4 {
        for end in start + 1..bytes.len() - HEAD - 4 {
            let mut redactor = redactor();
            let mut copied = redactor.copy(&bytes[..start]);
            redactor.skip(&bytes[start..end]);
            copied.extend(redactor.copy(&bytes[end..]));
            assert!(!contains(&copied, "s3cret"), "{start}..{end}");
            assert!(contains(&copied, "seen"), "{start}..{end}");
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What a client of hyper sends: `count` requests with a token, one after the other.
async fn recorded(count: usize) -> Vec<u8> {
    let (client, proxy_front) = tokio::io::duplex(64 * 1024);
    let (proxy_back, server) = tokio::io::duplex(64 * 1024);
    let record = Arc::<Mutex<Vec<u8>>>::default();
    let (mut from_client, mut to_client) = tokio::io::split(proxy_front);
    let (mut from_server, mut to_server) = tokio::io::split(proxy_back);
    let recording = record.clone();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            recording.lock().unwrap().extend_from_slice(&buffer[..length]);
            to_server.write_all(&buffer[..length]).await.unwrap();
        }
    });
    tokio::spawn(async move {
        let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
            request.into_body().collect().await.unwrap();
            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::new())))
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(TokioIo::new(server), service).await
    });
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    for number in 0..count {
        let request = http::Request::post("http://a/spec.proto.runtime.v1.Runtime/SayHello")
            .header("authorization", "Bearer s3cret")
            .header("x-number", number.to_string())
            .body(Full::new(Bytes::from(format!("message {number}"))));
        let reply = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    drop(sender);
    record.lock().unwrap().clone()
}

/// Fields of all header blocks, and all data.
fn headers_and_data(copy: &[u8]) -> (String, String) {
    let of = |wanted| {
        frames(copy)
            .into_iter()
            .filter(move |(kind, ..)| *kind == wanted)
            .map(|(.., text)| text)
            .collect()
    };
    (of(Kind::Headers), of(Kind::Data))
}

#[tokio::test]
async fn a_real_client_is_shown_without_its_token() {
    let bytes = recorded(3).await;
    let (headers, data) = headers_and_data(&copy_cut(&bytes, &[4096]));
    assert_eq!(data, "message 0message 1message 2");
    assert_eq!(
        headers
            .matches(":path=/spec.proto.runtime.v1.Runtime/SayHello;")
            .count(),
        3
    );
    assert_eq!(headers.matches("authorization=***;").count(), 3);
    assert!(
        headers.contains("x-number=2;") && !headers.contains("s3cret"),
        "{headers}"
    );
    assert!(!headers.contains("omitted"), "{headers}");
}

#[tokio::test]
async fn what_refers_to_an_unseen_request_is_counted_instead_of_shown() {
    let bytes = recorded(2).await;
    let mut redactor = redactor();
    // The first request's headers come with the first frame of that kind, behind the preface.
    let mut second = PREFACE.len();
    while Head::first(&bytes[second..]).unwrap().kind != Kind::Data {
        second += HEAD + Head::first(&bytes[second..]).unwrap().length;
    }
    redactor.skip(&bytes[..second]);
    let (headers, data) = headers_and_data(&redactor.copy(&bytes[second..]));
    assert_eq!(data, "message 0message 1");
    assert!(
        headers.contains(":method=POST;") && headers.contains("layotto-dump-omitted="),
        "{headers}"
    );
    assert!(
        !headers.contains(":authority") && !headers.contains("s3cret"),
        "{headers}"
    );
}

#[tokio::test]
async fn cuts_do_not_change_what_a_real_client_shows() {
    let bytes = recorded(2).await;
    let whole = copy_cut(&bytes, &[bytes.len()]);
    for size in 1..200 {
        assert_eq!(copy_cut(&bytes, &[size]), whole, "in reads of {size}");
    }
}

proptest! {
    #[test]
    fn cuts_do_not_change_what_is_shown_over_http1(sizes in prop::collection::vec(1_usize..40, 1..6)) {
        prop_assert_eq!(String::from_utf8(copy_cut(REQUEST.as_bytes(), &sizes)).unwrap(), REDACTED);
    }

    #[test]
    fn any_bytes_do_no_harm(
        preface in any::<bool>(),
        reads in prop::collection::vec((any::<bool>(), prop::collection::vec(0_u8..12, 0..60)), 0..12),
    ) {
        let mut redactor = redactor();
        if preface {
            redactor.copy(PREFACE);
        }
        for (copied, read) in reads {
            match copied {
                true => drop(redactor.copy(&read)),
                false => redactor.skip(&read),
            }
        }
    }
}
