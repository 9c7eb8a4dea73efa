//! From evidence to outcome: the decision table of safety.md 2.3.
//!
//! Only facts decide: how far the request got, whether the peer refused it by protocol, and what a complete native
//! answer proves. No error's name or text is looked at, because hyper's error for "never read" and for "read whole, then
//! closed" is the same one.

use crate::gateway::outcome::{DeclineClass, Observation, Outcome, Rejection};
use crate::upstream::{Evidence, Progress};

/// What is known of a gateway's wire beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Whether a request without its last byte cannot be executed (JSON and form bodies of a declared length).
    pub atomic_body: bool,
    /// Whether REFUSED_STREAM and GOAWAY below our stream are believed. A CDN makes the claim, hence the question.
    pub trust_h2_refusal: bool,
}

/// The outcome of one exchange. `native` is what the dialect read from a complete answer; `None` when there was no
/// complete answer.
///
/// The rows of the table, first match wins:
///
/// | rows | evidence | outcome |
/// |---|---|---|
/// | - | a native answer tells of an effect, but the request never went out whole | `Conflict` |
/// | 1 to 4 | not one byte was handed over | `NotSent` |
/// | 5 | some bytes, never the last one | `NotSent` if the body is atomic, else `Unknown` |
/// | 6, 7 | peer refused by HTTP/2 | `Rejected(Transient)` if trusted, else `Unknown` |
/// | 8 to 13 | no complete answer | `Unknown` |
/// | 19, 20 | 3xx, 408, 421, 425 | `Unknown`, whatever the body says |
/// | 19 | 5xx | what the dialect white-lists by a definite refusal, else `Unknown` |
/// | 14 to 18, 21 | a complete native answer | what it proves; `Ambiguous` declines and `NotSent` prove nothing |
pub fn classify(evidence: &Evidence, native: Option<&Observation>, wire: Wire) -> Outcome {
    let told = native.map(|observation| observation.outcome);
    match evidence.progress {
        Progress::Nothing | Progress::Partial if matches!(told, Some(Outcome::Authorised | Outcome::Succeeded)) => {
            return Outcome::Conflict;
        }
        Progress::Nothing => return Outcome::NotSent,
        Progress::Partial if wire.atomic_body => return Outcome::NotSent,
        Progress::Partial => return Outcome::Unknown,
        Progress::Committed => {}
    }
    if evidence.refused_by_peer {
        return if wire.trust_h2_refusal {
            Outcome::Rejected(Rejection::Transient)
        } else {
            Outcome::Unknown
        };
    }
    let Some(told) = told else { return Outcome::Unknown };
    match evidence.status {
        Some(300..=399 | 408 | 421 | 425) => return Outcome::Unknown,
        // A failing server may have committed before it failed. Only a refusal that the dialect lists by its own code
        // is believed; a 5xx never tells of an effect.
        Some(500..=599) if !matches!(told, Outcome::Rejected(_) | Outcome::Declined(_) | Outcome::Conflict) => {
            return Outcome::Unknown;
        }
        _ => {}
    }
    match told {
        // Whether something was sent is for the evidence to say, never for an answer.
        Outcome::NotSent | Outcome::Declined(DeclineClass::Ambiguous) => Outcome::Unknown,
        proven => proven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WIRE: Wire = Wire {
        atomic_body: true,
        trust_h2_refusal: true,
    };

    fn evidence(progress: Progress, status: Option<u16>) -> Evidence {
        Evidence {
            progress,
            bytes_sent: 0,
            bytes_received: 0,
            reused: false,
            http2: false,
            refused_by_peer: false,
            status,
            note: String::new(),
            took: Duration::ZERO,
        }
    }

    fn outcome(progress: Progress, status: Option<u16>, told: Option<Outcome>, wire: Wire) -> Outcome {
        let native = told.map(|outcome| Observation::bare(outcome, "test"));
        classify(&evidence(progress, status), native.as_ref(), wire)
    }

    #[test]
    fn rows_1_to_4_not_a_byte_handed_over_is_not_sent() {
        assert_eq!(outcome(Progress::Nothing, None, None, WIRE), Outcome::NotSent);
        // A 408 written to an idle connection is no answer to a request that never left.
        let told = Some(Outcome::Unknown);
        assert_eq!(outcome(Progress::Nothing, Some(408), told, WIRE), Outcome::NotSent);
    }

    #[test]
    fn row_5_without_the_last_byte_an_atomic_body_is_not_sent() {
        assert_eq!(outcome(Progress::Partial, None, None, WIRE), Outcome::NotSent);
        let wire = Wire {
            atomic_body: false,
            ..WIRE
        };
        assert_eq!(outcome(Progress::Partial, None, None, wire), Outcome::Unknown);
    }

    #[test]
    fn an_effect_told_of_a_request_that_never_went_out_whole_is_a_conflict() {
        for progress in [Progress::Nothing, Progress::Partial] {
            for told in [Outcome::Authorised, Outcome::Succeeded] {
                assert_eq!(outcome(progress, Some(200), Some(told), WIRE), Outcome::Conflict);
            }
        }
    }

    #[test]
    fn rows_6_and_7_a_refused_stream_is_rejected_only_where_trusted() {
        let refused = Evidence {
            refused_by_peer: true,
            ..evidence(Progress::Committed, None)
        };
        assert_eq!(classify(&refused, None, WIRE), Outcome::Rejected(Rejection::Transient));
        let wire = Wire {
            trust_h2_refusal: false,
            ..WIRE
        };
        assert_eq!(classify(&refused, None, wire), Outcome::Unknown);
    }

    #[test]
    fn rows_8_to_13_no_complete_native_answer_is_unknown() {
        for status in [None, Some(200), Some(402), Some(502)] {
            assert_eq!(outcome(Progress::Committed, status, None, WIRE), Outcome::Unknown);
        }
        // Row 13: a complete answer that the dialect does not know as its own.
        assert_eq!(
            outcome(Progress::Committed, Some(403), Some(Outcome::Unknown), WIRE),
            Outcome::Unknown
        );
    }

    #[test]
    fn rows_14_to_16_native_refusals_and_declines_stand() {
        for (status, told) in [
            (401, Outcome::Rejected(Rejection::Account)),
            (422, Outcome::Rejected(Rejection::Request)),
            (429, Outcome::Rejected(Rejection::Transient)),
            (402, Outcome::Declined(DeclineClass::Soft)),
            (402, Outcome::Declined(DeclineClass::Hard)),
        ] {
            assert_eq!(outcome(Progress::Committed, Some(status), Some(told), WIRE), told);
        }
        let ambiguous = Some(Outcome::Declined(DeclineClass::Ambiguous));
        assert_eq!(
            outcome(Progress::Committed, Some(402), ambiguous, WIRE),
            Outcome::Unknown
        );
    }

    #[test]
    fn rows_17_and_18_a_key_in_use_is_what_the_dialect_says() {
        assert_eq!(
            outcome(Progress::Committed, Some(409), Some(Outcome::Unknown), WIRE),
            Outcome::Unknown
        );
    }

    #[test]
    fn rows_19_and_20_statuses_that_prove_nothing_overrule_their_bodies() {
        for status in [301, 307, 408, 421, 425] {
            for told in [Outcome::Succeeded, Outcome::Rejected(Rejection::Transient)] {
                assert_eq!(
                    outcome(Progress::Committed, Some(status), Some(told), WIRE),
                    Outcome::Unknown
                );
            }
        }
        for status in [500, 502, 503, 504, 529] {
            assert_eq!(
                outcome(Progress::Committed, Some(status), Some(Outcome::Succeeded), WIRE),
                Outcome::Unknown
            );
            let listed = Outcome::Rejected(Rejection::Transient);
            assert_eq!(outcome(Progress::Committed, Some(status), Some(listed), WIRE), listed);
        }
    }

    #[test]
    fn row_21_a_complete_native_success_is_believed() {
        for told in [
            Outcome::Authorised,
            Outcome::Succeeded,
            Outcome::ActionRequired,
            Outcome::Conflict,
        ] {
            assert_eq!(outcome(Progress::Committed, Some(200), Some(told), WIRE), told);
        }
    }

    #[test]
    fn an_answer_can_never_claim_that_nothing_was_sent() {
        assert_eq!(
            outcome(Progress::Committed, Some(200), Some(Outcome::NotSent), WIRE),
            Outcome::Unknown
        );
    }
}
