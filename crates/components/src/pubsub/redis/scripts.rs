//! What is done to a stream in one step. All keys of a script are in one slot.

use crate::client::redis::Script;

/// Takes entries over that are pending in a group: those that have been idle for long, or those of
/// one consumer.
///
/// Key: the stream. Arguments: the group; the consumer that gets them; the least idle time in
/// milliseconds; where to begin; how many to look at; whose, or nothing for everybody's; then ids to
/// leave alone. Answers how many were looked at, the last of them, and for each that was taken its
/// id, how often it had been delivered, and its fields. What is no more in the stream is done.
const CLAIM: &str = r"
local key, group, me, whose = KEYS[1], ARGV[1], ARGV[2], ARGV[6]
local pending
if whose == '' then
  pending = redis.call('XPENDING', key, group, 'IDLE', ARGV[3], ARGV[4], '+', ARGV[5])
else
  pending = redis.call('XPENDING', key, group, ARGV[4], '+', ARGV[5], whose)
end
local known, taken, last = {}, {}, ''
for i = 7, #ARGV do
  known[ARGV[i]] = true
end
for _, entry in ipairs(pending) do
  local id, count = entry[1], entry[4]
  last = id
  if not known[id] then
    local next = count
    if whose == '' then
      next = count + 1
    end
    local claimed = redis.call('XCLAIM', key, group, me, 0, id, 'RETRYCOUNT', next)[1]
    if claimed then
      taken[#taken + 1] = {id, count, claimed[2]}
    else
      redis.call('XACK', key, group, id)
    end
  end
end
return {#pending, last, taken}
";

/// Says that entries are being handled, and how often they were. Answers those that another consumer
/// has.
///
/// Key: the stream. Arguments: the group, the consumer, then ids, each with the number of its
/// deliveries.
const REFRESH: &str = r"
local lost = {}
for i = 3, #ARGV, 2 do
  local owner = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if owner and owner[2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
  elseif owner then
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
";

/// Has a consumer leave its group: what is pending for it can be taken over at once, and the consumer
/// is gone. Its entries go to the consumer that has the group's name, as upstream's have.
///
/// Key: the stream. Arguments: the group, the consumer, then ids, each with the number of its
/// deliveries; others that are pending for the consumer never reached it.
const LEAVE: &str = r"
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
local counts = {}
for i = 3, #ARGV, 2 do
  counts[ARGV[i]] = ARGV[i + 1]
end
local pending = redis.call('XPENDING', key, group, '-', '+', 100, me)
while #pending > 0 do
  for _, entry in ipairs(pending) do
    local count = counts[entry[1]] or math.max(entry[4] - 1, 0)
    redis.call('XCLAIM', key, group, group, 0, entry[1], 'TIME', 0, 'RETRYCOUNT', count, 'JUSTID')
  end
  pending = redis.call('XPENDING', key, group, '-', '+', 100, me)
end
return redis.call('XGROUP', 'DELCONSUMER', key, group, me)
";

/// Forgets consumers that crashed long ago, and that nothing is pending for any more.
///
/// Key: the stream. Arguments: the group, how the names begin, the least idle time in milliseconds.
const SWEEP: &str = r"
local gone = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do
    info[consumer[i]] = consumer[i + 1]
  end
  local is_ours = string.sub(info.name, 1, #ARGV[2]) == ARGV[2]
  if is_ours and info.pending == 0 and info.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info.name)
    gone = gone + 1
  end
end
return gone
";

/// Moves an entry to another stream, unless its group is done with it: asked again, it does no more.
///
/// Keys: the stream, the other one. Arguments: the group, the id, the length that the other stream is
/// cut to (0: not at all), then the fields.
const MOVE: &str = r"
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then
  return 0
end
local add = {'XADD', KEYS[2]}
if ARGV[3] ~= '0' then
  add = {'XADD', KEYS[2], 'MAXLEN', '~', ARGV[3]}
end
add[#add + 1] = '*'
for i = 4, #ARGV do
  add[#add + 1] = ARGV[i]
end
redis.call(unpack(add))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return 1
";

/// Keeps an event until it is due.
///
/// Key: the sorted set. Arguments: milliseconds from now; a text of 32 characters that is this
/// event's alone; the event. Events that are due at the same time follow each other as they came.
const DELAY: &str = r"
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local came = string.format('%016.0f', time[1] * 1000000 + time[2])
return redis.call('ZADD', KEYS[1], string.format('%.0f', due), came .. ARGV[2] .. ARGV[3])
";

/// Moves events that are due to their stream. Answers in how many milliseconds the next one is, -1
/// where there is none.
///
/// Keys: the sorted set, the stream. Arguments: how many to move at most, the length that the stream
/// is cut to (0: not at all).
const DUE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, event in ipairs(due) do
  local data = string.sub(event, 49)
  if ARGV[2] == '0' then
    redis.call('XADD', KEYS[2], '*', 'data', data)
  else
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'data', data)
  end
  redis.call('ZREM', KEYS[1], event)
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if not next then
  return -1
end
return math.max(tonumber(next) - now, 0)
";

/// All of them.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) refresh: Script,
    pub(super) leave: Script,
    pub(super) sweep: Script,
    pub(super) transfer: Script,
    pub(super) delay: Script,
    pub(super) due: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            claim: Script::new(CLAIM),
            refresh: Script::new(REFRESH),
            leave: Script::new(LEAVE),
            sweep: Script::new(SWEEP),
            transfer: Script::new(MOVE),
            delay: Script::new(DELAY),
            due: Script::new(DUE),
        }
    }
}
