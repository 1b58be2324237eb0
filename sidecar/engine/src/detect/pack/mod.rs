//! The kinds of secrets and of personal data that are known, as data.

mod personal;

use super::rule::{KindSpec, Rule, Starts, TOKEN};

pub(crate) use personal::PERSONAL;

/// Secrets, a table a topic.
pub const SECRETS: &[(&str, &[KindSpec])] = &[("tokens", &[
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
])];

/// Kinds that are found beside the rules, each with what it is.
pub(crate) const BESIDE: &[(&str, &str)] = &[("EMAIL", "an e-mail address"), ("IP_ADDRESS", "an IP address"), ("MAC_ADDRESS", "a MAC address")];
