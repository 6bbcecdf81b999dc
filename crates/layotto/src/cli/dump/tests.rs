use std::{fs, path::Path};

use layotto_mesh::tap::tcpcopy::{hpack, http2};

use super::{ShowArgs, show};

const TIME: &str = "2026-11-26 10:00:00,123";

fn args(file: &Path) -> ShowArgs {
    ShowArgs {
        file: file.to_owned(),
        port: None,
        window: None,
        text: false,
        hex: false,
    }
}

fn line(window: &str, port: u16, bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{TIME} [INFO] [{window}][{port}]{}\n", hex.join(" "))
}

/// What is shown of a file with these contents.
fn shown(contents: impl AsRef<[u8]>, change: impl FnOnce(&mut ShowArgs)) -> String {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("dump_tcp_copy.log");
    fs::write(&file, contents).unwrap();
    let mut args = args(&file);
    change(&mut args);
    let mut out = Vec::new();
    show(&args, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// A call as a gRPC client sends it.
fn say_hello() -> Vec<u8> {
    let mut block = Vec::new();
    hpack::encode(b":path", b"/spec.proto.runtime.v1.Runtime/SayHello", &mut block);
    hpack::encode(b"authorization", b"***", &mut block);
    [
        http2::PREFACE.to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, http2::END_HEADERS, 1, &block),
        frame(0, http2::END_STREAM, 1, b"\0\0\0\0\x0c\x0a\x0ahelloworld"),
    ]
    .concat()
}

#[test]
fn http1_is_shown_as_text() {
    let request = b"POST /a HTTP/1.1\r\nhost: b\r\n\r\n{\"c\": 1}";
    let expected = "window w, port 80: 1 record\n  2026-11-26 10:00:00,123  37 bytes\n    POST /a HTTP/1.1\n    \
                    host: b\n\n    {\"c\": 1}\n\n";
    assert_eq!(shown(line("w", 80, request), |_| {}), expected);
}

#[test]
fn http2_is_shown_by_frames() {
    let expected = "    HTTP/2 preface
    SETTINGS stream 0, 0 bytes
    HEADERS stream 1, 66 bytes
      :path: /spec.proto.runtime.v1.Runtime/SayHello
      authorization: ***
    DATA stream 1, 17 bytes, end of stream
      gRPC message, 12 bytes
      000000  0a 0a 68 65 6c 6c 6f 77 6f 72 6c 64              ..helloworld
";
    let shown = shown(line("w", 34904, &say_hello()), |_| {});
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn frames_that_are_cut_are_named() {
    let frames = frame(0, 0, 1, b"0123456789");
    let text = shown(line("w", 1, &frames[..14]), |_| {});
    assert!(
        text.contains("DATA stream 1, 10 bytes, cut\n      01234\n"),
        "{text}"
    );
}

#[test]
fn fields_that_few_bytes_repeat_are_counted() {
    // A field of 1 and 4000 bytes that is remembered, and then named by one byte each.
    let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    block.extend([b'x'; 4000]);
    block.extend([0xbe; 10_000]);
    let length = (block.len() as u32).to_be_bytes();
    let head = [length[1], length[2], length[3], 1, http2::END_HEADERS, 0, 0, 0, 1];
    let shown = shown(line("w", 1, &[&head, &block[..]].concat()), |_| {});
    assert!(shown.len() < 300 * 1024, "{} bytes", shown.len());
    assert_eq!(shown.trim_end().lines().last(), Some("      (9936 more fields)"));
}

#[test]
fn payloads_are_text_or_bytes_as_asked() {
    let bytes = line("w", 1, b"\x01hello\x1b[2J");
    let auto = shown(&bytes, |_| {});
    assert!(auto.contains("000000  01 68 65 6c 6c 6f 1b 5b 32 4a"), "{auto}");
    let text = shown(&bytes, |args| args.text = true);
    assert!(text.contains("\\u{1}hello\\u{1b}[2J\n"), "{text}");
    let hex = shown(line("w", 1, b"GET / HTTP/1.1\r\n\r\n"), |args| args.hex = true);
    assert!(hex.contains("000000  47 45 54 20"), "{hex}");
}

#[test]
fn lines_are_grouped_by_window_and_port() {
    let lines = [("a", 1), ("a", 2), ("b", 1), ("a", 1)]
        .map(|(window, port)| line(window, port, b"x"))
        .concat();
    let headings = |text: String| -> Vec<String> {
        text.lines()
            .filter(|line| line.starts_with("window"))
            .map(Into::into)
            .collect()
    };
    assert_eq!(
        headings(shown(&lines, |_| {})),
        [
            "window a, port 1: 2 records",
            "window a, port 2: 1 record",
            "window b, port 1: 1 record"
        ]
    );
    let of_b = shown(&lines, |args| args.window = Some("b".into()));
    assert_eq!(headings(of_b), ["window b, port 1: 1 record"]);
    assert_eq!(
        headings(shown(&lines, |args| args.port = Some(2))),
        ["window a, port 2: 1 record"]
    );
}

#[test]
fn garbage_is_left_out() {
    let mut contents = b"\xff\xfe garbage\n\n".to_vec();
    contents.extend_from_slice(line("w", 1, b"hello").as_bytes());
    contents.extend_from_slice(b"2026-11-26 10:00:00,123 [INFO] [w][1]6");
    assert_eq!(
        shown(contents, |_| {}),
        format!("window w, port 1: 1 record\n  {TIME}  5 bytes\n    hello\n\n")
    );
}

#[test]
fn the_other_files_are_shown_too() {
    let contents = format!("{TIME} [INFO] [w][STATE][1]{{\"a\":1}}\n{TIME} [INFO] [w]no_change\n");
    let text = shown(contents, |_| {});
    assert!(
        text.contains("STATE {\"a\":1}\n") && text.contains("window w: 1 record\n"),
        "{text}"
    );
}

#[test]
fn a_file_without_a_dump_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("x");
    assert!(
        show(&args(&file), Vec::new())
            .unwrap_err()
            .to_string()
            .contains("cannot open")
    );
    fs::write(&file, "hello\n").unwrap();
    let error = show(&args(&file), Vec::new()).unwrap_err().to_string();
    assert!(error.ends_with("has no line of a traffic dump"), "{error}");
}

#[test]
fn any_bytes_can_be_shown() {
    let mut random = 1_u32;
    let mut lines = String::new();
    for length in 0..300 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8 % 16
            })
            .collect();
        lines += &line("w", 1, &bytes);
    }
    let text = shown(lines, |_| {});
    assert!(
        !text
            .chars()
            .any(|char| char.is_control() && char != '\n' && char != '\t')
    );
    assert_eq!(text.matches(TIME).count(), 300);
}
