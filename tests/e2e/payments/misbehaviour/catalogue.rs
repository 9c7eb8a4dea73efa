//! What can go wrong with the request that takes a payment, and in which row or list it stands.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use crate::payments::own::{Own, Refused};

/// How it must end when the application keeps asking with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The payment is decided: taken once, or not at all.
    Known,
    /// It may stay in doubt: the gateway contradicts itself, or never answers.
    Any,
    /// Nothing is taken, and nobody else is asked.
    Refused,
}

/// One case.
#[derive(Clone)]
pub struct Case {
    /// The row of the evidence table, or the list.
    pub row: &'static str,
    pub name: String,
    pub rules: Vec<Rule>,
    pub ends: Ends,
}

const BOTH: [When; 2] = [When::Before, When::After];
const CUTS: [Cut; 3] = [Cut::Fin, Cut::Rst, Cut::Stall];

fn word(when: When) -> &'static str {
    match when {
        When::Before => "not executed",
        When::After => "executed",
    }
}

fn cut(cut: Cut) -> &'static str {
    match cut {
        Cut::Fin => "FIN",
        Cut::Rst => "RST",
        Cut::Stall => "silence",
    }
}

/// Collects cases for one dialect.
struct List {
    own: Own,
    cases: Vec<Case>,
}

impl List {
    fn add(&mut self, row: &'static str, name: impl Into<String>, fault: Fault) {
        let rule = Rule::once(self.own.first(), fault);
        self.push(row, name, vec![rule], Ends::Known);
    }

    fn open(&mut self, row: &'static str, name: impl Into<String>, fault: Fault) {
        let rule = Rule::once(self.own.first(), fault);
        self.push(row, name, vec![rule], Ends::Any);
    }

    fn push(&mut self, row: &'static str, name: impl Into<String>, rules: Vec<Rule>, ends: Ends) {
        self.cases.push(Case {
            row,
            name: name.into(),
            rules,
            ends,
        });
    }

    fn foreign(&mut self, row: &'static str, status: u16, body: Option<&str>, location: Option<&str>) {
        for when in BOTH {
            let fault = Fault::Foreign {
                status,
                when,
                body: body.map(str::to_owned),
                content_type: body.map(|_| "application/json".to_owned()),
                location: location.map(str::to_owned),
            };
            let kind = if body.is_some() { "JSON" } else { "HTML" };
            self.add(row, format!("{status} {kind}, {}", word(when)), fault);
        }
    }

    fn native(&mut self, row: &'static str, error: NativeError, when: When, stored: bool) {
        let fault = Fault::Native {
            error,
            when,
            retry_after: None,
            stored,
        };
        let kept = if stored { ", kept under the key" } else { "" };
        self.add(row, format!("native {error:?}, {}{kept}", word(when)), fault);
    }
}

/// Every case over HTTP/1.1.
pub fn cases(own: Own) -> Vec<Case> {
    let mut list = List { own, cases: Vec::new() };
    before_the_commit_byte(&mut list);
    beside_an_answer(&mut list);
    after_the_commit_byte(&mut list);
    answers(&mut list);
    misbehaviour(&mut list);
    list.cases
}

fn before_the_commit_byte(list: &mut List) {
    let refuse = Rule::always(Match::default(), Fault::Refuse { ms: Some(1500) });
    list.push("1", "connections refused", vec![refuse], Ends::Known);
    for how in CUTS {
        let fault = Fault::CutConnection { cut: how };
        list.push(
            "1, 4",
            format!("connection: {} before a byte", cut(how)),
            vec![Rule::once(Match::default(), fault)],
            Ends::Known,
        );
    }
    for byte in [1, 60, 300] {
        for how in CUTS {
            list.add(
                "5",
                format!("request: {} after {byte} bytes", cut(how)),
                Fault::CutRequest { byte, cut: how },
            );
        }
    }
}

fn beside_an_answer(list: &mut List) {
    for byte in [1, 60, 300] {
        list.add(
            "5, 19",
            format!("request: 408 after {byte} bytes"),
            Fault::AnswerEarly { byte, status: 408 },
        );
    }
    list.add(
        "4, 19",
        "408 on the idle connection afterwards",
        Fault::AnswerIdle { status: 408 },
    );
    list.add("9", "three provisional answers", Fault::Provisional { count: Some(3) });
    list.add(
        "9",
        "provisional answers without end",
        Fault::Provisional { count: None },
    );
}

fn after_the_commit_byte(list: &mut List) {
    for how in CUTS {
        for when in BOTH {
            let fault = Fault::CutAnswer {
                byte: 0,
                cut: how,
                when,
            };
            list.add("9", format!("no answer: {}, {}", cut(how), word(when)), fault);
        }
    }
    let late = Some(1200);
    list.add("11, 18", "arrives late", Fault::DelayArrival { ms: late });
    list.add("11, 17", "executes late", Fault::DelayExecution { ms: late });
    list.add("11", "answers late", Fault::DelayAnswer { ms: late });
    for byte in [1, 15, 120, 400] {
        for how in [Cut::Fin, Cut::Rst] {
            let fault = Fault::CutAnswer {
                byte,
                cut: how,
                when: When::After,
            };
            list.add("12", format!("answer: {} after {byte} bytes", cut(how)), fault);
        }
    }
    for bytes in [0, 1, 60, 200] {
        list.add(
            "12",
            format!("body of {bytes} bytes, well framed"),
            Fault::TruncateBody { bytes },
        );
    }
}

fn answers(list: &mut List) {
    for status in [200, 201, 400, 402, 403, 404, 409, 429] {
        list.foreign("13", status, None, None);
    }
    for status in [200, 402] {
        list.foreign("13", status, Some("{}"), None);
    }
    list.foreign("13", 402, Some(r#"{"error":{}}"#), None);
    for error in [NativeError::Unauthorized, NativeError::Forbidden] {
        list.native("14", error, When::Before, false);
    }
    for (refused, fault) in list.own.refusals() {
        let (row, name, ends) = match refused {
            Refused::Softly => ("16", "declined softly", Ends::Known),
            Refused::ForGood => ("16", "declined for good", Ends::Refused),
            Refused::AsWrong => ("14", "refused as wrong", Ends::Refused),
            Refused::NotForGood => ("16", "failed, and not for good", Ends::Any),
        };
        let rule = Rule::once(list.own.first(), fault);
        list.push(row, name, vec![rule], ends);
    }
    if list.own == Own::Stripe {
        let challenged = Fault::Misread {
            from: "pm_card_visa".to_owned(),
            to: "pm_card_authenticationRequired".to_owned(),
        };
        list.open("16", "the customer has to act", challenged);
    }
    list.native("15", NativeError::RateLimit, When::Before, false);
    for when in BOTH {
        list.native("17", NativeError::Conflict, when, false);
        for error in [NativeError::Internal, NativeError::Unavailable] {
            list.native("19", error, when, false);
        }
    }
    list.native("19", NativeError::Internal, When::After, true);
    for status in [408, 421, 425, 500, 502, 503, 504, 520] {
        list.foreign("19", status, None, None);
    }
    for status in [301, 302, 303, 307, 308] {
        list.foreign("20", status, None, Some("/v1/elsewhere"));
    }
    list.push("21", "answers well", Vec::new(), Ends::Known);
}

fn misbehaviour(list: &mut List) {
    let own = list.own;
    for (name, fault) in own.lies() {
        list.open("misbehaviour", format!("success with {name}"), fault);
    }
    let forever = Fault::Native {
        error: NativeError::Conflict,
        when: When::Before,
        retry_after: None,
        stored: false,
    };
    let rules = vec![Rule::always(own.first(), forever)];
    list.push("misbehaviour", "409 for ever", rules, Ends::Any);
    let header = |name: &str, value: Option<String>| Fault::Header {
        name: name.to_owned(),
        value,
    };
    list.add(
        "misbehaviour",
        "gzip claimed",
        header("content-encoding", Some("gzip".to_owned())),
    );
    list.add(
        "misbehaviour",
        "a header of 10 MB",
        header("x-large", Some("x".repeat(10 << 20))),
    );
    list.add("misbehaviour", "a gzip bomb", Fault::Bomb { megabytes: 100 });
    for (year, date) in [
        (1970, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (2099, "Thu, 01 Jan 2099 00:00:00 GMT"),
    ] {
        let date = header("date", Some(date.to_owned()));
        list.add("misbehaviour", format!("a clock in {year}"), date);
    }
    list.add("misbehaviour", "no request id", header("request-id", None));
    list.add(
        "misbehaviour",
        "a dripping body",
        Fault::Drip { bytes: 64, every_ms: 2 },
    );
    list.add("misbehaviour", "the connection ends after the answer", Fault::GoAway);
    for how in [Cut::Fin, Cut::Rst] {
        list.add(
            "misbehaviour",
            format!("the whole answer, then {}", cut(how)),
            Fault::EndConnection { cut: how },
        );
    }
    if let Some((look_up, omitted)) = own.overlooks() {
        let lost = Fault::CutAnswer {
            byte: 0,
            cut: Cut::Rst,
            when: When::After,
        };
        let rules = vec![
            Rule::once(own.first(), lost),
            Rule {
                times: Some(2),
                ..Rule::once(look_up, omitted)
            },
        ];
        let name = "answer lost, and the list omits it twice";
        list.push("misbehaviour", name, rules, Ends::Known);
    }
}

/// Cases that only HTTP/2 has.
pub fn http2(own: Own) -> Vec<Case> {
    let mut list = List { own, cases: Vec::new() };
    for (row, name, code) in [
        ("6", "REFUSED_STREAM", 7),
        ("8", "NO_ERROR", 0),
        ("8", "INTERNAL_ERROR", 2),
        ("8", "CANCEL", 8),
        ("8", "ENHANCE_YOUR_CALM", 11),
        ("8", "HTTP_1_1_REQUIRED", 13),
    ] {
        for when in BOTH {
            list.add(
                row,
                format!("RST_STREAM {name}, {}", word(when)),
                Fault::ResetStream { code, when },
            );
        }
    }
    list.add("3, 7", "GOAWAY", Fault::GoAway);
    let storm = vec![Rule::always(own.first(), Fault::GoAway)];
    list.push("misbehaviour", "GOAWAY after every answer", storm, Ends::Known);
    list.cases
}
