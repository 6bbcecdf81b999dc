//! Edits of headers, at one of three levels: route, virtual host, configuration.

use http::{HeaderMap, HeaderName, HeaderValue, header, request, response};

use super::{config::HeaderToAdd, from_text, host::set_host};
use crate::{config::ConfigError, exchange::Exchange, variable};

/// Headers that say how a message is framed, which is not for routes to say.
const FRAMING: [HeaderName; 4] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The edits of one level.
#[derive(Debug, Default)]
pub(super) struct Edits {
    request: Box<[Edit]>,
    response: Box<[Edit]>,
}

/// The keys of one level.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) request_add: &'a [HeaderToAdd],
    pub(super) request_remove: &'a [String],
    pub(super) response_add: &'a [HeaderToAdd],
    pub(super) response_remove: &'a [String],
}

#[derive(Debug)]
enum Edit {
    Add {
        name: HeaderName,
        value: Value,
        append: bool,
    },
    Remove(HeaderName),
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    Variable(Box<str>),
}

/// The [`Keys`] of a configuration that has them.
macro_rules! keys {
    ($level:expr) => {
        $crate::router::edits::Keys {
            request_add: &$level.request_headers_to_add,
            request_remove: &$level.request_headers_to_remove,
            response_add: &$level.response_headers_to_add,
            response_remove: &$level.response_headers_to_remove,
        }
    };
}
pub(super) use keys;

impl Edits {
    /// The edits of a level: headers are added, then removed.
    pub(super) fn new(keys: Keys<'_>) -> Result<Self, ConfigError> {
        let request = edits("request", keys.request_add, keys.request_remove)?;
        let response = edits("response", keys.response_add, keys.response_remove)?;
        Ok(Self { request, response })
    }

    /// Edits a request.
    pub(super) fn request(&self, head: &mut request::Parts, exchange: &Exchange) {
        for edit in &self.request {
            match edit {
                Edit::Remove(name) => drop(head.headers.remove(name)),
                Edit::Add { name, value, append } => match value.read(head, exchange) {
                    Some(value) if *name == header::HOST => {
                        set_host(head, value.to_str().unwrap_or_default())
                    }
                    Some(value) => put(&mut head.headers, name, value, *append),
                    None => {}
                },
            }
        }
    }

    /// Edits a reply.
    pub(super) fn response(&self, head: &mut response::Parts, exchange: &Exchange) {
        if self.response.is_empty() {
            return;
        }
        // The request is gone by now, so its variables have no value.
        let (request, ()) = http::Request::new(()).into_parts();
        for edit in &self.response {
            match edit {
                Edit::Remove(name) => drop(head.headers.remove(name)),
                Edit::Add { name, value, append } => {
                    if let Some(value) = value.read(&request, exchange) {
                        put(&mut head.headers, name, value, *append);
                    }
                }
            }
        }
    }
}

impl Value {
    fn new(text: &str) -> Result<Self, ConfigError> {
        match text.strip_prefix('%').and_then(|text| text.strip_suffix('%')) {
            Some(name) if !name.is_empty() => Ok(Self::Variable(name.into())),
            _ => from_text(text, "header.value", "a header's value").map(Self::Fixed),
        }
    }

    fn read(&self, head: &request::Parts, exchange: &Exchange) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Variable(name) => HeaderValue::from_str(&variable::value(name, head, exchange)?).ok(),
        }
    }
}

fn edits(of: &str, add: &[HeaderToAdd], remove: &[String]) -> Result<Box<[Edit]>, ConfigError> {
    let is_request = of == "request";
    let added = add.iter().enumerate().map(|(index, item)| {
        addition(item, is_request).map_err(|error| error.under(&format!("{of}_headers_to_add[{index}]")))
    });
    let removed = remove.iter().enumerate().map(|(index, item)| {
        name_of(item, &format!("{of}_headers_to_remove[{index}]"), false).map(Edit::Remove)
    });
    added.chain(removed).collect()
}

fn addition(item: &HeaderToAdd, host_too: bool) -> Result<Edit, ConfigError> {
    Ok(Edit::Add {
        name: name_of(&item.header.key, "header.key", host_too)?,
        value: Value::new(&item.header.value)?,
        append: item.append.unwrap_or(true),
    })
}

fn name_of(text: &str, path: &str, host_too: bool) -> Result<HeaderName, ConfigError> {
    let name: HeaderName = from_text(text, path, "a header's name")?;
    if FRAMING.contains(&name) || (name == header::HOST && !host_too) {
        return Err(ConfigError::new(
            path,
            format!("{name} belongs to the connection; accepted: other headers"),
        ));
    }
    Ok(name)
}

/// Sets a header, or puts `value` behind what is there.
fn put(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue, append: bool) {
    let mut values: Vec<_> = match append {
        true => headers.get_all(name).iter().map(HeaderValue::as_bytes).collect(),
        false => Vec::new(),
    };
    if values.is_empty() {
        headers.insert(name, value);
        return;
    }
    values.push(value.as_bytes());
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b","[..])) {
        headers.insert(name, joined);
    }
}
