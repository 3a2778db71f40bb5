//! Two nodes in one process: one answers, the other asks.
use dunlin::{Config, Engine, Event};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = || Config::default().listen("127.0.0.1:0".parse().expect("an address")).cores(1);
    let server = Engine::builder(config()).ephemeral().start()?;
    let client = Engine::builder(config()).ephemeral().start()?;

    let uri = format!("dunlin://{}@{}", server.id(), server.local_addr());
    let answering = std::thread::spawn(move || {
        let Event::Accepted(peer) = server.next_event() else { return };
        while let Ok(message) = peer.recv() {
            let _ = peer.send(&message);
        }
    });
    let peer = client.connect(&uri)?;
    peer.send(b"hello")?;
    println!("{}", String::from_utf8_lossy(&peer.recv()?));
    peer.close(0);
    answering.join().map_err(|_| "the server panicked")?;
    Ok(())
}
