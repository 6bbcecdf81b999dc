//! Profiles under `/debug/pprof/`, as Go's tools ask for them: of those, the one that this process
//! can take of itself.

mod profile;
mod sampler;

use std::time::{Duration, SystemTime};

use http::{Method, Request, StatusCode};

use self::sampler::Sampling;
use crate::answer::{Answer, error, method_not_allowed, of_type, text};

/// How long a profile takes where the request does not say.
const DEFAULT: u64 = 30;
/// The longest profile.
const LONGEST: u64 = 300;

const ROOT: &str = "/debug/pprof";

const HELP: &str = "\
GET /debug/pprof/profile?seconds=N   processor time, sampled for N seconds (1 to 300, default 30):
                                     the functions it was spent in, without their callers
";

/// What Go's tools also ask for, and why there is none.
const MISSING: &[(&str, &str)] = &[
    ("heap", "the allocator keeps no record of who allocated what"),
    ("allocs", "the allocator keeps no record of who allocated what"),
    (
        "goroutine",
        "there are no goroutines; tasks keep no stack while they wait",
    ),
    (
        "threadcreate",
        "the system keeps no record of who started a thread",
    ),
    ("block", "waiting is not recorded"),
    ("mutex", "waiting is not recorded"),
    ("trace", "what tasks do is not recorded"),
];

/// Answers one request.
pub async fn answer<B>(request: Request<B>) -> Answer {
    let Some(name) = request.uri().path().strip_prefix(ROOT) else {
        return text(StatusCode::NOT_FOUND, HELP);
    };
    let name = name.trim_matches('/');
    if let Some((_, why)) = MISSING.iter().find(|(missing, _)| *missing == name) {
        return error(StatusCode::NOT_IMPLEMENTED, why);
    }
    if !["", "profile"].contains(&name) {
        return text(StatusCode::NOT_FOUND, HELP);
    }
    if request.method() != Method::GET {
        return method_not_allowed(&Method::GET);
    }
    if name.is_empty() {
        return text(StatusCode::OK, HELP);
    }
    match seconds(request.uri().query().unwrap_or_default()) {
        Some(seconds) => profile(Duration::from_secs(seconds)).await,
        None => {
            let why = format!("seconds must be a whole number from 1 to {LONGEST}");
            error(StatusCode::BAD_REQUEST, &why)
        }
    }
}

fn seconds(query: &str) -> Option<u64> {
    let said = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    let seconds = said.map_or(Ok(DEFAULT), str::parse).ok()?;
    (1..=LONGEST).contains(&seconds).then_some(seconds)
}

/// Samples for so long; ends early with the request.
async fn profile(length: Duration) -> Answer {
    let begun = SystemTime::now();
    let sampling = match Sampling::start() {
        Ok(sampling) => sampling,
        Err(why) => return error(why.status(), &why.to_string()),
    };
    tracing::info!(?length, "profile begun");
    tokio::time::sleep(length).await;
    let samples = sampling.end();
    // Names are read from the program's file.
    match tokio::task::spawn_blocking(move || profile::encode(&samples, begun, length)).await {
        Ok(profile) => of_type(StatusCode::OK, "application/octet-stream", profile),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the profile cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_a_default_and_a_limit() {
        assert_eq!(seconds(""), Some(30));
        assert_eq!(seconds("debug=1&seconds=5"), Some(5));
        for wrong in ["seconds=0", "seconds=301", "seconds=x", "seconds=-1"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_given_is_said() {
        let ask = |path: &str| answer(Request::get(path).body(()).unwrap());
        for (path, status) in [
            ("/debug/pprof/", 200),
            ("/debug/pprof", 200),
            ("/debug/pprof/heap", 501),
            ("/debug/pprof/goroutine", 501),
            ("/debug/pprof/none", 404),
            ("/", 404),
            ("/debug/pprof/profile?seconds=x", 400),
        ] {
            assert_eq!(ask(path).await.status(), status, "{path}");
        }
        let post = Request::post("/debug/pprof/profile").body(()).unwrap();
        let refused = answer(post).await;
        assert_eq!(refused.status(), 405);
        assert_eq!(refused.headers()["allow"], "GET");
    }
}
