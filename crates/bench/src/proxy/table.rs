//! The table of the proxies, in Markdown.

use layotto_peers::proxy::Kind;

/// What one proxy came to; the error is the reason why it was not run.
pub type Figure = Result<f64, String>;

/// One workload.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub name: String,
    /// Of the figures.
    pub unit: &'static str,
    /// What each proxy came to.
    pub figures: Vec<(Kind, Figure)>,
    /// What layotto is held to.
    pub bounds: Vec<Bound>,
}

/// A bound for layotto.
#[derive(Debug)]
pub struct Bound {
    /// What the bound is a multiple of; layotto's figure itself where there is none.
    pub of: Option<Kind>,
    /// The target.
    pub target: f64,
    /// What would be better still.
    pub goal: Option<f64>,
    /// Whether more is better.
    pub at_least: bool,
}

impl Bound {
    /// At most `target` times what `kind` came to.
    pub fn times(kind: Kind, target: f64, goal: f64) -> Self {
        Self {
            of: Some(kind),
            goal: Some(goal),
            ..Self::most(target)
        }
    }

    /// At most `target`.
    pub fn most(target: f64) -> Self {
        Self {
            of: None,
            target,
            goal: None,
            at_least: false,
        }
    }
}

impl Line {
    fn figure(&self, kind: Kind) -> Option<f64> {
        let (_, figure) = self.figures.iter().find(|(of, _)| *of == kind)?;
        figure.as_ref().ok().copied()
    }

    fn cell(&self, kind: Kind) -> String {
        match self.figures.iter().find(|(of, _)| *of == kind) {
            Some((_, Ok(figure))) => format!("{figure:.2}"),
            Some((_, Err(reason))) => format!("not run: {reason}"),
            None => String::new(),
        }
    }

    /// How layotto's figure stands to a bound.
    fn judged(&self, bound: &Bound) -> String {
        let ours = self.figure(Kind::Layotto);
        let base = bound.of.map_or(Some(1.0), |kind| self.figure(kind));
        let unit = bound
            .of
            .map_or(self.unit.to_owned(), |kind| format!("× {}", kind.name()));
        let sign = if bound.at_least { "≥" } else { "≤" };
        let goal = bound
            .goal
            .map(|goal| format!(", goal {goal}"))
            .unwrap_or_default();
        let Some((ours, base)) = ours.zip(base) else {
            return format!("not judged ({sign} {} {unit}{goal})", bound.target);
        };
        let value = ours / base;
        let met = if bound.at_least {
            value >= bound.target
        } else {
            value <= bound.target
        };
        let word = if met { "yes" } else { "**no**" };
        format!("{value:.2} {unit} ({sign} {}{goal}): {word}", bound.target)
    }
}

/// The lines as a table.
pub fn markdown(lines: &[Line]) -> String {
    let mut text = String::from("| workload |");
    for kind in Kind::ALL {
        text.push_str(&format!(" {} |", kind.name()));
    }
    text.push_str(" layotto is held to |\n|---|");
    text.push_str(&"---|".repeat(Kind::ALL.len() + 1));
    for line in lines {
        text.push_str(&format!("\n| {}, {} |", line.name, line.unit));
        for kind in Kind::ALL {
            text.push_str(&format!(" {} |", line.cell(kind)));
        }
        let judged: Vec<_> = line.bounds.iter().map(|bound| line.judged(bound)).collect();
        text.push_str(&format!(" {} |", judged.join("; ")));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ours: Figure) -> Line {
        Line {
            name: "x".into(),
            unit: "µs",
            figures: vec![(Kind::HaProxy, Ok(10.0)), (Kind::Layotto, ours)],
            bounds: vec![Bound::times(Kind::HaProxy, 1.2, 1.0)],
        }
    }

    #[test]
    fn a_bound_is_a_multiple_of_what_another_came_to() {
        let judged = |ours| {
            let line = line(ours);
            line.judged(&line.bounds[0])
        };
        assert_eq!(judged(Ok(11.0)), "1.10 × haproxy (≤ 1.2, goal 1): yes");
        assert_eq!(judged(Ok(13.0)), "1.30 × haproxy (≤ 1.2, goal 1): **no**");
        assert!(judged(Err("gone".into())).starts_with("not judged"));
    }

    #[test]
    fn one_that_was_not_run_is_shown_with_the_reason() {
        assert!(markdown(&[line(Err("gone".into()))]).contains("| not run: gone |"));
    }
}
