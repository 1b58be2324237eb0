//! Who may reach the model's port: peers as `NetworkPolicies` of Kubernetes name them.
//!
//! The guard itself doesn't look at them; the injector makes a `NetworkPolicy` of them. They are read here, so that whoever judges a policy
//! judges all of it: a typing error must not widen what is open.
//!
//! Source: `NetworkPolicyPeer`, `IPBlock` and `LabelSelector` of Kubernetes' API, `networking.k8s.io/v1` and `meta/v1`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::error::{PolicyError, shown};

/// Who may reach the model's port. The injector makes a `NetworkPolicy` of it; the guard itself doesn't look at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// `NetworkPolicyPeers` of Kubernetes. Absent: everyone.
    #[serde(deserialize_with = "peers_if_there", skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Peer>>,
}

/// Pods by their labels and their namespaces', or addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Peer {
    /// Pods with these labels: of the namespaces that are selected, else of the policy's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces with these labels. An empty selector means all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses. It stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// What labels have to say; all of it has to hold, and nothing fits everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels and their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// More than equality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<Requirement>>,
}

/// What one label has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it relates to the values.
    pub operator: Operator,
    /// The values: of `In` and `NotIn` at least one, of the others none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// How a label relates to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Operator {
    /// It has one of them.
    In,
    /// It has none of them, or isn't there.
    NotIn,
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
}

/// Addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpBlock {
    /// A network: `10.0.0.0/24`, `2001:db8::/64`.
    pub cidr: String,
    /// Networks in it that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<String>>,
}

/// Reads a list that may be left out but not left empty-handed.
fn peers_if_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Peer>>, D::Error> {
    let list = Option::<Vec<Peer>>::deserialize(deserializer)?;
    list.map(Some).ok_or_else(|| serde::de::Error::custom("there is no list behind the key: name peers, or leave the key out"))
}

impl NetworkSpec {
    /// Whether Kubernetes takes these peers for what they say. A list without any means everyone to it, and is refused.
    pub fn check(&self) -> Result<(), PolicyError> {
        let Some(from) = &self.from else { return Ok(()) };
        if from.is_empty() {
            return Err(PolicyError::in_spec("network.from", "[] would mean everyone to Kubernetes: name peers, or leave the key out"));
        }
        from.iter().enumerate().try_for_each(|(place, peer)| {
            peer.check().map_err(|(path, reason)| PolicyError::in_spec(format!("network.from[{place}]{path}"), reason))
        })
    }
}

/// A path below a peer, and what is wrong there.
type Wrong = (String, String);

fn wrong<T>(path: &str, reason: impl Into<String>) -> Result<T, Wrong> {
    Err((path.to_owned(), reason.into()))
}

impl Peer {
    fn check(&self) -> Result<(), Wrong> {
        let selectors = [("podSelector", &self.pod_selector), ("namespaceSelector", &self.namespace_selector)];
        let has_selector = selectors.iter().any(|(_, selector)| selector.is_some());
        if has_selector == self.ip_block.is_some() {
            return wrong("", "a peer has a podSelector, a namespaceSelector or both, or an ipBlock alone");
        }
        for (name, selector) in selectors {
            if let Some(selector) = selector {
                selector.check().map_err(|(path, reason)| (format!(".{name}{path}"), reason))?;
            }
        }
        self.ip_block.as_ref().map_or(Ok(()), |block| block.check().map_err(|(path, reason)| (format!(".ipBlock{path}"), reason)))
    }
}

impl LabelSelector {
    fn check(&self) -> Result<(), Wrong> {
        for (key, value) in self.match_labels.iter().flatten() {
            let path = format!(".matchLabels.{}", shown(key));
            if !is_label_key(key) {
                return wrong(&path, "no label can be called so");
            }
            if !is_label_value(value) {
                return wrong(&path, format!("no label can have the value '{}'", shown(value)));
            }
        }
        for (place, requirement) in self.match_expressions.iter().flatten().enumerate() {
            let path = |key: &str| format!(".matchExpressions[{place}].{key}");
            let values = requirement.values.as_deref().unwrap_or_default();
            if !is_label_key(&requirement.key) {
                return wrong(&path("key"), "no label can be called so");
            }
            match requirement.operator {
                Operator::In | Operator::NotIn if values.is_empty() => return wrong(&path("operator"), "it needs values"),
                Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                    return wrong(&path("values"), "the operator takes none");
                }
                _ => {}
            }
            if let Some(value) = values.iter().position(|value| !is_label_value(value)) {
                return wrong(&path(&format!("values[{value}]")), "no label can have this value");
            }
        }
        Ok(())
    }
}

impl IpBlock {
    fn check(&self) -> Result<(), Wrong> {
        const FORM: &str = "it is no network, as 10.0.0.0/24 and 2001:db8::/64 are";
        let Some(network) = Network::read(&self.cidr) else { return wrong(".cidr", FORM) };
        for (place, except) in self.except.iter().flatten().enumerate() {
            let path = format!(".except[{place}]");
            match Network::read(except) {
                None => return wrong(&path, FORM),
                Some(inner) if !network.holds(&inner) => return wrong(&path, "it is not a smaller part of the cidr"),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// A network's address, all its bits at the top of 128, and how many of them are given; the two families apart.
#[derive(PartialEq)]
struct Network {
    is_v4: bool,
    bits: u128,
    length: u32,
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        // Another way of writing a number could be read otherwise elsewhere.
        let digits = length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let length: u32 = digits.then(|| length.parse().ok())??;
        let (is_v4, bits, most) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => (true, u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (false, address.to_bits(), 128),
        };
        (length <= most).then_some(Self { is_v4, bits, length })
    }

    /// Whether another network is a part of it, and not all of it.
    fn holds(&self, other: &Self) -> bool {
        let differs_at = (self.bits ^ other.bits).leading_zeros();
        self.is_v4 == other.is_v4 && other.length > self.length && differs_at >= self.length
    }
}

/// Source: Kubernetes, "Labels and Selectors", syntax and character set.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_part = |part: &str| !part.is_empty() && is_framed(part, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(), b"-");
    prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_part)) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    value.len() <= 63 && is_framed(value, |byte| byte.is_ascii_alphanumeric(), b"-_.")
}

/// Whether a text is made of these bytes, with `inner` ones nowhere but inside.
fn is_framed(text: &str, is_outer: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().flatten().all(&is_outer) && text.bytes().all(|byte| is_outer(byte) || inner.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(peer: &str) -> Result<(), String> {
        let yaml = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {{network: {{from: [{peer}]}}}}\n");
        let checked = crate::policy::GuardPolicy::read_and(&yaml, |document| document.spec.network.check());
        checked.map(|_| ()).map_err(|error| error.without_place().to_string())
    }

    #[test]
    fn peers_that_kubernetes_takes_are_taken() {
        for peer in [
            "{podSelector: {}}",
            "{namespaceSelector: {}, podSelector: {matchLabels: {app: chat}}}",
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: chat, empty: ''}}}",
            "{podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}, {key: c.d/E_f, operator: Exists}]}}",
            "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}",
            "{ipBlock: {cidr: '::/0', except: ['2001:db8::/32']}}",
            "{ipBlock: {cidr: 0.0.0.0/0}}",
        ] {
            assert_eq!(checked(peer), Ok(()), "{peer}");
        }
    }

    #[test]
    fn peers_that_kubernetes_refuses_or_takes_otherwise_are_refused() {
        for (peer, expected) in [
            ("{}", "network.from[0]: a peer has"),
            ("{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}", "network.from[0]: a peer has"),
            ("{podSelecter: {}}", "did you mean 'podSelector'?"),
            ("{podSelector: {matchLabel: {a: b}}}", "did you mean 'matchLabels'?"),
            ("{podSelector: {matchLabels: {a: 1}}}", "a text is expected, and there is a number"),
            ("{podSelector: {matchLabels: {'a b': c}}}", "no label can be called so"),
            ("{podSelector: {matchLabels: {-a: c}}}", "no label can be called so"),
            ("{podSelector: {matchLabels: {A.b/c: c}}}", "no label can be called so"),
            ("{podSelector: {matchLabels: {a: 'b/c'}}}", "no label can have the value 'b/c'"),
            ("{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}", "did you mean 'In'?"),
            ("{podSelector: {matchExpressions: [{key: a, operator: In}]}}", "matchExpressions[0].operator: it needs values"),
            ("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}", "values: the operator takes none"),
            ("{podSelector: {matchExpressions: [{operator: Exists}]}}", "the key 'key' is missing"),
            ("{ipBlock: {cidr: 10.0.0.0}}", "ipBlock.cidr: it is no network"),
            ("{ipBlock: {cidr: 10.0.0.0/33}}", "it is no network"),
            ("{ipBlock: {cidr: 10.0.0.0/08}}", "it is no network"),
            ("{ipBlock: {cidr: 010.0.0.0/8}}", "it is no network"),
            ("{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}", "ipBlock.except[0]: it is not a smaller part"),
            ("{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}", "it is not a smaller part"),
            ("{ipBlock: {cidr: 10.0.0.0/8, except: ['::/16']}}", "it is not a smaller part"),
        ] {
            let said = checked(peer).unwrap_err();
            assert!(said.contains(expected), "{peer}: {said}");
        }
        assert!(NetworkSpec { from: Some(Vec::new()) }.check().unwrap_err().to_string().contains("[] would mean everyone"));
    }
}
