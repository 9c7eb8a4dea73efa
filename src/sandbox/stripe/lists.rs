//! Lists, search and expansion.

use serde_json::{Value, json};

use super::errors::Failure;
use super::form::Params;
use super::objects;
use super::{Call, Outcome, Stripe};

/// What a page is cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collection {
    Intents,
    Charges,
    Refunds,
    Methods,
    Customers,
    Events,
}

impl Collection {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "payment_intents" => Self::Intents,
            "charges" => Self::Charges,
            "refunds" => Self::Refunds,
            "payment_methods" => Self::Methods,
            "customers" => Self::Customers,
            "events" => Self::Events,
            _ => return None,
        })
    }

    fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Intents => &["customer", "customer_account"],
            Self::Charges => &["customer", "payment_intent", "transfer_group"],
            Self::Refunds => &["charge", "payment_intent"],
            Self::Methods => &["customer", "type", "allow_redisplay", "customer_account"],
            Self::Customers => &["email", "test_clock"],
            Self::Events => &["type", "types", "delivery_success"],
        }
    }
}

/// Bounds of a time.
struct Range {
    from: i64,
    to: i64,
}

impl Range {
    fn read(params: &Params, name: &str) -> Result<Self, Failure> {
        if let Some(at) = params.integer(name).ok().flatten() {
            return Ok(Self { from: at, to: at });
        }
        let mut range = Self {
            from: i64::MIN,
            to: i64::MAX,
        };
        if let Some(bounds) = params.inside(name) {
            bounds.only(&["gt", "gte", "lt", "lte"])?;
            let after = |bound: Option<i64>| bound.map(|at| at.saturating_add(1));
            let before = |bound: Option<i64>| bound.map(|at| at.saturating_sub(1));
            range.from = bounds
                .integer("gte")?
                .max(after(bounds.integer("gt")?))
                .unwrap_or(i64::MIN);
            let ends = [bounds.integer("lte")?, before(bounds.integer("lt")?)];
            range.to = ends.into_iter().flatten().min().unwrap_or(i64::MAX);
        }
        Ok(range)
    }
}

impl Stripe {
    /// Every object of a collection, newest first.
    fn all(&self, of: Collection, old: bool) -> Vec<Value> {
        match of {
            Collection::Intents => self
                .intents
                .values()
                .rev()
                .map(|one| self.show_intent(one, old))
                .collect(),
            Collection::Charges => self
                .charges
                .values()
                .rev()
                .map(|one| self.show_charge(one, old))
                .collect(),
            Collection::Refunds => self.refunds.values().rev().map(|one| self.show_refund(one)).collect(),
            Collection::Methods => self
                .methods
                .values()
                .rev()
                .filter(|one| one.customer.is_some())
                .map(objects::method)
                .collect(),
            Collection::Customers => {
                let kept = self.customers.values().rev().filter(|one| !one.deleted);
                kept.map(objects::customer).collect()
            }
            Collection::Events => self.events.iter().rev().map(objects::event).collect(),
        }
    }

    /// One page of a list. `url` and `fixed` come from the path.
    pub(super) fn list(&self, call: &Call<'_>, of: Collection, url: &str, fixed: Option<(&str, &str)>) -> Outcome {
        let params = &call.params;
        let paging = ["created", "ending_before", "expand", "limit", "starting_after"];
        params.only(&[of.filters(), &paging].concat())?;
        let limit = params.integer("limit")?.unwrap_or(10);
        if !(1..=100).contains(&limit) {
            return Err(Failure::coded(
                "parameter_invalid_integer",
                "limit",
                "This value must be between 1 and 100.",
            ));
        }
        let limit = usize::try_from(limit).unwrap_or(10);
        let created = Range::read(params, "created")?;
        let mut wanted: Vec<(&str, String)> = fixed.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        for name in of.filters() {
            if let Some(value) = params.text(name) {
                wanted.push((name, value.to_owned()));
            }
        }
        let matches = |object: &Value| {
            let at = object["created"].as_i64().unwrap_or_default();
            created.from <= at && at <= created.to && wanted.iter().all(|(name, value)| object[*name] == value.as_str())
        };
        let all: Vec<Value> = self.all(of, call.old).into_iter().filter(matches).collect();
        let place = |name: &str| -> Result<Option<usize>, Failure> {
            let Some(id) = params.text(name) else { return Ok(None) };
            match all.iter().position(|object| object["id"] == id) {
                Some(at) => Ok(Some(at)),
                None => Err(Failure::coded(
                    "resource_missing",
                    name,
                    &format!("No such object: '{id}'"),
                )),
            }
        };
        let (page, more) = match (place("starting_after")?, place("ending_before")?) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid(
                    "ending_before",
                    "You may only specify one of these parameters: ending_before, starting_after.",
                ));
            }
            (None, Some(end)) => {
                let start = end.saturating_sub(limit);
                (all.get(start..end).unwrap_or_default(), start > 0)
            }
            (start, None) => {
                let start = start.map_or(0, |start| start + 1);
                let end = (start + limit).min(all.len());
                (all.get(start..end).unwrap_or_default(), end < all.len())
            }
        };
        Ok(json!({"object": "list", "data": page, "has_more": more, "url": url}))
    }

    /// Search, which sees what is older than the index's lag.
    pub(super) fn search(&self, call: &Call<'_>, of: Collection, url: &str) -> Outcome {
        let params = &call.params;
        params.only(&["expand", "limit", "page", "query"])?;
        let terms = query(params.required("query")?)?;
        let limit = usize::try_from(params.integer("limit")?.unwrap_or(10).clamp(1, 100)).unwrap_or(10);
        let from: usize = params.text("page").and_then(|page| page.parse().ok()).unwrap_or(0);
        let seen = |object: &Value| {
            object["created"]
                .as_i64()
                .is_some_and(|at| at <= call.now - self.search_lag)
        };
        let found: Vec<Value> = self
            .all(of, call.old)
            .into_iter()
            .filter(|object| seen(object) && terms.iter().all(|term| term.holds(object)))
            .collect();
        let end = (from + limit).min(found.len());
        let more = end < found.len();
        Ok(
            json!({"object": "search_result", "data": found.get(from..end).unwrap_or_default(), "has_more": more,
            "next_page": more.then(|| end.to_string()), "url": url}),
        )
    }

    /// Refuses what cannot be expanded, before anything is executed.
    pub(super) fn expandable(params: &Params) -> Result<(), Failure> {
        const KNOWN: [&str; 20] = [
            "application",
            "balance_transaction",
            "charge",
            "charges",
            "customer",
            "data",
            "default_source",
            "failure_balance_transaction",
            "invoice_settings",
            "default_payment_method",
            "latest_charge",
            "on_behalf_of",
            "payment_intent",
            "payment_method",
            "refunds",
            "review",
            "source",
            "source_transfer_reversal",
            "transfer_data",
            "transfer_reversal",
        ];
        for path in params.list("expand") {
            if path.split('.').count() > 4 {
                let message = "You cannot expand more than 4 levels of a property.";
                return Err(Failure::invalid("expand", message));
            }
            if !path.split('.').all(|name| KNOWN.contains(&name)) {
                return Err(Failure::invalid(
                    "expand",
                    &format!("This property cannot be expanded ({path})."),
                ));
            }
        }
        Ok(())
    }

    /// Turns ids into objects where the request asks for it.
    pub(super) fn expand(&self, call: &Call<'_>, object: &mut Value) {
        for path in call.params.list("expand") {
            let names: Vec<&str> = path.split('.').collect();
            self.expand_at(call, object, &names);
        }
    }

    fn expand_at(&self, call: &Call<'_>, at: &mut Value, names: &[&str]) {
        let Some((first, rest)) = names.split_first() else {
            return;
        };
        if let Value::Array(items) = at {
            for item in items {
                self.expand_at(call, item, names);
            }
            return;
        }
        if *first == "refunds"
            && at["object"] == "charge"
            && let Some(charge) = at["id"].as_str().and_then(|id| self.charges.get(id))
        {
            at["refunds"] = self.refunds_of(charge);
        }
        let Some(value) = at.get_mut(*first) else { return };
        if let Some(object) = value.as_str().and_then(|id| self.object(call, id)) {
            *value = object;
        }
        self.expand_at(call, value, rest);
    }

    /// Any object by its id.
    fn object(&self, call: &Call<'_>, id: &str) -> Option<Value> {
        let (kind, _) = id.split_once('_')?;
        match kind {
            "pi" => self.intents.get(id).map(|one| self.show_intent(one, call.old)),
            "ch" => self.charges.get(id).map(|one| self.show_charge(one, call.old)),
            "re" => self.refunds.get(id).map(|one| self.show_refund(one)),
            "pm" => self.methods.get(id).map(objects::method),
            "cus" => self.customers.get(id).map(objects::customer),
            "txn" => self.show_balance_transaction(id),
            _ => None,
        }
    }
}

/// One condition of a search.
struct Term {
    negated: bool,
    field: String,
    key: Option<String>,
    how: char,
    value: String,
}

impl Term {
    fn holds(&self, object: &Value) -> bool {
        let found = match &self.key {
            Some(key) => &object[&self.field][key],
            None => &object[&self.field],
        };
        let number = || Some((found.as_i64()?, self.value.parse::<i64>().ok()?));
        let text = match found {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let holds = match self.how {
            ':' => text.eq_ignore_ascii_case(&self.value),
            '~' => text.to_lowercase().contains(&self.value.to_lowercase()),
            '>' => number().is_some_and(|(a, b)| a > b),
            '<' => number().is_some_and(|(a, b)| a < b),
            'g' => number().is_some_and(|(a, b)| a >= b),
            _ => number().is_some_and(|(a, b)| a <= b),
        };
        holds != self.negated
    }
}

/// Stripe's search language, `AND` only: `metadata['order_id']:'6735' AND created>1763900000`.
fn query(text: &str) -> Result<Vec<Term>, Failure> {
    let bad = || Failure::invalid("query", "We were unable to parse your search query.");
    let mut terms = Vec::new();
    for part in text.split(" AND ") {
        let part = part.trim();
        let (negated, part) = part.strip_prefix('-').map_or((false, part), |rest| (true, rest));
        let at = part.find([':', '~', '>', '<']).ok_or_else(bad)?;
        let (field, rest) = part.split_at(at);
        let mut how = rest.chars().next().ok_or_else(bad)?;
        let mut value = rest.get(1..).unwrap_or_default();
        if let Some(after) = value.strip_prefix('=') {
            how = if how == '>' { 'g' } else { 'l' };
            value = after;
        }
        let unquoted = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
        let (field, key) = match field.split_once('[') {
            Some((field, key)) => (field, Some(unquoted(key.strip_suffix(']').ok_or_else(bad)?))),
            None => (field, None),
        };
        let known = [
            "amount",
            "created",
            "currency",
            "customer",
            "metadata",
            "status",
            "email",
            "name",
            "payment_method_details",
        ];
        if !known.contains(&field.trim()) {
            return Err(Failure::invalid(
                "query",
                &format!("Field `{field}` is an unsupported search field."),
            ));
        }
        terms.push(Term {
            negated,
            field: field.trim().to_owned(),
            key,
            how,
            value: unquoted(value),
        });
    }
    Ok(terms)
}
