use super::*;

fn pair(id: &str, test: &str) -> Pair {
    Pair {
        id: id.to_owned(),
        test: test.to_owned(),
    }
}

const TEXT: &str = "# Deviations\n\n### D001: codes\n\n- Shown by: `a.rs::one`, `b.rs::two`\n\n### D002: texts\nnothing\n## End\n- Shown by: `c.rs::three`\n";

#[test]
fn the_page_is_read_by_headings_and_backquotes() {
    assert_eq!(ids(TEXT), ["D001", "D002"]);
    assert_eq!(
        documented(TEXT),
        BTreeSet::from([pair("D001", "a.rs::one"), pair("D001", "b.rs::two")])
    );
}

#[test]
fn an_entry_without_a_test_and_one_that_is_there_twice_are_problems() {
    assert_eq!(
        page_problems(&ids(TEXT), &documented(TEXT)),
        [format!("{PAGE}: D002 names no test")]
    );
    let twice = page_problems(&["D001", "D001"], &BTreeSet::from([pair("D001", "t")]));
    assert_eq!(twice, [format!("{PAGE}: D001 is there twice")]);
}

#[test]
fn a_marker_belongs_to_the_test_after_it() {
    let source = "fn zero() {}\n    // deviation: D001, D003\n    #[tokio::test]\n    async fn one() {}\n    fn two() {}\n";
    assert_eq!(
        marked("a.rs", source),
        [pair("D001", "a.rs::one"), pair("D003", "a.rs::one")]
    );
}

#[test]
fn a_marker_that_no_test_follows_is_kept_to_be_reported() {
    assert_eq!(
        marked("a.rs", "// deviation: D001\n"),
        [pair("D001", "a.rs::(no test follows)")]
    );
}

#[test]
fn only_a_letter_and_three_digits_are_an_id() {
    assert_eq!(heading_id("### D012: x"), Some("D012"));
    assert_eq!(heading_id("### D12: x"), None);
    assert_eq!(heading_id("## D012: x"), None);
}

#[test]
fn the_replay_marks_by_id() {
    assert_eq!(
        replayed(r#"[{"id": "D004", "case": "*"}]"#).unwrap(),
        [pair("D004", REPLAY)]
    );
    assert!(replayed(r#"[{"case": "*"}]"#).is_err());
}
