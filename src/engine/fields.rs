//! Which payload fields are indexed, while the collection is open.

use serde_json::Value;

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
        let columns = self.read_whole(|state| {
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

    /// Makes the strings and whole numbers of a field the names of the tenants that may read points, and lets those that are
    /// named already. Grants that an earlier field gave stay. Says whether it was another field before. Cost: every payload is
    /// read once, and indexed; writes wait.
    ///
    /// # Errors
    /// `tenant_value`, `tenants_limit`, which name the point; those of [`Self::index_field`] and [`Self::grant`]. The field is
    /// then the one before; some points may have been granted.
    pub fn set_tenant_field(&self, path: &Path) -> Result<bool> {
        if self.settings().tenant_field.as_ref() == Some(path) {
            return Ok(false);
        }
        self.index_field(path, Kind::Keyword)?;
        let settings = Settings { tenant_field: Some(path.clone()), ..(*self.settings()).clone() };
        self.grant_named(&settings)?;
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let columns = self.read(|state| Ok(state.columns.clone()))?;
        self.record.set_config(&settings.to_json())?;
        self.set_columns(settings, columns);
        Ok(true)
    }

    /// Keeps something with the collection for whoever serves it, in place of what was kept before.
    ///
    /// # Errors
    /// Those of the record, after which nothing has changed.
    pub fn set_note(&self, note: Value) -> Result<()> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let settings = Settings { note, ..(*self.settings()).clone() };
        self.record.set_config(&settings.to_json())?;
        self.set_settings(settings);
        Ok(())
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
