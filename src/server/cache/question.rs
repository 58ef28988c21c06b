//! A request for the model together with who asks and what its headers say.

use crate::server::cache::canonical::{Hash, Hasher};
use crate::server::cache::control::Control;
use crate::server::cache::identity::{Asked, Reach};
use crate::server::call::Caller;

/// The cache of requests for the model.
pub const PROXY: &str = "proxy";

/// A request for the model.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub asked: Asked,
    /// What the headers say.
    pub control: Control,
    /// Who asks.
    pub caller: Caller,
}

impl Question {
    /// The tenant; the empty name is that of none.
    pub fn tenant(&self) -> &str {
        self.caller.tenant().unwrap_or_default()
    }

    /// The category; the empty name has the default policy.
    pub fn category(&self) -> &str {
        self.control.category.as_deref().unwrap_or_default()
    }

    /// Whether the text may be compared by what it means.
    pub fn is_by_meaning(&self) -> bool {
        self.asked.reach == Reach::Meaning
    }

    /// Whether similarities and entries may be told, and thresholds lowered: to no key of a tenant.
    pub fn is_trusted(&self) -> bool {
        is_trusted(&self.caller)
    }

    /// What requests have in common of which one may get the other's answer while it is on its way: the user as well, whatever the
    /// policy says.
    pub fn flight(&self) -> Hash {
        let mut hasher = Hasher::new("flight");
        hasher.text(self.tenant()).text(self.category());
        match &self.asked.user {
            Some(user) => hasher.text("of").text(user),
            None => hasher.text("of nobody"),
        };
        hasher.bytes(&self.asked.exact).hash()
    }
}

/// Whether whoever asks sees all tenants anyway.
pub fn is_trusted(caller: &Caller) -> bool {
    caller.tenant().is_none()
}
