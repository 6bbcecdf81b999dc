//! Finds the first route of a virtual host that takes a request, at a cost that does not grow with
//! the number of routes: paths are looked up, and under a path the values of headers.

mod bucket;
mod prefixes;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use regex::{RegexSet, RegexSetBuilder};

use self::{bucket::Bucket, prefixes::Prefixes};
use super::{
    Route,
    rule::{PathRule, Rule, Subject, fold},
};
use crate::config::ConfigError;

/// The most memory that the compiled expressions of a virtual host may take.
const MAX_SET_BYTES: usize = 64 << 20;

/// The routes of a virtual host.
#[derive(Debug)]
pub(super) struct Matcher {
    routes: Vec<Arc<Route>>,
    rules: Vec<Rule>,
    any: Bucket,
    exact: HashMap<Box<str>, Bucket>,
    prefixes: Prefixes<Bucket>,
    regexes: RegexSet,
    by_regex: Vec<Bucket>,
}

/// A search for the first rule that holds.
#[derive(Debug)]
struct Search<'a> {
    subject: &'a Subject<'a>,
    rules: &'a [Rule],
    best: Option<u32>,
    /// How many rules were looked at.
    examined: usize,
}

impl Matcher {
    /// Routes in the order of the configuration.
    pub(super) fn new(routes: Vec<(PathRule, Rule, Arc<Route>)>) -> Result<Self, ConfigError> {
        let mut any = Bucket::default();
        let mut exact = HashMap::<_, Bucket>::new();
        let mut prefixes = BTreeMap::<_, Bucket>::new();
        let mut regexes = BTreeMap::<_, Bucket>::new();
        for (index, (path, rule, _)) in (0..).zip(&routes) {
            let bucket = match path {
                PathRule::Any => &mut any,
                PathRule::Exact(path) => exact.entry(path.clone()).or_default(),
                PathRule::Prefix(prefix) => prefixes.entry(prefix.clone()).or_default(),
                PathRule::Regex(regex) => regexes.entry(regex.clone()).or_default(),
            };
            bucket.add(index, rule.key());
        }
        let (rules, routes) = routes.into_iter().map(|(_, rule, route)| (rule, route)).unzip();
        Ok(Self {
            routes,
            rules,
            any,
            exact,
            prefixes: Prefixes::new(prefixes),
            regexes: set(regexes.keys())?,
            by_regex: regexes.into_values().collect(),
        })
    }

    /// The first route that takes the request.
    pub(super) fn find(&self, subject: &Subject<'_>) -> Option<&Arc<Route>> {
        let index = self.search(subject).best?;
        self.routes.get(usize::try_from(index).ok()?)
    }

    /// All routes.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    fn search<'a>(&'a self, subject: &'a Subject<'a>) -> Search<'a> {
        let mut search = Search {
            subject,
            rules: &self.rules,
            best: None,
            examined: 0,
        };
        let path = subject.path.text();
        self.any.search(&mut search);
        if !self.exact.is_empty()
            && let Some(bucket) = self.exact.get(&*fold(path))
        {
            bucket.search(&mut search);
        }
        for bucket in self.prefixes.of(path) {
            bucket.search(&mut search);
        }
        // Last, as they cost most: what stands before them all may have been found.
        if self
            .by_regex
            .iter()
            .any(|bucket| search.may_gain_from(bucket.first()))
        {
            for index in self.regexes.matches(path) {
                self.by_regex[index].search(&mut search);
            }
        }
        search
    }
}

impl Search<'_> {
    /// Looks at rules, whose numbers ascend.
    fn examine(&mut self, candidates: &[u32]) {
        for &index in candidates {
            if !self.may_gain_from(index) {
                return;
            }
            self.examined += 1;
            if self.rules[index as usize].holds(self.subject) {
                self.best = Some(index);
                return;
            }
        }
    }

    fn may_gain_from(&self, index: u32) -> bool {
        self.best.is_none_or(|best| index < best)
    }
}

fn set<'a>(patterns: impl Iterator<Item = &'a Box<str>>) -> Result<RegexSet, ConfigError> {
    RegexSetBuilder::new(patterns)
        .size_limit(MAX_SET_BYTES)
        .build()
        .map_err(|error| ConfigError::new("routers", format!("has too many regular expressions: {error}")))
}

#[cfg(test)]
mod tests;
