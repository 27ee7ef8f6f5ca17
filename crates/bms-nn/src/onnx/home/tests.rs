use super::Home;

#[test]
fn single_threads_stand_in_for_each_other_and_others_do_not() {
    let (one, other, two) = (Home::new(1), Home::new(0), Home::new(2));
    assert!(!one.is_here() && !two.is_here(), "this thread is nobody's");
    other.run(|| {
        assert!(one.is_here() && other.is_here() && !two.is_here());
        assert_eq!(one.here().unwrap().threads, 1);
        two.run(|| assert!(two.is_here() && !one.is_here()));
        assert!(one.is_here());
    });
    assert!(!other.is_here());
}

#[test]
fn a_home_survives_work_that_panics() {
    let (home, other) = (Home::new(1), Home::new(1));
    let run = || home.run(|| panic!("as told"));
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    assert!(broken.is_err());
    // The same thread, which is nobody's between works.
    home.pool().run(|| assert!(!other.is_here()));
    assert!(home.run(|| other.is_here()));
}
