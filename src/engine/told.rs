//! How an answer came about, as JSON tells it.

use serde_json::{Map, Value, json};

use crate::engine::search::Answer;

impl Answer {
    /// The microseconds that each way that could be taken was predicted to take, by its name.
    pub fn predicted_us(&self) -> Map<String, Value> {
        let predicted = self.choice.predicted.iter();
        predicted.map(|&(way, seconds)| (way.name().to_owned(), json!(micros(seconds)))).collect()
    }

    /// What was looked at for the filter.
    pub fn filter_read(&self) -> Value {
        let (payloads_read, read_for) = &self.payloads_read;
        json!({
            "rows_touched": self.rows_touched,
            "payloads_read": payloads_read,
            "read_for": read_for,
        })
    }
}

/// Seconds in microseconds, to the tenth.
pub fn micros(seconds: f64) -> f64 {
    (seconds * 1e7).round() / 10.0
}
