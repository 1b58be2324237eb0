//! The keys that settings are signed with: the current one, and the next, which guards know already.
//!
//! The invariant: settings are signed with the current key, and a guard that was made since the last rotation but one knows it.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use k8s_openapi::ByteString;
use llm_guard_engine::policy::settings::PublicKey;

/// The keys of the Secret: two seeds, and the public key that was current before.
const CURRENT: &str = "current";
const NEXT: &str = "next";
const BEFORE: &str = "before.pub";

/// The keys of this installation.
#[derive(Clone)]
pub(crate) struct Keys {
    current: SigningKey,
    next: SigningKey,
    /// Settings that it signed were once right: a policy in them may be kept.
    before: Option<PublicKey>,
}

/// No randomness to draw a key from.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness, so no key can be drawn: {0}")]
pub(crate) struct DrawError(getrandom::Error);

/// What was found in a Secret.
pub(crate) enum Found {
    /// Everything.
    Whole(Keys),
    /// Not everything; these are the keys to go on with.
    Mended(Keys, &'static str),
}

impl Keys {
    /// New keys.
    pub(crate) fn draw() -> Result<Self, DrawError> {
        Ok(Self { current: draw()?, next: draw()?, before: None })
    }

    /// Reads what a Secret holds. What is damaged is drawn anew; what is left is kept, since guards know it.
    pub(crate) fn read(data: &BTreeMap<String, ByteString>) -> Result<Found, DrawError> {
        let seed = |key: &str| data.get(key).and_then(|bytes| <[u8; 32]>::try_from(bytes.0.as_slice()).ok());
        let before = data.get(BEFORE).and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).and_then(|text| text.parse().ok());
        let key = |seed: [u8; 32]| SigningKey::from_bytes(&seed);
        Ok(match (seed(CURRENT).map(key), seed(NEXT).map(key)) {
            (Some(current), Some(next)) if current != next => Found::Whole(Self { current, next, before }),
            (Some(current), _) => Found::Mended(Self { current, next: draw()?, before }, "its next key was damaged and is drawn anew"),
            (None, Some(next)) => {
                Found::Mended(Self { current: next, next: draw()?, before }, "its current key was damaged; the next one takes its place")
            }
            (None, None) => Found::Mended(Self { before, ..Self::draw()? }, "both of its keys were damaged and are drawn anew"),
        })
    }

    /// What a Secret should hold.
    pub(crate) fn data(&self) -> BTreeMap<String, ByteString> {
        let Self { current, next, before } = self;
        let mut data = BTreeMap::from([
            (CURRENT.to_owned(), ByteString(current.to_bytes().to_vec())),
            (NEXT.to_owned(), ByteString(next.to_bytes().to_vec())),
        ]);
        if let Some(before) = before {
            data.insert(BEFORE.to_owned(), ByteString(before.to_string().into_bytes()));
        }
        data
    }

    /// Next becomes current, and a new next is drawn.
    pub(crate) fn rotated(&self) -> Result<Self, DrawError> {
        Ok(Self { current: self.next.clone(), next: draw()?, before: Some(PublicKey::of(&self.current)) })
    }

    /// The key to sign with.
    pub(crate) fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The public keys that a new guard is given: current and next, as text.
    pub(crate) fn for_guards(&self) -> [String; 2] {
        [PublicKey::of(&self.current).to_string(), PublicKey::of(&self.next).to_string()]
    }

    /// The public key of whoever signs now.
    pub(crate) fn signer(&self) -> PublicKey {
        PublicKey::of(&self.current)
    }

    /// The public keys whose settings were ours, now or before the last rotation.
    pub(crate) fn ours(&self) -> Vec<PublicKey> {
        [Some(PublicKey::of(&self.current)), Some(PublicKey::of(&self.next)), self.before].into_iter().flatten().collect()
    }
}

fn draw() -> Result<SigningKey, DrawError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(DrawError)?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(data: &BTreeMap<String, ByteString>) -> Keys {
        match Keys::read(data).unwrap() {
            Found::Whole(keys) => keys,
            Found::Mended(_, why) => panic!("{why}"),
        }
    }

    fn mended(data: &BTreeMap<String, ByteString>) -> Keys {
        match Keys::read(data).unwrap() {
            Found::Whole(_) => panic!("nothing is amiss"),
            Found::Mended(keys, _) => keys,
        }
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let keys = Keys::draw().unwrap().rotated().unwrap();
        assert_eq!(whole(&keys.data()).data(), keys.data());
        assert_eq!(keys.ours().len(), 3);
    }

    #[test]
    fn a_guard_knows_the_current_key_after_one_rotation_and_not_after_two() {
        let keys = Keys::draw().unwrap();
        let known = keys.for_guards();
        let once = keys.rotated().unwrap();
        assert_eq!(once.signer().to_string(), known[1]);
        assert!(once.ours().contains(&keys.signer()));
        let twice = once.rotated().unwrap();
        assert!(!known.contains(&twice.signer().to_string()));
    }

    #[test]
    fn of_a_damaged_secret_the_key_that_is_left_is_kept() {
        let keys = Keys::draw().unwrap();
        let known = keys.for_guards();
        for (damaged, left) in [(NEXT, 0), (CURRENT, 1)] {
            let mut data = keys.data();
            data.insert(damaged.into(), ByteString(b"short".to_vec()));
            assert_eq!(mended(&data).signer().to_string(), known[left], "{damaged} damaged");
            data.remove(damaged);
            assert_eq!(mended(&data).signer().to_string(), known[left], "{damaged} missing");
        }
        let mut same = keys.data();
        same.insert(NEXT.into(), same[CURRENT].clone());
        assert_ne!(mended(&same).for_guards()[1], known[0]);
        assert!(!known.contains(&mended(&BTreeMap::new()).signer().to_string()));
    }
}
