//! Tokens of forges, package registries, build services, and of what developers work with.

use super::checks::{behind_equals, behind_quote, beyond_hex, mixed, random};
use super::{KindSpec, assigned, exact, kind, names, token, word};

const UUID: &str = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
/// Tokens of GitHub and GitLab have no form that words share, so only the plainest placeholder is none.
const X: &[&str] = &["xxxxxxxx"];

pub(super) const KINDS: &[KindSpec] = &[
    kind("GITHUB_TOKEN", "a personal access token of GitHub", &[token(r"ghp_[A-Za-z0-9]{36,}").without(X)]),
    kind("GITHUB_OAUTH", "an OAuth access token of GitHub", &[token(r"gho_[A-Za-z0-9]{36,}").without(X)]),
    kind(
        "GITHUB_FINE_GRAINED_TOKEN",
        "a fine-grained personal access token of GitHub",
        &[token(r"github_pat_[A-Za-z0-9_]{82,}").without(X)],
    ),
    kind("GITHUB_APP_TOKEN", "a token of a GitHub application", &[token(r"(?:ghu|ghs)_[A-Za-z0-9]{36,}").without(X)]),
    kind("GITHUB_REFRESH_TOKEN", "a refresh token of GitHub", &[token(r"ghr_[A-Za-z0-9]{36,}").without(X)]),
    kind(
        "GITHUB_CLIENT_SECRET",
        "a client's secret of a GitHub application",
        &[assigned(names!("github", "gh", "github_oauth"), r"[a-f0-9]{40}")],
    ),
    kind(
        "GITLAB_TOKEN",
        "a personal, project or group access token of GitLab",
        &[
            token(r"glpat-[A-Za-z0-9_-]{20,}").without(X).entropy(2.5),
            token(r"glpat-[A-Za-z0-9_-]{27,}\.[0-9a-z]{9}").without(X).entropy(3.5),
            token(r"glpat-[A-Za-z0-9_-]{20,}\.[0-9a-z]{2}\.[0-9a-z]{9}").without(X).entropy(3.5),
        ],
    ),
    kind("GITLAB_JOB_TOKEN", "a job's token of GitLab", &[token(r"glcbt-[A-Za-z0-9]{1,5}_[A-Za-z0-9_-]{20,}").without(X)]),
    kind("GITLAB_DEPLOY_TOKEN", "a deploy token of GitLab", &[token(r"gldt-[A-Za-z0-9_-]{20,}").without(X)]),
    kind("GITLAB_FEATURE_FLAG_TOKEN", "a feature flag client's token of GitLab", &[token(r"glffct-[A-Za-z0-9_-]{20,}").without(X)]),
    kind("GITLAB_FEED_TOKEN", "a feed's token of GitLab", &[token(r"glft-[A-Za-z0-9_-]{20,}").without(X)]),
    kind("GITLAB_MAIL_TOKEN", "an incoming mail's token of GitLab", &[token(r"glimt-[A-Za-z0-9_-]{25,}").without(X)]),
    kind("GITLAB_AGENT_TOKEN", "a token of GitLab's agent for Kubernetes", &[token(r"glagent-[A-Za-z0-9_-]{50,}").without(X)]),
    kind("GITLAB_OAUTH_SECRET", "an OAuth application's secret of GitLab", &[token(r"gloas-[A-Za-z0-9_-]{64,}").without(X)]),
    kind("GITLAB_TRIGGER_TOKEN", "a pipeline trigger's token of GitLab", &[token(r"glptt-[0-9a-f]{40,}").without(X)]),
    kind(
        "GITLAB_RUNNER_REGISTRATION_TOKEN",
        "a token by which a runner of GitLab registers",
        &[token(r"GR1348941[A-Za-z0-9_-]{20,}").without(X).entropy(3.0)],
    ),
    kind(
        "GITLAB_RUNNER_TOKEN",
        "a runner's token of GitLab",
        &[
            token(r"glrt-[A-Za-z0-9_-]{20,}").without(X),
            token(r"glrt-t[0-9]_[A-Za-z0-9_-]{27,}\.[0-9a-z]{9}").without(X),
            token(r"glrtr-[A-Za-z0-9_-]{20,}").without(X),
        ],
    ),
    kind("GITLAB_SCIM_TOKEN", "a SCIM token of GitLab", &[token(r"glsoat-[A-Za-z0-9_-]{20,}").without(X)]),
    kind("GITLAB_WORKSPACE_TOKEN", "a workspace's token of GitLab", &[token(r"glwt-[A-Za-z0-9_-]{20,}").without(X)]),
    kind("GITLAB_SESSION_COOKIE", "a session of GitLab", &[token(r"_gitlab_session=[0-9a-z]{32}").check(behind_equals)]),
    kind(
        "BITBUCKET_TOKEN",
        "an app password or access token of Bitbucket",
        &[word(r"ATBB[A-Za-z0-9_=.-]{20,}").entropy(3.5), token(r"ATCTT3[A-Za-z0-9_=-]{100,}")],
    ),
    kind("BITBUCKET_CLIENT_ID", "a client's id of Bitbucket", &[assigned(&["bitbucket"], r"(?i)[a-z0-9]{32}").check(random)]),
    kind("BITBUCKET_CLIENT_SECRET", "a client's secret of Bitbucket", &[assigned(&["bitbucket"], r"(?i)[a-z0-9=_-]{64}").check(random)]),
    kind(
        "ATLASSIAN_TOKEN",
        "an API token of Atlassian",
        &[
            token(r"ATATT3[A-Za-z0-9_=-]{100,}").entropy(3.5),
            assigned(&["atlassian", "confluence", "jira"], r"(?i)[a-z0-9]{20}[a-f0-9]{4}").entropy(3.5).check(random),
        ],
    ),
    kind(
        "GITEA_TOKEN",
        "an access token of Gitea, Forgejo or Gogs",
        &[assigned(&["gitea", "forgejo", "gogs", "codeberg"], r"[a-f0-9]{40}")],
    ),
    kind("GITEE_TOKEN", "an access token of Gitee", &[assigned(&["gitee"], r"[a-f0-9]{32}")]),
    kind(
        "SOURCEGRAPH_TOKEN",
        "an access token of Sourcegraph",
        &[
            exact(r"(?i)sgp_[a-f0-9]{16}_[a-f0-9]{40}").entropy(3.0),
            exact(r"(?i)sgp_local_[a-f0-9]{40}").entropy(3.0),
            exact(r"(?i)sgp_[a-f0-9]{40}").entropy(3.0),
            assigned(&["sourcegraph", "src_access_token"], r"(?i)[a-f0-9]{40}").entropy(3.0),
        ],
    ),
    kind(
        "CIRCLECI_TOKEN",
        "an API token of CircleCI",
        &[
            word(r"(?:CCIPAT|CCIPRJ)_[A-Za-z0-9]{16,24}_[a-f0-9]{40}"),
            assigned(&["circleci", "circle_token", "circle-token"], r"[a-f0-9]{40}"),
        ],
    ),
    kind(
        "TRAVIS_TOKEN",
        "an access token of Travis CI",
        &[assigned(names!("travis", "travisci", "travis_ci"), r"(?i)[a-z0-9]{22}").check(random)],
    ),
    kind(
        "DRONE_TOKEN",
        "an access token of Drone",
        &[assigned(&["droneci", "drone_token", "drone_rpc_secret"], r"(?i)[a-z0-9]{32}").check(random)],
    ),
    kind(
        "BUILDKITE_TOKEN",
        "a token of Buildkite",
        &[word(r"bkua_[a-f0-9]{40}"), word(r"bkaj_[A-Za-z0-9_-]{40,}"), assigned(&["buildkite_agent_token"], r"[a-f0-9]{50}")],
    ),
    kind(
        "JENKINS_TOKEN",
        "an API token of Jenkins",
        &[assigned(&["jenkins"], r"11[a-f0-9]{32}"), assigned(&["jenkins-crumb"], r"[a-f0-9]{64}")],
    ),
    kind("TEAMCITY_TOKEN", "an access token of TeamCity", &[word(r"eyJ0eXAiOiAiVENWMiJ9\.[A-Za-z0-9_-]{30,}\.[A-Za-z0-9_-]{30,}")]),
    kind(
        "CODECOV_TOKEN",
        "an access token of Codecov",
        &[assigned(&["codecov"], r"(?i)[a-z0-9]{32}").check(random), assigned(&["codecov"], UUID)],
    ),
    kind("COVERALLS_TOKEN", "a repository's token of Coveralls", &[assigned(&["coveralls"], r"[A-Za-z0-9]{33}").check(mixed)]),
    kind(
        "CODACY_TOKEN",
        "a token of Codacy",
        &[assigned(&["codacy"], r"[a-f0-9]{32}"), assigned(&["codacy"], r"[A-Za-z0-9]{20}").check(mixed)],
    ),
    kind(
        "CODECLIMATE_TOKEN",
        "a token of Code Climate",
        &[assigned(&["codeclimate", "cc_test_reporter"], r"[a-f0-9]{64}"), assigned(&["codeclimate"], r"[a-f0-9]{40}")],
    ),
    kind(
        "SONAR_TOKEN",
        "a token of SonarQube or SonarCloud",
        &[
            word(r"(?:squ|sqp|sqa)_[a-f0-9]{40}"),
            assigned(
                &["sonar_login", "sonar.login", "sonar-login", "sonarlogin", "sonar_token", "sonar.token", "sonar-token", "sonartoken"],
                r"(?i)(?:(?:squ_|sqp_|sqa_)[a-z0-9=_-]{40}|[a-z0-9=_-]{40})",
            )
            .check(random),
        ],
    ),
    kind(
        "SNYK_TOKEN",
        "an API token of Snyk",
        &[
            assigned(&["snyk"], r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
            token(r"snyk_(?:uat|sat)\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),
        ],
    ),
    kind("SEMGREP_TOKEN", "a token of Semgrep", &[assigned(&["semgrep"], r"[a-f0-9]{64}")]),
    kind(
        "NPM_TOKEN",
        "an access token of npm",
        &[
            word(r"(?i)npm_[a-z0-9]{36,}"),
            token(r"_authToken=[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").check(behind_equals),
        ],
    ),
    kind("NPM_AUTH", "a registry's credentials in npm's settings", &[word(r"_auth=[A-Za-z0-9+/]{16,}={0,2}").check(behind_equals)]),
    kind("YARN_TOKEN", "a registry's token in Yarn's settings", &[assigned(&["npmauthtoken"], r"[A-Za-z0-9_.-]{20,}").check(mixed)]),
    kind(
        "PYPI_TOKEN",
        "an API token of PyPI",
        &[token(r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"), token(r"pypi-AgENdGVzdC5weXBpLm9yZw[A-Za-z0-9_-]{50,}")],
    ),
    kind("RUBYGEMS_KEY", "an API key of RubyGems", &[word(r"rubygems_[a-f0-9]{48}")]),
    kind("NUGET_KEY", "an API key of NuGet", &[exact(r"oy2[a-z0-9]{43}")]),
    kind(
        "NUGET_PASSWORD",
        "a feed's password in NuGet's settings",
        &[token(r#"(?i)key="(?:ClearText)?Password" value="[^"\r\n]{8,100}"#)
            .whole()
            .entropy(1.0)
            .without(&["33f!!lloppa", "hal+9ooo", "xxxxxxxx"])
            .check(nuget_password)],
    ),
    kind("CLOJARS_TOKEN", "a deploy token of Clojars", &[token(r"(?i)CLOJARS_[a-z0-9]{60}").entropy(2.0)]),
    kind("CRATES_IO_TOKEN", "an API token of crates.io", &[exact(r"cio[A-Za-z0-9]{32}").check(mixed)]),
    kind("PACKAGIST_TOKEN", "a token of Private Packagist", &[token(r"packagist_(?:ack|acs|oat|ort|uut|utt|out)_[a-f0-9]{40,}")]),
    kind("HEX_KEY", "a key of Hex", &[assigned(&["hex_api_key"], r"[a-f0-9]{32}")]),
    kind("JSR_TOKEN", "a token of JSR", &[exact(r"jsr[dp]_[A-Za-z0-9]{32,}")]),
    kind("CLOUDSMITH_KEY", "an API key of Cloudsmith", &[assigned(&["cloudsmith"], r"[a-f0-9]{40}")]),
    kind("GEMFURY_TOKEN", "a token of Gemfury", &[assigned(&["gemfury", "fury_token"], r"[A-Za-z0-9]{20}").check(mixed)]),
    kind("DOCKER_HUB_TOKEN", "an access token of Docker Hub", &[word(r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{27,}")]),
    kind(
        "DOCKER_AUTH",
        "a registry's credentials in Docker's settings",
        &[token(r#""auth": ?"[A-Za-z0-9+/]{16,}={0,2}"#).check(behind_quote).entropy(3.0)],
    ),
    kind("ARTIFACTORY_KEY", "an API key of Artifactory", &[exact(r"AKCp[A-Za-z0-9]{69}").entropy(3.5)]),
    kind("ARTIFACTORY_REFERENCE_TOKEN", "a reference token of Artifactory", &[exact(r"cmVmd[A-Za-z0-9]{59}").entropy(3.5)]),
    kind("JFROG_KEY", "an API key of JFrog", &[assigned(&["jfrog", "artifactory", "bintray", "xray"], r"(?i)[a-z0-9]{73}").check(random)]),
    kind(
        "JFROG_IDENTITY_TOKEN",
        "an identity token of JFrog",
        &[assigned(&["jfrog", "artifactory", "bintray", "xray"], r"(?i)[a-z0-9]{64}").check(random)],
    ),
    kind("POSTMAN_KEY", "an API key of Postman", &[word(r"PMAK-(?i:[a-f0-9]{24}-[a-f0-9]{34})"), token(r"PMAT-[0-9A-Z]{26}")]),
    kind(
        "LAUNCHDARKLY_TOKEN",
        "an access token or key of LaunchDarkly",
        &[
            word(r"(?:api|sdk|mob)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
            assigned(&["launchdarkly"], r"(?i)[a-z0-9=_-]{40}").check(random),
        ],
    ),
    kind("SPLIT_KEY", "a key of Split", &[assigned(names!("split_io", "splitio"), r"[a-z0-9]{36,52}").check(mixed)]),
    kind("FLAGSMITH_KEY", "a server's key of Flagsmith", &[exact(r"ser\.[A-Za-z0-9]{22}").near(&["flagsmith"])]),
    kind(
        "STATSIG_KEY",
        "a secret key of Statsig",
        &[word(r"secret-[A-Za-z0-9]{40,}").check(random), word(r"console-[A-Za-z0-9]{40,}").check(random)],
    ),
    kind("CONFIGCAT_KEY", "an SDK key of ConfigCat", &[token(r"configcat-sdk-1/[A-Za-z0-9_-]{22}/[A-Za-z0-9_-]{22}")]),
    kind("PREFECT_KEY", "an API key of Prefect", &[word(r"pn[ub]_[A-Za-z0-9]{36}")]),
    kind("HARNESS_KEY", "an API key of Harness", &[token(r"(?:pat|sat)\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}")]),
    kind("SPACELIFT_SECRET", "an API key's secret of Spacelift", &[assigned(&["spacelift"], r"[a-f0-9]{64}")]),
    kind("ENV0_KEY", "an API key of env0", &[assigned(&["env0_api", "env0-api"], r"[A-Za-z0-9_-]{32}").check(mixed)]),
    kind("OCTOPUS_DEPLOY_KEY", "an API key of Octopus Deploy", &[exact(r"API-[A-Z0-9]{26}").entropy(3.0)]),
    kind("INFRACOST_KEY", "an API key of Infracost", &[exact(r"ico-[A-Za-z0-9]{32}").entropy(3.0).check(beyond_hex)]),
    kind("FIGMA_TOKEN", "an access token of Figma", &[token(r"fig[dour]_[A-Za-z0-9_-]{40,}").entropy(3.5)]),
    kind("LINEAR_KEY", "an API key or token of Linear", &[word(r"lin_(?:api|oauth|wh)_[A-Za-z0-9]{40,}")]),
    kind("LINEAR_CLIENT_SECRET", "a client's secret of Linear", &[assigned(&["linear"], r"(?i)[a-f0-9]{32}").entropy(2.0)]),
    kind(
        "NOTION_TOKEN",
        "an integration's token of Notion",
        &[exact(r"ntn_[0-9]{11}[A-Za-z0-9]{35}").entropy(4.0), exact(r"secret_[A-Za-z0-9]{43}").check(random).entropy(4.0)],
    ),
    kind("ASANA_CLIENT_ID", "a client's id of Asana", &[assigned(&["asana"], r"[0-9]{16}")]),
    kind("ASANA_CLIENT_SECRET", "a client's secret of Asana", &[assigned(&["asana"], r"(?i)[a-z0-9]{32}").check(random)]),
    kind(
        "ASANA_TOKEN",
        "a personal access token of Asana",
        &[
            assigned(&["asana", "authorization"], r"[012]/[0-9]{15,17}:[a-f0-9]{32}"),
            assigned(&["asana"], r"[12]/[0-9]{15,17}/[0-9]{15,17}:[a-f0-9]{32}"),
        ],
    ),
    kind("CLICKUP_TOKEN", "a personal token of ClickUp", &[word(r"pk_[0-9]{6,10}_[A-Z0-9]{32}")]),
    kind(
        "TRELLO_TOKEN",
        "a token of Trello",
        &[word(r"ATTA[a-f0-9]{64,}"), assigned(&["trello"], r"[a-f0-9]{64}"), assigned(&["trello"], r"[a-f0-9]{32}")],
    ),
    kind("SHORTCUT_TOKEN", "an API token of Shortcut", &[assigned(&["shortcut_api", "shortcut-token", "clubhouse"], UUID)]),
    kind(
        "YOUTRACK_TOKEN",
        "a permanent token of JetBrains's YouTrack, Hub or Space",
        &[
            token(r"perm:[A-Za-z0-9+/=_-]{4,80}\.[A-Za-z0-9+/=_-]{2,80}\.[A-Za-z0-9+/=_-]{20,}"),
            token(r"perm-[A-Za-z0-9+/=_-]{4,80}\.[A-Za-z0-9+/=_-]{2,80}\.[A-Za-z0-9+/=_-]{20,}"),
        ],
    ),
    kind("README_KEY", "an API key of ReadMe", &[word(r"rdme_[a-z0-9]{70}")]),
    kind("READTHEDOCS_TOKEN", "a token of Read the Docs", &[assigned(&["readthedocs", "rtd_token"], r"[a-f0-9]{40}")]),
    kind(
        "EXPO_TOKEN",
        "an access token of Expo",
        &[assigned(&["expo_token", "expo-token", "expotoken"], r"[A-Za-z0-9_-]{40}").check(mixed)],
    ),
    kind("BITRISE_TOKEN", "an access token of Bitrise", &[assigned(&["bitrise"], r"[A-Za-z0-9_-]{86}").entropy(4.0)]),
    kind(
        "APPVEYOR_TOKEN",
        "an API token of AppVeyor",
        &[word(r"v2\.[a-z0-9]{20}").near(&["appveyor"]), assigned(&["appveyor"], r"[a-z0-9]{20}").check(mixed)],
    ),
    kind(
        "SEMAPHORE_TOKEN",
        "an API token of Semaphore",
        &[assigned(names!("semaphore", "semaphoreci"), r"[A-Za-z0-9_-]{20,40}").check(mixed).entropy(3.5)],
    ),
    kind(
        "NX_CLOUD_TOKEN",
        "an access token of Nx Cloud",
        &[assigned(&["nx_cloud_access_token", "nxcloudaccesstoken"], r"[A-Za-z0-9+/=|-]{32,}").entropy(3.5)],
    ),
    kind("TURBOREPO_TOKEN", "a token of Turborepo's cache", &[assigned(&["turbo_token"], r"[A-Za-z0-9_-]{20,}").check(mixed)]),
    kind(
        "SIDEKIQ_SECRET",
        "the credentials of Sidekiq's private gems",
        &[assigned(&["bundle_enterprise__contribsys__com", "bundle_gems__contribsys__com"], r"(?i)[a-f0-9]{8}:[a-f0-9]{8}")],
    ),
    kind(
        "SIDEKIQ_URL",
        "an address of Sidekiq's private gems with its credentials",
        &[token(r"(?i)://[a-f0-9]{8}:[a-f0-9]{8}@(?:gems|enterprise)\.contribsys\.com").check(super::checks::user_of_url)],
    ),
    kind("FREEMIUS_SECRET_KEY", "a secret key of Freemius", &[assigned(&["secret_key"], r"sk_[!-&(-~]{29}").entropy(3.5).check(freemius)]),
    kind("SETTLEMINT_APPLICATION_TOKEN", "an application's access token of SettleMint", &[word(r"sm_aat_[A-Za-z0-9]{16}").entropy(3.0)]),
    kind("SETTLEMINT_PERSONAL_TOKEN", "a personal access token of SettleMint", &[word(r"sm_pat_[A-Za-z0-9]{16}").entropy(3.0)]),
    kind("SETTLEMINT_SERVICE_TOKEN", "a service's access token of SettleMint", &[word(r"sm_sat_[A-Za-z0-9]{16}").entropy(3.0)]),
    kind("CONTENTSTACK_TOKEN", "a token of Contentstack", &[exact(r"cs[a-f0-9]{32}").near(&["contentstack", "management", "delivery"])]),
    kind("REPLIT_TOKEN", "a token of Replit", &[assigned(&["replit", "connect.sid"], r"s%3A[A-Za-z0-9_-]{32}\.[A-Za-z0-9%]{40,}")]),
    kind(
        "VSCODE_MARKETPLACE_TOKEN",
        "a publisher's token of Open VSX",
        &[assigned(&["ovsx_pat", "ovsx"], UUID), word(r"ovsxat_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("CURSOR_KEY", "an API key of Cursor", &[word(r"key_[a-f0-9]{64}"), word(r"crsr_[a-f0-9]{64}")]),
    kind("STACKHAWK_KEY", "an API key of StackHawk", &[token(r"hawk\.[A-Za-z0-9_-]{20}\.[A-Za-z0-9_-]{20}")]),
    kind(
        "GITGUARDIAN_KEY",
        "an API key of GitGuardian",
        &[assigned(&["gitguardian"], r"[A-Fa-f0-9]{71}"), assigned(&["gitguardian"], r"[A-Za-z0-9]{64,71}").check(mixed)],
    ),
    kind(
        "SONATYPE_TOKEN",
        "a user's token of Sonatype's repositories",
        &[assigned(&["sonatype", "ossrh", "maven_central"], r"[A-Za-z0-9+/]{44}").check(mixed)],
    ),
];

/// What stands in the last pair of quotes.
fn nuget_password(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let value = behind_quote(bytes)?;
    (!super::checks::is_placeholder(&bytes[value.clone()])).then_some(value)
}

/// A key of Freemius has signs among its letters, or at least digits.
fn freemius(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    bytes[3..].iter().any(|byte| !byte.is_ascii_alphabetic() && *byte != b'_').then_some(0..bytes.len())
}
