//! Whose payments they are: a route as one tenant uses it.
//!
//! A tenant's payments are planned, sent, recovered and found again by a [`Route`] of the tenant's own: the configured
//! one with the tenant's credentials in the place of the configuration's, under the tenant's name in the ledger. Where a
//! tenant has stored none for a gateway there are none: nobody's payment is ever sent with somebody else's. The one
//! exception is a route that the configuration binds to a tenant, or lends to all: its gateways' credentials are then
//! theirs, too.
//!
//! Loaded once and kept until the tenant changes something, or the configuration does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::{Engine, Route};
use crate::account::api_key::Mode;
use crate::account::tenant::Tenant;
use crate::account::{AccountError, Caller, credentials, tenant_of};
use crate::config::model::Credentials;

/// The tenant of everybody who is not registered.
pub const LOCAL: &str = "local";

/// Books whose tenants are kept; beyond, all are forgotten and loaded anew.
const KEPT: usize = 10_000;

/// What a tenant brings to a route.
#[derive(Debug, Default)]
pub struct Party {
    credentials: HashMap<String, Credentials>,
    /// The gateways that it chose, first choice first.
    chosen: Vec<String>,
}

impl Party {
    /// The tenant's credentials for a gateway.
    pub fn credentials(&self, gateway: &str) -> Option<&Credentials> {
        self.credentials.get(gateway)
    }
}

/// What was loaded.
#[derive(Default)]
pub(super) struct Parties {
    kept: DashMap<String, Arc<Party>>,
    /// By books and route: the configured route that it was made of, and the tenant's.
    routes: DashMap<(String, String), (Arc<Route>, Arc<Route>)>,
    /// Counts changes: what was read before one is not kept after it.
    changes: AtomicU64,
}

impl Parties {
    /// Forgets what was made of routes that are no more.
    pub fn forget_routes(&self) {
        self.routes.clear();
    }
}

impl Engine {
    /// What a tenant brings, by the name of its books.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn party(&self, books: &str) -> Result<Arc<Party>, AccountError> {
        if let Some(party) = self.parties.kept.get(books) {
            return Ok(Arc::clone(&party));
        }
        let changes = self.parties.changes.load(Ordering::SeqCst);
        let (tenant, mode) = tenant_of(books);
        let ledger = &*self.ledger;
        let mut party = Party::default();
        for stored in credentials::list(ledger, tenant).await? {
            if stored.mode == mode
                && let Some(found) = credentials::load(ledger, tenant, mode, &stored.gateway).await?
            {
                party.credentials.insert(stored.gateway, found.to_credentials());
            }
        }
        if let Some(Tenant { profile, .. }) = crate::account::tenant::load(ledger, tenant).await? {
            party.chosen.extend(profile.primary_gateway);
            party.chosen.extend(profile.secondary_gateway);
        }
        let party = Arc::new(party);
        if self.parties.kept.len() >= KEPT {
            self.parties.kept.clear();
            self.parties.routes.clear();
        }
        self.parties.kept.insert(books.to_owned(), Arc::clone(&party));
        if self.parties.changes.load(Ordering::SeqCst) != changes {
            self.parties.kept.remove(books);
        }
        Ok(party)
    }

    /// A tenant changed its credentials or its profile: what was loaded of it counts no more.
    pub fn tenant_changed(&self, tenant: &str) {
        self.parties.changes.fetch_add(1, Ordering::SeqCst);
        for mode in [Mode::Live, Mode::Test] {
            let books = Caller::books(tenant, mode);
            self.parties.kept.remove(&books);
            self.parties.routes.retain(|(owner, _), _| *owner != books);
        }
    }

    /// A configured route as the owner of these books uses it; `None` where there is no such route.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn route_of(&self, books: &str, name: &str) -> Result<Option<Arc<Route>>, AccountError> {
        let Some(configured) = self.route(name) else {
            return Ok(None);
        };
        self.made_of(&configured, books).await.map(Some)
    }

    /// The same of a route that is at hand.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn made_of(&self, configured: &Arc<Route>, books: &str) -> Result<Arc<Route>, AccountError> {
        if books == LOCAL && configured.tenant() == LOCAL {
            return Ok(Arc::clone(configured));
        }
        let place = (books.to_owned(), configured.name().to_owned());
        if let Some(known) = self.parties.routes.get(&place)
            && Arc::ptr_eq(&known.0, configured)
        {
            return Ok(Arc::clone(&known.1));
        }
        let changes = self.parties.changes.load(Ordering::SeqCst);
        let party = match books {
            LOCAL => Arc::default(),
            books => self.party(books).await?,
        };
        // What the configuration has belongs to whoever it is configured for, or is lent.
        let configuration_is_theirs = books == LOCAL || books == configured.tenant() || configured.lends_to(books);
        let made = configured.for_tenant(books, |at| match party.credentials(&at.config.name) {
            Some(theirs) => theirs.clone(),
            None if configuration_is_theirs => at.config.credentials.clone(),
            None => Credentials::default(),
        });
        let made = Arc::new(made.ordered(&party.chosen));
        self.parties
            .routes
            .insert(place.clone(), (Arc::clone(configured), Arc::clone(&made)));
        if self.parties.changes.load(Ordering::SeqCst) != changes {
            self.parties.routes.remove(&place);
        }
        Ok(made)
    }
}
