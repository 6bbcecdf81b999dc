//! `cargo xtask api-matrix`: calls every method of the contract; only those that the docs list
//! may be without an implementation.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    process,
    server::Server,
    step::Outcome,
    workspace::{Profile, Workspace, no_problems},
};

const CONTRACT: &str = "crates/proto/contract.json";
/// Has a list of the methods that answer UNIMPLEMENTED or are not served, under [`HEADING`].
const PAGE: &str = "docs/reference/api.md";
const HEADING: &str = "## Not implemented";
const NOT_SERVED: &str = "not served";
const UNIMPLEMENTED: &str = "Unimplemented";

/// Which server to call.
#[derive(clap::Args)]
pub struct Args {
    /// Address of a running server with the standalone configuration; one is started without it.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

/// Code and text that each method answered.
type Answers = BTreeMap<String, (String, String)>;

/// Prints the matrix; fails where it is not what the docs say.
pub fn run(workspace: &Workspace, args: &Args) -> Result<bool> {
    let problems = compare(workspace, args.addr.as_deref())?.1;
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(problems.is_empty())
}

/// The same as a step.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let (methods, problems) = compare(workspace, None)?;
    no_problems(&problems)?;
    Ok(Outcome::Done(format!("{methods} methods")))
}

/// How many methods were called, and what differs from the docs.
fn compare(workspace: &Workspace, address: Option<&str>) -> Result<(usize, Vec<String>)> {
    let answers = answers_of(workspace, address)?;
    let contract = contract_methods(&workspace.read(CONTRACT)?)?;
    let listed = listed(&workspace.read(PAGE)?)?;
    let mut missing = BTreeSet::new();
    for method in contract.iter().chain(answers.keys()).collect::<BTreeSet<_>>() {
        let not_served = (NOT_SERVED.to_owned(), String::new());
        let (code, text) = answers.get(method).unwrap_or(&not_served);
        println!("{method:<72} {code:<18} {text}");
        if code == UNIMPLEMENTED || code == NOT_SERVED {
            missing.insert(method.clone());
        }
    }
    let mut problems: Vec<_> = missing
        .difference(&listed)
        .map(|method| format!("{method} is not implemented, and {PAGE} does not say so"))
        .collect();
    problems.extend(
        listed
            .difference(&missing)
            .map(|method| format!("{PAGE} says that {method} is not implemented")),
    );
    Ok((answers.len(), problems))
}

fn answers_of(workspace: &Workspace, address: Option<&str>) -> Result<Answers> {
    match address {
        Some(address) => call_all(workspace, address),
        None => {
            let server = Server::start(&workspace.layotto(Profile::Debug)?)?;
            let answers = call_all(workspace, &server.api)?;
            server.stop()?;
            Ok(answers)
        }
    }
}

fn call_all(workspace: &Workspace, address: &str) -> Result<Answers> {
    let mut calls = workspace.cargo(["run", "--quiet", "--locked", "--package", "layotto"]);
    calls.args(["--example", "api_matrix", "--", address]);
    let printed = process::capture(&mut calls)?;
    printed
        .lines()
        .map(|line| answer(line).with_context(|| format!("unexpected line `{line}`")))
        .collect()
}

fn answer(line: &str) -> Option<(String, (String, String))> {
    let (method, rest) = line.split_once('\t')?;
    let (code, text) = rest.split_once('\t')?;
    Some((method.to_owned(), (code.to_owned(), text.to_owned())))
}

fn contract_methods(contract: &str) -> Result<BTreeSet<String>> {
    let contract: Value = serde_json::from_str(contract)?;
    let all = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let services = all(&contract, "packages")
        .into_iter()
        .flat_map(|package| all(&package, "services"));
    let methods = services.flat_map(|service| all(&service, "methods"));
    let names: BTreeSet<_> = methods
        .filter_map(|method| Some(method["path"].as_str()?.trim_start_matches('/').to_owned()))
        .collect();
    ensure!(!names.is_empty(), "{CONTRACT} has no methods");
    Ok(names)
}

/// The methods of the list: `- ` and the method in backquotes.
fn listed(page: &str) -> Result<BTreeSet<String>> {
    let (_, after) = page
        .split_once(HEADING)
        .with_context(|| format!("{PAGE} has no `{HEADING}`"))?;
    let section = after.split("\n## ").next().unwrap_or_default();
    let items = section.lines().filter_map(|line| line.strip_prefix("- `"));
    Ok(items
        .filter_map(|item| Some(item.split_once('`')?.0.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_ends_with_its_section() {
        let page =
            "# API\n- `a.A/X`\n## Not implemented\n\n- `a.A/Y`: why\n- `a.A/Z`\n\n## More\n- `a.A/W`\n";
        assert_eq!(
            listed(page).unwrap(),
            BTreeSet::from(["a.A/Y".to_owned(), "a.A/Z".to_owned()])
        );
        assert!(listed("# API\n").is_err());
    }

    #[test]
    fn methods_of_the_contract_are_named_by_their_paths() {
        let contract = r#"{"packages": [{"services": [{"methods": [{"path": "/a.A/X"}]}]}]}"#;
        assert_eq!(
            contract_methods(contract).unwrap(),
            BTreeSet::from(["a.A/X".to_owned()])
        );
        assert!(contract_methods("{}").is_err());
    }

    #[test]
    fn an_answer_is_method_code_and_text() {
        let expected = ("a.A/X".to_owned(), ("NotFound".to_owned(), "no x".to_owned()));
        assert_eq!(answer("a.A/X\tNotFound\tno x"), Some(expected));
        assert_eq!(answer("warning"), None);
    }
}
