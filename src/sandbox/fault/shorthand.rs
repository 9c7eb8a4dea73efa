//! Rules in one word, for command lines: `500`, `lost`, `late:3000,method=POST,times=all`.

use super::{Cut, Fault, Match, Rule, When};
use crate::sandbox::NativeError;

/// The words, for a message or a help text.
pub const WORDS: &str = "\
refuse[:MS]         connections are refused (until taken away, or so long)
drop                a new connection is reset at once
unread:N            reset after N bytes of the request; nothing is executed
stall               the request is read and never answered, nor executed
slow:MS             executed and answered so much later
held:MS             holds its idempotency key so long before it is executed
late:MS             executed at once, answered so much later
lost                executed, and the connection is reset before the answer
cut:N               executed, and the answer is reset after N bytes
429 500 503         the gateway's own error, not executed; 500-after, 503-after: executed first
html, html-after    an HTML page of a proxy with 502, not executed or executed
truncated:N         executed, the body ends after N bytes
wrong:POINTER=JSON  executed, and a value of the answer is another one (wrong:/amount=1)
drip:N              executed, the body comes N bytes at a time
bomb:N              executed, and the answer unpacks to N megabytes
hints[:N]           executed, and N provisional answers come first (without end)
early:N             408 after N bytes of the request; nothing is executed
misread:FROM=TO     read and executed as if it said something else
idle                executed and answered, then 408 on the idle connection
end                 executed and answered, then the connection is reset
goaway              executed, and the connection ends after the answer

Each may be followed by ,method=POST ,path=/v1/refunds* ,contains=TEXT ,key=KEY ,skip=N ,times=N|all ,percent=N";

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': {why}; a fault is one of:\n{WORDS}")]
pub struct NotAFault {
    text: String,
    why: &'static str,
}

impl std::str::FromStr for Rule {
    type Err = NotAFault;

    /// Reads a rule in one word, or as JSON when it begins with `{`.
    fn from_str(text: &str) -> Result<Self, NotAFault> {
        let no = |why| NotAFault {
            text: text.to_owned(),
            why,
        };
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|_| no("not a rule in JSON"));
        }
        let mut parts = text.split(',');
        let word = parts.next().unwrap_or_default();
        let (word, argument) = match word.split_once(':') {
            Some((word, argument)) => (word, Some(argument)),
            None => (word, None),
        };
        let mut rule = Self::once(Match::default(), fault(word, argument).map_err(no)?);
        if matches!(rule.fault, Fault::Refuse { .. }) {
            rule.times = None;
        }
        for part in parts {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| no("expected name=value after the comma"))?;
            let number = || value.parse::<u64>().map_err(|_| no("expected a number"));
            let text = Some(value.to_owned());
            match name {
                "method" => rule.matcher.method = text,
                "path" => rule.matcher.path = text,
                "contains" => rule.matcher.contains = text,
                "key" => rule.matcher.key = text,
                "skip" => rule.skip = number()?,
                "times" if value == "all" => rule.times = None,
                "times" => rule.times = Some(number()?),
                "percent" => {
                    rule.percent = u8::try_from(number()?)
                        .ok()
                        .filter(|percent| *percent <= 100)
                        .ok_or_else(|| no("percent is 0 to 100"))?;
                }
                _ => return Err(no("unknown name after the comma")),
            }
        }
        Ok(rule)
    }
}

fn fault(word: &str, argument: Option<&str>) -> Result<Fault, &'static str> {
    let number = || {
        argument
            .ok_or("a number must follow the colon")?
            .parse::<u64>()
            .map_err(|_| "expected a number")
    };
    let size = || number().and_then(|number| usize::try_from(number).map_err(|_| "expected a smaller number"));
    let native = |error, when| Fault::Native {
        error,
        when,
        retry_after: None,
        stored: false,
    };
    let foreign = |when| Fault::Foreign {
        status: 502,
        when,
        body: None,
        content_type: None,
        location: None,
    };
    let cut = |byte| Fault::CutAnswer {
        byte,
        cut: Cut::Rst,
        when: When::After,
    };
    Ok(match word {
        "refuse" => Fault::Refuse {
            ms: argument.map(|_| number()).transpose()?,
        },
        "drop" => Fault::CutConnection { cut: Cut::Rst },
        "unread" => Fault::CutRequest {
            byte: number()?,
            cut: Cut::Rst,
        },
        "stall" => Fault::DelayArrival { ms: None },
        "slow" => Fault::DelayArrival { ms: Some(number()?) },
        "held" => Fault::DelayExecution { ms: Some(number()?) },
        "late" => Fault::DelayAnswer { ms: Some(number()?) },
        "lost" => cut(0),
        "cut" => cut(number()?),
        "429" => native(NativeError::RateLimit, When::Before),
        "500" => native(NativeError::Internal, When::Before),
        "503" => native(NativeError::Unavailable, When::Before),
        "500-after" => native(NativeError::Internal, When::After),
        "503-after" => native(NativeError::Unavailable, When::After),
        "html" => foreign(When::Before),
        "html-after" => foreign(When::After),
        "truncated" => Fault::TruncateBody { bytes: size()? },
        "wrong" => {
            let (pointer, value) = argument
                .and_then(|argument| argument.split_once('='))
                .ok_or("expected wrong:/pointer=json")?;
            Fault::Patch {
                pointer: pointer.to_owned(),
                value: serde_json::from_str(value).map_err(|_| "the new value is not JSON")?,
            }
        }
        "drip" => Fault::Drip {
            bytes: size()?,
            every_ms: 20,
        },
        "bomb" => Fault::Bomb {
            megabytes: u32::try_from(number()?).map_err(|_| "expected a smaller number")?,
        },
        "hints" => Fault::Provisional {
            count: argument.map(|_| number()).transpose()?,
        },
        "early" => Fault::AnswerEarly {
            byte: number()?,
            status: 408,
        },
        "misread" => {
            let (from, to) = argument
                .and_then(|argument| argument.split_once('='))
                .ok_or("expected misread:FROM=TO")?;
            Fault::Misread {
                from: from.to_owned(),
                to: to.to_owned(),
            }
        }
        "end" => Fault::EndConnection { cut: Cut::Rst },
        "idle" => Fault::AnswerIdle { status: 408 },
        "goaway" => Fault::GoAway,
        _ => return Err("unknown fault"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_rules() {
        let rule: Rule = "late:3000,method=POST,path=/v1/refunds*,times=all,percent=5,skip=2"
            .parse()
            .unwrap();
        assert_eq!(
            rule,
            Rule {
                matcher: Match::path("POST", "/v1/refunds*"),
                skip: 2,
                times: None,
                percent: 5,
                fault: Fault::DelayAnswer { ms: Some(3000) },
            }
        );
        let json: Rule = r#"{"fault":"cut_answer","byte":7,"cut":"fin"}"#.parse().unwrap();
        assert!(matches!(json.fault, Fault::CutAnswer { byte: 7, .. }));
        assert_eq!("refuse".parse::<Rule>().unwrap().fault, Fault::Refuse { ms: None });
        for bad in [
            "",
            "explode",
            "late",
            "late:x",
            "lost,percent=101",
            "lost,color=red",
            "{}",
            "wrong:/a",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_word_of_the_help_is_a_rule() {
        for line in WORDS.lines().take_while(|line| !line.is_empty()) {
            let words = line.split("  ").next().unwrap();
            for word in words.split([' ', ',']).filter(|word| !word.is_empty()) {
                let word = word
                    .replace("[:MS]", ":5")
                    .replace("[:N]", ":5")
                    .replace("MS", "5")
                    .replace("POINTER=JSON", "/a=1")
                    .replace("FROM=TO", "a=b")
                    .replace(":N", ":5");
                assert!(word.parse::<Rule>().is_ok(), "{word}");
            }
        }
    }
}
