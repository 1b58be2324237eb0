//! The certificate that the webhooks show, made in process, and the `caBundle` by which API servers know it.
//!
//! The invariant: a certificate is shown only after the authority that signed it stands in the webhook configurations, and the
//! authority before it stands there too, so that no API server meets a certificate that it can't check.
//!
//! Each certificate comes with an authority of its own, whose key is forgotten at once: nobody can sign a second one. Replicas share
//! one through a Secret. Who finds none writes one; who is second takes what is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The keys of the Secret.
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
const EXPIRES: &str = "expires";
/// How far another machine's clock may be behind.
const SKEW: Duration = Duration::from_hours(1);

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    service: String,
    namespace: String,
}

impl Names {
    pub(crate) fn new(service: &str, namespace: &str) -> Self {
        Self { service: service.into(), namespace: namespace.into() }
    }

    /// The name by which an API server calls the service.
    fn main(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    fn all(&self) -> Vec<String> {
        let main = self.main();
        vec![format!("{main}.cluster.local"), main, "localhost".into(), "127.0.0.1".into()]
    }
}

/// A certificate with its key, and the authorities that clients should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificates {
    chain: String,
    key: String,
    /// The authority of this certificate, then the one before it.
    authorities: String,
    /// Seconds since 1970.
    expires: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// It couldn't be made.
    #[error("no certificate could be made: {0}")]
    Draw(#[from] rcgen::Error),
    /// What stands in the Secret can't be used.
    #[error("{0}")]
    Broken(&'static str),
}

impl Certificates {
    /// A new certificate that is valid for `life`. `before`: the authorities until now.
    pub(crate) fn draw(names: &Names, now: SystemTime, life: Duration, before: Option<&str>) -> Result<Self, CertificateError> {
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let began = Duration::from_secs(since_1970(now).saturating_sub(SKEW).as_secs());
        let expires = since_1970(now).saturating_add(life).as_secs();
        let dated = |names: Vec<String>, common: String| {
            let mut params = CertificateParams::new(names)?;
            params.not_before = epoch + began;
            params.not_after = epoch + Duration::from_secs(expires);
            params.distinguished_name.push(DnType::CommonName, common);
            Ok::<_, rcgen::Error>(params)
        };

        // Named by its time, so that two in one bundle are told apart by name already.
        let mut authority = dated(Vec::new(), format!("llm-guard injector {}", since_1970(now).as_millis()))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;

        // A common name has at most 64 characters; the names that count are the alternative ones.
        let mut own = dated(names.all(), "llm-guard-injector".into())?;
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = own.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;

        let before = before.map(first_certificate).unwrap_or_default();
        Ok(Self {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            authorities: format!("{}{before}", authority_certificate.pem()),
            expires,
        })
    }

    /// Reads what a Secret holds, if it can be served now.
    pub(crate) fn read(data: &BTreeMap<String, ByteString>, names: &Names, now: SystemTime) -> Result<Self, CertificateError> {
        let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        let (Some(chain), Some(key), Some(authorities), Some(expires)) =
            (text(CHAIN), text(KEY), text(AUTHORITIES), text(EXPIRES).and_then(|text| text.parse().ok()))
        else {
            return Err(CertificateError::Broken("it lacks tls.crt, tls.key, ca.crt or expires"));
        };
        let this = Self { chain, key, authorities, expires };
        this.certified()?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !this.holds_at(names, now) {
            return Err(CertificateError::Broken("its certificate is not for this service, not of its authority, or has expired"));
        }
        // The date is written beside the certificate, and must be the certificate's.
        if !this.holds_at(names, expires) || this.holds_at(names, expires + 1) {
            return Err(CertificateError::Broken("its certificate doesn't expire when it says"));
        }
        Ok(this)
    }

    /// What a Secret should hold.
    pub(crate) fn data(&self) -> BTreeMap<String, ByteString> {
        let Self { chain, key, authorities, expires } = self;
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        [(CHAIN, bytes(chain)), (KEY, bytes(key)), (AUTHORITIES, bytes(authorities)), (EXPIRES, bytes(&expires.to_string()))]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    /// Whether two thirds of its life are over.
    pub(crate) fn is_due(&self, now: SystemTime, life: Duration) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expires.saturating_sub(now) <= life.as_secs() / 3
    }

    pub(crate) fn expires(&self) -> u64 {
        self.expires
    }

    /// What the webhook configurations should hold.
    pub(crate) fn bundle(&self) -> ByteString {
        ByteString(self.authorities.as_bytes().to_vec())
    }

    pub(crate) fn authorities(&self) -> &str {
        &self.authorities
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect();
        chain.map_err(|_| CertificateError::Broken("tls.crt is no certificate"))
    }

    /// As a server shows it; only if the key fits the certificate.
    pub(crate) fn certified(&self) -> Result<CertifiedKey, CertificateError> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| CertificateError::Broken("tls.key is no key"))?;
        CertifiedKey::from_der(self.chain()?, key, &provider()).map_err(|_| CertificateError::Broken("tls.key doesn't fit tls.crt"))
    }

    /// Whether a client that knows the first authority alone would take the certificate at that time.
    fn holds_at(&self, names: &Names, at: u64) -> bool {
        let mut roots = RootCertStore::empty();
        let Some(Ok(authority)) = CertificateDer::pem_slice_iter(self.authorities.as_bytes()).next() else { return false };
        let Ok(()) = roots.add(authority) else { return false };
        let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build() else { return false };
        let (Ok(chain), Ok(name)) = (self.chain(), ServerName::try_from(names.main())) else { return false };
        let Some((own, more)) = chain.split_first() else { return false };
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier.verify_server_cert(own, more, &name, &[], at).is_ok()
    }
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The first certificate of a bundle, if it is one.
fn first_certificate(bundle: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    let normal = CertificateDer::pem_slice_iter(bundle.as_bytes()).next().is_some_and(|first| first.is_ok());
    match bundle.find(END) {
        Some(end) if normal => &bundle[..end + END.len()],
        _ => "",
    }
}

/// The certificate that is shown now, for the TLS server to ask at each handshake.
#[derive(Debug, Default)]
pub(crate) struct Shown(ArcSwapOption<CertifiedKey>);

impl Shown {
    pub(crate) fn show(&self, certified: CertifiedKey) {
        self.0.store(Some(Arc::new(certified)));
    }

    /// How the webhooks' server speaks TLS: 1.2 or later, with this certificate.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<rustls::ServerConfig, rustls::Error> {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = rustls::ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_hours(90 * 24);

    fn names() -> Names {
        Names::new("llm-guard-injector", "llm-guard-system")
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_800_000_000;

    fn drawn() -> Certificates {
        Certificates::draw(&names(), at(NOW), LIFE, None).unwrap()
    }

    #[test]
    fn what_was_written_is_read_as_it_was_until_it_expires() {
        let certificates = drawn();
        assert_eq!(Certificates::read(&certificates.data(), &names(), at(NOW)).unwrap(), certificates);
        assert!(Certificates::read(&certificates.data(), &names(), at(NOW + LIFE.as_secs())).is_ok());
        assert!(Certificates::read(&certificates.data(), &names(), at(NOW + LIFE.as_secs() + 1)).is_err());
    }

    #[test]
    fn it_is_due_when_two_thirds_of_its_life_are_over() {
        let certificates = drawn();
        assert!(!certificates.is_due(at(NOW + LIFE.as_secs() / 3 * 2 - 10), LIFE));
        assert!(certificates.is_due(at(NOW + LIFE.as_secs() / 3 * 2 + 10), LIFE));
    }

    #[test]
    fn whatever_is_edited_is_noticed() {
        let good = drawn().data();
        let other = Certificates::draw(&names(), at(NOW), LIFE, None).unwrap().data();
        for key in [CHAIN, KEY, AUTHORITIES, EXPIRES] {
            let mut missing = good.clone();
            missing.remove(key);
            assert!(Certificates::read(&missing, &names(), at(NOW)).is_err(), "without {key}");
            let mut garbled = good.clone();
            garbled.insert(key.into(), ByteString(b"x".to_vec()));
            assert!(Certificates::read(&garbled, &names(), at(NOW)).is_err(), "{key} garbled");
            if key != EXPIRES {
                let mut mixed = good.clone();
                mixed.insert(key.into(), other[key].clone());
                assert!(Certificates::read(&mixed, &names(), at(NOW)).is_err(), "{key} of another");
            }
        }
        let mut later = good.clone();
        later.insert(EXPIRES.into(), ByteString((NOW + 2 * LIFE.as_secs()).to_string().into_bytes()));
        assert!(Certificates::read(&later, &names(), at(NOW)).is_err(), "a date that isn't the certificate's");
        assert!(Certificates::read(&good, &Names::new("other", "llm-guard-system"), at(NOW)).is_err(), "another service's");
    }

    #[test]
    fn the_bundle_holds_the_authority_before_and_none_older() {
        let first = drawn();
        let second = Certificates::draw(&names(), at(NOW + 10), LIFE, Some(first.authorities())).unwrap();
        let third = Certificates::draw(&names(), at(NOW + 20), LIFE, Some(second.authorities())).unwrap();
        assert!(second.authorities().ends_with(first.authorities()));
        assert_eq!(third.authorities().matches("BEGIN CERTIFICATE").count(), 2);
        assert!(third.authorities().ends_with(first_certificate(second.authorities())));
        assert_eq!(Certificates::draw(&names(), at(NOW), LIFE, Some("garbage")).unwrap().authorities().matches("BEGIN").count(), 1);
    }

    #[test]
    fn a_long_namespace_is_no_obstacle() {
        let names = Names::new("llm-guard-injector", &"n".repeat(63));
        let certificates = Certificates::draw(&names, at(NOW), LIFE, None).unwrap();
        assert!(Certificates::read(&certificates.data(), &names, at(NOW)).is_ok());
    }
}
