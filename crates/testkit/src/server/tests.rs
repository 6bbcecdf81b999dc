//! Every product that is there starts, is killed, and comes back with its data.

use super::*;
use crate::needs;

#[tokio::test]
async fn redis_comes_back_with_its_data() {
    needs!(redis::PROGRAM);
    let mut server = redis::start_durable().await.unwrap();
    redis::cli(&server, &["set", "a", "1"]).unwrap();
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err());
    server.resume().await.unwrap();
    assert_eq!(redis::cli(&server, &["get", "a"]).unwrap().trim(), "1");
}

#[tokio::test]
async fn a_redis_cluster_and_sentinels_form() {
    needs!(redis::PROGRAM);
    assert_eq!(redis::start_cluster().await.unwrap().len(), 3);
    let watched = redis::start_sentinels().await.unwrap();
    let told = redis::cli(
        &watched.sentinels[0],
        &["sentinel", "get-master-addr-by-name", redis::PRIMARY_NAME],
    );
    let port = watched.servers[0].address().port().to_string();
    assert_eq!(told.unwrap().lines().last(), Some(port.as_str()));
}

#[tokio::test]
async fn etcd_goes_on_after_the_end_of_one_of_three() {
    needs!(etcd::PROGRAM);
    let mut nodes = etcd::start_three().await.unwrap();
    etcd::ctl(&nodes[0], &["put", "a", "1"]).unwrap();
    nodes[0].kill();
    let told = etcd::ctl(&nodes[1], &["get", "a", "--print-value-only"]);
    assert_eq!(told.unwrap().trim(), "1");
}

#[tokio::test]
async fn zookeeper_starts() {
    needs!(zookeeper::PROGRAM);
    let server = zookeeper::start().await.unwrap();
    assert!(says(server.address(), "srvr", "Mode: standalone"));
}

#[tokio::test]
async fn postgresql_comes_back_with_its_data() {
    needs!(postgres::PROGRAM);
    let mut server = postgres::start(&[]).await.unwrap();
    postgres::psql(&server, "create table t as select 7 as a").unwrap();
    server.kill();
    server.resume().await.unwrap();
    assert_eq!(postgres::psql(&server, "select a from t").unwrap().trim(), "7");
}

/// PostgreSQL answers from a process for each connection.
#[tokio::test]
async fn a_frozen_server_answers_nobody() {
    needs!(postgres::PROGRAM);
    let server = postgres::start(&[]).await.unwrap();
    let mut psql = Command::new(program("psql").unwrap());
    let port = server.address().port().to_string();
    psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-XAtq"]);
    let mut psql = psql
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (psql.stdin.take().unwrap(), psql.stdout.take().unwrap());
    let mut byte = [0];
    input.write_all(b"select 1;\n").unwrap();
    output.read_exact(&mut byte).unwrap();
    server.freeze().unwrap();
    input.write_all(b"select 2;\n").unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut rest = [0; 2];
        output.read_exact(&mut rest).map(|()| rest)
    });
    tokio::pin!(answer);
    let frozen = tokio::time::timeout(Duration::from_millis(300), &mut answer).await;
    assert!(frozen.is_err(), "answered {frozen:?}");
    server.thaw().unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), *b"\n2");
    drop(input);
    psql.wait().unwrap();
}

#[tokio::test]
async fn kafka_starts() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(3).await.unwrap();
    assert!(TcpStream::connect(server.address()).is_ok());
}

#[test]
fn versions_are_found_in_what_programs_tell() {
    for (told, version) in [
        (
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0",
            "7.0.15",
        ),
        ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "15.14"),
        ("etcd Version: 3.4.23\nGit SHA: Not provided", "3.4.23"),
        ("Apache ZooKeeper, version 3.9.5 2025-03-10", "3.9.5"),
        ("4.0.0 (Commit:985bc99521dd22bb)", "4.0.0"),
    ] {
        assert_eq!(number(told), Some(version));
    }
    assert_eq!(number("no version 5"), None);
}
