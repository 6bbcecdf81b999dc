//! Runs assertions over every registered type of a kind and shows the outcome as a matrix.

pub mod results;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use layotto_core::{Component, Kind, Registry, registry::AnyKind};
use tokio::runtime::Handle;

use crate::{
    conformance::{Assertion, Subject, subject::Source},
    fixture::{self, Fixture},
};

/// How long an assertion may take.
const LIMIT: Duration = Duration::from_secs(40);

/// How many types are looked at at once.
const TYPES_AT_ONCE: usize = 2;

/// How many assertions run at once on one component.
const AT_ONCE: usize = 24;

/// What became of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not apply, or cannot be tried here, for the reason given.
    Ignored(String),
    /// It does not hold.
    Failed(String),
}

/// The verdicts on one type.
#[derive(Debug)]
pub struct Column {
    /// The type's name.
    pub type_name: &'static str,
    /// Whether a component could be opened.
    pub ran: bool,
    /// One verdict for each assertion.
    pub verdicts: Vec<Verdict>,
    /// How long it took.
    pub took: Duration,
    /// The product behind it, with its version.
    pub product: Option<String>,
    /// Why passing says less than it seems to.
    pub unproven: Option<&'static str>,
}

impl Column {
    /// How many assertions hold.
    pub fn passes(&self) -> usize {
        self.verdicts
            .iter()
            .filter(|verdict| **verdict == Verdict::Passed)
            .count()
    }

    fn ignored(type_name: &'static str, reason: &str, assertions: usize) -> Self {
        Self {
            type_name,
            ran: false,
            verdicts: vec![Verdict::Ignored(reason.to_owned()); assertions],
            took: Duration::ZERO,
            product: None,
            unproven: None,
        }
    }
}

/// The verdicts on every type of one kind.
#[derive(Debug)]
pub struct Matrix {
    /// The kind's section of the configuration file.
    pub kind: &'static str,
    /// The assertions, in the order of the verdicts.
    pub assertions: Vec<&'static str>,
    /// The registered types.
    pub columns: Vec<Column>,
    /// Types that are known but not registered.
    pub planned: Vec<&'static str>,
}

/// Runs `assertions` over every registered type of a kind, with the fixtures of this crate.
pub async fn run<T: ?Sized + Component>(
    registry: &Arc<Registry>,
    kind: fn(&Registry) -> &Kind<T>,
    assertions: &[Assertion<T>],
) -> Matrix {
    let section = kind(registry).section();
    let columns = kind(registry).names().into_iter().map(async |type_name| {
        let source = Source {
            registry: registry.clone(),
            kind,
            type_name,
            wrap: |component| component,
        };
        match fixture::of(section, type_name).await {
            Ok(fixture) => column(source, fixture, assertions).await,
            Err(reason) => Column::ignored(type_name, &reason, assertions.len()),
        }
    });
    Matrix {
        kind: section,
        assertions: assertions.iter().map(|assertion| assertion.name).collect(),
        columns: stream::iter(columns).buffered(TYPES_AT_ONCE).collect().await,
        planned: kind(registry).planned(),
    }
}

/// Runs `assertions` over one type.
pub async fn column<T: ?Sized + Component>(
    source: Source<T>,
    fixture: Fixture,
    assertions: &[Assertion<T>],
) -> Column {
    let (started, type_name) = (Instant::now(), source.type_name);
    let (product, unproven) = (fixture.facts.product.clone(), fixture.facts.unproven);
    let verdicts = match Subject::open(source, fixture).await {
        Ok(subject) => {
            let verdicts = assertions
                .iter()
                .map(|assertion| verdict(subject.clone(), *assertion));
            stream::iter(verdicts).buffered(AT_ONCE).collect().await
        }
        Err(wrong) => vec![Verdict::Failed(wrong); assertions.len()],
    };
    Column {
        type_name,
        ran: true,
        verdicts,
        took: started.elapsed(),
        product,
        unproven,
    }
}

async fn verdict<T: ?Sized + Component>(subject: Subject<T>, assertion: Assertion<T>) -> Verdict {
    let subject = subject.named(assertion.name);
    let quirk = subject
        .fixture
        .facts
        .quirks
        .iter()
        .find(|(name, _)| *name == assertion.name);
    if let Some(reason) = quirk
        .map(|(_, reason)| *reason)
        .or_else(|| (assertion.needs)(&subject))
    {
        return Verdict::Ignored(reason.to_owned());
    }
    // A thread of its own, so that a panic is a verdict too.
    let runtime = Handle::current();
    let trying = move || runtime.block_on(tokio::time::timeout(LIMIT, (assertion.run)(subject)));
    match tokio::task::spawn_blocking(trying).await {
        Ok(Ok(Ok(()))) => Verdict::Passed,
        Ok(Ok(Err(wrong))) => Verdict::Failed(wrong),
        Ok(Err(_)) => Verdict::Failed(format!("no end within {LIMIT:?}")),
        Err(panic) => Verdict::Failed(format!("the assertion ended early: {panic}")),
    }
}

impl Matrix {
    /// The assertions that do not hold, with type and what is wrong.
    pub fn failures(&self) -> Vec<(&'static str, &'static str, &str)> {
        let cells = self.columns.iter().flat_map(|column| {
            let named = self.assertions.iter().zip(&column.verdicts);
            named.map(|(assertion, verdict)| (column.type_name, *assertion, verdict))
        });
        let failed = cells.filter_map(|(type_name, assertion, verdict)| match verdict {
            Verdict::Failed(wrong) => Some((type_name, assertion, wrong.as_str())),
            _ => None,
        });
        failed.collect()
    }

    /// The reasons for ignoring, in the order of their first use.
    fn reasons(&self) -> Vec<&str> {
        let mut reasons: Vec<&str> = Vec::new();
        for verdict in self.columns.iter().flat_map(|column| &column.verdicts) {
            if let Verdict::Ignored(reason) = verdict
                && !reasons.contains(&reason.as_str())
            {
                reasons.push(reason);
            }
        }
        reasons
    }

    fn cell(&self, verdict: &Verdict, reasons: &[&str]) -> String {
        match verdict {
            Verdict::Passed => "pass".to_owned(),
            Verdict::Failed(_) => "FAIL".to_owned(),
            Verdict::Ignored(reason) => {
                let number = reasons
                    .iter()
                    .position(|known| known == reason)
                    .unwrap_or_default();
                format!("ignored [{}]", number + 1)
            }
        }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.reasons();
        let first = self
            .assertions
            .iter()
            .map(|name| name.len())
            .max()
            .unwrap_or_default()
            .max(30);
        let row = |f: &mut fmt::Formatter<'_>, name: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|cell| format!("  {cell:<14}")).collect();
            writeln!(f, "{}", format!("{name:<first$}{cells}").trim_end())
        };
        let names: Vec<_> = self
            .columns
            .iter()
            .map(|column| column.type_name.to_owned())
            .collect();
        row(f, self.kind, &names)?;
        for (index, assertion) in self.assertions.iter().enumerate() {
            let verdicts = self
                .columns
                .iter()
                .filter_map(|column| column.verdicts.get(index));
            let cells: Vec<_> = verdicts.map(|verdict| self.cell(verdict, &reasons)).collect();
            row(f, assertion, &cells)?;
        }
        let totals = self
            .columns
            .iter()
            .map(|column| format!("{} of {}", column.passes(), column.verdicts.len()));
        row(f, "passed", &totals.collect::<Vec<_>>())?;
        let times = self
            .columns
            .iter()
            .map(|column| format!("{:.1} s", column.took.as_secs_f32()));
        row(f, "took", &times.collect::<Vec<_>>())?;
        for (number, reason) in reasons.iter().enumerate() {
            writeln!(f, "[{}] {reason}", number + 1)?;
        }
        for column in &self.columns {
            if let Some(unproven) = column.unproven {
                writeln!(f, "{} {unproven}", column.type_name)?;
            }
        }
        if !self.planned.is_empty() {
            writeln!(f, "not built yet: {}", self.planned.join(", "))?;
        }
        for (type_name, assertion, wrong) in self.failures() {
            writeln!(f, "FAIL {type_name} {assertion}: {wrong}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
