//! Many changes in one request.

use serde::Deserialize;

use crate::engine::Collection;
use crate::error::{Error, ErrorKind};
use crate::server::call::Call;
use crate::server::limits::BATCH;
use crate::server::pace::List;
use crate::server::qdrant::json::body;
use crate::server::qdrant::payload::{self, NewPayload, OldKeys};
use crate::server::qdrant::points::{self, NewVectors, OldVectors, Selected, state};
use crate::server::qdrant::upsert::{Upsert, upsert};
use crate::server::reply::{Answer, Refusal, Reply};

/// An operation of a batch.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operation {
    Upsert(Upsert),
    Delete(Selected),
    SetPayload(NewPayload),
    OverwritePayload(NewPayload),
    DeletePayload(OldKeys),
    ClearPayload(Selected),
    UpdateVectors(NewVectors),
    DeleteVectors(OldVectors),
}

impl Operation {
    fn apply(self, call: &Call<'_>, collection: &Collection) -> Result<(), Refusal> {
        match self {
            Self::Upsert(given) => upsert(call, collection, given),
            Self::Delete(given) => points::delete(call, collection, given),
            Self::SetPayload(given) => payload::set(call, collection, given),
            Self::OverwritePayload(given) => payload::overwrite(call, collection, given),
            Self::DeletePayload(given) => payload::delete_keys(call, collection, given),
            Self::ClearPayload(given) => payload::clear(call, collection, given),
            Self::UpdateVectors(given) => points::update_vectors(call, collection, given),
            Self::DeleteVectors(given) => points::delete_vectors(call, collection, given),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operations {
    operations: List<Operation>,
}

/// `POST /collections/{collection}/points/batch`: one operation after the other, each whole. The first that fails ends the batch;
/// those before it stay, and the error says how many.
pub fn batch(call: &Call<'_>) -> Answer {
    let Operations { operations: List(operations) } = body(call)?;
    if operations.len() > BATCH {
        let message = format!("{} operations, limit {BATCH}", operations.len());
        return Err(Error::new(ErrorKind::Limit, "batch_size", message).into());
    }
    let collection = call.collection()?;
    let mut results = Vec::with_capacity(operations.len());
    for (i, operation) in operations.into_iter().enumerate() {
        let applied = call.give_way().and_then(|()| operation.apply(call, &collection));
        applied.map_err(|refusal| match i {
            0 => refusal,
            _ => refusal.within(&format!("operations[{i}], those before it are done")),
        })?;
        results.push(state(call, &collection)?);
    }
    Reply::result(&results, call.began)
}
