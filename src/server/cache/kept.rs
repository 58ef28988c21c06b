//! Which answers may be given again: whole ones that the model ended of its own accord.

use serde_json::Value;

use crate::server::cache::identity::Endpoint;

/// To whom an answer may be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// To an equal request, and to one that means the same.
    ByMeaning,
    /// To an equal request only: it has arguments that depend on the wording.
    ByExact,
}

/// An answer without what is another in each, or why it is not kept: a stable word.
pub fn kept(endpoint: Endpoint, answer: &Value) -> Result<(Kept, Value), &'static str> {
    if !answer.is_object() {
        return Err("answer_unreadable");
    }
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return Err("answer_error");
    }
    let kept = match endpoint {
        Endpoint::Chat => choices(answer, message)?,
        Endpoint::Completions => choices(answer, completion)?,
        Endpoint::Responses => response(answer)?,
        Endpoint::Embeddings => {
            let is_empty = answer["data"].as_array().is_none_or(Vec::is_empty);
            if is_empty { Err("answer_empty") } else { Ok(Kept::ByExact) }?
        }
    };
    let mut answer = answer.clone();
    if let (Endpoint::Chat | Endpoint::Completions, Some(map)) = (endpoint, answer.as_object_mut())
    {
        map.shift_remove("id");
        map.shift_remove("created");
    }
    Ok((kept, answer))
}

/// Tokens that an answer took, as its maker counted them.
pub fn n_tokens(answer: &Value) -> u64 {
    answer["usage"]["total_tokens"].as_u64().unwrap_or(0)
}

/// The text of an answer, for whoever shows it.
pub fn text(endpoint: Endpoint, answer: &Value) -> &str {
    let text = match endpoint {
        Endpoint::Chat => &answer["choices"][0]["message"]["content"],
        Endpoint::Completions => &answer["choices"][0]["text"],
        Endpoint::Responses => &answer["output"][0]["content"][0]["text"],
        Endpoint::Embeddings => &Value::Null,
    };
    text.as_str().unwrap_or_default()
}

fn choices(
    answer: &Value,
    of_choice: fn(&Value) -> Result<Kept, &'static str>,
) -> Result<Kept, &'static str> {
    match answer["choices"].as_array().map(Vec::as_slice) {
        Some([choice]) => of_choice(choice),
        Some([]) | None => Err("answer_empty"),
        Some(_) => Err("several_answers"),
    }
}

fn completion(choice: &Value) -> Result<Kept, &'static str> {
    if choice["finish_reason"] != "stop" {
        return Err("finish_reason");
    }
    let is_empty = choice["text"].as_str().is_none_or(|text| text.trim().is_empty());
    if is_empty { Err("answer_empty") } else { Ok(Kept::ByMeaning) }
}

fn message(choice: &Value) -> Result<Kept, &'static str> {
    let message = &choice["message"];
    if message["refusal"].as_str().is_some_and(|refusal| !refusal.is_empty()) {
        return Err("refusal");
    }
    let calls = message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    let calls = calls || message["function_call"].is_object();
    match choice["finish_reason"].as_str() {
        Some("stop" | "tool_calls" | "function_call") if calls => Ok(Kept::ByExact),
        Some("stop") => {
            let is_empty = message["content"].as_str().is_none_or(|text| text.trim().is_empty());
            if is_empty { Err("answer_empty") } else { Ok(Kept::ByMeaning) }
        }
        _ => Err("finish_reason"),
    }
}

fn response(answer: &Value) -> Result<Kept, &'static str> {
    if answer["status"] != "completed" {
        return Err("finish_reason");
    }
    let items = answer["output"].as_array().filter(|items| !items.is_empty());
    let mut kept = Kept::ByMeaning;
    for item in items.ok_or("answer_empty")? {
        match item["type"].as_str() {
            Some("message") => {
                let mut parts = item["content"].as_array().into_iter().flatten();
                if parts.any(|part| part["type"] == "refusal") {
                    return Err("refusal");
                }
            }
            Some("reasoning") => {}
            _ => kept = Kept::ByExact,
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(message: Value, finish: Value) -> Value {
        json!({"id": "a", "created": 1, "object": "chat.completion", "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}]})
    }

    fn word(endpoint: Endpoint, answer: &Value) -> &'static str {
        match kept(endpoint, answer) {
            Ok((Kept::ByMeaning, _)) => "by_meaning",
            Ok((Kept::ByExact, _)) => "by_exact",
            Err(why) => why,
        }
    }

    #[test]
    fn only_whole_answers_are_kept() {
        let said = json!({"role": "assistant", "content": "Paris"});
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]});
        let refused = json!({"role": "assistant", "content": null, "refusal": "No."});
        let blank = json!({"role": "assistant", "content": " "});
        for (message, finish, expected) in [
            (&said, json!("stop"), "by_meaning"),
            (&call, json!("tool_calls"), "by_exact"),
            (&call, json!("stop"), "by_exact"),
            (&said, json!("length"), "finish_reason"),
            (&said, json!("content_filter"), "finish_reason"),
            (&said, json!(null), "finish_reason"),
            (&refused, json!("stop"), "refusal"),
            (&blank, json!("stop"), "answer_empty"),
        ] {
            assert_eq!(word(Endpoint::Chat, &chat(message.clone(), finish.clone())), expected);
        }
        for (answer, expected) in [
            (json!({"error": {"message": "no"}}), "answer_error"),
            (json!({"choices": []}), "answer_empty"),
            (json!({}), "answer_empty"),
            (json!("text"), "answer_unreadable"),
            (json!({"choices": [{}, {}]}), "several_answers"),
        ] {
            assert_eq!(word(Endpoint::Chat, &answer), expected, "{answer}");
        }
        let text = |text, finish| json!({"choices": [{"text": text, "finish_reason": finish}]});
        assert_eq!(word(Endpoint::Completions, &text("hi", "stop")), "by_meaning");
        assert_eq!(word(Endpoint::Completions, &text("hi", "length")), "finish_reason");
        assert_eq!(word(Endpoint::Completions, &text("", "stop")), "answer_empty");
    }

    #[test]
    fn responses_and_embeddings_have_their_own_forms() {
        let of = |status: &str, output: Value| {
            word(Endpoint::Responses, &json!({"status": status, "output": output}))
        };
        let said = json!({"type": "message", "content": [{"type": "output_text", "text": "hi"}]});
        let refused = json!({"type": "message", "content": [{"type": "refusal"}]});
        let call = json!({"type": "function_call", "name": "f", "arguments": "{}"});
        assert_eq!(of("completed", json!([said])), "by_meaning");
        assert_eq!(of("completed", json!([{"type": "reasoning"}, said])), "by_meaning");
        assert_eq!(of("completed", json!([said, call])), "by_exact");
        assert_eq!(of("completed", json!([refused])), "refusal");
        assert_eq!(of("incomplete", json!([said])), "finish_reason");
        assert_eq!(of("completed", json!([])), "answer_empty");
        assert_eq!(word(Endpoint::Embeddings, &json!({"data": [{}]})), "by_exact");
        assert_eq!(word(Endpoint::Embeddings, &json!({"data": []})), "answer_empty");
    }

    #[test]
    fn what_is_another_in_each_answer_is_not_kept() {
        let answer = chat(json!({"content": "Paris"}), json!("stop"));
        let (_, own) = kept(Endpoint::Chat, &answer).unwrap();
        assert!(own.get("id").is_none() && own.get("created").is_none());
        assert_eq!(own["choices"], answer["choices"]);
        let response = json!({"id": "resp_1", "status": "completed", "output": [
            {"type": "message", "content": []},
        ]});
        // The next turn names it: it must be one that the upstream knows.
        assert_eq!(kept(Endpoint::Responses, &response).unwrap().1["id"], "resp_1");
    }
}
