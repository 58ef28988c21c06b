//! A body with vectors in bytes: the length of a JSON object (u32, little-endian), the object, and behind it a row of f32
//! (little-endian) for each of its lookups or entries, in their order.

use serde::de::DeserializeOwned;

use crate::server::call::Call;
use crate::server::qdrant::json::from_bytes;
use crate::server::reply::Refusal;

/// The rows of a body.
#[derive(Debug)]
pub struct Rows<'a>(&'a [u8]);

/// The object of a body, and the rows behind it.
///
/// # Errors
/// `binary_body`; those of JSON.
pub fn read<'a, T: DeserializeOwned>(call: &Call<'a>) -> Result<(T, Rows<'a>), Refusal> {
    let (head, rows) = split(call.body)?;
    Ok((from_bytes(head)?, rows))
}

fn split(body: &[u8]) -> Result<(&[u8], Rows<'_>), Refusal> {
    let bad = |what: String| {
        let expected = "the length of a JSON object (u32, little-endian), the object, and rows of f32 (little-endian)";
        Refusal::bad(format!("binary_body: {what}, expected {expected}"))
    };
    let Some((length, rest)) = body.split_first_chunk::<4>() else {
        return Err(bad(format!("{} bytes", body.len())));
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((head, rows)) = rest.split_at_checked(length) else {
        return Err(bad(format!("an object of {length} bytes in {}", rest.len())));
    };
    if !rows.len().is_multiple_of(4) {
        return Err(bad(format!("{} bytes of rows", rows.len())));
    }
    Ok((head, Rows(rows)))
}

impl Rows<'_> {
    /// Puts a row into each place.
    ///
    /// # Errors
    /// `binary_body` if the rows are not as many as the places.
    pub fn fill<'v>(
        self,
        places: impl ExactSizeIterator<Item = &'v mut Option<Vec<f32>>>,
    ) -> Result<(), Refusal> {
        let (n_rows, n_numbers) = (places.len(), self.0.len() / 4);
        if n_rows == 0 || n_numbers == 0 || !n_numbers.is_multiple_of(n_rows) {
            let message = format!(
                "binary_body: {n_numbers} numbers for {n_rows} rows, expected as many for each"
            );
            return Err(Refusal::bad(message));
        }
        let rows = self.0.chunks_exact(4 * (n_numbers / n_rows));
        for (place, row) in places.zip(rows) {
            if place.is_some() {
                return Err(Refusal::bad(
                    "binary_body: a vector in the object, expected all of them behind it",
                ));
            }
            let (numbers, _) = row.as_chunks::<4>();
            *place = Some(numbers.iter().map(|own| f32::from_le_bytes(*own)).collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(head: &str, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(head.as_bytes());
        numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes
    }

    #[test]
    fn rows_lie_behind_the_object_in_order() {
        let bytes = body("{}", &[1.0, 2.0, 3.0, 4.0]);
        let (head, rows) = split(&bytes).unwrap();
        let mut places = [None, None];
        rows.fill(places.iter_mut()).unwrap();
        assert_eq!(head, b"{}");
        assert_eq!(places, [Some(vec![1.0, 2.0]), Some(vec![3.0, 4.0])]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let whole = body("{}", &[1.0, 2.0, 3.0]);
        for bytes in [&whole[..3], &whole[..5], &whole[..7]] {
            assert_eq!(split(bytes).unwrap_err().code(), "binary_body");
        }
        let fill = |n: usize, place: Option<Vec<f32>>| {
            let mut places = vec![place; n];
            split(&whole).unwrap().1.fill(places.iter_mut()).map_err(|no| no.code().to_owned())
        };
        assert_eq!(fill(3, None), Ok(()));
        for (n, place) in [(2, None), (0, None), (3, Some(vec![])), (4, None)] {
            assert_eq!(fill(n, place), Err("binary_body".to_owned()), "{n}");
        }
    }
}
