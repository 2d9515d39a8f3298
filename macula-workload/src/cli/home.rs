//! The node that runs where no configuration is named: its folder is made when it is first run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::realm::CONFIGURATION;
use super::{Failure, init};

/// The variable that says where the folder is.
const HOME: &str = "MACULA_HOME";

/// The folder: `MACULA_HOME`, or else `macula` among the user's state; none where there is no such place.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let at = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = || {
        // As the XDG Base Directory Specification has it: a relative path is passed over.
        let said = at("XDG_STATE_HOME").filter(|path| path.is_absolute());
        said.or_else(|| at("HOME").map(|home| home.join(".local/state")))
    };
    at(HOME).or_else(|| state().map(|state| state.join("macula")))
}

/// The configuration that is there.
///
/// # Errors
///
/// If none is: no node was run without a configuration.
pub(super) fn configuration() -> Result<PathBuf, Failure> {
    let none = "say which node with --config: no node was run without a configuration here";
    let path = folder(|name| std::env::var_os(name)).map(|folder| folder.join(CONFIGURATION));
    path.filter(|path| path.exists()).context(none).map_err(Failure::Usage)
}

/// The configuration for a node that is run, and whether it was made now. None where there is no place
/// for it.
///
/// # Errors
///
/// If the folder cannot be made. What was there is as it was.
pub(super) fn made() -> Result<Option<(PathBuf, bool)>, Failure> {
    let Some(folder) = folder(|name| std::env::var_os(name)) else { return Ok(None) };
    let configuration = folder.join(CONFIGURATION);
    let is_new = !configuration.exists();
    if is_new {
        found(&folder)?;
    }
    Ok(Some((configuration, is_new)))
}

fn found(folder: &Path) -> Result<(), Failure> {
    let made = init::found(folder);
    let place = || format!("there is no configuration, and no folder was made ({HOME} says where)");
    made.with_context(place).map_err(Failure::Ran)
}

#[cfg(test)]
mod tests {
    use super::folder;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    #[test]
    fn the_folder_is_where_the_environment_says() {
        let at = |said: &[(&str, &str)]| {
            let said: BTreeMap<&str, &str> = said.iter().copied().collect();
            folder(|name| said.get(name).map(Into::into))
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[("HOME", "/h")]), path("/h/.local/state/macula"));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), path("/s/macula"));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_STATE_HOME", "s")]), path("/h/.local/state/macula"));
        assert_eq!(at(&[("HOME", "/h"), ("MACULA_HOME", "here")]), path("here"));
        assert_eq!(at(&[("HOME", ""), ("MACULA_HOME", "")]), None);
    }
}
