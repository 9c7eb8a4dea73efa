//! The documentation as a page: made of the endpoints' declarations at start, without script and without anything from
//! elsewhere. Its examples are `curl` calls that work as they stand, once the words in capitals are filled in.

use std::fmt::Write as _;

use axum::http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::call::{Call, of_type};
use super::endpoint::{Endpoint, Needs};
use super::problem::{Code, Problem};
use super::{Reply, openapi};

const STYLE: &str = include_str!("docs/style.css");
const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The document as JSON.
pub async fn document(call: Call) -> Result<Reply, Problem> {
    Ok(of_type(
        StatusCode::OK,
        "application/json",
        call.api().document().clone(),
    ))
}

/// The page.
pub async fn html(call: Call) -> Result<Reply, Problem> {
    let mut reply = of_type(StatusCode::OK, "text/html; charset=utf-8", call.api().page().clone());
    reply.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CSP);
    Ok(reply)
}

/// Its style.
pub async fn style(_: Call) -> Result<Reply, Problem> {
    Ok(of_type(StatusCode::OK, "text/css; charset=utf-8", STYLE))
}

/// Text that HTML shows as it is.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Text with its `code`.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&escaped(part)),
            _ => {
                let _ = write!(out, "<code>{}</code>", escaped(part));
            }
        }
    }
    out
}

/// The whole page.
pub fn page(endpoints: &[Endpoint]) -> String {
    let document = openapi::document(endpoints);
    let mut groups: Vec<&str> = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| shown(endpoint)) {
        if !groups.contains(&endpoint.group) {
            groups.push(endpoint.group);
        }
    }
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>API Sentinel: API reference</title>\n\
         <link rel=\"stylesheet\" href=\"/api/v1/docs/style.css\">\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the reference</a>\n<header>\n<h1>API Sentinel</h1>\n\
         <p>Accounts, keys and figures. Payments themselves are sent to the gateway listeners, by the gateway's own SDK.</p>\n\
         </header>\n<nav aria-label=\"Contents\">\n",
    );
    for group in &groups {
        let _ = write!(out, "<h2>{}</h2>\n<ul>\n", escaped(group));
        for endpoint in endpoints
            .iter()
            .filter(|endpoint| endpoint.group == *group && shown(endpoint))
        {
            let _ = writeln!(
                out,
                "<li><a href=\"#{}\">{}</a></li>",
                endpoint.name,
                escaped(endpoint.summary)
            );
        }
        out.push_str("</ul>\n");
    }
    out.push_str(
        "<h2>Problems</h2>\n<ul>\n<li><a href=\"#problems\">All kinds</a></li>\n</ul>\n</nav>\n<main id=\"main\">\n",
    );
    out.push_str(
        "<section>\n<h2>How to ask</h2>\n<p>Send <code>Authorization: Bearer</code> with the token of a session, or with an \
         API key where an endpoint takes one. Bodies are JSON, unless an endpoint says otherwise. Times are RFC 3339, \
         amounts are exact decimals. Every answer has <code>Sentinel-Request-Id</code>, by which it is found in the log. \
         The machine-readable form of this page is \
         <a href=\"/api/v1/openapi.json\">openapi.json</a> (OpenAPI 3.1).</p>\n</section>\n",
    );
    for group in &groups {
        let _ = write!(out, "<section>\n<h2>{}</h2>\n", escaped(group));
        for endpoint in endpoints
            .iter()
            .filter(|endpoint| endpoint.group == *group && shown(endpoint))
        {
            article(&mut out, endpoint, &document);
        }
        out.push_str("</section>\n");
    }
    problems(&mut out);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// The style is nothing to read about.
fn shown(endpoint: &Endpoint) -> bool {
    endpoint.name != "getDocsStyle"
}

fn article(out: &mut String, endpoint: &Endpoint, document: &Value) {
    let _ = write!(
        out,
        "<article id=\"{}\">\n<h3>{}</h3>\n<p class=\"call\"><b>{}</b> <code>{}</code></p>\n",
        endpoint.name,
        escaped(endpoint.summary),
        endpoint.method,
        escaped(endpoint.path)
    );
    let whom = match endpoint.needs {
        Needs::Nothing => "Open to everybody.".to_owned(),
        Needs::Session => "For a session: its token.".to_owned(),
        Needs::Scope(scope) => format!("For a session, or an API key with the scope `{}`.", scope.label()),
    };
    let _ = writeln!(out, "<p>{} {}</p>", prose(&whom), prose(endpoint.details));
    let operation = &document["paths"][endpoint.path][endpoint.method.as_str().to_ascii_lowercase()];
    let parameters = operation["parameters"].as_array();
    let fields = endpoint
        .takes
        .iter()
        .filter(|takes| takes.media_type == "application/json")
        .find_map(|_| operation.pointer("/requestBody/content/application~1json/schema"));
    let rows: Vec<(String, String)> = parameters
        .into_iter()
        .flatten()
        .map(|parameter| {
            let text = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
            (text("name"), text("description"))
        })
        .chain(fields.into_iter().flat_map(|schema| described(schema, document)))
        .collect();
    table(out, "What it takes", &rows);
    let _ = writeln!(
        out,
        "<pre tabindex=\"0\"><code>{}</code></pre>",
        escaped(&curl(endpoint))
    );
    for answer in &endpoint.answers {
        let _ = writeln!(
            out,
            "<p>Answers <b>{}</b>: {}.</p>",
            answer.status.as_u16(),
            escaped(answer.what)
        );
        let schema = operation.pointer(&format!(
            "/responses/{}/content/application~1json/schema",
            answer.status.as_u16()
        ));
        let rows: Vec<_> = schema
            .into_iter()
            .flat_map(|schema| described(schema, document))
            .collect();
        table(out, "What it answers", &rows);
    }
    let problems: Vec<String> = endpoint
        .fails
        .iter()
        .map(|code| format!("<a href=\"#problem-{0}\">{0}</a>", code.label()))
        .collect();
    if !problems.is_empty() {
        let _ = writeln!(out, "<p>Problems of its own: {}.</p>", problems.join(", "));
    }
    out.push_str("</article>\n");
}

fn table(out: &mut String, caption: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(out, "<table>\n<caption>{caption}</caption>\n");
    for (name, what) in rows {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td></tr>",
            escaped(name),
            prose(what)
        );
    }
    out.push_str("</table>\n");
}

/// The fields of an object's schema, each with what it is.
fn described(schema: &Value, document: &Value) -> Vec<(String, String)> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or(&Value::Null),
        None => schema,
    };
    let fields = schema["properties"].as_object();
    fields
        .into_iter()
        .flatten()
        .map(|(name, field)| {
            (
                name.clone(),
                field["description"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// A call that works once the words in capitals are filled in.
pub fn curl(endpoint: &Endpoint) -> String {
    let mut path = endpoint.path.to_owned();
    for (name, _) in &endpoint.parameters {
        let value = match *name {
            "gateway" => "stripe".to_owned(),
            other => format!("YOUR_{}", other.to_ascii_uppercase()),
        };
        path = path.replace(&format!("{{{name}}}"), &value);
    }
    let address = match endpoint.query_example {
        "" => format!("http://localhost:8080{path}"),
        query => format!("'http://localhost:8080{path}?{query}'"),
    };
    let mut call = match endpoint.method {
        Method::GET => format!("curl {address}"),
        ref method => format!("curl -X {method} {address}"),
    };
    match endpoint.needs {
        Needs::Nothing => {}
        Needs::Session => call.push_str(" \\\n  -H \"Authorization: Bearer YOUR_JWT_TOKEN\""),
        Needs::Scope(_) => call.push_str(" \\\n  -H \"Authorization: Bearer YOUR_API_KEY\""),
    }
    if let Some(takes) = endpoint.takes.first() {
        let body = match &takes.example {
            Value::String(text) => text.clone(),
            example => example.to_string(),
        };
        let _ = write!(
            call,
            " \\\n  -H \"Content-Type: {}\" \\\n  --data-binary '{body}'",
            takes.media_type
        );
    }
    call
}

fn problems(out: &mut String) {
    out.push_str(
        "<section id=\"problems\">\n<h2>Problems</h2>\n<p>Every problem has this form (RFC 9457): <code>type</code>, \
        <code>title</code>, <code>status</code>, <code>detail</code>, <code>code</code>, <code>requestId</code>, and \
        <code>errors</code> where fields are to blame.</p>\n<table>\n",
    );
    for code in Code::ALL {
        let _ = writeln!(
            out,
            "<tr id=\"problem-{0}\"><th scope=\"row\"><code>{0}</code></th><td>{1}</td><td>{2}.</td></tr>",
            code.label(),
            code.status().as_u16(),
            escaped(code.title())
        );
    }
    out.push_str("</table>\n</section>\n");
}
