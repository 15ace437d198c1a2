//! The promises of the crate, each with the tests that fail when it is broken. One binary, so that it links once.
// A test that computes a wrong time should panic.
#![allow(clippy::unchecked_time_subtraction)]

#[cfg(all(unix, feature = "oauth2"))]
mod aws;
mod bounds;
mod cancellation;
#[cfg(all(unix, feature = "oauth2"))]
mod chains;
mod errors;
mod exactly_once;
#[cfg(feature = "oauth2")]
mod examples;
#[cfg(unix)]
mod exec;
#[cfg(unix)]
mod file_token;
mod floors;
#[cfg(all(unix, feature = "oauth2"))]
mod github_app;
#[cfg(all(unix, feature = "oauth2"))]
mod hashicorp_vault;
mod histories;
#[cfg(feature = "oauth2")]
mod http_faults;
#[cfg(feature = "oauth2")]
mod http_sources;
#[cfg(feature = "oauth2")]
mod json_endpoint;
mod jumps;
mod lifetimes;
mod log_lines;
#[cfg(all(unix, feature = "oauth2"))]
mod metadata;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "oauth2")]
mod oauth;
#[cfg(feature = "oauth2")]
mod oidc;
mod operations;
mod outage;
mod panics;
mod peers;
#[cfg(feature = "oauth2")]
mod peers_http;
mod policy;
#[cfg(feature = "oauth2")]
mod python_servers;
mod rejection;
#[cfg(feature = "oauth2")]
mod retry_after;
mod scenarios;
#[cfg(feature = "oauth2")]
mod secrets;
#[cfg(feature = "oauth2")]
mod servers;
#[cfg(all(unix, feature = "oauth2"))]
mod settings_chains;
#[cfg(feature = "shared")]
mod shared;
mod shutdown;
mod single_flight;
#[cfg(all(unix, feature = "oauth2"))]
mod source_settings;
mod sources;
mod storms;
mod support;
mod test_tools;
mod threads;
mod time;
mod usable;
#[cfg(feature = "oauth2")]
mod vault;
