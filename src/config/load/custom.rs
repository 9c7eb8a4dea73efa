//! Custom gateways: templates, pointers, states and codes, each checked where it stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reader;
use crate::config::model::Credentials;
use crate::config::model::custom::{
    Amounts, Answers, Call, Class, Custom, DECLINES, Idempotency, Modification, Piece, Refusal, State, States,
    Template, Tree, VARIABLES, Variable,
};
use crate::config::raw::OneOrMany;
use crate::config::{nearest, raw::custom as raw};

/// The longest idempotency key that Sentinel makes, and the shortest that is still one.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 16..=255;
const KEY_LENGTH: usize = 36;

/// Why a template is none: what is wrong, and a hint.
type Wrong = (String, String);

impl Reader<'_> {
    /// Reads a description; `None` where it is too wrong to go on.
    pub(super) fn custom(
        &mut self,
        gateway: &str,
        typed: raw::Custom,
        credentials: &Credentials,
    ) -> Option<Arc<Custom>> {
        let at = |field: &str| format!("gateways.{gateway}.custom.{field}");
        let before = self.flaws.len();
        let mut currencies = Vec::new();
        for (index, currency) in typed.currencies.iter().enumerate() {
            self.is_currency(at(&format!("currencies[{index}]")), currency);
            currencies.push(currency.clone());
        }
        if currencies.is_empty() {
            self.hinted(
                at("currencies"),
                "names no currency",
                "write ISO 4217 codes, as in [USD, EUR]",
            );
        }
        let mut headers = Vec::new();
        for (name, text) in &typed.headers {
            let path = at(&format!("headers.{name}"));
            let template = self.template(&path, text);
            if let (Some(header), Some(template)) = (self.header(&path, name), template) {
                headers.push((header, template));
            }
        }
        let idempotency = typed.idempotency.as_ref().and_then(|typed| {
            let max_length = typed.max_length.unwrap_or(KEY_LENGTH);
            if !KEY_LENGTHS.contains(&max_length) {
                self.problem(at("idempotency.max_length"), "must be 16 to 255");
            }
            let header = self.header(&at("idempotency.header"), &typed.header)?;
            Some(Idempotency {
                header,
                hours: typed.hours,
                max_length,
            })
        });
        let requests = &typed.requests;
        let sale = self.call(&at("requests.sale"), &requests.sale);
        let refund = self.call(&at("requests.refund"), &requests.refund);
        let mut optional = |name: &str, call: &Option<raw::Call>| {
            let call = call.as_ref()?;
            self.call(&at(&format!("requests.{name}")), call)
        };
        let (authorize, capture) = (
            optional("authorize", &requests.authorize),
            optional("capture", &requests.capture),
        );
        let (void, retrieve) = (
            optional("void", &requests.void),
            optional("retrieve", &requests.retrieve),
        );
        let (find, probe) = (optional("find", &requests.find), optional("probe", &requests.probe));
        let mut instrument = |name: &str, text: &Option<String>| {
            let path = at(&format!("instruments.{name}"));
            text.as_ref().and_then(|text| self.tree(&path, text))
        };
        let (token, card) = (
            instrument("token", &typed.instruments.token),
            instrument("card", &typed.instruments.card),
        );
        let network_token = instrument("network_token", &typed.instruments.network_token);
        if typed.instruments.token.is_none() && typed.instruments.card.is_none() && network_token.is_none() {
            self.hinted(
                at("instruments"),
                "names nothing to charge",
                "add `token`, with `{token}` in it",
            );
        }
        let answers = self.answers(&at("answers"), typed.answers);
        let refusals = self.refusals(&at("refusals"), &typed.refusals, &answers);
        let declines = self.declines(&at("declines"), typed.declines);
        let (sale, refund) = (sale?, refund?);
        let custom = Custom {
            amounts: match typed.amounts {
                raw::Amounts::Minor => Amounts::Minor,
                raw::Amounts::Decimal => Amounts::Decimal,
            },
            currencies,
            headers,
            idempotency,
            token,
            card,
            network_token,
            sale,
            authorize,
            capture,
            void,
            refund,
            retrieve,
            find,
            probe,
            answers: answers?,
            refusals,
            declines,
            partial_capture: typed.partial_capture.unwrap_or(false),
            partial_refund: typed.partial_refund.unwrap_or(false),
        };
        self.whole(gateway, &custom, credentials);
        (self.flaws.len() == before).then(|| Arc::new(custom))
    }

    /// What must hold of a description as a whole: nothing may be asked for without saying how much, of what, for whom.
    fn whole(&mut self, gateway: &str, custom: &Custom, credentials: &Credentials) {
        for (name, call) in custom.calls() {
            let path = format!("gateways.{gateway}.custom.requests.{name}");
            let mut named: Vec<String> = Vec::new();
            let mut see = |template: &Template| {
                named.extend(template.variables().filter_map(|variable| match variable {
                    Variable::Known(name) => Some((*name).to_owned()),
                    Variable::Credential(_) => None,
                }));
            };
            see(&call.path);
            if let Some(body) = &call.body {
                body.each(&mut see);
            }
            let needed: &[&str] = match name {
                "sale" | "authorize" => &["amount", "instrument", "reference"],
                "capture" if custom.partial_capture => &["id", "amount"],
                "refund" if custom.partial_refund => &["id", "amount"],
                "capture" | "void" | "refund" | "retrieve" => &["id"],
                "find" => &["reference"],
                _ => &[],
            };
            for needed in needed.iter().filter(|needed| named.iter().all(|name| name != *needed)) {
                let hint = format!("put `{{{needed}}}` into its path or body");
                self.hinted(path.clone(), format!("does not say its {needed}"), hint);
            }
            let currency = named.iter().any(|name| name.starts_with("currency"));
            if matches!(name, "sale" | "authorize") && !currency {
                let hint = "put `{currency}` into its body";
                self.hinted(path.clone(), "does not say its currency", hint);
            }
            if matches!(name, "sale" | "authorize" | "find" | "probe") && named.iter().any(|name| name == "id") {
                self.problem(path, "names `{id}`, and there is no payment yet");
            }
        }
        for (present, other, name) in [
            (custom.authorize.is_some(), custom.capture.is_some(), "capture"),
            (custom.authorize.is_some(), custom.void.is_some(), "void"),
        ] {
            if present && !other {
                self.hinted(
                    format!("gateways.{gateway}.custom.requests"),
                    format!("can hold money and has no `{name}`"),
                    "a hold that nobody can end is none that Sentinel may make",
                );
            }
        }
        if custom.retrieve.is_none() && custom.find.is_some() {
            self.hinted(
                format!("gateways.{gateway}.custom.requests.find"),
                "finds a payment, and nothing reads it",
                "add `retrieve`",
            );
        }
        let here = format!("gateways.{gateway}.credentials");
        for name in custom.credentials() {
            if credentials.get(&name).is_none() && !credentials.is_empty() {
                let hint = match nearest(&name, credentials.names()) {
                    Some(meant) => format!("did you mean `{{credential.{meant}}}`?"),
                    None => "add it to `credentials.values`".to_owned(),
                };
                self.hinted(here.clone(), format!("there is no credential `{name}`"), hint);
            }
        }
    }

    fn header(&mut self, path: &str, name: &str) -> Option<http::HeaderName> {
        let connection = ["host", "content-length", "transfer-encoding", "connection", "expect"];
        match name.parse::<http::HeaderName>() {
            Ok(header) if !connection.contains(&header.as_str()) => Some(header),
            Ok(_) => {
                self.problem(path, "belongs to the connection and is Sentinel's own");
                None
            }
            Err(_) => {
                self.problem(path, "is not the name of a header");
                None
            }
        }
    }

    fn template(&mut self, path: &str, text: &str) -> Option<Template> {
        match template(text) {
            Ok(template) => Some(template),
            Err((message, hint)) => {
                self.hinted(path, message, hint);
                None
            }
        }
    }

    fn tree(&mut self, path: &str, text: &str) -> Option<Tree> {
        let value: serde_json::Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                let message = format!("is not JSON: see its line {}, column {}", error.line(), error.column());
                self.hinted(
                    path,
                    message,
                    "a value is written as text: \"{amount}\", in quotation marks",
                );
                return None;
            }
        };
        match tree(value) {
            Ok(tree) => Some(tree),
            Err((message, hint)) => {
                self.hinted(path, message, hint);
                None
            }
        }
    }

    fn call(&mut self, path: &str, typed: &raw::Call) -> Option<Call> {
        let template = self.template(&format!("{path}.path"), &typed.path);
        if !typed.path.starts_with('/') {
            self.hinted(format!("{path}.path"), "is not a path", "begin it with /");
        }
        let body = match &typed.body {
            None => None,
            Some(text) => Some(self.tree(&format!("{path}.body"), text)?),
        };
        let method = match typed.method.unwrap_or(raw::Method::Post) {
            raw::Method::Get => http::Method::GET,
            raw::Method::Post => http::Method::POST,
            raw::Method::Put => http::Method::PUT,
            raw::Method::Patch => http::Method::PATCH,
            raw::Method::Delete => http::Method::DELETE,
        };
        if method == http::Method::GET && body.is_some() {
            self.problem(format!("{path}.body"), "has no place in a GET");
        }
        Some(Call {
            method,
            path: template?,
            body,
        })
    }

    fn pointer(&mut self, path: &str, pointer: String) -> String {
        let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !pointer.starts_with('/') || !escapes {
            self.hinted(
                path,
                "is not a JSON pointer",
                "write /data/0/id; ~1 stands for / and ~0 for ~",
            );
        }
        pointer
    }

    fn answers(&mut self, path: &str, typed: raw::Answers) -> Option<Answers> {
        let at = |field: &str| format!("{path}.{field}");
        let native_header = self.header(&at("native_header"), &typed.native_header);
        let mut required = |name: &str, pointer: String| self.pointer(&at(name), pointer);
        let (id, status) = (required("id", typed.id), required("status", typed.status));
        let (amount, currency) = (required("amount", typed.amount), required("currency", typed.currency));
        let mut optional =
            |name: &str, pointer: Option<String>| pointer.map(|pointer| self.pointer(&at(name), pointer));
        let reference = optional("reference", typed.reference);
        let decline_code = optional("decline_code", typed.decline_code);
        let decline_message = optional("decline_message", typed.decline_message);
        let redirect = optional("redirect", typed.redirect);
        let network_transaction_id = optional("network_transaction_id", typed.network_transaction_id);
        let approval_code = optional("approval_code", typed.approval_code);
        let card_last4 = optional("card_last4", typed.card_last4);
        let modification_id = optional("modifications.id", typed.modifications.id);
        let modification_status = optional("modifications.status", typed.modifications.status);
        let list = optional("list", typed.list).unwrap_or_default();
        let states = self.states(&at("states"), typed.states);
        let sale_states = self.states(&at("sale_states"), typed.sale_states);
        let here = at("modifications.states");
        let modification_states =
            self.modification_states(&here, modification_status.as_ref(), typed.modifications.states);
        for (word, state) in [("succeeded", State::Succeeded), ("declined", State::Declined)] {
            let there = states.values().chain(sale_states.values()).any(|known| *known == state);
            if !there {
                self.problem(at("states"), format!("no word means {word}: no payment could ever be"));
            }
        }
        let or = |typed: Vec<u16>, default: &[u16]| match typed.is_empty() {
            true => default.to_vec(),
            false => typed,
        };
        let statuses = or(typed.statuses, &[200, 201, 202]);
        let done = or(typed.modifications.done, &[200, 201]);
        let accepted = or(typed.modifications.accepted, &[202]);
        // A failing server may have committed before it failed, and a redirect was answered by somebody else.
        let proves = |status: &u16| matches!(status, 200..=299 | 400..=499) && ![408, 421, 425].contains(status);
        for (field, list) in [
            ("statuses", &statuses),
            ("modifications.done", &done),
            ("modifications.accepted", &accepted),
        ] {
            if !list.iter().all(proves) {
                self.problem(
                    at(field),
                    "2xx and 4xx without 408, 421 and 425 are all that can prove anything",
                );
            }
        }
        Some(Answers {
            native_header: native_header?,
            id,
            status,
            amount,
            currency,
            reference,
            decline_code,
            decline_message,
            redirect,
            network_transaction_id,
            approval_code,
            card_last4,
            statuses,
            states,
            sale_states,
            modification_id,
            modification_status,
            modification_states,
            done,
            accepted,
            list,
        })
    }

    fn states(&mut self, path: &str, typed: raw::States) -> States {
        let words = [
            ("authorised", typed.authorised, State::Authorised),
            ("succeeded", typed.succeeded, State::Succeeded),
            ("declined", typed.declined, State::Declined),
            ("voided", typed.voided, State::Voided),
            ("action_required", typed.action_required, State::ActionRequired),
            ("pending", typed.pending, State::Pending),
        ];
        self.words(path, words)
    }

    /// How a modification's state is read: where it stands and what its words mean, both or neither.
    fn modification_states(
        &mut self,
        path: &str,
        status: Option<&String>,
        typed: raw::ModificationStates,
    ) -> BTreeMap<String, Modification> {
        let words = [
            ("done", typed.done, Modification::Done),
            ("accepted", typed.accepted, Modification::Accepted),
            ("refused", typed.refused, Modification::Refused),
        ];
        let states = self.words(path, words);
        let lacking = match status {
            Some(_) => states.values().all(|known| *known == Modification::Refused),
            None => !states.is_empty(),
        };
        if lacking {
            self.hinted(
                path,
                "and `status` belong together",
                "say where the word stands, and at least one that means done or accepted",
            );
        }
        states
    }

    /// What words mean, none of them two things.
    fn words<T: Copy + PartialEq, const N: usize>(
        &mut self,
        path: &str,
        typed: [(&str, OneOrMany<String>, T); N],
    ) -> BTreeMap<String, T> {
        let mut meanings = BTreeMap::new();
        for (field, words, meaning) in typed {
            for word in words.into_vec() {
                if meanings.insert(word, meaning).is_some_and(|before| before != meaning) {
                    self.problem(format!("{path}.{field}"), "holds a word that means something else, too");
                }
            }
        }
        meanings
    }

    fn refusals(&mut self, path: &str, typed: &raw::Refusals, answers: &Option<Answers>) -> BTreeMap<u16, Refusal> {
        let mut refusals = BTreeMap::new();
        for (field, statuses, refusal) in [
            ("account", &typed.account, Refusal::Account),
            ("request", &typed.request, Refusal::Request),
            ("transient", &typed.transient, Refusal::Transient),
        ] {
            for status in statuses {
                let here = format!("{path}.{field}");
                if !matches!(status, 400..=499) || [408, 421, 425].contains(status) {
                    self.hinted(
                        here,
                        format!("{status} does not say that nothing was executed"),
                        "only 4xx without 408, 421 and 425 can",
                    );
                } else if answers
                    .as_ref()
                    .is_some_and(|answers| answers.statuses.contains(status))
                {
                    self.problem(here, format!("{status} answers payments, too"));
                } else if refusals.insert(*status, refusal).is_some() {
                    self.problem(here, format!("{status} is named twice"));
                }
            }
        }
        refusals
    }

    fn declines(&mut self, path: &str, typed: raw::Declines) -> BTreeMap<String, (String, Class)> {
        let mut declines = BTreeMap::new();
        for (class, names, meant) in [
            ("soft", typed.soft, Class::Soft),
            ("hard", typed.hard, Class::Hard),
            ("fraud", typed.fraud, Class::Fraud),
            ("retry_later", typed.retry_later, Class::RetryLater),
            ("config", typed.config, Class::Config),
            ("ambiguous", typed.ambiguous, Class::Ambiguous),
        ] {
            for (name, codes) in names {
                let here = format!("{path}.{class}.{name}");
                if !DECLINES.contains(&name.as_str()) {
                    let hint = match nearest(&name, DECLINES) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("known here: {}", DECLINES.join(", ")),
                    };
                    self.hinted(here.clone(), "is not the name of a decline", hint);
                }
                for code in OneOrMany::into_vec(codes) {
                    if declines.insert(code, (name.clone(), meant)).is_some() {
                        self.problem(here.clone(), "holds a code that has a meaning already");
                    }
                }
            }
        }
        declines
    }
}

fn template(text: &str) -> Result<Template, Wrong> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        plain.push_str(before);
        if brace.starts_with("{{") || brace.starts_with("}}") {
            plain.push_str(&brace[..1]);
            rest = &brace[2..];
            continue;
        }
        let inner = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, after)) = inner else {
            return Err((
                "has a brace without its other half".to_owned(),
                "a value is {name}; {{ stands for one brace".to_owned(),
            ));
        };
        let Some(variable) = Variable::named(name) else {
            let known = VARIABLES.iter().map(|(known, _)| *known);
            let hint = match nearest(name, known.clone()) {
                Some(meant) => format!("did you mean `{{{meant}}}`?"),
                None => format!("known here: credential.NAME, {}", known.collect::<Vec<_>>().join(", ")),
            };
            return Err(("names a value that is not known".to_owned(), hint));
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Value(variable));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(Template(pieces))
}

fn tree(value: serde_json::Value) -> Result<Tree, Wrong> {
    use serde_json::Value;
    Ok(match value {
        Value::String(text) => Tree::Text(template(&text)?),
        Value::Array(items) => Tree::List(items.into_iter().map(tree).collect::<Result<_, _>>()?),
        Value::Object(members) => Tree::Object(
            members
                .into_iter()
                .map(|(name, member)| Ok((name, tree(member)?)))
                .collect::<Result<_, Wrong>>()?,
        ),
        plain => Tree::Plain(plain),
    })
}
