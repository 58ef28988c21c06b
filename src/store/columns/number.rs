//! Numbers of JSON in their exact order, and how they become sortable 64-bit keys.

use std::cmp::Ordering;
use std::ops::{Bound, RangeInclusive};

use serde_json::Value;

use crate::error::Result;
use crate::store::columns::bytes::Reader;

/// A number, compared by value: 2^53 + 1 is more than 2^53 as a float, and -0.0 equals 0.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Written without a fraction or an exponent; JSON's reach from -2^63 to 2^64 - 1.
    Int(i128),
    /// Any other; finite.
    Float(f64),
}

impl Number {
    /// The number that `value` is, if it is one.
    pub fn of(value: &Value) -> Option<Self> {
        let number = value.as_number()?;
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        whole.map(Self::Int).or_else(|| number.as_f64().map(Self::Float))
    }

    /// Bytes of a number: a letter for what it is, and 64 bits.
    pub(super) const N_BYTES: usize = 9;

    /// Adds what [`Number::decode`] reads.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let (letter, bits) = match self {
            Self::Float(float) => (b'f', float.to_bits()),
            Self::Int(int) if int < 0 => {
                let int = i64::try_from(int).expect("JSON's whole numbers begin at -2^63");
                (b'i', int.cast_unsigned())
            }
            Self::Int(int) => (b'u', u64::try_from(int).expect("JSON's whole numbers end at 2^64")),
        };
        out.push(letter);
        out.extend(bits.to_le_bytes());
    }

    /// Reads what was encoded.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.u8()? {
            b'f' => reader.f64().map(Self::Float),
            b'i' => Ok(Self::Int(reader.u64()?.cast_signed().into())),
            b'u' => Ok(Self::Int(reader.u64()?.into())),
            other => Err(reader.corrupt(format!("a number of type {other}"))),
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Int(a), Self::Float(b)) => int_with_float(a, b),
            (Self::Float(a), Self::Int(b)) => int_with_float(b, a).reverse(),
            // Adding zero makes one of both zeros.
            (Self::Float(a), Self::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
        }
    }
}

/// The conversion of the whole part saturates far outside of what an integer can be here.
fn int_with_float(int: i128, float: f64) -> Ordering {
    int.cmp(&(float.trunc() as i128)).then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0)))
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

/// A lower and an upper bound.
pub type Interval<T> = (Bound<T>, Bound<T>);

/// How a column keeps its numbers as 64-bit keys in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The key is the number: whole numbers and moments.
    Int,
    /// The key is made of the bits of the float.
    Float,
}

impl Layout {
    /// The key of a number that this layout keeps exactly.
    pub fn key(self, number: Number) -> Option<i64> {
        match (self, number) {
            (Self::Int, Number::Int(int)) => int.try_into().ok(),
            (Self::Int, Number::Float(_)) => None,
            (Self::Float, Number::Float(float)) => Some(key_of(float)),
            (Self::Float, Number::Int(int)) => {
                let float = int as f64;
                (int_with_float(int, float) == Ordering::Equal).then(|| key_of(float))
            }
        }
    }

    /// The number of a key; of a whole number among floats, the float that is equal to it.
    pub fn number(self, key: i64) -> Number {
        match self {
            Self::Int => Number::Int(key.into()),
            Self::Float => Number::Float(float_of(key)),
        }
    }

    /// The keys of the numbers in `interval`, or `None` if no number that has a key is in it.
    pub fn keys(self, interval: &Interval<Number>) -> Option<RangeInclusive<i64>> {
        let first = match interval.0 {
            Bound::Unbounded => i128::from(i64::MIN),
            Bound::Included(number) => self.first(number, false),
            Bound::Excluded(number) => self.first(number, true),
        };
        let last = match interval.1 {
            Bound::Unbounded => i128::from(i64::MAX),
            Bound::Included(number) => self.first(number, true).saturating_sub(1),
            Bound::Excluded(number) => self.first(number, false).saturating_sub(1),
        };
        let first = i64::try_from(first.max(i64::MIN.into())).ok()?;
        let last = i64::try_from(last.min(i64::MAX.into())).ok()?;
        (first <= last).then_some(first..=last)
    }

    /// The first key of numbers from `number` on, or past it; it may lie outside of the keys.
    fn first(self, number: Number, past: bool) -> i128 {
        match (self, number) {
            (Self::Int, Number::Int(int)) => int + i128::from(past),
            (Self::Int, Number::Float(float)) if past => (float.floor() as i128).saturating_add(1),
            (Self::Int, Number::Float(float)) => float.ceil() as i128,
            (Self::Float, Number::Float(float)) => i128::from(key_of(float)) + i128::from(past),
            (Self::Float, Number::Int(int)) => {
                let float = int as f64;
                let is_before = match int_with_float(int, float) {
                    Ordering::Greater => true,
                    Ordering::Equal => past,
                    Ordering::Less => false,
                };
                i128::from(key_of(float)) + i128::from(is_before)
            }
        }
    }
}

/// The bits of a float, negative ones turned round, so that they sort as the floats do.
pub fn key_of(float: f64) -> i64 {
    let bits = (float + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// The float of a key.
pub fn float_of(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed()).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn numbers() -> Vec<Number> {
        let near = |int: i128| (-3..=3).map(move |d| Number::Int(int + d));
        let mut all: Vec<Number> =
            [0, 1 << 53, -(1 << 53), (1 << 63) - 4, -(1 << 63) + 3, (1 << 64) - 4]
                .into_iter()
                .flat_map(near)
                .filter(|number| *number <= Number::Int(u64::MAX.into()))
                .collect();
        for float in [
            0.0,
            -0.0,
            0.5,
            -0.5,
            1.0,
            2.5,
            9007199254740992.0,
            9223372036854775808.0,
            1e300,
            f64::MIN,
        ] {
            all.extend(
                [float, float.next_up(), float.next_down()].map(|f| Number::Float(f.max(f64::MIN))),
            );
        }
        all.extend((0..60).map(|n| Number::Int(i128::from(stream(9, n) as i64 >> (n % 60)))));
        all.extend((0..60).map(|n| Number::Float((stream(8, n) as i64 >> (n % 60)) as f64 / 8.0)));
        all
    }

    #[test]
    fn the_order_of_whole_numbers_and_floats_is_exact() {
        let all = numbers();
        for (n, a) in all.iter().enumerate() {
            for b in &all[n..] {
                assert_eq!(a.cmp(b), b.cmp(a).reverse(), "{a:?} {b:?}");
                for c in &all {
                    assert!(!(a <= b && b <= c) || a <= c, "{a:?} {b:?} {c:?}");
                }
            }
        }
        assert!(Number::Int((1 << 53) + 1) > Number::Float(9007199254740992.0));
        assert_eq!(Number::Float(-0.0), Number::Int(0));
    }

    #[test]
    fn keys_of_an_interval_are_those_of_its_numbers() {
        let all = numbers();
        for layout in [Layout::Int, Layout::Float] {
            for &low in &all {
                for &high in all.iter().step_by(3) {
                    let intervals = [
                        (Bound::Included(low), Bound::Excluded(high)),
                        (Bound::Excluded(low), Bound::Included(high)),
                        (Bound::Unbounded, Bound::Included(high)),
                        (Bound::Excluded(low), Bound::Unbounded),
                    ];
                    for interval in &intervals {
                        let keys = layout.keys(interval);
                        for number in all.iter().step_by(5) {
                            let Some(key) = layout.key(*number) else { continue };
                            let is_in = std::ops::RangeBounds::contains(interval, number);
                            let found = keys.as_ref().is_some_and(|keys| keys.contains(&key));
                            assert_eq!(found, is_in, "{layout:?} {interval:?} {number:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_float_comes_back_from_its_key() {
        for float in [0.0, -1.5, 1e-320, f64::MAX, f64::MIN, -1e-320] {
            assert_eq!(float_of(key_of(float)), float);
        }
        assert_eq!(key_of(-0.0), key_of(0.0));
    }
}
