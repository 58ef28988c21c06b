//! What is damaged in a folder, where, and what that loses.

use std::path::Path;

use crate::error::{ErrorKind, Result};
use crate::store::disk::{At, Disk, Entry, check_folder};
use crate::store::durable::{LOCK, RECORD, check_record, lock_folder};
use crate::store::sealed::Sealed;
use crate::store::snapshot::{MANIFEST, Manifest};

/// What the names of sealed files end with.
pub const SEALED: &str = ".sealed";

/// One thing that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, by its name in the folder.
    pub file: String,
    /// Where in the file: the page, section or field that it was seen in.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// What can no longer be had from this file.
    pub lost: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files that were read whole, by their names.
    pub files: Vec<String>,
    /// Files that belong to no collection, and the remains of attempts; they were not looked at.
    pub others: Vec<String>,
    /// What is damaged.
    pub damages: Vec<Damage>,
}

/// Reads every byte of a collection or a snapshot, and changes none. A collection is locked meanwhile.
///
/// # Errors
/// `not_found` if there is no such folder, `locked` if the collection is open; those of the disk.
pub fn verify(disk: &dyn Disk, folder: &Path) -> Result<Verified> {
    check_folder(disk, folder)?;
    let names = disk.list(folder).at("list", folder)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    let mut verified = Verified::default();
    let is_snapshot = has(MANIFEST);
    let _lock = (!is_snapshot && has(RECORD)).then(|| lock_folder(disk, folder)).transpose()?;
    let mut expected = vec![RECORD.to_owned()];
    let mut owner = None;
    if is_snapshot {
        verified.files.push(MANIFEST.to_owned());
        match Manifest::read(disk, folder) {
            Ok(manifest) => {
                owner = Some(manifest.owner);
                expected = manifest.files.iter().map(|file| file.name.clone()).collect();
                for file in &manifest.files {
                    if has(&file.name) && !file.is_intact(disk, folder)? {
                        verified.damages.push(Damage {
                            file: file.name.clone(),
                            offset: 0,
                            what: "it does not match the checksum in the manifest".to_owned(),
                            lost: "see what follows for this file".to_owned(),
                        });
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => verified.damages.push(Damage {
                file: MANIFEST.to_owned(),
                offset: 0,
                what: error.to_string(),
                lost: "the checksums of the files".to_owned(),
            }),
            Err(error) => return Err(error),
        }
    }
    for name in expected.iter().filter(|name| !has(name)) {
        verified.damages.push(Damage {
            file: name.clone(),
            offset: 0,
            what: "it is missing".to_owned(),
            lost: if name == RECORD { "everything" } else { "nothing: it is built again" }
                .to_owned(),
        });
    }
    for name in names {
        let path = folder.join(&name);
        match disk.entry(&path).at("look at", &path)? {
            Some(Entry::File) if name == RECORD => {
                verified.damages.extend(check_record(disk, &path)?);
                verified.files.push(name);
            }
            Some(Entry::File) if name.ends_with(SEALED) => {
                verified.damages.extend(sealed(disk, &path, &name, owner)?);
                verified.files.push(name);
            }
            _ if name == LOCK || name == MANIFEST => {}
            _ => verified.others.push(name),
        }
    }
    Ok(verified)
}

fn sealed(disk: &dyn Disk, path: &Path, name: &str, owner: Option<u64>) -> Result<Vec<Damage>> {
    let damage = |offset, what: String| Damage {
        file: name.to_owned(),
        offset,
        what,
        lost: "nothing: it is built again from the record".to_owned(),
    };
    let file = match Sealed::open_any(disk, path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            return Ok(vec![damage(0, error.to_string())]);
        }
        Err(error) => return Err(error),
    };
    let mut damages: Vec<Damage> = file
        .verify()?
        .into_iter()
        .map(|section| {
            let what = format!("section {:?} does not match its checksum", section.name);
            damage(section.bytes.start, what)
        })
        .collect();
    if owner.is_some_and(|owner| owner != file.owner()) {
        damages.push(damage(32, format!("it belongs to {:#018x}", file.owner())));
    }
    Ok(damages)
}
