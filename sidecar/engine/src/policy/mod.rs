//! The policy: a `GuardPolicy` document. What it compiles to is [`crate::controls::Policy`].
//!
//! The document is read strictly. A policy that loads means what it says: a key that nobody knows, a name that fits nothing or a
//! rule that contradicts another is an error with its place, not something to pass over.

mod document;
mod sections;
pub mod settings;

pub use document::{GuardPolicy, Metadata, PolicyError, Spec};
pub use sections::{
    Cloud, From, KindName, ManagementSpec, ModelsSpec, NetworkSpec, Opening, PromptInjectionSpec, ProtocolSpec, RedactionSpec, ToolsSpec,
    UnknownFields,
};

pub use crate::verdict::{Mode, UnknownMode};
