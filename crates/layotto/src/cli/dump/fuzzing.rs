//! A door for fuzz targets; there only when they are built.

use std::io::Cursor;

use super::{ShowArgs, show_lines};

/// What `layotto dump show` prints of a file with these contents; nothing if it is none of a dump.
pub fn shown(file: &[u8], text: bool, hex: bool) -> Option<Vec<u8>> {
    let args = ShowArgs {
        file: "dump".into(),
        port: None,
        window: None,
        text,
        hex,
    };
    let mut out = Vec::new();
    show_lines(&mut Cursor::new(file), &args, &mut out).ok()?;
    Some(out)
}
