//! Names of points and tenants: never bare integers.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The caller's name of a point. Numbers come before UUIDs, each in its natural order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointId {
    /// An unsigned 64-bit number.
    Num(u64),
    /// A UUID of any version.
    Uuid(u128),
}

/// A tenant, by the number that stands for its name in one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// Bytes of [`PointId::to_key`].
pub const POINT_KEY_BYTES: usize = 17;

impl PointId {
    /// A key whose bytes sort as the ids do: a tag, then the value, most significant byte first.
    pub fn to_key(self) -> [u8; POINT_KEY_BYTES] {
        let (tag, value) = match self {
            Self::Num(number) => (0, u128::from(number)),
            Self::Uuid(uuid) => (1, uuid),
        };
        let mut key = [tag; POINT_KEY_BYTES];
        key[1..].copy_from_slice(&value.to_be_bytes());
        key
    }

    /// Whether an id has this key.
    pub fn is_key(key: &[u8; POINT_KEY_BYTES]) -> bool {
        let [kind, head @ .., _, _, _, _, _, _, _, _] = key;
        *kind == 1 || *kind == 0 && *head == [0; 8]
    }

    /// The id of a key, or `None` if no id has this key.
    pub fn from_key(key: &[u8; POINT_KEY_BYTES]) -> Option<Self> {
        let value = key[1..].iter().fold(0, |value, &byte| value << 8 | u128::from(byte));
        match key[0] {
            0 => u64::try_from(value).ok().map(Self::Num),
            1 => Some(Self::Uuid(value)),
            _ => None,
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Num(number) => write!(f, "{number}"),
            Self::Uuid(uuid) => {
                let hex = format!("{uuid:032x}");
                let [a, b, c, d] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20]];
                write!(f, "{a}-{b}-{c}-{d}-{}", &hex[20..])
            }
        }
    }
}

impl FromStr for PointId {
    type Err = Error;

    /// Reads decimal digits as a number, and 32 hexadecimal digits, plain or grouped 8-4-4-4-12, as a UUID.
    ///
    /// # Errors
    /// `id_invalid`.
    fn from_str(text: &str) -> Result<Self> {
        let is_grouped = text.len() == 36
            && text
                .bytes()
                .enumerate()
                .all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
        let hex = if is_grouped { text.replace('-', "") } else { text.to_owned() };
        if hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let uuid = u128::from_str_radix(&hex, 16);
            return Ok(Self::Uuid(uuid.expect("32 hexadecimal digits are 128 bits")));
        }
        let number = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(|text| text.parse().ok()).map(Self::Num).ok_or_else(|| {
            let message = format!("{text:?}, expected an unsigned 64-bit integer or a UUID");
            Error::usage("id_invalid", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix;

    fn samples() -> Vec<PointId> {
        let mut ids: Vec<PointId> = (0..200u64)
            .flat_map(|n| {
                let (a, b) = (mix::stream(1, n), mix::stream(2, n));
                let shift = (n % 64) as u32;
                [
                    PointId::Num(a >> shift),
                    PointId::Uuid((u128::from(a) << 64 | u128::from(b)) >> shift),
                ]
            })
            .collect();
        ids.extend([PointId::Num(0), PointId::Num(u64::MAX)]);
        ids.extend([PointId::Uuid(0), PointId::Uuid(u128::MAX)]);
        ids
    }

    #[test]
    fn keys_sort_as_ids_do_and_lead_back_to_them() {
        let mut ids = samples();
        let mut keys: Vec<_> = ids.iter().map(|id| id.to_key()).collect();
        ids.sort_unstable();
        keys.sort_unstable();
        let back: Vec<PointId> = keys
            .iter()
            .map(|key| PointId::from_key(key).expect("it is the key of an id"))
            .collect();
        assert_eq!(ids, back);
        let mut no_id = PointId::Num(1).to_key();
        no_id[1] = 1;
        assert_eq!(PointId::from_key(&no_id), None, "a number of more than 64 bits");
        no_id[0] = 2;
        assert_eq!(PointId::from_key(&no_id), None);
    }

    #[test]
    fn what_is_displayed_is_read_back() {
        for id in samples() {
            assert_eq!(id.to_string().parse::<PointId>().unwrap(), id);
        }
        let uuid = PointId::Uuid(0x550e8400_e29b_41d4_a716_446655440000);
        assert_eq!(uuid.to_string(), "550e8400-e29b-41d4-a716-446655440000");
        assert_eq!("550E8400E29B41D4A716446655440000".parse::<PointId>().unwrap(), uuid);
        assert_eq!(PointId::Num(42).to_string(), "42");
    }

    #[test]
    fn what_is_no_id_is_refused_by_name() {
        let long = "550e8400-e29b-41d4-a716-4466554400001";
        let hyphen = "550e840-0e29b-41d4-a716-446655440000";
        for text in ["", "-1", "+1", "1.0", "18446744073709551616", "x", " 1", long, hyphen, "é"] {
            let error = text.parse::<PointId>().unwrap_err();
            assert_eq!(error.code(), "id_invalid", "{text}");
        }
    }
}
