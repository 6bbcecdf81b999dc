//! Where items are kept, so that a Go sidecar finds them, and they are found that it wrote.
//!
//! | key | value |
//! |---|---|
//! | `/app/group/label/key` | the content |
//! | `/app/group/label/key/VALUE`, for each value of a tag | the content again; Go Layotto reads a tag `VALUE` here |
//! | `/app/layotto-tags/group:label:key`, `%`, `/` and `:` escaped | our own: JSON of the tags, which the layout above has no place for |
//!
//! The tags of the last row are the item's as long as both were written by one transaction; a Go
//! sidecar that writes the item leaves them behind. It skips keys of three parts.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use layotto_core::configuration::Item;

use crate::client::etcd::wire::KeyValue;

const TAGS: &str = "layotto-tags";

/// The place of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) app_id: String,
    pub(super) group: String,
    pub(super) label: String,
    pub(super) key: String,
}

impl Place {
    pub(super) fn new(app_id: &str, group: &str, label: &str, key: &str) -> Self {
        let [app_id, group, label, key] = [app_id, group, label, key].map(str::to_owned);
        Self {
            app_id,
            group,
            label,
            key,
        }
    }

    /// The same group and label, another key.
    pub(super) fn beside(&self, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Under which the content is.
    pub(super) fn key(&self) -> Bytes {
        let Self {
            app_id,
            group,
            label,
            key,
        } = self;
        format!("/{app_id}/{group}/{label}/{key}").into()
    }

    /// What the keys of tags in Go Layotto's manner begin with.
    pub(super) fn below(&self) -> Bytes {
        self.tag_key("")
    }

    /// Under which Go Layotto reads a tag.
    pub(super) fn tag_key(&self, value: &str) -> Bytes {
        [&self.key(), &b"/"[..], value.as_bytes()].concat().into()
    }

    /// Under which the tags are; of the empty key, what those of the group and label begin with.
    pub(super) fn tags_key(&self) -> Bytes {
        let [group, label, key] = [&self.group, &self.label, &self.key].map(|part| escape(part));
        format!("/{}/{TAGS}/{group}:{label}:{key}", self.app_id).into()
    }

    /// What the keys of everything of the application begin with.
    pub(super) fn application(&self) -> Bytes {
        format!("/{}/", self.app_id).into()
    }

    /// The rest of a key of the same group and label.
    pub(super) fn rest_of(&self, key: &[u8]) -> Option<String> {
        let scope = self.beside("").key();
        let rest = key.strip_prefix(&scope[..])?;
        Some(String::from_utf8_lossy(rest).into_owned())
    }
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F").replace(':', "%3A")
}

/// The tags of an item in our own manner.
#[derive(Debug, Default)]
pub(super) struct Tags(pub(super) HashMap<String, String>);

impl Tags {
    pub(super) fn read(value: &[u8]) -> Self {
        // Written by a sidecar; what a later one may write is left out.
        Self(serde_json::from_slice(value).unwrap_or_default())
    }

    pub(super) fn write(self) -> Vec<u8> {
        let ordered: BTreeMap<_, _> = self.0.into_iter().collect();
        serde_json::to_vec(&ordered).expect("invariant: a map of texts has a JSON form")
    }
}

/// The tags of `item`, as whoever wrote it last has it.
pub(super) fn tags(
    item: &KeyValue,
    tags: Option<&KeyValue>,
    below: &[KeyValue],
    place: &Place,
) -> HashMap<String, String> {
    if let Some(tags) = tags.filter(|tags| tags.mod_revision == item.mod_revision) {
        return Tags::read(&tags.value).0;
    }
    let start = place.below();
    let named = below.iter().filter_map(|tag| {
        let value = String::from_utf8_lossy(tag.key.strip_prefix(&start[..])?).into_owned();
        (!value.contains('/')).then(|| (value, text(&tag.value)))
    });
    named.collect()
}

/// The keys under which the tags of `item` are. What is below it and is no tag of its last write
/// may be an item of its own.
pub(super) fn tag_keys(
    item: &KeyValue,
    tags: Option<&KeyValue>,
    below: &[KeyValue],
    place: &Place,
) -> HashSet<Bytes> {
    let recorded = tags.map(|tags| Tags::read(&tags.value)).unwrap_or_default();
    let mut keys: HashSet<_> = recorded.0.values().map(|value| place.tag_key(value)).collect();
    if tags.is_none_or(|tags| tags.mod_revision != item.mod_revision) {
        let start = place.below();
        let is_tag = |key: &Bytes| {
            key.strip_prefix(&start[..])
                .is_some_and(|value| !value.contains(&b'/'))
        };
        keys.extend(below.iter().map(|tag| tag.key.clone()).filter(is_tag));
    }
    keys
}

/// An item with what was read.
pub(super) fn item(place: &Place, content: &[u8], tags: HashMap<String, String>) -> Item {
    Item {
        key: place.key.clone(),
        content: text(content),
        group: place.group.clone(),
        label: place.label.clone(),
        tags,
        metadata: HashMap::new(),
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The items among `keys`, all keys of one group and label in their order, each with its tags. A
/// key below that of an item is a tag; with a slash and no such item it is an item.
pub(super) fn gather(
    scope: &Place,
    keys: Vec<KeyValue>,
    records: &[KeyValue],
) -> Vec<(Place, KeyValue, HashMap<String, String>)> {
    let records: HashMap<_, _> = records.iter().map(|record| (&record.key[..], record)).collect();
    let mut found: Vec<(Place, KeyValue, Vec<KeyValue>)> = Vec::new();
    let mut known = HashMap::new();
    for key in keys {
        let Some(name) = scope.rest_of(&key.key) else {
            continue;
        };
        let owner = name.split_once('/').and_then(|(owner, _)| known.get(owner));
        let owner = owner.and_then(|index: &usize| found.get_mut(*index));
        if let Some((.., below)) = owner {
            below.push(key);
            continue;
        }
        known.insert(name.clone(), found.len());
        found.push((scope.beside(&name), key, Vec::new()));
    }
    let tagged = found.into_iter().map(|(place, key, below)| {
        let record = records.get(&place.tags_key()[..]).copied();
        let tags = tags(&key, record, &below, &place);
        (place, key, tags)
    });
    tagged.collect()
}

/// [`gather`]ed, for a reader.
pub(super) fn items(scope: &Place, keys: Vec<KeyValue>, records: &[KeyValue]) -> Vec<Item> {
    let gathered = gather(scope, keys, records).into_iter();
    gathered
        .map(|(place, key, tags)| item(&place, &key.value, tags))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, value: &str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from(name.to_owned()),
            value: Bytes::from(value.to_owned()),
            mod_revision,
            ..KeyValue::default()
        }
    }

    fn scope() -> Place {
        Place::new("app", "g", "l", "")
    }

    fn map<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn keys_are_those_of_go_layotto() {
        let place = scope().beside("k");
        assert_eq!(place.key(), "/app/g/l/k");
        assert_eq!(place.tag_key("v"), "/app/g/l/k/v");
        assert_eq!(place.tags_key(), "/app/layotto-tags/g:l:k");
    }

    #[test]
    fn records_of_tags_have_three_parts_and_never_meet() {
        let keys = ["a:b", "a/b", "a%3Ab", "a%2Fb", "a", "a%"].map(|key| scope().beside(key).tags_key());
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(key.iter().filter(|byte| **byte == b'/').count(), 3, "{key:?}");
            assert!(!keys.iter().skip(index + 1).any(|other| other == key), "{key:?}");
        }
        assert_ne!(
            Place::new("a", "g:l", "", "k").tags_key(),
            Place::new("a", "g", "l", "k").tags_key()
        );
    }

    #[test]
    fn a_record_counts_while_the_item_is_of_the_same_write() {
        let place = scope().beside("k");
        let (record, below) = (key("", r#"{"name":"v"}"#, 5), [key("/app/g/l/k/v", "content", 5)]);
        let at = |revision| tags(&key("", "content", revision), Some(&record), &below, &place);
        assert_eq!(at(5), map([("name", "v")]));
        assert_eq!(at(6), map([("v", "content")]));
    }

    #[test]
    fn keys_below_an_item_are_its_tags_and_others_are_items() {
        let keys = vec![
            key("/app/g/l/", "empty", 1),
            key("/app/g/l/a", "1", 1),
            key("/app/g/l/a/t", "x", 1),
            key("/app/g/l/b", "2", 1),
            key("/app/g/l/c/d", "3", 1),
        ];
        let items = items(&scope(), keys, &[]);
        let found: Vec<_> = items
            .iter()
            .map(|item| (item.key.as_str(), item.content.as_str()))
            .collect();
        assert_eq!(found, [("", "empty"), ("a", "1"), ("b", "2"), ("c/d", "3")]);
        assert_eq!(items[1].tags, map([("t", "x")]));
    }
}
