//! The admin socket: what commands ask of a running node, and the thread *control* that answers.
//!
//! In:    one request a connection, as a line of JSON, from processes of this node's user or of root.
//! Out:   one answer a line; one line for most requests, a stream for `listen` and locks.
//! Holds: who connects is asked of the kernel, on both sides; requests, clients and time are bounded; no secret is ever in an answer.
//!
//! A thread takes connections, and each client has a thread of its own while it is served: there are eight of them at most, and some wait
//! for other nodes.

mod audience;
mod caller;
mod error;
mod line;
mod listener;
mod network;
mod protocol;
mod serve;
mod status;
mod values;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

pub use caller::{Answers, Teller, call};
pub use error::ControlError;
pub use protocol::{
    Answer, ChangeLine, ChangeOf, Command, GetLine, GrantLine, Heard, LockLine, LockedBy, NodeLine,
    NotChanged, PutLine, RumourStatus, ShardStatus, Status, StoreStatus, Traffic, ValueLine, ValueStatus,
    WishLine, Words, from_hex, parse_condition, parse_leave, to_hex,
};

use crate::clock::Clock;
use crate::engine::Engine;
use crate::mailbox::lock;
use audience::Audience;
use listener::Listener;

/// Bytes of a request, its line end included: what a group's names hold together, in hexadecimal with what belongs to it. (T32 has 64 KiB,
/// which not even one value of 64 KiB would fit in.)
const REQUEST_LEN_MAX: usize = 640 << 10;
const _: () = assert!(2 * dunlin_shards::limits::REGISTER_LEN_MAX + (64 << 10) <= REQUEST_LEN_MAX);
/// Bytes of the longest value that a command can say.
pub const WORDS_LEN_MAX: usize = 88 << 10;
const _: () = assert!(2 * WORDS_LEN_MAX + 4_096 <= REQUEST_LEN_MAX);
/// Clients that are served at once.
const CLIENTS_MAX: usize = 8;
/// Of these, who listens for as long as they like.
const LISTENERS_MAX: usize = 5;
const _: () = assert!(LISTENERS_MAX < CLIENTS_MAX);
/// Commands that hold a lock or wait for one, beside those clients: a node has no more leases than that (T12).
const LOCKS_MAX: usize = dunlin_shards::limits::LEASES_IDENTITY_MAX;
/// How long a request may take to arrive, and each line of an answer to be taken.
const LINE_WAIT: Duration = Duration::from_secs(5);

/// What an answer tells of the node beside what its engine knows.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Where it is called.
    pub uris: Vec<String>,
    /// The name of its network.
    pub network: String,
}

/// An open admin socket. Dropped, it is closed and taken away, and clients that are served are cut off.
pub struct Control {
    shared: Arc<Shared>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    engine: Engine,
    about: About,
    clock: Clock,
    stopping: AtomicBool,
    clients: AtomicUsize,
    /// Clients that hold or wait for a lock: they do not count among the others.
    lockers: AtomicUsize,
    audience: Arc<Audience>,
    /// By number, so that they can be cut off.
    streams: Mutex<Vec<(usize, UnixStream)>>,
}

impl Control {
    /// Opens the socket at `path`, for this user alone, and answers there. The socket of a node that is gone is replaced.
    ///
    /// # Errors
    /// A live node has it, something else is there, or the system refuses.
    pub fn start(engine: Engine, about: About, path: &Path) -> Result<Self, ControlError> {
        let listener = Listener::bind(path)?;
        let system = |why| ControlError::System { what: "watch it", path: path.to_owned(), why };
        let (waker, wakes) = UnixStream::pair().map_err(system)?;
        let audience = Arc::new(Audience::default());
        if let Some(network) = engine.network() {
            let audience = audience.clone();
            let pass_on = move |event| {
                audience.on_event(&event);
                Some(event)
            };
            network.on_event(pass_on).map_err(|error| ControlError::Refused(error.to_string()))?;
        }
        let shared = Arc::new(Shared {
            engine,
            about,
            clock: Clock::start(),
            stopping: AtomicBool::new(false),
            clients: AtomicUsize::new(0),
            lockers: AtomicUsize::new(0),
            audience,
            streams: Mutex::default(),
        });
        let serving = shared.clone();
        let thread = thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(move || accept_all(&serving, &listener, &wakes)).map_err(system)?;
        Ok(Self { shared, waker, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Its other end reads nothing: being closed is the word.
        let _ = self.waker.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed.
            let _ = thread.join();
        }
        self.shared.audience.close();
        for (_, stream) in lock(&self.shared.streams).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Takes connections until told to end.
fn accept_all(shared: &Arc<Shared>, listener: &Listener, wakes: &UnixStream) {
    let mut number = 0;
    while !shared.stopping.load(Ordering::SeqCst) {
        let mut waited = [PollFd::new(listener.socket(), PollFlags::IN), PollFd::new(wakes, PollFlags::IN)];
        if poll(&mut waited, None).is_err() || !waited[1].revents().is_empty() {
            // A signal, or the end: the condition says which.
            continue;
        }
        match listener.accept() {
            Ok(Some(stream)) => {
                number += 1;
                take_client(shared, stream, number);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("the admin socket: cannot take a connection: {error}");
                // Out of descriptors or memory: the connection still waits, and would be tried again at once.
                thread::sleep(LINE_WAIT / 50);
            }
        }
    }
}

/// Serves a client on a thread of its own, or tells it why not.
fn take_client(shared: &Arc<Shared>, mut stream: UnixStream, number: usize) {
    if !listener::is_trusted(&stream).unwrap_or(false) {
        let why = "only the user that the node runs as, and root, may ask it".to_owned();
        return drop(line::write(&mut stream, &Answer::Refused(why)));
    }
    if shared.clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS_MAX {
        shared.clients.fetch_sub(1, Ordering::SeqCst);
        let why = format!("{CLIENTS_MAX} commands are being served already: end one of them, or try again");
        return drop(line::write(&mut stream, &Answer::Refused(why)));
    }
    let serving = shared.clone();
    let spawned = watched(&stream, shared, number).and_then(|()| {
        let thread = thread::Builder::new().name("control-client".to_owned());
        thread.spawn(move || {
            serve::serve(&serving, stream);
            lock(&serving.streams).retain(|(other, _)| *other != number);
            serving.clients.fetch_sub(1, Ordering::SeqCst);
        })
    });
    if let Err(error) = spawned {
        tracing::warn!("the admin socket: cannot serve a client: {error}");
        lock(&shared.streams).retain(|(other, _)| *other != number);
        shared.clients.fetch_sub(1, Ordering::SeqCst);
    }
}

fn watched(stream: &UnixStream, shared: &Shared, number: usize) -> io::Result<()> {
    lock(&shared.streams).push((number, stream.try_clone()?));
    Ok(())
}
