//! One file a subcommand.

mod crd;
mod rotate_key;
pub(crate) mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Puts the guard into pods that ask for it.
#[derive(Debug, clap::Parser)]
#[command(name = "llm-guard-injector", version, about)]
pub(crate) enum Command {
    /// Answer the API server's reviews, and keep settings and network policies right
    Serve(Box<serve::Args>),
    /// Make the next signing key the current one, and draw a new next one; running injectors follow
    RotateKey(rotate_key::Args),
    /// Print the definitions of the resources as YAML
    Crd(crd::Args),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> ExitCode {
        // One provider for the webhooks and for the client of the API server. It can only be there already in a test.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ended = match self {
            Self::Serve(args) => runtime().and_then(|runtime| runtime.block_on(serve::run(*args))),
            Self::RotateKey(args) => runtime().and_then(|runtime| runtime.block_on(rotate_key::run(args))),
            Self::Crd(args) => crd::run(args),
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("llm-guard-injector: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn runtime() -> Result<tokio::runtime::Runtime, AnyError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads).max_blocking_threads(4).enable_all().build()?)
}

/// Which cluster, and where in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The injector's own namespace [default: its service account's]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// A kubeconfig, outside of a cluster
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Place {
    /// A client, and the own namespace.
    async fn connect(&self) -> Result<(Client, String), AnyError> {
        let config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            None => Config::incluster().map_err(|error| format!("{error}; outside of a cluster, name a --kubeconfig"))?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok((Client::try_from(config)?, namespace))
    }
}
