//! What is installed: the chart, the manifest that is rendered from it, the dashboard, the examples.
//!
//! The invariant: each is judged by the real program that will read it (Helm, Prometheus, the API server), not by its looks alone.

#[path = "deploy/api_server.rs"]
mod api_server;
#[path = "deploy/chart.rs"]
mod chart;
#[path = "deploy/dashboard.rs"]
mod dashboard;
#[path = "deploy/examples.rs"]
mod examples;
#[path = "deploy/helm.rs"]
mod helm;
#[path = "deploy/injector.rs"]
mod injector;
