//! One exchange: accept → identify → decode → judge → encode → forward → decode events → judge → encode → reply → record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use llm_guard_engine::controls::Caller;
use llm_guard_engine::detect::secrets::{Kind, SecretRules};
use llm_guard_engine::exchange::{
    AnswerHead, AnswerPlan, Exchange, Forward, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Next, RequestHead, Tally, Unpacked, WholeJudge,
    answer_too_large,
};
use llm_guard_engine::policy::Mode;
use llm_guard_engine::verdict::{ControlId, Refusal};
use llm_guard_engine::wire::whereabouts::Places;
use tokio::time::timeout_at;

use super::Times;
use super::body::{self, ReplyBody};
use super::browsers::{self, ANYWHERE, QUESTION_TIME};
use super::budget::{Budget, Share};
use super::catalogue::{Catalogue, Question};
use super::drain::{DrainWatch, Stage, reached};
use super::ends::{Cause, Ends};
use super::host::{Meaning, StandIn};
use super::turns::{LARGE, Turns};
use super::upstream::{RequestBody, Upstream, upstream_refusal};
use crate::identity::ApiKey;
use crate::settings::InForce;
use crate::telemetry::metrics::{Metrics, Outcome, Phase, UpstreamError};
use crate::telemetry::record::{Record, Recorder};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ACTION: HeaderName = HeaderName::from_static("x-llm-guard-action");
const REASON: HeaderName = HeaderName::from_static("x-llm-guard-reason");

/// Fields that belong to one connection (RFC 9110, section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields that are for the server, also where `Connection` names them (RFC 9110, section 7.6.1): who takes one out hides it from a check.
const END_TO_END: [HeaderName; 6] =
    [header::HOST, header::ORIGIN, header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LENGTH];

/// What a proxy before the guard would say of the client, and a client says as well. Ollama puts the prefix into its redirects.
const SAID_BY_PROXIES: [HeaderName; 4] = [
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// What the client is told where the budget is spent.
const CROWDED: &str = "the guard holds as much of other requests as it may; try again";

/// What an exchange needs.
pub(crate) struct Proxy {
    pub(super) budget: Budget,
    pub(super) turns: Turns,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) upstream: Upstream,
    pub(super) policy: Arc<InForce>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) api_key: Option<ApiKey>,
    pub(super) stand_in: Option<StandIn>,
    pub(super) times: Times,
    pub(super) drain: DrainWatch,
    /// Clients may connect.
    pub(super) listening: AtomicBool,
}

/// An exchange that ends here: how, and what the client is told.
struct End {
    outcome: Outcome,
    refusal: Refusal,
}

impl End {
    fn refused(refusal: Refusal) -> Self {
        Self { outcome: Outcome::Refused, refusal }
    }

    fn stopped(cause: Cause) -> Self {
        Self { outcome: Outcome::Stopped, refusal: cause.refusal() }
    }

    fn upstream(error: UpstreamError) -> Self {
        Self { outcome: Outcome::UpstreamFailed, refusal: upstream_refusal(error) }
    }
}

/// A request as it goes on to the model server.
struct Outgoing {
    path: PathAndQuery,
    body: OutgoingBody,
    /// The memory that the body takes, until it is sent.
    _share: Option<Share>,
}

enum OutgoingBody {
    /// It is there as a whole, so it can be sent a second time.
    Whole(Bytes),
    /// It goes on arriving.
    Passing(RequestBody),
}

impl Proxy {
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        self.recorder.metrics()
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    /// Serves one request. `is_ambiguous`: two readers of its head could take it for two requests, or send it to two hosts.
    pub(super) async fn exchange(&self, peer: SocketAddr, request: Request<Incoming>, is_ambiguous: bool) -> Response<ReplyBody> {
        let (parts, mut body) = request.into_parts();
        let request_id = request_id(&parts.headers);
        let content_encoding = combined(&parts.headers, &header::CONTENT_ENCODING);
        let head = RequestHead {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            content_type: only(&parts.headers, &header::CONTENT_TYPE),
            content_encoding: content_encoding.as_deref(),
            caller: Caller { over_loopback: is_own_loopback(peer.ip().to_canonical()) },
        };
        let current = self.policy.now();
        let (mut exchange, next) = Exchange::begin_beside(Arc::clone(&current.policy), current.shadow.clone(), &head);
        let mut record = Record::open(&self.recorder, request_id, &parts.method, exchange.route_name(), exchange.mode());
        record.begins(&head);
        if let Some(refusal) = unreadable(&parts.headers, is_ambiguous) {
            let mut response = reply_error(record, exchange, End::refused(refusal));
            // Where the body ends is what can't be known.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        let enforced = exchange.mode() > Mode::Monitor;
        let upstream = self.upstream.seen_from(peer.ip());
        let (fields, answered) = match self.stand_in.as_ref().map(|stand_in| stand_in.meet(&parts, enforced)) {
            None => (HeaderMap::new(), None),
            Some(Meaning::GoesOn(fields)) => (fields, None),
            Some(Meaning::Answered(response)) => (HeaderMap::new(), Some(response)),
        };
        let server_decides = enforced && self.stand_in.is_none();
        let mut response = if current.stop {
            self.discard_unless_ended(&mut body).await;
            let refusal = exchange.stop();
            reply_error(record, exchange, End::refused(refusal))
        } else if let Some(response) = answered {
            self.discard_unless_ended(&mut body).await;
            reply_as_it_is(record, response)
        } else if let Some((path, asked)) = browsers::preflight(&parts).filter(|_| server_decides) {
            match self.unless_stopped(self.ask_server(upstream, Method::OPTIONS, path, asked)).await {
                Ok(said) => reply_as_it_is(record, preflight_answer(&mut exchange, &said)),
                Err(end) => reply_error(record, exchange, end),
            }
        } else if let Err(refusal) = self.let_in(&mut exchange, &parts, upstream).await {
            self.discard_unless_ended(&mut body).await;
            reply_error(record, exchange, End::refused(refusal))
        } else {
            self.carry_on(exchange, record, next, &parts, body, upstream).await
        };
        response.headers_mut().extend(fields);
        if server_decides
            && response.extensions_mut().remove::<Refused>().is_some()
            && let Some(asked) = browsers::whose(&parts)
            // A page may read why it was refused where it might have read the server's answer.
            && let Ok(said) = self.ask_server(upstream, Method::HEAD, ANYWHERE, asked).await
        {
            let mut word = browsers::word(&said.headers);
            word.remove(header::ALLOW);
            response.headers_mut().extend(word);
        }
        response
    }

    /// Whether a page may ask whose own name was asked for. (In monitor it may, and is counted.)
    async fn let_in(&self, exchange: &mut Exchange, parts: &Parts, upstream: &Upstream) -> Result<(), Refusal> {
        // Where the guard stands in for the server, it has decided that by itself.
        let rebound = browsers::whose(parts).filter(|_| self.stand_in.is_none() && browsers::is_rebound(parts));
        let Some(asked) = rebound else { return Ok(()) };
        if exchange.mode() > Mode::Monitor
            && let Ok(said) = self.ask_server(upstream, Method::HEAD, ANYWHERE, browsers::of_itself(asked)).await
            && browsers::lets_in(said.status, &said.headers)
        {
            return Ok(());
        }
        exchange.violation(ControlId::Protocol, "rebound_origin", 403, "rebound_origin", browsers::REBOUND)
    }

    /// Asks the server in the guard's own name, without a body, and gives the head of what it says.
    async fn ask_server(
        &self,
        upstream: &Upstream,
        method: Method,
        path: &'static str,
        fields: HeaderMap,
    ) -> Result<http::response::Parts, End> {
        let target = upstream.target(PathAndQuery::from_static(path)).map_err(|_| self.failed(UpstreamError::Broken))?;
        let mut request = Request::new(RequestBody::default());
        *request.method_mut() = method;
        *request.uri_mut() = target;
        *request.headers_mut() = fields;
        let until = tokio::time::Instant::now() + QUESTION_TIME.min(self.times.silence);
        let said = upstream.send(request, || None).await_within(until).await;
        said.unwrap_or(Err(UpstreamError::TimedOut)).map(|said| said.into_parts().0).map_err(|error| self.failed(error))
    }

    /// What comes after the head.
    async fn carry_on(
        &self,
        mut exchange: Exchange,
        mut record: Record,
        next: Next,
        parts: &Parts,
        body: Incoming,
        upstream: &Upstream,
    ) -> Response<ReplyBody> {
        // One time limit over everything, the client's body and the model's answer alike.
        let deadline = tokio::time::Instant::now() + self.times.request;

        let outgoing = match self.unless_ended(self.judge_request(&mut exchange, &mut record, next, parts, body)).await {
            Ok(outgoing) => outgoing,
            Err(end) => return reply_error(record, exchange, end),
        };
        let placing = self.judge_place(&mut exchange, parts, outgoing, upstream, deadline);
        let outgoing = match self.unless_stopped(placing).await {
            Ok(outgoing) => outgoing,
            Err(end) => return reply_error(record, exchange, end),
        };
        // Its body may have taken a minute to arrive. A stop that came meanwhile holds for it, too.
        if self.policy.now().stop {
            let refusal = exchange.stop();
            return reply_error(record, exchange, End::refused(refusal));
        }
        let changing = exchange.changes_models().then(|| self.catalogue.changing());
        let answer = match self.unless_stopped(self.forward(&exchange, record.request_id(), parts, outgoing, upstream, deadline)).await {
            Ok(answer) => answer,
            Err(end) => return reply_error(record, exchange, end),
        };
        let reply = self.reply(exchange, record, answer, deadline).await;
        match changing {
            Some(changing) => reply.map(|body| body::holding(body, changing)),
            None => reply,
        }
    }

    /// Judges where the request's model runs, as the model server says.
    async fn judge_place(
        &self,
        exchange: &mut Exchange,
        parts: &Parts,
        outgoing: Outgoing,
        upstream: &Upstream,
        deadline: tokio::time::Instant,
    ) -> Result<Outgoing, End> {
        let mut places = Places::default();
        while let Some(model) = exchange.must_locate(&places) {
            let mut headers = HeaderMap::new();
            // A server that lets in only those who have a key has to let in the question as well.
            if let Some(key) = parts.headers.get(header::AUTHORIZATION).filter(|_| self.api_key.is_none()) {
                headers.insert(header::AUTHORIZATION, key.clone());
            }
            if let Some(stand_in) = &self.stand_in {
                stand_in.rewrite(&mut headers);
            }
            let question = Question { upstream, outside: !std::ptr::eq(upstream, &raw const self.upstream), headers, deadline };
            let place = self.catalogue.locate(&model, &question).await.map_err(|error| self.failed(error))?;
            places.put(model, place);
        }
        let body = match &outgoing.body {
            OutgoingBody::Whole(bytes) => &bytes[..],
            OutgoingBody::Passing(_) => &[],
        };
        match exchange.judge_place(&places, body).map_err(End::refused)? {
            Some(Forward::Encoded { path, body }) => {
                let path = path.parse().map_err(|_| End::refused(unforwardable()))?;
                Ok(Outgoing { path, body: OutgoingBody::Whole(body.into()), ..outgoing })
            }
            Some(Forward::Original) | None => Ok(outgoing),
        }
    }

    /// Does what takes in the client's body, unless the guard has to end before it is done. (A client that still writes may not read.)
    async fn unless_ended<T>(&self, part: impl Future<Output = Result<T, End>>) -> Result<T, End> {
        let mut drain = self.drain.clone();
        tokio::select! {
            biased;
            done = part => done,
            () = reached(&mut drain, Stage::Forced) => Err(End::stopped(Cause::Drain)),
        }
    }

    /// Does a later part of an exchange, unless the guard has to end, or a stop comes, before it is done.
    async fn unless_stopped<T>(&self, part: impl Future<Output = Result<T, End>>) -> Result<T, End> {
        let mut ends = self.ends();
        tokio::select! {
            biased;
            done = part => done,
            cause = ends.come() => Err(End::stopped(cause)),
        }
    }

    fn ends(&self) -> Ends {
        Ends { drain: self.drain.clone(), stop: self.policy.stops() }
    }

    /// Counts a failure of the model server, which ends the exchange.
    fn failed(&self, error: UpstreamError) -> End {
        self.metrics().upstream_error(error);
        End::upstream(error)
    }

    /// Identify, decode, judge, encode.
    async fn judge_request(
        &self,
        exchange: &mut Exchange,
        record: &mut Record,
        next: Next,
        parts: &Parts,
        mut body: Incoming,
    ) -> Result<Outgoing, End> {
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let admitted = self.identify(exchange, &parts.headers);
        let refused = match (admitted, next) {
            (Err(refusal), _) | (Ok(()), Next::Refuse(refusal)) => refusal,
            (Ok(()), Next::Pass) => {
                let metrics = Arc::clone(record.metrics());
                let body = body.map_frame(move |frame| {
                    metrics.uninspected("route", frame.data_ref().map_or(0, Bytes::len));
                    frame
                });
                return Ok(Outgoing { path, body: OutgoingBody::Passing(body.boxed()), _share: None });
            }
            (Ok(()), Next::ReadBody) => {
                let mut share = self.budget.share();
                let bytes = match self.read_body(exchange, &mut body, &mut share).await? {
                    Read::All(bytes) => bytes,
                    Read::TooMuch(begun) => {
                        record.is_unread();
                        exchange.tally.uninspected("request_too_large", begun.len());
                        return Ok(Outgoing { path, body: OutgoingBody::Passing(begun_then(begun, body)), _share: Some(share) });
                    }
                };
                // (How much is packed in it isn't known.)
                let is_packed = parts.headers.contains_key(header::CONTENT_ENCODING);
                let turn = self.turns.of(if is_packed { LARGE } else { bytes.len() }).await;
                return turn.take(|| judge_body(exchange, record, path, bytes, share));
            }
        };
        self.discard(&mut body).await;
        Err(End::refused(refused))
    }

    fn identify(&self, exchange: &mut Exchange, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.api_key {
            Some(key) if !key.is_in(headers) => exchange.violation(
                ControlId::Identity,
                "api_key",
                401,
                "invalid_api_key",
                "an API key is required: Authorization: Bearer KEY",
            ),
            _ => Ok(()),
        }
    }

    async fn read_body(&self, exchange: &mut Exchange, body: &mut Incoming, share: &mut Share) -> Result<Read, End> {
        let deadline = tokio::time::Instant::now() + self.times.body;
        let mut whole = BytesMut::new();
        let mut only: Option<Bytes> = None;
        loop {
            let frame = match timeout_at(deadline, body.frame()).await {
                Err(_) => {
                    let refusal = Refusal {
                        status: 408,
                        code: "request_timeout",
                        message: "the request's body didn't arrive in time".into(),
                        control: ControlId::Limits,
                    };
                    return Err(End::refused(refusal));
                }
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    let refusal = Refusal {
                        status: 400,
                        code: "incomplete_body",
                        message: "the request's body broke off".into(),
                        control: ControlId::Protocol,
                    };
                    return Err(End { outcome: Outcome::ClientGone, refusal });
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            // Most bodies are one piece, which needn't be copied.
            match only.take() {
                None if whole.is_empty() => only = Some(data),
                Some(first) => {
                    whole.extend_from_slice(&first);
                    whole.extend_from_slice(&data);
                }
                None => whole.extend_from_slice(&data),
            }
            let length = whole.len().max(only.as_ref().map_or(0, Bytes::len));
            if share.hold(length).is_err() {
                exchange.violation(ControlId::Limits, "memory", 503, "memory", CROWDED).map_err(End::refused)?;
                return Ok(Read::TooMuch(only.unwrap_or_else(|| whole.freeze())));
            }
            if length > MAX_REQUEST_BYTES {
                let message = "the request's body is larger than 32 MiB";
                let allowed = exchange.violation(ControlId::Limits, "request_too_large", 413, "request_too_large", message);
                if let Err(refusal) = allowed {
                    self.discard(body).await;
                    return Err(End::refused(refusal));
                }
                return Ok(Read::TooMuch(only.unwrap_or_else(|| whole.freeze())));
            }
        }
        Ok(Read::All(only.unwrap_or_else(|| whole.freeze())))
    }

    /// Takes in what a client still writes, within bounds: many read no reply before they have written all.
    async fn discard(&self, body: &mut Incoming) {
        let mut left = MAX_REQUEST_BYTES;
        let all = async {
            while let Some(Ok(frame)) = body.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(self.times.body, all).await;
    }

    async fn discard_unless_ended(&self, body: &mut Incoming) {
        let discarded = async {
            self.discard(body).await;
            Ok(())
        };
        let _ = self.unless_ended(discarded).await;
    }

    async fn forward(
        &self,
        exchange: &Exchange,
        request_id: &str,
        parts: &Parts,
        outgoing: Outgoing,
        upstream: &Upstream,
        deadline: tokio::time::Instant,
    ) -> Result<Response<Incoming>, End> {
        let target = upstream.target(outgoing.path).map_err(|_| self.failed(UpstreamError::Broken))?;
        let enforced = exchange.mode() > Mode::Monitor;
        let mut headers = request_headers(&parts.headers, enforced, enforced && self.api_key.is_some());
        if parts.version < Version::HTTP_11 && !headers.contains_key(header::HOST) {
            // It needed none, and goes on in a version that does.
            headers.insert(header::HOST, HeaderValue::from_static(""));
        }
        if let Some(stand_in) = &self.stand_in {
            stand_in.rewrite(&mut headers);
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        let make = |body: RequestBody| {
            let mut request = Request::new(body);
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = target.clone();
            *request.version_mut() = Version::HTTP_11;
            *request.headers_mut() = headers.clone();
            request
        };
        let whole = |bytes: &Bytes| make(Full::new(bytes.clone()).map_err(|never| match never {}).boxed());
        let sent = match outgoing.body {
            // While the client is still writing, silence is not the server's.
            OutgoingBody::Passing(body) => {
                let mut request = make(body);
                // What is wrapped around the body hides its length, and chunks are not what the client sent.
                let length = parts.headers.get(header::CONTENT_LENGTH).filter(|_| !parts.headers.contains_key(header::TRANSFER_ENCODING));
                if let Some(length) = length {
                    request.headers_mut().insert(header::CONTENT_LENGTH, length.clone());
                }
                upstream.send(request, || None).await_within(deadline).await
            }
            OutgoingBody::Whole(bytes) => {
                let until = deadline.min(tokio::time::Instant::now() + self.times.silence);
                upstream.send(whole(&bytes), || Some(whole(&bytes))).await_within(until).await
            }
        };
        sent.unwrap_or(Err(UpstreamError::TimedOut)).map_err(|error| self.failed(error))
    }

    /// Decode events, judge, encode, reply.
    async fn reply(
        &self,
        mut exchange: Exchange,
        mut record: Record,
        answer: Response<Incoming>,
        deadline: tokio::time::Instant,
    ) -> Response<ReplyBody> {
        record.held_to(exchange.policy());
        let (mut parts, body) = answer.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        if exchange.mode() > Mode::Monitor {
            judge_headers(&mut exchange, &mut parts.headers);
        } else {
            parts.headers.values().for_each(|value| exchange.look_at_header(&String::from_utf8_lossy(value.as_bytes())));
        }
        let content_encoding = combined(&parts.headers, &header::CONTENT_ENCODING);
        let head = AnswerHead {
            status: parts.status.as_u16(),
            content_type: parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()),
            content_encoding: content_encoding.as_deref(),
            is_empty: body.is_end_stream(),
        };
        record.answered(&head);
        let plan = match exchange.open_answer(&head) {
            Ok(plan) => plan,
            Err(refusal) => return reply_error(record, exchange, End { outcome: Outcome::UpstreamFailed, refusal }),
        };
        let enforced = exchange.mode() > Mode::Monitor;
        let limits = body::Limits { deadline, silence: self.times.silence, ends: self.ends(), turns: self.turns.clone() };
        let mut done = None;
        let reply = match plan {
            AnswerPlan::Pass(reason) => {
                record.tally = std::mem::take(&mut exchange.tally);
                Ok(body::passing(body, reason, limits))
            }
            AnswerPlan::Stream(judge) if enforced => {
                parts.headers.remove(header::CONTENT_LENGTH);
                let mut judge = judge;
                note_actions(&mut parts.headers, judge.tally().headers());
                Ok(body::judged(body, judge, limits))
            }
            AnswerPlan::Stream(judge) => Ok(body::observed(body, judge, limits)),
            AnswerPlan::Whole(judge) if !enforced => Ok(body::observed_whole(body, judge, self.budget.share(), limits)),
            AnswerPlan::Whole(mut judge) => match self.unless_stopped(self.read_answer(body, &limits)).await {
                Err(end) => {
                    exchange.tally = std::mem::take(judge.tally());
                    return reply_error(record, exchange, end);
                }
                Ok(bytes) => {
                    if let WholeAnswer::Bytes(bytes, _) = &bytes {
                        record.heard(bytes);
                    }
                    let turn = match self.unless_stopped(async { Ok(self.turns.of(bytes.len()).await) }).await {
                        Ok(turn) => turn,
                        Err(end) => {
                            exchange.tally = std::mem::take(judge.tally());
                            return reply_error(record, exchange, end);
                        }
                    };
                    let since = Instant::now();
                    let judged = turn.take(|| judge_whole(&mut judge, bytes));
                    record.worked(Phase::Answer, since);
                    let tally = std::mem::take(judge.tally());
                    match judged {
                        Err(refusal) => {
                            exchange.tally = tally;
                            return reply_error(record, exchange, End::refused(refusal));
                        }
                        Ok(bytes) => {
                            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                            note_actions(&mut parts.headers, tally.headers());
                            done = Some(tally);
                            Err(bytes)
                        }
                    }
                }
            },
        };
        if let Ok(id) = HeaderValue::from_str(record.request_id()) {
            parts.headers.insert(REQUEST_ID, id);
        }
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        record.answers(parts.status);
        let body = match reply {
            Ok(open) => open.recorded_by(record),
            Err(bytes) => {
                record.sent(bytes.len());
                record.close(Outcome::Answered, done.unwrap_or_default());
                body::whole(bytes)
            }
        };
        Response::from_parts(parts, body)
    }

    async fn read_answer(&self, mut body: Incoming, limits: &body::Limits) -> Result<WholeAnswer, End> {
        let (mut whole, mut share) = (BytesMut::new(), self.budget.share());
        while let Some(frame) = limits.next(&mut body).await.map_err(|error| self.failed(error))? {
            if let Ok(data) = frame.into_data() {
                if whole.len() + data.len() > MAX_ANSWER_BYTES {
                    return Ok(WholeAnswer::TooLarge);
                }
                whole.extend_from_slice(&data);
                if share.hold(whole.len()).is_err() {
                    let refusal = Refusal { status: 503, code: "memory", message: CROWDED.into(), control: ControlId::Limits };
                    return Err(End::refused(refusal));
                }
            }
        }
        Ok(WholeAnswer::Bytes(whole.freeze(), share))
    }
}

/// A field's value can say what a body may not; and what the guard did, the guard alone says.
fn judge_headers(exchange: &mut Exchange, headers: &mut HeaderMap) {
    for name in [ACTION, REASON] {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        // Bytes that are no text can't be a value that anything looks for.
        let judged = exchange.judge_header(&String::from_utf8_lossy(value.as_bytes()));
        if let Some(judged) = judged.and_then(|judged| HeaderValue::from_bytes(judged.as_bytes()).ok()) {
            *value = judged;
        }
    }
}

/// A mesh brings in what comes from outside under other addresses of 127.0.0.0/8.
fn is_own_loopback(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

enum Read {
    All(Bytes),
    /// More than may be judged: what has arrived so far.
    TooMuch(Bytes),
}

/// What could be read of a judged answer.
enum WholeAnswer {
    /// The bytes, and the memory that they take until they are judged.
    Bytes(Bytes, Share),
    TooLarge,
}

impl WholeAnswer {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes, _) => bytes.len(),
            Self::TooLarge => 0,
        }
    }
}

/// Decode, judge, encode: a request's body that is there.
fn judge_body(exchange: &mut Exchange, record: &mut Record, path: PathAndQuery, bytes: Bytes, mut share: Share) -> Result<Outgoing, End> {
    let since = Instant::now();
    let unpacked = exchange.unpack(&bytes, &mut |more| share.hold(bytes.len() + more).is_ok()).map_err(End::refused)?;
    let plain = match unpacked {
        Unpacked::AsItCame => bytes.clone(),
        Unpacked::Bytes(plain) => plain.into(),
        Unpacked::Unread => {
            record.is_unread();
            return Ok(Outgoing { path, body: OutgoingBody::Whole(bytes), _share: Some(share) });
        }
    };
    record.asked(&plain);
    let judged = exchange.judge_request(&plain);
    record.worked(Phase::Request, since);
    match judged.map_err(End::refused)? {
        Forward::Original => Ok(Outgoing { path, body: OutgoingBody::Whole(bytes), _share: Some(share) }),
        Forward::Encoded { path, body } => {
            let path = path.parse().map_err(|_| End::refused(unforwardable()))?;
            Ok(Outgoing { path, body: OutgoingBody::Whole(body.into()), _share: Some(share) })
        }
    }
}

fn judge_whole(judge: &mut WholeJudge, answer: WholeAnswer) -> Result<Bytes, Refusal> {
    match answer {
        WholeAnswer::Bytes(bytes, _share) => judge.judge(&bytes).map(Bytes::from),
        WholeAnswer::TooLarge => Err(answer_too_large()),
    }
}

fn begun_then(begun: Bytes, rest: Incoming) -> RequestBody {
    use futures_util::StreamExt;
    let begun = futures_util::stream::once(async move { Ok(Frame::data(begun)) });
    BodyExt::boxed(StreamBody::new(begun.chain(http_body_util::BodyStream::new(rest))))
}

fn unforwardable() -> Refusal {
    Refusal { status: 400, code: "invalid_path", message: "the path can't be forwarded".into(), control: ControlId::Protocol }
}

fn reply_error(mut record: Record, exchange: Exchange, end: End) -> Response<ReplyBody> {
    let End { outcome, refusal } = end;
    record.held_to(exchange.policy());
    let is_refused = outcome == Outcome::Refused && refusal.control != ControlId::Stop;
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (content_type, body) = exchange.family().error_reply(&refusal);
    let mut response = Response::new(body::whole(Bytes::from(body.clone())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // (In monitor nothing is done, so that there is nothing to note; but for a stop.)
    note_actions(headers, exchange.tally.headers());
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Ok(id) = HeaderValue::from_str(record.request_id()) {
        headers.insert(REQUEST_ID, id);
    }
    if is_refused {
        response.extensions_mut().insert(Refused);
    }
    record.answers(status);
    record.sent(body.len());
    record.close(outcome, exchange.tally);
    response
}

/// The guard's own word to a request that it would not let pass.
#[derive(Clone, Copy, Debug)]
struct Refused;

/// Why a request's head can't be read in every mode.
fn unreadable(headers: &HeaderMap, is_ambiguous: bool) -> Option<Refusal> {
    let refusal =
        |status, code, message: &'static str| Some(Refusal { status, code, message: message.into(), control: ControlId::Protocol });
    if is_ambiguous {
        return refusal(400, "ambiguous_framing", "the request's length or host is said in two ways");
    }
    let mut expected = headers.get_all(header::EXPECT).iter();
    match (expected.next(), expected.next()) {
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => None,
        (None, _) => None,
        // As Go's server says it.
        _ => refusal(417, "expectation_failed", "the request expects what no server here does"),
    }
}

/// The server's word to a browser that asks beforehand, and nothing else of what it said.
fn preflight_answer(exchange: &mut Exchange, said: &http::response::Parts) -> Response<ReplyBody> {
    let mut response = Response::new(body::whole(Bytes::new()));
    *response.status_mut() = if said.status.is_informational() { StatusCode::BAD_GATEWAY } else { said.status };
    *response.headers_mut() = browsers::word(&said.headers);
    judge_headers(exchange, response.headers_mut());
    response
}

/// What the server would have said before it looked at anything that is judged.
fn reply_as_it_is(mut record: Record, mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    if let Ok(id) = HeaderValue::from_str(record.request_id()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    record.answers(response.status());
    record.close(Outcome::Answered, Tally::default());
    response
}

fn note_actions(headers: &mut HeaderMap, said: Option<(String, String)>) {
    if let Some((action, reason)) = said {
        for (name, value) in [(ACTION, action), (REASON, reason)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

/// The client's id for the request, where it can stand in a log line; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain).filter(|id| is_no_secret(id));
    given.map_or_else(new_request_id, str::to_owned)
}

/// Ids stand in log lines, and a token has nothing in it that an id may not have.
fn is_no_secret(id: &str) -> bool {
    static RULES: LazyLock<Arc<SecretRules>> = LazyLock::new(|| Arc::new(SecretRules::new(&Kind::all().collect::<Vec<_>>())));
    RULES.is_clean(id)
}

/// A random UUID (RFC 9562, version 4).
fn new_request_id() -> String {
    let mut bytes = [0u8; 16];
    // Without randomness the id is all that suffers.
    let _ = getrandom::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The value of a field that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// All values of a field, as one list. `None` where the field is absent.
fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!values.is_empty()).then(|| values.join(", ").to_ascii_lowercase())
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().filter(|name| !END_TO_END.contains(name)).chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn request_headers(from: &HeaderMap, enforced: bool, key_is_ours: bool) -> HeaderMap {
    let mut headers = from.clone();
    remove_hop_by_hop(&mut headers);
    // The client library sets the length of the body that it sends; an expectation was met when the body was read.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    headers.remove(header::PROXY_AUTHORIZATION);
    if enforced {
        headers.remove(header::ACCEPT_ENCODING);
        headers.remove(header::CONTENT_ENCODING);
        let said: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(FORWARDED_PREFIX)).cloned().collect();
        for name in said.iter().chain(&SAID_BY_PROXIES) {
            headers.remove(name);
        }
    }
    if key_is_ours {
        headers.remove(header::AUTHORIZATION);
    }
    headers
}

/// Waits until a moment.
trait Within: Future + Sized {
    async fn await_within(self, deadline: tokio::time::Instant) -> Option<Self::Output> {
        timeout_at(deadline, self).await.ok()
    }
}

impl<F: Future> Within for F {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_where_it_is_plain_and_else_made() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            request_id(&headers)
        };
        assert_eq!(with("abc-1_2.3:4"), "abc-1_2.3:4");
        let token = ["gh", "p_", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYabcd"].concat();
        for odd in ["", "a b", "a\"b", &"x".repeat(129), &token, &format!("id:{token}")] {
            let made = with(odd);
            assert_eq!((made.len(), made.as_bytes()[14]), (36, b'4'), "{made}");
            assert!(b"89ab".contains(&made.as_bytes()[19]), "{made}");
        }
    }

    #[test]
    fn a_field_of_an_answers_head_carries_no_value_and_says_nothing_in_the_guards_name() {
        use llm_guard_engine::controls::Policy;
        use llm_guard_engine::policy::GuardPolicy;
        use llm_guard_engine::policy::settings::Standing;
        let policy = Policy::compile(&GuardPolicy::built_in(), &Standing::of(Some(Mode::Hard))).unwrap();
        let head = RequestHead {
            method: "POST",
            path: "/api/chat",
            content_type: None,
            content_encoding: None,
            caller: Caller { over_loopback: false },
        };
        let (mut exchange, _) = Exchange::begin(policy, &head);
        let token = ["gh", "p_", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYabcd"].concat();
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_str(&format!("/x?key={token}")).unwrap());
        headers.append("x-odd", HeaderValue::from_bytes(format!("é {token}").as_bytes()).unwrap());
        headers.append("x-odd", HeaderValue::from_static("stays"));
        headers.insert(ACTION, HeaderValue::from_static("blocked"));
        judge_headers(&mut exchange, &mut headers);
        let said: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
        assert_eq!(said, ["location: /x?key=[REDACTED_GITHUB_TOKEN]", "x-odd: é [REDACTED_GITHUB_TOKEN]", "x-odd: stays"]);
    }

    #[test]
    fn an_expectation_that_no_server_meets_is_refused() {
        let status = |values: &[&'static str], is_ambiguous| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::EXPECT, HeaderValue::from_static(value));
            }
            unreadable(&headers, is_ambiguous).map(|refusal| refusal.status)
        };
        assert_eq!((status(&[], false), status(&["100-Continue"], false)), (None, None));
        for odd in [&["200-ok"][..], &["100-continue", "100-continue"], &["100-continue, x"], &[""]] {
            assert_eq!(status(odd, false), Some(417), "{odd:?}");
        }
        assert_eq!(status(&[], true), Some(400));
    }

    #[test]
    fn what_only_a_proxy_could_know_goes_on_in_monitor_alone() {
        let mut headers = HeaderMap::new();
        for name in ["forwarded", "x-real-ip", "x-forwarded-for", "x-forwarded-prefix", "x-forwarded-", "accept-encoding", "x-kept"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        assert_eq!(request_headers(&headers, true, false).keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
        assert_eq!(request_headers(&headers, false, false).len(), 7);
    }

    #[test]
    fn fields_of_one_connection_end_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Private, Origin"), ("x-private", "1"), ("te", "trailers"), ("upgrade", "h2c"), ("origin", "1")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["origin"]);
    }
}
