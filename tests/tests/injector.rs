//! The injector before a real API server: certificates, keys, settings, network policies, and what becomes of them when
//! somebody else writes.
//!
//! The API server is alone: no controller makes pods of workloads, and no kubelet runs them. So a test makes the pods and their
//! owners itself, and plays the guards that report what they have loaded. The webhooks are asked over TLS, by the API server.
//!
//! The invariant: every test has an API server and injectors of its own, and all of them end with it.

#[path = "injector/authority.rs"]
mod authority;
#[path = "injector/exceptions.rs"]
mod exceptions;
#[path = "injector/field.rs"]
mod field;
#[path = "injector/late.rs"]
mod late;
#[path = "injector/network.rs"]
mod network;
#[path = "injector/policies.rs"]
mod policies;
#[path = "injector/secrets.rs"]
mod secrets;
#[path = "injector/settings.rs"]
mod settings;
