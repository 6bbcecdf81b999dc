//! What guests of all plug-ins share: values with compare-and-swap, queues, metrics.

mod metrics;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use tokio::sync::Notify;

pub(crate) use self::metrics::Kind;
use self::metrics::Metrics;
pub use self::metrics::{BOUNDS, Metric, Value};
use crate::abi::Status;

/// The most bytes of keys and values together, and of all queues together.
const MOST_DATA: usize = 16 << 20;

/// The most bytes of a name that the host keeps.
pub(crate) const LONGEST_NAME: usize = 64 << 10;

/// What is kept beside the bytes of each value, queue or item, in bytes.
const BESIDE: usize = 128;

/// The most bytes of one queue.
const MOST_QUEUED: usize = 1 << 20;

/// The most queues, and the most items of one.
const MOST: usize = 10_000;

/// For so many items an empty queue keeps its room.
const FEW: usize = 8;

/// Values, queues and metrics of one process. Nothing of it outlives the process.
#[derive(Debug, Default)]
pub struct Shared {
    data: Mutex<Data>,
    queues: Mutex<Queues>,
    pub(crate) metrics: Metrics,
}

#[derive(Debug, Default)]
struct Data {
    values: HashMap<Bytes, (Bytes, u32)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queues {
    by_name: HashMap<(Bytes, Bytes), u32>,
    queues: Vec<Queue>,
    /// Of names and items.
    bytes: usize,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Bytes>,
    bytes: usize,
    owner: Weak<Signals>,
}

impl Shared {
    /// Nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The metrics that guests defined, in the order of their definition.
    pub fn metrics(&self) -> Vec<Metric> {
        self.metrics.list()
    }

    /// The value of `key` and its version.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        lock(&self.data).values.get(key).cloned()
    }

    /// Sets the value of `key`, if its version is still `cas` or `cas` is 0.
    pub(crate) fn set(&self, key: Bytes, value: Bytes, cas: u32) -> Result<(), Status> {
        let data = &mut *lock(&self.data);
        let weight = |value: &Bytes| key.len() + value.len() + BESIDE;
        let (length, version) = data
            .values
            .get(&key)
            .map_or((0, 0), |(value, version)| (weight(value), *version));
        if cas != 0 && cas != version {
            return Err(Status::CasMismatch);
        }
        let bytes = data.bytes - length + weight(&value);
        if bytes > MOST_DATA || key.len() > LONGEST_NAME {
            return Err(Status::InternalFailure);
        }
        data.bytes = bytes;
        data.values.insert(key, (value, version.wrapping_add(1).max(1)));
        Ok(())
    }

    /// Makes the queue of `name` in the virtual machine `vm`, or finds it. `owner` is told of what
    /// comes into it from now on; without one, whoever was told is told still.
    pub(crate) fn register(
        &self,
        vm: Bytes,
        name: Bytes,
        owner: Option<&Arc<Signals>>,
    ) -> Result<u32, Status> {
        let queues = &mut *lock(&self.queues);
        let there = queues.by_name.get(&(vm.clone(), name.clone())).copied();
        if let Some(token) = there {
            if let Some(owner) = owner {
                queues.of(token)?.owner = Arc::downgrade(owner);
            }
            return Ok(token);
        }
        let weight = vm.len() + name.len() + BESIDE;
        if queues.queues.len() == MOST || name.len() > LONGEST_NAME || weight > queues.room() {
            return Err(Status::InternalFailure);
        }
        queues.bytes += weight;
        queues.queues.push(Queue {
            items: VecDeque::new(),
            bytes: 0,
            owner: owner.map_or_else(Weak::new, Arc::downgrade),
        });
        let token = u32::try_from(queues.queues.len()).map_err(|_| Status::InternalFailure)?;
        queues.by_name.insert((vm, name), token);
        Ok(token)
    }

    /// The token of a queue that was made.
    pub(crate) fn resolve(&self, vm: Bytes, name: Bytes) -> Result<u32, Status> {
        let queues = lock(&self.queues);
        queues.by_name.get(&(vm, name)).copied().ok_or(Status::NotFound)
    }

    /// Puts an item at the end of a queue.
    pub(crate) fn enqueue(&self, token: u32, item: Bytes) -> Result<(), Status> {
        let queues = &mut *lock(&self.queues);
        let (weight, room) = (item.len() + BESIDE, queues.room());
        let queue = queues.of(token)?;
        let bytes = queue.bytes + item.len();
        if bytes > MOST_QUEUED || queue.items.len() == MOST || weight > room {
            return Err(Status::InternalFailure);
        }
        queue.bytes = bytes;
        queue.items.push_back(item);
        if let Some(owner) = queue.owner.upgrade() {
            owner.ready(token);
        }
        queues.bytes += weight;
        Ok(())
    }

    /// Takes the item at the head of a queue.
    pub(crate) fn dequeue(&self, token: u32) -> Result<Bytes, Status> {
        let queues = &mut *lock(&self.queues);
        let queue = queues.of(token)?;
        let item = queue.items.pop_front().ok_or(Status::Empty)?;
        queue.bytes -= item.len();
        if queue.items.is_empty() {
            queue.items.shrink_to(FEW);
        }
        queues.bytes -= item.len() + BESIDE;
        Ok(item)
    }

    /// Puts an item back that was taken and not given: it is the first again, whatever came meanwhile.
    pub(crate) fn put_back(&self, token: u32, item: Bytes) {
        let queues = &mut *lock(&self.queues);
        let length = item.len();
        let Ok(queue) = queues.of(token) else {
            return;
        };
        queue.bytes += length;
        queue.items.push_front(item);
        queues.bytes += length + BESIDE;
    }
}

impl Queues {
    /// How many bytes there is room for.
    fn room(&self) -> usize {
        MOST_DATA.saturating_sub(self.bytes)
    }

    fn of(&mut self, token: u32) -> Result<&mut Queue, Status> {
        let index = (token as usize).checked_sub(1).ok_or(Status::NotFound)?;
        self.queues.get_mut(index).ok_or(Status::NotFound)
    }
}

/// What a root instance has to be told of its queues.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// By the queue's token: how many items came.
    ready: Mutex<BTreeMap<u32, u32>>,
    changed: Notify,
}

impl Signals {
    fn ready(&self, token: u32) {
        *lock(&self.ready).entry(token).or_default() += 1;
        self.changed.notify_one();
    }

    fn take(&self) -> Option<u32> {
        let mut ready = lock(&self.ready);
        let mut first = ready.first_entry()?;
        let token = *first.key();
        *first.get_mut() -= 1;
        if *first.get() == 0 {
            first.remove();
        }
        Some(token)
    }

    /// Waits for an item; gives the token of its queue. Losing the future loses nothing.
    pub(crate) async fn next(&self) -> u32 {
        loop {
            if let Some(token) = self.take() {
                return token;
            }
            self.changed.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_set_only_over_the_version_that_was_read() {
        let shared = Shared::new();
        shared.set("k".into(), "1".into(), 0).unwrap();
        let (_, cas) = shared.get(b"k").unwrap();
        shared.set("k".into(), "2".into(), cas).unwrap();
        assert_eq!(shared.set("k".into(), "3".into(), cas), Err(Status::CasMismatch));
        shared.set("k".into(), "4".into(), 0).unwrap();
        assert_eq!(shared.get(b"k").unwrap().0, "4");
    }

    #[test]
    fn a_key_that_is_not_there_has_no_version() {
        assert_eq!(
            Shared::new().set("k".into(), "1".into(), 1),
            Err(Status::CasMismatch)
        );
    }

    #[test]
    fn shared_data_is_bounded_and_what_is_replaced_does_not_count() {
        let shared = Shared::new();
        let half = Bytes::from(vec![0; MOST_DATA / 2]);
        for _ in 0..5 {
            shared.set("k".into(), half.clone(), 0).unwrap();
        }
        assert_eq!(shared.set("other".into(), half, 0), Err(Status::InternalFailure));
    }

    #[test]
    fn a_queue_gives_its_items_in_their_order() {
        let shared = Shared::new();
        let token = shared.register("vm".into(), "q".into(), None).unwrap();
        assert_eq!(shared.register("vm".into(), "q".into(), None), Ok(token));
        assert_eq!(shared.resolve("vm".into(), "q".into()), Ok(token));
        assert_eq!(shared.resolve("other".into(), "q".into()), Err(Status::NotFound));
        shared.enqueue(token, "a".into()).unwrap();
        shared.enqueue(token, "b".into()).unwrap();
        assert_eq!(shared.dequeue(token).unwrap(), "a");
        assert_eq!(shared.dequeue(token).unwrap(), "b");
        assert_eq!(shared.dequeue(token), Err(Status::Empty));
        assert_eq!(shared.dequeue(0), Err(Status::NotFound));
        assert_eq!(shared.enqueue(token + 1, "c".into()), Err(Status::NotFound));
    }

    #[test]
    fn a_queue_is_bounded() {
        let shared = Shared::new();
        let token = shared.register("vm".into(), "q".into(), None).unwrap();
        let half = Bytes::from(vec![0; MOST_QUEUED / 2]);
        shared.enqueue(token, half.clone()).unwrap();
        shared.enqueue(token, half).unwrap();
        assert_eq!(shared.enqueue(token, "c".into()), Err(Status::InternalFailure));
        shared.dequeue(token).unwrap();
        shared.enqueue(token, "c".into()).unwrap();
    }

    #[test]
    fn all_queues_together_are_bounded() {
        let shared = Shared::new();
        let register = |at: usize| shared.register("vm".into(), at.to_string().into(), None).unwrap();
        let tokens: Vec<u32> = (0..100).map(register).collect();
        let item = Bytes::from(vec![0; MOST_QUEUED / 2]);
        let put = |token: &&u32| shared.enqueue(**token, item.clone()).is_ok();
        assert_eq!(
            tokens.iter().take_while(put).count(),
            2 * MOST_DATA / MOST_QUEUED - 1
        );
        shared.dequeue(tokens[0]).unwrap();
        shared.enqueue(tokens[99], item).unwrap();
    }

    #[test]
    fn what_has_no_bytes_is_bounded_too() {
        let shared = Shared::new();
        let mut items = 0;
        for name in 0..100_usize {
            let Ok(token) = shared.register("vm".into(), name.to_string().into(), None) else {
                break;
            };
            let put = |_: &usize| shared.enqueue(token, Bytes::new()).is_ok();
            items += (0..MOST).take_while(put).count();
        }
        assert!(items < 200_000, "{items}");
        let set = |key: &usize| {
            let key = Bytes::copy_from_slice(&key.to_le_bytes()[..4]);
            shared.set(key, Bytes::new(), 0).is_ok()
        };
        let values = (0..1_000_000).take_while(set).count();
        assert!(values < 200_000, "{values}");
    }

    #[tokio::test]
    async fn the_owner_is_told_once_for_each_item() {
        let shared = Shared::new();
        let signals = Arc::<Signals>::default();
        let token = shared.register("vm".into(), "q".into(), Some(&signals)).unwrap();
        shared.enqueue(token, "a".into()).unwrap();
        shared.enqueue(token, "b".into()).unwrap();
        assert_eq!(signals.next().await, token);
        assert_eq!(signals.next().await, token);
        assert_eq!(signals.take(), None);
        shared.register("vm".into(), "q".into(), None).unwrap();
        shared.enqueue(token, "c".into()).unwrap();
        assert_eq!(signals.take(), Some(token), "still");
    }
}
