//! An answer given again, as the client of its route reads it: whole, or as the events of a stream.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::server::cache::identity::Endpoint;

/// Most bytes of a text in one event; it is cut between words.
const PIECE: usize = 48;

/// What is another in each answer.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// The end of its name.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
}

/// An answer in one piece.
pub fn whole(endpoint: Endpoint, answer: &Value, fresh: &Fresh) -> Bytes {
    named(endpoint, answer, fresh).to_string().into()
}

/// An answer as a stream of events, all of it at once.
pub fn streamed(endpoint: Endpoint, answer: &Value, fresh: &Fresh, with_usage: bool) -> Bytes {
    let answer = named(endpoint, answer, fresh);
    let text = match endpoint {
        Endpoint::Responses => response_events(answer),
        _ => chunks(endpoint, &answer, with_usage),
    };
    text.into()
}

/// The answer with a name and a time of its own. That of `/v1/responses` keeps its name: a next turn is asked by it.
fn named(endpoint: Endpoint, answer: &Value, fresh: &Fresh) -> Value {
    let mut answer = answer.clone();
    let prefix = match endpoint {
        Endpoint::Chat => "chatcmpl-",
        Endpoint::Completions => "cmpl-",
        Endpoint::Responses | Endpoint::Embeddings => return answer,
    };
    answer["id"] = format!("{prefix}{}", fresh.id).into();
    answer["created"] = fresh.created.into();
    answer
}

/// Chunks of a message or a text: who speaks, what is said, why it ends, what it used.
fn chunks(endpoint: Endpoint, answer: &Value, with_usage: bool) -> String {
    let object = match endpoint {
        Endpoint::Chat => "chat.completion.chunk",
        _ => "text_completion",
    };
    let mut head = json!({"id": answer["id"], "object": object, "created": answer["created"], "model": answer["model"]});
    if let Some(fingerprint) = answer.get("system_fingerprint") {
        head["system_fingerprint"] = fingerprint.clone();
    }
    let mut text = String::new();
    let mut say = |choices: Value, usage: Option<&Value>| {
        let mut chunk = head.clone();
        chunk["choices"] = choices;
        if with_usage {
            chunk["usage"] = usage.cloned().unwrap_or_default();
        }
        text.push_str(&format!("data: {chunk}\n\n"));
    };
    let choice = &answer["choices"][0];
    let finish = &choice["finish_reason"];
    if endpoint == Endpoint::Chat {
        for delta in deltas(&choice["message"]) {
            say(json!([{"index": 0, "delta": delta, "finish_reason": null}]), None);
        }
        say(json!([{"index": 0, "delta": {}, "finish_reason": finish}]), None);
    } else {
        for piece in pieces(choice["text"].as_str().unwrap_or_default()) {
            let of_piece =
                json!({"index": 0, "text": piece, "logprobs": null, "finish_reason": null});
            say(json!([of_piece]), None);
        }
        let last = json!({"index": 0, "text": "", "logprobs": null, "finish_reason": finish});
        say(json!([last]), None);
    }
    if with_usage {
        say(json!([]), answer.get("usage"));
    }
    text.push_str("data: [DONE]\n\n");
    text
}

/// A message in pieces.
fn deltas(message: &Value) -> Vec<Value> {
    let role = message.get("role").cloned().unwrap_or_else(|| "assistant".into());
    let mut all = vec![json!({"role": role, "content": ""})];
    for key in ["reasoning_content", "reasoning", "content"] {
        for piece in pieces(message[key].as_str().unwrap_or_default()) {
            all.push(json!({(key): piece}));
        }
    }
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut call = call.clone();
        call["index"] = index.into();
        all.push(json!({"tool_calls": [call]}));
    }
    all
}

/// A text in pieces of whole words, which put together are the text.
fn pieces(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for word in text.split_inclusive(char::is_whitespace) {
        if end > begin && end + word.len() - begin > PIECE {
            all.push(&text[begin..end]);
            begin = end;
        }
        end += word.len();
    }
    if end > begin {
        all.push(&text[begin..end]);
    }
    all
}

/// The events of a response: made, each item with its parts, completed.
fn response_events(answer: Value) -> String {
    let mut events = Vec::new();
    let mut begun = answer.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    if let Some(begun) = begun.as_object_mut() {
        begun.insert("usage".into(), Value::Null);
    }
    events.push(json!({"type": "response.created", "response": begun}));
    events.push(json!({"type": "response.in_progress", "response": begun}));
    for (index, item) in answer["output"].as_array().into_iter().flatten().enumerate() {
        item_events(index, item, &mut events);
    }
    events.push(json!({"type": "response.completed", "response": answer}));
    let mut text = String::new();
    for (number, mut event) in events.into_iter().enumerate() {
        event["sequence_number"] = number.into();
        let kind = event["type"].as_str().unwrap_or_default();
        text.push_str(&format!("event: {kind}\ndata: {event}\n\n"));
    }
    text
}

fn item_events(index: usize, item: &Value, events: &mut Vec<Value>) {
    let mut begun = item.clone();
    begun["status"] = "in_progress".into();
    match item["type"].as_str() {
        Some("message") => begun["content"] = json!([]),
        Some("function_call") => begun["arguments"] = "".into(),
        _ => {}
    }
    let id = &item["id"];
    events
        .push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
    if item["type"] == "message" {
        for (at, part) in item["content"].as_array().into_iter().flatten().enumerate() {
            part_events(
                &json!({"item_id": id, "output_index": index, "content_index": at}),
                part,
                events,
            );
        }
    }
    if item["type"] == "function_call" {
        let arguments = &item["arguments"];
        let of = |kind: &str| json!({"type": kind, "item_id": id, "output_index": index});
        let mut delta = of("response.function_call_arguments.delta");
        delta["delta"] = arguments.clone();
        let mut done = of("response.function_call_arguments.done");
        done["arguments"] = arguments.clone();
        events.extend([delta, done]);
    }
    events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
}

/// The events of one part of a message; `place` says which it is.
fn part_events(place: &Value, part: &Value, events: &mut Vec<Value>) {
    let of = |kind: &str, key: &str, value: Value| {
        let mut event = place.clone();
        event["type"] = kind.into();
        event[key] = value;
        event
    };
    if part["type"] == "output_text" {
        let text = part["text"].as_str().unwrap_or_default();
        let mut begun = part.clone();
        begun["text"] = "".into();
        events.push(of("response.content_part.added", "part", begun));
        for piece in pieces(text) {
            events.push(of("response.output_text.delta", "delta", piece.into()));
        }
        events.push(of("response.output_text.done", "text", text.into()));
    } else {
        events.push(of("response.content_part.added", "part", part.clone()));
    }
    events.push(of("response.content_part.done", "part", part.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::cache::kept::kept;
    use crate::server::cache::stream::Recorder;

    fn fresh() -> Fresh {
        Fresh { id: "7".into(), created: 9 }
    }

    /// What a recorder makes of the answer when it is streamed again.
    fn again(endpoint: Endpoint, answer: &Value) -> Value {
        let bytes = streamed(endpoint, answer, &fresh(), true);
        let mut recorder = Recorder::new(endpoint);
        bytes.chunks(7).for_each(|piece| recorder.read(piece));
        kept(endpoint, &recorder.answer().unwrap()).unwrap().1
    }

    #[test]
    fn what_is_streamed_again_is_what_was_kept() {
        let text =
            "Paris is the capital of France,\n\nand has been for very long; — since 987 — or so. "
                .repeat(4);
        let message =
            json!({"role": "assistant", "reasoning_content": "Let me think.", "content": text});
        let call = json!({"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "f", "arguments": "{\"a\": [1, 2]}"}, "id": "c", "type": "function"},
            {"function": {"name": "g", "arguments": ""}, "id": "d", "type": "function"}]});
        for (message, finish) in [(message, "stop"), (call, "tool_calls")] {
            let answer = json!({"object": "chat.completion", "model": "m", "system_fingerprint": "fp",
                "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": null}],
                "usage": {"prompt_tokens": 3, "total_tokens": 9}});
            assert_eq!(again(Endpoint::Chat, &answer), answer);
        }
        let completion = json!({"object": "text_completion", "model": "m", "choices": [
            {"index": 0, "text": text, "finish_reason": "stop", "logprobs": null}], "usage": {"total_tokens": 2}});
        assert_eq!(again(Endpoint::Completions, &completion), completion);
        let response = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": text, "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        ], "usage": {"total_tokens": 5}});
        assert_eq!(again(Endpoint::Responses, &response), response);
    }

    #[test]
    fn a_stream_says_who_speaks_what_why_it_ends_and_what_it_used_if_that_is_wanted() {
        let answer = json!({"model": "m", "choices": [{"message": {"role": "assistant", "content": "one two"},
            "finish_reason": "stop"}], "usage": {"total_tokens": 2}});
        let events = |with_usage| -> Vec<String> {
            let bytes = streamed(Endpoint::Chat, &answer, &fresh(), with_usage);
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.split_terminator("\n\n").map(|event| event["data: ".len()..].to_owned()).collect()
        };
        let plain = events(false);
        assert_eq!((plain.len(), plain[3].as_str()), (4, "[DONE]"));
        let first: Value = serde_json::from_str(&plain[0]).unwrap();
        assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
        assert_eq!((&first["id"], &first["created"]), (&json!("chatcmpl-7"), &json!(9)));
        assert!(first.get("usage").is_none());
        let last: Value = serde_json::from_str(&plain[2]).unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        let counted = events(true);
        let usage: Value = serde_json::from_str(&counted[3]).unwrap();
        assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &json!({"total_tokens": 2})));
        assert_eq!(counted.len(), 5);
    }

    #[test]
    fn texts_are_cut_between_words_and_lose_nothing() {
        for text in ["", " ", "word", "a b", &"x".repeat(200), &"é x ".repeat(60), "a\n\n\tb  c "]
        {
            let all = pieces(text);
            assert_eq!(all.concat(), text);
            assert!(all.iter().all(|piece| !piece.is_empty()));
            let cut = all.iter().rev().skip(1);
            assert!(cut.into_iter().all(|piece| piece.ends_with(char::is_whitespace)), "{all:?}");
        }
    }
}
