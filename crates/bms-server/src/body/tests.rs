use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use bms_wire::{Code, Error};
use bytes::Bytes;
use hyper::body::Frame;

use super::read;

fn whole(bytes: &'static [u8], declared: Option<&str>) -> Request {
    let mut request = Request::builder();
    if let Some(length) = declared {
        request = request.header("content-length", length);
    }
    request.body(Body::from(bytes)).unwrap()
}

/// A body in `count` pieces whose length nobody declares.
fn pieces(count: usize, size: usize) -> Request {
    Request::new(Body::new(Pieces { count, size }))
}

struct Pieces {
    count: usize,
    size: usize,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.count == 0 {
            return Poll::Ready(None);
        }
        self.count -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7u8; self.size])))))
    }
}

#[tokio::test]
async fn a_body_at_the_limit_passes_whole() {
    let bytes = read(whole(b"12345678", None), 8, |_| Ok(())).await.unwrap();
    assert_eq!(&bytes[..], b"12345678");
    let bytes = read(pieces(4, 2), 8, |_| Ok(())).await.unwrap();
    assert_eq!(&bytes[..], [7; 8]);
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_anything_is_kept() {
    let mut kept = 0;
    let error = read(whole(b"1", Some("1073741824")), 8, |size| {
        kept = size;
        Ok(())
    })
    .await
    .unwrap_err();
    assert_eq!((error.code(), kept), (Code::TooLarge, 0));
}

#[tokio::test]
async fn an_undeclared_length_is_refused_at_the_byte_over_the_limit() {
    let mut kept = 0;
    let error = read(pieces(1000, 3), 8, |size| {
        kept = size;
        Ok(())
    })
    .await
    .unwrap_err();
    assert_eq!((error.code(), kept), (Code::TooLarge, 6));
}

#[tokio::test]
async fn whoever_admits_the_pieces_can_refuse_them() {
    let full = || Error::new(Code::QueueFull, "no room");
    let error = read(pieces(3, 3), 100, |_| Err(full())).await.unwrap_err();
    assert_eq!(error.code(), Code::QueueFull);
}
