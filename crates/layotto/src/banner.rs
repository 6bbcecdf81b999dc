//! What a first user sees: what is served where, and a call to try.

use std::{fmt::Write as _, path::Path};

use crate::{
    config::{Components, Config, Listener, RuntimeConfig, Terminal},
    functions::LAYOTTO,
    plane::Directory,
};

const TRY_THE_RUNTIME: &str = "
Try:
  layotto call SayHello '{\"service_name\": \"helloworld\", \"name\": \"you\"}'
Write this configuration to a file: layotto init
End: Ctrl-C
";

/// The lines printed by a start without a configuration file; addresses are those that listeners have
/// in `directory`, where a port may be the system's choice.
pub fn text(config: &Config, directory: &Directory, data_dir: &Path) -> String {
    let bound = directory.bound();
    let address = |listener: &Listener| {
        let bound = bound.iter().find(|(name, _)| *name == listener.name);
        bound.map_or_else(
            || listener.address.to_string(),
            |(_, bound)| bound.address.clone(),
        )
    };
    let functions = config
        .server
        .listeners
        .iter()
        .find(|listener| has_functions(listener));
    let mut text = format!(
        "layotto {} without a configuration file\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for listener in &config.server.listeners {
        let what = match &listener.terminal {
            Terminal::Grpc(_) => "runtime API (gRPC)",
            Terminal::Proxy(_) if listener.shows_health() => "actuator (HTTP)",
            Terminal::Proxy(_) if has_functions(listener) => "functions (HTTP)",
            Terminal::Proxy(_) => "proxy (HTTP)",
            Terminal::TcpProxy(_) => "proxy (TCP)",
            Terminal::Later { .. } => continue,
        };
        line(&mut text, what, &address(listener));
    }
    for sink in &config.metrics {
        line(
            &mut text,
            "metrics (HTTP)",
            &format!("{}:{}{}", sink.address, sink.port, sink.endpoint),
        );
    }
    line(&mut text, "data", &data_dir.display().to_string());
    text.push('\n');
    for listener in &config.server.listeners {
        if let Terminal::Grpc(grpc) = &listener.terminal {
            components(&mut text, &grpc.runtime);
        }
    }
    match functions.map(address) {
        None => text.push_str(TRY_THE_RUNTIME),
        Some(address) => try_functions(&mut text, &address),
    }
    text
}

fn has_functions(listener: &Listener) -> bool {
    let mut filters = listener.stream_filters.iter();
    filters.any(|filter| filter.type_name == LAYOTTO)
}

fn try_functions(text: &mut String, address: &str) {
    let port = address.rsplit_once(':').map_or(address, |(_, port)| port);
    text.push_str(&format!(
        "\nTry, with the id of a function that was loaded:\n  layotto function invoke ID --port {port} --data hello\n\
         End: Ctrl-C\n"
    ));
}

fn line(text: &mut String, what: &str, value: &str) {
    // Writing to a String cannot fail.
    let written = writeln!(text, "  {what:<20} {value}");
    debug_assert!(written.is_ok());
}

fn components(text: &mut String, config: &RuntimeConfig) {
    let sections: [(&str, &Components); 9] = [
        ("hellos", &config.hellos),
        ("state", &config.state),
        ("lock", &config.lock),
        ("sequencer", &config.sequencer),
        ("pub_subs", &config.pub_subs),
        ("config_store", &config.config_store),
        ("file", &config.file),
        ("secret_store", &config.secret_store),
        ("bindings", &config.bindings),
    ];
    for (section, components) in sections {
        for (name, component) in components {
            line(text, section, &format!("{name} ({})", component.type_name));
        }
    }
}
