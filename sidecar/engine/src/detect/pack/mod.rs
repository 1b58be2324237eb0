//! The kinds of secrets and of personal data that are known, as data.

use super::rule::{Ends, KindSpec, Rule, Starts, TOKEN};

/// Secrets, a table a topic.
pub const SECRETS: &[&[KindSpec]] = &[&[
    KindSpec { name: "HUGGINGFACE_TOKEN", about: "an access token of Hugging Face", rules: &[Rule { pattern: "hf_[A-Za-z0-9]{30,}", ..TOKEN }] },
    KindSpec { name: "OPENAI_KEY", about: "an API key of OpenAI", rules: &[Rule { pattern: "sk-[A-Za-z0-9_-]{20,}", starts: Starts::Word, ..TOKEN }] },
    KindSpec { name: "AWS_ACCESS_KEY", about: "an access key id of AWS", rules: &[Rule { pattern: "(?:A3T[A-Z0-9]|AKIA|ASIA)[A-Z0-9]{16,}", ..TOKEN }] },
    KindSpec { name: "GITHUB_TOKEN", about: "a personal access token of GitHub", rules: &[Rule { pattern: "ghp_[A-Za-z0-9]{36,}", ..TOKEN }] },
    KindSpec { name: "GITHUB_OAUTH", about: "an OAuth access token of GitHub", rules: &[Rule { pattern: "gho_[A-Za-z0-9]{36,}", ..TOKEN }] },
    KindSpec {
        name: "JWT_TOKEN",
        about: "a JSON Web Token",
        rules: &[Rule { pattern: r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", ..TOKEN }],
    },
]];

/// Personal data.
pub const PERSONAL: &[KindSpec] = &[KindSpec {
    name: "MAC_ADDRESS",
    about: "a MAC address",
    rules: &[Rule { pattern: "(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}", starts: Starts::Word, ends: Ends::Word, ..TOKEN }],
}];

/// Kinds that are found beside the rules, each with what it is.
pub const BESIDE: &[(&str, &str)] = &[("EMAIL", "an e-mail address"), ("IP_ADDRESS", "an IP address"), ("MAC_ADDRESS", "a MAC address")];
