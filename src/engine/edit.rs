//! What can be done to a payload, as Qdrant's servers do it: a key that is given null is taken away.

use serde_json::{Map, Value};

use crate::store::columns::path::{Path, Step};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Gives an object the keys of another, whose nulls take keys away. Values are replaced whole.
pub(super) fn merge(into: &mut Object, from: &Object) {
    for (key, value) in from {
        match value {
            // The order of the other keys stays.
            Value::Null => drop(into.shift_remove(key)),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

/// Merges an object into the one at a path. Objects are made where the path leads through what is none, and there an empty
/// array where it leads through what is no array; a position that an array does not have is passed over.
pub(super) fn merge_at(into: &mut Object, path: &Path, from: &Object) {
    if let [Step::Key(key), rest @ ..] = path.steps() {
        merge_steps(into.entry(key).or_insert(Value::Null), rest, from);
    }
}

fn merge_steps(value: &mut Value, steps: &[Step], from: &Object) {
    match steps {
        [] => merge(as_object(value), from),
        [Step::Key(key), rest @ ..] => {
            merge_steps(as_object(value).entry(key).or_insert(Value::Null), rest, from);
        }
        [Step::At(at), rest @ ..] => {
            let at = usize::try_from(*at).ok();
            if let Some(element) = at.and_then(|at| as_array(value).get_mut(at)) {
                merge_steps(element, rest, from);
            }
        }
        [Step::Every, rest @ ..] => {
            as_array(value).iter_mut().for_each(|element| merge_steps(element, rest, from));
        }
    }
}

fn as_object(value: &mut Value) -> &mut Object {
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut().expect("it was made one")
}

fn as_array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("it was made one")
}

/// Takes away what is at a path: a key, or with a last `[]` all elements of an array. A last position takes nothing away:
/// done twice, it would take two.
pub(super) fn remove_at(from: &mut Object, path: &Path) {
    match path.steps() {
        [Step::Key(key)] => drop(from.shift_remove(key)),
        [Step::Key(key), rest @ ..] => {
            if let Some(value) = from.get_mut(key) {
                remove_steps(value, rest);
            }
        }
        _ => {}
    }
}

fn remove_steps(value: &mut Value, steps: &[Step]) {
    match (steps, value) {
        ([Step::Key(key)], Value::Object(map)) => drop(map.shift_remove(key)),
        ([Step::Every], Value::Array(array)) => array.clear(),
        ([Step::Key(key), rest @ ..], Value::Object(map)) => {
            if let Some(value) = map.get_mut(key) {
                remove_steps(value, rest);
            }
        }
        ([Step::At(at), rest @ ..], Value::Array(array)) if !rest.is_empty() => {
            if let Some(element) = usize::try_from(*at).ok().and_then(|at| array.get_mut(at)) {
                remove_steps(element, rest);
            }
        }
        ([Step::Every, rest @ ..], Value::Array(array)) => {
            array.iter_mut().for_each(|element| remove_steps(element, rest));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn keys_are_merged_at_the_top_and_null_takes_one_away() {
        let mut payload = object(json!({"a": 1, "b": {"c": 2}, "d": 3}));
        merge(&mut payload, &object(json!({"a": null, "b": {"e": 1}, "f": [], "g": null})));
        assert_eq!(json!(payload), json!({"b": {"e": 1}, "d": 3, "f": []}));
    }

    #[test]
    fn keys_are_merged_at_a_path_which_is_made() {
        let cases = [
            ("a", json!({}), json!({"a": {"x": 1}})),
            ("a", json!({"a": {"y": 2, "z": 3}}), json!({"a": {"y": 2, "x": 1}})),
            ("a", json!({"a": 5}), json!({"a": {"x": 1}})),
            ("a.b", json!({"a": 5}), json!({"a": {"b": {"x": 1}}})),
            ("a.b", json!({"a": {"c": 0}}), json!({"a": {"c": 0, "b": {"x": 1}}})),
            ("a[]", json!({"a": [{"y": 1}, 2]}), json!({"a": [{"y": 1, "x": 1}, {"x": 1}]})),
            ("a[1].b", json!({"a": [1, 2]}), json!({"a": [1, {"b": {"x": 1}}]})),
            ("a[7]", json!({"a": [1, 2]}), json!({"a": [1, 2]})),
            ("a[].b", json!({"a": 3}), json!({"a": []})),
        ];
        for (path, before, after) in cases {
            let mut payload = object(before.clone());
            let patch = object(json!({"x": 1, "z": null}));
            merge_at(&mut payload, &path.parse().unwrap(), &patch);
            assert_eq!(json!(payload), after, "{path} of {before}");
        }
    }

    #[test]
    fn what_is_at_a_path_is_taken_away_and_nothing_else() {
        let cases = [
            ("a", json!({"b": 1, "a": 2, "c": 3}), json!({"b": 1, "c": 3})),
            ("a.b", json!({"a": {"b": 1, "c": 2}}), json!({"a": {"c": 2}})),
            ("a.b", json!({"a": [1]}), json!({"a": [1]})),
            ("a[]", json!({"a": [1, 2]}), json!({"a": []})),
            ("a[].b", json!({"a": [{"b": 1}, {"c": 2}, 3]}), json!({"a": [{}, {"c": 2}, 3]})),
            ("a[1].b", json!({"a": [{"b": 1}, {"b": 2}]}), json!({"a": [{"b": 1}, {}]})),
            ("a[0]", json!({"a": [1, 2]}), json!({"a": [1, 2]})),
            ("x.y", json!({"a": 1}), json!({"a": 1})),
        ];
        for (path, before, after) in cases {
            let mut payload = object(before.clone());
            remove_at(&mut payload, &path.parse().unwrap());
            assert_eq!(json!(payload), after, "{path} of {before}");
        }
    }
}
