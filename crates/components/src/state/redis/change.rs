//! Writes: checked for all that needs no server, and carried out by one script.

use bytes::Bytes;
use layotto_core::{
    Error, ErrorKind, Metadata, Result,
    state::{Concurrency, Consistency, Delete, Operation, Set},
};

use super::super::change::{TTL, given, parse_ttl};
use crate::client::redis::{Call, Script};

/// Carries out all operations, or none and answers which one was refused.
///
/// For each operation one key, and five arguments: what to do (`s` set, `d` delete), the etag that
/// is needed (empty for none), the value, what a first write does (`0` nothing, `1` needs an absent
/// key and marks it, `2` needs an absent key), seconds to live (0 for ever). A key that holds no
/// version is absent, whatever it is; one that is marked is only written with its etag.
pub(super) const SCRIPT: &str = r"
local known, foreign = {}, {}
local function find(key)
  local found = known[key]
  if not found then
    local fields = redis.pcall('HMGET', key, 'version', 'first-write')
    if fields.err then
      found = {foreign = true}
    else
      found = {version = fields[1] ~= '' and fields[1], marked = fields[2]}
    end
    known[key] = found
  end
  return found
end
for i = 1, #KEYS do
  local what, etag, first = ARGV[5 * i - 4], ARGV[5 * i - 3], ARGV[5 * i - 1]
  local found = find(KEYS[i])
  local allowed = true
  if etag ~= '' then
    allowed = found.version == etag
  elseif what == 's' and first ~= '0' then
    allowed = not found.version
  elseif what == 's' then
    allowed = not (found.version and found.marked)
  end
  if not allowed then
    return i
  end
  foreign[i] = found.foreign
  if what == 'd' then
    known[KEYS[i]] = {}
  else
    local version = string.format('%.0f', (tonumber(found.version or 0) or 0) + 1)
    known[KEYS[i]] = {version = version, marked = found.marked or first == '1'}
  end
end
for i = 1, #KEYS do
  local key, what, first, ttl = KEYS[i], ARGV[5 * i - 4], ARGV[5 * i - 1], ARGV[5 * i]
  if what == 'd' or foreign[i] then
    redis.call('DEL', key)
  end
  if what == 's' then
    redis.call('HINCRBY', key, 'version', 1)
    redis.call('HSET', key, 'data', ARGV[5 * i - 2])
    if first == '1' then
      redis.call('HSET', key, 'first-write', 0)
    end
    if ttl == '0' then
      redis.call('PERSIST', key)
    else
      redis.call('EXPIRE', key, ttl)
    end
  end
end
return 0
";

/// The longest time to live, so that its end has a date.
const LONGEST: i64 = 250_000_000_000;

/// One operation of the script.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: String,
    etag: Option<String>,
    value: Bytes,
    what: &'static str,
    first: &'static str,
    ttl: String,
    consistency: Consistency,
}

impl Change {
    /// A write; without a time to live of its own that of the component.
    pub(super) fn set(set: Set, ttl: Option<i64>) -> Result<Self> {
        let last = set.options.concurrency == Concurrency::LastWrite;
        // As upstream: the last write needs no etag, whatever comes with it.
        let etag = given(&set.etag).filter(|_| !last);
        Ok(Self {
            etag: etag.map(number).transpose()?,
            value: set.value,
            what: "s",
            first: match set.options.concurrency {
                Concurrency::FirstWrite => "1",
                _ => "0",
            },
            ttl: seconds(&set.metadata, ttl)?.to_string(),
            consistency: set.options.consistency,
            key: set.key.0,
        })
    }

    /// A removal.
    pub(super) fn delete(delete: Delete) -> Self {
        Self {
            // One that no version can have is a mismatch, as upstream.
            etag: given(&delete.etag).map(|etag| number(etag).unwrap_or_else(|_| etag.to_owned())),
            key: delete.key.0,
            value: Bytes::new(),
            what: "d",
            first: "0",
            ttl: "0".to_owned(),
            consistency: delete.options.consistency,
        }
    }

    /// A step of a transaction, where upstream marks no first writes.
    pub(super) fn step(operation: Operation, ttl: Option<i64>) -> Result<Self> {
        let mut change = match operation {
            Operation::Set(set) => Self::set(set, ttl)?,
            Operation::Delete(delete) => Self::delete(delete),
        };
        if change.first == "1" {
            change.first = "2";
        }
        Ok(change)
    }

    /// Whether the replicas must have it before it is answered.
    pub(super) fn is_strong(&self) -> bool {
        self.consistency == Consistency::Strong
    }
}

/// The script's call for some changes.
pub(super) fn call<'a>(script: &'a Script, changes: &'a [Change]) -> Call<'a> {
    let arguments = changes.iter().flat_map(|change| {
        [
            change.what.as_bytes(),
            change.etag.as_deref().unwrap_or_default().as_bytes(),
            &change.value,
            change.first.as_bytes(),
            change.ttl.as_bytes(),
        ]
    });
    Call {
        script,
        keys: changes.iter().map(|change| change.key.as_str()).collect(),
        arguments: arguments.collect(),
    }
}

/// The etag as a version is written, read as Go does.
fn number(etag: &str) -> Result<String> {
    let number: i64 = etag.parse().map_err(|_| {
        let digits = etag.strip_prefix(['+', '-']).unwrap_or(etag);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let reason = match is_number {
            true => "value out of range",
            false => "invalid syntax",
        };
        let text = format!("strconv.Atoi: parsing {etag:?}: {reason}");
        Error::new(ErrorKind::InvalidEtag, text)
    })?;
    Ok(number.to_string())
}

fn seconds(metadata: &Metadata, default: Option<i64>) -> Result<i64> {
    let own = parse_ttl(metadata)?;
    let seconds = match metadata.contains_key(TTL) {
        true => own.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        false => default.unwrap_or(0),
    };
    Ok(seconds.clamp(0, LONGEST))
}
