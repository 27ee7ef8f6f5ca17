use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{Socket, SocketListener};

fn pair() -> (Socket, Socket) {
    let (one, other) = UnixStream::pair().unwrap();
    for stream in [&one, &other] {
        stream.set_nonblocking(true).unwrap();
    }
    (Socket::new(one).unwrap(), Socket::new(other).unwrap())
}

/// Bytes in which no part looks like another.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_waits_for_some_and_arrives_whole() {
    let (mut one, mut other) = pair();
    let sent = bytes(5_000_000);
    let whole = sent.clone();
    let writing = tokio::spawn(async move {
        // In pieces of odd sizes, some larger than the socket's room.
        for piece in whole.chunks(777_777) {
            one.write_all(piece).await.unwrap();
        }
        one.shutdown().await.unwrap();
        let mut back = Vec::new();
        one.read_to_end(&mut back).await.unwrap();
        back
    });
    // By now the writer waits.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut got = Vec::new();
    other.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    // One direction was closed, the other is open.
    other.write_all(b"thanks").await.unwrap();
    drop(other);
    assert_eq!(writing.await.unwrap(), b"thanks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_back_and_forth_and_none_is_lost() {
    let (mut one, mut other) = pair();
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            match other.read(&mut buffer).await.unwrap() {
                0 => return,
                n => other.write_all(&buffer[..n]).await.unwrap(),
            }
        }
    });
    for number in 0..20_000u32 {
        let message = bytes(1 + number as usize % 40);
        one.write_all(&message).await.unwrap();
        let mut answer = vec![0; message.len()];
        tokio::time::timeout(Duration::from_secs(20), one.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, message);
    }
    drop(one);
    echo.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_to_one_that_has_gone_is_told() {
    let (mut one, other) = pair();
    drop(other);
    assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(one.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_fails_when_the_reader_goes() {
    let (mut one, other) = pair();
    let writing = tokio::spawn(async move { one.write_all(&bytes(5_000_000)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!writing.is_finished());
    drop(other);
    assert!(writing.await.unwrap().is_err());
}

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn room_wakes_nobody_who_waits_for_bytes() {
    use tokio::io::AsyncRead;
    let (mut one, mut other) = pair();
    let woken = Arc::new(Counted(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut room = [0; 8];
    let mut buffer = ReadBuf::new(&mut room);
    let mut look =
        |one: &mut Socket| std::pin::Pin::new(one).poll_read(&mut context, &mut buffer).map(Result::unwrap);
    assert_eq!(look(&mut one), Poll::Pending);
    one.write_all(b"question").await.unwrap();
    assert_eq!(other.read(&mut [0; 8]).await.unwrap(), 8);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    other.write_all(b"answer").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(look(&mut one), Poll::Ready(()));
    assert_eq!(look(&mut one), Poll::Pending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connect_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut listener = SocketListener::new(listener).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
    let accepting = tokio::spawn(async move {
        for _ in 0..100 {
            let (mut socket, _) = listener.accept().await;
            tokio::spawn(async move {
                let mut byte = [0; 1];
                socket.read_exact(&mut byte).await.unwrap();
                socket.write_all(&[byte[0] + 1]).await.unwrap();
            });
        }
    });
    let asking = (0..100u8).map(|n| {
        let path = path.clone();
        tokio::spawn(async move {
            let mut socket = Socket::connect(&path).await.unwrap();
            socket.write_all(&[n]).await.unwrap();
            let mut byte = [0; 1];
            socket.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte[0], n + 1);
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
    accepting.await.unwrap();
}
