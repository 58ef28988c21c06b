//! `nearkin cache`: what is known of a semantic cache before it serves.

mod calibrate;
mod fragment;
mod labelled;
mod plot;
mod replay;
mod rows;

use crate::error::Result;

#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// Find for each category the threshold whose error is below a target, from labelled pairs or a labelled stream
    Calibrate(calibrate::CalibrateArgs),
    /// Send a trace of arrivals with labelled prompts through a cache, and show hits, errors, and what they save
    Replay(replay::ReplayArgs),
}

pub fn run(command: &CacheCommand) -> Result<u8> {
    match command {
        CacheCommand::Calibrate(args) => calibrate::run(args),
        CacheCommand::Replay(args) => replay::run(args),
    }
}
