use std::{io, net::SocketAddr, sync::atomic::Ordering::Relaxed};

use layotto_core::{GoDuration, Settings};
use serde_json::{Value, json};

use super::{
    balance::testing::{cluster_of, config},
    *,
};

fn manager(clusters: Vec<ClusterConfig>) -> ClusterManager {
    ClusterManager {
        clusters,
        ..ClusterManager::default()
    }
}

fn parse(value: Value) -> ClusterManager {
    let Value::Object(map) = value else {
        panic!("no object")
    };
    Settings::new(map).parse().unwrap().config
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.hosts().iter().map(|host| host.name.to_string()).collect()
}

const BALANCERS: [&str; 10] = [
    "LB_RANDOM",
    "LB_ROUNDROBIN",
    "LB_WEIGHTED_ROUNDROBIN",
    "LB_LEAST_REQUEST",
    "LB_LEAST_CONNECTION",
    "LB_MAGLEV",
    "LB_RING_HASH",
    "LB_REQUEST_ROUNDROBIN",
    "LB_PEAK_EWMA",
    "LB_SOMETHING",
];

#[test]
fn reads_what_upstream_reads() {
    let manager = parse(json!({
        "tls_context": {"status": true, "insecure_skip": true},
        "clusters": [{
            "name": "a", "type": "SIMPLE", "lb_type": "LB_RANDOM", "connect_timeout": "2s",
            "idle_timeout": "90s", "max_request_per_conn": 10, "cluster_manager_tls": true,
            "keepalive": {"interval": "30s"},
            "circuit_breakers": [{"max_connections": 1, "max_requests": 2, "max_retries": 3}],
            "hosts": [
                {"address": "127.0.0.1:80", "weight": 1000, "hostname": "one", "tls_disable": true},
                {"address": "unix:/run/s"},
                {"address": "127.0.0.1:80"},
            ],
            "health_check": {
                "service_name": "s", "protocol": "Http1",
                "check_config": {"http_check_config": {"codes": [{"Start": 200, "End": 299}]}},
            },
        }],
    }));
    let clusters = Clusters::build(&manager, None).unwrap();
    let cluster = clusters.get("a").unwrap();
    assert_eq!(
        names(cluster),
        ["127.0.0.1:80", "unix:/run/s"],
        "the same address counts once"
    );
    assert_eq!(cluster.connect_timeout(), Duration::from_secs(2));
    assert_eq!(cluster.idle_timeout(), Some(Duration::from_secs(90)));
    assert_eq!(cluster.max_requests_per_connection(), Some(10));
    assert_eq!(cluster.keepalive().interval, GoDuration::from_millis(30_000));
    let hosts = cluster.hosts();
    assert!(cluster.tls(&hosts[1]).is_some() && cluster.tls(&hosts[0]).is_none());
    assert_eq!((hosts[0].weight, hosts[1].weight), (128, 1));
    assert_eq!(hosts[0].hostname.as_deref(), Some("one"));
    assert!(hosts[0].tls_disable && !hosts[1].tls_disable);
    assert!(cluster.limits().try_connection().is_ok());
}

#[test]
fn errors_name_the_key() {
    for (config, path) in [
        (json!({}), "clusters[0].name"),
        (
            json!({"name": "a", "hosts": [{"address": "a:1"}, {}]}),
            "clusters[0].hosts[1].address",
        ),
        (
            json!({"name": "a", "hosts": [{"address": ":1"}]}),
            "clusters[0].hosts[0].address",
        ),
        (
            json!({"name": "a", "lbconfig": {"client_error_bias": -1}}),
            "clusters[0].lbconfig.client_error_bias",
        ),
        (
            json!({"name": "a", "slow_start": {"min_weight_percent": 10}}),
            "clusters[0].slow_start.min_weight_percent",
        ),
        (
            json!({"name": "a", "type": "STRICT_DNS", "dns_lookup_family": "V5"}),
            "clusters[0].dns_lookup_family",
        ),
        (
            json!({"name": "a", "health_check": {"service_name": "s", "protocol": "Http1",
                "check_config": {"http_check_config": {"scheme": "https"}}}}),
            "clusters[0].health_check.check_config.http_check_config.scheme",
        ),
        (
            json!({"name": "a", "health_check": {"service_name": "s", "protocol": "Http1",
                "check_config": {"http_check_config": {"codes": [{"Start": 5}]}}}}),
            "clusters[0].health_check.check_config.http_check_config.codes[0]",
        ),
    ] {
        let error = Clusters::build(&parse(json!({"clusters": [config]})), None).unwrap_err();
        assert_eq!(error.path, path, "{error}");
    }
    let twice = parse(json!({"clusters": [{"name": "a"}, {"name": "a"}]}));
    assert_eq!(
        Clusters::build(&twice, None).unwrap_err().path,
        "clusters[1].name"
    );
}

// deviation: D054
#[test]
fn unhealthy_hosts_are_never_chosen_and_without_others_none_is() {
    for lb_type in BALANCERS {
        let cluster = cluster_of(config(lb_type, &[1, 2, 3]));
        let hosts = cluster.hosts();
        for ill in &hosts[..2] {
            ill.set(Ill::Checked, true);
        }
        cluster.refresh();
        for hash in 0..200 {
            let chosen = cluster.choose(&Pick { hash, tried: &[] }).unwrap();
            assert_eq!(chosen.name, hosts[2].name, "{lb_type}");
        }
        hosts[2].set(Ill::Checked, true);
        cluster.refresh();
        assert!(cluster.choose(&Pick::default()).is_none(), "{lb_type}");
        assert_eq!(cluster.stats.request_failure_eject.get(), 1);
        hosts[0].set(Ill::Checked, false);
        cluster.refresh();
        assert_eq!(
            cluster.choose(&Pick::default()).unwrap().name,
            hosts[0].name,
            "{lb_type}"
        );
        assert_eq!(cluster.health.healthy.get(), 1);
    }
}

proptest::proptest! {
    // deviation: D054
    #[test]
    fn whatever_hosts_are_ill_only_well_ones_are_chosen(
        ill in proptest::collection::vec(proptest::bool::ANY, 1..12),
        balancer in 0..BALANCERS.len(),
        hash: u64,
    ) {
        let cluster = cluster_of(config(BALANCERS[balancer], &vec![2; ill.len()]));
        for (host, ill) in cluster.hosts().iter().zip(&ill) {
            host.set(Ill::Ejected, *ill);
        }
        cluster.store(cluster.hosts.load().refreshed());
        for n in 0..20 {
            let chosen = cluster.hosts.load().choose(&Pick { hash: hash.wrapping_add(n), tried: &[] }).cloned();
            proptest::prop_assert_eq!(chosen.is_some(), ill.contains(&false));
            proptest::prop_assert!(chosen.is_none_or(|host| host.is_healthy()));
        }
    }
}

#[test]
fn tried_hosts_are_avoided_while_there_are_others() {
    for lb_type in BALANCERS {
        let cluster = cluster_of(config(lb_type, &[1, 1, 1, 100]));
        for hash in 0..100 {
            let mut tried = Vec::new();
            for _ in 0..4 {
                let host = cluster.choose(&Pick { hash, tried: &tried }).unwrap();
                assert!(
                    tried.iter().all(|tried: &Arc<Host>| tried.name != host.name),
                    "{lb_type}"
                );
                tried.push(host);
            }
            assert!(
                cluster.choose(&Pick { hash, tried: &tried }).is_some(),
                "{lb_type}"
            );
        }
    }
}

#[test]
fn a_cluster_without_hosts_chooses_none() {
    for lb_type in BALANCERS {
        assert!(
            cluster_of(config(lb_type, &[]))
                .choose(&Pick::default())
                .is_none(),
            "{lb_type}"
        );
    }
}

#[test]
fn an_unchanged_cluster_is_taken_over_and_a_changed_one_keeps_health_and_counters() {
    let other = ClusterConfig {
        name: "other".into(),
        ..config("LB_RANDOM", &[1])
    };
    let first = Clusters::build(&manager(vec![config("LB_RANDOM", &[1, 1]), other.clone()]), None).unwrap();
    let before = first.get("c").unwrap();
    let ill = before.hosts()[1].clone();
    ill.eject(Duration::from_secs(60));
    ill.count(|stats| stats.request_total.add(5));
    before.refresh();

    let second = Clusters::build(
        &manager(vec![config("LB_RANDOM", &[1, 9, 1]), other]),
        Some(&first),
    )
    .unwrap();
    assert!(Arc::ptr_eq(
        first.get("other").unwrap(),
        second.get("other").unwrap()
    ));
    let after = second.get("c").unwrap();
    assert!(!Arc::ptr_eq(before, after));
    let hosts = after.hosts();
    let healthy: Vec<_> = hosts.iter().map(|host| host.is_healthy()).collect();
    assert_eq!(healthy, [true, false, true]);
    assert_eq!(hosts[1].weight, 9);
    assert_eq!(
        (
            hosts[1].stats.request_total.get(),
            after.stats.request_total.get()
        ),
        (5, 5)
    );
    assert!(!Arc::ptr_eq(&ill, &hosts[1]), "its pool is another one");
}

#[test]
fn what_checks_found_is_forgotten_when_there_are_no_checks_any_more() {
    let first = Clusters::build(&manager(vec![config("LB_RANDOM", &[1, 1])]), None).unwrap();
    first.get("c").unwrap().hosts()[0].set(Ill::Checked, true);
    let second = Clusters::build(&manager(vec![config("LB_MAGLEV", &[1, 1])]), Some(&first)).unwrap();
    assert!(second.get("c").unwrap().hosts()[0].is_healthy());
}

#[test]
fn a_request_counts_as_open_until_its_guard_is_dropped() {
    let cluster = cluster_of(config("LB_RANDOM", &[1]));
    let host = cluster.hosts()[0].clone();
    let open = host.begin();
    assert_eq!(
        (host.active.load(Relaxed), cluster.stats.request_active.get()),
        (1, 1)
    );
    drop(open);
    assert_eq!(
        (host.active.load(Relaxed), cluster.stats.request_active.get()),
        (0, 0)
    );
    assert_eq!(
        (host.stats.request_total.get(), cluster.stats.request_total.get()),
        (1, 1)
    );
}

/// A resolver whose answers the test sets.
fn resolver(answers: &Arc<Mutex<Option<Vec<&'static str>>>>) -> Lookup {
    let answers = answers.clone();
    Lookup::new(move |_, port| {
        let answer = answers.lock().unwrap().clone();
        Box::pin(async move {
            let ips = answer.ok_or_else(|| io::Error::other("no answer"))?;
            Ok(ips
                .iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
                .collect())
        })
    })
}

fn dns(refresh: u64) -> ClusterConfig {
    ClusterConfig {
        kind: "STRICT_DNS".into(),
        dns_refresh_rate: GoDuration(Duration::from_secs(refresh)),
        hosts: vec![HostConfig {
            address: "svc:80".into(),
            weight: 3,
            ..HostConfig::default()
        }],
        ..config("LB_ROUNDROBIN", &[])
    }
}

#[tokio::test(start_paused = true)]
async fn names_are_looked_up_again_and_a_failure_keeps_the_last_answer() {
    let answers = Arc::new(Mutex::new(Some(vec!["10.0.0.2", "10.0.0.1", "fd00::1"])));
    let clusters = Clusters::construct(&manager(vec![dns(5)]), &[], None, &resolver(&answers)).unwrap();
    let cluster = clusters.get("c").unwrap();
    assert!(cluster.choose(&Pick::default()).is_none(), "not looked up yet");
    clusters.start();
    clusters.ready(Duration::from_secs(1)).await;
    assert_eq!(names(cluster), ["10.0.0.1:80", "10.0.0.2:80"], "IPv4 only");
    let (lost, kept) = (cluster.hosts()[0].clone(), cluster.hosts()[1].clone());
    assert_eq!((kept.weight, kept.hostname.as_deref()), (3, Some("svc")));

    for useless in [None, Some(vec![]), Some(vec!["fd00::1"])] {
        *answers.lock().unwrap() = useless;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(names(cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
    }

    *answers.lock().unwrap() = Some(vec!["10.0.0.3", "10.0.0.2"]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(names(cluster), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert!(Arc::ptr_eq(&cluster.hosts()[0], &kept), "it stays as it is");
    assert!(
        lost.gone.is_cancelled() && !kept.gone.is_cancelled(),
        "nobody checks a lost host"
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_cluster_begins_with_the_addresses_known() {
    let answers = Arc::new(Mutex::new(Some(vec!["10.0.0.1"])));
    let lookup = resolver(&answers);
    let first = Clusters::construct(&manager(vec![dns(5)]), &[], None, &lookup).unwrap();
    first.start();
    first.ready(Duration::from_secs(1)).await;
    *answers.lock().unwrap() = None;
    let second = Clusters::construct(&manager(vec![dns(9)]), &[], Some(&first), &lookup).unwrap();
    assert_eq!(names(second.get("c").unwrap()), ["10.0.0.1:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_dropped_looks_nothing_up() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    let lookup = Lookup::new(move |_, port| {
        counter.fetch_add(1, Relaxed);
        Box::pin(async move { Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]) })
    });
    let clusters = Clusters::construct(&manager(vec![dns(5)]), &[], None, &lookup).unwrap();
    clusters.start();
    clusters.start();
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(asked.load(Relaxed), 3, "started once, then every five seconds");
    drop(clusters);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(asked.load(Relaxed), 3);
}
