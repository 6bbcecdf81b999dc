//! The longest body that is taken of a request over HTTP/1.

use std::error::Error;

use http::{Version, request};
use http_body::Body as HttpBody;
use http_body_util::{LengthLimitError, Limited};

use super::refusal::Refusal;
use crate::{body::Body, upstream::Failure};

/// The body with an end after `max` bytes, or the refusal of one that says to be longer; 0: no
/// limit. HTTP/2 has none.
pub(super) fn limit(head: &request::Parts, body: Body, max: u64) -> Result<Body, Refusal> {
    let hint = body.size_hint();
    if max == 0 || head.version == Version::HTTP_2 || hint.upper().is_some_and(|most| most <= max) {
        return Ok(body);
    }
    if hint.lower() > max {
        return Err(Refusal::TOO_LARGE);
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    Ok(Body::new(Limited::new(body, max)))
}

/// Whether a try failed because the body went on behind that end.
pub(super) fn is_reason(failure: &Failure) -> bool {
    let source: Option<&(dyn Error + 'static)> = match &failure.source {
        Some(source) => Some(&**source),
        None => None,
    };
    std::iter::successors(source, |error| (**error).source()).any(<dyn Error>::is::<LengthLimitError>)
}
