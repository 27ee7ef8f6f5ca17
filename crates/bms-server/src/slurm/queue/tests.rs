use serde_json::json;

use super::*;

/// Printed by Slurm 22.05.8, shortened to some of the fields.
const OLD: &str = include_str!("squeue-22.05.json");
/// The same jobs in the form of 24.05 (`data_parser/v0.0.41`), written after its documentation: no such Slurm was at hand.
const NEW: &str = include_str!("squeue-24.05.json");

#[test]
fn both_forms_of_the_list_say_the_same() {
    let old = read(OLD.as_bytes(), "rec", 0).unwrap();
    assert_eq!(read(NEW.as_bytes(), "rec", 0).unwrap(), old);
    let seen: Vec<_> = old.iter().map(|job| (job.id, job.tag, job.phase, job.state.as_str())).collect();
    let tag = |seat, generation| Tag { seat, generation };
    assert_eq!(
        seen,
        [
            (1, tag(0, 0), Phase::Running, "RUNNING"),
            (2, tag(0, 1), Phase::Ended, "FAILED"),
            (3, tag(1, 0), Phase::Waiting, "PENDING"),
        ]
    );
    assert_eq!(
        (old[0].starts, old[0].ends, old[0].node.as_str()),
        (Some(1_795_844_419), Some(1_795_844_479), "n1")
    );
    assert_eq!((old[2].starts, old[2].ends, old[2].reason.as_str()), (None, None, "JobHeldUser"));
    assert_eq!(read(OLD.as_bytes(), "rec", 1).unwrap(), [], "another user's jobs are not ours");
    assert_eq!(read(OLD.as_bytes(), "re", 0).unwrap(), [], "nor are those of another group");
}

#[test]
fn only_exact_names_are_ours() {
    let tag = Tag { seat: 3, generation: 17 };
    assert_eq!(tag.name("a-1"), "bms.a-1.3.17");
    assert_eq!(Tag::read("bms.a-1.3.17", "a-1"), Some(tag));
    for name in [
        "bms.a-1.3.17 ",
        "bms.a-1.03.17",
        "bms.a-1.+3.17",
        "bms.a-1.3.17.1",
        "bms.a-1.3",
        "bms.a-1.3.-1",
        "bms..3.17",
        "BMS.a-1.3.17",
        "bms.a-1.3.99999999999",
        "bms.a-1.3.17\n",
        "xbms.a-1.3.17",
        "bms.a-12.3.17",
        "",
        "bms.a-1.٣.17",
    ] {
        assert_eq!(Tag::read(name, "a-1"), None, "{name:?}");
    }
}

#[test]
fn states_and_flags_say_how_far_a_job_is() {
    let cases: &[(&[&str], Phase)] = &[
        (&["PENDING"], Phase::Waiting),
        (&["RUNNING", "CONFIGURING"], Phase::Waiting),
        (&["PREEMPTED", "REQUEUED"], Phase::Waiting),
        (&["RUNNING"], Phase::Running),
        (&["SUSPENDED"], Phase::Running),
        (&["CANCELLED", "COMPLETING"], Phase::Ending),
        (&["NODE_FAIL"], Phase::Ended),
        (&["OUT_OF_MEMORY"], Phase::Ended),
        (&["A_NEW_STATE"], Phase::Unknown),
        (&[], Phase::Unknown),
    ];
    for (words, expected) in cases {
        assert_eq!(phase(words), *expected, "{words:?}");
    }
}

#[test]
fn draining_is_noted_in_the_comment_and_read_again() {
    let mut list: Value = serde_json::from_str(OLD).unwrap();
    list["jobs"][0]["comment"] = json!(draining_comment(1234));
    assert_eq!(read(list.to_string().as_bytes(), "rec", 0).unwrap()[0].draining_since, Some(1234));
}

#[test]
fn nothing_is_concluded_from_what_is_no_list() {
    let error = json!({"jobs": [], "errors": [{"description": "not here"}]}).to_string();
    for text in ["", "{}", "[]", "{\"jobs\": 1}", "slurm_load_jobs error", &error] {
        assert_eq!(read(text.as_bytes(), "rec", 0).unwrap_err().code(), Code::Unavailable, "{text}");
    }
    // Jobs of another shape are not ours.
    let odd = json!({"jobs": [1, {}, {"user_id": 0}, {"user_id": 0, "name": "bms.rec.0.0"}], "errors": []})
        .to_string();
    assert_eq!(read(odd.as_bytes(), "rec", 0).unwrap(), []);
}

#[test]
fn numbers_without_a_value_are_none() {
    assert_eq!(number(&json!({"set": true, "infinite": true, "number": 0})), None);
    assert_eq!(number(&json!({"set": false, "infinite": false, "number": 5})), None);
    assert_eq!(number(&json!(0xFFFF_FFFE_u32)), None);
    assert_eq!(number(&json!(-1)), None);
    assert_eq!(number(&json!(7)), Some(7));
}
