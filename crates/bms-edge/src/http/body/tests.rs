use super::*;

#[test]
fn bodies_share_a_budget_and_give_it_back() {
    let budget = Arc::new(Budget::default());
    let share = || Share { budget: budget.clone(), bytes: 0 };
    let (mut first, mut second) = (share(), share());
    first.grow(BODIES_BYTES_MAX - 10).unwrap();
    second.grow(10).unwrap();
    assert_eq!(second.grow(1).unwrap_err().code(), Code::QueueFull);
    drop(second);
    drop(first);
    share().grow(BODIES_BYTES_MAX).unwrap();
    assert_eq!(budget.0.load(Ordering::Acquire), 0);
}
