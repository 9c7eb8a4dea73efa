//! Where a commit byte waits: between whoever writes it and whoever may let it go.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a writer may do with the commit byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pass {
    /// Wait.
    #[default]
    Held,
    /// Write it.
    Released,
    /// Never.
    Shut,
}

/// One request's gate. Both sides live on one thread.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pass: Cell<Pass>,
    /// Everything before the commit byte was handed over.
    arrived: Cell<bool>,
    /// Who waits for that.
    waiter: RefCell<Option<Waker>>,
    /// Who waits to write.
    writer: RefCell<Option<Waker>>,
}

impl Gate {
    pub(super) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The writer's side: everything else was handed over. What becomes of the commit byte?
    pub(super) fn arrive(&self, cx: &mut Context<'_>) -> Pass {
        let pass = self.pass.get();
        if pass == Pass::Held {
            *self.writer.borrow_mut() = Some(cx.waker().clone());
            if !self.arrived.replace(true) {
                wake(&self.waiter);
            }
        }
        pass
    }

    /// Whether it was released. Unlike [`Gate::arrive`] it says nothing about the writer.
    pub(super) fn is_released(&self) -> bool {
        self.pass.get() == Pass::Released
    }

    /// Ready when everything before the commit byte was handed over.
    pub(super) fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrived.get() {
            return Poll::Ready(());
        }
        *self.waiter.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Lets the commit byte go. From here on the request may arrive whole, whatever happens.
    pub(super) fn release(&self) {
        self.decide(Pass::Released);
    }

    /// Never lets it go, unless it went already.
    pub(super) fn shut(&self) {
        self.decide(Pass::Shut);
    }

    fn decide(&self, pass: Pass) {
        if self.pass.get() == Pass::Held {
            self.pass.set(pass);
            wake(&self.writer);
        }
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Shuts a gate when its exchange is given up.
#[derive(Debug)]
pub(super) struct Guard(pub(super) Rc<Gate>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.shut();
    }
}
