//! The format of a line, read once.

use http::{HeaderName, request, response};

use super::escape;
use crate::{
    exchange::Exchange,
    variable::{End, Late, Request, Variable},
};

/// Upstream's order.
pub const DEFAULT_FORMAT: &str = "%start_time% %trace_id% %connection_id% %upstream_connection_id% \
    %request_received_duration% %response_received_duration% %bytes_sent% %bytes_received% %protocol% \
    %response_code% %duration% %response_flag% %response_code% %upstream_local_address% \
    %downstream_local_address% %downstream_remote_address% %upstream_host%";

/// A line of text and variables.
#[derive(Debug)]
pub struct Format {
    parts: Vec<Part>,
    unknown: Vec<String>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Request(Option<u8>, Request),
    Response(HeaderName),
    Late(Late),
    /// No such variable.
    Nothing,
}

/// What a line needs of heads that are gone when it is written.
#[derive(Debug, Default)]
pub struct Notes {
    /// Values in the order of the format: first those of the request, then those of the reply.
    values: String,
    ends: Vec<usize>,
}

impl Format {
    /// Reads a format. A percent sign without a second one stands for itself.
    pub fn parse(text: &str) -> Self {
        let mut format = Self {
            parts: Vec::new(),
            unknown: Vec::new(),
        };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            format.text(before);
            let Some((name, after)) = after.split_once('%') else {
                format.text("%");
                rest = after;
                break;
            };
            format.variable(name);
            rest = after;
        }
        format.text(rest);
        format
    }

    /// The variables that do not exist.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether a line tells how many bytes of the request's body arrived, or when.
    pub fn needs_request_body(&self) -> bool {
        let of_body = |part: &Part| {
            matches!(
                part,
                Part::Late(Late::BytesReceived | Late::RequestReceivedDuration | Late::ProcessTimeDuration)
            )
        };
        self.parts.iter().any(of_body)
    }

    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    fn variable(&mut self, name: &str) {
        let part = match Variable::parse(name) {
            _ if name.is_empty() => return self.text("%"),
            Some(Variable::Request(of)) => Part::Request(None, of),
            Some(Variable::RequestOver(version, of)) => Part::Request(Some(version), of),
            Some(Variable::ResponseHeader(name)) => Part::Response(name),
            Some(Variable::Late(late)) => Part::Late(late),
            None => {
                self.unknown.push(name.to_owned());
                Part::Nothing
            }
        };
        self.parts.push(part);
    }

    pub(super) fn begin(&self, head: &request::Parts, exchange: &Exchange) -> Notes {
        let mut notes = Notes::default();
        for part in &self.parts {
            if let Part::Request(version, of) = part {
                let over = version.is_none_or(|version| crate::variable::over(head.version, version));
                let value = over.then(|| of.value(head, exchange)).flatten();
                notes.push(&value.unwrap_or_default());
            }
        }
        notes
    }

    pub(super) fn reply(&self, notes: &mut Notes, head: &response::Parts) {
        for part in &self.parts {
            if let Part::Response(name) = part {
                let value = head.headers.get(name).map(|value| value.as_bytes());
                notes.push(&String::from_utf8_lossy(value.unwrap_or_default()));
            }
        }
    }

    /// The line, with its end.
    pub(super) fn line(&self, notes: &Notes, exchange: &Exchange, end: End) -> String {
        let requests = self.parts.iter();
        let requests = requests.filter(|part| matches!(part, Part::Request(..))).count();
        let (mut request, mut reply) = (0..requests, requests..);
        let mut line = String::with_capacity(256);
        for part in &self.parts {
            let note = match part {
                Part::Text(text) => {
                    line.push_str(text);
                    continue;
                }
                Part::Late(late) => {
                    escape::push(&mut line, &late.value(exchange, Some(end)).unwrap_or_default());
                    continue;
                }
                Part::Request(..) => request.next(),
                Part::Response(_) => reply.next(),
                Part::Nothing => None,
            };
            line.push_str(note.and_then(|index| notes.get(index)).unwrap_or("-"));
        }
        line.push('\n');
        line
    }
}

impl Notes {
    fn push(&mut self, value: &str) {
        escape::push(&mut self.values, value);
        self.ends.push(self.values.len());
    }

    fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.values.get(begin..end)
    }
}
