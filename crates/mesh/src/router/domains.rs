//! Which virtual host answers for a host name.

use std::{borrow::Cow, collections::HashMap};

/// Takes requests with any port, or none.
const ANY_PORT: &str = "*";

/// Host names, each with the number of its virtual host.
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// By host, then by port.
    exact: HashMap<Box<str>, HashMap<Box<str>, usize>>,
    /// By port.
    suffixes: HashMap<Box<str>, Suffixes>,
    default: Option<usize>,
}

#[derive(Debug, Default)]
struct Suffixes {
    /// The lengths that there are, the longest first.
    lengths: Vec<usize>,
    by_text: HashMap<Box<str>, usize>,
}

impl Domains {
    /// Adds `domain`; the text of an error says what is wrong with it.
    pub(super) fn add(&mut self, domain: &str, index: usize) -> Result<(), String> {
        let lower = domain.to_ascii_lowercase();
        let (host, port) = split(&lower)
            .filter(|(host, port)| !host.is_empty() && is_port(port) && !domain.ends_with(':'))
            .ok_or_else(|| refuse(domain))?;
        let before = match host.strip_prefix('*') {
            Some("") if matches!(port, "" | ANY_PORT) => self.default.replace(index),
            Some(suffix) if !suffix.contains('*') => {
                self.suffixes.entry(port.into()).or_default().add(suffix, index)
            }
            None if !host.contains('*') => self
                .exact
                .entry(host.into())
                .or_default()
                .insert(port.into(), index),
            _ => return Err(refuse(domain)),
        };
        match before {
            Some(_) => Err(format!("{domain:?} is there twice")),
            None => Ok(()),
        }
    }

    /// The virtual host for what a request asks for.
    pub(super) fn find(&self, asked: Option<&str>) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return self.default;
        }
        asked
            .and_then(|asked| self.find_named(&lower(asked)))
            .or(self.default)
    }

    fn find_named(&self, asked: &str) -> Option<usize> {
        let (host, port) = split(asked)?;
        let ports = self.exact.get(host);
        let exact = ports.and_then(|ports| ports.get(port).or_else(|| ports.get(ANY_PORT)));
        let suffix = |port| self.suffixes.get(port)?.find(host);
        exact
            .copied()
            .or_else(|| suffix(port))
            .or_else(|| suffix(ANY_PORT))
    }
}

impl Suffixes {
    fn add(&mut self, suffix: &str, index: usize) -> Option<usize> {
        if let Err(at) = self.lengths.binary_search_by(|len| suffix.len().cmp(len)) {
            self.lengths.insert(at, suffix.len());
        }
        self.by_text.insert(suffix.into(), index)
    }

    /// The longest suffix that something stands before.
    fn find(&self, host: &str) -> Option<usize> {
        let shorter = self.lengths.iter().filter(|len| **len < host.len());
        shorter
            .filter_map(|len| host.get(host.len() - len..))
            .find_map(|suffix| self.by_text.get(suffix).copied())
    }
}

fn lower(host: &str) -> Cow<'_, str> {
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

/// Splits off the port; without one, it is empty. `None`: this is no host.
fn split(text: &str) -> Option<(&str, &str)> {
    if let Some((v6, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return match rest {
            "" => Some((v6, "")),
            rest => Some((v6, rest.strip_prefix(':')?)),
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => None,
        Some(parts) => Some(parts),
        None => Some((text, "")),
    }
}

fn is_port(text: &str) -> bool {
    matches!(text, "" | ANY_PORT) || text.parse::<u16>().is_ok()
}

fn refuse(domain: &str) -> String {
    format!(
        "{domain:?} is no domain; accepted: a.com, a.com:8080, a.com:*, the same behind a wildcard as in \
         *.a.com, or *"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(names: &[&str]) -> Domains {
        let mut domains = Domains::default();
        for (index, name) in names.iter().enumerate() {
            domains.add(name, index).unwrap();
        }
        domains
    }

    #[test]
    fn the_most_precise_domain_wins() {
        let names = [
            "*",
            "*.com:*",
            "*.a.com:*",
            "*.a.com:80",
            "*-b.a.com:*",
            "x.a.com:*",
            "x.a.com:80",
            "y.a.com",
            "[::1]:80",
        ];
        let domains = domains(&names);
        for (asked, name) in [
            ("x.a.com:80", "x.a.com:80"),
            ("x.a.com:81", "x.a.com:*"),
            ("X.A.com", "x.a.com:*"),
            ("y.a.com", "y.a.com"),
            ("y.a.com:80", "*.a.com:80"),
            ("y.a.com:81", "*.a.com:*"),
            ("c-b.a.com:80", "*.a.com:80"),
            ("c-b.a.com:81", "*-b.a.com:*"),
            (".a.com", "*.com:*"),
            ("a.com", "*.com:*"),
            ("a.org", "*"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]:81", "*"),
            ("a:b:c", "*"),
            ("", "*"),
        ] {
            let found = domains.find(Some(asked)).map(|index| names[index]);
            assert_eq!(found, Some(name), "{asked}");
        }
        assert_eq!(domains.find(None), Some(0));
    }

    #[test]
    fn without_a_default_other_hosts_find_nothing() {
        let domains = domains(&["a.com"]);
        assert_eq!(domains.find(Some("b.com")), None);
        assert_eq!(domains.find(Some("a.com:80")), None);
        assert_eq!(domains.find(None), None);
    }

    #[test]
    fn a_domain_may_be_there_once() {
        let mut domains = domains(&["*", "a.com", "*.a.com:1"]);
        for twice in ["*", "*:*", "A.com", "*.A.com:1"] {
            let error = domains.add(twice, 9).unwrap_err();
            assert_eq!(error, format!("{twice:?} is there twice"));
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in [
            "",
            ":",
            ":80",
            "a.*",
            "a*.com",
            "*.*.com",
            "a.com:",
            "a.com:http",
            "a:b:c",
            "[::1",
        ] {
            let error = Domains::default().add(text, 0).unwrap_err();
            assert!(error.contains("is no domain"), "{text}: {error}");
        }
    }
}
