//! An endpoint: method and path, whom it is for, what it takes and answers, and who answers it.

use std::future::Future;
use std::pin::Pin;

use axum::http::{HeaderMap, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::Reply;
use super::call::Call;
use super::problem::{Code, Problem};
use super::shape::Shape;
use crate::account::api_key::Scope;

/// The largest body unless an endpoint says otherwise: an account's settings have some hundred bytes.
const BODY: usize = 16 * 1024;

/// Whom an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Everybody.
    Nothing,
    /// A tenant in a session. An API key will not do.
    Session,
    /// A tenant in a session, or an API key with this scope.
    Scope(Scope),
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What an endpoint takes.
#[derive(Debug)]
pub(super) struct Takes {
    pub media_type: &'static str,
    pub schema: SchemaOf,
    pub example: Value,
    shape: Option<Shape>,
}

/// What an endpoint answers.
#[derive(Debug)]
pub(super) struct Answers {
    pub status: StatusCode,
    pub what: &'static str,
    /// Media types with their schemas.
    pub content: Vec<(&'static str, SchemaOf)>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// An endpoint.
pub struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) summary: &'static str,
    pub(super) details: &'static str,
    pub(super) needs: Needs,
    pub(super) takes: Vec<Takes>,
    pub(super) query: Option<SchemaOf>,
    pub(super) query_example: &'static str,
    pub(super) parameters: Vec<(&'static str, &'static str)>,
    pub(super) answers: Vec<Answers>,
    pub(super) fails: Vec<Code>,
    limit: usize,
    handler: Box<dyn Fn(Call) -> Answering + Send + Sync>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Endpoint {
    /// An endpoint that reads. `path` begins with `/api/v1` and may have `{name}` for a segment; `name` is what clients
    /// generated from the document call it. For whoever may read figures, unless said otherwise by [`Self::needs`].
    pub fn get<F, A>(path: &'static str, name: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Self::new(Method::GET, path, name, handler)
    }

    /// An endpoint that makes or does something.
    pub fn post<F, A>(path: &'static str, name: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Self::new(Method::POST, path, name, handler)
    }

    /// An endpoint that puts something in the place of what is there.
    pub fn put<F, A>(path: &'static str, name: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Self::new(Method::PUT, path, name, handler)
    }

    /// An endpoint that deletes.
    pub fn delete<F, A>(path: &'static str, name: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Self::new(Method::DELETE, path, name, handler)
    }

    /// What clients generated from the document call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn new<F, A>(method: Method, path: &'static str, name: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Self {
            method,
            path,
            name,
            group: "Status",
            summary: "",
            details: "",
            needs: Needs::Session,
            takes: Vec::new(),
            query: None,
            query_example: "",
            parameters: Vec::new(),
            answers: Vec::new(),
            fails: Vec::new(),
            limit: 0,
            handler: Box::new(move |call| Box::pin(handler(call))),
        }
    }

    /// Under which heading it stands, what it does in a line, and what else there is to know.
    #[must_use]
    pub fn about(mut self, group: &'static str, summary: &'static str, details: &'static str) -> Self {
        (self.group, self.summary, self.details) = (group, summary, details);
        self
    }

    /// Whom it is for. Default: a tenant in a session.
    #[must_use]
    pub fn for_whom(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    /// The JSON object that it takes, with an example that works.
    #[must_use]
    pub fn takes<T: JsonSchema>(mut self, example: Value) -> Self {
        self.limit = self.limit.max(BODY);
        self.takes.push(Takes {
            media_type: "application/json",
            schema: |generator| generator.subschema_for::<T>(),
            example,
            shape: Some(Shape::of::<T>()),
        });
        self
    }

    /// Text of some media type that it takes, up to a number of bytes, with an example that works.
    #[must_use]
    pub fn takes_text(mut self, media_type: &'static str, limit: usize, example: &str) -> Self {
        self.limit = self.limit.max(limit);
        self.takes.push(Takes {
            media_type,
            schema: |generator| generator.subschema_for::<String>(),
            example: Value::String(example.to_owned()),
            shape: None,
        });
        self
    }

    /// The parameters of its query: a flat struct of optional fields.
    #[must_use]
    pub fn asks<T: JsonSchema>(mut self) -> Self {
        self.query = Some(|generator| generator.root_schema_for::<T>());
        self
    }

    /// A query that works, for an endpoint that needs one.
    #[must_use]
    pub fn asked_as(mut self, query: &'static str) -> Self {
        self.query_example = query;
        self
    }

    /// What a `{name}` of its path is.
    #[must_use]
    pub fn parameter(mut self, name: &'static str, what: &'static str) -> Self {
        self.parameters.push((name, what));
        self
    }

    /// A JSON answer.
    #[must_use]
    pub fn answers<T: JsonSchema>(self, status: StatusCode, what: &'static str) -> Self {
        self.answers_as::<T>(status, what, "application/json")
    }

    /// An answer of some media type. Several of one status are several media types.
    #[must_use]
    pub fn answers_as<T: JsonSchema>(
        mut self,
        status: StatusCode,
        what: &'static str,
        media_type: &'static str,
    ) -> Self {
        let schema: SchemaOf = |generator| generator.subschema_for::<T>();
        match self.answers.iter_mut().find(|answer| answer.status == status) {
            Some(answer) => answer.content.push((media_type, schema)),
            None => self.answers.push(Answers {
                status,
                what,
                content: vec![(media_type, schema)],
            }),
        }
        self
    }

    /// An answer without a body.
    #[must_use]
    pub fn answers_nothing(mut self, what: &'static str) -> Self {
        self.answers.push(Answers {
            status: StatusCode::NO_CONTENT,
            what,
            content: Vec::new(),
        });
        self
    }

    /// Problems of its own, beside those that every endpoint has.
    #[must_use]
    pub fn fails(mut self, codes: &[Code]) -> Self {
        self.fails.extend_from_slice(codes);
        self
    }

    /// Whom it is for.
    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    /// The largest body, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a body may be read. Text bodies are checked by their endpoints.
    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
        let shape = self.takes.iter().find_map(|takes| takes.shape.as_ref());
        match shape {
            Some(shape) if self.takes.len() == 1 => shape.check(headers, body),
            _ => Ok(()),
        }
    }

    pub(super) fn run(&self, call: Call) -> Answering {
        (self.handler)(call)
    }

    /// The values of its path's parameters, when it is the path's.
    fn matches(&self, path: &str) -> Option<Vec<String>> {
        let (mut wanted, mut sent) = (self.path.split('/'), path.split('/'));
        let mut values = Vec::new();
        loop {
            match (wanted.next(), sent.next()) {
                (None, None) => return Some(values),
                (Some(name), Some(value)) if name.starts_with('{') && !value.is_empty() => {
                    values.push(
                        percent_encoding::percent_decode_str(value)
                            .decode_utf8()
                            .ok()?
                            .into_owned(),
                    );
                }
                (Some(name), Some(value)) if name == value => {}
                _ => return None,
            }
        }
    }
}

/// What answers a path.
pub(super) enum Found<'a> {
    /// An endpoint, with the values of its path's parameters.
    Endpoint(&'a Endpoint, Vec<String>),
    /// Endpoints of these methods only.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

/// The endpoint of a method and path. HEAD is what GET would answer, without its body.
pub(super) fn find<'a>(endpoints: &'a [Endpoint], method: &Method, path: &str) -> Found<'a> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut methods = Vec::new();
    for endpoint in endpoints {
        let Some(parameters) = endpoint.matches(path) else {
            continue;
        };
        if endpoint.method == *wanted {
            return Found::Endpoint(endpoint, parameters);
        }
        methods.push(endpoint.method.as_str());
        if endpoint.method == Method::GET {
            methods.push("HEAD");
        }
    }
    match methods.is_empty() {
        true => Found::Nothing,
        false => Found::OtherMethods(methods.join(", ")),
    }
}
