//! Health entries that several components may share: all over one connection are one part.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use layotto_core::health::{Health, Indicator, Required, Status};

/// The parts of a process, by name.
#[derive(Debug)]
pub struct Parts {
    health: Health,
    known: Mutex<HashMap<String, Arc<Part>>>,
}

#[derive(Debug)]
struct Part {
    indicator: Indicator,
    members: Mutex<Vec<Condition>>,
}

#[derive(Debug, Clone)]
enum Condition {
    New,
    Well,
    Faulty(String),
}

/// One component's share of a part.
#[derive(Debug)]
pub struct Member {
    part: Arc<Part>,
    index: usize,
}

impl Parts {
    /// The parts that `health` shows.
    pub fn new(health: Health) -> Self {
        Self {
            health,
            known: Mutex::default(),
        }
    }

    /// A new member of the part called `name`; `required` counts when the part is new.
    pub fn join(&self, name: &str, required: Required) -> Member {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let part = known.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Part {
                indicator: self.health.indicator(name, required),
                members: Mutex::default(),
            })
        });
        let mut members = part.members();
        members.push(Condition::New);
        Member {
            part: Arc::clone(part),
            index: members.len() - 1,
        }
    }
}

impl Part {
    fn members(&self) -> MutexGuard<'_, Vec<Condition>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// The part's indicator.
    pub fn indicator(&self) -> Indicator {
        self.part.indicator.clone()
    }

    /// This component works; the part does when no other member says that it does not.
    pub fn up(&self) {
        self.set(Condition::Well);
    }

    /// This component does not work, for `reason`, and so the part does not.
    pub fn down(&self, reason: impl Into<String>) {
        self.set(Condition::Faulty(reason.into()));
    }

    /// How this component is, whatever the others are.
    pub fn status(&self) -> Status {
        match self.part.members().get(self.index) {
            Some(Condition::Well) => Status::Up,
            Some(Condition::Faulty(_)) => Status::Down,
            Some(Condition::New) | None => Status::Init,
        }
    }

    fn set(&self, condition: Condition) {
        // The indicator is told under the lock, so that two members do not overtake each other.
        let mut members = self.part.members();
        if let Some(own) = members.get_mut(self.index) {
            *own = condition;
        }
        let fault = members.iter().find_map(|member| match member {
            Condition::Faulty(reason) => Some(reason.clone()),
            Condition::New | Condition::Well => None,
        });
        match fault {
            Some(reason) => self.part.indicator.down(reason),
            None => self.part.indicator.up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_part_is_down_while_one_member_is() {
        let health = Health::default();
        let parts = Parts::new(health.clone());
        let state = parts.join("connections.c", Required::Start);
        let lock = parts.join("connections.c", Required::Start);
        lock.down("violated");
        state.up();
        let readings = health.readings();
        assert_eq!(readings.len(), 1);
        assert_eq!(
            (readings[0].status, readings[0].reason.as_str()),
            (Status::Down, "violated")
        );
        assert_eq!((state.status(), lock.status()), (Status::Up, Status::Down));
        lock.up();
        assert_eq!(health.readings()[0].status, Status::Up);
    }

    #[test]
    fn a_member_that_was_not_tried_is_init() {
        let parts = Parts::new(Health::default());
        assert_eq!(parts.join("p", Required::Start).status(), Status::Init);
    }
}
