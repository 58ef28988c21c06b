//! Other names of collections.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::server::aliases::{Aliases, no_alias};
use crate::server::call::Call;
use crate::server::catalog::not_found;
use crate::server::qdrant::json::body;
use crate::server::reply::{Answer, Reply};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasActions {
    actions: Vec<AliasAction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
enum AliasAction {
    #[serde(rename = "create_alias")]
    Create { collection_name: String, alias_name: String },
    #[serde(rename = "delete_alias")]
    Delete { alias_name: String },
    #[serde(rename = "rename_alias")]
    Rename { old_alias_name: String, new_alias_name: String },
}

/// `POST /collections/aliases`: all actions or none.
pub fn change(call: &Call<'_>) -> Answer {
    let AliasActions { actions } = body(call)?;
    let check_free = |alias: &str| match call.catalog.of_name(alias) {
        None => Ok(()),
        Some(_) => {
            let message = format!("there is a collection {alias:?} already");
            Err(Error::usage("collection_exists", message))
        }
    };
    // An alias of a collection that is not there for the caller is not there either.
    let check_own = |aliases: &Aliases, alias: &str| match aliases.get(alias) {
        Some(own) if !call.caller.may_see(own) => Err(no_alias(alias)),
        _ => Ok(()),
    };
    call.catalog.change_aliases(|aliases| {
        for action in &actions {
            match action {
                AliasAction::Create { collection_name, alias_name } => {
                    check_free(alias_name)?;
                    check_own(aliases, alias_name)?;
                    let known = call.catalog.of_name(collection_name);
                    let known = known.filter(|entry| call.caller.may_see(entry.name()));
                    let known = known.ok_or_else(|| not_found(collection_name))?;
                    aliases.create(alias_name, known.name())?;
                }
                AliasAction::Delete { alias_name } => {
                    check_own(aliases, alias_name)?;
                    aliases.delete(alias_name)?;
                }
                AliasAction::Rename { old_alias_name, new_alias_name } => {
                    check_free(new_alias_name)?;
                    check_own(aliases, old_alias_name)?;
                    check_own(aliases, new_alias_name)?;
                    let collection = aliases.delete(old_alias_name)?;
                    aliases.create(new_alias_name, &collection)?;
                }
            }
        }
        Ok(())
    })?;
    Reply::result(&true, call.began)
}

/// `GET /aliases`
pub fn list(call: &Call<'_>) -> Answer {
    aliases_of(call, None)
}

/// `GET /collections/{collection}/aliases`
pub fn of_collection(call: &Call<'_>) -> Answer {
    aliases_of(call, Some(call.entry().name()))
}

fn aliases_of(call: &Call<'_>, collection: Option<&str>) -> Answer {
    let aliases = call.catalog.aliases();
    let wanted = aliases
        .iter()
        .filter(|(_, own)| call.caller.may_see(own) && collection.is_none_or(|name| name == *own));
    let shown: Vec<Value> =
        wanted.map(|(alias, own)| json!({"alias_name": alias, "collection_name": own})).collect();
    Reply::result(&json!({"aliases": shown}), call.began)
}
