//! The last turn of the user, in the forms that clients send it.

use serde_json::{Value, json};

use crate::server::cache::canonical::{Hash, Hasher};
use crate::server::cache::identity::Endpoint;

/// Takes the text of the last turn out of a body's question, and leaves its place; nothing if it is not the user's, or is not
/// all text.
pub fn take(endpoint: Endpoint, question: &mut Value) -> Option<String> {
    match endpoint {
        Endpoint::Embeddings => None,
        Endpoint::Completions => match question {
            Value::String(text) => Some(std::mem::take(text)),
            Value::Array(prompts) if prompts.len() == 1 => {
                let text = prompts[0].as_str()?.to_owned();
                *question = json!("");
                Some(text)
            }
            _ => None,
        },
        Endpoint::Responses if question.is_string() => {
            let text = question.as_str().map(str::to_owned);
            *question = json!("");
            text
        }
        Endpoint::Chat | Endpoint::Responses => {
            let last = question.as_array_mut()?.last_mut()?;
            if last.get("role")? != "user" {
                return None;
            }
            let content = last.get_mut("content")?;
            let text = text(content)?;
            *content = json!("");
            Some(text)
        }
    }
}

/// Why a question has no answer that could be another's.
pub fn never(endpoint: Endpoint, question: Option<&Value>) -> Option<&'static str> {
    let Some(question) = question.filter(|question| !question.is_null()) else {
        // A stored prompt of the upstream's may stand for it: what that says may change.
        return Some("no_turn");
    };
    if endpoint == Endpoint::Completions || endpoint == Endpoint::Embeddings {
        return None;
    }
    let last = match question {
        Value::String(_) if endpoint == Endpoint::Responses => return None,
        Value::Array(turns) => turns.last(),
        _ => None,
    };
    let Some(last) = last.and_then(Value::as_object) else { return Some("no_turn") };
    let is = |key: &str, names: &[&str]| {
        last.get(key).and_then(Value::as_str).is_some_and(|own| names.contains(&own))
    };
    let is_output =
        last.get("type").and_then(Value::as_str).is_some_and(|own| own.ends_with("_output"));
    (is("role", &["tool", "function"]) || is_output).then_some("tool_result")
}

/// The text of a content that is nothing else.
fn text(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(part).collect();
            texts.map(|texts| texts.join("\n"))
        }
        _ => None,
    }
}

fn part(part: &Value) -> Option<&str> {
    let is_text = matches!(part.get("type")?.as_str()?, "text" | "input_text");
    part.get("text")?.as_str().filter(|_| is_text)
}

/// A prompt as it is compared: its text, and the hash of what stands around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The last turn of the user; empty if that is not text.
    pub text: String,
    /// Of everything else.
    pub around: Hash,
}

/// A prompt as caches of frameworks send it: a text; or a dump of messages, or a list of earlier questions and the last, of which
/// only the last is compared. A dump that is embedded whole is like any other dump, whatever it asks.
pub fn unwrapped(prompt: &str) -> Prompt {
    let mut hasher = Hasher::new("prompt");
    let turns = match serde_json::from_str::<Value>(prompt) {
        Ok(Value::Array(turns)) if !turns.is_empty() => turns,
        _ => return Prompt { text: prompt.to_owned(), around: hasher.hash() },
    };
    let mut turns = turns;
    let last = turns.pop().expect("it is not empty");
    if let (Some(text), true) = (last.as_str(), turns.iter().all(Value::is_string)) {
        hasher.text("questions").value(&Value::Array(turns));
        return Prompt { text: text.to_owned(), around: hasher.hash() };
    }
    let is_dump = |turn: &Value| turn.get("lc").is_some() && turn.get("kwargs").is_some();
    if !is_dump(&last) || !turns.iter().all(is_dump) {
        return Prompt { text: prompt.to_owned(), around: hasher.hash() };
    }
    let (text, last) = last_of_dump(last);
    turns.push(last);
    turns.iter_mut().for_each(forget_run);
    hasher.text("messages").value(&Value::Array(turns));
    Prompt { text, around: hasher.hash() }
}

/// The text of a dumped message, if a person wrote it, and what is left of the message.
fn last_of_dump(mut message: Value) -> (String, Value) {
    let own = &mut message["kwargs"];
    let is_human = own["type"] == "human" || own["role"] == "user";
    match text(&own["content"]).filter(|_| is_human) {
        Some(text) => {
            own["content"] = json!("");
            (text, message)
        }
        None => (String::new(), message),
    }
}

/// Drops what is another at every run.
fn forget_run(message: &mut Value) {
    if let Some(own) = message["kwargs"].as_object_mut() {
        own.remove("id");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(class: &str, content: Value, kind: &str) -> Value {
        json!({"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", class],
            "kwargs": {"content": content, "type": kind, "id": "run-1"}})
    }

    fn of(messages: &[Value]) -> Prompt {
        unwrapped(&json!(messages).to_string())
    }

    #[test]
    fn of_a_dump_the_last_human_message_is_compared_and_the_rest_must_be_equal() {
        let human = |text: &str| message("HumanMessage", json!(text), "human");
        let system = |text: &str| message("SystemMessage", json!(text), "system");
        let one = of(&[system("Be brief."), human("Capital of France?")]);
        assert_eq!(one.text, "Capital of France?");
        let other = of(&[system("Be brief."), human("France's capital?")]);
        assert_eq!((other.text.as_str(), other.around), ("France's capital?", one.around));
        for different in [
            of(&[human("Capital of France?")]),
            of(&[system("Be rude."), human("Capital of France?")]),
            of(&[human("Hi"), system("Be brief."), human("Capital of France?")]),
        ] {
            assert_eq!(different.text, one.text);
            assert_ne!(different.around, one.around);
        }
        let parts = of(&[system("Be brief."), {
            let parts = json!([{"type": "text", "text": "Capital"}, {"type": "text", "text": "?"}]);
            message("HumanMessage", parts, "human")
        }]);
        assert_eq!((parts.text.as_str(), parts.around), ("Capital\n?", one.around));
    }

    #[test]
    fn what_no_person_wrote_or_is_not_text_has_no_text() {
        let ai = of(&[message("AIMessage", json!("Paris"), "ai")]);
        assert_eq!(ai.text, "");
        let image = of(&[message("HumanMessage", json!([{"type": "image_url"}]), "human")]);
        assert_eq!(image.text, "");
        assert_ne!(ai.around, image.around);
    }

    #[test]
    fn earlier_questions_are_a_list_and_other_texts_are_themselves() {
        let last = unwrapped(r#"["Who wrote Faust?", "When was he born?"]"#);
        assert_eq!(last.text, "When was he born?");
        assert_ne!(last.around, unwrapped(r#"["Who wrote Emma?", "When was he born?"]"#).around);
        for text in ["When was he born?", "[1, 2]", "[]", "[{\"a\": 1}]", "{\"lc\": 1}", "[\"a\""] {
            let own = unwrapped(text);
            assert_eq!((own.text.as_str(), own.around), (text, unwrapped("any").around), "{text}");
        }
        assert_ne!(unwrapped("[\"a\"]").around, unwrapped("a").around);
    }
}
