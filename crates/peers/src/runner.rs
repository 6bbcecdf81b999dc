//! Runs the cases; those that would disturb each other one by one, the rest a few at a time.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use layotto_peers::{programs, proxy::Kind};

use crate::Options;

const AT_ONCE: usize = 3;
/// Of a short measurement.
const TRIES: usize = 3;
const LIMIT: Duration = Duration::from_secs(180);
const SOAK_LIMIT: Duration = Duration::from_secs(1800);

/// What a case is told.
#[derive(Debug, Clone, Copy)]
pub struct Lab {
    /// The proxy under test.
    pub kind: Kind,
    /// Whether there is much time.
    pub soak: bool,
}

impl Lab {
    /// The first time in a test, the second in a soak; in seconds.
    pub fn seconds(self, short: u64, long: u64) -> Duration {
        Duration::from_secs(if self.soak { long } else { short })
    }

    /// Runs a measurement, and again where it fails and time was short: other work on the machine
    /// makes a figure worse, never better.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn measure<F: Future<Output = Result<()>>>(self, once: impl Fn() -> F) -> Result<()> {
        if !self.soak {
            for _ in 1..TRIES {
                match once().await {
                    Err(error) if !error.is::<Ignored>() => println!("once more: {error:#}"),
                    settled => return settled,
                }
            }
        }
        once().await
    }
}

/// Why a case does not apply.
#[derive(Debug)]
pub struct Ignored(pub String);

impl std::fmt::Display for Ignored {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Ignored {}

type Run = Box<dyn Fn(Lab) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// One test.
pub struct Case {
    name: String,
    needs: Vec<&'static str>,
    /// Measures, or uses the whole machine.
    alone: bool,
    run: Run,
}

impl Case {
    /// A test that runs beside others and needs these programs beside the proxy.
    pub fn new<F>(
        name: impl Into<String>,
        needs: &[&'static str],
        run: impl Fn(Lab) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self {
            name: name.into(),
            needs: needs.to_vec(),
            alone: false,
            run: Box::new(move |lab| run(lab).boxed()),
        }
    }

    /// One that runs alone, and that a soak runs in full.
    pub fn long<F>(
        name: impl Into<String>,
        needs: &[&'static str],
        run: impl Fn(Lab) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self {
            alone: true,
            ..Self::new(name, needs, run)
        }
    }

    /// Why it cannot be run here, if it cannot.
    fn missing(&self, kind: Kind) -> Option<String> {
        kind.program().err().or_else(|| {
            self.needs
                .iter()
                .find_map(|program| programs::find(program).err())
        })
    }
}

enum Verdict {
    Passed,
    Ignored(String),
    Failed(String),
}

/// Runs the cases that `options` asks for; true when none failed.
pub async fn run(cases: Vec<Case>, options: &Options) -> bool {
    let lab = Lab {
        kind: options.proxy,
        soak: options.soak,
    };
    let chosen = cases
        .into_iter()
        .filter(|case| case.name.contains(&options.filter) && (case.alone || !options.soak));
    let (alone, together): (Vec<_>, Vec<_>) = chosen.partition(|case| case.alone);
    println!("running {} tests", alone.len() + together.len());
    let mut verdicts: Vec<_> = stream::iter(together)
        .map(|case| judge(case, lab))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for case in alone {
        verdicts.push(judge(case, lab).await);
    }
    summarise(&verdicts)
}

async fn judge(case: Case, lab: Lab) -> (String, Verdict) {
    let begun = Instant::now();
    let verdict = match case.missing(lab.kind) {
        Some(reason) => Verdict::Ignored(reason),
        None => verdict(&case, lab).await,
    };
    let word = match &verdict {
        Verdict::Passed => format!("ok ({:.1} s)", begun.elapsed().as_secs_f64()),
        Verdict::Ignored(reason) => format!("ignored, {reason}"),
        Verdict::Failed(_) => "FAILED".to_owned(),
    };
    println!("test {} ... {word}", case.name);
    (case.name, verdict)
}

async fn verdict(case: &Case, lab: Lab) -> Verdict {
    let limit = if lab.soak { SOAK_LIMIT } else { LIMIT };
    let run = AssertUnwindSafe((case.run)(lab)).catch_unwind();
    let outcome = match tokio::time::timeout(limit, run).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(anyhow!("panicked")),
        Err(_) => Err(anyhow!("not done after {limit:?}")),
    };
    match outcome {
        Ok(()) => Verdict::Passed,
        Err(error) => match error.downcast_ref::<Ignored>() {
            Some(Ignored(reason)) => Verdict::Ignored(reason.clone()),
            None => Verdict::Failed(format!("{error:#}")),
        },
    }
}

fn summarise(verdicts: &[(String, Verdict)]) -> bool {
    let (mut passed, mut ignored, mut failed) = (0, 0, 0);
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Ignored(_) => ignored += 1,
            Verdict::Failed(why) => {
                failed += 1;
                println!("\n---- {name}\n{why}");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored");
    failed == 0
}
