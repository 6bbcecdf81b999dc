//! Servers written in Java, from Maven Central: `NAME-java` is a `java` with their classes.

use std::{fs, process::Command};

use anyhow::Result;

use super::Folder;
use crate::{
    process,
    tools::{JAVA, MAVEN},
};

/// Packages and versions.
pub const WHAT: &str = "kafka 4.0.0, zookeeper 3.9.5, apollo-mockserver 2.4.0";

/// What it gives.
pub const PROGRAMS: &[&str] = &["kafka-java", "zookeeper-java", "apollo-java"];

/// The artefacts of each, with what they need, as `group:artefact:version`.
const ARTEFACTS: [(&str, &[&str]); 3] = [
    (
        "kafka",
        &[
            "org.apache.kafka:kafka_2.13:4.0.0",
            "org.apache.kafka:kafka-tools:4.0.0",
        ],
    ),
    (
        "zookeeper",
        &[
            "org.apache.zookeeper:zookeeper:3.9.5",
            // Optional for the artefact, not for the server.
            "io.dropwizard.metrics:metrics-core:4.1.12.1",
            "org.xerial.snappy:snappy-java:1.1.10.5",
        ],
    ),
    ("apollo", &["com.ctrip.framework.apollo:apollo-mockserver:2.4.0"]),
];

/// Downloads them with Maven.
pub fn get(folder: &Folder) -> Result<()> {
    for tool in [&JAVA, &MAVEN] {
        tool.ensure().map_err(anyhow::Error::msg)?;
    }
    for (name, artefacts) in ARTEFACTS {
        let place = folder.path().join("java").join(name);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        fs::write(place.join("pom.xml"), project(name, artefacts))?;
        let mut mvn = Command::new("mvn");
        mvn.args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DoutputDirectory=lib",
        ]);
        process::capture(mvn.current_dir(&place))?;
        let classes = place.join("lib").join("*");
        folder.wrap(
            &format!("{name}-java"),
            &format!("java -cp '{}'", classes.display()),
        )?;
    }
    Ok(())
}

fn project(name: &str, artefacts: &[&str]) -> String {
    let mut dependencies = String::new();
    for artefact in artefacts {
        let mut parts = artefact.split(':');
        let mut tag = |tag| format!("<{tag}>{}</{tag}>", parts.next().unwrap_or_default());
        let parts = [tag("groupId"), tag("artifactId"), tag("version")].concat();
        dependencies.push_str(&format!("<dependency>{parts}</dependency>\n"));
    }
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>layotto</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies></project>\n"
    )
}
