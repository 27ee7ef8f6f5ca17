use serde_json::json;

use super::*;

/// Orders as a centre of before cores were asked for writes them.
#[derive(Deserialize)]
struct OrderBefore {
    id: String,
    model: String,
    version: u64,
}

#[test]
fn a_centre_and_a_worker_of_the_version_before_are_understood() {
    let before = json!({ "slots": [{ "id": "x", "model": "m", "version": 3 }], "leave": false });
    let orders: Orders = serde_json::from_value(before).expect("orders of before");
    assert_eq!((orders.slots[0].cores, orders.slots[0].version), (None, 3));
    assert_eq!(json!(orders.slots[0]), json!({ "id": "x", "model": "m", "version": 3 }));
    let order = Order { cores: Some(4), ..orders.slots[0].clone() };
    let heard: OrderBefore = serde_json::from_value(json!(order)).expect("an order of today");
    assert_eq!((heard.id.as_str(), heard.model.as_str(), heard.version), ("x", "m", 3));
}
