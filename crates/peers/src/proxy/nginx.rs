//! nginx, a master and one worker.

use std::{fmt::Write as _, net::SocketAddr, path::Path, process::Command};

use super::{Plan, Protocol};

pub fn arguments(command: &mut Command, config: &Path, folder: &Path) {
    command.arg("-p").arg(folder).arg("-c").arg(config);
    command.arg("-e").arg(folder.join("error.log"));
}

pub fn configuration(plan: &Plan, address: SocketAddr, folder: &Path) -> String {
    let hosts: String = plan
        .hosts
        .iter()
        .map(|host| format!("server {host} max_fails=0; "))
        .collect();
    // nginx 1.22 speaks HTTP/2 to back ends only for gRPC.
    let (http2, pass) = match (plan.front, plan.back) {
        (Protocol::Http1, _) => ("", "proxy_pass http://back;"),
        (Protocol::Http2, Protocol::Http1) => (" http2", "proxy_pass http://back;"),
        (Protocol::Http2, Protocol::Http2) => (" http2", "grpc_pass grpc://back;"),
    };
    let mut routes = String::new();
    for number in 0..plan.routes {
        let written = writeln!(routes, "    location = /route/{number} {{ {pass} }}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; user root;
pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 15000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_max_body_size 0; http2_max_concurrent_streams 1000;
  large_client_header_buffers 8 64k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream back {{ {hosts} keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {address}{http2} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Host $http_host;
    proxy_buffer_size 64k; proxy_buffers 8 64k;
{routes}    location / {{ {pass} }}
  }}
}}
"
    )
}
