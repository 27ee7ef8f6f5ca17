use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{Again, POLLS_MAX};

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once and says how often the future was polled and the task woken by that.
fn polled(times_it_wakes_itself: usize) -> (bool, usize, usize) {
    let (task, mut polls) = (Arc::new(Counted::default()), 0);
    let waker = Waker::from(task.clone());
    let future = std::future::poll_fn(|context| {
        polls += 1;
        match polls <= times_it_wakes_itself {
            true => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            false => Poll::Ready(()),
        }
    });
    let mut again = Again::new(future);
    let is_ready = std::pin::Pin::new(&mut again).poll(&mut Context::from_waker(&waker)).is_ready();
    drop(again);
    (is_ready, polls, task.0.load(Ordering::SeqCst))
}

#[test]
fn what_wakes_itself_is_polled_again_without_waking_the_task() {
    assert_eq!(polled(0), (true, 1, 0));
    assert_eq!(polled(1), (true, 2, 0));
    assert_eq!(polled(POLLS_MAX - 1), (true, POLLS_MAX, 0));
}

#[test]
fn what_wakes_itself_for_ever_lets_others_go_on() {
    assert_eq!(polled(POLLS_MAX), (false, POLLS_MAX, 1));
    assert_eq!(polled(usize::MAX), (false, POLLS_MAX, 1));
}

#[test]
fn who_is_woken_later_wakes_the_task() {
    let (task, kept) = (Arc::new(Counted::default()), Mutex::new(None));
    let mut again = Again::new(std::future::poll_fn(|context| {
        *kept.lock().unwrap() = Some(context.waker().clone());
        Poll::<()>::Pending
    }));
    let waker = Waker::from(task.clone());
    for times in 1..3 {
        assert!(std::pin::Pin::new(&mut again).poll(&mut Context::from_waker(&waker)).is_pending());
        kept.lock().unwrap().take().unwrap().wake();
        assert_eq!(task.0.load(Ordering::SeqCst), times);
    }
}

/// Rings from another thread at every moment of a poll: none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_is_lost_between_threads() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let (back, mut answers) = tokio::sync::mpsc::channel(1);
    let echo = Again::new(Box::pin(async move {
        while let Some(number) = receiver.recv().await {
            back.send(number).await.unwrap();
        }
    }));
    let echo = tokio::spawn(echo);
    for number in 0..20_000 {
        sender.send(number).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), answers.recv()).await;
        assert_eq!(answer.expect("a wake was lost"), Some(number));
    }
    drop(sender);
    echo.await.unwrap();
}
