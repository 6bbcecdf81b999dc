//! The committed number of passes of each type: it may not fall.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
};

use super::Matrix;

/// Set to `1`, it has the file rewritten instead of compared.
pub const UPDATE: &str = "UPDATE_CONFORMANCE";

/// Passes by kind and type.
type Counts = BTreeMap<String, BTreeMap<String, usize>>;

/// Compares a matrix with the committed file, or with [`UPDATE`] writes its part of it. Types that
/// did not run are left alone.
pub fn check(matrix: &Matrix, path: &Path) -> Result<(), String> {
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        return update(matrix, path).map_err(|error| format!("{}: {error}", path.display()));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    compare(matrix, &parse(&text)?)
}

fn parse(text: &str) -> Result<Counts, String> {
    serde_json::from_str(text).map_err(|error| format!("the committed counts: {error}"))
}

fn compare(matrix: &Matrix, committed: &Counts) -> Result<(), String> {
    let committed = committed.get(matrix.kind).cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for column in matrix.columns.iter().filter(|column| column.ran) {
        let (passes, kind, name) = (column.passes(), matrix.kind, column.type_name);
        let before = committed.get(name).copied().unwrap_or_default();
        if passes < before {
            wrong.push(format!("{kind} {name}: {passes} passes, {before} are committed"));
        } else if passes > before {
            let advice = format!("set {UPDATE}=1 to commit the new number");
            wrong.push(format!(
                "{kind} {name}: {passes} passes, only {before} are committed; {advice}"
            ));
        }
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
    let mut counts = if text.trim().is_empty() {
        Counts::new()
    } else {
        parse(&text)?
    };
    let kind = counts.entry(matrix.kind.to_owned()).or_default();
    kind.retain(|name, _| matrix.columns.iter().any(|column| column.type_name == name));
    for column in matrix.columns.iter().filter(|column| column.ran) {
        kind.insert(column.type_name.to_owned(), column.passes());
    }
    rewrite(&mut file, &counts).map_err(|error| error.to_string())
}

fn rewrite(file: &mut File, counts: &Counts) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(counts)?;
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::matrix::{Column, Verdict};

    fn matrix(passes: usize, ran: bool) -> Matrix {
        let mut verdicts = vec![Verdict::Passed; passes];
        verdicts.push(Verdict::Ignored("a reason".to_owned()));
        let column = Column {
            type_name: "t",
            ran,
            verdicts,
            took: Duration::ZERO,
        };
        Matrix {
            kind: "state",
            assertions: vec!["a"; passes + 1],
            columns: vec![column],
            planned: Vec::new(),
        }
    }

    fn committed() -> Counts {
        parse(r#"{"state": {"t": 3}}"#).unwrap()
    }

    #[test]
    fn the_same_number_is_fine_and_a_type_that_did_not_run_too() {
        assert_eq!(compare(&matrix(3, true), &committed()), Ok(()));
        assert_eq!(compare(&matrix(0, false), &committed()), Ok(()));
    }

    #[test]
    fn fewer_and_more_are_refused() {
        let fewer = compare(&matrix(2, true), &committed()).unwrap_err();
        assert!(fewer.contains("2 passes, 3 are committed"), "{fewer}");
        let more = compare(&matrix(4, true), &committed()).unwrap_err();
        assert!(more.contains(UPDATE), "{more}");
        assert!(compare(&matrix(1, true), &Counts::new()).is_err());
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
        let path = dir.path().join("counts.json");
        fs::write(&path, r#"{"lock": {"t": 9}, "state": {"t": 1, "gone": 5}}"#).unwrap();
        update(&matrix(3, true), &path).unwrap();
        let written = parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(written["lock"]["t"], 9);
        assert_eq!(written["state"], BTreeMap::from([("t".to_owned(), 3)]));
    }
}
