//! What a route asks of a request: a rule on the path, and tests on headers or variables.

use std::borrow::Cow;

use http::{HeaderName, request};
use regex::{Regex, RegexBuilder};

use super::{
    config::{HeaderMatch, RouteMatch, VariableMatch},
    from_text, host,
    path::Path,
};
use crate::{config::ConfigError, exchange::Exchange, variable};

/// The header of the routes of RPC services.
const SERVICE: &str = "service";
/// The most memory that one compiled expression may take.
const MAX_REGEX_BYTES: usize = 2 << 20;

/// A request that a route is wanted for.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) exchange: &'a Exchange,
    pub(super) path: Path<'a>,
}

/// What the path must be like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathRule {
    Any,
    Prefix(Box<str>),
    /// In lower case.
    Exact(Box<str>),
    Regex(Box<str>),
}

/// Tests: those of one group must all hold, for one of the groups.
#[derive(Debug)]
pub(super) struct Rule(Box<[Box<[Test]>]>);

#[derive(Debug)]
struct Test {
    key: Key,
    expect: Expect,
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Method,
    Host,
    Field(HeaderName),
    FieldOrMethod(HeaderName),
    Variable(Box<str>),
}

#[derive(Debug)]
enum Expect {
    Exact(Box<str>),
    NotEmpty,
    Regex(Regex),
}

impl PathRule {
    /// The rule on the path; `prefix` goes before `path`, and that before `regex`.
    pub(super) fn new(matches: &RouteMatch) -> Result<Self, ConfigError> {
        Ok(match matches {
            RouteMatch { prefix, .. } if !prefix.is_empty() => {
                // Whatever comes last may go on: `/.` begins `/.well-known`.
                let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
                check_plain(folder, prefix, "prefix")?;
                Self::Prefix(prefix.as_str().into())
            }
            RouteMatch { path, .. } if !path.is_empty() => {
                check_plain(path, path, "path")?;
                Self::Exact(fold(path).into())
            }
            RouteMatch { regex, .. } if !regex.is_empty() => {
                compile(regex, "regex")?;
                Self::Regex(regex.as_str().into())
            }
            _ => Self::Any,
        })
    }
}

impl Rule {
    /// The tests beside `path`.
    pub(super) fn new(matches: &RouteMatch, path: &PathRule) -> Result<Self, ConfigError> {
        match (path, matches.headers.as_slice()) {
            (PathRule::Any, _) if !matches.variables.is_empty() => Self::of_variables(&matches.variables),
            (PathRule::Any, _) if !matches.dsl_expressions.is_empty() => Err(ConfigError::new(
                "dsl_expressions",
                "is not supported yet; accepted: prefix, path, regex, variables, headers",
            )),
            (PathRule::Any, [service]) if service.name.eq_ignore_ascii_case(SERVICE) => {
                Self::of_service(service)
            }
            (_, headers) => Self::of_headers(headers, path),
        }
    }

    fn of_variables(variables: &[VariableMatch]) -> Result<Self, ConfigError> {
        let mut groups = Vec::new();
        let mut group = Vec::new();
        for (index, variable) in variables.iter().enumerate() {
            let under = |error: ConfigError| error.under(&format!("variables[{index}]"));
            group.push(Test::of_variable(variable).map_err(under)?);
            if is_or(&variable.model).map_err(under)? {
                groups.push(std::mem::take(&mut group).into());
            }
        }
        if !group.is_empty() {
            groups.push(group.into());
        }
        Ok(Self(groups.into()))
    }

    /// The short form for RPC services, which knows no expression but `.*`.
    fn of_service(header: &HeaderMatch) -> Result<Self, ConfigError> {
        let expect = match header.value.as_str() {
            ".*" => Expect::NotEmpty,
            value if header.regex => Expect::Regex(compile(value, "headers[0].value")?),
            value => Expect::Exact(value.into()),
        };
        let key = Key::Field(HeaderName::from_static(SERVICE));
        Ok(Self([[Test { key, expect }].into()].into()))
    }

    fn of_headers(headers: &[HeaderMatch], path: &PathRule) -> Result<Self, ConfigError> {
        let tests = headers.iter().enumerate().map(|(index, header)| {
            Test::of_header(header, path).map_err(|error| error.under(&format!("headers[{index}]")))
        });
        Ok(Self([tests.collect::<Result<_, _>>()?].into()))
    }

    /// Whether the tests hold.
    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        let mut groups = self.0.iter();
        groups.any(|group| group.iter().all(|test| test.holds(subject)))
    }

    /// Something whose value is known where the rule holds, if there is such.
    pub(super) fn key(&self) -> Option<(&Key, &str)> {
        let [group] = &self.0[..] else {
            return None;
        };
        group.iter().find_map(|test| match &test.expect {
            Expect::Exact(value) => Some((&test.key, &**value)),
            _ => None,
        })
    }
}

impl Test {
    fn of_variable(variable: &VariableMatch) -> Result<Self, ConfigError> {
        if variable.name.is_empty() {
            return Err(ConfigError::new("name", "is missing"));
        }
        let expect = match (variable.value.as_str(), variable.regex.as_str()) {
            ("", "") => return Err(ConfigError::new("", "needs value or regex")),
            (value, "") => Expect::Exact(value.into()),
            (_, regex) => Expect::Regex(compile(regex, "regex")?),
        };
        let key = Key::Variable(variable.name.as_str().into());
        Ok(Self { key, expect })
    }

    fn of_header(header: &HeaderMatch, path: &PathRule) -> Result<Self, ConfigError> {
        let key = match header.name.to_ascii_lowercase().as_str() {
            "method" if *path == PathRule::Any => Key::FieldOrMethod(HeaderName::from_static("method")),
            "method" | ":method" | "x-mosn-method" => Key::Method,
            "host" | ":authority" | "x-mosn-host" => Key::Host,
            name => Key::Field(from_text(name, "name", "a header's name")?),
        };
        let expect = match header.regex {
            true => Expect::Regex(compile(&header.value, "value")?),
            false => Expect::Exact(header.value.as_str().into()),
        };
        Ok(Self { key, expect })
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        self.key.value(subject).is_some_and(|value| match &self.expect {
            Expect::Exact(expected) => **expected == *value,
            Expect::NotEmpty => !value.is_empty(),
            Expect::Regex(regex) => regex.is_match(&value),
        })
    }
}

impl Key {
    /// What the request has there.
    pub(super) fn value<'a>(&self, subject: &'a Subject<'_>) -> Option<Cow<'a, str>> {
        let head = subject.head;
        match self {
            Self::Method => Some(head.method.as_str().into()),
            Self::Host => host(head).map(Cow::Borrowed),
            Self::Field(name) => field(head, name),
            Self::FieldOrMethod(name) => field(head, name).or_else(|| Some(head.method.as_str().into())),
            Self::Variable(name) => Some(variable::value(name, head, subject.exchange).unwrap_or_default()),
        }
    }
}

/// Makes a path one in which case does not matter.
pub(super) fn fold(path: &str) -> Cow<'_, str> {
    match path
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        true => path.into(),
        false => path.to_lowercase().into(),
    }
}

/// Compiles an expression; `path` names it in errors.
pub(super) fn compile(pattern: &str, path: &str) -> Result<Regex, ConfigError> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| ConfigError::new(path, format!("{pattern:?} is no regular expression: {error}")))
}

/// Refuses what no path looks like by the time it is compared.
fn check_plain(part: &str, whole: &str, key: &str) -> Result<(), ConfigError> {
    let dots = part.split('/').any(|segment| matches!(segment, "." | ".."));
    match dots || whole.contains("//") {
        true => Err(ConfigError::new(
            key,
            format!("{whole:?} never matches; accepted: paths without //, /./ and /../"),
        )),
        false => Ok(()),
    }
}

fn is_or(model: &str) -> Result<bool, ConfigError> {
    match model.to_ascii_lowercase().as_str() {
        "" | "and" => Ok(false),
        "or" => Ok(true),
        _ => Err(ConfigError::new(
            "model",
            format!("{model:?} is neither \"and\" nor \"or\""),
        )),
    }
}

fn field<'a>(head: &'a request::Parts, name: &HeaderName) -> Option<Cow<'a, str>> {
    let value = head.headers.get(name)?.as_bytes();
    std::str::from_utf8(value).ok().map(Cow::Borrowed)
}
