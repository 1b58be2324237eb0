//! Who calls. For now: whoever knows the one API key, where one is asked for.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The key that clients must bring as `Authorization: Bearer …` (RFC 6750).
#[derive(Clone)]
pub(crate) struct ApiKey {
    digest: [u8; 32],
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey")
    }
}

impl ApiKey {
    pub(crate) fn new(key: &str) -> Self {
        Self { digest: Sha256::digest(key.as_bytes()).into() }
    }

    /// Whether these headers bring the key. Takes the same time for every wrong one.
    pub(crate) fn is_in(&self, headers: &http::HeaderMap) -> bool {
        let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        scheme.eq_ignore_ascii_case("bearer") & bool::from(digest.ct_eq(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::ApiKey;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn only_one_bearer_token_that_is_the_key_is_the_key() {
        let key = ApiKey::new("made-up");
        let is_in = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_str(value).unwrap());
            }
            key.is_in(&headers)
        };
        assert!(is_in(&["Bearer made-up"]) && is_in(&["bearer made-up"]));
        for wrong in [
            &["Bearer made-u"][..],
            &["Bearer made-up2"],
            &["Bearer "],
            &["made-up"],
            &["Basic made-up"],
            &[],
            &["Bearer made-up", "Bearer made-up"],
        ] {
            assert!(!is_in(wrong), "{wrong:?}");
        }
    }
}
