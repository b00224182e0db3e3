//! Who sent a request, and what it may have to do with. The gate puts it in; handlers ask it for the sites that only
//! they can tell.

use super::problem::Refusal;
use crate::ccm::access::{Role, Scope};
use crate::ccm::db::Key;
use crate::wire::id::Name;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

#[derive(Clone, Debug)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    who: String,
    role: Role,
    scope: Scope,
    key: OnceLock<Key>,
    noted: Mutex<Noted>,
}

/// What a handler says of a request, for the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    pub site: Option<Name>,
    pub detail: String,
}

impl Caller {
    pub fn new(who: String, role: Role, scope: Scope) -> Self {
        Self(Arc::new(Inner { who, role, scope, key: OnceLock::new(), noted: Mutex::default() }))
    }

    /// Whoever may use the Unix socket.
    pub fn local(uid: u32) -> Self {
        Self::new(format!("uid:{uid}"), Role::Admin, Scope::Farm)
    }

    /// `uid:1000`, `token:ci`
    pub fn who(&self) -> &str {
        &self.0.who
    }

    pub fn role(&self) -> Role {
        self.0.role
    }

    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// By what the request is known again; `None` where it may not be sent twice.
    pub fn key(&self) -> Option<&Key> {
        self.0.key.get()
    }

    /// Of a request there is one key, set before its handler sees it.
    pub fn set_key(&self, key: Key) {
        self.0.key.get_or_init(|| key);
    }

    /// Whether what is of this site may be shown.
    pub fn sees(&self, site: &Name) -> bool {
        self.0.scope.holds(site)
    }

    /// That a request is about this site.
    ///
    /// # Errors
    /// It is none of its sites.
    pub fn check(&self, site: &Name) -> Result<(), Refusal> {
        if !self.sees(site) {
            return Err(Refusal::denied(format!(
                "{} is for {} only, not for {site}",
                self.who(),
                self.scope()
            )));
        }
        self.noted().site = Some(site.clone());
        Ok(())
    }

    /// That a request is about the farm.
    ///
    /// # Errors
    /// It is for some sites only.
    pub fn check_farm(&self) -> Result<(), Refusal> {
        if self.scope().is_farm() {
            return Ok(());
        }
        let detail = format!("{} is for {} only, and this is about the whole farm", self.who(), self.scope());
        Err(Refusal::denied(detail))
    }

    /// What was asked for, in a few words.
    pub fn note(&self, detail: String) {
        self.noted().detail = detail;
    }

    pub fn take_note(&self) -> Noted {
        std::mem::take(&mut *self.noted())
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.0.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Refusal::internal(format!("{} came in by no gate", parts.uri.path())))
    }
}
