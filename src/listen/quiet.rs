//! Keeps hyper from running a connection's task for nothing.
//!
//! hyper's channel for an HTTP/1.1 body wakes the connection's task whenever a piece is taken out of it, also when that
//! was the last one and the connection has nothing left to send there (hyper 1.12, `body/chan.rs`). Each such wake runs
//! the whole of hyper's state machine once more. So the tasks of HTTP/1.1 connections give hyper a waker of ours
//! ([`Quiet`]), and whoever takes pieces out of a body does it through [`take`], which drops that one wake when the body
//! has told its length and the last byte of it was taken. Every other wake is passed on.
//!
//! HTTP/2 is left alone: there a piece that is taken opens the peer's window, and the connection must say so.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

thread_local! {
    /// Whether a piece is being taken out of a body on this thread.
    static TAKING: Cell<bool> = const { Cell::new(false) };
    /// Who was woken meanwhile.
    static WOKEN: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// The next piece of a body that hyper receives.
pub fn take(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let taking = Taking::begin();
    let polled = Pin::new(&mut *body).poll_frame(cx);
    let ended = matches!(polled, Poll::Ready(Some(Ok(_)))) && body.is_end_stream();
    taking.end(ended);
    polled
}

/// While it lives, wakes through [`Quiet`] on this thread are held back.
struct Taking;

impl Taking {
    fn begin() -> Self {
        TAKING.set(true);
        Self
    }

    fn end(self, for_nothing: bool) {
        if for_nothing {
            WOKEN.take();
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        TAKING.set(false);
        // Not while the borrow is held: a waker is foreign code.
        let woken = WOKEN.take();
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}

/// A connection's task, as hyper gets to wake it.
#[derive(Debug, Default)]
pub struct Quiet(Option<(Arc<Task>, Waker)>);

#[derive(Debug)]
struct Task(Waker);

impl Quiet {
    /// The waker that stands for this task; made once, as a task's waker stays the same.
    pub fn waker(&mut self, cx: &Context<'_>) -> &Waker {
        let known = self.0.as_ref().is_some_and(|(task, _)| task.0.will_wake(cx.waker()));
        if !known {
            self.0 = None;
        }
        let (_, waker) = self.0.get_or_insert_with(|| {
            let task = Arc::new(Task(cx.waker().clone()));
            (Arc::clone(&task), Waker::from(task))
        });
        waker
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match TAKING.get() {
            true => WOKEN.set(Some(self.0.clone())),
            false => self.0.wake_by_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_wake_for_nothing_is_dropped_and_every_other_is_passed_on() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&task);
        let mut quiet = Quiet::default();
        let waker = quiet.waker(&cx).clone();
        assert!(quiet.waker(&cx).will_wake(&waker), "made once");

        waker.wake_by_ref();
        assert_eq!(count.0.load(Relaxed), 1, "outside of a body");

        let taking = Taking::begin();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Relaxed), 1, "held back");
        taking.end(false);
        assert_eq!(count.0.load(Relaxed), 2, "the body goes on");

        let taking = Taking::begin();
        waker.wake_by_ref();
        taking.end(true);
        assert_eq!(count.0.load(Relaxed), 2, "the body has ended");

        waker.wake();
        assert_eq!(count.0.load(Relaxed), 3);
        let other = std::thread::spawn({
            let waker = quiet.waker(&cx).clone();
            let taking = Taking::begin();
            move || {
                waker.wake();
                drop(taking);
            }
        });
        other.join().expect("ends");
        assert_eq!(count.0.load(Relaxed), 4, "another thread takes nothing here");
    }
}
