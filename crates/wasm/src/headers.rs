//! Headers and trailers as guests see them: in order, names of any case alike, pseudo headers such as
//! `:path` among them.

use bytes::Bytes;

use crate::pairs::Pairs;

/// A list of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Pairs);

impl Headers {
    /// The first value of `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        let found = self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// Adds a value, beside those that are there.
    pub fn add(&mut self, name: Bytes, value: Bytes) {
        self.0.push((name, value));
    }

    /// Puts `value` in the place of the first value of `name` and removes the others; adds it if
    /// there was none.
    pub fn replace(&mut self, name: Bytes, value: Bytes) {
        let first = self
            .0
            .iter()
            .position(|(other, _)| other.eq_ignore_ascii_case(&name));
        let Some(first) = first else {
            return self.add(name, value);
        };
        let mut at = 0;
        self.0.retain(|(other, _)| {
            at += 1;
            at <= first + 1 || !other.eq_ignore_ascii_case(&name)
        });
        self.0[first].1 = value;
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }
}

impl<K: Into<Bytes>, V: Into<Bytes>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&'static str, &'static str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    #[test]
    fn names_of_any_case_are_alike() {
        let mut headers = list(&[("Id", "1"), ("x", "2"), ("iD", "3")]);
        assert_eq!(headers.get(b"id").unwrap(), "1");
        headers.remove(b"ID");
        assert_eq!(headers, list(&[("x", "2")]));
    }

    #[test]
    fn replacing_leaves_one_value_in_the_first_place() {
        let mut headers = list(&[("a", "1"), ("b", "2"), ("A", "3"), ("c", "4")]);
        headers.replace("a".into(), "new".into());
        assert_eq!(headers, list(&[("a", "new"), ("b", "2"), ("c", "4")]));
        headers.replace("d".into(), "5".into());
        assert_eq!(headers.get(b"d").unwrap(), "5");
    }
}
