//! `layotto init`: a commented configuration file to start from.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;

use super::{Failure, print};
use crate::config::{DEFAULT_FILE, Format, STANDALONE};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// File to write: JSON with comments
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
}

pub(super) fn init(args: &InitArgs) -> Result<ExitCode, Failure> {
    let file = &args.file;
    if Format::of(file) == Format::Yaml {
        let name = file.with_extension("json");
        return Err(Failure::usage(format_args!(
            "init writes JSON with comments: name the file {}",
            name.display()
        )));
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut new = match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(new) => new,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(anyhow::anyhow!("{} is there already and was left alone", file.display()).into());
        }
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context(format!("cannot write {}", file.display()))
                .into());
        }
    };
    new.write_all(STANDALONE.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    print(format_args!(
        "wrote {0}; start with: layotto start -c {0}\n",
        file.display()
    ))
}
