//! Checksums, in the format of `sha256sum`: paths are those from the folder of the functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::process;

const FILE: &str = "built/SHA256SUMS";

/// The checksums of files, by path.
pub struct Sums {
    folder: PathBuf,
    lines: BTreeMap<String, String>,
}

impl Sums {
    /// Those of the functions in `folder`; none where there is no file with them.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        let line = |line: &str| {
            let (sum, path) = line
                .split_once("  ")
                .with_context(|| format!("{FILE}: no checksum and path in {line:?}"))?;
            Ok((path.to_owned(), sum.to_owned()))
        };
        Ok(Self {
            folder: folder.to_owned(),
            lines: text.lines().map(line).collect::<Result<_>>()?,
        })
    }

    /// With the checksums of these files in the place of all of that language.
    pub fn replace(mut self, language: &str, files: impl Iterator<Item = PathBuf>) -> Result<Self> {
        let (folder, module) = (format!("{language}/"), format!("built/{language}-"));
        self.lines
            .retain(|path, _| !path.starts_with(&folder) && !path.starts_with(&module));
        for file in files {
            self.lines.insert(self.path(&file), sum(&file)?);
        }
        Ok(self)
    }

    /// Writes the file.
    pub fn write(&self) -> Result<()> {
        let lines = self.lines.iter().map(|(path, sum)| format!("{sum}  {path}\n"));
        let text: String = lines.collect();
        fs::write(self.folder.join(FILE), text).with_context(|| format!("cannot write {FILE}"))
    }

    /// What is wrong with `files`, which should be all that have a checksum.
    pub fn compare(&self, files: &[PathBuf]) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let mut missing: BTreeSet<&String> = self.lines.keys().collect();
        for file in files {
            let path = self.path(file);
            missing.remove(&path);
            match self.lines.get(&path) {
                None => problems.push(format!("{path} has no checksum")),
                Some(expected) if *expected != sum(file)? => {
                    problems.push(format!("{path} is not what its checksum says"));
                }
                Some(_) => {}
            }
        }
        problems.extend(missing.into_iter().map(|path| format!("{path} is gone")));
        Ok(problems)
    }

    fn path(&self, file: &Path) -> String {
        let path = file.strip_prefix(&self.folder).unwrap_or(file);
        path.display().to_string()
    }
}

fn sum(file: &Path) -> Result<String> {
    let printed = process::capture(Command::new("sha256sum").arg(file))?;
    let sum = printed.split_whitespace().next();
    Ok(sum.context("sha256sum printed nothing")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_another_new_or_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        };
        let module = write("built/c-x.wasm", "module");
        let source = write("c/x.c", "source");
        let files = vec![module, source.clone()];
        let sums = Sums::read(folder.path()).unwrap();
        let sums = sums.replace("c", files.iter().cloned()).unwrap();
        sums.write().unwrap();
        let sums = Sums::read(folder.path()).unwrap();
        assert!(sums.compare(&files).unwrap().is_empty());
        write("c/x.c", "changed");
        assert_eq!(
            sums.compare(&files).unwrap(),
            ["c/x.c is not what its checksum says"]
        );
        let new = write("c/y.c", "new");
        assert_eq!(
            sums.compare(&[new.clone(), source]).unwrap(),
            [
                "c/y.c has no checksum",
                "c/x.c is not what its checksum says",
                "built/c-x.wasm is gone"
            ]
        );
        let sums = sums.replace("c", std::iter::once(new)).unwrap();
        assert_eq!(sums.lines.len(), 1);
    }
}
