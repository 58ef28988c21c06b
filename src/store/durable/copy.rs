//! A copy of one version of the record, in a file of its own, made while others write.

use std::path::Path;
use std::sync::Arc;

use redb::{Key, ReadTransaction, ReadableTable, TableDefinition, Value, WriteTransaction};

use crate::error::Result;
use crate::store::disk::{At, Disk, Mode};
use crate::store::durable::failure::{Stored, guarded};
use crate::store::durable::open::builder;
use crate::store::durable::pages::Pages;
use crate::store::durable::{View, tables};

impl View {
    /// Writes this version to a new file, which is on disk when this returns.
    ///
    /// # Errors
    /// Those of reading; those of the disk to which it goes.
    pub(in crate::store) fn copy_to(&self, disk: &dyn Disk, path: &Path) -> Result<()> {
        let file = disk.open(path, Mode::New).at("create", path)?;
        let health = Arc::default();
        let pages = Pages { file, health: Arc::clone(&health) };
        let copied = guarded(|| {
            let database = builder().create_with_backend(pages)?;
            let to = database.begin_write()?;
            self.copy_tables(&to)?;
            Ok(to.commit()?)
        });
        copied.map_err(|fault| match health.failure() {
            Some(failure) => failure.named(path),
            None => fault.named(&self.path),
        })
    }

    fn copy_tables(&self, to: &WriteTransaction) -> Stored<()> {
        let from = &self.transaction;
        copy(from, to, tables::IDS)?;
        copy(from, to, tables::SLOTS)?;
        copy(from, to, tables::PARTS)?;
        copy(from, to, tables::GRANTS)?;
        copy(from, to, tables::FREE)?;
        copy(from, to, tables::TENANTS)?;
        copy(from, to, tables::TENANT_NAMES)?;
        copy(from, to, tables::FIELDS)?;
        copy(from, to, tables::CHANGES)?;
        copy(from, to, tables::META)
    }
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'static, K, V>,
) -> Stored<()> {
    let mut copy = to.open_table(table)?;
    for entry in tables::read(from, table)?.iter()? {
        let (key, value) = entry?;
        copy.insert(key.value(), value.value())?;
    }
    Ok(())
}
