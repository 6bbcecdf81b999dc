//! Runs the marked command blocks of the README, the docs and the examples as printed.
//!
//! What a code fence's info string says decides what becomes of it:
//! - `sh run`: the script must end with status 0, or with `exit=N`;
//! - `sh serve`: the script starts a server; it runs until the document ends or the next `serve`
//!   block, and must end with 0 after SIGTERM. `ready=HOST:PORT/PATH` is what must answer 200
//!   before the next block runs; without it the actuator of the standalone server;
//! - `text output`: what the block before it prints to stdout, where `…` stands for anything;
//! - `json file=NAME` and the like: written to that file in the scratch folder.
//!
//! Scripts run in a scratch folder with `layotto` on PATH; with `repo` they run in the clone.
//! Lines that start with `cargo xtask` are left out.

mod fence;
mod output;
mod session;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use self::{fence::Fence, session::Session};
use crate::{
    step::Outcome,
    workspace::{Profile, Workspace, no_problems},
};

/// Where the standalone server says that it is ready.
const READY: &str = "127.0.0.1:34999/actuator/health/readiness";

/// What becomes of a marked fence.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Run { script: Script, status: i32 },
    Serve { script: Script, ready: String },
    Output(String),
    File { name: String, text: String },
}

/// The text of a block, without what is left out.
#[derive(Debug, PartialEq, Eq)]
struct Script {
    text: String,
    in_repo: bool,
}

/// Runs every marked block of every document.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut documents = Vec::new();
    for path in documents_of(workspace)? {
        let name = workspace.relative(&path).display().to_string();
        let blocks = blocks(&workspace.read(&path)?).with_context(|| name.clone())?;
        if !blocks.is_empty() {
            documents.push((name, blocks));
        }
    }
    let total: usize = documents.iter().map(|(_, blocks)| blocks.len()).sum();
    ensure!(total > 0, "no document has a marked command block");
    workspace.layotto(Profile::Release)?;
    let problems: Vec<_> = documents
        .iter()
        .filter_map(|(name, blocks)| run(workspace, name, blocks).err())
        .collect();
    no_problems(
        &problems
            .iter()
            .map(|problem| format!("{problem:#}"))
            .collect::<Vec<_>>(),
    )?;
    Ok(Outcome::Done(format!(
        "{total} blocks in {} documents",
        documents.len()
    )))
}

fn documents_of(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<_> = ["README.md", "CONTRIBUTING.md"]
        .map(|name| workspace.root().join(name))
        .into();
    paths.extend(workspace.files("docs", "md")?);
    paths.extend(workspace.files("examples", "md")?);
    Ok(paths)
}

fn blocks(document: &str) -> Result<Vec<(usize, Block)>> {
    let marked = fence::parse(document).into_iter().map(|fence| {
        let line = fence.line;
        let block = block(fence).with_context(|| format!("line {line}"))?;
        Ok(block.map(|block| (line, block)))
    });
    marked.filter_map(Result::transpose).collect()
}

/// The block that a fence is; `None` when it is not marked.
fn block(fence: Fence) -> Result<Option<Block>> {
    let (language, mut words) = (fence.language, fence.words.into_iter());
    let Some(mark) = words.next() else { return Ok(None) };
    let mut options: Vec<String> = words.collect();
    let mut take = |key: &str| {
        let at = options.iter().position(|option| option.starts_with(key))?;
        options.remove(at).strip_prefix(key).map(str::to_owned)
    };
    let block = match (language.as_str(), mark.as_str()) {
        ("sh", "run") => {
            let status = take("exit=").map_or(Ok(0), |code| code.parse())?;
            Block::Run {
                script: script(&fence.body, take("repo").is_some()),
                status,
            }
        }
        ("sh", "serve") => {
            let ready = take("ready=").unwrap_or_else(|| READY.to_owned());
            Block::Serve {
                script: script(&fence.body, take("repo").is_some()),
                ready,
            }
        }
        ("text", "output") => Block::Output(fence.body),
        (_, mark) if mark.starts_with("file=") => Block::File {
            name: mark.trim_start_matches("file=").to_owned(),
            text: fence.body,
        },
        _ => bail!("unknown mark `{language} {mark}`"),
    };
    ensure!(options.is_empty(), "unknown option `{}`", options.join(" "));
    Ok(Some(block))
}

fn script(body: &str, in_repo: bool) -> Script {
    let kept = body
        .lines()
        .filter(|line| !line.trim_start().starts_with("cargo xtask"));
    let text = kept.map(|line| format!("{line}\n")).collect();
    Script { text, in_repo }
}

/// Runs one document's blocks in order; stops at the first that fails.
fn run(workspace: &Workspace, name: &str, blocks: &[(usize, Block)]) -> Result<()> {
    let mut session = Session::new(workspace)?;
    for (line, block) in blocks {
        session.play(block).with_context(|| format!("{name}:{line}"))?;
    }
    session.end().with_context(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(document: &str) -> Block {
        let mut blocks = blocks(document).unwrap();
        assert_eq!(blocks.len(), 1);
        blocks.remove(0).1
    }

    fn plain(text: &str) -> Script {
        Script {
            text: text.to_owned(),
            in_repo: false,
        }
    }

    #[test]
    fn unmarked_fences_are_not_blocks() {
        assert_eq!(blocks("```sh\nrm x\n```\n```json\n{}\n```\n").unwrap(), []);
    }

    #[test]
    fn a_run_block_leaves_xtask_lines_out_and_may_expect_a_status() {
        let block = only("```sh run exit=3\ncargo xtask test\nlayotto check -c x\n```\n");
        assert_eq!(
            block,
            Block::Run {
                script: plain("layotto check -c x\n"),
                status: 3
            }
        );
    }

    #[test]
    fn a_serve_block_waits_for_the_standalone_actuator_unless_told_otherwise() {
        assert_eq!(
            only("```sh serve\nlayotto start\n```\n"),
            Block::Serve {
                script: plain("layotto start\n"),
                ready: READY.to_owned()
            }
        );
        let block = only("```sh serve repo ready=127.0.0.1:1/x\ncargo run\n```\n");
        let script = Script {
            text: "cargo run\n".to_owned(),
            in_repo: true,
        };
        assert_eq!(
            block,
            Block::Serve {
                script,
                ready: "127.0.0.1:1/x".to_owned()
            }
        );
    }

    #[test]
    fn a_misspelt_mark_or_option_is_an_error() {
        assert!(blocks("```sh runn\nx\n```\n").is_err());
        assert!(blocks("```sh run rep\nx\n```\n").is_err());
    }

    #[test]
    fn a_file_block_has_a_name() {
        let file = Block::File {
            name: "config.json".to_owned(),
            text: "{}\n".to_owned(),
        };
        assert_eq!(only("```json file=config.json\n{}\n```\n"), file);
    }
}
