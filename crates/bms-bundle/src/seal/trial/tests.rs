use super::Trial;
use crate::Content;

#[test]
fn a_trial_does_the_work_and_notices_a_change() {
    for bytes in [0, 1, 300_000, 9 << 20] {
        let mut trial = Trial::new(bytes).unwrap();
        assert_eq!(trial.bytes(), bytes);
        trial.seal().unwrap();
        trial.open().unwrap();
        trial.load().unwrap();
        trial.load().unwrap();
        trial.decipher().unwrap();
        let mut changed = trial.sealed.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        trial.sealed = Content::from(changed);
        assert!(trial.open().is_err() && trial.decipher().is_err() && trial.load().is_err());
    }
}
