//! The examples of functions: built with the toolchains that the machine has or can have.
//!
//! `examples/functions/built` has what was built, so that tests need no toolchain, and `SHA256SUMS`
//! with the checksums of it and of the sources that it was built of. The check fails where either is
//! another. What is too large to be kept in the repository is not in it.

mod languages;
mod sums;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use self::{
    languages::{LANGUAGES, Language},
    sums::Sums,
};
use crate::{
    step::Outcome,
    workspace::{Workspace, no_problems},
};

const FOLDER: &str = "examples/functions";
const BUILT: &str = "built";

/// Builds the functions in the named languages, or all; true when all that were asked for are there.
pub fn build(workspace: &Workspace, names: &[String]) -> Result<bool> {
    if let Some(name) = names.iter().find(|name| find(name).is_none()) {
        let known: Vec<_> = LANGUAGES.iter().map(|language| language.name).collect();
        bail!("no language `{name}`; there are: {}", known.join(", "));
    }
    let wanted = |language: &&Language| names.is_empty() || names.iter().any(|name| name == language.name);
    let mut complete = true;
    for language in LANGUAGES.iter().filter(wanted) {
        println!("-- {}", language.name);
        if let Err(error) = build_one(workspace, language) {
            complete = false;
            eprintln!("{} is not built: {error:#}", language.name);
        }
    }
    Ok(complete)
}

fn find(name: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.name == name)
}

fn build_one(workspace: &Workspace, language: &Language) -> Result<()> {
    let folder = workspace.root().join(FOLDER);
    let to = workspace.target().join("functions").join(language.name);
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let modules = (language.build)(workspace, &folder.join(language.name), &to)?;
    let mut built = Vec::new();
    for (name, module) in &modules {
        let name = format!("{}-{name}.wasm", language.name);
        let file = match language.kept {
            true => folder.join(BUILT).join(&name),
            false => to.join(&name),
        };
        if *module != file {
            // Not copied with its permissions: some linkers make it a program.
            fs::write(&file, fs::read(module)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        println!(
            "{} {} bytes",
            workspace.relative(&file).display(),
            fs::metadata(&file)?.len()
        );
        built.push(file);
    }
    if language.kept {
        let files = built.into_iter().chain(sources(workspace, language)?);
        Sums::read(&folder)?.replace(language.name, files)?.write()?;
    }
    Ok(())
}

/// Every file that what is built depends on.
fn sources(workspace: &Workspace, language: &Language) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for extension in language.extensions {
        let found = workspace.files(&format!("{FOLDER}/{}", language.name), extension)?;
        sources.extend(found);
    }
    Ok(sources)
}

/// Fails where a built function or a source is not what the checksums say, or has none.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let folder = workspace.root().join(FOLDER);
    let sums = Sums::read(&folder)?;
    let mut files = workspace.files(&format!("{FOLDER}/{BUILT}"), "wasm")?;
    let modules = files.len();
    for language in LANGUAGES.iter().filter(|language| language.kept) {
        files.extend(sources(workspace, language)?);
    }
    let problems = sums.compare(&files)?;
    let problems: Vec<_> = problems
        .into_iter()
        .map(|problem| format!("{FOLDER}: {problem}: run `cargo xtask build-functions`"))
        .collect();
    no_problems(&problems)?;
    let bytes = files.iter().filter_map(|file| size_of_module(file)).sum::<u64>();
    Ok(Outcome::Done(format!("{modules} modules, {} KB", bytes / 1000)))
}

fn size_of_module(file: &Path) -> Option<u64> {
    let is_module = file.extension().is_some_and(|extension| extension == "wasm");
    is_module.then(|| Some(fs::metadata(file).ok()?.len())).flatten()
}
