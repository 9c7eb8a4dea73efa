//! Payment methods, customers and tokens.

use indexmap::IndexMap;

use super::cards::{self, Verdict};
use super::errors::Failure;
use super::form::Params;
use super::intents::raw_card;
use super::objects::{self, card_error};
use super::state::{Customer, Method, Token};
use super::{Call, Outcome, Stripe};

impl Stripe {
    pub(super) fn customer(&self, id: &str) -> Result<&Customer, Failure> {
        self.customers
            .get(id)
            .filter(|customer| !customer.deleted)
            .ok_or_else(|| Failure::no_such("customer", id))
    }

    fn keep_method(&mut self, call: &Call<'_>, card: cards::Card, billing: Option<&Params>) -> String {
        let id = self.id("pm_1", 23);
        let method = Method {
            id: id.clone(),
            card,
            billing: objects::billing(billing),
            created: call.now,
            customer: None,
            metadata: IndexMap::new(),
            spent: false,
        };
        self.methods.insert(id.clone(), method);
        id
    }

    /// The id behind what a request names: a method, a test name (a new method each time), or a token.
    pub(super) fn resolve_method(&mut self, call: &Call<'_>, given: &str) -> Result<String, Failure> {
        if let Some(card) = cards::by_name(given) {
            return Ok(self.keep_method(call, card, None));
        }
        if given.starts_with("tok_") {
            let card = self.spend_token(given)?;
            return Ok(self.keep_method(call, card, None));
        }
        let id = given.replacen("card_", "pm_", 1);
        if self.methods.contains_key(&id) {
            return Ok(id);
        }
        Err(Failure::no_such("PaymentMethod", given))
    }

    fn spend_token(&mut self, id: &str) -> Result<cards::Card, Failure> {
        if let Some(card) = cards::by_name(id) {
            return Ok(card);
        }
        let token = self.tokens.get_mut(id).ok_or_else(|| Failure::no_such("token", id))?;
        if token.used {
            let message = format!("You cannot use a Stripe token more than once: {id}.");
            return Err(Failure::coded("token_already_used", "source", &message));
        }
        token.used = true;
        Ok(token.card.clone())
    }

    /// The card of `type=card&card[...]`, raw or a token.
    fn described(&mut self, call: &Call<'_>, params: &Params) -> Result<cards::Card, Failure> {
        match params.text("type") {
            Some("card") | None => {}
            Some(other) => {
                let message = format!("The payment method type \"{other}\" is invalid.");
                return Err(Failure::invalid(&params.name("type"), &message));
            }
        }
        let card = params
            .inside("card")
            .ok_or_else(|| Failure::missing(&params.name("card")))?;
        card.only(&["number", "exp_month", "exp_year", "cvc", "token", "networks"])?;
        if let Some(token) = card.text("token") {
            return self.spend_token(token);
        }
        if !self.raw_cards {
            return Err(Failure::invalid(
                &card.name("number"),
                "Sending credit card numbers directly to the Stripe API is generally unsafe. To continue, enable access to raw card data APIs.",
            ));
        }
        raw_card(&card, call.now)
    }

    pub(super) fn inline_method(&mut self, call: &Call<'_>, data: &Params) -> Result<String, Failure> {
        let card = self.described(call, data)?;
        Ok(self.keep_method(call, card, data.inside("billing_details").as_ref()))
    }

    pub(super) fn method(&self, id: &str) -> Result<&Method, Failure> {
        self.methods
            .get(id)
            .ok_or_else(|| Failure::no_such("PaymentMethod", id))
    }

    pub(super) fn create_method(&mut self, call: &Call<'_>) -> Outcome {
        let params = &call.params;
        params.only(&[
            "allow_redisplay",
            "billing_details",
            "card",
            "customer",
            "expand",
            "metadata",
            "payment_method",
            "radar_options",
            "type",
        ])?;
        params.required("type")?;
        let card = self.described(call, params)?;
        let metadata = super::merged(IndexMap::new(), params)?;
        let id = self.keep_method(call, card, params.inside("billing_details").as_ref());
        if let Some(method) = self.methods.get_mut(&id) {
            method.metadata = metadata;
        }
        Ok(objects::method(self.method(&id)?))
    }

    pub(super) fn update_method(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        let params = &call.params;
        params.only(&["allow_redisplay", "billing_details", "card", "expand", "metadata"])?;
        let metadata = super::merged(self.method(id)?.metadata.clone(), params)?;
        if let Some(method) = self.methods.get_mut(id) {
            method.metadata = metadata;
            if let Some(billing) = params.inside("billing_details") {
                method.billing = objects::billing(Some(&billing));
            }
        }
        Ok(objects::method(self.method(id)?))
    }

    pub(super) fn attach(&mut self, call: &Call<'_>, given: &str) -> Outcome {
        call.params.only(&["customer", "expand"])?;
        let customer = call.params.required("customer")?.to_owned();
        self.customer(&customer)?;
        let id = self.resolve_method(call, given)?;
        let method = self.method(&id)?;
        if method.spent {
            return Err(Failure::refused(
                "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.",
            ));
        }
        if method.customer.as_ref().is_some_and(|owner| *owner != customer) {
            return Err(Failure::refused(
                "The payment method you provided has already been attached to a customer.",
            ));
        }
        // Attaching asks the issuer whether the card is any good.
        if let Verdict::Decline(code, decline) = method.card.verdict {
            return Err(Failure::card(card_error(code, decline, None)));
        }
        if let Some(method) = self.methods.get_mut(&id) {
            method.customer = Some(customer.clone());
        }
        if let Some(customer) = self.customers.get_mut(&customer) {
            customer.default.get_or_insert_with(|| id.clone());
        }
        Ok(objects::method(self.method(&id)?))
    }

    pub(super) fn detach(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        call.params.only(&["expand"])?;
        let Some(customer) = self.method(id)?.customer.clone() else {
            return Err(Failure::refused(
                "The payment method you provided is not attached to a customer so detachment is impossible.",
            ));
        };
        if let Some(method) = self.methods.get_mut(id) {
            method.customer = None;
            method.spent = true;
        }
        if let Some(customer) = self.customers.get_mut(&customer)
            && customer.default.as_deref() == Some(id)
        {
            customer.default = None;
        }
        Ok(objects::method(self.method(id)?))
    }

    pub(super) fn create_customer(&mut self, call: &Call<'_>) -> Outcome {
        let id = self.id("cus_", 14);
        let mut customer = Customer {
            id: id.clone(),
            created: call.now,
            deleted: false,
            fields: IndexMap::new(),
            address: serde_json::Value::Null,
            shipping: serde_json::Value::Null,
            metadata: IndexMap::new(),
            default: None,
        };
        self.fill(call, &mut customer)?;
        if let Some(method) = call.params.text("payment_method").or(call.params.text("source")) {
            let method = self.resolve_method(call, method)?;
            if let Some(method) = self.methods.get_mut(&method) {
                method.customer = Some(id.clone());
            }
            customer.default = Some(method);
        }
        let shown = objects::customer(&customer);
        self.customers.insert(id, customer);
        Ok(shown)
    }

    pub(super) fn update_customer(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        let mut customer = self.customer(id)?.clone();
        self.fill(call, &mut customer)?;
        let shown = objects::customer(&customer);
        self.customers.insert(id.to_owned(), customer);
        Ok(shown)
    }

    #[expect(clippy::unused_self, reason = "one of the operations on the account")]
    fn fill(&self, call: &Call<'_>, customer: &mut Customer) -> Result<(), Failure> {
        const FIELDS: [&str; 4] = ["description", "email", "name", "phone"];
        let params = &call.params;
        let known = [
            "address",
            "balance",
            "cash_balance",
            "expand",
            "invoice_prefix",
            "invoice_settings",
            "metadata",
            "payment_method",
            "preferred_locales",
            "shipping",
            "source",
            "tax",
            "tax_exempt",
            "default_source",
        ];
        params.only(&[&FIELDS[..], &known].concat())?;
        for field in FIELDS {
            match params.text(field) {
                Some(text) => {
                    customer.fields.insert(field, text.to_owned());
                }
                None if params.has(field) => {
                    customer.fields.shift_remove(field);
                }
                None => {}
            }
        }
        if let Some(address) = params.inside("address") {
            customer.address = objects::address(Some(&address));
        }
        if let Some(shipping) = params.inside("shipping") {
            customer.shipping = objects::shipping(Some(&shipping));
        }
        if let Some(settings) = params.inside("invoice_settings")
            && let Some(method) = settings.text("default_payment_method")
        {
            customer.default = Some(method.to_owned());
        }
        customer.metadata = super::merged(std::mem::take(&mut customer.metadata), params)?;
        Ok(())
    }

    pub(super) fn delete_customer(&mut self, id: &str) -> Outcome {
        self.customer(id)?;
        for method in self
            .methods
            .values_mut()
            .filter(|method| method.customer.as_deref() == Some(id))
        {
            method.customer = None;
            method.spent = true;
        }
        if let Some(customer) = self.customers.get_mut(id) {
            customer.deleted = true;
            return Ok(objects::customer(customer));
        }
        Err(Failure::no_such("customer", id))
    }

    pub(super) fn create_token(&mut self, call: &Call<'_>) -> Outcome {
        let params = &call.params;
        params.only(&["card", "customer", "expand"])?;
        let card = params.inside("card").ok_or_else(|| Failure::missing("card"))?;
        let card = raw_card(&card, call.now)?;
        let id = self.id("tok_1", 23);
        let token = Token {
            id: id.clone(),
            card,
            created: call.now,
            used: false,
        };
        let shown = objects::token(&token);
        self.tokens.insert(id, token);
        Ok(shown)
    }
}
