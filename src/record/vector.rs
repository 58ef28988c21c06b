//! A vector that comes in a field of its record: a list of numbers, each a finite 32-bit float.

use sonic_rs::{JsonType, JsonValueTrait};

use crate::core::limits::DIM;
use crate::record::Problem;
use crate::record::json::missing;

/// The vector in `field` of a JSON object, as it stands there.
///
/// # Errors
/// `field_missing`, `field_type`, `vector_not_finite` or `dim_range`.
pub fn of_json(record: &[u8], field: &str) -> Result<Vec<f32>, Problem> {
    let value = sonic_rs::get(record, [field]).map_err(|_| missing(field))?;
    if value.get_type() != JsonType::Array {
        return Err(no_vector(field, "no list"));
    }
    let values: Vec<f64> = sonic_rs::from_str(value.as_raw_str())
        .map_err(|_| no_vector(field, "a list of something else"))?;
    finite(field, values.into_iter())
}

/// The problem of a field that is `what` and should be a vector.
pub fn no_vector(field: &str, what: &str) -> Problem {
    Problem::new("field_type", format!("{field:?} is {what}, expected a list of numbers"))
}

/// Numbers of `field` as a row.
///
/// # Errors
/// `vector_not_finite` or `dim_range`.
pub fn finite(field: &str, values: impl Iterator<Item = f64>) -> Result<Vec<f32>, Problem> {
    let values: Vec<f32> = values.map(|x| x as f32).collect();
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        let message = format!("{field:?}, element {at} is no finite 32-bit float");
        return Err(Problem::new("vector_not_finite", message));
    }
    if !(1..=DIM).contains(&values.len()) {
        let message = format!("{field:?} has {} numbers, expected 1 to {DIM}", values.len());
        return Err(Problem::new("dim_range", message));
    }
    Ok(values)
}

/// The same vector, if it has `dim` numbers.
///
/// # Errors
/// `vector_dim`.
pub fn of_dim(field: &str, vector: Vec<f32>, dim: usize) -> Result<Vec<f32>, Problem> {
    if vector.len() != dim {
        let message = format!("{field:?} has {} numbers, the first record has {dim}", vector.len());
        return Err(Problem::new("vector_dim", message));
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_or_said_why_not() {
        let read = |text: &str, dim| {
            let vector = of_json(text.as_bytes(), "v");
            vector.and_then(|vector| of_dim("v", vector, dim)).map_err(|problem| problem.code)
        };
        assert_eq!(read(r#"{"a": 1, "v": [1, -2.5, 3e-1]}"#, 3), Ok(vec![1.0, -2.5, 0.3]));
        assert_eq!(read(r#"{"v": [1, 2]}"#, 3), Err("vector_dim"));
        assert_eq!(read(r#"{"w": [1, 2]}"#, 2), Err("field_missing"));
        assert_eq!(read(r#"{"v": "1"}"#, 1), Err("field_type"));
        assert_eq!(read(r#"{"v": null}"#, 1), Err("field_type"));
        assert_eq!(read(r#"{"v": [1, null]}"#, 2), Err("field_type"));
        assert_eq!(read(r#"{"v": [1e39]}"#, 1), Err("vector_not_finite"));
        assert_eq!(read(r#"{"v": []}"#, 0), Err("dim_range"));
    }
}
