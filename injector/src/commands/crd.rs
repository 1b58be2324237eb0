//! `crd`: prints the definitions of the resources.

use super::AnyError;
use crate::definition::Resource;

/// What is printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this one's
    resource: Option<Resource>,
}

/// Prints them.
pub(crate) fn run(args: Args) -> Result<(), AnyError> {
    let all = args.resource.map_or(Resource::ALL.to_vec(), |resource| vec![resource]);
    let documents = all.into_iter().map(Resource::yaml).collect::<Result<Vec<_>, _>>()?;
    print!("{}", documents.join("---\n"));
    Ok(())
}
