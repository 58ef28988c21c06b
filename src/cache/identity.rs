//! Who asks what of which model: what must be equal before similarity counts.

use std::fmt;

use crate::core::limits::NAME_BYTES;
use crate::error::{Error, ErrorKind, Result};

/// The number of an entry; a later one has a higher number, and none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How far answers of a category go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// To the user who got it.
    User,
    /// To all users of the tenant.
    Tenant,
    /// To all tenants.
    Shared,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::User, Self::Tenant, Self::Shared];

    /// The word, as written in a policy.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Tenant => "tenant",
            Self::Shared => "shared",
        }
    }
}

/// Who asks what of which model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The tenant; it comes from the key, never from the request. Empty where there are none.
    pub tenant: String,
    /// The user of the tenant, if known.
    pub user: Option<String>,
    /// The category, by which the policy is chosen.
    pub category: String,
    /// The model that answers.
    pub model: String,
    /// A hash of all else that must be equal: system prompt, earlier turns, tools, response format, sampling, stream mode.
    pub compat: [u8; 32],
}

impl Identity {
    /// Fails if a name is too long.
    ///
    /// # Errors
    /// `identity_name`.
    pub fn check(&self) -> Result<()> {
        let user = self.user.as_deref().unwrap_or_default();
        for (what, name) in [
            ("tenant", &*self.tenant),
            ("user", user),
            ("category", &*self.category),
            ("model", &*self.model),
        ] {
            if name.len() > NAME_BYTES {
                let message =
                    format!("the {what} has {} bytes, expected at most {NAME_BYTES}", name.len());
                return Err(Error::new(ErrorKind::BadInput, "identity_name", message));
            }
        }
        Ok(())
    }
}

/// Whose answers are in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    User { tenant: String, user: String },
    Tenant(String),
    Shared,
}

/// What selects a partition. Fields are compared one by one: no text is put together, so that none can be forged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    whose: Whose,
    category: String,
    model: String,
    compat: [u8; 32],
}

impl PartitionKey {
    /// The partition of an identity under a scope, or `None` if the scope is a user and none is known.
    pub fn of(identity: &Identity, scope: Scope) -> Option<Self> {
        let tenant = || identity.tenant.clone();
        let whose = match (scope, &identity.user) {
            (Scope::Shared, _) => Whose::Shared,
            (Scope::Tenant, _) => Whose::Tenant(tenant()),
            (Scope::User, Some(user)) => Whose::User { tenant: tenant(), user: user.clone() },
            (Scope::User, None) => return None,
        };
        let Identity { category, model, compat, .. } = identity;
        Some(Self { whose, category: category.clone(), model: model.clone(), compat: *compat })
    }

    /// How far its answers go.
    pub fn scope(&self) -> Scope {
        match self.whose {
            Whose::User { .. } => Scope::User,
            Whose::Tenant(_) => Scope::Tenant,
            Whose::Shared => Scope::Shared,
        }
    }

    /// The category.
    pub fn category(&self) -> &str {
        &self.category
    }

    /// The model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The hash of all else that must be equal.
    pub fn compat(&self) -> &[u8; 32] {
        &self.compat
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whose {
            Whose::User { tenant, user } => write!(f, "user {user:?} of tenant {tenant:?}")?,
            Whose::Tenant(tenant) => write!(f, "tenant {tenant:?}")?,
            Whose::Shared => write!(f, "all tenants")?,
        }
        let head: Vec<String> = self.compat[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        write!(
            f,
            ", category {:?}, model {:?}, compat {}",
            self.category,
            self.model,
            head.concat()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_identity_that_the_scope_names_makes_another_partition() {
        let identity = Identity {
            tenant: "ann".into(),
            user: Some("u".into()),
            category: "faq".into(),
            model: "m".into(),
            compat: [7; 32],
        };
        let others = [
            Identity { tenant: "ben".into(), ..identity.clone() },
            Identity { user: Some("v".into()), ..identity.clone() },
            Identity { category: "code".into(), ..identity.clone() },
            Identity { model: "n".into(), ..identity.clone() },
            Identity { compat: [8; 32], ..identity.clone() },
        ];
        for (scope, differ) in [
            (Scope::User, [true; 5]),
            (Scope::Tenant, [true, false, true, true, true]),
            (Scope::Shared, [false, false, true, true, true]),
        ] {
            let own = PartitionKey::of(&identity, scope).unwrap();
            let found =
                others.each_ref().map(|other| PartitionKey::of(other, scope).unwrap() != own);
            assert_eq!(found, differ, "{scope:?}");
            assert_eq!(own.scope(), scope);
        }
        let nobody = Identity { user: None, ..identity };
        assert_eq!(PartitionKey::of(&nobody, Scope::User), None);
        let long = Identity { model: "m".repeat(256), ..nobody };
        assert_eq!(long.check().unwrap_err().code(), "identity_name");
    }
}
