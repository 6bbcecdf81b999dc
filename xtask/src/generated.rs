//! Parts of the docs that are what the binary prints.
//!
//! Between `<!-- generated: layotto ARGUMENTS -->` and `<!-- /generated -->` stands the output of
//! that command, in a fence; of `layotto reference …`, which prints Markdown, without one. Between
//! `<!-- options -->` and `<!-- /options -->` on the page of a stream filter stand its options.
//! Between `<!-- back-ends -->` and `<!-- /back-ends -->` stands the table of back ends.
//! `gen-docs` writes them, the check fails where they are stale.

mod back_ends;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    process,
    step::Outcome,
    workspace::{Profile, Workspace, no_problems},
};

const BEGIN: &str = "<!-- generated: layotto ";
const BEGIN_END: &str = " -->";
const END: &str = "<!-- /generated -->";
const OPTIONS: &str = "<!-- options -->";
const OPTIONS_END: &str = "<!-- /options -->";
const BACK_ENDS: &str = "<!-- back-ends -->";
const BACK_ENDS_END: &str = "<!-- /back-ends -->";
/// What prints every registered type.
const TYPES: &str = "components --json";
/// What prints Markdown.
const REFERENCE: &str = "reference ";
/// One page for each stream filter, by its type.
const FILTER_PAGES: &str = "docs/reference/filters";
/// One page for each kind of component, by its section's name.
const COMPONENT_PAGES: &str = "docs/reference/components";
/// In a folder for each kind, one page for each type that has a page of its own.
const TYPE_PAGES: &str = "docs/components";

/// A document with generated parts.
struct Page {
    path: PathBuf,
    text: String,
    fresh: String,
}

/// Writes the generated parts of every document.
pub fn write(workspace: &Workspace) -> Result<()> {
    let layotto = workspace.layotto(Profile::Debug)?;
    for page in pages(workspace, &layotto)?
        .iter()
        .filter(|page| page.text != page.fresh)
    {
        fs::write(&page.path, &page.fresh)?;
        println!("wrote {}", workspace.relative(&page.path).display());
    }
    Ok(())
}

/// Fails for each document whose generated parts are stale, and for each component type that no
/// document has.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let layotto = workspace.layotto(Profile::Debug)?;
    let pages = pages(workspace, &layotto)?;
    let stale = pages.iter().filter(|page| page.text != page.fresh);
    let mut problems: Vec<_> = stale
        .map(|page| {
            let path = workspace.relative(&page.path).display();
            format!("{path} is stale: run `cargo xtask gen-docs`")
        })
        .collect();
    problems.extend(undocumented(workspace, &layotto)?);
    no_problems(&problems)?;
    Ok(Outcome::Done(format!("{} pages", pages.len())))
}

fn pages(workspace: &Workspace, layotto: &Path) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    for path in workspace.files("docs", "md")? {
        let text = workspace.read(&path)?;
        let output = |arguments: &str| output_of(layotto, arguments);
        let fresh = regenerated(&text, output)
            .and_then(|text| with_options(text, filter_of(workspace, &path), output))
            .and_then(|text| {
                with_back_ends(text, || {
                    back_ends::table(&output(TYPES)?, &workspace.read(back_ends::RESULTS)?)
                })
            })
            .with_context(|| workspace.relative(&path).display().to_string())?;
        if [BEGIN, OPTIONS, BACK_ENDS]
            .iter()
            .any(|begin| text.contains(begin))
        {
            pages.push(Page { path, text, fresh });
        }
    }
    Ok(pages)
}

/// `text` with each generated part made anew by `output`.
fn regenerated(text: &str, output: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut fresh = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (arguments, after) = after
            .split_once(BEGIN_END)
            .context("a generated part's marker has no end")?;
        let (old, after) = after
            .split_once(END)
            .with_context(|| format!("no {END} after `{arguments}`"))?;
        ensure!(!old.contains(BEGIN), "no {END} after `{arguments}`");
        let body = output(arguments)?;
        let mut body = body.trim_end().to_owned();
        if !arguments.starts_with(REFERENCE) {
            body = format!("```text\n{body}\n```");
        }
        fresh.push_str(&format!("{before}{BEGIN}{arguments}{BEGIN_END}\n{body}\n{END}"));
        rest = after;
    }
    fresh.push_str(rest);
    Ok(fresh)
}

/// The filter that a page is about, by its name.
fn filter_of<'p>(workspace: &Workspace, page: &'p Path) -> Option<&'p str> {
    let is_filter = workspace.relative(page).starts_with(FILTER_PAGES);
    page.file_stem()?.to_str().filter(|_| is_filter)
}

/// `text` with the options of `filter` made anew by `output`.
fn with_options(
    text: String,
    filter: Option<&str>,
    output: impl Fn(&str) -> Result<String>,
) -> Result<String> {
    let Some((before, after)) = text.split_once(OPTIONS) else {
        // The page of a filter without options has no place for them.
        let has_options = |filter| output(&format!("{REFERENCE}filter {filter}")).is_ok();
        ensure!(!filter.is_some_and(has_options), "no {OPTIONS}");
        return Ok(text);
    };
    let filter = filter.with_context(|| format!("{OPTIONS} outside of {FILTER_PAGES}"))?;
    let (_, after) = after
        .split_once(OPTIONS_END)
        .with_context(|| format!("no {OPTIONS_END}"))?;
    let body = output(&format!("{REFERENCE}filter {filter}"))?;
    let body = body.trim_end();
    Ok(format!("{before}{OPTIONS}\n{body}\n{OPTIONS_END}{after}"))
}

/// `text` with the table of back ends made anew, where it has one.
fn with_back_ends(text: String, table: impl FnOnce() -> Result<String>) -> Result<String> {
    let Some((before, after)) = text.split_once(BACK_ENDS) else {
        return Ok(text);
    };
    let (_, after) = after
        .split_once(BACK_ENDS_END)
        .with_context(|| format!("no {BACK_ENDS_END}"))?;
    let body = table()?;
    let body = body.trim_end();
    Ok(format!("{before}{BACK_ENDS}\n{body}\n{BACK_ENDS_END}{after}"))
}

/// What the binary prints; nothing of this machine may show in it.
fn output_of(layotto: &Path, arguments: &str) -> Result<String> {
    let mut command = Command::new(layotto);
    command
        .args(arguments.split_whitespace())
        .env_clear()
        .env("COLUMNS", "100");
    process::capture(&mut command)
}

fn undocumented(workspace: &Workspace, layotto: &Path) -> Result<Vec<String>> {
    let listed = output_of(layotto, TYPES)?;
    let listed: Vec<Value> = serde_json::from_str(&listed).context("layotto components --json")?;
    let types: BTreeSet<_> = listed
        .iter()
        .filter_map(|one| Some((one["kind"].as_str()?, one["type"].as_str()?)))
        .collect();
    ensure!(!types.is_empty(), "layotto components --json lists nothing");
    let missing = types.into_iter().filter_map(|(kind, type_name)| {
        let page = format!("{COMPONENT_PAGES}/{kind}.md");
        let marker = format!("{BEGIN}components {kind} {type_name}{BEGIN_END}");
        let own_page = format!("{TYPE_PAGES}/{kind}/{type_name}.md");
        let has_it = |page: &String| workspace.read(page).is_ok_and(|text| text.contains(&marker));
        let is_missing = !has_it(&page) && !has_it(&own_page);
        is_missing.then(|| format!("neither {page} nor {own_page} has `{marker}`"))
    });
    Ok(missing.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<String> {
        regenerated(text, |arguments| Ok(format!("output of {arguments}\n")))
    }

    #[test]
    fn what_stands_between_the_markers_is_replaced() {
        let text = "a\n<!-- generated: layotto x y -->\nold\n<!-- /generated -->\nb\n";
        let fresh =
            "a\n<!-- generated: layotto x y -->\n```text\noutput of x y\n```\n<!-- /generated -->\nb\n";
        assert_eq!(made(text).unwrap(), fresh);
        assert_eq!(made(fresh).unwrap(), fresh);
    }

    #[test]
    fn a_part_without_an_end_is_an_error() {
        assert!(made("<!-- generated: layotto x -->\n").is_err());
        assert!(
            made("<!-- generated: layotto x -->\n<!-- generated: layotto y -->\n<!-- /generated -->\n")
                .is_err()
        );
    }

    #[test]
    fn the_reference_is_markdown_and_has_no_fence() {
        let fresh = "<!-- generated: layotto reference x -->\noutput of reference x\n<!-- /generated -->\n";
        assert_eq!(made(fresh).unwrap(), fresh);
    }

    #[test]
    fn the_page_of_a_filter_has_its_options() {
        let made = |text: &str, filter| {
            with_options(text.to_owned(), filter, |arguments| {
                Ok(format!("output of {arguments}\n"))
            })
        };
        let text = "a\n<!-- options -->\nold\n<!-- /options -->\nb\n";
        let fresh = "a\n<!-- options -->\noutput of reference filter x\n<!-- /options -->\nb\n";
        assert_eq!(made(text, Some("x")).unwrap(), fresh);
        assert!(made("a\n", Some("x")).is_err());
        assert!(made(text, None).is_err());
        assert_eq!(made("a\n", None).unwrap(), "a\n");
        let without = with_options("a\n".to_owned(), Some("x"), |_| {
            anyhow::bail!("no such filter with options")
        });
        assert_eq!(without.unwrap(), "a\n");
    }

    #[test]
    fn the_table_of_back_ends_is_replaced() {
        let made = |text: &str| with_back_ends(text.to_owned(), || Ok("new\n".to_owned()));
        let text = "a\n<!-- back-ends -->\nold\n<!-- /back-ends -->\nb\n";
        let fresh = "a\n<!-- back-ends -->\nnew\n<!-- /back-ends -->\nb\n";
        assert_eq!(made(text).unwrap(), fresh);
        assert!(made("<!-- back-ends -->\n").is_err());
        assert_eq!(made("a\n").unwrap(), "a\n");
    }

    #[test]
    fn a_document_without_markers_stays_as_it_is() {
        assert_eq!(made("# a\n").unwrap(), "# a\n");
    }
}
