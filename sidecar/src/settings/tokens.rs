//! The key of the tokens that stand in the place of values: from a file, or drawn for this run. No policy has it, and nobody prints it.

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use llm_guard_engine::detect::secrets::TokenKey;
use zeroize::Zeroizing;

/// The most bytes of a file with a key.
const MAX_BYTES: usize = 4096;

/// The key of this process, which lives as long. Whoever asks first says where it comes from.
pub(crate) fn token_key(path: Option<&Path>) -> Result<&'static TokenKey, String> {
    static KEY: OnceLock<TokenKey> = OnceLock::new();
    let key = match path {
        Some(path) => read(path).map_err(|reason| format!("--token-key {}: {reason}", path.display())),
        None => draw(),
    };
    key.map(|key| KEY.get_or_init(|| key))
}

fn draw() -> Result<TokenKey, String> {
    let mut bytes = Zeroizing::new([0; TokenKey::LEAST_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| format!("no randomness for the key of the tokens: {error}"))?;
    TokenKey::new(&*bytes).ok_or_else(|| "the key of the tokens is too short".to_owned())
}

/// A key as it stands in a file, without the end of its line.
fn read(path: &Path) -> Result<TokenKey, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes, and is no key"));
    }
    let key = bytes.trim_ascii_end();
    let short = || format!("it has {} bytes; a key has at least {}, as `openssl rand -hex 32` makes it", key.len(), TokenKey::LEAST_BYTES);
    TokenKey::new(key).ok_or_else(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_and_has_to_be_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        // The end of a line is no part of it.
        assert_eq!(of(&format!("{}\n", "a1".repeat(32))).unwrap(), TokenKey::new("a1".repeat(32).as_bytes()).unwrap());
        let short = of(&format!("{}\n", "a".repeat(31))).unwrap_err();
        assert_eq!(short, "it has 31 bytes; a key has at least 32, as `openssl rand -hex 32` makes it");
        assert_eq!(of(&"a".repeat(4097)).unwrap_err(), "it has more than 4096 bytes, and is no key");
        let none = token_key(Some(&folder.path().join("none"))).unwrap_err();
        assert!(none.starts_with("--token-key /") && none.contains("No such file"), "{none}");
    }

    #[test]
    fn keys_that_are_drawn_differ() {
        assert_ne!(draw().unwrap(), draw().unwrap());
    }
}
