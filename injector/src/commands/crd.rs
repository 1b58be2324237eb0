//! `crd`: prints the definition of the resource.

use super::AnyError;

/// Prints it.
pub(crate) fn run() -> Result<(), AnyError> {
    print!("{}", crate::definition::yaml()?);
    Ok(())
}
