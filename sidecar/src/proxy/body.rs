//! Answers on their way to the client. Each is bounded in time, ends when the guard must or a stop comes, and closes its record at its end,
//! whatever that end is.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use llm_guard_engine::exchange::{Ending, Flow, MAX_ANSWER_BYTES, StreamJudge, Tally, WholeJudge};

use super::budget::Share;
use super::ends::{Cause, Ends};
use super::turns::{Turn, Turns};
use super::upstream::upstream_refusal;
use crate::telemetry::metrics::{Outcome, Phase, UpstreamError};
use crate::telemetry::record::Record;

/// A body of a reply. Its error breaks the connection off, which is how a client of HTTP/1 learns that something is missing.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, BrokenOff>;

/// The answer ends before its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer is broken off")]
pub(crate) struct BrokenOff;

/// A body that is there as a whole.
pub(super) fn whole(bytes: Bytes) -> ReplyBody {
    UnsyncBoxBody::new(Full::new(bytes).map_err(|never: Infallible| match never {}))
}

/// A body that keeps something until it is at its end, or nobody wants the rest of it.
struct Holding<T> {
    body: ReplyBody,
    _held: T,
}

/// Keeps `held` until the body is gone.
pub(super) fn holding(body: ReplyBody, held: impl Unpin + Send + 'static) -> ReplyBody {
    UnsyncBoxBody::new(Holding { body, _held: held })
}

impl<T: Unpin> Body for Holding<T> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What ends an answer that doesn't end by itself.
pub(super) struct Limits {
    pub(super) deadline: tokio::time::Instant,
    pub(super) silence: Duration,
    pub(super) ends: Ends,
    pub(super) turns: Turns,
}

impl Limits {
    /// The next frame of the model server's answer.
    pub(super) async fn next(&self, body: &mut Incoming) -> Result<Option<Frame<Bytes>>, UpstreamError> {
        let now = tokio::time::Instant::now();
        // A server that always has more to say would never be waited for.
        if now >= self.deadline {
            return Err(UpstreamError::TimedOut);
        }
        let until = self.deadline.min(now + self.silence);
        match tokio::time::timeout_at(until, body.frame()).await {
            Err(_) => Err(UpstreamError::TimedOut),
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame)),
            Ok(Some(Err(_))) => Err(UpstreamError::Broken),
        }
    }

    /// Waits for a turn to judge so many bytes of what arrived, unless a stop comes first, or the time is over.
    async fn turn(&self, work: usize, arrival: Arrival) -> (Turn, Arrival) {
        let mut ends = self.ends.clone();
        tokio::select! {
            biased;
            turn = self.turns.of(work) => (turn, arrival),
            cause = ends.come() => (Turn::NONE, Arrival::Stopped(cause)),
            () = tokio::time::sleep_until(self.deadline) => (Turn::NONE, Arrival::Failed(UpstreamError::TimedOut)),
        }
    }

    async fn next_or_stop(&mut self, body: &mut Incoming) -> Arrival {
        if let Some(cause) = self.ends.came() {
            return Arrival::Stopped(cause);
        }
        let mut ends = self.ends.clone();
        tokio::select! {
            biased;
            next = self.next(body) => match next {
                Ok(Some(frame)) => Arrival::Frame(frame),
                Ok(None) => Arrival::End,
                Err(error) => Arrival::Failed(error),
            },
            cause = ends.come() => Arrival::Stopped(cause),
        }
    }
}

enum Arrival {
    Frame(Frame<Bytes>),
    End,
    Failed(UpstreamError),
    Stopped(Cause),
}

/// What looks at the answer while it passes.
enum Reader {
    /// Nobody; why, where bytes should have been judged.
    Nobody(Option<&'static str>, Tally),
    /// What comes out of the judge goes to the client.
    Judge(Box<StreamJudge>),
    /// The original goes to the client.
    Observer(Box<StreamJudge>),
    /// The original goes to the client, and is judged at its end.
    /// (Nothing is kept of one that is too large, or for which there is no room.)
    WholeObserver(Box<WholeJudge>, Option<(BytesMut, Share)>),
}

/// An answer that is open, without its record yet.
pub(super) struct OpenBody {
    body: Incoming,
    reader: Reader,
    limits: Limits,
}

/// An answer that nobody judges; `reason` says why, where it should have been.
pub(super) fn passing(body: Incoming, reason: Option<&'static str>, limits: Limits) -> OpenBody {
    OpenBody { body, reader: Reader::Nobody(reason, Tally::default()), limits }
}

/// An answer of which the client sees what the judge lets through.
pub(super) fn judged(body: Incoming, judge: Box<StreamJudge>, limits: Limits) -> OpenBody {
    OpenBody { body, reader: Reader::Judge(judge), limits }
}

/// An answer that passes as it is while the judge counts.
pub(super) fn observed(body: Incoming, judge: Box<StreamJudge>, limits: Limits) -> OpenBody {
    OpenBody { body, reader: Reader::Observer(judge), limits }
}

/// The same for an answer that is one value.
pub(super) fn observed_whole(body: Incoming, judge: Box<WholeJudge>, share: Share, limits: Limits) -> OpenBody {
    OpenBody { body, reader: Reader::WholeObserver(judge, Some((BytesMut::new(), share))), limits }
}

impl OpenBody {
    /// The body, whose record closes when it ends.
    pub(super) fn recorded_by(self, mut record: Record) -> ReplyBody {
        let Self { body, mut reader, limits } = self;
        if let Reader::Nobody(_, tally) = &mut reader {
            *tally = std::mem::take(&mut record.tally);
        }
        record.streams();
        let has_nothing = body.is_end_stream();
        let mut answer = Answer { body, reader, limits, record: Some(record), scrap: Vec::new() };
        if has_nothing && !matches!(answer.reader, Reader::Judge(_)) {
            // Nobody asks for the body of an answer that has none.
            answer.take(Arrival::End);
            return whole(Bytes::new());
        }
        let frames = futures_util::stream::unfold(answer, |mut answer| async move {
            let next = answer.next().await;
            next.map(|frame| (frame, answer))
        });
        let frames: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(frames);
        UnsyncBoxBody::new(StreamBody::new(frames))
    }
}

struct Answer {
    body: Incoming,
    reader: Reader,
    limits: Limits,
    /// Until the end; when the client goes away first, dropping says so.
    record: Option<Record>,
    scrap: Vec<u8>,
}

impl Answer {
    /// The next frame for the client.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        // A frame may leave nothing to say, so that the next one must be waited for.
        while self.record.is_some() {
            let arrival = self.limits.next_or_stop(&mut self.body).await;
            let breaks_off = matches!(arrival, Arrival::Failed(_) | Arrival::Stopped(_)) && !matches!(self.reader, Reader::Judge(_));
            if breaks_off {
                // Lets the client have what came before, which would be thrown away with the connection.
                tokio::task::yield_now().await;
            }
            let work = self.work(&arrival);
            let (turn, arrival) = self.limits.turn(work, arrival).await;
            let frame = turn.take(|| self.take(arrival));
            // Where the client was told a length, nobody asks for more once it is reached: the end must be seen with the last byte.
            if !matches!(self.reader, Reader::Judge(_)) && self.body.is_end_stream() {
                // (All of it has come: it ended well, however long it waits to be judged.)
                let work = self.work(&Arrival::End);
                self.limits.turns.of(work).await.take(|| self.take(Arrival::End));
            }
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    /// How many bytes are to be judged with what arrived.
    fn work(&self, arrival: &Arrival) -> usize {
        match (&self.reader, arrival) {
            (Reader::Judge(judge) | Reader::Observer(judge), Arrival::Frame(frame)) => {
                frame.data_ref().map_or(0, Bytes::len) + judge.call_bytes()
            }
            (Reader::WholeObserver(_, Some((bytes, _))), Arrival::End) => bytes.len(),
            _ => 0,
        }
    }

    fn take(&mut self, arrival: Arrival) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        let since = Instant::now();
        let mut end = None;
        if let (Some(record), Arrival::Frame(frame)) = (&mut self.record, &arrival)
            && let Some(data) = frame.data_ref()
        {
            record.heard(data);
        }
        let frame = match (&mut self.reader, arrival) {
            (Reader::Judge(judge), Arrival::Frame(frame)) => {
                let mut out = Vec::new();
                // Trailers carry nothing that these APIs use, and can't be judged.
                if let Ok(data) = frame.into_data()
                    && judge.push(&data, &mut out) == Flow::Ended
                {
                    end = Some(outcome(judge));
                }
                Ok(out)
            }
            (Reader::Judge(judge), Arrival::End) => {
                let mut out = Vec::new();
                judge.finish(&mut out);
                end = Some(outcome(judge));
                Ok(out)
            }
            (Reader::Judge(judge), Arrival::Failed(error)) => {
                let mut out = Vec::new();
                judge.abort(&upstream_refusal(error), Ending::Broken, &mut out);
                end = Some(Outcome::UpstreamFailed);
                self.note(error);
                Ok(out)
            }
            (Reader::Judge(judge), Arrival::Stopped(cause)) => {
                let mut out = Vec::new();
                judge.abort(&cause.refusal(), Ending::Refused, &mut out);
                end = Some(Outcome::Stopped);
                Ok(out)
            }
            (_, Arrival::Frame(frame)) => {
                if let Some(data) = frame.data_ref() {
                    observe(&mut self.reader, data, &mut self.scrap);
                }
                Err(Ok(frame))
            }
            (reader, Arrival::End) => {
                end = Some(Outcome::Answered);
                match reader {
                    Reader::Observer(judge) => {
                        self.scrap.clear();
                        judge.finish(&mut self.scrap);
                    }
                    Reader::WholeObserver(judge, Some((bytes, _))) => {
                        let _ = judge.judge(bytes);
                    }
                    _ => {}
                }
                Ok(Vec::new())
            }
            (_, Arrival::Failed(error)) => {
                end = Some(Outcome::UpstreamFailed);
                self.note(error);
                Err(Err(BrokenOff))
            }
            (_, Arrival::Stopped(_)) => {
                end = Some(Outcome::Stopped);
                Err(Err(BrokenOff))
            }
        };
        let record = self.record.as_mut()?;
        record.worked(Phase::Answer, since);
        let frame = match frame {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => Some(Ok(Frame::data(Bytes::from(bytes)))),
            Err(original) => Some(original),
        };
        if let Some(Ok(frame)) = &frame {
            record.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        if let Some(outcome) = end {
            self.close(outcome);
        }
        frame
    }

    fn note(&self, error: UpstreamError) {
        if let Some(record) = &self.record {
            record.metrics().upstream_error(error);
        }
    }

    fn tally(&mut self) -> Tally {
        match &mut self.reader {
            Reader::Nobody(_, tally) => std::mem::take(tally),
            Reader::Judge(judge) | Reader::Observer(judge) => std::mem::take(judge.tally()),
            Reader::WholeObserver(judge, _) => std::mem::take(judge.tally()),
        }
    }

    fn close(&mut self, outcome: Outcome) {
        let tally = self.tally();
        if let Some(record) = self.record.take() {
            record.close(outcome, tally);
        }
    }
}

fn outcome(judge: &StreamJudge) -> Outcome {
    match judge.ending() {
        None | Some(Ending::Said) => Outcome::Answered,
        Some(Ending::Refused) => Outcome::Refused,
        Some(Ending::Broken) => Outcome::UpstreamFailed,
    }
}

fn observe(reader: &mut Reader, data: &Bytes, scrap: &mut Vec<u8>) {
    match reader {
        Reader::Nobody(Some(reason), tally) => tally.uninspected(reason, data.len()),
        Reader::Nobody(None, _) | Reader::Judge(_) => {}
        Reader::Observer(judge) => {
            scrap.clear();
            judge.push(data, scrap);
        }
        Reader::WholeObserver(judge, kept) => {
            let before = kept.as_ref().map_or(0, |(bytes, _)| bytes.len());
            let length = before + data.len();
            match kept.take() {
                Some((mut bytes, mut share)) if length <= MAX_ANSWER_BYTES => {
                    if share.hold(length).is_ok() {
                        bytes.extend_from_slice(data);
                        *kept = Some((bytes, share));
                    } else {
                        judge.tally().uninspected("memory", length);
                    }
                }
                read => {
                    if read.is_some() {
                        judge.is_too_large();
                    }
                    judge.tally().uninspected("answer_too_large", length);
                }
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.close(Outcome::ClientGone);
    }
}
