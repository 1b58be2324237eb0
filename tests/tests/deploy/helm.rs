//! The chart, rendered by the real Helm, and files of `deploy`, read.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Output};

use llm_guard_tests::cache;
use serde_json::Value;

/// A file or folder of `deploy`.
pub(crate) fn deploy(path: &str) -> PathBuf {
    cache::tests().with_file_name("deploy").join(path)
}

/// The program that tests/setup made.
pub(crate) fn program() -> io::Result<PathBuf> {
    cache::part("helm/helm")
}

/// Renders the chart for an API server of a version, with values as `--set` takes them.
pub(crate) fn render_for(version: &str, set: &[&str]) -> io::Result<Output> {
    let mut command = Command::new(program()?);
    command.args(["template", "llm-guard"]).arg(deploy("chart")).args(["--namespace", "llm-guard-system", "--kube-version", version]);
    for value in set {
        command.args(["--set-json", value]);
    }
    command.output()
}

/// Renders the chart with values, each `path=JSON`.
pub(crate) fn render(set: &[&str]) -> io::Result<Objects> {
    let output = render_for("1.29.0", set)?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{set:?}: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Objects::read(&String::from_utf8_lossy(&output.stdout))
}

/// What Helm says where it refuses values.
pub(crate) fn refusal(version: &str, set: &[&str]) -> io::Result<String> {
    let output = render_for(version, set)?;
    if output.status.success() {
        Err(io::Error::other(format!("{set:?} renders")))
    } else {
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Objects of Kubernetes.
#[derive(Clone, Debug)]
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    /// Reads the documents of a YAML text.
    pub(crate) fn read(yaml: &str) -> io::Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(io::Error::other)?;
        Ok(Self(documents.into_iter().filter(|document| !document.is_null()).collect()))
    }

    /// Reads a file of `deploy`.
    pub(crate) fn of_file(path: &str) -> io::Result<Self> {
        Self::read(&fs::read_to_string(deploy(path))?)
    }

    /// Those of a kind.
    pub(crate) fn kind(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The only one of a kind.
    pub(crate) fn one(&self, kind: &str) -> io::Result<&Value> {
        match self.kind(kind)[..] {
            [object] => Ok(object),
            ref others => Err(io::Error::other(format!("{} objects of kind {kind}", others.len()))),
        }
    }

    /// The injector's own object of a kind, where there are others.
    pub(crate) fn injectors(&self, kind: &str) -> io::Result<&Value> {
        let own = self.kind(kind).into_iter().find(|object| object["metadata"]["name"] == "llm-guard-injector");
        own.ok_or_else(|| io::Error::other(format!("the injector has no {kind}")))
    }

    /// The injector's arguments.
    pub(crate) fn arguments(&self) -> io::Result<Vec<String>> {
        let arguments = self.one("Deployment")?["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        serde_json::from_value(arguments).map_err(io::Error::other)
    }
}
