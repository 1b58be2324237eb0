//! Private keys of all kinds, and the tokens of open standards that stand for one's identity.

use std::ops::Range;

use super::checks::{behind_equals, behind_quote, behind_space, jwt, scattered, wrapped_jwt};
use super::{KindSpec, Rule, assigned, exact, kind, token, word};

macro_rules! pem_begin {
    () => {
        "(?i)-----BEGIN (?:(?:RSA|EC|DSA|OPENSSH|ENCRYPTED|ANY|SSH2|SSH2 ENCRYPTED|ED25519|X25519|DH|SM2|TSS2|ENCRYPTED COSIGN|ENCRYPTED SIGSTORE|PARAMETERS) )?PRIVATE KEY-----"
    };
}
/// The lines that RFC 1421 (4.6.1) puts before an encrypted key: its cipher and the beginning of a vector.
macro_rules! pem_encryption {
    () => {
        r#"[\s\\nr"'+,]{1,24}Proc-Type: 4,ENCRYPTED[\s\\nr"'+,]{1,24}DEK-Info: [A-Z0-9]{1,16}-[A-Z0-9]{1,16}-[A-Z0-9]{1,16},[0-9A-Fa-f]{16}"#
    };
}
/// Base64 and what may stand between its lines, and the letters of PGP's own.
macro_rules! pem_body {
    () => {
        r#"[A-Za-z0-9+/=\s\\"',:.()]{40,}"#
    };
}
macro_rules! pem_end {
    () => {
        "-----END [A-Za-z0-9 ]{5,40}-----"
    };
}

const fn pem(pattern: &'static str) -> Rule<'static> {
    token(pattern).whole().without(&[]).check(has_body)
}

/// Whether a key follows the first line, and not only talk about one: a line of base64.
fn has_body(text: &[u8]) -> Option<Range<usize>> {
    let mut longest = 0;
    let mut length = 0;
    for byte in text {
        length = if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') { length + 1 } else { 0 };
        longest = longest.max(length);
    }
    (longest >= 24).then_some(0..text.len())
}

pub(super) const KINDS: &[KindSpec] = &[
    // From the first line to the last, or, where there is none, as far as the key goes. Within strings the ends of lines are escapes.
    kind(
        "PRIVATE_KEY",
        "a private key in PEM: RSA, EC, DSA, OpenSSH, PKCS #8, encrypted or not",
        &[
            pem(concat!(pem_begin!(), pem_body!(), pem_end!())),
            pem(concat!(pem_begin!(), pem_body!())),
            pem(concat!(pem_begin!(), pem_encryption!(), pem_body!(), pem_end!())),
            pem(concat!(pem_begin!(), pem_encryption!(), pem_body!())),
        ],
    ),
    kind(
        "PGP_PRIVATE_KEY",
        "a private key of PGP, armoured",
        &[
            pem(concat!("(?i)-----BEGIN PGP PRIVATE KEY BLOCK-----", pem_body!(), pem_end!())),
            pem(concat!("(?i)-----BEGIN PGP PRIVATE KEY BLOCK-----", pem_body!())),
        ],
    ),
    kind(
        "SSH2_PRIVATE_KEY",
        "a private key of SSH2 (RFC 4716)",
        &[
            pem(concat!("---- BEGIN SSH2 (?:ENCRYPTED )?PRIVATE KEY ----", pem_body!(), "---- END [A-Z0-9 ]{5,40}----")),
            pem(concat!("---- BEGIN SSH2 (?:ENCRYPTED )?PRIVATE KEY ----", pem_body!())),
        ],
    ),
    kind(
        "PUTTY_PRIVATE_KEY",
        "the private lines of a key of PuTTY",
        &[token(r"Private-Lines: [0-9]{1,3}\r?\n[A-Za-z0-9+/]{20,}={0,2}").whole()],
    ),
    kind("AGE_SECRET_KEY", "a secret key of age", &[token(r"(?i)AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}")]),
    kind(
        "AGE_PQ_SECRET_KEY",
        "a post-quantum secret key of age",
        &[token(r"(?i)AGE-SECRET-KEY-PQ-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58,}")],
    ),
    kind(
        "JWT_TOKEN",
        "a JSON Web Token (RFC 7519), signed or encrypted",
        &[
            // Three parts (JWS), up to five (JWE); the last of an unsigned one is empty. Behind a letter (`keyJoin.a.b`) both of the
            // first two have to begin as JSON does.
            word(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]{2,}").whole().without(&[]).check(jwt),
            token(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_.-]{2,}").whole().without(&[]).check(jwt),
            // With white space before the first name, and in the other alphabet of base64.
            word(r"ey[A-Za-z0-9]{17,}\.ey[A-Za-z0-9/\\_-]{17,}\.[A-Za-z0-9/\\_-]*={0,2}").entropy(3.0),
        ],
    ),
    kind("JWT_BASE64", "a JSON Web Token within base64", &[word(r"ZXlK[A-Za-z0-9+/_-]{40,}={0,2}").check(wrapped_jwt)]),
    kind(
        "KUBECONFIG_KEY",
        "the client key of a kubeconfig",
        &[token(r#"client-key-data: (?:"LS0t|LS0t)[A-Za-z0-9+/]{40,}={0,2}"#).check(behind_space)],
    ),
    kind(
        "PEM_KEY_BASE64",
        "a private key in PEM within base64",
        &[
            // `-----BEGIN RSA PRIVATE`, `… EC PRIVATE`, `… OPENSSH PRIVATE`, `… PRIVATE KEY`, `… ENCRYPTED PRIVATE`.
            token(
                r"LS0tLS1CRUdJTi(?:BSU0EgUFJJVkFUR|BFQyBQUklWQVRF|BPUEVOU1NIIFBSSVZBVEUg|BQUklWQVRFIEtFW|BFTkNSWVBURUQgUFJJVkFURS)[A-Za-z0-9+/]{40,}={0,2}",
            ),
        ],
    ),
    kind("JWK_PRIVATE_KEY", "the private part of a JSON Web Key", &[token(r#""d": ?"[A-Za-z0-9_-]{42,}"#).check(behind_quote)]),
    kind(
        "WIREGUARD_PRIVATE_KEY",
        "a private or preshared key of WireGuard",
        &[token(r"(?:PrivateKey|PresharedKey) ?= ?[A-Za-z0-9+/]{43}=").whole().check(|bytes| Some(bytes.len() - 44..bytes.len()))],
    ),
    kind(
        "UNIX_PASSWORD_HASH",
        "a password's hash of crypt: SHA, MD5, yescrypt",
        &[
            token(r"\$(?:1|5|6|y|7|gy)\$[A-Za-z0-9./=,]{1,40}\$[A-Za-z0-9./]{22,}").whole(),
            token(r"\$(?:1|5|6|y|7|gy)\$[A-Za-z0-9./=,]{1,40}\$[A-Za-z0-9./]{1,64}\$[A-Za-z0-9./]{22,}").whole(),
        ],
    ),
    kind("BCRYPT_HASH", "a password's hash of bcrypt", &[token(r"\$2[abxy]\$[0-9]{2}\$[A-Za-z0-9./]{53}").whole()]),
    kind(
        "ARGON2_HASH",
        "a password's hash of Argon2",
        &[token(r"\$argon2(?:id|i|d)\$v=[0-9]{1,3}\$[A-Za-z0-9=,]{5,60}\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}").whole()],
    ),
    kind("MINISIGN_SECRET_KEY", "a secret key of minisign", &[token(r"RWRTY0Iy[A-Za-z0-9+/]{100,}={0,2}")]),
    kind(
        "EXTENDED_PRIVATE_KEY",
        "the extended private key of a wallet (BIP 32)",
        &[exact(r"(?:xprv|yprv|zprv|tprv|uprv|vprv)[1-9A-HJ-NP-Za-km-z]{107}").entropy(3.5)],
    ),
    kind(
        "ETHEREUM_PRIVATE_KEY",
        "the private key of an Ethereum account",
        &[assigned(&["private_key", "privatekey", "private-key", "deployer_key", "wallet_key"], r"0x[0-9a-fA-F]{64}").entropy(3.0)],
    ),
    kind(
        "BITCOIN_PRIVATE_KEY",
        "a private key of Bitcoin in its import format",
        &[assigned(&["wif", "private_key", "privatekey", "private-key", "privkey"], r"[5KLc9][1-9A-HJ-NP-Za-km-z]{50,51}")
            .entropy(3.5)
            .check(scattered)],
    ),
    kind(
        "SOLANA_PRIVATE_KEY",
        "the secret key of a Solana account",
        &[assigned(&["solana", "private_key", "privatekey", "private-key", "secret_key", "secretkey"], r"[1-9A-HJ-NP-Za-km-z]{87,88}")
            .entropy(4.0)],
    ),
    kind(
        "NKEY_SEED",
        "the seed of an nkey of NATS",
        &[exact(r"(?:SA|SC|SN|SO|SU|SX)[A-Z2-7]{56}").entropy(3.5).near(&["seed", "nkey", "nats", "jwt", "creds", "key"])],
    ),
    kind(
        "MINIO_SERVICE_KEY",
        "a key pair's secret in MinIO's settings",
        &[assigned(&["minio_secret", "minio_root_password", "minio-secret"], r"[A-Za-z0-9+/]{20,}").entropy(3.0)],
    ),
    kind("DJANGO_SECRET_KEY", "the secret key of a Django application", &[token(r"django-insecure-[A-Za-z0-9!@#$%^&*()_+=-]{30,}")]),
    kind(
        "LARAVEL_APP_KEY",
        "the key of a Laravel application",
        &[token(r"APP_KEY=base64:[A-Za-z0-9+/]{43}=").whole().check(behind_equals)],
    ),
    kind(
        "RAILS_MASTER_KEY",
        "the master key of a Rails application",
        &[assigned(&["rails_master_key", "rails_master", "master.key"], r"[a-f0-9]{32}")],
    ),
    kind("RAILS_SECRET_KEY_BASE", "the secret key base of a Rails application", &[assigned(&["secret_key_base"], r"[a-f0-9]{128}")]),
];
