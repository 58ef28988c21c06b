//! How a search was answered, and what else was weighed. That API has nothing like it: this form is ours.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::{Answer as Found, micros};
use crate::server::call::Call;
use crate::server::qdrant::json::{Form, NotOffered, Strict, body};
use crate::server::qdrant::search::{NamedVector, Params, metric, query_rows, searched};
use crate::server::qdrant::select::{WithPayload, WithVector, ask};
use crate::server::qdrant::sent::{Scored, scored};
use crate::server::qdrant::vector::{self, Numbers};
use crate::server::reply::{Answer, Refusal, Reply};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explain {
    vector: Form<Numbers, NamedVector>,
    using: Option<String>,
    filter: Option<Strict>,
    params: Option<Params>,
    limit: usize,
    #[serde(default)]
    with_payload: WithPayload,
    #[serde(default)]
    with_vector: WithVector,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

impl Explain {
    /// The name of the vector that is searched, and the query.
    fn query(&mut self) -> Result<(String, Vec<f32>), Refusal> {
        let using = self.using.take();
        let vector = std::mem::replace(&mut self.vector, Form::Short(Numbers::Row(Vec::new())));
        match (vector, using) {
            (Form::Short(query), using) => Ok((using.unwrap_or_default(), query.row()?)),
            (Form::Object(NamedVector { name, vector }), None) => Ok((name, vector.row()?)),
            (Form::Object(NamedVector { name, .. }), Some(using)) => Err(Refusal::bad(format!(
                "vector_name: using {using:?} and vector.name {name:?}, expected one of them"
            ))),
        }
    }
}

/// What is answered.
#[derive(Serialize)]
struct Explained {
    points: Vec<Scored>,
    plan: Value,
}

/// `POST /collections/{collection}/points/explain`
pub fn explain(call: &Call<'_>) -> Answer {
    let mut given: Explain = body(call)?;
    let collection = call.collection()?;
    let settings = collection.settings();
    let (name, query) = given.query()?;
    let own = vector::name(&name);
    let metric = metric(&settings, own)?;
    let queries = query_rows(&settings, own, query)?;
    let ask = ask(call, given.filter.as_ref())?;
    let how = given.params.take().unwrap_or_default().how(given.limit, own);
    let answers = searched(call, &collection, (&queries, &ask), &how)?;
    let answer = answers.into_iter().next().expect("one answer for the one query");
    call.plan.set(Some(answer.way));
    let wanted = (&given.with_payload, &given.with_vector);
    let points = scored(call, &collection, &answer.points, wanted, metric)?;
    let plan = match call.caller.tenant() {
        None => plan(&answer),
        Some(_) => plan_of_tenant(&answer),
    };
    Reply::result(&Explained { points, plan }, call.began)
}

/// All that is known of an answer.
fn plan(answer: &Found) -> Value {
    json!({
        "way": answer.way.name(),
        "exact": answer.way.is_exact(),
        "planned": answer.choice.way.name(),
        "predicted_us": answer.predicted_us(),
        "took_us": micros(answer.seconds),
        "matches": answer.n_matches,
        "signs": answer.n_signs,
        "compared": answer.n_distances,
        "returned": answer.points.len(),
        "filter": answer.filter_read(),
    })
}

/// What a tenant may know of an answer: what was predicted, compared and touched says how much others have.
fn plan_of_tenant(answer: &Found) -> Value {
    json!({
        "way": answer.way.name(),
        "exact": answer.way.is_exact(),
        "took_us": micros(answer.seconds),
        "matches": answer.n_matches,
        "returned": answer.points.len(),
    })
}
