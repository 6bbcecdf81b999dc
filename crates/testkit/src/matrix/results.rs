//! The committed results of each type: the passes may not fall, and what does not apply is known.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Column, Matrix, Verdict};

/// Set to `1`, it has the file rewritten instead of compared.
pub const UPDATE: &str = "UPDATE_CONFORMANCE";

/// What the suite said of one type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Outcome {
    /// How many assertions hold.
    passed: usize,
    /// How many there are.
    of: usize,
    /// The product and the version with which it ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    /// Why passing says less than it seems to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unproven: Option<String>,
    /// The assertions that do not apply, by the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    not_applicable: BTreeMap<String, Vec<String>>,
}

/// Results by kind and type.
type Results = BTreeMap<String, BTreeMap<String, Outcome>>;

impl Outcome {
    fn of(matrix: &Matrix, column: &Column) -> Self {
        let mut not_applicable: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (assertion, verdict) in matrix.assertions.iter().zip(&column.verdicts) {
            if let Verdict::Ignored(reason) = verdict {
                let assertions = not_applicable.entry(reason.clone()).or_default();
                assertions.push((*assertion).to_owned());
            }
        }
        Self {
            passed: column.passes(),
            of: column.verdicts.len(),
            product: column.product.clone(),
            unproven: column.unproven.map(str::to_owned),
            not_applicable,
        }
    }

    /// Whether it says the same of another version of the product.
    fn agrees(&self, other: &Self) -> bool {
        let product = self.product.clone();
        *self
            == Self {
                product,
                ..other.clone()
            }
    }
}

/// Compares a matrix with the committed file, or with [`UPDATE`] writes its part of it. Types that
/// did not run are left alone.
///
/// # Errors
/// What differs, or why the file cannot be read or written.
pub fn check(matrix: &Matrix, path: &Path) -> Result<(), String> {
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        return update(matrix, path).map_err(|error| format!("{}: {error}", path.display()));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    compare(matrix, &parse(&text)?)
}

fn parse(text: &str) -> Result<Results, String> {
    serde_json::from_str(text).map_err(|error| format!("the committed results: {error}"))
}

fn compare(matrix: &Matrix, committed: &Results) -> Result<(), String> {
    let committed = committed.get(matrix.kind).cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for column in matrix.columns.iter().filter(|column| column.ran) {
        let before = committed.get(column.type_name).cloned().unwrap_or_default();
        let differs = differs(&Outcome::of(matrix, column), &before);
        wrong.extend(differs.map(|text| format!("{} {}: {text}", matrix.kind, column.type_name)));
    }
    for name in committed
        .keys()
        .filter(|name| !matrix.columns.iter().any(|column| column.type_name == **name))
    {
        wrong.push(format!(
            "{} {name}: no such type is registered any more",
            matrix.kind
        ));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// What is to be said where a type does not do as it is committed.
fn differs(now: &Outcome, before: &Outcome) -> Option<String> {
    let (passes, committed) = (now.passed, before.passed);
    if passes < committed {
        return Some(format!("{passes} passes, {committed} are committed"));
    }
    let advice = format!("set {UPDATE}=1 to commit what is so now");
    if passes > committed {
        return Some(format!(
            "{passes} passes, only {committed} are committed; {advice}"
        ));
    }
    let text = || format!("what does not apply is not as committed; {advice}");
    (!now.agrees(before)).then(text)
}

fn update(matrix: &Matrix, path: &Path) -> Result<(), String> {
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = options.map_err(|error| error.to_string())?;
    // Other kinds write the same file at the same time.
    file.lock().map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let mut results = if text.trim().is_empty() {
        Results::new()
    } else {
        parse(&text)?
    };
    let kind = results.entry(matrix.kind.to_owned()).or_default();
    kind.retain(|name, _| matrix.columns.iter().any(|column| column.type_name == name));
    for column in matrix.columns.iter().filter(|column| column.ran) {
        kind.insert(column.type_name.to_owned(), Outcome::of(matrix, column));
    }
    rewrite(&mut file, &results).map_err(|error| error.to_string())
}

fn rewrite(file: &mut File, results: &Results) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn matrix(passes: usize, ran: bool) -> Matrix {
        let mut verdicts = vec![Verdict::Passed; passes];
        verdicts.push(Verdict::Ignored("a reason".to_owned()));
        let column = Column {
            type_name: "t",
            ran,
            verdicts,
            took: Duration::ZERO,
            product: Some("P 1.0".to_owned()),
            unproven: None,
        };
        Matrix {
            kind: "state",
            assertions: vec!["a"; passes + 1],
            columns: vec![column],
            planned: Vec::new(),
        }
    }

    fn committed() -> Results {
        parse(
            r#"{"state": {"t": {"passed": 3, "of": 4, "product": "P 0.9",
                "not_applicable": {"a reason": ["a"]}}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_same_is_fine_with_another_version_and_a_type_that_did_not_run_too() {
        assert_eq!(compare(&matrix(3, true), &committed()), Ok(()));
        assert_eq!(compare(&matrix(0, false), &committed()), Ok(()));
    }

    #[test]
    fn fewer_and_more_are_refused() {
        let fewer = compare(&matrix(2, true), &committed()).unwrap_err();
        assert!(fewer.contains("2 passes, 3 are committed"), "{fewer}");
        let more = compare(&matrix(4, true), &committed()).unwrap_err();
        assert!(more.contains(UPDATE), "{more}");
        assert!(compare(&matrix(1, true), &Results::new()).is_err());
    }

    #[test]
    fn another_reason_and_another_assertion_are_refused() {
        let mut other = matrix(3, true);
        other.columns[0].verdicts[3] = Verdict::Ignored("another".to_owned());
        let reason = compare(&other, &committed()).unwrap_err();
        assert!(reason.contains("does not apply"), "{reason}");
        let mut other = matrix(3, true);
        other.assertions[3] = "b";
        assert!(compare(&other, &committed()).is_err());
    }

    #[test]
    fn a_type_that_is_gone_is_noticed() {
        let mut without = matrix(3, true);
        without.columns.clear();
        let gone = compare(&without, &committed()).unwrap_err();
        assert!(gone.contains("no such type"), "{gone}");
    }

    #[test]
    fn updating_keeps_other_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        let before = r#"{"lock": {"t": {"passed": 9, "of": 9}}, "state": {"gone": {"passed": 5, "of": 5}}}"#;
        fs::write(&path, before).unwrap();
        update(&matrix(3, true), &path).unwrap();
        let written = parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(written["lock"]["t"].passed, 9);
        let now = &written["state"];
        assert_eq!(now.keys().collect::<Vec<_>>(), ["t"]);
        assert!(now["t"].agrees(&committed()["state"]["t"]));
        assert_eq!(now["t"].product.as_deref(), Some("P 1.0"));
    }
}
