//! Works over one stream of bytes, for the peers whose streams are no more than that.
//!
//! In:    a stream that reads and writes.
//! Out:   counts in the gauge.
//! Holds: both sides of a work are here, so that each peer that uses them does the same.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::not_done;
use crate::Fault;
use crate::gauge::Gauge;
use crate::job::{Job, Way};
use crate::load::{self, BALL_LEN, Bulk, Framer, Splitter};
use crate::works::Work;

/// Bytes read at a time.
const READ_LEN: usize = 256 << 10;

/// Whether written bytes leave by themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leaving {
    /// As soon as they are written.
    AtOnce,
    /// When the stream is flushed.
    Flushed,
}

/// The side that is called.
pub(super) async fn serve<S>(job: &Job, mut stream: S, leaving: Leaving, gauge: &Gauge) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match job.work {
        Work::Bulk { .. } => {
            let mut bulk = Bulk::default();
            drain(stream, |piece| bulk.take(gauge, piece)).await
        }
        Work::Messages { len } => {
            let mut splitter = Splitter::default();
            drain(stream, |piece| splitter.take(gauge, piece, len)).await
        }
        Work::Latency => {
            let mut ball = [0; BALL_LEN];
            loop {
                stream.read_exact(&mut ball).await?;
                throw(&mut stream, &ball, leaving).await?;
            }
        }
        Work::Handshakes { .. } | Work::Memory { .. } => Err(not_done(job)),
    }
}

async fn drain(mut stream: impl AsyncRead + Unpin, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
    let mut room = vec![0; READ_LEN];
    loop {
        let count = stream.read(&mut room).await?;
        if count == 0 {
            return Ok(());
        }
        take(&room[..count]);
    }
}

/// The side that calls.
pub(super) async fn call<S>(job: &Job, mut stream: S, leaving: Leaving, gauge: &Gauge) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match (job.work, job.way) {
        (Work::Bulk { .. }, _) => {
            let block = load::block();
            loop {
                stream.write_all(&block).await?;
            }
        }
        (Work::Messages { len }, Way::OneStream) => {
            let mut framer = Framer::new(len);
            loop {
                stream.write_all(framer.frame()).await?;
            }
        }
        (Work::Messages { len }, Way::Gathered) => {
            let mut framer = Framer::new(len);
            loop {
                stream.write_all(&framer.gather()).await?;
            }
        }
        (Work::Latency, _) => play(&mut stream, leaving, gauge).await,
        _ => Err(not_done(job)),
    }
}

async fn play<S>(stream: &mut S, leaving: Leaving, gauge: &Gauge) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ball = load::message(BALL_LEN);
    let mut echo = [0; BALL_LEN];
    loop {
        let start = Instant::now();
        throw(stream, &ball, leaving).await?;
        stream.read_exact(&mut echo).await?;
        gauge.took(start.elapsed());
        if echo[..] != ball[..] {
            gauge.fault();
        }
    }
}

async fn throw(stream: &mut (impl AsyncWrite + Unpin), ball: &[u8], leaving: Leaving) -> Result<(), Fault> {
    stream.write_all(ball).await?;
    if leaving == Leaving::Flushed {
        stream.flush().await?;
    }
    Ok(())
}
