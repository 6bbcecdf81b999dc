//! `layotto components`: which types there are, and the settings of each, from their schemas.

use std::process::ExitCode;

use clap::Args;
use layotto_core::{
    Registry,
    registry::{AnyKind, Listed},
};
use serde_json::{Value, json};

use super::{Failure, print};
use crate::schema::{summary, type_of};

#[derive(Debug, Args)]
pub(super) struct ComponentsArgs {
    /// Section of grpc_config, such as state, or custom kind
    kind: Option<String>,
    /// Type, such as embedded
    #[arg(value_name = "TYPE")]
    type_name: Option<String>,
    /// Print JSON: kind, type and the schema of the settings
    #[arg(long)]
    json: bool,
}

pub(super) fn components(args: &ComponentsArgs, registry: &Registry) -> Result<ExitCode, Failure> {
    let mut kinds = registry.kinds();
    if let Some(wanted) = &args.kind {
        let known = names(&kinds);
        kinds.retain(|kind| kind.section() == wanted);
        if kinds.is_empty() {
            return Err(Failure::usage(format_args!(
                "no kind is called {wanted:?}; there are: {known}"
            )));
        }
    }
    if args.json {
        return print(format_args!("{:#}\n", as_json(&kinds, args.type_name.as_deref())));
    }
    match (kinds.as_slice(), &args.type_name) {
        ([kind], Some(type_name)) => print(one_type(*kind, type_name)?),
        ([kind], None) if args.kind.is_some() => print(one_kind(*kind)),
        _ => print(overview(&kinds)),
    }
}

fn names(kinds: &[&dyn AnyKind]) -> String {
    kinds
        .iter()
        .map(|kind| kind.section())
        .collect::<Vec<_>>()
        .join(", ")
}

fn as_json(kinds: &[&dyn AnyKind], type_name: Option<&str>) -> Value {
    let types = kinds.iter().flat_map(|kind| {
        let listed = kind.listed().into_iter();
        let listed = listed.filter(|listed| type_name.is_none_or(|name| name == listed.name));
        listed.map(|listed| json!({"kind": kind.section(), "type": listed.name, "schema": listed.schema}))
    });
    types.collect()
}

fn overview(kinds: &[&dyn AnyKind]) -> String {
    let mut text = String::new();
    for kind in kinds {
        let types: Vec<_> = kind.listed().into_iter().map(|listed| listed.name).collect();
        let types = if types.is_empty() {
            "-".to_owned()
        } else {
            types.join(", ")
        };
        line(&mut text, format_args!("{:<14} {types}", kind.section()));
        if !kind.planned().is_empty() {
            let planned = kind.planned().join(", ");
            line(&mut text, format_args!("{:<14} not supported yet: {planned}", ""));
        }
    }
    text
}

fn one_kind(kind: &dyn AnyKind) -> String {
    let mut text = String::new();
    for listed in kind.listed() {
        describe(&mut text, &listed);
    }
    if !kind.planned().is_empty() {
        line(
            &mut text,
            format_args!("not supported yet: {}", kind.planned().join(", ")),
        );
    }
    text
}

fn one_type(kind: &dyn AnyKind, type_name: &str) -> Result<String, Failure> {
    let listed = kind.listed();
    let Some(found) = listed.iter().find(|listed| listed.name == type_name) else {
        let known: Vec<_> = listed.iter().map(|listed| listed.name).collect();
        let known = known.join(", ");
        let message = if kind.planned().contains(&type_name) {
            format!("type {type_name} is not supported yet; there are: {known}")
        } else {
            format!(
                "no type of {} is called {type_name:?}; there are: {known}",
                kind.section()
            )
        };
        return Err(Failure::usage(message));
    };
    let mut text = String::new();
    describe(&mut text, found);
    Ok(text)
}

fn describe(text: &mut String, listed: &Listed) {
    let schema = listed.schema.as_value();
    line(text, listed.name);
    if let Some(about) = summary(schema) {
        line(text, format_args!("  {about}"));
    }
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let is_required = required.is_some_and(|required| required.iter().any(|key| key == name));
        let property = resolved(property, schema);
        let default = property.get("default").filter(|default| !default.is_null());
        let presence = match default {
            Some(default) => format!("default {default}"),
            None if is_required => "required".to_owned(),
            None => "optional".to_owned(),
        };
        line(
            text,
            format_args!("    {name}  {}, {presence}", type_of(property, schema)),
        );
        if let Some(about) = summary(property) {
            line(text, format_args!("        {about}"));
        }
    }
    text.push('\n');
}

fn line(text: &mut String, content: impl std::fmt::Display) {
    text.push_str(&content.to_string());
    text.push('\n');
}

fn resolved<'s>(property: &'s Value, root: &'s Value) -> &'s Value {
    let reference = property.get("$ref").and_then(Value::as_str);
    let target = reference
        .and_then(|path| path.strip_prefix('#'))
        .and_then(|path| root.pointer(path));
    // Beside a reference stand the property's own description and default.
    match target {
        Some(target) if property.get("description").is_none() => target,
        _ => property,
    }
}
