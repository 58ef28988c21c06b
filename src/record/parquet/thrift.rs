//! The little of Thrift's compact protocol that is needed to look at sizes before anything is
//! decoded.
//!
//! The decoder reads fields by number and ignores their types on the wire; these walks demand the
//! types, so that both always see the same values.

use super::guard::Fault;

/// Wire types.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I32: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Deepest nesting that is skipped over.
const SKIP_DEPTH: usize = 32;

/// Deepest schema: every level is a call on the decoder's stack.
pub(super) const SCHEMA_DEPTH: usize = 128;

/// Bytes of all column paths together; the decoder stores each path in full.
const PATH_BYTES: usize = 64 << 20;

/// Why a walk ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end inside a value.
    Short,
    /// The bytes cannot be what they are said to be.
    Invalid(&'static str),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Short => Self::corrupt("metadata ends inside a value"),
            Stop::Invalid(what) => Self::corrupt(what),
        }
    }
}

type Walk<T> = Result<T, Stop>;

/// Position in some bytes of compact protocol.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Compact<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> Walk<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Walk<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Stop::Invalid("an integer of the metadata is longer than 64 bits"))
    }

    fn zigzag(&mut self) -> Walk<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Cut to 32 bits as the decoder does.
    fn int32(&mut self) -> Walk<i32> {
        Ok(self.zigzag()? as i32)
    }

    fn take(&mut self, len: u64) -> Walk<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| Stop::Short)?;
        let end = self.at.checked_add(len).ok_or(Stop::Short)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Stop::Short)?;
        self.at = end;
        Ok(bytes)
    }

    fn binary(&mut self) -> Walk<&'a [u8]> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Number and wire type of the next field, or `None` at the end of the struct.
    fn field(&mut self, last: &mut i16) -> Walk<Option<(i16, u8)>> {
        let head = self.byte()?;
        if head & 0x0f == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.zigzag()? as i16,
            delta => {
                last.checked_add(delta.into()).ok_or(Stop::Invalid("field number overflow"))?
            }
        };
        Ok(Some((*last, head & 0x0f)))
    }

    /// Element type and length of a list; every element takes at least one byte.
    fn list(&mut self) -> Walk<(u8, usize)> {
        let head = self.byte()?;
        let n = match head >> 4 {
            15 => self.varint()?,
            n => n.into(),
        };
        if n > (self.bytes.len() - self.at) as u64 {
            return Err(Stop::Invalid("a list of the metadata is longer than the metadata"));
        }
        Ok((head & 0x0f, n as usize))
    }

    fn skip(&mut self, wire: u8, depth: usize) -> Walk<()> {
        if depth == 0 {
            return Err(Stop::Invalid("metadata nested too deep"));
        }
        match wire {
            TRUE | FALSE => {}
            BYTE => _ = self.byte()?,
            4..=6 => _ = self.varint()?,
            7 => _ = self.take(8)?,
            BINARY => _ = self.binary()?,
            LIST | 10 => self.skip_list(depth)?,
            11 => self.skip_map(depth)?,
            STRUCT => self.skip_struct(depth)?,
            13 => _ = self.take(16)?,
            _ => return Err(Stop::Invalid("unknown type in the metadata")),
        }
        Ok(())
    }

    fn skip_struct(&mut self, depth: usize) -> Walk<()> {
        let mut last = 0;
        while let Some((_, wire)) = self.field(&mut last)? {
            self.skip(wire, depth - 1)?;
        }
        Ok(())
    }

    fn skip_list(&mut self, depth: usize) -> Walk<()> {
        let (wire, n) = self.list()?;
        (0..n).try_for_each(|_| self.skip_element(wire, depth))
    }

    fn skip_map(&mut self, depth: usize) -> Walk<()> {
        let n = self.varint()?;
        if n == 0 {
            return Ok(());
        }
        let wires = self.byte()?;
        for _ in 0..n {
            self.skip_element(wires >> 4, depth)?;
            self.skip_element(wires & 0x0f, depth)?;
        }
        Ok(())
    }

    /// Booleans take no byte as fields, but one as elements.
    fn skip_element(&mut self, wire: u8, depth: usize) -> Walk<()> {
        let wire = if matches!(wire, TRUE | FALSE) { BYTE } else { wire };
        self.skip(wire, depth - 1)
    }
}

fn expect(wire: u8, expected: u8) -> Walk<()> {
    let same = wire == expected || (wire == FALSE && expected == TRUE);
    if same { Ok(()) } else { Err(Stop::Invalid("a field of the metadata has the wrong type")) }
}

/// Sizes that a page header declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// 0 data, 1 index, 2 dictionary, 3 data of version 2.
    pub kind: i32,
    pub uncompressed_bytes: i32,
    pub compressed_bytes: i32,
    pub n_values: i32,
    pub encoding: i32,
    /// Bytes of levels in front of a page of version 2, which are never compressed.
    pub level_bytes: [i32; 2],
    /// Whether the rest of a page of version 2 is not compressed either.
    pub is_plain: bool,
}

/// The page header at the start of `bytes`, and its length.
///
/// # Errors
/// [`Stop::Short`] if it is longer than `bytes`.
pub(super) fn page_header(bytes: &[u8]) -> Walk<(PageHeader, usize)> {
    let mut input = Compact::new(bytes);
    let mut header = PageHeader { kind: -1, ..PageHeader::default() };
    let (mut last, mut of_kind) = (0, None);
    while let Some((id, wire)) = input.field(&mut last)? {
        if (1..=8).contains(&id) {
            expect(wire, if id <= 4 { I32 } else { STRUCT })?;
        }
        if (5..=8).contains(&id) && of_kind.replace(id).is_some() {
            return Err(Stop::Invalid("a page header is for two kinds of page"));
        }
        match id {
            1 => header.kind = input.int32()?,
            2 => header.uncompressed_bytes = input.int32()?,
            3 => header.compressed_bytes = input.int32()?,
            5 => counts(&mut input, &[I32, I32, I32, I32, STRUCT], &mut header)?,
            7 => counts(&mut input, &[I32, I32, TRUE], &mut header)?,
            8 => counts(&mut input, &[I32, I32, I32, I32, I32, I32, TRUE, STRUCT], &mut header)?,
            _ => input.skip(wire, SKIP_DEPTH)?,
        }
    }
    match (header.kind, of_kind) {
        (0, Some(5)) | (1, Some(6) | None) | (2, Some(7)) | (3, Some(8)) => Ok((header, input.at)),
        _ => Err(Stop::Invalid("a page header is not for its kind of page")),
    }
}

/// The header of one page kind; its fields have the `wires` in order.
fn counts(input: &mut Compact<'_>, wires: &[u8], header: &mut PageHeader) -> Walk<()> {
    let is_v2 = wires.len() == 8;
    let mut last = 0;
    while let Some((id, wire)) = input.field(&mut last)? {
        if let Some(&expected) = usize::try_from(id - 1).ok().and_then(|at| wires.get(at)) {
            expect(wire, expected)?;
        }
        match id {
            1 => header.n_values = input.int32()?,
            4 if is_v2 => header.encoding = input.int32()?,
            5 | 6 if is_v2 => header.level_bytes[id as usize - 5] = input.int32()?,
            7 if is_v2 => header.is_plain = wire == FALSE,
            2 if !is_v2 => header.encoding = input.int32()?,
            _ => input.skip(wire, SKIP_DEPTH)?,
        }
    }
    Ok(())
}

/// Checks the schema at the start of a file footer: how deep it is, and that its counts add up.
///
/// # Errors
/// Anything that would take the decoder's stack or memory.
pub(super) fn check_footer(bytes: &[u8]) -> Walk<()> {
    let mut input = Compact::new(bytes);
    let mut last = 0;
    for (expected_id, expected) in [(1, I32), (2, LIST)] {
        match input.field(&mut last)? {
            Some((id, wire)) if id == expected_id => expect(wire, expected)?,
            _ => return Err(Stop::Invalid("the footer does not start with version and schema")),
        }
        if expected_id == 1 {
            input.int32()?;
        }
    }
    check_schema(&mut input)
}

/// The elements are a tree in depth-first order.
fn check_schema(input: &mut Compact<'_>) -> Walk<()> {
    let (wire, n) = input.list()?;
    expect(wire, STRUCT)?;
    // Per open group: children still to come, and bytes of its path.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut path_bytes = 0;
    for at in 0..n {
        let (name_bytes, n_children) = schema_element(input)?;
        let above = open.last().map_or(0, |&(_, bytes)| bytes);
        if let Some((left, _)) = open.last_mut() {
            *left -= 1;
        }
        if n_children == 0 {
            path_bytes += above + name_bytes + open.len() * size_of::<String>();
        } else if n_children >= n - at {
            return Err(Stop::Invalid("the schema counts more columns than it has"));
        } else {
            open.push((n_children, above + name_bytes));
        }
        if open.len() > SCHEMA_DEPTH || path_bytes > PATH_BYTES {
            return Err(Stop::Invalid("the schema is too deep or too large"));
        }
        while open.last().is_some_and(|&(left, _)| left == 0) {
            open.pop();
        }
    }
    Ok(())
}

/// Bytes of the name, and number of children.
fn schema_element(input: &mut Compact<'_>) -> Walk<(usize, usize)> {
    let (mut name_bytes, mut n_children, mut last) = (0, 0, 0);
    while let Some((id, wire)) = input.field(&mut last)? {
        match id {
            1..=3 | 6..=9 => {
                expect(wire, I32)?;
                input.int32()?;
            }
            4 => {
                expect(wire, BINARY)?;
                name_bytes = input.binary()?.len();
            }
            5 => {
                expect(wire, I32)?;
                n_children = usize::try_from(input.int32()?)
                    .map_err(|_| Stop::Invalid("the schema counts fewer than no columns"))?;
            }
            10 => {
                expect(wire, STRUCT)?;
                logical_type(input)?;
            }
            _ => input.skip(wire, SKIP_DEPTH)?,
        }
    }
    Ok((name_bytes, n_children))
}

/// A union whose members have the fields that the format gives them.
fn logical_type(input: &mut Compact<'_>) -> Walk<()> {
    let mut last = 0;
    while let Some((member, wire)) = input.field(&mut last)? {
        let wires: &[u8] = match member {
            5 => &[I32, I32],
            7 | 8 => &[TRUE, STRUCT],
            10 => &[BYTE, TRUE],
            16 => &[BYTE],
            17 => &[BINARY],
            18 => &[BINARY, I32],
            1..=19 => &[],
            _ => {
                input.skip(wire, SKIP_DEPTH)?;
                continue;
            }
        };
        expect(wire, STRUCT)?;
        let mut last = 0;
        while let Some((id, wire)) = input.field(&mut last)? {
            if let Some(&expected) = usize::try_from(id - 1).ok().and_then(|at| wires.get(at)) {
                expect(wire, expected)?;
            }
            input.skip(wire, SKIP_DEPTH)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of wire types, as (head byte, value bytes).
    fn bytes(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (head, value) in fields {
            bytes.push(*head);
            bytes.extend_from_slice(value);
        }
        bytes.push(0);
        bytes
    }

    /// A schema element named `x` with `n_children`.
    fn element(n_children: &[u8]) -> Vec<u8> {
        bytes(&[(0x48, &[1, b'x']), (0x15, n_children)])
    }

    fn footer(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut list = vec![0xfc, elements.len() as u8 | 0x80, (elements.len() >> 7) as u8];
        list.extend(elements.concat());
        bytes(&[(0x15, &[2]), (0x19, &list)])
    }

    #[test]
    fn a_page_header_is_read_with_the_types_it_must_have() {
        let data = bytes(&[(0x15, &[14]), (0x15, &[0]), (0x15, &[6]), (0x15, &[6])]);
        let header = [(0x15, &[0][..]), (0x15, &[200, 1]), (0x15, &[20]), (0x2c, &data)];
        let (read, len) = page_header(&bytes(&header)).unwrap();
        assert_eq!(len, bytes(&header).len());
        let sizes = (read.kind, read.uncompressed_bytes, read.compressed_bytes, read.n_values);
        assert_eq!(sizes, (0, 100, 10, 7));
        let mut other = header;
        other[1] = (0x18, &[1, 1]);
        assert!(matches!(page_header(&bytes(&other)), Err(Stop::Invalid(_))));
        other[1] = header[1];
        other[0] = (0x15, &[4]);
        assert!(matches!(page_header(&bytes(&other)), Err(Stop::Invalid(_))), "not a dictionary");
        let cut = &bytes(&header)[..12];
        assert_eq!(page_header(cut), Err(Stop::Short));
    }

    #[test]
    fn schemas_are_measured_before_they_are_built() {
        let leaf = element(&[0]);
        assert_eq!(check_footer(&footer(&[element(&[4]), leaf.clone(), leaf.clone()])), Ok(()));
        let deep: Vec<_> = (0..200).map(|_| element(&[2])).chain([leaf.clone()]).collect();
        assert!(matches!(check_footer(&footer(&deep)), Err(Stop::Invalid(_))));
        let many = element(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert!(matches!(check_footer(&footer(&[many, leaf.clone()])), Err(Stop::Invalid(_))));
        let long_list = bytes(&[(0x15, &[2]), (0x19, &[0xfc, 0xff, 0xff, 0xff, 0xff, 0x07])]);
        assert!(matches!(check_footer(&long_list), Err(Stop::Invalid(_))));
        let name_as_number = bytes(&[(0x45, &[1])]);
        assert!(matches!(check_footer(&footer(&[name_as_number])), Err(Stop::Invalid(_))));
    }

    #[test]
    fn random_bytes_end_the_walk() {
        let mut random = 88_172_645_463_325_252_u64;
        for len in 0..4000 {
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            };
            let bytes: Vec<u8> = (0..len % 200).map(|_| next() & 0x7f).collect();
            let _ = page_header(&bytes);
            let _ = check_footer(&bytes);
        }
    }
}
