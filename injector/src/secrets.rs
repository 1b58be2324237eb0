//! Keeps the two Secrets and the webhooks' `caBundle`: makes what is missing, mends what is damaged, follows what another replica wrote.
//!
//! Every replica does all of it. A Secret is written with the version that was read, so that of two writers one is told to look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use crate::certificates::{Certificates, Names, Shown};
use crate::cluster::touches;
use crate::events::{Events, Reason};
use crate::metrics::Metrics;
use crate::names::MANAGER;
use crate::signing::{Found, Keys};

/// The Secret with the certificate.
pub(crate) const CERTIFICATES: &str = "llm-guard-injector-certificates";
/// The Secret with the keys that settings are signed with.
pub(crate) const SIGNING: &str = "llm-guard-injector-signing";
/// How long API servers may take to read a new bundle, before a certificate is shown that needs it.
const BUNDLE_SPREADS: Duration = Duration::from_secs(5);
/// How often everything is looked at, whatever the watches say.
const LOOK: Duration = Duration::from_mins(1);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is tried to write before another replica.
const RACES: usize = 10;

/// Why a Secret can't be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The API server refused, or is away.
    #[error("the Secret {0} can't be read or written: {1}")]
    Api(&'static str, #[source] kube::Error),
    /// A certificate couldn't be made.
    #[error(transparent)]
    Certificate(#[from] crate::certificates::CertificateError),
    /// A key couldn't be drawn.
    #[error(transparent)]
    Draw(#[from] crate::signing::DrawError),
    /// The webhook configurations couldn't be written.
    #[error("the caBundle can't be put into the webhook configurations '{0}': {1}")]
    Bundle(String, #[source] kube::Error),
    /// They aren't there.
    #[error("there are no webhook configurations '{0}': install them, or the API server will not ask this injector")]
    NoConfiguration(String),
    /// Somebody writes all the time.
    #[error("the Secret {0} is written by somebody else again and again, or the API server takes too long")]
    Contended(&'static str),
}

/// What the keepers share.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) events: Arc<Events>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What a Secret's data turn out to be.
enum Reading<T> {
    /// Good as they are.
    Good(T),
    /// To be replaced for a good reason.
    Renew(T),
    /// To be replaced since they are damaged, which is said.
    Damaged(T, String),
}

impl Keeper {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Reads a Secret, or writes it where that must be. `read` gets nothing where there is no Secret.
    async fn ensure<T>(
        &self,
        name: &'static str,
        read: impl Fn(Option<&BTreeMap<String, ByteString>>) -> Result<Reading<T>, KeepError>,
        data: impl Fn(&T) -> BTreeMap<String, ByteString>,
    ) -> Result<T, KeepError> {
        let api = self.secrets();
        for _ in 0..RACES {
            let there = api.get_opt(name).await.map_err(|error| KeepError::Api(name, error))?;
            let (value, damage) = match read(there.as_ref().map(|secret| secret.data.as_ref().unwrap_or(&EMPTY)))? {
                Reading::Good(value) => return Ok(value),
                Reading::Renew(value) => (value, None),
                Reading::Damaged(value, damage) => (value, Some(damage)),
            };
            let written = match there {
                None => {
                    let labels = [("app.kubernetes.io/managed-by".to_owned(), "llm-guard".to_owned())];
                    let metadata = ObjectMeta { name: Some(name.into()), labels: Some(labels.into()), ..ObjectMeta::default() };
                    api.create(&PostParams::default(), &Secret { metadata, data: Some(data(&value)), ..Secret::default() }).await
                }
                Some(mut secret) => {
                    secret.data = Some(data(&value));
                    api.replace(name, &PostParams::default(), &secret).await
                }
            };
            match written {
                Ok(_) => {
                    tracing::info!(secret = name, "written");
                    if let Some(damage) = damage {
                        self.events.warn(&self.about(name), Reason::SecretReplaced, format!("The Secret was replaced: {damage}")).await;
                    }
                    return Ok(value);
                }
                // Another replica was first, or it went meanwhile.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(KeepError::Api(name, error)),
            }
        }
        Err(KeepError::Contended(name))
    }

    fn about(&self, name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Secret".into()),
            namespace: Some(self.namespace.clone()),
            name: Some(name.into()),
            ..ObjectReference::default()
        }
    }

    async fn certificates(&self, names: &Names, life: Duration, known: Option<&Certificates>) -> Result<Certificates, KeepError> {
        let now = SystemTime::now();
        let read = |data: Option<&BTreeMap<String, ByteString>>| {
            let draw = |before| Certificates::draw(names, now, life, before);
            let before = known.map(Certificates::authorities);
            Ok(match data.map(|data| Certificates::read(data, names, now)) {
                None => Reading::Renew(draw(before)?),
                Some(Ok(there)) if there.is_due(now, life) => Reading::Renew(draw(Some(there.authorities()))?),
                Some(Ok(there)) => Reading::Good(there),
                Some(Err(error)) => Reading::Damaged(draw(before)?, error.to_string()),
            })
        };
        self.ensure(CERTIFICATES, read, Certificates::data).await
    }

    /// The keys of this installation, drawn if there are none.
    pub(crate) async fn keys(&self) -> Result<Keys, KeepError> {
        let read = |data: Option<&BTreeMap<String, ByteString>>| {
            Ok(match data.map(Keys::read).transpose()? {
                None => Reading::Renew(Keys::draw()?),
                Some(Found::Whole(keys)) => Reading::Good(keys),
                Some(Found::Mended(keys, why)) => Reading::Damaged(keys, why.into()),
            })
        };
        self.ensure(SIGNING, read, Keys::data).await
    }

    /// Makes next current, and draws a new next.
    pub(crate) async fn rotate(&self) -> Result<Keys, KeepError> {
        let read = |data: Option<&BTreeMap<String, ByteString>>| {
            let found = data.map(Keys::read).transpose()?;
            Ok(match found {
                None => Reading::Renew(Keys::draw()?),
                Some(Found::Whole(keys)) => Reading::Renew(keys.rotated()?),
                Some(Found::Mended(keys, why)) => Reading::Damaged(keys.rotated()?, why.into()),
            })
        };
        self.ensure(SIGNING, read, Keys::data).await
    }

    /// Follows the Secret with the keys; `changed` is called after each change.
    pub(crate) async fn follow_keys(self, keys: Arc<ArcSwap<Keys>>, changed: impl Fn()) {
        let mut touched = touches::<Secret>(Api::namespaced(self.client.clone(), &self.namespace), &format!("metadata.name={SIGNING}"));
        loop {
            match tokio::time::timeout(PATIENCE, self.keys()).await.unwrap_or(Err(KeepError::Contended(SIGNING))) {
                Ok(now) => {
                    if now.for_guards() != keys.load().for_guards() {
                        tracing::info!("settings are signed with another key now");
                        keys.store(Arc::new(now));
                        changed();
                    }
                    let _ = tokio::time::timeout(LOOK, touched.next()).await;
                }
                Err(error) => {
                    tracing::error!("{error}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Keeps certificate and `caBundle`, and shows the certificate. `ready` turns true once both are in place.
    pub(crate) async fn keep_certificates(
        self,
        names: Names,
        service: String,
        life: Duration,
        shown: Arc<Shown>,
        ready: watch::Sender<bool>,
    ) {
        let mutating = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let validating = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        let by_name = format!("metadata.name={service}");
        let mut touched = stream::select_all([
            touches::<Secret>(Api::namespaced(self.client.clone(), &self.namespace), &format!("metadata.name={CERTIFICATES}")),
            touches::<MutatingWebhookConfiguration>(Api::all(self.client.clone()), &by_name),
            touches::<ValidatingWebhookConfiguration>(Api::all(self.client.clone()), &by_name),
        ]);
        let spreads = BUNDLE_SPREADS.min(life / 10);
        let look = LOOK.min(life / 20);
        let mut known: Option<Certificates> = None;
        // Since when the bundle of a certificate that isn't shown yet stands in the configurations.
        let mut bundled: Option<Instant> = None;
        let mut on_show: Option<Certificates> = None;
        loop {
            let looked = self.look(&names, life, known.as_ref(), &service, &mutating, &validating);
            let wait = match tokio::time::timeout(PATIENCE, looked).await.unwrap_or((None, Ok(()))) {
                (Some(now), placed) => {
                    if known.as_ref() != Some(&now) {
                        bundled = None;
                    }
                    match &placed {
                        Ok(()) => drop(bundled.get_or_insert_with(Instant::now)),
                        Err(error) => tracing::warn!("{error}"),
                    }
                    let first = on_show.is_none();
                    let spread = bundled.map(|since| since.elapsed());
                    if on_show.as_ref() != Some(&now) && (first || spread.is_some_and(|spread| spread >= spreads)) {
                        match now.certified() {
                            Ok(certified) => shown.show(certified),
                            Err(error) => tracing::error!("{error}"),
                        }
                        tracing::info!(expires = now.expires(), "a certificate is shown");
                        self.metrics.certificate_expiry.set(i64::try_from(now.expires()).unwrap_or(i64::MAX));
                        on_show = Some(now.clone());
                    }
                    let waits_to_show = on_show.as_ref() != Some(&now);
                    known = Some(now);
                    ready.send_if_modified(|ready| std::mem::replace(ready, placed.is_ok()) != placed.is_ok());
                    if placed.is_err() || waits_to_show { AGAIN.min(spreads) } else { look }
                }
                (None, _) => AGAIN,
            };
            let _ = tokio::time::timeout(wait, touched.next()).await;
        }
    }

    async fn look(
        &self,
        names: &Names,
        life: Duration,
        known: Option<&Certificates>,
        service: &str,
        mutating: &Api<MutatingWebhookConfiguration>,
        validating: &Api<ValidatingWebhookConfiguration>,
    ) -> (Option<Certificates>, Result<(), KeepError>) {
        let certificates = match self.certificates(names, life, known).await {
            Ok(certificates) => certificates,
            Err(error) => {
                tracing::error!("{error}");
                return (None, Err(error));
            }
        };
        let bundle = certificates.bundle();
        let placed = async {
            place(mutating, service, &bundle).await?;
            place(validating, service, &bundle).await
        };
        let placed = placed.await;
        (Some(certificates), placed)
    }
}

static EMPTY: BTreeMap<String, ByteString> = BTreeMap::new();

/// A configuration of webhooks, of either sort.
trait Webhooks {
    /// The names and clients of its entries.
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Webhooks for MutatingWebhookConfiguration {
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|webhook| (webhook.name.as_str(), &webhook.client_config)).collect()
    }
}

impl Webhooks for ValidatingWebhookConfiguration {
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|webhook| (webhook.name.as_str(), &webhook.client_config)).collect()
    }
}

/// Puts the bundle into each entry that has another. Only that field is written: a merge by the entries' names.
async fn place<K>(api: &Api<K>, name: &str, bundle: &ByteString) -> Result<(), KeepError>
where
    K: Webhooks + Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let failed = |error| KeepError::Bundle(name.to_owned(), error);
    let Some(configuration) = api.get_opt(name).await.map_err(failed)? else {
        return Err(KeepError::NoConfiguration(name.to_owned()));
    };
    let others: Vec<_> = configuration
        .entries()
        .into_iter()
        .filter(|(_, client)| client.ca_bundle.as_ref() != Some(bundle))
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let entries = others.len();
    // With the version that was read: an entry that went meanwhile must not come back as a torso.
    let patch = json!({"metadata": {"resourceVersion": configuration.resource_version()}, "webhooks": others});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Strategic(patch)).await.map_err(failed)?;
    tracing::info!(configuration = name, entries, "the caBundle is put in");
    Ok(())
}
