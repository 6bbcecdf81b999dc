//! A door for fuzz targets; there only when they are built.

use http::{request, response};

use super::Format;
use crate::{exchange::Exchange, variable::End};

/// The line of an exchange with these heads.
pub fn line(
    format: &Format,
    request: &request::Parts,
    response: &response::Parts,
    exchange: &Exchange,
    end: End,
) -> String {
    let mut notes = format.begin(request, exchange);
    format.reply(&mut notes, response);
    format.line(&notes, exchange, end)
}
