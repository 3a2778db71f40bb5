//! Connections that come and go, and connections that stay, for the peers that have tasks.
//!
//! In:    how to connect.
//! Out:   counts in the gauge.
//! Holds: whatever is told is told after the gauge is ready.

use crate::Fault;
use crate::gauge::Gauge;

/// So many tasks, each of which connects and closes, again and again: `visit` does it once.
pub(super) async fn shake<V, F>(parallel: usize, gauge: &Gauge, visit: V) -> Result<(), Fault>
where
    V: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..parallel {
        let visit = visit.clone();
        tasks.spawn(async move {
            loop {
                visit().await?;
            }
        });
    }
    gauge.ready("");
    match tasks.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// Connections that stay, one opened after the other.
pub(super) async fn stay<C>(
    connections: usize,
    gauge: &Gauge,
    mut connect: impl AsyncFnMut() -> Result<C, Fault>,
) -> Result<(), Fault> {
    gauge.ready("");
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        held.push(connect().await?);
        gauge.connected();
    }
    std::future::pending::<()>().await;
    drop(held);
    Ok(())
}
