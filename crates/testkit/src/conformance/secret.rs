//! Secret stores.

use futures::future::try_join_all;
use layotto_core::{ErrorKind::NotFound, Metadata, secret::SecretStore};

use super::{
    Assertion, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, fails},
    common,
};

type Secrets = Subject<dyn SecretStore>;

/// The assertions of a secret store.
pub fn assertions() -> Vec<Assertion<dyn SecretStore>> {
    let own: Vec<Assertion<dyn SecretStore>> = assertions! {
        always => [
            get_gives_the_entries,
            bulk_get_gives_every_secret,
            bulk_get_and_get_agree,
            request_metadata_does_no_harm,
            concurrent_gets_agree,
        ],
        missing_is_an_error => [a_missing_secret_is_not_found, an_error_tells_no_secret],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn missing_is_an_error(secrets: &Secrets) -> Option<&'static str> {
    let known = secrets.fixture.facts.knows_missing_secrets;
    (!known).then_some("answers an empty text for a secret that does not exist")
}

async fn get_gives_the_entries(secrets: Secrets) -> Verified {
    let known = &secrets.fixture.facts.secrets;
    ensure!(!known.is_empty(), "the fixture knows no secret");
    for (name, entries) in known {
        let found = secrets
            .get(name, &Metadata::new())
            .await
            .or_say(&format!("get of {name}"))?;
        ensure!(found == *entries, "the entries of {name} are not those written");
    }
    Ok(())
}

async fn bulk_get_gives_every_secret(secrets: Secrets) -> Verified {
    let all = secrets.bulk_get(&Metadata::new()).await.or_say("bulk get")?;
    for (name, entries) in &secrets.fixture.facts.secrets {
        ensure!(
            all.get(name) == Some(entries),
            "the bulk get does not have {name} as written"
        );
    }
    Ok(())
}

async fn bulk_get_and_get_agree(secrets: Secrets) -> Verified {
    let all = secrets.bulk_get(&Metadata::new()).await.or_say("bulk get")?;
    for (name, entries) in all {
        let one = secrets
            .get(&name, &Metadata::new())
            .await
            .or_say(&format!("get of {name}"))?;
        ensure!(one == entries, "get and bulk get differ on {name}");
    }
    Ok(())
}

async fn request_metadata_does_no_harm(secrets: Secrets) -> Verified {
    let metadata = Metadata::from([("noSuchOption".to_owned(), "1".to_owned())]);
    for (name, entries) in &secrets.fixture.facts.secrets {
        let found = secrets.get(name, &metadata).await.or_say("get with metadata")?;
        ensure!(found == *entries, "metadata changed the entries of {name}");
    }
    secrets
        .bulk_get(&metadata)
        .await
        .or_say("bulk get with metadata")
        .map(drop)
}

async fn concurrent_gets_agree(secrets: Secrets) -> Verified {
    let metadata = Metadata::new();
    let reads = (0..20).map(|_| secrets.bulk_get(&metadata));
    let all = try_join_all(reads).await.or_say("bulk get")?;
    for one in &all {
        equal("number of secrets", &one.len(), &all[0].len())?;
    }
    Ok(())
}

async fn a_missing_secret_is_not_found(secrets: Secrets) -> Verified {
    let name = secrets.name("missing");
    fails(
        "get of a missing secret",
        secrets.get(&name, &Metadata::new()).await,
        &[NotFound],
    )?;
    fails(
        "get of a secret without a name",
        secrets.get("", &Metadata::new()).await,
        &[NotFound],
    )
}

async fn an_error_tells_no_secret(secrets: Secrets) -> Verified {
    let name = secrets.name("missing");
    let Err(error) = secrets.get(&name, &Metadata::new()).await else {
        return Err("a missing secret was found".to_owned());
    };
    let text = format!("{error} {error:?}");
    for value in secrets
        .fixture
        .facts
        .secrets
        .values()
        .flat_map(|entries| entries.values())
    {
        ensure!(
            value.is_empty() || !text.contains(value),
            "the error holds the value of a secret"
        );
    }
    Ok(())
}
