//! What watches over systems: metrics, traces, logs, errors, alerts, analytics.

use super::checks::{mixed, random};
use super::{KindSpec, assigned, exact, kind, names, token, word};

const UUID: &str = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

pub(super) const KINDS: &[KindSpec] = &[
    kind(
        "DATADOG_KEY",
        "an API or application key of Datadog",
        &[
            assigned(&["datadog", "dd_app", "dd-application-key"], r"(?i)[a-z0-9]{40}").check(random),
            assigned(&["datadog", "dd_api", "dd-api-key", "dd_client_api"], r"[a-f0-9]{32}"),
            word(r"ddapp_[A-Za-z0-9]{34}"),
        ],
    ),
    kind(
        "NEWRELIC_USER_KEY",
        "a user's key of New Relic",
        &[exact(r"NRAK-[A-Z0-9]{27}"), assigned(&["new-relic", "newrelic", "new_relic"], r"(?i)NRAK-[a-z0-9]{27}")],
    ),
    kind(
        "NEWRELIC_USER_ID",
        "a user's API id of New Relic",
        &[assigned(&["new-relic", "newrelic", "new_relic"], r"(?i)[a-z0-9]{64}").check(random)],
    ),
    kind(
        "NEWRELIC_BROWSER_KEY",
        "a browser's key of New Relic",
        &[exact(r"NRJS-[a-f0-9]{19}"), assigned(&["new-relic", "newrelic", "new_relic"], r"(?i)NRJS-[a-f0-9]{19}")],
    ),
    kind(
        "NEWRELIC_INSERT_KEY",
        "an insert key of New Relic",
        &[exact(r"NRII-[A-Za-z0-9_-]{32}"), assigned(&["new-relic", "newrelic", "new_relic"], r"(?i)NRII-[a-z0-9-]{32}")],
    ),
    kind(
        "NEWRELIC_LICENSE_KEY",
        "a license key of New Relic",
        &[
            assigned(
                &["new-relic", "newrelic", "new_relic", "license_key", "licensekey", "license-key", "api-key"],
                r"[a-f0-9]{36}(?:NRAL|FFFFNRAL)",
            ),
            assigned(&["new-relic", "newrelic", "new_relic"], r"[a-f0-9]{40}"),
        ],
    ),
    kind(
        "SENTRY_ORG_TOKEN",
        "an organization's token of Sentry",
        &[exact(r"sntrys_eyJpYXQiO[A-Za-z0-9+/]{20,}={0,2}_[A-Za-z0-9+/]{43}").entropy(4.0)],
    ),
    kind("SENTRY_USER_TOKEN", "a user's token of Sentry", &[exact(r"sntryu_[a-f0-9]{64}").entropy(3.0)]),
    kind("SENTRY_TOKEN", "an access token of Sentry", &[assigned(&["sentry"], r"(?i)[a-f0-9]{64}").entropy(3.0)]),
    kind(
        "SENTRY_DSN_SECRET",
        "the secret of a project's address of Sentry",
        &[token(r"://[a-f0-9]{32}:[a-f0-9]{32}@[A-Za-z0-9.-]{0,40}").whole().check(super::checks::password_of_url)],
    ),
    kind("GRAFANA_KEY", "an API key of Grafana", &[word(r"(?i)eyJrIjoi[a-z0-9]{70,}={0,3}").entropy(3.0)]),
    kind("GRAFANA_CLOUD_TOKEN", "a token of Grafana Cloud", &[word(r"glc_[A-Za-z0-9+/]{32,}={0,3}").entropy(3.0).check(random)]),
    kind("GRAFANA_SERVICE_TOKEN", "a service account's token of Grafana", &[word(r"(?i)glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}").entropy(3.0)]),
    kind("DYNATRACE_TOKEN", "an API token of Dynatrace", &[token(r"dt0[a-z][0-9]{2}\.(?i:[a-z0-9]{24}\.[a-z0-9]{64})").entropy(3.5)]),
    kind(
        "HONEYCOMB_KEY",
        "a key of Honeycomb",
        &[
            word(r"hc[abcdefghij](?:ik|xik|mk|lk|ak)_[A-Za-z0-9]{50,}"),
            assigned(&["honeycomb"], r"[a-f0-9]{32}"),
            assigned(&["honeycomb"], r"[A-Za-z0-9]{22}").check(mixed),
        ],
    ),
    kind(
        "SPLUNK_TOKEN",
        "a token of Splunk",
        &[
            assigned(&["splunk", "hec_token"], UUID),
            token(r"(?i)Authorization: Splunk [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
                .check(super::checks::behind_space),
        ],
    ),
    kind(
        "LOGGLY_TOKEN",
        "a token of Loggly",
        &[
            assigned(&["loggly"], UUID),
            token(r"logs-01\.loggly\.com/(?:inputs|bulk)/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        ],
    ),
    kind("LOGZIO_TOKEN", "a token of Logz.io", &[assigned(&["logzio", "logz_io", "logz.io"], r"[A-Za-z]{32}").check(random)]),
    kind("LOGDNA_KEY", "a key of Mezmo", &[assigned(&["logdna", "mezmo"], r"[a-f0-9]{32}")]),
    kind(
        "LOGTAIL_TOKEN",
        "a source's token of Better Stack",
        &[assigned(&["logtail", "betterstack", "better_stack"], r"[A-Za-z0-9]{24}").check(mixed)],
    ),
    kind("PAPERTRAIL_TOKEN", "an API token of Papertrail", &[assigned(&["papertrail"], r"[A-Za-z0-9]{20}").check(mixed)]),
    kind("AXIOM_TOKEN", "a token of Axiom", &[word(r"xa[pa][tp]-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")]),
    kind("CORALOGIX_KEY", "a key of Coralogix", &[exact(r"cxt[pu]_[A-Za-z0-9]{30}"), assigned(&["coralogix"], UUID)]),
    kind(
        "SUMOLOGIC_ACCESS_ID",
        "an access id of Sumo Logic",
        &[assigned(&["sumologic", "sumo_", "sumo-", "sumo.", "sumotoken", "sumoaccess", "sumokey"], r"su[A-Za-z0-9]{12}").entropy(3.0)],
    ),
    kind(
        "SUMOLOGIC_ACCESS_KEY",
        "an access key of Sumo Logic",
        &[assigned(&["sumologic", "sumo_", "sumo-", "sumo.", "sumotoken", "sumoaccess", "sumokey"], r"(?i)[a-z0-9]{64}")
            .entropy(3.0)
            .check(random)],
    ),
    kind(
        "SUMOLOGIC_COLLECTOR_URL",
        "the address of a collector of Sumo Logic",
        &[token(r"sumologic\.com/receiver/v1/http/[A-Za-z0-9_=-]{80,}")],
    ),
    kind(
        "PAGERDUTY_KEY",
        "an API key of PagerDuty",
        &[
            assigned(&["pagerduty", "pager_duty", "pd_api", "pd_token"], r"[A-Za-z0-9_+-]{20}").check(mixed).entropy(3.0),
            assigned(&["pagerduty", "pager_duty", "routing_key", "integration_key"], r"[a-f0-9]{32}").near(&["pager"]),
            token(r"Token token=[A-Za-z0-9_+-]{20}").check(super::checks::behind_equals),
        ],
    ),
    kind(
        "OPSGENIE_KEY",
        "an API key of Opsgenie",
        &[
            assigned(&["opsgenie", "geniekey"], UUID),
            token(r"GenieKey [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").check(super::checks::behind_space),
        ],
    ),
    kind("VICTOROPS_KEY", "a key of VictorOps", &[assigned(&["victorops"], r"[a-f0-9]{32}")]),
    kind("ROLLBAR_TOKEN", "an access token of Rollbar", &[assigned(&["rollbar"], r"[a-f0-9]{32}")]),
    kind("BUGSNAG_KEY", "an API key of Bugsnag", &[assigned(&["bugsnag"], r"[a-f0-9]{32}")]),
    kind("AIRBRAKE_KEY", "a project's key of Airbrake", &[assigned(&["airbrake"], r"[a-f0-9]{32}")]),
    kind("HONEYBADGER_KEY", "an API key of Honeybadger", &[word(r"hbp_[A-Za-z0-9]{36}"), assigned(&["honeybadger"], r"[a-f0-9]{8}")]),
    kind("RAYGUN_KEY", "an API key of Raygun", &[assigned(&["raygun"], r"[A-Za-z0-9]{22}").check(mixed)]),
    kind("STATUSPAGE_KEY", "an API key of Statuspage", &[assigned(&["statuspage"], UUID), assigned(&["statuspage"], r"[a-f0-9]{64}")]),
    kind(
        "UPTIMEROBOT_KEY",
        "an API key of UptimeRobot",
        &[word(r"ur[0-9]{6,8}-[a-f0-9]{24}"), assigned(&["uptimerobot", "uptime_robot"], r"m[0-9]{9}-[a-f0-9]{24}")],
    ),
    kind("PINGDOM_TOKEN", "an API token of Pingdom", &[assigned(&["pingdom"], r"[A-Za-z0-9_-]{86}").entropy(4.0)]),
    kind("CHECKLY_KEY", "an API key of Checkly", &[word(r"cu_[a-f0-9]{32}"), word(r"sv_[a-f0-9]{32}").near(&["checkly"])]),
    kind(
        "POSTHOG_KEY",
        "a personal API key of PostHog",
        &[word(r"phx_[A-Za-z0-9]{40,}"), word(r"phs_[A-Za-z0-9]{40,}"), word(r"phc_[A-Za-z0-9]{40,}")],
    ),
    kind("MIXPANEL_SECRET", "a secret of Mixpanel", &[assigned(&["mixpanel"], r"[a-f0-9]{32}")]),
    kind("AMPLITUDE_KEY", "a key of Amplitude", &[assigned(names!("amplitude"), r"[a-f0-9]{32}")]),
    kind(
        "SEGMENT_KEY",
        "a write key or token of Segment",
        &[
            assigned(names!("segment", "segment_write"), r"[A-Za-z0-9]{32}").check(mixed).entropy(3.5),
            exact(r"sgp_[A-Za-z0-9]{64}").check(random),
        ],
    ),
    kind("RUDDERSTACK_KEY", "a token of RudderStack", &[assigned(&["rudderstack"], r"[A-Za-z0-9]{27}").check(mixed)]),
    kind("HEAP_KEY", "an API key of Heap", &[assigned(&["heap_api", "heapio"], r"[a-f0-9]{32}")]),
    kind(
        "FULLSTORY_KEY",
        "an API key of Fullstory",
        &[assigned(&["fullstory"], r"na1\.[A-Za-z0-9+/=]{60,}"), assigned(&["fullstory"], r"[A-Za-z0-9+/]{60,}={0,2}").entropy(4.0)],
    ),
    kind("BEAMER_TOKEN", "an API token of Beamer", &[assigned(&["beamer"], r"(?i)b_[a-z0-9=_-]{44}")]),
    kind(
        "SENTINELONE_TOKEN",
        "an API token of SentinelOne",
        &[assigned(&["sentinelone", "sentinel_one", "s1_api"], r"[A-Za-z0-9]{80}").check(mixed)],
    ),
    kind("INSTANA_KEY", "a key of Instana", &[assigned(&["instana"], r"[A-Za-z0-9_-]{22}").check(mixed)]),
    kind("APPDYNAMICS_KEY", "an access key of AppDynamics", &[assigned(&["appdynamics"], r"[a-z0-9]{12}").check(mixed)]),
    kind("APPSIGNAL_KEY", "a key of AppSignal", &[assigned(&["appsignal"], UUID)]),
    kind("SCOUT_APM_KEY", "a key of Scout", &[assigned(&["scout_key", "scout_apm"], r"[A-Za-z0-9]{20}").check(mixed)]),
    kind(
        "LIGHTSTEP_TOKEN",
        "an access token of Lightstep",
        &[assigned(&["lightstep", "ls_access_token"], r"[A-Za-z0-9+/]{80,}={0,2}").entropy(4.0)],
    ),
    kind("WAVEFRONT_TOKEN", "an API token of Wavefront", &[assigned(&["wavefront"], UUID)]),
    kind(
        "SIGNALFX_TOKEN",
        "a token of Splunk Observability",
        &[assigned(&["signalfx", "sfx_token", "x-sf-token", "splunk_access_token"], r"[A-Za-z0-9_-]{22}").check(mixed)],
    ),
    kind(
        "HEALTHCHECKS_KEY",
        "an API key of Healthchecks.io",
        &[word(r"hc[wr]_[A-Za-z0-9]{28}"), token(r"hc-ping\.com/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("CRONITOR_KEY", "an API key of Cronitor", &[assigned(&["cronitor"], r"[a-f0-9]{32}")]),
];
