//! JSON with comments and trailing commas, read into [`Node`]s.

use std::collections::HashMap;

use jsonc_parser::{Scanner, tokens::Token};

use super::node::{Entry, MAX_DEPTH, MAX_NODES, Node, SyntaxError, Value};

/// Reads one JSON value.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser {
        scanner: Scanner::new(text),
        text,
        counted_to: 0,
        line: 1,
        nodes: 0,
    };
    let first = parser.token()?;
    let node = parser.value(first, 0)?;
    match parser.token()? {
        None => Ok(node),
        Some(_) => Err(parser.error("unexpected text after the end of the configuration")),
    }
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    text: &'a str,
    counted_to: usize,
    line: u32,
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn token(&mut self) -> Result<Option<Token<'a>>, SyntaxError> {
        loop {
            let token = self.scanner.scan().map_err(|error| {
                let line = u32::try_from(error.line_display()).unwrap_or(u32::MAX);
                SyntaxError::new(line, error.kind().to_string().to_lowercase())
            })?;
            self.count_lines();
            if !matches!(token, Some(Token::CommentLine(_) | Token::CommentBlock(_))) {
                return Ok(token);
            }
        }
    }

    fn count_lines(&mut self) {
        let start = self.scanner.token_start();
        let passed = self
            .text
            .as_bytes()
            .get(self.counted_to..start)
            .unwrap_or_default();
        let lines = passed.iter().filter(|byte| **byte == b'\n').count();
        self.line += u32::try_from(lines).unwrap_or(u32::MAX);
        self.counted_to = start;
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.line, message)
    }

    fn unexpected(&self, token: Option<&Token<'_>>, expected: &str) -> SyntaxError {
        match token {
            None => self.error(format!("the file ends where {expected} is expected")),
            Some(Token::String(_)) => self.error(format!("found a text, expected {expected}")),
            Some(token) => self.error(format!("found {:?}, expected {expected}", token.as_str())),
        }
    }

    fn value(&mut self, token: Option<Token<'a>>, depth: usize) -> Result<Node, SyntaxError> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(self.error(format!("lists and objects nest deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            return Err(self.error(format!("the file holds more than {MAX_NODES} values")));
        }
        let line = self.line;
        let value = match token {
            Some(Token::OpenBrace) => self.object(depth)?,
            Some(Token::OpenBracket) => self.list(depth)?,
            Some(Token::String(text)) => Value::Text(text.into_owned()),
            Some(Token::Number(text)) => Value::Number(text.to_owned()),
            Some(Token::Boolean(value)) => Value::Bool(value),
            Some(Token::Null) => Value::Null,
            other => return Err(self.unexpected(other.as_ref(), "a value")),
        };
        Ok(Node { value, line })
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        let mut token = self.token()?;
        while token != Some(Token::CloseBracket) {
            items.push(self.value(token, depth + 1)?);
            token = self.separator(&Token::CloseBracket, "\",\" or \"]\"")?;
        }
        Ok(Value::List(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        let mut token = self.token()?;
        while token != Some(Token::CloseBrace) {
            let Some(Token::String(key)) = token else {
                return Err(self.unexpected(token.as_ref(), "a key in double quotes"));
            };
            let (key, line) = (key.into_owned(), self.line);
            if let Some(first) = lines.insert(key.clone(), line) {
                return Err(self.error(format!("key {key:?} is there twice, first on line {first}")));
            }
            match self.token()? {
                Some(Token::Colon) => {}
                other => return Err(self.unexpected(other.as_ref(), "\":\"")),
            }
            let token_of_value = self.token()?;
            let value = self.value(token_of_value, depth + 1)?;
            entries.push(Entry { key, line, value });
            token = self.separator(&Token::CloseBrace, "\",\" or \"}\"")?;
        }
        Ok(Value::Object(entries))
    }

    /// The token after a comma, or the closing one.
    fn separator(&mut self, close: &Token<'_>, expected: &str) -> Result<Option<Token<'a>>, SyntaxError> {
        match self.token()? {
            Some(Token::Comma) => self.token(),
            Some(token) if token == *close => Ok(Some(token)),
            other => Err(self.unexpected(other.as_ref(), expected)),
        }
    }
}
