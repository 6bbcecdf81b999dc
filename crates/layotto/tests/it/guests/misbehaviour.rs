//! Functions that do what they must not: each fails alone.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Functions, put_example};
use crate::lifecycle::save;

const KINDS: [&str; 5] = ["loop", "memory", "pointers", "recursion", "trap"];

/// The bad one under five names, so that one that rests after its traps is none of the others.
fn fill(folder: &Path) {
    for kind in KINDS {
        put_example(folder, "rust-bad", kind);
    }
    put_example(folder, "rust-id_2", "good");
}

fn run() -> Functions {
    let files = KINDS.map(|kind| format!("{kind}.wasm")).join(" ");
    Functions::run(&format!("--cpu 300 --mem 16 {files} good.wasm"), fill)
}

async fn good_ones(functions: &Functions, times: usize) {
    for _ in 0..times {
        let reply = functions.ask("id_2", "book1").await;
        assert_eq!(reply.text(), "There are 100 inventories for book1.");
    }
}

#[tokio::test]
async fn a_loop_ends_in_time_and_others_are_served_meanwhile() {
    let functions = run();
    save(functions.api, "book1", "100").await;
    let begun = Instant::now();
    let (reply, ()) = tokio::join!(functions.ask("loop", "loop"), good_ones(&functions, 50));
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    good_ones(&functions, 1).await;
}

#[tokio::test]
async fn memory_is_refused_beyond_the_limit() {
    fails_alone("memory", "take_all_memory").await;
}

#[tokio::test]
async fn a_trap_ends_one_call() {
    let mut functions = fails_alone("trap", "in bad::trap").await;
    functions.wait_for_log("this function fails on purpose");
}

#[tokio::test]
async fn recursion_ends_where_the_stack_does() {
    fails_alone("recursion", "call_itself").await;
}

async fn fails_alone(kind: &str, named: &str) -> Functions {
    let mut functions = run();
    save(functions.api, "book1", "100").await;
    let kind: &'static str = KINDS.iter().find(|known| **known == kind).unwrap();
    for _ in 0..3 {
        let (reply, ()) = tokio::join!(functions.ask(kind, kind), good_ones(&functions, 5));
        assert_eq!(reply.status, 500, "{}", reply.text());
    }
    // The log names the functions that it was in.
    functions.wait_for_log(named);
    functions
}

#[tokio::test]
async fn wrong_pointers_are_refused_one_by_one() {
    let functions = run();
    let reply = functions.ask("pointers", "pointers").await;
    assert_eq!(reply.text(), "statuses [6, 6, 6, 6, 6]");
}
