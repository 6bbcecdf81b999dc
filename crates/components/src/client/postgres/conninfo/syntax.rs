//! The two forms of a connection string, as keys and values.

use layotto_core::Result;
use percent_encoding::percent_decode_str;

use super::{Pairs, wrong};

/// Reads either form.
pub(super) fn parse(text: &str) -> Result<Pairs> {
    let schemes = ["postgres://", "postgresql://"];
    match schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => url(rest),
        None => pairs(text),
    }
}

/// `key = 'value' …`: blanks part the pairs, a backslash takes the next character as it is.
fn pairs(text: &str) -> Result<Pairs> {
    let mut found = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // The text up to here may be a password that holds a blank: it is not shown.
        let (key, tail) = rest
            .split_once('=')
            .ok_or_else(|| wrong("a key without a value; is a value with a blank not quoted?"))?;
        let key = key.trim();
        if key.is_empty() || !key.chars().all(is_of_key) {
            return Err(wrong(
                "what stands before a = is no key; is a value with a blank not quoted?",
            ));
        }
        let (value, tail) = value(tail.trim_start()).ok_or_else(|| wrong("a quote is not closed"))?;
        found.insert(key.to_owned(), value);
        rest = tail.trim_start();
    }
    Ok(found)
}

fn is_of_key(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '.'
}

/// One value, and what follows it; `None` where a quote is not closed.
fn value(text: &str) -> Option<(String, &str)> {
    let (is_quoted, text) = match text.strip_prefix('\'') {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        let rest = characters.as_str();
        match characters.next() {
            None if is_quoted => return None,
            None => return Some((value, rest)),
            Some('\'') if is_quoted => return Some((value, characters.as_str())),
            Some(blank) if !is_quoted && blank.is_whitespace() => return Some((value, rest)),
            Some('\\') => value.extend(characters.next()),
            Some(other) => value.push(other),
        }
    }
}

/// `user:password@host:port/database?key=value&…`, each part percent-encoded.
fn url(rest: &str) -> Result<Pairs> {
    let mut found = Pairs::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, server) = server.rsplit_once('@').unwrap_or(("", server));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = host_and_port(server)?;
    let parts = [
        ("user", user),
        ("password", password),
        ("host", host),
        ("port", port),
        ("dbname", database),
    ];
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let parameters = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    for (key, value) in parts.into_iter().chain(parameters) {
        if !value.is_empty() {
            found.insert(decode(key)?, decode(value)?);
        }
    }
    Ok(found)
}

fn host_and_port(server: &str) -> Result<(&str, &str)> {
    if let Some(bracketed) = server.strip_prefix('[') {
        let (host, port) = bracketed
            .split_once(']')
            .ok_or_else(|| wrong("a bracket is not closed"))?;
        return Ok((host, port.strip_prefix(':').unwrap_or(port)));
    }
    Ok(server.split_once(':').unwrap_or((server, "")))
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| wrong("what is percent-encoded is not UTF-8"))
}

/// The settings in `options`, which is written as arguments of a server: `-c key=value`, `-ckey=value`
/// or `--key=value`, with blanks after a backslash.
pub(super) fn arguments(text: &str) -> Result<Pairs> {
    let mut found = Pairs::new();
    let mut words = words(text).into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting.to_owned(),
            None => return Err(wrong("options: expected -c key=value")),
        };
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| wrong("options: a setting without a value"))?;
        found.insert(key.replace('-', "_"), value.to_owned());
    }
    Ok(found)
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut word = String::new();
        let mut characters = rest.chars();
        rest = loop {
            let tail = characters.as_str();
            match characters.next() {
                None => break tail,
                Some(blank) if blank.is_whitespace() => break tail,
                Some('\\') => word.extend(characters.next()),
                Some(other) => word.push(other),
            }
        }
        .trim_start();
        words.push(word);
    }
    words
}
