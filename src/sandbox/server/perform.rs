//! The life of one request at a gateway, with the fault that takes it.
//!
//! It runs in a task of its own: whether anybody still waits for the answer changes nothing about what is executed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::answer;
use super::gateway::Core;
use super::log::Fate;
use crate::sandbox::fault::{Cut, Fault, Seen, When};
use crate::sandbox::{NativeError, Request};

/// What to write, and how.
pub(super) struct Reply {
    pub(super) answer: Response<Bytes>,
    /// The connection ends within the answer.
    pub(super) cut: Option<(u64, Cut)>,
    /// The body drips.
    pub(super) drip: Option<(usize, Duration)>,
    /// HTTP/2: the stream is reset instead.
    pub(super) reset: Option<u32>,
    /// The connection ends after the answer.
    pub(super) go_away: bool,
    /// So many provisional answers come first, or no end of them.
    pub(super) provisional: Option<Option<u64>>,
    /// An answer that nobody asked for follows.
    pub(super) idle: Option<u16>,
    /// The connection ends behind the answer.
    pub(super) end: Option<Cut>,
}

impl Reply {
    fn plain(answer: Response<Bytes>) -> Self {
        Self {
            answer,
            cut: None,
            drip: None,
            reset: None,
            go_away: false,
            provisional: None,
            idle: None,
            end: None,
        }
    }
}

/// Waits; for ever when there is no time.
async fn pause(ms: Option<u64>) {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// Takes a whole request to its answer.
pub(super) async fn perform(core: &Arc<Core>, request: &Request, seq: u64) -> Reply {
    let fault = core.script().take(&Seen {
        method: &request.method,
        path: &request.path,
        query: &request.query,
        headers: &request.headers,
        body: &request.body,
    });
    core.log.note(seq, |entry| {
        entry.body = Some(request.body.clone());
        entry.fault.clone_from(&fault);
    });
    let latency = core.latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let Some(fault) = fault else {
        return Reply::plain(execute(core, request, seq, None).await);
    };
    if let Fault::DelayArrival { ms } = fault {
        pause(ms).await;
    }
    let native = |error| core.simulator().native_error(error, request);
    let instead = match &fault {
        Fault::Native {
            error,
            when: When::Before,
            retry_after,
            ..
        } => {
            let mut answer = native(*error);
            answer::retry_after(&mut answer, *retry_after);
            Some(Reply::plain(answer))
        }
        Fault::Foreign { when: When::Before, .. } => answer::foreign(&fault).map(Reply::plain),
        Fault::CutAnswer {
            byte,
            cut,
            when: When::Before,
        } => Some(Reply {
            cut: Some((*byte, *cut)),
            ..Reply::plain(native(NativeError::Internal))
        }),
        Fault::ResetStream {
            code,
            when: When::Before,
        } => Some(Reply {
            reset: Some(*code),
            ..Reply::plain(Response::default())
        }),
        _ => None,
    };
    if let Some(reply) = instead {
        note(core, seq, Fate::Faulted, reply.answer.status());
        return reply;
    }
    let hold = match fault {
        Fault::DelayExecution { ms } => Some(ms),
        _ => None,
    };
    let mut misread = None;
    if let Fault::Misread { from, to } = &fault {
        let text = String::from_utf8_lossy(&request.body).replace(from.as_str(), to);
        misread = Some(Request {
            body: text.into(),
            ..request.clone()
        });
    }
    let request = misread.as_ref().unwrap_or(request);
    let mut reply = Reply::plain(execute(core, request, seq, hold).await);
    match &fault {
        Fault::DelayAnswer { ms } => pause(*ms).await,
        Fault::CutAnswer { byte, cut, .. } => reply.cut = Some((*byte, *cut)),
        Fault::Native {
            error,
            retry_after,
            stored,
            ..
        } => {
            let mut simulator = core.simulator();
            reply.answer = simulator.native_error(*error, request);
            // It was executed here, and Adyen says by this field that nothing was.
            reply.answer.headers_mut().remove("transient-error");
            if *stored {
                simulator.remember(core.clock.now(), request, &reply.answer);
            }
            answer::retry_after(&mut reply.answer, *retry_after);
        }
        Fault::Foreign { .. } => reply.answer = answer::foreign(&fault).unwrap_or(reply.answer),
        Fault::Drip { bytes, every_ms } => reply.drip = Some((*bytes, Duration::from_millis(*every_ms))),
        Fault::ResetStream { code, .. } => reply.reset = Some(*code),
        Fault::GoAway => reply.go_away = true,
        Fault::Provisional { count } => reply.provisional = Some(*count),
        Fault::AnswerIdle { status } => reply.idle = Some(*status),
        Fault::EndConnection { cut } => reply.end = Some(*cut),
        other => answer::change(other, &mut reply.answer),
    }
    let status = reply.answer.status().as_u16();
    core.log.note(seq, |entry| entry.status = Some(status));
    reply
}

fn note(core: &Core, seq: u64, fate: Fate, status: StatusCode) {
    core.log.note(seq, |entry| {
        entry.fate = fate;
        entry.status = Some(status.as_u16());
    });
}

/// Admits and executes; `hold` keeps the admitted request back for so long.
#[expect(clippy::option_option, reason = "no hold, a hold for some time, a hold for ever")]
async fn execute(core: &Arc<Core>, request: &Request, seq: u64, hold: Option<Option<u64>>) -> Response<Bytes> {
    let admitted = core.simulator().admit(core.clock.now(), request);
    if let Err(answer) = admitted {
        note(core, seq, Fate::Admitted, answer.status());
        return *answer;
    }
    if let Some(ms) = hold {
        pause(ms).await;
    }
    let now = core.clock.now();
    let (answer, turn) = core.simulator().execute(now, request);
    note(core, seq, Fate::Executed, answer.status());
    core.take(now, turn);
    answer
}
