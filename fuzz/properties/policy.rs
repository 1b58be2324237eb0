//! A policy that is read means what it says: written out it is read as the same, and settings that hold it open for who has the key, and
//! only as they were sealed. Whatever else the bytes are, they are refused, in little time and space.

use std::sync::LazyLock;

use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::GuardPolicy;
use llm_guard_engine::policy::settings::{MAX_BYTES, PublicKey, Settings, SigningKey, Standing, open, seal};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));

/// What stands before the bytes, so that a fuzzer needn't find it.
const HEAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\n";

pub(crate) fn holds(data: &[u8]) {
    let Some(([place, change], bytes)) = super::header::<2>(data) else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keys = [PublicKey::of(&KEY)];
    assert!(open(text, &keys).is_err(), "nobody sealed this");

    for yaml in [text.to_owned(), [HEAD, text].concat()] {
        let Ok(policy) = GuardPolicy::read(&yaml) else { continue };
        let written = serde_json::to_string(&policy).expect("a policy can be written");
        let again = GuardPolicy::read(&written).expect("a policy that was written can be read");
        assert_eq!((&again.spec, &again.metadata.name), (&policy.spec, &policy.metadata.name));
        // Whether it contradicts itself is said, and said again.
        let compiled = Policy::compile(&policy, &Standing::default()).err();
        assert_eq!(Policy::compile(&again, &Standing::default()).err(), compiled);

        let settings = Settings {
            audience: "c/n/Deployment/m".into(),
            serial: 1,
            mode: None,
            floor: None,
            stop: false,
            exceptions: Vec::new(),
            policy: again,
            shadow: None,
        };
        let sealed = seal(&settings, &KEY);
        if sealed.len() > MAX_BYTES {
            continue;
        }
        assert_eq!(open(&sealed, &keys), Ok(settings));
        let mut changed = sealed.clone().into_bytes();
        let place = usize::from(place) * changed.len() / 256;
        changed[place] = changed[place].wrapping_add(change.max(1));
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(open(&changed, &keys).is_err(), "byte {place} was changed");
        }
    }
}
