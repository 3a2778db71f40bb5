//! Sleeping through glommio: one read of the eventfd is outstanding, for ever.
//!
//! In:    signals: from the ring when a completion is due, from the doorbell.
//! Out:   `signalled`, which a sleeping core awaits.
//! Holds: the read is never raced and never dropped before `close`: a dropped one would swallow the next signal.
//!
//! A signal may be older than the sleep that it ends. It is a hint.
#![expect(unsafe_code, reason = "glommio takes a raw file descriptor")]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use glommio::io::BufferedFile;
use glommio::task::JoinHandle;

use super::super::Doorbell;

/// Awaits the eventfd of a doorbell.
pub(super) struct Wake {
    shared: Rc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    signalled: Cell<bool>,
    closing: Cell<bool>,
    sleeper: RefCell<Option<Waker>>,
}

impl Wake {
    /// Starts reading. To be called within a glommio executor.
    pub(super) fn new(doorbell: &Doorbell) -> io::Result<Self> {
        let event = doorbell.event().try_clone_to_owned()?;
        // SAFETY: an open file descriptor whose ownership goes over.
        let event = unsafe { BufferedFile::from_raw_fd(event.into_raw_fd()) };
        let shared = Rc::new(Shared::default());
        let reader = glommio::spawn_local(read_for_ever(event, Rc::clone(&shared))).detach();
        Ok(Self { shared, reader: Some(reader) })
    }

    /// Waits for a signal, or takes one that has come since the last.
    pub(super) async fn signalled(&self) {
        poll_fn(|context| {
            if self.shared.signalled.take() {
                return Poll::Ready(());
            }
            *self.shared.sleeper.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends the read, by a signal of its own.
    pub(super) async fn close(&mut self, doorbell: &Doorbell) {
        self.shared.closing.set(true);
        doorbell.wake();
        if let Some(reader) = self.reader.take() {
            reader.await;
        }
    }
}

async fn read_for_ever(event: BufferedFile, shared: Rc<Shared>) {
    while !shared.closing.get() {
        // A failed read is passed on as a signal too: the sleeper looks, finds nothing, and sleeps again.
        let _ = event.read_at(0, size_of::<u64>()).await;
        shared.signalled.set(true);
        if let Some(sleeper) = shared.sleeper.take() {
            sleeper.wake();
        }
    }
    let _ = event.close().await;
}
