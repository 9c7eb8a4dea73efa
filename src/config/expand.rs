//! Values from elsewhere: `${NAME}` and `${NAME:-default}` from the environment, `{ file: path }` from a file.
//!
//! They are put in after the text was read, so that a value can neither refer to another nor change the structure, and
//! what came from elsewhere is marked: no message shows it.

use std::path::Path;

use super::files::Files;
use super::yaml::{Entry, Flaw, Kind, Node};

/// Puts values in everywhere below a node.
pub(super) fn expand(node: &mut Node, path: &str, files: &mut Files, flaws: &mut Vec<Flaw>) {
    if let Some(file) = from_file(node) {
        let span = file.span;
        let mut file = file.clone();
        expand(&mut file, path, files, flaws);
        let Kind::Scalar { text: name, .. } = file.kind else {
            return;
        };
        let content = files.text(Path::new(&name)).unwrap_or_else(|message| {
            flaws.push(Flaw {
                span: Some(span),
                path: path.to_owned(),
                message,
                hint: String::new(),
            });
            String::new()
        });
        node.span = span;
        node.kind = Kind::Scalar {
            text: content,
            plain: false,
            foreign: true,
        };
        return;
    }
    match &mut node.kind {
        Kind::Scalar { text, foreign, .. } if text.contains("${") => match variables(text) {
            Ok(value) => {
                *text = value;
                *foreign = true;
            }
            Err((message, hint)) => flaws.push(Flaw {
                span: Some(node.span),
                path: path.to_owned(),
                message,
                hint,
            }),
        },
        Kind::Scalar { .. } => {}
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{path}[{index}]"), files, flaws);
            }
        }
        Kind::Mapping(entries) => {
            for Entry { key, value, .. } in entries {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                expand(value, &path, files, flaws);
            }
        }
    }
}

/// The name in `{ file: name }`.
fn from_file(node: &Node) -> Option<&Node> {
    match &node.kind {
        Kind::Mapping(entries) if entries.len() == 1 && entries[0].key == "file" => {
            Some(&entries[0].value).filter(|value| matches!(value.kind, Kind::Scalar { .. }))
        }
        _ => None,
    }
}

fn variables(text: &str) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((inner, after)) = after.split_once('}') else {
            return Err((
                "a variable that begins with ${ has no closing brace".to_owned(),
                String::new(),
            ));
        };
        let (name, default) = inner
            .split_once(":-")
            .map_or((inner, None), |(name, default)| (name, Some(default)));
        // Anything else may be a secret with `${` in it, and would be repeated.
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || name.len() > 64 {
            let hint = "write letters, digits and _, as in ${STRIPE_SECRET_KEY}".to_owned();
            return Err(("the name of a variable is not one".to_owned(), hint));
        }
        match (std::env::var(name), default) {
            (Ok(value), _) => out.push_str(&value),
            (Err(_), Some(default)) => out.push_str(default),
            (Err(_), None) => {
                let hint = format!("set it, or write ${{{name}:-default}}");
                return Err((format!("the environment has no variable {name}"), hint));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
