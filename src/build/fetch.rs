//! The checkpoint of a recipe onto this machine.

use graph::Progress;
use hub::{HubId, Settings};

use crate::build::card;
use crate::build::error::PipelineError;
use crate::recipe::load::{Loaded, is_on_hub};
use crate::show::progress::Display;

/// Brings what a recipe calls `hub:org/name` into the hub's cache, and puts its folder there into the recipe.
pub fn fetch(loaded: &mut Loaded, is_offline: bool, display: &Display) -> Result<(), PipelineError> {
    let model = &loaded.recipe.model;
    let text = model.to_string_lossy();
    // One from the command line was not looked at with the recipe.
    match HubId::parse(&text).filter(|_| is_on_hub(model)) {
        Some(id) => loaded.recipe.model = fetched(&id, is_offline, display)?,
        None if is_on_hub(model) => return Err(PipelineError::NotAnId(text.into_owned())),
        None => {}
    }
    Ok(())
}

/// The folder of a checkpoint of the hub: with `is_offline` out of the cache, else what is missing there is downloaded first.
pub fn fetched(id: &HubId, is_offline: bool, display: &Display) -> Result<std::path::PathBuf, PipelineError> {
    let found = hub::snapshot(id, &Settings::from_env(is_offline)?, &card::READ, display)?;
    display.say(&format!("{id} is commit {}", found.commit));
    Ok(found.dir)
}
