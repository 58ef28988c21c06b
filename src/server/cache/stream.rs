//! A streamed answer, put together while it passes: the same body as if it had not been streamed.
//!
//! Nothing comes out before the event that ends it, nor of a stream with a part that is not known: an answer that is given again must
//! be the one that was given.

use serde_json::{Map, Value, json};

use crate::server::cache::events::Events;
use crate::server::cache::identity::Endpoint;

/// Bytes of a stream that is put together; of a longer one nothing is kept.
pub const STREAM_BYTES: usize = 8 << 20;

/// What passed of a stream.
#[derive(Debug)]
pub struct Recorder {
    endpoint: Endpoint,
    events: Events,
    n_bytes: usize,
    state: State,
    /// What is the same in all chunks.
    head: Map<String, Value>,
    /// The message or the text, so far.
    message: Map<String, Value>,
    finish: Value,
    usage: Value,
    /// The whole response, where the last event has it.
    response: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Going,
    Ended,
    Spoilt(&'static str),
}

impl Recorder {
    /// Of a stream that begins.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            events: Events::default(),
            n_bytes: 0,
            state: State::Going,
            head: Map::new(),
            message: Map::new(),
            finish: Value::Null,
            usage: Value::Null,
            response: None,
        }
    }

    /// Takes in bytes that pass.
    pub fn read(&mut self, bytes: &[u8]) {
        self.n_bytes += bytes.len();
        if self.n_bytes > STREAM_BYTES {
            self.spoil("answer_size");
        }
        if matches!(self.state, State::Spoilt(_)) {
            return;
        }
        for data in self.events.read(bytes) {
            self.event(&data);
        }
        if self.events.is_too_long() {
            self.spoil("answer_size");
        }
    }

    /// Whether its last event has come.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The answer, if its end has come; else why there is none: a stable word.
    pub fn answer(self) -> Result<Value, &'static str> {
        match self.state {
            State::Going => return Err("cut_short"),
            State::Spoilt(why) => return Err(why),
            State::Ended => {}
        }
        if self.endpoint == Endpoint::Responses {
            return self.response.ok_or("cut_short");
        }
        let mut answer = self.head;
        let mut choice = json!({"index": 0});
        match self.endpoint {
            Endpoint::Chat => choice["message"] = Value::Object(self.message),
            _ => choice["text"] = self.message.get("text").cloned().unwrap_or_default(),
        }
        choice["finish_reason"] = self.finish;
        choice["logprobs"] = Value::Null;
        answer.insert("choices".into(), json!([choice]));
        if !self.usage.is_null() {
            answer.insert("usage".into(), self.usage);
        }
        Ok(Value::Object(answer))
    }

    fn spoil(&mut self, why: &'static str) {
        if !matches!(self.state, State::Spoilt(_)) {
            self.state = State::Spoilt(why);
        }
    }

    fn event(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            // Responses end with an event of their own.
            if self.endpoint != Endpoint::Responses && self.state == State::Going {
                self.state = State::Ended;
            }
            return;
        }
        if self.state == State::Ended {
            return self.spoil("after_end");
        }
        let Ok(Value::Object(chunk)) = serde_json::from_slice(data) else {
            return self.spoil("stream_unreadable");
        };
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return self.spoil("answer_error");
        }
        match self.endpoint {
            Endpoint::Responses => self.response_event(chunk),
            _ => self.chunk(chunk),
        }
    }

    fn response_event(&mut self, mut event: Map<String, Value>) {
        match event.get("type").and_then(Value::as_str) {
            Some("response.completed") => {
                self.response = event.remove("response").filter(Value::is_object);
                self.state = State::Ended;
            }
            Some("response.failed" | "error") => self.spoil("answer_error"),
            Some("response.incomplete") => self.spoil("finish_reason"),
            Some(_) => {}
            None => self.spoil("stream_unreadable"),
        }
    }

    fn chunk(&mut self, chunk: Map<String, Value>) {
        for (key, value) in chunk {
            match key.as_str() {
                "choices" => self.choices(&value),
                "usage" if !value.is_null() => self.usage = value,
                "object" => {
                    let name = match self.endpoint {
                        Endpoint::Chat => "chat.completion",
                        _ => "text_completion",
                    };
                    self.head.insert(key, name.into());
                }
                "id" | "created" | "model" | "system_fingerprint" if !value.is_null() => {
                    self.head.insert(key, value);
                }
                // Of the transport, not of the answer.
                _ => {}
            }
        }
    }

    fn choices(&mut self, choices: &Value) {
        for choice in choices.as_array().into_iter().flatten() {
            if choice["index"].as_u64().unwrap_or(0) != 0 {
                return self.spoil("several_answers");
            }
            if !choice["logprobs"].is_null() {
                return self.spoil("logprobs");
            }
            if !choice["finish_reason"].is_null() {
                self.finish = choice["finish_reason"].clone();
            }
            if let Some(text) = choice["text"].as_str() {
                append(&mut self.message, "text", text);
            }
            if let Some(delta) = choice["delta"].as_object()
                && let Err(why) = merge(&mut self.message, delta)
            {
                return self.spoil(why);
            }
        }
    }
}

/// Adds a piece of a message.
fn merge(message: &mut Map<String, Value>, delta: &Map<String, Value>) -> Result<(), &'static str> {
    for (key, value) in delta {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("role", role) => {
                message.insert(key.clone(), role.clone());
            }
            ("content" | "reasoning_content" | "reasoning" | "refusal", Value::String(text)) => {
                append(message, key, text);
            }
            ("tool_calls", Value::Array(calls)) => {
                let own = message.entry(key.clone()).or_insert_with(|| json!([]));
                let own = own.as_array_mut().ok_or("stream_unreadable")?;
                calls.iter().try_for_each(|call| merge_call(own, call))?;
            }
            (_, Value::Array(values)) if values.is_empty() => {}
            _ => return Err("delta_unknown"),
        }
    }
    Ok(())
}

/// Adds a piece of a call of a tool, which says the how manieth it is of.
fn merge_call(calls: &mut Vec<Value>, piece: &Value) -> Result<(), &'static str> {
    let index = piece["index"].as_u64().ok_or("delta_unknown")? as usize;
    if index > calls.len() {
        return Err("delta_unknown");
    }
    if index == calls.len() {
        calls.push(json!({"function": {"name": "", "arguments": ""}}));
    }
    let call = calls[index].as_object_mut().ok_or("stream_unreadable")?;
    for key in ["id", "type"] {
        if let Some(value) = piece.get(key).filter(|value| !value.is_null()) {
            call.insert(key.into(), value.clone());
        }
    }
    let function = call["function"].as_object_mut().ok_or("stream_unreadable")?;
    for key in ["name", "arguments"] {
        if let Some(text) = piece["function"][key].as_str() {
            append(function, key, text);
        }
    }
    Ok(())
}

fn append(map: &mut Map<String, Value>, key: &str, text: &str) {
    match map.get_mut(key) {
        Some(Value::String(own)) => own.push_str(text),
        _ => drop(map.insert(key.to_owned(), text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: Endpoint, events: &[Value], end: &str) -> Result<Value, &'static str> {
        let mut recorder = Recorder::new(endpoint);
        for event in events {
            recorder.read(format!("data: {event}\n\n").as_bytes());
        }
        recorder.read(end.as_bytes());
        recorder.answer()
    }

    const DONE: &str = "data: [DONE]\n\n";

    fn delta(delta: Value, finish: Value) -> Value {
        json!({"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null})
    }

    #[test]
    fn a_streamed_message_is_the_one_that_is_not_streamed() {
        let events = [
            delta(json!({"role": "assistant", "content": ""}), json!(null)),
            delta(json!({"reasoning_content": "Hm."}), json!(null)),
            delta(json!({"content": "Par"}), json!(null)),
            delta(json!({"content": "is"}), json!(null)),
            delta(json!({}), json!("stop")),
            json!({"id": "a", "choices": [], "usage": {"total_tokens": 7}}),
        ];
        let answer = of(Endpoint::Chat, &events, DONE).unwrap();
        assert_eq!(
            answer,
            json!({"id": "a", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null, "message":
                    {"role": "assistant", "content": "Paris", "reasoning_content": "Hm."}}],
                "usage": {"total_tokens": 7}})
        );
        assert_eq!(of(Endpoint::Chat, &events, ""), Err("cut_short"));
        assert_eq!(of(Endpoint::Chat, &events[..3], ""), Err("cut_short"));
    }

    #[test]
    fn calls_of_tools_are_put_together_by_their_number() {
        let call = |index: u64, function: Value| {
            delta(json!({"tool_calls": [{"index": index, "function": function}]}), json!(null))
        };
        let events = [
            delta(
                json!({"role": "assistant", "tool_calls": [{"index": 0, "id": "c0", "type": "function",
                    "function": {"name": "rain", "arguments": ""}}]}),
                json!(null),
            ),
            call(0, json!({"arguments": "{\"in\":"})),
            call(1, json!({"name": "sun", "arguments": "{}"})),
            call(0, json!({"arguments": "1}"})),
            delta(json!({}), json!("tool_calls")),
        ];
        let answer = of(Endpoint::Chat, &events, DONE).unwrap();
        let calls = &answer["choices"][0]["message"]["tool_calls"];
        assert_eq!(calls[0]["id"], "c0");
        assert_eq!(calls[0]["function"], json!({"name": "rain", "arguments": "{\"in\":1}"}));
        assert_eq!(calls[1]["function"]["name"], "sun");
    }

    #[test]
    fn a_stream_with_a_part_that_is_not_known_is_not_kept() {
        let fine = delta(json!({"content": "hi"}), json!("stop"));
        for (event, why) in [
            (delta(json!({"audio": {"id": "1"}}), json!(null)), "delta_unknown"),
            (delta(json!({"tool_calls": [{"index": 3}]}), json!(null)), "delta_unknown"),
            (json!({"error": {"message": "overloaded"}}), "answer_error"),
            (json!({"choices": [{"index": 1, "delta": {"content": "ho"}}]}), "several_answers"),
            (json!({"choices": [{"index": 0, "delta": {}, "logprobs": {}}]}), "logprobs"),
            (json!("text"), "stream_unreadable"),
        ] {
            assert_eq!(
                of(Endpoint::Chat, &[fine.clone(), event.clone()], DONE),
                Err(why),
                "{event}"
            );
        }
        let after = format!("{DONE}data: {fine}\n\n");
        assert_eq!(of(Endpoint::Chat, &[fine], &after), Err("after_end"));
        let mut long = Recorder::new(Endpoint::Chat);
        long.read(&vec![b'\n'; STREAM_BYTES + 1]);
        long.read(DONE.as_bytes());
        assert_eq!(long.answer(), Err("answer_size"));
    }

    #[test]
    fn texts_and_responses_have_their_own_events() {
        let text = |text: &str, finish: Value| json!({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]});
        let events = [text("Par", json!(null)), text("is", json!("stop"))];
        let answer = of(Endpoint::Completions, &events, DONE).unwrap();
        assert_eq!(answer["choices"][0]["text"], "Paris");
        let whole = json!({"id": "resp_1", "status": "completed", "output": []});
        let events = [
            json!({"type": "response.created", "response": {"id": "resp_1"}}),
            json!({"type": "response.output_text.delta", "delta": "Paris"}),
            json!({"type": "response.completed", "response": whole}),
        ];
        assert_eq!(of(Endpoint::Responses, &events, ""), Ok(whole));
        assert_eq!(of(Endpoint::Responses, &events[..2], DONE), Err("cut_short"));
        let failed = [json!({"type": "response.failed", "response": {}})];
        assert_eq!(of(Endpoint::Responses, &failed, DONE), Err("answer_error"));
        let cut = [json!({"type": "response.incomplete", "response": {}})];
        assert_eq!(of(Endpoint::Responses, &cut, ""), Err("finish_reason"));
    }
}
