//! Which payload fields are indexed, while the collection is open.

use crate::engine::collection::Collection;
use crate::engine::points::payloads;
use crate::engine::settings::Settings;
use crate::engine::state::fields;
use crate::error::Result;
use crate::store::columns::Kind;
use crate::store::columns::path::Path;

impl Collection {
    /// Indexes a field as a kind, from now on and whenever the collection is opened; says whether it was not yet. No answer
    /// changes by it, but how long it takes. Cost: every payload is read once; searches go on meanwhile, writes wait.
    ///
    /// # Errors
    /// `fields` past the limit; those of reading and of the record. Then nothing has changed.
    pub fn index_field(&self, path: &Path, kind: Kind) -> Result<bool> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let mut settings = Settings::clone(&self.settings());
        let field = (path.clone(), kind);
        if settings.indexed.contains(&field) {
            return Ok(false);
        }
        settings.indexed.push(field.clone());
        settings.check()?;
        let columns = self.read_columns(|state| {
            let mut columns = state.columns.clone();
            columns.index(
                std::slice::from_ref(&field),
                payloads(&state.view, |slot| state.places.place(slot))?,
            )?;
            Ok(columns)
        })?;
        self.record.set_config(&settings.to_json())?;
        self.set_columns(settings, columns);
        Ok(true)
    }

    /// Ends that a field is indexed as a kind; says whether it was. The tenant field stays indexed for the engine's own use.
    ///
    /// # Errors
    /// Those of the record, after which nothing has changed.
    pub fn drop_index(&self, path: &Path, kind: Kind) -> Result<bool> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let mut settings = Settings::clone(&self.settings());
        let field = (path.clone(), kind);
        let n_before = settings.indexed.len();
        settings.indexed.retain(|own| *own != field);
        if settings.indexed.len() == n_before {
            return Ok(false);
        }
        let columns = self.read(|state| {
            let mut columns = state.columns.clone();
            if !fields(&settings).contains(&field) {
                columns.forget(path, kind);
            }
            Ok(columns)
        })?;
        self.record.set_config(&settings.to_json())?;
        self.set_columns(settings, columns);
        Ok(true)
    }
}
