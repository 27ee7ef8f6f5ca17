use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Blocking;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Awake, LOOK_MAX};

fn pair(waiting: &'static AtomicUsize) -> (Awake, Blocking) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = theirs.into_std().unwrap();
    theirs.set_nonblocking(false).unwrap();
    (Awake::among(waiting, ours), theirs)
}

async fn ask(awake: &mut Awake, request: [u8; 2]) -> [u8; 4] {
    awake.write_all(&request).await.unwrap();
    awake.flush().await.unwrap();
    let mut answer = [0; 4];
    awake.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn quick_answers_and_slow_ones_come_whole_and_in_order() {
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let (mut awake, mut theirs) = pair(&WAITING);
    let answers = std::thread::spawn(move || {
        let mut request = [0; 2];
        while theirs.read_exact(&mut request).is_ok() {
            match request[0] {
                // Longer than is looked for, and in two pieces.
                0 => std::thread::sleep(2 * LOOK_MAX),
                1 => {
                    theirs.write_all(&request).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                    theirs.write_all(&request).unwrap();
                    continue;
                }
                _ => {}
            }
            theirs.write_all(&[request, request].concat()).unwrap();
        }
    });
    for i in 0..2000u16 {
        let request = [(i % 50) as u8, (i / 50) as u8];
        assert_eq!(ask(&mut awake, request).await, [request, request].concat()[..]);
        assert_eq!(WAITING.load(Ordering::Relaxed), 0);
    }
    drop(awake);
    answers.join().unwrap();
}

#[tokio::test]
async fn who_leaves_is_noticed_while_his_answer_is_looked_for() {
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let (mut awake, mut theirs) = pair(&WAITING);
    // So that the next is looked for.
    for _ in 0..20 {
        let answer = std::thread::spawn(move || {
            theirs.read_exact(&mut [0; 2]).unwrap();
            theirs.write_all(&[7; 4]).unwrap();
            theirs
        });
        ask(&mut awake, [7; 2]).await;
        theirs = answer.join().unwrap();
    }
    awake.write_all(&[7; 2]).await.unwrap();
    drop(theirs);
    awake.flush().await.unwrap();
    // A connection that is closed with a request unread is reset.
    assert!(matches!(awake.read(&mut [0; 4]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn several_requests_at_a_time_are_not_looked_for_and_given_up_ones_not_counted() {
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let ((mut one, _keep), (mut other, _keep_too)) = (pair(&WAITING), pair(&WAITING));
    for awake in [&mut one, &mut other] {
        awake.write_all(&[7; 2]).await.unwrap();
        awake.flush().await.unwrap();
    }
    assert_eq!(WAITING.load(Ordering::Relaxed), 2);
    assert!(!one.came && !other.came);
    drop(one);
    assert_eq!(WAITING.load(Ordering::Relaxed), 1);
    drop(other);
    assert_eq!(WAITING.load(Ordering::Relaxed), 0);
}
