//! The policy: a `GuardPolicy` document. What it compiles to is [`crate::controls::Policy`]. Beside it, the exception to all of it for a
//! while: a `GuardException`.
//!
//! The document is read strictly. A policy that loads means what it says: a key that nobody knows, a name that fits nothing or a
//! rule that contradicts another is an error with its place, not something to pass over.

mod document;
mod error;
mod exception;
mod moment;
mod network;
mod rules;
mod sections;
pub mod settings;
mod yaml;

pub use document::{Document, GuardPolicy, Metadata, Spec};
pub(crate) use error::shown;
pub use error::{Place, PolicyError, nearest};
pub use exception::{ExceptionSpec, GuardException, LONGEST, SHORTEST, WorkloadError, WorkloadKind, WorkloadName};
pub use moment::{Moment, MomentError};
pub use network::{IpBlock, LabelSelector, NetworkSpec, Operator, Peer, Requirement};
pub use rules::{CallerName, RuleSpec, WhenSpec};
pub use sections::{
    Cloud, From, ManagementSpec, ModelsSpec, Opening, PatternEnd, PatternSpec, PromptInjectionSpec, ProtocolSpec, RedactionSpec, RegoSpec,
    ReplaceWith, ReplacementSpec, Requests, ToolsSpec, UnknownFields,
};

pub use crate::verdict::{Mode, UnknownMode};

/// The document's JSON Schema (2020-12), for editors and other tools. A test keeps it as the types are.
pub const SCHEMA: &str = include_str!("../../schema/guardpolicy.v1alpha1.json");

/// The JSON Schema of what rules in Rego see of a request. A test holds real documents against it.
pub const REGO_INPUT_SCHEMA: &str = include_str!("../../schema/rego-input.v1alpha1.json");
