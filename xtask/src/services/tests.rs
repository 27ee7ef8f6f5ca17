use std::process::Command;

use super::*;

#[test]
fn unknown_services_are_refused() {
    assert_eq!(choose(&[]).unwrap().len(), SERVICES.len());
    assert_eq!(choose(&["s3".to_owned()]).unwrap()[0].name, "s3");
    assert!(choose(&["s4".to_owned()]).is_err());
}

#[test]
fn a_service_is_found_running_until_it_is_stopped() {
    let dir = std::env::temp_dir().join(format!("bms-services-test-{}", std::process::id()));
    let place = Place::at(&dir);
    place.clear().unwrap();
    assert_eq!(place.environment().unwrap(), None);
    let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
    let environment = vec![("A".to_owned(), "b".to_owned())];
    place.keep(&Started { pids: vec![sleeper.id()], environment: environment.clone() }).unwrap();
    assert_eq!(place.environment().unwrap(), Some(environment));
    place.stop().unwrap();
    assert!(!sleeper.wait().unwrap().success());
    assert_eq!(place.environment().unwrap(), None);
    place.stop().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
