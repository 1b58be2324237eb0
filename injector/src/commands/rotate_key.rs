//! `rotate-key`: next becomes current, and a new next is drawn. Running injectors follow, and sign everything again.

use std::sync::Arc;

use super::{AnyError, Place};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::secrets::{Keeper, SIGNING};

/// Flags of `rotate-key`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
}

/// Rotates, and says which keys hold now.
pub(crate) async fn run(args: Args) -> Result<(), AnyError> {
    let (client, namespace) = args.place.connect().await?;
    let events = Arc::new(Events::new(client.clone(), "rotate-key".into()));
    let keeper = Keeper { client, namespace: namespace.clone(), events, metrics: Arc::new(Metrics::new()) };
    let [current, next] = keeper.rotate().await?.for_guards();
    println!("The Secret {namespace}/{SIGNING} is rotated.");
    println!("current {current}");
    println!("next    {next}");
    println!("Pods know the two keys of the time when they were made. Those older than the rotation before this one don't know the");
    println!(
        "current one, and keep their settings until they are restarted. The metric llm_guard_injector_pods_to_restart counts them, and events on their workloads name them."
    );
    Ok(())
}
