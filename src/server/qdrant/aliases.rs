//! Other names of collections.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
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
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AliasAction {
    CreateAlias { collection_name: String, alias_name: String },
    DeleteAlias { alias_name: String },
    RenameAlias { old_alias_name: String, new_alias_name: String },
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
    call.catalog.change_aliases(|aliases| {
        for action in &actions {
            match action {
                AliasAction::CreateAlias { collection_name, alias_name } => {
                    check_free(alias_name)?;
                    let known = call.catalog.of_name(collection_name);
                    let known = known.ok_or_else(|| not_found(collection_name))?;
                    aliases.create(alias_name, known.name())?;
                }
                AliasAction::DeleteAlias { alias_name } => drop(aliases.delete(alias_name)?),
                AliasAction::RenameAlias { old_alias_name, new_alias_name } => {
                    check_free(new_alias_name)?;
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
    let wanted = aliases.iter().filter(|(_, own)| collection.is_none_or(|name| name == *own));
    let shown: Vec<Value> =
        wanted.map(|(alias, own)| json!({"alias_name": alias, "collection_name": own})).collect();
    Reply::result(&json!({"aliases": shown}), call.began)
}
