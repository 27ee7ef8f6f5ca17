use std::net::TcpListener;
use std::process::Command;

use super::{listener, listens_on, resident_bytes, tree, would_run};

#[test]
fn children_belong_to_the_tree() {
    let own = std::process::id();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    assert!(tree(own).contains(&child.id()));
    let both = resident_bytes(own).unwrap();
    assert!(resident_bytes(child.id()).unwrap() < both);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!tree(own).contains(&child.id()));
    assert_eq!(resident_bytes(child.id()), None);
    assert!(!would_run(child.id()));
}

#[test]
fn a_port_belongs_to_who_listens_on_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(listens_on(std::process::id(), port), Some(true));
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    assert_eq!(listens_on(child.id(), port), Some(false), "another process has it");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(listener);
    assert_eq!(listens_on(std::process::id(), port), Some(false));
}

#[test]
fn lines_of_the_table_are_read() {
    let line = "  12: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100";
    assert_eq!(listener(line, 8080).as_deref(), Some("socket:[4242]"));
    assert_eq!(listener(line, 8081), None);
    assert_eq!(listener(&line.replace(" 0A ", " 01 "), 8080), None);
    assert_eq!(listener("", 8080), None);
}
