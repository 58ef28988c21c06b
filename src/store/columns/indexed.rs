//! A field in memory, or in a sealed file until somebody asks for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;

use crate::core::slab::Memory;
use crate::error::{ErrorKind, Result};
use crate::store::columns::bytes::Reader;
use crate::store::columns::field::{Column, Field};
use crate::store::columns::kind::Kind;
use crate::store::columns::presence::Presence;
use crate::store::columns::seal::Format;
use crate::store::sealed::Sealed;

/// Slots whose values wait for their field to be decoded: taking so many in takes about as long as decoding, and values
/// of 100 bytes fill a few megabytes.
const WAITING: usize = 1 << 15;

/// One indexed field.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// Set once, by the first who asks.
    field: OnceLock<Field>,
    in_file: Option<InFile>,
}

/// Where a field lies, and what has changed since.
#[derive(Clone, Debug)]
struct InFile {
    file: Arc<Sealed>,
    format: Format,
    parts: Parts,
    /// By slot, the values that it has now.
    changed: BTreeMap<u32, Vec<Value>>,
    attempt: Arc<Attempt>,
}

#[derive(Debug, Default)]
struct Attempt {
    /// Held by the one who decodes: others wait for what comes of it.
    under_way: Mutex<()>,
    found_damage: AtomicBool,
}

/// The parts of a section that holds a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Name of the section.
    pub section: String,
    /// Its bytes in which presence lies.
    pub presence: Range<usize>,
    /// Those of each column.
    pub columns: BTreeMap<Kind, Range<usize>>,
}

impl Indexed {
    /// A field in memory.
    pub fn in_memory(field: Field) -> Self {
        Self { field: field.into(), in_file: None }
    }

    /// A field in a file, which is not read yet. The parts lie within their section.
    pub fn in_file(file: Arc<Sealed>, format: Format, parts: Parts) -> Self {
        let (changed, attempt) = (BTreeMap::new(), Arc::default());
        let in_file = InFile { file, format, parts, changed, attempt };
        Self { field: OnceLock::new(), in_file: Some(in_file) }
    }

    /// Where the field lies, if nobody has asked for it.
    fn waiting(&self) -> Option<&InFile> {
        self.in_file.as_ref().filter(|_| self.field.get().is_none())
    }

    fn waiting_mut(&mut self) -> Option<&mut InFile> {
        self.in_file.as_mut().filter(|_| self.field.get().is_none())
    }

    /// The field, decoded if it was not before.
    ///
    /// # Errors
    /// `corrupt_file`, which [`Indexed::is_damaged`] remembers; those of the disk.
    pub fn get(&self) -> Result<&Field> {
        if let Some(in_file) = self.waiting() {
            let _one_at_a_time = in_file.attempt.under_way.lock().expect("no holder panics");
            if self.waiting().is_some() {
                let field = in_file.decode().inspect_err(|error| {
                    let is_damage = error.kind() == ErrorKind::Corrupt;
                    in_file.attempt.found_damage.fetch_or(is_damage, Ordering::Relaxed);
                })?;
                return Ok(self.field.get_or_init(|| field));
            }
        }
        Ok(self.field.get().expect("a field is in memory or in a file"))
    }

    /// The field, to be changed.
    ///
    /// # Errors
    /// As for [`Indexed::get`].
    pub fn get_mut(&mut self) -> Result<&mut Field> {
        self.get()?;
        self.in_file = None;
        Ok(self.field.get_mut().expect("it is in memory now"))
    }

    /// Whether somebody asked for the field in vain.
    pub fn is_damaged(&self) -> bool {
        self.waiting().is_some_and(|in_file| in_file.attempt.found_damage.load(Ordering::Relaxed))
    }

    /// Gives a slot its values, in the place of any other; they wait while nobody has asked for the field.
    pub fn set(&mut self, slot: u32, values: &[&Value]) {
        if let Some(in_file) = self.waiting_mut() {
            in_file.changed.insert(slot, values.iter().copied().cloned().collect());
            if in_file.changed.len() < WAITING || self.is_damaged() {
                return;
            }
        }
        // What cannot be decoded keeps its changes waiting, and says so to whoever asks for it.
        if let Ok(field) = self.get_mut() {
            field.remove(slot);
            field.insert(slot, values);
        }
    }

    /// The kinds, and the bytes that each takes: in memory, or in the file while nobody has asked for the field.
    pub fn kinds(&self) -> Vec<(Kind, usize)> {
        if let Some(in_file) = self.waiting() {
            let parts = in_file.parts.columns.iter();
            return parts.map(|(kind, part)| (*kind, part.len())).collect();
        }
        let columns = self.field.get().into_iter().flat_map(|field| &field.columns);
        columns.map(|(kind, column)| (*kind, column.n_bytes())).collect()
    }

    /// The bytes that presence takes, as for [`Indexed::kinds`].
    pub fn presence_bytes(&self) -> usize {
        match self.waiting() {
            Some(in_file) => in_file.parts.presence.len(),
            None => self.field.get().map_or(0, |field| field.presence.n_bytes()),
        }
    }

    /// Forgets one kind; says whether it was there.
    pub fn forget(&mut self, kind: Kind) -> bool {
        if let Some(in_file) = self.waiting_mut() {
            return in_file.parts.columns.remove(&kind).is_some();
        }
        self.field.get_mut().is_some_and(|field| field.columns.remove(&kind).is_some())
    }

    /// The bytes of a section of this name. Those of a field that nobody has asked for are copied as they are.
    ///
    /// # Errors
    /// As for [`Indexed::get`].
    pub fn encode(&self, section: String) -> Result<(Cow<'_, [u8]>, Parts)> {
        let is_as_written =
            |in_file: &&InFile| in_file.changed.is_empty() && in_file.format == Format::WRITTEN;
        if let Some(in_file) = self.waiting().filter(is_as_written) {
            in_file.verify()?;
            let parts = &in_file.parts;
            let (bytes, _) = in_file.file.values::<u8>(&parts.section)?;
            let n_used =
                parts.columns.values().map(Range::len).sum::<usize>() + parts.presence.len();
            if n_used == bytes.len() {
                return Ok((Cow::Borrowed(bytes), Parts { section, ..parts.clone() }));
            }
        }
        let field = self.get()?;
        let mut bytes = Vec::new();
        field.presence.encode(&mut bytes);
        let presence = 0..bytes.len();
        let mut columns = BTreeMap::new();
        for (kind, column) in &field.columns {
            let start = bytes.len();
            column.encode(&mut bytes);
            columns.insert(*kind, start..bytes.len());
        }
        Ok((Cow::Owned(bytes), Parts { section, presence, columns }))
    }
}

impl InFile {
    /// Compares the section with its checksum where it lies, since it is used there.
    fn verify(&self) -> Result<()> {
        self.file.verify_memory(&self.parts.section)
    }

    fn decode(&self) -> Result<Field> {
        self.verify()?;
        let (memory, section) = self.file.share(&self.parts.section)?;
        let mut field = self.parts.decode(self.format, &memory, section)?;
        for (&slot, values) in &self.changed {
            field.remove(slot);
            field.insert(slot, &values.iter().collect::<Vec<_>>());
        }
        Ok(field)
    }
}

impl Parts {
    /// Reads a field from its section of `memory`, which lends what is not worth copying.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn decode(&self, format: Format, memory: &Memory, section: Range<usize>) -> Result<Field> {
        let bytes = &memory[section.clone()];
        let mut reader = Reader::new(&bytes[self.presence.clone()]);
        let presence = Presence::decode(&mut reader).and_then(|presence| {
            reader.end()?;
            Ok(presence)
        });
        let presence = presence.map_err(|error| error.within("presence"))?;
        let column = |(&kind, part): (&Kind, &Range<usize>)| {
            let reader = Reader::within(&bytes[part.clone()], presence.present());
            let mut reader = reader.lending(memory, section.start + part.start);
            let column = Column::decode(kind, format, &mut reader).and_then(|column| {
                reader.end()?;
                Ok((kind, column))
            });
            column.map_err(|error| error.within(format_args!("{kind} column")))
        };
        let columns = self.columns.iter().map(column).collect::<Result<_>>()?;
        Ok(Field { presence, columns })
    }
}
