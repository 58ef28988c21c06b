//! Vectors that are sent as bytes: a head of JSON, and behind it the numbers that it refers to.
//!
//! A body of type [`CONTENT_TYPE`] is the length of the head (four bytes, the lowest first), the head, and numbers of four bytes
//! each (IEEE 754, the lowest byte first). The head is the JSON that the route takes, in which `"f32:FROM:N"` stands in the place
//! of a list of numbers: N numbers from number FROM on, the first of which is 0. Each number is referred to once. Reading
//! them takes no time, where those of JSON take most of a request's.

use std::cell::RefCell;

use crate::error::{Error, ErrorKind, Result};

/// The type of such a body.
pub const CONTENT_TYPE: &str = "application/x-nearkin-f32";

/// What a reference begins with.
const PREFIX: &str = "f32:";

/// Routes whose bodies have vectors.
const TAKE_NUMBERS: [(&str, &str); 18] = [
    ("PUT", "/collections/{collection}/points"),
    ("POST", "/collections/{collection}/points/batch"),
    ("PUT", "/collections/{collection}/points/vectors"),
    ("POST", "/collections/{collection}/points/search"),
    ("POST", "/collections/{collection}/points/search/batch"),
    ("POST", "/collections/{collection}/points/search/groups"),
    ("POST", "/collections/{collection}/points/explain"),
    ("POST", "/collections/{collection}/points/query"),
    ("POST", "/collections/{collection}/points/query/batch"),
    ("POST", "/collections/{collection}/points/query/groups"),
    ("POST", "/collections/{collection}/points/recommend"),
    ("POST", "/collections/{collection}/points/recommend/batch"),
    ("POST", "/collections/{collection}/points/recommend/groups"),
    ("POST", "/collections/{collection}/points/discover"),
    ("POST", "/collections/{collection}/points/discover/batch"),
    ("POST", "/v1/cache/{cache}/lookup"),
    ("POST", "/v1/cache/{cache}/insert"),
    ("POST", "/v1/cache/{cache}/explain"),
];

thread_local! {
    /// Numbers behind the head that this thread reads. Readers of JSON have no way to be told of them.
    static SENT: RefCell<Option<Sent>> = const { RefCell::new(None) };
}

struct Sent {
    bytes: Vec<u8>,
    /// First number and how many, of each reference that was followed.
    taken: Vec<(usize, usize)>,
}

impl Sent {
    fn n_numbers(&self) -> usize {
        self.bytes.len() / size_of::<f32>()
    }
}

/// Whether bodies of this route have vectors, which may be sent as bytes.
pub fn are_taken_by(method: &str, path: &str) -> bool {
    TAKE_NUMBERS.contains(&(method, path))
}

/// Numbers that this thread can refer to until this is dropped.
pub struct Lent(());

impl Drop for Lent {
    fn drop(&mut self) {
        SENT.take();
    }
}

/// The head of a body; the numbers behind it can be referred to as long as they are lent.
///
/// # Errors
/// `numbers_head` for a head that is longer than the body; `numbers_bytes` for half a number.
pub fn lend(body: &[u8]) -> Result<(&[u8], Lent)> {
    let bad = |code, message| Err(Error::new(ErrorKind::BadInput, code, message));
    let Some((length, rest)) = body.split_first_chunk::<4>() else {
        let message = format!("{} bytes, expected the length of the head in 4", body.len());
        return bad("numbers_head", message);
    };
    let n_head = u32::from_le_bytes(*length) as usize;
    let Some((head, tail)) = rest.split_at_checked(n_head) else {
        let message =
            format!("a head of {n_head} bytes, received {} behind its length", rest.len());
        return bad("numbers_head", message);
    };
    if !tail.len().is_multiple_of(size_of::<f32>()) {
        let message = format!("{} bytes behind the head, expected 4 for each number", tail.len());
        return bad("numbers_bytes", message);
    }
    SENT.set(Some(Sent { bytes: tail.to_vec(), taken: Vec::new() }));
    Ok((head, Lent(())))
}

/// The numbers that a text refers to; none if it is no reference.
///
/// # Errors
/// `numbers_reference` for what is not there; `vector_not_finite`.
pub fn referred(text: &str) -> Option<Result<Vec<f32>>> {
    let range = text.strip_prefix(PREFIX)?;
    let bad = |message| Err(Error::new(ErrorKind::BadInput, "numbers_reference", message));
    let parsed =
        range.split_once(':').and_then(|(from, n)| Some((from.parse().ok()?, n.parse().ok()?)));
    let Some((from, n)) = parsed else {
        return Some(bad(format!("{text:?}, expected f32:FROM:N")));
    };
    Some(SENT.with_borrow_mut(|sent| {
        match sent {
            None => bad(format!(
                "{text:?}, but no numbers were sent: expected a body of {CONTENT_TYPE}"
            )),
            Some(sent) => taken(sent, from, n)
                .unwrap_or_else(|| bad(format!("{text:?} of {} numbers", sent.n_numbers()))),
        }
    }))
}

fn taken(sent: &mut Sent, from: usize, n: usize) -> Option<Result<Vec<f32>>> {
    let size = size_of::<f32>();
    let bytes = sent.bytes.get(from.checked_mul(size)?..from.checked_add(n)?.checked_mul(size)?)?;
    let (numbers, _) = bytes.as_chunks();
    let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    sent.taken.push((from, n));
    Some(match numbers.iter().position(|number| !number.is_finite()) {
        None => Ok(numbers),
        Some(at) => {
            let message = format!("number {} is {}", from + at, numbers[at]);
            Err(Error::new(ErrorKind::BadInput, "vector_not_finite", message))
        }
    })
}

/// Fails if a number that was sent is referred to by nothing, or twice.
///
/// # Errors
/// `numbers_unused`, `numbers_reference`.
pub fn check_all_taken() -> Result<()> {
    SENT.with_borrow_mut(|sent| {
        let Some(sent) = sent else { return Ok(()) };
        let bad = |code, message| Err(Error::new(ErrorKind::BadInput, code, message));
        sent.taken.sort_unstable();
        let mut end = 0;
        for &(from, n) in sent.taken.iter().chain([&(sent.n_numbers(), 0)]) {
            if from > end {
                return bad(
                    "numbers_unused",
                    format!("numbers {end} to {} have no reference", from - 1),
                );
            }
            if from < end {
                return bad("numbers_reference", format!("number {from} has two references"));
            }
            end = from + n;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(head: &str, numbers: &[f32]) -> Vec<u8> {
        let length = (head.len() as u32).to_le_bytes();
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        length.into_iter().chain(head.bytes()).chain(numbers).collect()
    }

    fn code<T>(result: Result<T>) -> &'static str {
        result.err().unwrap().code()
    }

    #[test]
    fn numbers_are_those_that_were_sent_and_each_is_referred_to_once() {
        let sent = body("{}", &[0.5, -1.0, f32::MIN_POSITIVE, 3e38]);
        let (head, lent) = lend(&sent).unwrap();
        assert_eq!(head, b"{}");
        assert_eq!(referred("f32:1:3").unwrap(), Ok(vec![-1.0, f32::MIN_POSITIVE, 3e38]));
        assert_eq!(code(check_all_taken()), "numbers_unused");
        assert_eq!(referred("f32:0:1").unwrap(), Ok(vec![0.5]));
        check_all_taken().unwrap();
        assert_eq!(referred("f32:3:1").unwrap(), Ok(vec![3e38]));
        assert_eq!(code(check_all_taken()), "numbers_reference");
        for text in
            ["f32:4:1", "f32:0:5", "f32:-1:2", "f32:1", "f32:", "f32:0:18446744073709551615"]
        {
            assert_eq!(code(referred(text).unwrap()), "numbers_reference", "{text}");
        }
        assert_eq!(referred("g32:0:1"), None);
        drop(lent);
        assert_eq!(code(referred("f32:0:1").unwrap()), "numbers_reference");
        check_all_taken().unwrap();
    }

    #[test]
    fn bodies_that_are_cut_or_hold_no_numbers_are_refused() {
        for (bytes, expected) in [
            (&b""[..], "numbers_head"),
            (b"\x01\0\0", "numbers_head"),
            (b"\x03\0\0\0{}", "numbers_head"),
            (b"\xff\xff\xff\xff{}", "numbers_head"),
            (b"\x02\0\0\0{}abc", "numbers_bytes"),
        ] {
            assert_eq!(code(lend(bytes).map(drop)), expected, "{bytes:?}");
        }
        let (_, _lent) =
            lend(&body("", &[1.0, f32::NAN])).map(|(head, lent)| (head.len(), lent)).unwrap();
        assert_eq!(code(referred("f32:0:2").unwrap()), "vector_not_finite");
    }
}
