//! Which question is it? Of a body for the model: what two requests must share for one answer to be that of both.
//!
//! `exact` is of the whole body, `compat` of all but the text of the last turn of the user. Answers are compared by that text
//! only among requests of one `compat`: model, system prompt, earlier turns, tools, form of the answer, sampling, streamed or not.

use serde_json::{Map, Value};

use crate::server::cache::canonical::{Hash, Hasher};
use crate::server::cache::turn;

/// A temperature above it asks for variety: another wording's answer is no answer then.
pub const STEADY: f64 = 0.3;

/// Longest text, in bytes, whose meaning is compared: of what is longer, embedders read the beginning only.
pub const TEXT_BYTES: usize = 8 << 10;

/// Fields that change nothing of an answer.
const VOLATILE: [&str; 6] = [
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
];

/// Routes whose answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
}

impl Endpoint {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// The field with the question.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completions => "prompt",
            Self::Responses | Self::Embeddings => "input",
        }
    }
}

/// How far a request may be answered from memory, and why no further: a stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By an equal request's answer, or that of one which means the same.
    Meaning,
    /// By an equal request's answer only.
    Exact(&'static str),
    /// Not at all: it is neither answered from memory nor remembered.
    Nothing(&'static str),
}

/// A request, as far as its answer depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The route.
    pub endpoint: Endpoint,
    /// Equal requests have it in common.
    pub exact: Hash,
    /// Requests have it in common that differ in the last turn's text only.
    pub compat: Hash,
    /// The text of the last turn of the user; empty where it has none.
    pub text: String,
    /// The model.
    pub model: String,
    /// Whom it is for, where that is said.
    pub user: Option<String>,
    /// How far it may be answered from memory.
    pub reach: Reach,
    /// Whether the answer is to come piece by piece.
    pub is_stream: bool,
    /// Whether a streamed answer is to end with what it used.
    pub with_usage: bool,
}

/// What a body for this route asks, within a namespace; nothing for what is no request that could be read.
pub fn asked(endpoint: Endpoint, namespace: &str, body: &Map<String, Value>) -> Option<Asked> {
    let model = body.get("model")?.as_str()?.to_owned();
    let is_stream = body.get("stream").is_some_and(|value| value == true);
    let usage = body.get("stream_options").and_then(|options| options.get("include_usage"));
    let mut canonical = without_defaults(body);
    let mut hasher = Hasher::new(endpoint.path());
    hasher.text(namespace);
    let exact = hasher.clone().text("exact").map(&canonical).hash();
    let taken = canonical.get_mut(endpoint.field()).and_then(|field| turn::take(endpoint, field));
    let compat = hasher.text("compat").map(&canonical).hash();
    let text = taken.unwrap_or_default();
    let reach = reach(endpoint, body, &text);
    let user = body.get("user").and_then(Value::as_str).map(str::to_owned);
    let with_usage = usage.is_some_and(|value| value == true);
    Some(Asked { endpoint, exact, compat, text, model, user, reach, is_stream, with_usage })
}

/// The body without what says nothing.
fn without_defaults(body: &Map<String, Value>) -> Map<String, Value> {
    let says = |key: &str, value: &Value| match key {
        _ if value.is_null() || VOLATILE.contains(&key) => false,
        "n" | "best_of" | "top_p" => value.as_f64() != Some(1.0),
        "presence_penalty" | "frequency_penalty" => value.as_f64() != Some(0.0),
        // An answer that ends with what it used is another than one that does not.
        "stream_options" => value["include_usage"] == true,
        "stream" | "logprobs" | "echo" | "background" => value != false,
        "tools" => value.as_array().is_none_or(|tools| !tools.is_empty()),
        "logit_bias" => value.as_object().is_none_or(|map| !map.is_empty()),
        "response_format" => *value != serde_json::json!({"type": "text"}),
        _ => true,
    };
    let kept = body.iter().filter(|(key, value)| says(key, value));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn reach(endpoint: Endpoint, body: &Map<String, Value>, text: &str) -> Reach {
    if let Some(why) = never(body).or_else(|| turn::never(endpoint, body.get(endpoint.field()))) {
        return Reach::Nothing(why);
    }
    if endpoint == Endpoint::Embeddings {
        return Reach::Exact("embeddings");
    }
    // Who says nothing of it leaves it to the model; who asks for more than this wants answers to differ.
    let is_varied = body.get("temperature").and_then(Value::as_f64).is_some_and(|own| own > STEADY);
    let has_seed = body.get("seed").is_some_and(|seed| !seed.is_null());
    match (is_varied, has_seed) {
        (true, false) => return Reach::Nothing("temperature"),
        (true, true) => return Reach::Exact("temperature"),
        (false, _) => {}
    }
    if body.get("echo").is_some_and(|echo| echo == true) {
        return Reach::Exact("echo");
    }
    if text.trim().is_empty() {
        return Reach::Exact("no_text");
    }
    if text.len() > TEXT_BYTES {
        return Reach::Exact("long_text");
    }
    Reach::Meaning
}

/// Why a body's answer is nobody else's, whatever it asks.
fn never(body: &Map<String, Value>) -> Option<&'static str> {
    let get = |key: &str| body.get(key).filter(|value| !value.is_null());
    let several = |key: &str| get(key).is_some_and(|n| n.as_f64() != Some(1.0));
    if several("n") || several("best_of") {
        return Some("several_answers");
    }
    let is_on =
        |key: &str| get(key).is_some_and(|value| *value != false && value.as_f64() != Some(0.0));
    if get("logprobs").is_some_and(|value| *value != false) || is_on("top_logprobs") {
        return Some("logprobs");
    }
    let is_forced =
        |choice: &Value| choice.is_object() || matches!(choice.as_str(), Some("required" | "any"));
    if get("tool_choice").is_some_and(is_forced)
        || get("function_call").is_some_and(Value::is_object)
    {
        return Some("forced_tool");
    }
    if get("background").is_some_and(|value| value == true) {
        return Some("background");
    }
    let spoken = |value: &Value| *value != serde_json::json!(["text"]);
    get("modalities").is_some_and(spoken).then_some("modalities")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(endpoint: Endpoint, body: Value) -> Asked {
        asked(endpoint, "", body.as_object().unwrap()).unwrap()
    }

    fn chat(changes: Value) -> Asked {
        let mut body = json!({
            "model": "m", "temperature": 0,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is the capital of France?"},
            ],
        });
        for (key, value) in changes.as_object().unwrap() {
            body[key] = value.clone();
        }
        of(Endpoint::Chat, body)
    }

    fn turns(turns: Value) -> Asked {
        chat(json!({"messages": turns}))
    }

    #[test]
    fn what_says_the_same_is_one_request() {
        let plain = chat(json!({}));
        assert_eq!(plain.text, "What is the capital of France?");
        assert_eq!(plain.reach, Reach::Meaning);
        for changes in [
            json!({"temperature": 0.0}),
            json!({"n": 1, "top_p": 1.0, "stream": false, "logprobs": false, "tools": []}),
            json!({"metadata": {"run": "7"}, "service_tier": "auto", "seed": null}),
            json!({"presence_penalty": 0, "logit_bias": {}, "response_format": {"type": "text"}}),
        ] {
            let same = chat(changes.clone());
            assert_eq!((same.exact, same.compat), (plain.exact, plain.compat), "{changes}");
        }
        let named = chat(json!({"user": "ann"}));
        assert_eq!((named.exact, named.user.as_deref()), (plain.exact, Some("ann")));
    }

    #[test]
    fn only_the_last_turn_of_the_user_may_be_worded_differently() {
        let plain = chat(json!({}));
        let other = turns(json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Which city is France's capital?"},
        ]));
        assert_eq!(other.compat, plain.compat);
        assert_ne!(other.exact, plain.exact);
        for changes in [
            json!({"model": "other"}),
            json!({"temperature": 0.1}),
            json!({"max_tokens": 5}),
            json!({"stop": ["."]}),
            json!({"seed": 1}),
            json!({"stream": true}),
            json!({"top_p": 0.5}),
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"guided_regex": "a+"}),
            json!({"messages": [
                {"role": "system", "content": "Be rude."},
                {"role": "user", "content": "What is the capital of France?"},
            ]}),
            json!({"messages": [{"role": "user", "content": "What is the capital of France?"}]}),
            json!({"messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "What is the capital of France?"},
            ]}),
        ] {
            let asked = chat(changes.clone());
            assert_ne!(asked.compat, plain.compat, "{changes}");
            assert_ne!(asked.exact, plain.exact, "{changes}");
        }
    }

    #[test]
    fn a_namespace_and_a_route_are_part_of_it() {
        let body = json!({"model": "m", "input": "hello"});
        let of_route = |endpoint| of(endpoint, body.clone()).exact;
        assert_ne!(of_route(Endpoint::Embeddings), of_route(Endpoint::Responses));
        let named = asked(Endpoint::Responses, "docs", body.as_object().unwrap()).unwrap();
        assert_ne!(named.exact, of_route(Endpoint::Responses));
        assert_ne!(named.compat, of(Endpoint::Responses, body).compat);
    }

    #[test]
    fn what_cannot_be_remembered_says_why() {
        let image = json!([{"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ]}]);
        let tool = json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ]);
        let prefilled = json!([
            {"role": "user", "content": "Write a poem."},
            {"role": "assistant", "content": "Roses"},
        ]);
        let call = json!({"type": "function", "function": {"name": "f"}});
        for (changes, expected) in [
            (json!({"n": 2}), Reach::Nothing("several_answers")),
            (json!({"logprobs": true}), Reach::Nothing("logprobs")),
            (json!({"top_logprobs": 3}), Reach::Nothing("logprobs")),
            (json!({"tool_choice": "required"}), Reach::Nothing("forced_tool")),
            (json!({"tool_choice": call}), Reach::Nothing("forced_tool")),
            (json!({"tool_choice": "auto"}), Reach::Meaning),
            (json!({"modalities": ["text", "audio"]}), Reach::Nothing("modalities")),
            (json!({"messages": tool}), Reach::Nothing("tool_result")),
            (json!({"messages": []}), Reach::Nothing("no_turn")),
            (json!({"messages": "hi"}), Reach::Nothing("no_turn")),
            (json!({"temperature": 0.3}), Reach::Meaning),
            (json!({"temperature": null}), Reach::Meaning),
            (json!({"temperature": 0.31}), Reach::Nothing("temperature")),
            (json!({"temperature": 0.31, "seed": 1}), Reach::Exact("temperature")),
            (json!({"messages": image}), Reach::Exact("no_text")),
            (json!({"messages": prefilled}), Reach::Exact("no_text")),
            (
                json!({"messages": [{"role": "user", "content": "x".repeat(TEXT_BYTES + 1)}]}),
                Reach::Exact("long_text"),
            ),
        ] {
            assert_eq!(chat(changes.clone()).reach, expected, "{changes}");
        }
        assert_eq!(asked(Endpoint::Chat, "", &Map::new()), None, "without a model");
    }

    #[test]
    fn each_route_has_its_own_place_for_the_question() {
        let texts = [
            (Endpoint::Completions, json!({"prompt": "Say hi"}), "Say hi"),
            (Endpoint::Completions, json!({"prompt": ["Say hi"]}), "Say hi"),
            (Endpoint::Completions, json!({"prompt": ["Say hi", "Say ho"]}), ""),
            (Endpoint::Completions, json!({"prompt": [1, 2, 3]}), ""),
            (Endpoint::Responses, json!({"input": "Say hi"}), "Say hi"),
            (
                Endpoint::Responses,
                json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Say hi"}]}]}),
                "Say hi",
            ),
            (
                Endpoint::Responses,
                json!({"input": [{"type": "message", "role": "user", "content": "Say hi"}]}),
                "Say hi",
            ),
            (Endpoint::Embeddings, json!({"input": "Say hi"}), ""),
        ];
        for (endpoint, mut body, text) in texts {
            body["model"] = json!("m");
            assert_eq!(of(endpoint, body.clone()).text, text, "{body}");
        }
        let output = json!({"model": "m", "input": [
            {"type": "function_call_output", "call_id": "1", "output": "rain"},
        ]});
        assert_eq!(of(Endpoint::Responses, output).reach, Reach::Nothing("tool_result"));
        let embeddings = of(Endpoint::Embeddings, json!({"model": "m", "input": ["a", "b"]}));
        assert_eq!(embeddings.reach, Reach::Exact("embeddings"));
    }

    #[test]
    fn the_text_of_a_turn_is_not_taken_for_what_stands_around_it() {
        let one = turns(json!([{"role": "user", "content": "a"}]));
        let part = turns(json!([{"role": "user", "content": [{"type": "text", "text": "a"}]}]));
        assert_eq!((&one.text, one.compat), (&part.text, part.compat), "two forms of one thing");
        let named = turns(json!([{"role": "user", "content": "a", "name": "ben"}]));
        assert_ne!(one.compat, named.compat);
        let two = turns(json!([{"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"},
        ]}]));
        assert_eq!(two.text, "a\nb");
    }
}
