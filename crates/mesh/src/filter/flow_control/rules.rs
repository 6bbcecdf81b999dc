//! The rules of a configuration by resource, with their counts. Only resources that rules name
//! have state.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Surroundings,
    config::RuleConfig,
    rule::Rule,
    window::{Clock, Cut, Ring, Window},
};
use crate::config::ConfigError;

/// All rules, by the resource they limit.
#[derive(Debug, Default)]
pub struct Rules(HashMap<Box<str>, Arc<Resource>>);

/// A resource that rules limit or look at.
#[derive(Debug, Default)]
pub struct Resource {
    rules: Vec<Arc<Rule>>,
    throttles: bool,
    /// Its own counts, a ring for each length of bucket that a rule reads.
    rings: Vec<Arc<Ring>>,
    /// Held while a call is checked and counted, so that no two take the same place. Kept when
    /// rules are replaced, as the rings are.
    gate: Arc<Mutex<()>>,
    /// The widest window that a rule reads.
    widest: Option<Window>,
}

impl Rules {
    /// Builds the rules of a configuration; rules and windows that `old` has too are kept with
    /// what they know.
    pub fn new(configs: &[RuleConfig], old: &Self) -> Result<Self, ConfigError> {
        let mut resources = HashMap::new();
        for (at, config) in configs.iter().enumerate() {
            add(&mut resources, config, old).map_err(|error| error.under(&format!("rules[{at}]")))?;
        }
        let shared = |(name, resource)| (name, Arc::new(resource));
        Ok(Self(resources.into_iter().map(shared).collect()))
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The resource called `name`, if a rule names it.
    pub fn find(&self, name: &str) -> Option<&Arc<Resource>> {
        self.0.get(name)
    }

    /// What was counted, by resource.
    pub fn show(&self, clock: &Clock) -> Value {
        let now = clock.now();
        let mut shown: Vec<_> = self
            .0
            .iter()
            .map(|(name, of)| (name.to_string(), of.show(now)))
            .collect();
        shown.sort_by(|(a, _), (b, _)| a.cmp(b));
        Value::Object(shown.into_iter().collect())
    }
}

type Building = HashMap<Box<str>, Resource>;

fn add(resources: &mut Building, config: &RuleConfig, old: &Rules) -> Result<(), ConfigError> {
    config.validate()?;
    let counted = entry(resources, config.counted()?, old);
    let window = counted.window(config, old.find(config.counted()?));
    let before = old.find(&config.resource);
    let resource = entry(resources, &config.resource, old);
    // What it passes itself is shown, whatever the rule looks at.
    resource.window(config, before);
    let kept = before.and_then(|old| old.rule_like(config, resource));
    let rule = match kept {
        Some(rule) => rule,
        None => Arc::new(Rule::new(config, window)?),
    };
    resource.throttles |= rule.throttles();
    resource.rules.push(rule);
    Ok(())
}

fn entry<'a>(resources: &'a mut Building, name: &str, old: &Rules) -> &'a mut Resource {
    resources.entry(name.into()).or_insert_with(|| Resource {
        gate: old.find(name).map(|old| old.gate.clone()).unwrap_or_default(),
        ..Resource::default()
    })
}

impl Resource {
    /// The window that `config` reads of this resource, over a ring that it has, had before, or
    /// gets now.
    fn window(&mut self, config: &RuleConfig, old: Option<&Arc<Self>>) -> Window {
        let cut = Cut::of(Duration::from_millis(config.interval_ms()));
        let of_length = |rings: &[Arc<Ring>]| rings.iter().find(|ring| ring.bucket() == cut.bucket).cloned();
        let ring = of_length(&self.rings).unwrap_or_else(|| {
            let kept = old.and_then(|old| of_length(&old.rings));
            let ring = kept.unwrap_or_else(|| Arc::new(Ring::new(cut.bucket)));
            self.rings.push(ring.clone());
            ring
        });
        let window = Window {
            ring,
            buckets: cut.buckets,
        };
        if self
            .widest
            .as_ref()
            .is_none_or(|widest| widest.length() < window.length())
        {
            self.widest = Some(window.clone());
        }
        window
    }

    /// A rule that equals `config` and that `new` has not taken over yet.
    fn rule_like(&self, config: &RuleConfig, new: &Self) -> Option<Arc<Rule>> {
        let taken = |rule: &Arc<Rule>| new.rules.iter().any(|taken| Arc::ptr_eq(taken, rule));
        let mut alike = self.rules.iter().filter(|rule| rule.config() == config);
        alike.find(|rule| !taken(rule)).cloned()
    }

    /// Whether calls may have to wait.
    pub fn throttles(&self) -> bool {
        self.throttles
    }

    /// Waits in the line of each rule that throttles, then asks the others. Tells whether the
    /// call may pass, and has counted it then. Dropping the future gives its turn back.
    pub async fn admit(&self, surroundings: &Surroundings) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.throttles()) {
            match rule.queue(surroundings) {
                Some(turn) => turn.wait(&surroundings.clock).await,
                None => {
                    self.count(surroundings.clock.now(), false);
                    return false;
                }
            }
        }
        self.admit_now(surroundings)
    }

    /// Asks the rules that do not throttle, and counts the call.
    pub fn admit_now(&self, surroundings: &Surroundings) -> bool {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = surroundings.clock.now();
        let room = self
            .rules
            .iter()
            .all(|rule| rule.has_room(now, &surroundings.memory));
        self.count(now, room);
        room
    }

    fn count(&self, now: u64, passed: bool) {
        for ring in &self.rings {
            ring.count(now, passed);
        }
    }

    fn show(&self, now: u64) -> Value {
        let Some(window) = &self.widest else {
            return Value::Null;
        };
        let counts = window.counts(now);
        json!({
            "windowMs": window.length() / 1_000_000,
            "passed": counts.passed,
            "blocked": counts.blocked,
        })
    }
}
