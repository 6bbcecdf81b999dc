//! h2spec, a suite of what HTTP/2 servers must do.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use layotto_peers::{
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};

use super::output;
use crate::runner::Case;

/// `test: reason`, a line each, of what layotto may fail.
const ACCEPTED: &str = include_str!("h2spec_accepted.txt");
/// What Envoy passes.
const LEAST: usize = 132;

pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "h2spec::failures_are_the_accepted_ones",
        &["h2spec"],
        |lab| async move {
            let origin = Origin::start().await?;
            let plan = Plan {
                front: Protocol::Http2,
                ..Plan::of(Protocol::Http1, origin.address)
            };
            let proxy = Proxy::start(lab.kind, &plan).await?;
            let folder = tempfile::tempdir()?;
            let report = folder.path().join("report.xml").display().to_string();
            let port = proxy.address.port().to_string();
            let arguments = [
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-P",
                "/bytes/100",
                "-o",
                "2",
                "-j",
                &report,
            ];
            // It ends with 1 where one test fails.
            let ended = output("h2spec", arguments).await?;
            let text = std::fs::read_to_string(&report)
                .with_context(|| String::from_utf8_lossy(&ended.stdout).into_owned())?;
            let report = Report::read(&text);
            println!("h2spec: {} of {} passed; failed:", report.passed, report.tests);
            for failed in &report.failed {
                println!("  {failed}");
            }
            report.judge(lab.kind)
        },
    )]
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    tests: usize,
    passed: usize,
    failed: BTreeSet<String>,
}

impl Report {
    /// Reads the report, XML as JUnit writes it: a `testcase` with a `failure` or `error` in it
    /// has failed, one with `skipped` was not run.
    fn read(xml: &str) -> Self {
        let mut report = Self::default();
        for case in xml.split("<testcase ").skip(1) {
            report.tests += 1;
            let case = case.split("</testcase>").next().unwrap_or_default();
            if case.contains("<failure") || case.contains("<error") {
                let name = |name| attribute(case, name).unwrap_or_default();
                report
                    .failed
                    .insert(format!("{} {}", name("package"), name("classname")));
            } else if !case.contains("<skipped") {
                report.passed += 1;
            }
        }
        report
    }

    fn judge(&self, kind: Kind) -> Result<()> {
        let accepted: BTreeSet<String> = accepted().into_iter().map(|(name, _)| name).collect();
        let new: Vec<_> = self.failed.difference(&accepted).collect();
        ensure!(
            self.passed >= LEAST,
            "only {} of {} passed; not accepted: {new:#?}",
            self.passed,
            self.tests
        );
        // The list is about layotto; the others have their own faults.
        ensure!(
            kind != Kind::Layotto || new.is_empty(),
            "fails what is not in h2spec_accepted.txt: {new:#?}"
        );
        Ok(())
    }
}

fn accepted() -> Vec<(String, String)> {
    let lines = ACCEPTED.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(" | "))
        .map(|(name, reason)| (name.trim().to_owned(), reason.trim().to_owned()))
        .collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_by_name_and_skipped_tests_are_not_passed() {
        let report = Report::read(
            r#"<testsuite><testcase package="http2/1" classname="good" time="1"></testcase>
            <testcase package="http2/2" classname="bad" time="1"><failure>x</failure></testcase>
            <testcase package="http2/3" classname="none" time="1"><skipped></skipped></testcase></testsuite>"#,
        );
        assert_eq!((report.tests, report.passed), (3, 1));
        assert_eq!(report.failed.into_iter().collect::<Vec<_>>(), ["http2/2 bad"]);
    }

    #[test]
    fn every_accepted_failure_has_a_reason() {
        let lines = ACCEPTED
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        assert_eq!(lines.count(), accepted().len());
        assert!(accepted().iter().all(|(_, reason)| reason.len() > 20));
    }
}
