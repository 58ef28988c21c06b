//! `nearkin cache`: what is known of a semantic cache before it serves.

mod calibrate;
mod fragment;
mod labelled;
mod plot;
mod rows;

use crate::error::Result;

#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// Find for each category the threshold whose error is below a target, from labelled pairs or a labelled stream
    Calibrate(calibrate::CalibrateArgs),
}

pub fn run(command: &CacheCommand) -> Result<u8> {
    match command {
        CacheCommand::Calibrate(args) => calibrate::run(args),
    }
}
