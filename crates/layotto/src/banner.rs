//! What a first user sees: what is served where, and a call to try.

use std::{fmt::Write as _, path::Path};

use crate::config::{Components, Config, RuntimeConfig, Terminal};

/// The lines printed by a start without a configuration file.
pub fn text(config: &Config, data_dir: &Path) -> String {
    let mut text = format!(
        "layotto {} without a configuration file\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for listener in &config.server.listeners {
        let what = match &listener.terminal {
            Terminal::Grpc(_) => "runtime API (gRPC)",
            Terminal::Proxy(_) if listener.shows_health() => "actuator (HTTP)",
            Terminal::Proxy(_) => "proxy (HTTP)",
            Terminal::TcpProxy(_) => "proxy (TCP)",
            Terminal::Later { .. } => continue,
        };
        line(&mut text, what, &listener.address.to_string());
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
    text.push_str(
        "\nTry:\n  layotto call SayHello '{\"service_name\": \"helloworld\", \"name\": \"you\"}'\n\
         Write this configuration to a file: layotto init\nEnd: Ctrl-C\n",
    );
    text
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
