//! Histories of locks, made by hand.

use tokio::time::advance;

use super::*;
use crate::history::Pending;

const LEASE: Duration = Duration::from_secs(1);

struct Script(History);

impl Script {
    fn begin(&self, owner: &str, what: What) -> Pending<Call, Answer> {
        let call = Call {
            resource: "r".to_owned(),
            owner: owner.to_owned(),
            what,
        };
        self.0.begin(0, call)
    }

    fn granted(&self, owner: &str, token: u64) {
        self.begin(owner, What::Try(LEASE)).end(grant(token));
    }

    fn status(&self, owner: &str, what: What, status: Status) {
        self.begin(owner, what).end(Answer::Status(status, None));
    }

    fn violations(&self) -> Vec<String> {
        check(&self.0.operations(), true).violations
    }

    fn is_fine(&self) {
        assert_eq!(self.violations(), [""; 0]);
    }

    fn is_wrong(&self, text: &str) {
        let violations = self.violations();
        assert!(
            violations.iter().any(|violation| violation.contains(text)),
            "{violations:?}"
        );
    }
}

fn grant(token: u64) -> Answer {
    Answer::Grant(Grant::Acquired {
        fencing_token: Some(token),
    })
}

fn script() -> Script {
    Script(History::default())
}

#[tokio::test(start_paused = true)]
async fn one_after_another_is_fine() {
    let script = script();
    script.granted("a", 1);
    script
        .begin("b", What::Try(LEASE))
        .end(Answer::Grant(Grant::Busy));
    script.status("a", What::Unlock, Status::Success);
    script.granted("b", 2);
    advance(LEASE).await;
    script.granted("c", 3);
    script.status("b", What::Unlock, Status::BelongsToOthers);
    script.status("c", What::KeepAlive(LEASE), Status::Success);
    script.is_fine();
    assert_eq!(check(&script.0.operations(), true).count("grants"), 3);
}

#[tokio::test(start_paused = true)]
async fn two_holders_at_once_are_found() {
    let script = script();
    script.granted("a", 1);
    advance(LEASE / 2).await;
    script.granted("b", 2);
    script.is_wrong("granted to b with token 2 while a with token 1 holds it");
}

#[tokio::test(start_paused = true)]
async fn a_second_grant_to_the_holder_is_found() {
    let script = script();
    script.granted("a", 1);
    script.granted("a", 2);
    script.is_wrong("while a with token 1 holds it");
}

#[tokio::test(start_paused = true)]
async fn the_lease_counts_from_the_call() {
    let script = script();
    let slow = script.begin("a", What::Try(LEASE));
    advance(LEASE * 3 / 4).await;
    slow.end(grant(1));
    advance(LEASE / 4).await;
    script.granted("b", 2);
    script.is_fine();
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_on_its_way_may_be_over() {
    let script = script();
    let slow = script.begin("a", What::Try(LEASE));
    advance(LEASE * 2).await;
    script.granted("b", 2);
    slow.end(grant(1));
    script.is_fine();
}

#[tokio::test(start_paused = true)]
async fn a_grant_asked_for_during_a_lease_is_found_even_where_its_own_is_over() {
    let script = script();
    script.begin("a", What::Try(LEASE * 9)).end(grant(1));
    let slow = script.begin("b", What::Try(LEASE));
    advance(LEASE * 2).await;
    slow.end(grant(2));
    script.is_wrong("granted to b");
}

#[tokio::test(start_paused = true)]
async fn a_release_counts_from_its_call_whatever_becomes_of_it() {
    let script = script();
    script.granted("a", 1);
    drop(script.begin("a", What::Unlock));
    script.granted("b", 2);
    script.is_fine();
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_extends_and_an_unanswered_one_may_shorten() {
    let extended = script();
    extended.granted("a", 1);
    advance(LEASE * 3 / 4).await;
    extended.status("a", What::KeepAlive(LEASE), Status::Success);
    advance(LEASE / 2).await;
    extended.granted("b", 2);
    extended.is_wrong("granted to b");

    let unknown = script();
    unknown.begin("a", What::Try(LEASE * 9)).end(grant(1));
    drop(unknown.begin("a", What::KeepAlive(LEASE)));
    advance(LEASE).await;
    unknown.granted("b", 2);
    unknown.is_fine();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_early_is_found() {
    for what in [What::Unlock, What::KeepAlive(LEASE)] {
        let script = script();
        script.granted("a", 1);
        advance(LEASE / 2).await;
        script.status("a", what, Status::Unexist);
        script.is_wrong("is told Unexist");
    }
    let late = script();
    late.granted("a", 1);
    advance(LEASE).await;
    late.status("a", What::Unlock, Status::Unexist);
    late.is_fine();
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_is_obeyed_is_found() {
    let holds = script();
    holds.granted("b", 1);
    holds.status("b", What::Unlock, Status::Success);
    holds.granted("a", 2);
    holds.status("b", What::Unlock, Status::Success);
    holds.is_wrong("b may Unlock while a with token 2 holds it");

    let never = script();
    never.status("x", What::KeepAlive(LEASE), Status::Success);
    never.is_wrong("x never got it");

    let perhaps = script();
    drop(perhaps.begin("x", What::Try(LEASE)));
    perhaps.status("x", What::Unlock, Status::Success);
    perhaps.is_fine();
}

#[tokio::test(start_paused = true)]
async fn tokens_that_repeat_or_fall_or_are_missing_are_found() {
    for (second, text) in [(5, "has the token of a"), (4, "is granted after a")] {
        let script = script();
        script.granted("a", 5);
        script.status("a", What::Unlock, Status::Success);
        script.granted("b", second);
        script.is_wrong(text);
    }
    let unfenced = script();
    let acquired = Answer::Grant(Grant::Acquired { fencing_token: None });
    unfenced.begin("a", What::Try(LEASE)).end(acquired);
    unfenced.is_wrong("a got no fencing token");
    let violations = check(&unfenced.0.operations(), false).violations;
    assert_eq!(violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_that_tells_another_token_is_found() {
    let script = script();
    script.granted("a", 5);
    let told = Answer::Status(Status::Success, Some(6));
    script.begin("a", What::KeepAlive(LEASE)).end(told);
    script.is_wrong("tells a with token 5 the token Some(6)");
}
