//! Cells in a file: codes, keys and the slots by key lie as they are used, and are lent.
//!
//! The bytes were compared with their checksum. Beside that is checked what would end the process if it were otherwise:
//! counts, codes, slots. That slots are in the order of their keys is not.

use std::iter;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_count, put_slab, set_of, set_of_bytes};
use crate::store::columns::cells::{Cell, Cells, Lists};
use crate::store::columns::group::{ByCode, Group, Order};

/// Codes of cells, and 0.
const N_CODES: usize = 256;

impl Cells {
    /// Adds what [`Cells::decode`] reads: where cells begin, codes, keys, and the slots by key.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.cells.len()).expect("a cut makes at most 255 cells"));
        out.extend(self.n_at_cut.to_le_bytes());
        self.cells.iter().for_each(|cell| out.extend(cell.from.to_le_bytes()));
        put_count(out, self.codes.len());
        put_count(out, self.n_keys as usize);
        put_slab(out, &self.codes);
        let key = |(code, key): (&u8, &i64)| if *code > 0 { *key } else { 0 };
        put_slab(out, &self.codes.iter().zip(&self.keys[..]).map(key).collect::<Vec<i64>>());
        match &self.lists.in_file {
            Some(order) if !self.lists.is_changed => put_slab(out, order.all()),
            _ => put_slab(out, &self.by_key()),
        }
    }

    /// The slots of every cell by key, cell after cell.
    fn by_key(&self) -> Vec<u32> {
        let by_code = ByCode::of(&self.codes);
        let codes = 1..=self.cells.len() as u8;
        let cells = codes.map(|code| Group::of(by_code.slots(code), &self.keys));
        cells.flat_map(|group| group.slots().to_vec()).collect()
    }

    /// Reads what was encoded; most of it is lent. Cost: a look at every code and at every slot.
    ///
    /// # Errors
    /// `corrupt_file`, among others for a key outside of its cell.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (n_cells, n_at_cut, mut cells) = head(reader)?;
        let (n_codes, n_keys) = (reader.count(1)?, reader.u32()?);
        let codes = reader.slab::<u8>(n_codes)?;
        let keys = reader.slab::<i64>(n_codes)?;
        let slots = reader.slab::<u32>(n_keys as usize)?;
        let mut counts = counts(&codes);
        counts[0] = 0;
        let n_counted: u32 = counts[..=usize::from(n_cells)].iter().sum();
        let n_others: u32 = counts[usize::from(n_cells) + 1..].iter().sum();
        let greatest = slots.iter().fold(0, |greatest, &slot| slot.max(greatest));
        let is_past = n_keys > 0 && greatest as usize >= n_codes;
        if n_counted != n_keys || n_others > 0 || is_past || n_at_cut as usize > n_codes {
            let what = format!("codes, slots or a cut of {n_at_cut} that {n_keys} keys have not");
            return Err(reader.corrupt(what));
        }
        reader.check(&set_of_bytes(&codes))?;
        let order = Order::new(&counts, slots, keys.clone());
        for (cell, code) in cells.iter_mut().zip(1..=u8::MAX) {
            if let Some((least, greatest)) = order.ends(code) {
                let n = counts[usize::from(code)];
                *cell = Cell { least, greatest, n, ..*cell };
            }
        }
        check_keys(&cells, reader)?;
        let mut read = Self { codes, keys, cells, n_keys, n_at_cut, ..Self::default() };
        read.forget_lists();
        read.lists = Lists { in_file: Some(order), ..read.lists };
        Ok(read)
    }

    /// Reads cells as builds before 2026-11-30 wrote them, with the keys of only those slots that have one. Cost: a copy of all
    /// of them; slots are listed when they are first asked for.
    ///
    /// # Errors
    /// As for [`Cells::decode`].
    pub fn decode_packed(reader: &mut Reader<'_>) -> Result<Self> {
        let (n_cells, n_at_cut, mut cells) = head(reader)?;
        let n_codes = reader.count(1)?;
        let codes = reader.take(n_codes)?.to_vec();
        if codes.iter().any(|&code| code > n_cells) || n_at_cut as usize > n_codes {
            let what =
                format!("codes or a cut of {n_at_cut} keys that {n_cells} cells do not have");
            return Err(reader.corrupt(what));
        }
        reader.check(&set_of(&codes, |&code| code > 0))?;
        let n_keys = codes.iter().filter(|&&code| code > 0).count();
        let packed = reader.i64s(n_keys)?;
        let mut keys = vec![0; n_codes];
        let with_key = codes.iter().zip(&mut keys).filter(|(code, _)| **code > 0);
        for ((&code, own), key) in with_key.zip(packed) {
            *own = key;
            cells[usize::from(code) - 1].take_in(key);
        }
        check_keys(&cells, reader)?;
        let (codes, keys, n_keys) = (codes.into(), keys.into(), n_keys as u32);
        let mut read = Self { codes, keys, cells, n_keys, n_at_cut, ..Self::default() };
        read.forget_lists();
        Ok(read)
    }

    /// Adds what [`Cells::decode_packed`] reads.
    #[cfg(test)]
    pub fn encode_packed(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.cells.len()).unwrap());
        out.extend(self.n_at_cut.to_le_bytes());
        self.cells.iter().for_each(|cell| out.extend(cell.from.to_le_bytes()));
        put_count(out, self.codes.len());
        out.extend_from_slice(&self.codes);
        let with_key = self.codes.iter().zip(&self.keys[..]).filter(|(code, _)| **code > 0);
        with_key.for_each(|(_, key)| out.extend(key.to_le_bytes()));
    }
}

/// How many cells there are, the keys at the last cut, and the cells without keys.
fn head(reader: &mut Reader<'_>) -> Result<(u8, u32, Vec<Cell>)> {
    let (n_cells, n_at_cut) = (reader.u8()?, reader.u32()?);
    let cells: Vec<Cell> = reader.i64s(n_cells.into())?.map(Cell::new).collect();
    let begins_least = cells.first().is_none_or(|cell| cell.from == i64::MIN);
    if !begins_least || !cells.is_sorted_by(|a, b| a.from < b.from) {
        return Err(reader.corrupt("cells that are not in order"));
    }
    Ok((n_cells, n_at_cut, cells))
}

/// Fails if a cell has a key that belongs to another.
fn check_keys(cells: &[Cell], reader: &Reader<'_>) -> Result<()> {
    let ends = cells.iter().skip(1).map(|cell| cell.from - 1).chain(iter::once(i64::MAX));
    let has_others =
        |(cell, end): (&Cell, i64)| cell.n > 0 && (cell.least < cell.from || cell.greatest > end);
    match cells.iter().zip(ends).any(has_others) {
        true => Err(reader.corrupt("a key outside of its cell")),
        false => Ok(()),
    }
}

/// How many slots have each code. Equal codes follow one another often: four counts of each do not wait for one another.
fn counts(codes: &[u8]) -> [u32; N_CODES] {
    let mut counts = [[0u32; N_CODES]; 4];
    let (four, rest) = codes.as_chunks::<4>();
    for four in four {
        counts.iter_mut().zip(four).for_each(|(counts, &code)| counts[usize::from(code)] += 1);
    }
    rest.iter().for_each(|&code| counts[0][usize::from(code)] += 1);
    let [mut all, others @ ..] = counts;
    others.iter().flatten().zip((0..N_CODES).cycle()).for_each(|(n, code)| all[code] += n);
    all
}
