use super::*;

fn queue_of(items: &[(&str, i32, u64)]) -> (FairQueue<usize>, Instant) {
    let begin = Instant::now();
    let mut queue = FairQueue::default();
    for (item, (tenant, priority, second)) in items.iter().enumerate() {
        let since = begin + Duration::from_secs(*second);
        queue.push(Waiting { tenant: (*tenant).to_owned(), priority: *priority, since, item });
    }
    (queue, begin)
}

/// Takes all, charging each with so many tokens.
fn drain(queue: &mut FairQueue<usize>, now: Instant, charge: impl Fn(&str) -> usize) -> Vec<usize> {
    let mut order = Vec::new();
    while let Some(shown) = queue.next(now).map(|(waiting, _)| waiting.item) {
        let (waiting, _) = queue.take(now).unwrap();
        assert_eq!(waiting.item, shown);
        queue.charge(&waiting.tenant, charge(&waiting.tenant), now);
        order.push(waiting.item);
    }
    assert!(queue.is_empty());
    order
}

#[test]
fn one_tenant_is_served_in_order_of_arrival() {
    let (mut queue, now) = queue_of(&[("a", 0, 0), ("a", 0, 0), ("a", 0, 0)]);
    assert_eq!(drain(&mut queue, now, |_| 10_000), [0, 1, 2]);
}

#[test]
fn tenants_take_turns_by_tokens() {
    let items: Vec<(&str, i32, u64)> = (0..40).map(|i| (if i < 20 { "a" } else { "b" }, 0, 0)).collect();
    let (mut queue, now) = queue_of(&items);
    // The requests of one cost four times those of the other.
    let order = drain(&mut queue, now, |tenant| if tenant == "a" { 2000 } else { 500 });
    let first: Vec<usize> = order[..20].to_vec();
    let of_a = first.iter().filter(|item| **item < 20).count();
    assert!((3..=5).contains(&of_a), "{first:?}");
}

#[test]
fn priorities_come_first_and_age() {
    let (mut queue, now) = queue_of(&[("a", 0, 0), ("a", 2, 0), ("b", 1, 0)]);
    assert_eq!(drain(&mut queue, now, |_| 1), [1, 2, 0]);
    // 25 seconds are worth two priorities.
    let (mut queue, begin) = queue_of(&[("a", 0, 0), ("a", 1, 25), ("b", 1, 24)]);
    let now = begin + Duration::from_secs(25);
    assert_eq!(queue.next(now).unwrap().1, 2);
    assert_eq!(drain(&mut queue, now, |_| 1)[0], 0);
}

#[test]
fn those_that_leave_are_gone() {
    let (mut queue, now) = queue_of(&[("a", 0, 0), ("b", 3, 0), ("a", 1, 0)]);
    let removed = queue.remove(|waiting| waiting.item != 2);
    assert_eq!(removed.len(), 2);
    assert_eq!(queue.len(), 1);
    assert_eq!(drain(&mut queue, now, |_| 1), [2]);
}

#[test]
fn credit_is_not_saved_and_debt_is_forgotten_in_time() {
    let (mut queue, begin) = queue_of(&[("a", 0, 0)]);
    drain(&mut queue, begin, |_| 1_000_000);
    let push = |queue: &mut FairQueue<usize>, tenant: &str, second: u64, item| {
        let since = begin + Duration::from_secs(second);
        queue.push(Waiting { tenant: tenant.to_owned(), priority: 0, since, item });
    };
    push(&mut queue, "a", 1, 1);
    push(&mut queue, "b", 1, 2);
    assert_eq!(drain(&mut queue, begin + Duration::from_secs(1), |_| 1), [2, 1]);
    push(&mut queue, "a", 60, 3);
    push(&mut queue, "b", 60, 4);
    push(&mut queue, "b", 60, 5);
    let order = drain(&mut queue, begin + Duration::from_secs(60), |_| 1000);
    assert_ne!(order, [4, 5, 3], "the debt of a minute ago is forgotten");
}

#[test]
fn tenants_that_come_once_are_not_kept_for_ever() {
    let begin = Instant::now();
    let mut queue = FairQueue::default();
    for i in 0..5000_u64 {
        let since = begin + Duration::from_secs(i);
        queue.push(Waiting { tenant: format!("t{i}"), priority: 0, since, item: 0 });
        queue.take(since).or_else(|| {
            queue.next(since)?;
            queue.take(since)
        });
    }
    assert!(queue.tenants.len() <= TENANTS_KEPT + 1, "{}", queue.tenants.len());
}
