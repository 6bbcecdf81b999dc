use std::time::Duration;

use prometheus_client::{encoding::text::encode, registry::Registry};

use super::*;

fn page(metrics: &Metrics) -> String {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[track_caller]
fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "{line} is not in\n{text}"
        );
    }
}

fn outcome(status: u16) -> Outcome {
    Outcome {
        status,
        took: Duration::from_millis(4),
        processing: Duration::from_micros(40),
        bytes_read: 10,
        bytes_written: 20,
        ..Outcome::default()
    }
}

// deviation: D060
#[test]
fn requests_are_shown_per_listener_and_globally_under_upstreams_names() {
    let metrics = Metrics::default();
    for (listener, status) in [("a", 200), ("a", 418), ("b", 502)] {
        let listener = metrics.listener(listener);
        listener.begin();
        listener.end(&outcome(status));
    }
    metrics.listener("a").begin();
    assert_has(
        &page(&metrics),
        &[
            "downstream_request_total{listener=\"a\"} 3",
            "downstream_request_total{proxy=\"global\"} 4",
            "downstream_request_active{listener=\"a\"} 1",
            "downstream_request_active{listener=\"b\"} 0",
            "downstream_request_200_total{listener=\"a\"} 1",
            "downstream_request_502_total{proxy=\"global\"} 1",
            "downstream_request_other_code{listener=\"a\"} 1",
            "downstream_bytes_read_total{proxy=\"global\"} 30",
            "downstream_bytes_write_total{listener=\"b\"} 20",
            "# TYPE downstream_request_time histogram",
            "downstream_request_time_count{listener=\"a\"} 2",
            "downstream_request_time_bucket{le=\"5000000.0\",listener=\"a\"} 2",
            "downstream_request_time_bucket{le=\"2500000.0\",listener=\"a\"} 0",
            "downstream_request_time_total{listener=\"a\"} 8000000",
            "downstream_request_time_max{listener=\"a\"} 4000000",
            "downstream_process_time_bucket{le=\"50000.0\",listener=\"b\"} 1",
        ],
    );
}

#[test]
fn every_sample_follows_the_type_of_its_own_family() {
    let metrics = Metrics::default();
    metrics.listener("a").end(&outcome(200));
    metrics.method("/a.B/C").begin();
    metrics.set_sources(vec![Arc::new(Clusters(vec![("c", Some("h"), 1)]))]);
    metrics.set_version("0.1.0");
    let text = page(&metrics);
    let mut families = std::collections::HashSet::new();
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} is not of {family}");
        }
    }
    assert!(families.len() > 60);
}

#[test]
fn connections_are_those_of_the_listener() {
    let metrics = Metrics::default();
    let connections = crate::connection::Connections::default();
    metrics.listener("a").watch(connections.clone());
    drop(connections.add());
    let _open = connections.add();
    assert_has(
        &page(&metrics),
        &[
            "downstream_connection_total{listener=\"a\"} 2",
            "downstream_connection_active{proxy=\"global\"} 1",
            "downstream_connection_destroy{listener=\"a\"} 1",
            "downstream_connection_cut{listener=\"a\"} 0",
        ],
    );
}

#[test]
fn a_listener_that_is_gone_stays_in_the_sum() {
    let metrics = Metrics::default();
    let old = metrics.listener("old");
    old.begin();
    metrics.keep_listeners(&["new"]);
    old.end(&outcome(200));
    let text = page(&metrics);
    assert!(!text.contains("listener=\"old\""));
    assert_has(&text, &["downstream_request_200_total{proxy=\"global\"} 1"]);
    drop(old);
    assert_has(
        &page(&metrics),
        &["downstream_request_200_total{proxy=\"global\"} 1"],
    );
    assert!(metrics.listeners().leaving.is_empty());
}

// deviation: D060
#[test]
fn methods_are_counted_by_path_up_to_a_cap() {
    let metrics = Metrics::default();
    for index in 0..CAP + 5 {
        let method = metrics.method(&format!("/a.B/M{index}"));
        method.begin();
        method.end(index % 2 == 0);
    }
    metrics.method("/a.B/M0").begin();
    let text = page(&metrics);
    assert_has(
        &text,
        &[
            "grpc_request_total{service=\"/a.B/M0\"} 2",
            "grpc_response_succ_total{service=\"/a.B/M0\"} 1",
            "grpc_response_fail_total{service=\"/a.B/M1\"} 1",
            "grpc_request_total{service=\"other\"} 5",
        ],
    );
    assert_eq!(text.matches("grpc_request_total{").count(), CAP + 1);
}

#[test]
fn long_paths_are_not_kept() {
    let metrics = Metrics::default();
    let path = format!("/a.B/{}", "x".repeat(300));
    metrics.method(&path).begin();
    let text = page(&metrics);
    assert_has(&text, &["grpc_request_total{service=\"other\"} 1"]);
    assert!(!text.contains("xxx"), "{text}");
}

#[test]
fn a_path_cannot_forge_a_sample() {
    let metrics = Metrics::default();
    metrics.method("/a\"} 1\nforged 7 # \\").begin();
    let text = page(&metrics);
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
}

#[derive(Debug)]
struct Clusters(Vec<(&'static str, Option<&'static str>, u64)>);

impl Source for Clusters {
    fn upstream(&self, each: &mut dyn FnMut(Row<'_>)) {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_nanos(7));
        for (cluster, host, requests) in &self.0 {
            each(Row {
                cluster,
                host: *host,
                figures: Figures {
                    request_total: *requests,
                    request_duration_time_total: host.map_or(0, |_| 7),
                    ..Figures::default()
                },
                duration: host.map(|_| histogram.read()),
            });
        }
    }

    fn health(&self, each: &mut dyn FnMut(&str, &HealthFigures)) {
        let figures = HealthFigures {
            healthy: 2,
            ..HealthFigures::default()
        };
        each("check", &figures);
    }
}

#[test]
fn clusters_and_hosts_are_shown_until_a_reload_drops_them() {
    let metrics = Metrics::default();
    let rows = vec![("c", None, 3), ("c", Some("1.2.3.4:80"), 3)];
    metrics.set_sources(vec![Arc::new(Clusters(rows))]);
    assert_has(
        &page(&metrics),
        &[
            "upstream_request_total{cluster=\"c\"} 3",
            "upstream_request_total{cluster=\"c\",host=\"1.2.3.4:80\"} 3",
            "upstream_request_duration_time_count{cluster=\"c\",host=\"1.2.3.4:80\"} 1",
            "upstream_request_duration_time_total{cluster=\"c\",host=\"1.2.3.4:80\"} 7",
            "healthcheck_healthy{service=\"check\"} 2",
            "healthcheck_healty{service=\"check\"} 2",
        ],
    );
    metrics.set_sources(Vec::new());
    assert!(!page(&metrics).contains("upstream_"));
}

#[derive(Debug)]
struct Many;

impl Source for Many {
    fn upstream(&self, each: &mut dyn FnMut(Row<'_>)) {
        for index in 0..CAP + 7 {
            each(Row {
                cluster: "c",
                host: Some(&format!("host{index:05}")),
                figures: Figures {
                    request_total: 1,
                    ..Figures::default()
                },
                duration: None,
            });
        }
    }
}

// deviation: D060
#[test]
fn hosts_beyond_the_cap_are_one() {
    let metrics = Metrics::default();
    metrics.set_sources(vec![Arc::new(Many)]);
    let text = page(&metrics);
    assert_has(
        &text,
        &["upstream_request_total{cluster=\"other\",host=\"other\"} 7"],
    );
    assert_eq!(text.matches("upstream_request_total{").count(), CAP + 1);
}

#[test]
fn the_matcher_hides_keys_labels_or_all() {
    let metrics = Metrics::default();
    metrics.set_sources(vec![Arc::new(Clusters(vec![
        ("c", None, 1),
        ("c", Some("h"), 1),
    ]))]);
    metrics.listener("a").begin();
    metrics.set_matcher(Matcher {
        exclusion_labels: vec!["host".into()],
        exclusion_keys: vec!["request_active".into()],
        ..Matcher::default()
    });
    let text = page(&metrics);
    assert!(
        !text.contains("host=") && !text.contains("request_active"),
        "{text}"
    );
    assert_has(
        &text,
        &[
            "upstream_request_total{cluster=\"c\"} 1",
            "downstream_request_total{listener=\"a\"} 1",
        ],
    );
    metrics.set_matcher(Matcher {
        reject_all: true,
        ..Matcher::default()
    });
    assert_eq!(page(&metrics), "# EOF\n");
}

#[test]
fn what_a_control_plane_sent_has_upstreams_misspelt_name_too() {
    let metrics = Metrics::default();
    assert!(!page(&metrics).contains("xds_"));
    metrics.xds().lds_update_success.fetch_add(2, Relaxed);
    assert_has(
        &page(&metrics),
        &[
            "xds_lds_update_success{xds=\"info\"} 2",
            "xds_ls_update_success{xds=\"info\"} 2",
        ],
    );
}
