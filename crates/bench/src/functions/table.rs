//! The table of the functions, in Markdown.

use std::time::Duration;

use layotto_peers::load::percentile;

/// One case.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub name: String,
    /// What it came to; the error is the reason why it was not run.
    pub outcome: Result<Outcome, String>,
    /// What `judged` must not exceed; `None`: it is only shown.
    pub target: Option<f64>,
}

/// What a case came to.
#[derive(Debug)]
pub struct Outcome {
    /// The figure.
    pub value: String,
    /// What was measured beside it, in the same run; empty where nothing was.
    pub beside: String,
    /// What the target is about.
    pub judged: f64,
    /// Of `judged` and the target.
    pub unit: &'static str,
}

impl Line {
    /// A case that was not run.
    pub fn not_run(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            outcome: Err(reason.into()),
            target: None,
        }
    }

    /// Of the times of many tries, sorted, the one that `share` of all keep, in milliseconds.
    pub fn times(name: String, sorted: &[Duration], share: f64, target: Option<f64>) -> Self {
        let millis = |share| percentile(sorted, share).as_secs_f64() * 1e3;
        Self {
            name,
            outcome: Ok(Outcome {
                value: format!("{:.2} ms", millis(share)),
                beside: format!("{:.2} ms, p50", millis(0.5)),
                judged: millis(share),
                unit: "ms",
            }),
            target,
        }
    }

    fn row(&self) -> String {
        let name = &self.name;
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(reason) => return format!("| {name} | not run: {reason} | | | | |"),
        };
        let Outcome {
            value,
            beside,
            judged,
            unit,
        } = outcome;
        let (target, met) = match self.target {
            None => (String::new(), ""),
            Some(target) if *judged <= target => (format!("≤ {target}"), "yes"),
            // Not a number is no figure that meets anything.
            Some(target) => (format!("≤ {target}"), "**no**"),
        };
        format!("| {name} | {value} | {beside} | {judged:.2} {unit} | {target} | {met} |")
    }
}

/// The lines as a table.
pub fn markdown(lines: &[Line]) -> String {
    let mut text =
        String::from("| case | layotto | beside | judged | target | met |\n|---|---|---|---|---|---|\n");
    for line in lines {
        text.push_str(&line.row());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(judged: f64, target: Option<f64>) -> String {
        let outcome = Outcome {
            value: "3 µs".into(),
            beside: "1 µs".into(),
            judged,
            unit: "µs",
        };
        let line = Line {
            name: "x".into(),
            outcome: Ok(outcome),
            target,
        };
        line.row()
    }

    #[test]
    fn a_figure_is_held_to_its_target() {
        assert_eq!(line(2.0, Some(2.0)), "| x | 3 µs | 1 µs | 2.00 µs | ≤ 2 | yes |");
        assert_eq!(
            line(2.1, Some(2.0)),
            "| x | 3 µs | 1 µs | 2.10 µs | ≤ 2 | **no** |"
        );
        assert!(line(f64::NAN, Some(2.0)).ends_with("| **no** |"));
        assert_eq!(line(2.1, None), "| x | 3 µs | 1 µs | 2.10 µs |  |  |");
    }

    #[test]
    fn a_case_that_was_not_run_is_shown_with_the_reason() {
        let text = markdown(&[Line::not_run("Go", "not built")]);
        assert!(text.ends_with("| Go | not run: not built | | | | |\n"), "{text}");
    }
}
