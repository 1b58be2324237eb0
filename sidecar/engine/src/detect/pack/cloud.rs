//! Credentials of clouds, hosts, networks, and of what keeps their secrets.

use super::checks::{behind_equals, mixed, random, scattered};
use super::{KindSpec, assigned, exact, kind, names, token, word};

/// Keys of Google that stand in its own documentation and programs.
const PUBLIC_GOOGLE_KEYS: &[&str] = &[
    "abcdefghijklmnop",
    "nla7nfelquw",
    "ckehvjf3pdur",
    "dmascliylx7f",
    "d3asb-2pezvq",
    "dnsxibfmlxbi",
    "ados2zb6ncsk",
    "aswm6hmtmdyw",
    "anuvh9h9bsuc",
    "a5_ivawfq8ab",
    "a4urcgxgwqft",
    "dsb51jiicb6o",
    "bf2rraim4a0m",
    "bce-ooibhjyr",
    "b8qgxt4ec15v",
    "a8vmapnrhnfe",
];

const UUID: &str = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

pub(super) const KINDS: &[KindSpec] = &[
    kind(
        "AWS_ACCESS_KEY",
        "the id of an AWS access key",
        &[
            token(r"AKIA[0-9A-Z]{16,}").without(&["xxxxxxxx", "example"]),
            exact(r"(?:ASIA|ABIA|ACCA)[A-Z2-7]{16}").entropy(3.0),
            exact(r"A3T[A-Z0-9][A-Z2-7]{16}").entropy(3.0),
        ],
    ),
    kind(
        "AWS_SECRET_KEY",
        "the secret of an AWS access key",
        &[assigned(
            &["aws_secret", "aws-secret", "awssecret", "secretaccesskey", "secret_access_key", "secret-access-key", "aws_key", "awskey"],
            r"[A-Za-z0-9+/]{40}",
        )
        .entropy(3.5)
        .check(mixed)],
    ),
    kind(
        "AWS_SESSION_TOKEN",
        "a session's token of AWS",
        &[
            token(r"(?:IQoJb3JpZ2luX2Vj|FwoGZXIvYXdzE|FQoGZXIvYXdzE|FwoDYXdzE|FQoDYXdzE)[A-Za-z0-9+/%]{80,}={0,2}"),
            assigned(&["session_token", "sessiontoken", "session-token", "security_token"], r"[A-Za-z0-9+/]{150,}={0,2}").entropy(4.0),
        ],
    ),
    kind(
        "AWS_BEDROCK_KEY",
        "an API key of Amazon Bedrock, long-lived",
        &[exact(r"ABSK[A-Za-z0-9+/]{109,269}={0,2}").entropy(3.0).without(&[])],
    ),
    kind(
        "AWS_BEDROCK_SESSION_KEY",
        "an API key of Amazon Bedrock, short-lived",
        &[token(r"bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t[A-Za-z0-9+/%_-]*={0,2}")],
    ),
    kind("AWS_APPSYNC_KEY", "an API key of AWS AppSync", &[exact(r"da2-[a-z0-9]{26}")]),
    kind(
        "AWS_MWS_TOKEN",
        "a token of Amazon's Marketplace Web Service",
        &[token(r"amzn\.mws\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind(
        "AMAZON_OAUTH_SECRET",
        "an OAuth client's secret or token of Amazon",
        &[token(r"amzn1\.oa2-cs\.v1\.[a-f0-9]{64}"), token(r"Atz[ar]\|[A-Za-z0-9_=-]{100,}")],
    ),
    kind("GCP_API_KEY", "an API key of Google Cloud", &[exact(r"AIza[A-Za-z0-9_-]{35}").entropy(4.0).without(PUBLIC_GOOGLE_KEYS)]),
    kind("GCP_OAUTH_SECRET", "an OAuth client's secret of Google", &[token(r"GOCSPX-[A-Za-z0-9_-]{28}")]),
    kind(
        "GCP_OAUTH_TOKEN",
        "an OAuth access token of Google",
        &[word(r"ya29\.[A-Za-z0-9_-]{30,}"), word(r"ya29\.[acd]\.[A-Za-z0-9_-]{30,}")],
    ),
    kind("GCP_REFRESH_TOKEN", "an OAuth refresh token of Google", &[word(r"1//0[A-Za-z0-9_-]{40,}").entropy(4.0)]),
    kind(
        "GCP_STORAGE_KEY",
        "an HMAC key's id of Google Cloud Storage",
        &[exact(r"GOOG1E[A-Z0-9]{55}"), exact(r"GOOG[A-Z0-9]{20}").check(mixed)],
    ),
    kind("GCP_KEY_ID", "the id of a service account's key of Google Cloud", &[assigned(&["private_key_id"], r"[a-f0-9]{40}")]),
    kind("FIREBASE_SERVER_KEY", "a server's key of Firebase Cloud Messaging", &[exact(r"AAAA[A-Za-z0-9_-]{7}:[A-Za-z0-9_-]{140}")]),
    kind("RECAPTCHA_SECRET", "a secret key of reCAPTCHA", &[assigned(&["recaptcha"], r"6L[A-Za-z0-9_-]{38}").entropy(3.5)]),
    kind(
        "AZURE_CLIENT_SECRET",
        "a client's secret of Microsoft Entra",
        &[
            assigned(&["secret", "password", "pass", "client", "srt", "key", "value"], r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}")
                .entropy(3.0),
            // Where no name says so. The form is known by its fifth and sixth letter, so the three before the digit stay.
            super::Rule {
                starts: super::Starts::Anywhere,
                ..exact(r"(?:0Q~|1Q~|2Q~|3Q~|4Q~|5Q~|6Q~|7Q~|8Q~|9Q~)[A-Za-z0-9_~.-]{31,34}").entropy(3.5).check(random)
            },
        ],
    ),
    kind(
        "AZURE_STORAGE_KEY",
        "an account's key of Azure Storage or Cosmos DB",
        &[token(r"AccountKey=[A-Za-z0-9+/]{86}==").whole().check(behind_equals)],
    ),
    kind(
        "AZURE_SHARED_KEY",
        "a shared access key of Azure's messaging",
        &[
            token(r"SharedAccessKey=[A-Za-z0-9+/]{43}=").whole().check(behind_equals),
            token(r"SharedSecret=[A-Za-z0-9+/]{43}=").whole().check(behind_equals),
        ],
    ),
    kind(
        "AZURE_SAS_SIGNATURE",
        "the signature of a shared access URL of Azure",
        &[word(r"sig=[A-Za-z0-9%+/]{43,}")
            .whole()
            .near(&["sv=", "se=", "sp=", "spr=", "st=", "sr=", "skn="])
            .entropy(4.0)
            .check(behind_equals)],
    ),
    kind(
        "AZURE_APP_CONFIGURATION_SECRET",
        "a secret of Azure App Configuration",
        &[token(r"azconfig\.io;Id=[A-Za-z0-9+/:_-]{4,100};Secret=[A-Za-z0-9+/]{36,}={0,2}").whole()],
    ),
    kind(
        "AZURE_DEVOPS_TOKEN",
        "a personal access token of Azure DevOps",
        &[
            assigned(
                &["azure_devops", "azuredevops", "azure-devops", "ado_pat", "ado_token", "vsts", "system_accesstoken", "azdo"],
                r"[a-z2-7]{52}",
            )
            .entropy(3.0),
            assigned(
                &["azure_devops", "azuredevops", "azure-devops", "ado_pat", "ado_token", "vsts", "azdo", "pat", "token"],
                r"[A-Za-z0-9]{75}AZDO[A-Za-z0-9]{5}",
            ),
        ],
    ),
    kind(
        "AZURE_OPENAI_KEY",
        "a key of Azure OpenAI and Azure's other models",
        &[
            assigned(
                &[
                    "azure_openai",
                    "azureopenai",
                    "azure-openai",
                    "openai_api_key",
                    "azure_ai",
                    "cognitive",
                    "speech_key",
                    "ocp-apim-subscription-key",
                    "azure_search",
                    "vision_key",
                ],
                r"[a-f0-9]{32}",
            ),
            assigned(
                &["azure", "openai", "cognitive", "speech", "key", "ocp-apim-subscription-key"],
                r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{26}",
            ),
        ],
    ),
    kind(
        "AZURE_FUNCTION_KEY",
        "a key of Azure Functions, Search or Batch",
        &[
            assigned(&["functions", "function", "azure", "key", "code", "search"], r"[A-Za-z0-9_-]{44}AzFu[A-Za-z0-9_-]{5}[AQgw]={0,2}"),
            assigned(&["azure", "key", "search"], r"[A-Za-z0-9]{42}AzSe[A-D][A-Za-z0-9]{5}"),
        ],
    ),
    kind("DIGITALOCEAN_OAUTH_TOKEN", "an OAuth access token of DigitalOcean", &[word(r"doo_v1_[a-f0-9]{64}")]),
    kind("DIGITALOCEAN_TOKEN", "a personal access token of DigitalOcean", &[word(r"dop_v1_[a-f0-9]{64}")]),
    kind("DIGITALOCEAN_REFRESH_TOKEN", "an OAuth refresh token of DigitalOcean", &[word(r"(?i)dor_v1_[a-f0-9]{64}")]),
    kind(
        "DIGITALOCEAN_SPACES_KEY",
        "an access key's id of DigitalOcean Spaces",
        &[exact(r"DO00[A-Z0-9]{16}").near(&["spaces", "digitalocean", "key"])],
    ),
    kind("HETZNER_TOKEN", "an API token of Hetzner", &[assigned(&["hetzner", "hcloud"], r"[A-Za-z0-9]{64}").entropy(3.5)]),
    kind("LINODE_TOKEN", "an API token of Linode", &[assigned(&["linode"], r"[a-f0-9]{64}")]),
    kind("VULTR_KEY", "an API key of Vultr", &[assigned(&["vultr"], r"[A-Z0-9]{36}")]),
    kind("SCALEWAY_ACCESS_KEY", "an access key's id of Scaleway", &[exact(r"SCW[A-Z0-9]{17}").check(mixed)]),
    kind("SCALEWAY_SECRET_KEY", "a secret key of Scaleway", &[assigned(&["scaleway", "scw_secret", "scw_token"], UUID)]),
    kind(
        "OVH_SECRET",
        "an application's secret or a consumer's key of OVHcloud",
        &[assigned(&["ovh"], r"[A-Za-z0-9]{32}").check(mixed).entropy(3.0)],
    ),
    kind(
        "IBM_CLOUD_KEY",
        "an API key of IBM Cloud",
        &[
            assigned(&["ibm", "watson", "ic_api", "bluemix", "cloudant"], r"[A-Za-z0-9_-]{44}").check(random).entropy(4.0),
            word(r"ApiKey-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        ],
    ),
    kind("ALIBABA_ACCESS_KEY", "the id of an access key of Alibaba Cloud", &[exact(r"LTAI(?i:[a-z0-9]{20})").entropy(2.0)]),
    kind(
        "ALIBABA_SECRET_KEY",
        "the secret of an access key of Alibaba Cloud",
        &[assigned(&["alibaba", "aliyun", "alicloud"], r"(?i)[a-z0-9]{30}").entropy(2.0).check(random)],
    ),
    kind("TENCENT_SECRET_ID", "the id of a key of Tencent Cloud", &[exact(r"AKID[A-Za-z0-9]{32}").check(mixed)]),
    kind(
        "TENCENT_SECRET_KEY",
        "the secret of a key of Tencent Cloud",
        &[assigned(&["tencent", "qcloud"], r"[A-Za-z0-9]{32}").check(mixed).entropy(3.5)],
    ),
    kind("VOLCENGINE_ACCESS_KEY", "an access key's id of Volcengine", &[exact(r"AKLT[A-Za-z0-9_-]{40,}")]),
    kind(
        "YANDEX_ACCESS_TOKEN",
        "an access token of Yandex Cloud",
        &[word(r"t1\.[A-Za-z0-9_-]{1,}={0,2}\.[A-Za-z0-9_-]{86}={0,2}"), word(r"y0_[A-Za-z0-9_-]{50,}")],
    ),
    kind("YANDEX_API_KEY", "an API key of Yandex Cloud", &[word(r"AQVN[A-Za-z0-9_-]{35,}").entropy(3.5)]),
    kind("YANDEX_AWS_KEY", "a static key of Yandex Cloud", &[assigned(&["yandex"], r"YC[A-Za-z0-9_-]{38}")]),
    kind(
        "CLOUDFLARE_API_KEY",
        "an API token of Cloudflare",
        &[assigned(&["cloudflare", "cf_api", "cf_token"], r"(?i)[a-z0-9_-]{40}").entropy(2.0).check(random), word(r"cfut_[A-Za-z0-9]{40}")],
    ),
    kind(
        "CLOUDFLARE_GLOBAL_KEY",
        "the global API key of Cloudflare",
        &[assigned(&["cloudflare", "cf_api", "x-auth-key"], r"(?i)[a-f0-9]{37}").entropy(2.0)],
    ),
    kind("CLOUDFLARE_ORIGIN_CA_KEY", "an origin CA's key of Cloudflare", &[exact(r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}")]),
    kind(
        "CLOUDFLARE_TUNNEL_TOKEN",
        "a token of Cloudflare Tunnel",
        &[assigned(&["tunnel", "cloudflared"], r"eyJhIjoi[A-Za-z0-9_-]{100,}={0,2}"), word(r"eyJhIjoi[A-Za-z0-9_-]{150,}={0,2}")],
    ),
    kind("FASTLY_TOKEN", "an API token of Fastly", &[assigned(&["fastly"], r"(?i)[a-z0-9=_-]{32}").check(random)]),
    kind("AKAMAI_TOKEN", "a token of Akamai", &[word(r"akab-[a-z0-9]{16}-[a-z0-9]{16}")]),
    kind(
        "HEROKU_KEY",
        "an API key of Heroku",
        &[assigned(&["heroku"], r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("HEROKU_TOKEN", "an API token of Heroku in its newer form", &[word(r"HRKU-AA[A-Za-z0-9_-]{58}").entropy(3.5)]),
    kind("RENDER_KEY", "an API key of Render", &[exact(r"rnd_[A-Za-z0-9]{32}").check(random)]),
    kind("RAILWAY_TOKEN", "a token of Railway", &[assigned(&["railway"], UUID)]),
    kind(
        "FLYIO_TOKEN",
        "an access token of Fly.io",
        &[word(r"fo1_[A-Za-z0-9_-]{43}").entropy(3.5), word(r"(?:fm1a_|fm1r_|fm2_)[A-Za-z0-9+/]{100,}={0,3}").entropy(4.0)],
    ),
    kind(
        "NETLIFY_TOKEN",
        "an access token of Netlify",
        &[word(r"nfp_[A-Za-z0-9]{36,}"), assigned(&["netlify"], r"(?i)[a-z0-9=_-]{40,46}").check(random)],
    ),
    kind(
        "VERCEL_TOKEN",
        "a token of Vercel",
        &[
            word(r"(?:vcp|vci|vca|vcr)_[A-Za-z0-9]{24,}").check(random).entropy(3.5),
            assigned(names!("vercel"), r"[A-Za-z0-9]{24}").check(mixed),
        ],
    ),
    kind(
        "SUPABASE_TOKEN",
        "an access token or secret key of Supabase",
        &[word(r"sbp_[a-f0-9]{40}"), word(r"sb_secret_[A-Za-z0-9_-]{28,}")],
    ),
    kind("DENO_DEPLOY_TOKEN", "an access token of Deno Deploy", &[exact(r"ddp_[A-Za-z0-9]{36}"), exact(r"ddo_[A-Za-z0-9]{36}")]),
    kind(
        "TERRAFORM_CLOUD_TOKEN",
        "an API token of HCP Terraform",
        &[assigned(&["hashicorp", "terraform", "tfe", "tfc", "atlas", "token"], r"(?i)[a-z0-9]{14}\.atlasv1\.[a-z0-9=_-]{60,70}")
            .entropy(3.5)],
    ),
    kind(
        "VAULT_TOKEN",
        "a service token of HashiCorp Vault",
        &[token(r"hvs\.[A-Za-z0-9_-]{90,}").entropy(3.5), exact(r"s\.[A-Za-z0-9]{24}").entropy(3.5).check(scattered)],
    ),
    kind(
        "VAULT_BATCH_TOKEN",
        "a batch or recovery token of HashiCorp Vault",
        &[token(r"hvb\.[A-Za-z0-9_-]{138,}").entropy(4.0), token(r"hvr\.[A-Za-z0-9_-]{90,}").entropy(3.5)],
    ),
    kind(
        "VAULT_UNSEAL_KEY",
        "an unseal key of HashiCorp Vault",
        &[assigned(&["unseal key", "unseal_key", "unsealkey"], r"[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{44}")],
    ),
    kind(
        "CONSUL_TOKEN",
        "a token of HashiCorp Consul",
        &[assigned(&["consul_http_token", "consul_token", "consul-token", "consultoken", "x-consul-token"], UUID)],
    ),
    kind("NOMAD_TOKEN", "a token of HashiCorp Nomad", &[assigned(&["nomad_token", "nomad-token", "nomadtoken", "x-nomad-token"], UUID)]),
    kind(
        "HCP_CLIENT_SECRET",
        "a client's secret of HCP",
        &[assigned(&["hcp_client_secret", "hcp-client-secret"], r"[A-Za-z0-9_-]{64}").entropy(3.5)],
    ),
    kind("PULUMI_TOKEN", "an access token of Pulumi", &[exact(r"pul-[a-f0-9]{40}")]),
    kind(
        "DOPPLER_TOKEN",
        "a token of Doppler",
        &[
            token(r"dp\.(?:pt|ct|sa|scim|audit)\.[A-Za-z0-9]{40,}"),
            token(r"dp\.st\.[A-Za-z0-9]{40,}"),
            token(r"dp\.st\.[a-z0-9_-]{2,35}\.[A-Za-z0-9]{40,}"),
        ],
    ),
    kind("INFISICAL_TOKEN", "a service token of Infisical", &[word(r"st\.[a-f0-9]{24}\.[a-f0-9]{32}\.[a-f0-9]{32}")]),
    kind(
        "ONEPASSWORD_SECRET_KEY",
        "a secret key of 1Password",
        &[word(r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}")
            .entropy(3.5)
            .without(&["xxxxx"])],
    ),
    kind("ONEPASSWORD_SERVICE_TOKEN", "a service account's token of 1Password", &[token(r"ops_eyJ[A-Za-z0-9+/]{250,}={0,3}").entropy(4.0)]),
    kind(
        "BITWARDEN_SECRET",
        "a client's secret or a machine's token of Bitwarden",
        &[
            assigned(&["bw_clientsecret", "bitwarden"], r"[A-Za-z0-9]{30}").check(mixed),
            token(r"0\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.[A-Za-z0-9]{30}:[A-Za-z0-9+/]{22}==").whole(),
        ],
    ),
    kind("AKEYLESS_KEY", "an access key of Akeyless", &[assigned(&["akeyless"], r"[A-Za-z0-9+/]{43}=")]),
    kind("CYBERARK_CONJUR_KEY", "an API key of Conjur", &[assigned(&["conjur"], r"[a-z0-9]{50,60}").check(mixed)]),
    kind("TAILSCALE_KEY", "a key of Tailscale", &[word(r"tskey-(?:auth-|api-|client-|scim-|webhook-)?[A-Za-z0-9]{10,}-[A-Za-z0-9]{20,}")]),
    kind("NGROK_TOKEN", "a token of ngrok", &[assigned(&["ngrok", "authtoken"], r"[0-9][A-Za-z0-9]{26}_[A-Za-z0-9]{16,22}")]),
    kind("ZEROTIER_TOKEN", "an API token of ZeroTier", &[assigned(&["zerotier"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind("DEFINED_NETWORKING_TOKEN", "an API token of Defined Networking", &[word(r"(?i)dnkey-[a-z0-9=_-]{26}-[a-z0-9=_-]{52}")]),
    kind(
        "MERAKI_KEY",
        "an API key of Cisco Meraki",
        &[
            assigned(names!("meraki"), r"[0-9a-f]{40}").entropy(3.0),
            assigned(&["meraki ", "meraki_dashboard", "x-cisco-meraki-api-key"], r"[0-9a-f]{40}").entropy(3.0),
        ],
    ),
    kind("SCALINGO_TOKEN", "an API token of Scalingo", &[word(r"tk-us-[A-Za-z0-9_-]{48}").entropy(2.0)]),
    kind("NORTHFLANK_TOKEN", "a token of Northflank", &[word(r"nf-[a-f0-9]{32}").near(&["northflank"])]),
    kind("OPENSHIFT_TOKEN", "a user's token of OpenShift", &[word(r"sha256~[A-Za-z0-9_-]{43}").entropy(3.5).without(&["xxxxxx"])]),
    kind(
        "RANCHER_TOKEN",
        "an API token of Rancher",
        &[token(r"token-[a-z0-9]{5}:[a-z0-9]{54}"), token(r"kubeconfig-u[a-z0-9.-]{4,40}:[a-z0-9]{54}")],
    ),
    kind(
        "KUBERNETES_BOOTSTRAP_TOKEN",
        "a token by which a node joins a cluster",
        &[assigned(&["--token", "token"], r"[a-z0-9]{6}\.[a-z0-9]{16}").check(mixed)],
    ),
    kind("PORTAINER_TOKEN", "an access token of Portainer", &[token(r"ptr_[A-Za-z0-9+/]{43}=").whole()]),
    kind(
        "PROXMOX_TOKEN",
        "an API token of Proxmox",
        &[token(r"PVEAPIToken=[A-Za-z0-9@._!-]{4,80}=[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").whole()],
    ),
    kind(
        "CROWDSTRIKE_SECRET",
        "a client's secret of CrowdStrike",
        &[assigned(&["crowdstrike", "falcon_client", "falcon_secret"], r"[A-Za-z0-9]{40}").check(mixed)],
    ),
    kind(
        "BACKBLAZE_KEY",
        "an application key of Backblaze B2",
        &[exact(r"K00[0-9][A-Za-z0-9+/]{27}").entropy(3.5).near(&["b2", "backblaze", "applicationkey", "application_key"])],
    ),
    kind("WASABI_SECRET", "a secret key of Wasabi", &[assigned(&["wasabi"], r"[A-Za-z0-9+/]{40}").check(mixed)]),
    kind(
        "BUNNY_KEY",
        "an API key of bunny.net",
        &[assigned(&["bunny"], r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-[0-9a-f]{4}-[0-9a-f]{4}")],
    ),
    kind("GODADDY_SECRET", "an API key's secret of GoDaddy", &[assigned(&["godaddy"], r"[A-Za-z0-9_]{22,37}").check(mixed).entropy(3.5)]),
    kind("NAMECHEAP_KEY", "an API key of Namecheap", &[assigned(&["namecheap"], r"[a-f0-9]{32}")]),
    kind(
        "DNSIMPLE_TOKEN",
        "a token of DNSimple",
        &[exact(r"dnsimple_[au]_[A-Za-z0-9]{32,}"), assigned(&["dnsimple"], r"[A-Za-z0-9]{32}").check(mixed)],
    ),
    kind("NS1_KEY", "an API key of NS1", &[assigned(&["ns1_api", "nsone", "x-nsone-key"], r"[A-Za-z0-9]{20}").check(mixed)]),
    kind("DUCKDNS_TOKEN", "a token of Duck DNS", &[assigned(&["duckdns"], UUID)]),
    kind(
        "EQUINIX_TOKEN",
        "an API token of Equinix Metal",
        &[assigned(&["packet_auth", "metal_auth", "equinix"], r"[A-Za-z0-9]{32}").check(mixed)],
    ),
    kind("CIVO_KEY", "an API key of Civo", &[assigned(&["civo"], r"[A-Za-z0-9]{50}").check(mixed)]),
    kind("EXOSCALE_KEY", "an API key of Exoscale", &[exact(r"EXO[a-f0-9]{24}")]),
    kind("UPCLOUD_TOKEN", "an API token of UpCloud", &[exact(r"ucat_[A-Z0-9]{26}")]),
    kind("TWINGATE_TOKEN", "an API key of Twingate", &[assigned(&["twingate"], r"[A-Za-z0-9_-]{80,}").entropy(4.0)]),
];
