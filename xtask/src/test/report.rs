//! What the lines of the test runner add up to.

/// Counts of all test binaries, and the tests that did not run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Tests that did not run, each with the reason it gave.
    pub skipped: Vec<String>,
}

impl Report {
    /// Takes in one line that the test runner printed.
    pub fn read(&mut self, line: &str) {
        if let Some((_, counts)) = line.split_once("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
            self.ignored += count(counts, " ignored");
        } else if let Some((test, reason)) = ignored(line) {
            self.skipped.push(format!("{test}: {reason}"));
        }
    }

    /// Prints each test that did not run.
    pub fn print_skipped(&self) {
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
    }

    /// One line for the summary.
    pub fn totals(&self) -> String {
        format!(
            "{} passed, {} failed, {} ignored",
            self.passed, self.failed, self.ignored
        )
    }
}

/// The number before `word`, such as 12 in `ok. 12 passed; 0 failed`.
fn count(counts: &str, word: &str) -> u64 {
    let before = counts.split(word).next().unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn ignored(line: &str) -> Option<(&str, &str)> {
    let (test, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let reason = rest.strip_prefix("ignored")?;
    Some((test, reason.strip_prefix(", ").unwrap_or("no reason given")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut report = Report::default();
        report.read(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        report.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(report.totals(), "15 passed, 2 failed, 1 ignored");
    }

    #[test]
    fn ignored_tests_are_listed_with_their_reason() {
        let mut report = Report::default();
        report.read("test a::b ... ok");
        report.read("test soak::long ... ignored, soak: 10 minutes");
        report.read("test bare ... ignored");
        assert_eq!(
            report.skipped,
            ["soak::long: soak: 10 minutes", "bare: no reason given"]
        );
    }
}
