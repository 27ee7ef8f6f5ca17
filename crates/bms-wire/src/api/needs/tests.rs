use serde_json::json;

use super::*;

fn needs(cores: Option<u64>, memory_bytes: Option<u64>) -> SlotNeeds {
    SlotNeeds { cores, memory_bytes }
}

#[test]
fn what_is_absent_stays_and_nothing_takes_back() {
    let before = needs(Some(2), Some(1 << 30));
    assert_eq!(before.changed_by(&needs(None, None)), before);
    assert_eq!(before.changed_by(&needs(Some(4), None)), needs(Some(4), Some(1 << 30)));
    assert_eq!(before.changed_by(&needs(Some(0), Some(0))), SlotNeeds::default());
}

#[test]
fn numbers_out_of_their_limits_are_refused() {
    for good in [needs(None, None), needs(Some(1), Some(1 << 20)), needs(Some(1024), Some(4 << 40))] {
        good.check().unwrap();
    }
    for wrong in
        [needs(Some(0), None), needs(Some(1025), None), needs(None, Some(5)), needs(None, Some(u64::MAX))]
    {
        assert_eq!(wrong.check().unwrap_err().code(), Code::InvalidRequest, "{wrong:?}");
    }
}

#[test]
fn nothing_said_is_nothing_sent() {
    assert_eq!(json!(SlotNeeds::default()), json!({}));
    assert_eq!(json!(needs(Some(2), None)), json!({ "cores": 2 }));
    assert!(serde_json::from_value::<SlotNeeds>(json!({ "threads": 2 })).is_err());
}
