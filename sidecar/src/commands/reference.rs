//! The variables of the reference gateway (jakepage91/operating-llms-on-kubernetes, `llm-gateway/`), so that its users can
//! move without changing their deployment. They count where neither a flag nor a variable of our own says something.

use std::net::IpAddr;

use llm_guard_engine::policy::{GuardPolicy, Mode, ModelsSpec, ToolsSpec};

/// The model that the reference gateway allows where nobody names one.
const DEFAULT_MODEL: &str = "llama2";

/// Variables by which a deployment shows that it was made for the reference gateway.
const ITS_OWN: [&str; 8] = [
    "OLLAMA_BASE_URL",
    "ALLOWED_MODELS",
    "DEFAULT_MODEL",
    "ENFORCEMENT_MODE",
    "ALLOWED_TOOLS",
    "BLOCKED_TOOLS",
    "HIGH_RISK_TOOLS",
    "REQUIRE_API_KEY",
];

/// What the variables say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reference {
    pub(crate) upstream: Option<String>,
    pub(crate) request_seconds: Option<u64>,
    pub(crate) retries: Option<u32>,
    pub(crate) mode: Option<Mode>,
    pub(crate) api_key: Option<String>,
    pub(crate) log_level: Option<String>,
    pub(crate) log_raw_prompts: Option<bool>,
    pub(crate) host: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    /// The policy that they describe, where one of the gateway's own variables is set.
    pub(crate) policy: Option<GuardPolicy>,
    /// What an operator should know.
    pub(crate) remarks: Vec<String>,
}

/// A variable that says nothing of the kind that it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} must be {expected}")]
pub(crate) struct BadVariable {
    variable: &'static str,
    expected: &'static str,
}

impl Reference {
    /// Reads the variables by `get`.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadVariable> {
        let get = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let number = |variable: &'static str, expected| parse(get(variable), variable, expected);
        let mut remarks = Vec::new();
        let host = get("HOST").and_then(|host| {
            let address = host.parse().ok();
            if address.is_none() {
                // Shells and build tools set a variable of this name for themselves.
                remarks.push("HOST is no IP address and is not used".to_owned());
            }
            address
        });
        let require_key = flag(get("REQUIRE_API_KEY"), "REQUIRE_API_KEY")?.unwrap_or(false);
        let api_key = match (require_key, get("API_KEY")) {
            (true, None) => return Err(BadVariable { variable: "API_KEY", expected: "set, since REQUIRE_API_KEY is true" }),
            (true, Some(key)) => Some(key),
            (false, _) => None,
        };
        let is_its_deployment = ITS_OWN.iter().any(|name| get(name).is_some());
        Ok(Self {
            upstream: get("OLLAMA_BASE_URL"),
            request_seconds: number("REQUEST_TIMEOUT_SECONDS", "a whole number of seconds above 0")?.filter(|seconds| *seconds > 0),
            retries: parse(get("MAX_RETRIES"), "MAX_RETRIES", "a whole number")?,
            mode: parse(get("ENFORCEMENT_MODE"), "ENFORCEMENT_MODE", "monitor, soft or hard")?,
            api_key,
            log_level: get("LOG_LEVEL").map(|level| level.to_lowercase()),
            log_raw_prompts: flag(get("LOG_RAW_PROMPTS"), "LOG_RAW_PROMPTS")?,
            host,
            port: parse(get("PORT"), "PORT", "a port")?,
            policy: is_its_deployment.then(|| policy(&get, &mut remarks)),
            remarks,
        })
    }
}

fn policy(get: &dyn Fn(&str) -> Option<String>, remarks: &mut Vec<String>) -> GuardPolicy {
    let mut policy = GuardPolicy::built_in();
    let default = get("DEFAULT_MODEL");
    let mut allow = list(get("ALLOWED_MODELS"));
    if allow.is_empty() {
        let only = default.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        remarks.push(format!("ALLOWED_MODELS is not set, so that {only} alone is allowed"));
        allow.push(only);
    }
    let default = default.filter(|default| {
        let is_allowed = allow.contains(default);
        if !is_allowed {
            remarks.push("DEFAULT_MODEL is not among ALLOWED_MODELS and is not used".to_owned());
        }
        is_allowed
    });
    policy.spec.models = ModelsSpec { allow: Some(allow), default, ..ModelsSpec::default() };
    let block = list(get("BLOCKED_TOOLS"));
    let mut unless_blocked = |variable| {
        let (blocked, kept): (Vec<_>, Vec<_>) = list(get(variable)).into_iter().partition(|tool| block.contains(tool));
        if !blocked.is_empty() {
            remarks.push(format!("{variable} has {} that BLOCKED_TOOLS has too; blocked wins", blocked.len()));
        }
        kept
    };
    let (allow, high_risk) = (unless_blocked("ALLOWED_TOOLS"), unless_blocked("HIGH_RISK_TOOLS"));
    let allow = get("ALLOWED_TOOLS").map(|_| allow);
    policy.spec.tools = ToolsSpec { mode: None, allow, block: unless_empty(block), high_risk: unless_empty(high_risk) };
    policy
}

/// A list that says something.
fn unless_empty(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

fn list(value: Option<String>) -> Vec<String> {
    let value = value.unwrap_or_default();
    value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

fn parse<T: std::str::FromStr>(value: Option<String>, variable: &'static str, expected: &'static str) -> Result<Option<T>, BadVariable> {
    value.map(|value| value.parse().map_err(|_| BadVariable { variable, expected })).transpose()
}

/// What pydantic takes for a boolean.
fn flag(value: Option<String>, variable: &'static str) -> Result<Option<bool>, BadVariable> {
    let Some(value) = value else { return Ok(None) };
    match value.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "y" | "t" => Ok(Some(true)),
        "false" | "0" | "no" | "off" | "n" | "f" => Ok(Some(false)),
        _ => Err(BadVariable { variable, expected: "true or false" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Reference, BadVariable> {
        Reference::read(|name| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_variable_counts() {
        let reference = read(&[
            ("OLLAMA_BASE_URL", "http://ollama:11434"),
            ("REQUEST_TIMEOUT_SECONDS", "30"),
            ("MAX_RETRIES", "2"),
            ("ALLOWED_MODELS", "a, b:1 ,"),
            ("DEFAULT_MODEL", "b:1"),
            ("ENFORCEMENT_MODE", "Hard"),
            ("ALLOWED_TOOLS", "search,shell"),
            ("BLOCKED_TOOLS", "shell"),
            ("HIGH_RISK_TOOLS", "mail"),
            ("REQUIRE_API_KEY", "true"),
            ("API_KEY", "made-up"),
            ("LOG_LEVEL", "WARNING"),
            ("LOG_RAW_PROMPTS", "false"),
            ("HOST", "0.0.0.0"),
            ("PORT", "8000"),
        ])
        .unwrap();
        let spec = &reference.policy.as_ref().unwrap().spec;
        assert_eq!(
            (spec.models.allow.as_deref().unwrap(), spec.models.default.as_deref()),
            (&["a".to_owned(), "b:1".to_owned()][..], Some("b:1"))
        );
        assert_eq!(
            (spec.tools.allow.as_deref().unwrap(), spec.tools.block.as_deref().unwrap()),
            (&["search".to_owned()][..], &["shell".to_owned()][..])
        );
        assert_eq!(spec.tools.high_risk.as_deref().unwrap(), ["mail"]);
        assert_eq!((reference.mode, reference.retries, reference.request_seconds), (Some(Mode::Hard), Some(2), Some(30)));
        assert_eq!((reference.host, reference.port), (Some([0, 0, 0, 0].into()), Some(8000)));
        assert_eq!((reference.api_key.as_deref(), reference.log_raw_prompts), (Some("made-up"), Some(false)));
        assert_eq!((reference.upstream.as_deref(), reference.log_level.as_deref()), (Some("http://ollama:11434"), Some("warning")));
    }

    #[test]
    fn without_a_list_the_default_model_alone_is_allowed_as_there() {
        let allowed = |variables: &[(&str, &str)]| read(variables).unwrap().policy.and_then(|policy| policy.spec.models.allow);
        assert_eq!(allowed(&[("ENFORCEMENT_MODE", "hard")]), Some(vec!["llama2".into()]));
        assert_eq!(allowed(&[("DEFAULT_MODEL", "mine")]), Some(vec!["mine".into()]));
        assert_eq!(allowed(&[("PORT", "8000"), ("HOST", "x86_64-linux")]), None);
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_an_error_with_its_name() {
        for (variable, value) in [
            ("ENFORCEMENT_MODE", "strict"),
            ("PORT", "many"),
            ("MAX_RETRIES", "-1"),
            ("REQUIRE_API_KEY", "perhaps"),
            ("REQUEST_TIMEOUT_SECONDS", "soon"),
        ] {
            assert!(read(&[(variable, value)]).unwrap_err().to_string().starts_with(variable));
        }
        assert_eq!(read(&[("REQUIRE_API_KEY", "true")]).unwrap_err().variable, "API_KEY");
    }

    #[test]
    fn a_list_of_tools_that_are_all_blocked_allows_none() {
        let reference = read(&[("ALLOWED_TOOLS", "shell"), ("BLOCKED_TOOLS", "shell")]).unwrap();
        assert_eq!(reference.policy.unwrap().spec.tools.allow, Some(Vec::new()));
    }
}
