//! HAProxy, in master-worker mode, so that it can be reloaded.

use std::{fmt::Write as _, net::SocketAddr, path::Path, process::Command};

use super::{Plan, Protocol};

pub fn arguments(command: &mut Command, config: &Path) {
    command.arg("-W").arg("-f").arg(config);
}

pub fn configuration(plan: &Plan, address: SocketAddr) -> String {
    let mut text = format!(
        "global
    nbthread 1
    maxconn 9000
    tune.h2.max-concurrent-streams 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    http-reuse always
frontend front
    bind {address}{}
",
        match plan.front {
            Protocol::Http1 => "",
            Protocol::Http2 => " proto h2",
        }
    );
    for number in 0..plan.routes {
        line(
            &mut text,
            format_args!("use_backend back if {{ path /route/{number} }}"),
        );
    }
    line(&mut text, format_args!("default_backend back"));
    text.push_str("backend back\n    balance roundrobin\n");
    let protocol = match plan.back {
        Protocol::Http1 => "",
        Protocol::Http2 => " proto h2",
    };
    let most = match plan.most {
        0 => String::new(),
        most => format!(" maxconn {most} maxqueue 1"),
    };
    for (number, host) in plan.hosts.iter().enumerate() {
        line(
            &mut text,
            format_args!("server s{number} {host}{protocol}{most} check inter 200ms rise 1 fall 1"),
        );
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "    {line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}
