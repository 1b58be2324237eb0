//! Databases and queues: their connection strings, whose password is the value, and their services' keys.

use super::checks::{behind_equals, mixed, password_of_url, random};
use super::{KindSpec, Rule, assigned, exact, kind, names, token, word};

const UUID: &str = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

/// The password in an address. An `@` within it belongs escaped, so the first one ends it.
const fn address(pattern: &'static str) -> Rule<'static> {
    token(pattern).whole().without(&[]).check(password_of_url)
}

/// What a user's name and a password may be written with.
macro_rules! address {
    ($first:literal $(| $scheme:literal)*) => {
        address(concat!(
            "(?i)(?:",
            $first,
            $("|", $scheme,)*
            ")://[A-Za-z0-9._~%!$&*+;=|-]*:[A-Za-z0-9._~%!$&*+;=|^#?,:()-]{1,}@"
        ))
    };
}

pub(super) const KINDS: &[KindSpec] = &[
    kind(
        "POSTGRES_URL",
        "a connection string of PostgreSQL with its password",
        &[address!(
            "postgres"
                | "postgresql"
                | "postgresql\\+psycopg2"
                | "postgresql\\+psycopg"
                | "postgresql\\+asyncpg"
                | "postgis"
                | "cockroachdb"
                | "redshift"
                | "timescaledb"
        )],
    ),
    kind(
        "MYSQL_URL",
        "a connection string of MySQL or MariaDB with its password",
        &[address!(
            "mysql"
                | "mysql2"
                | "mysqlx"
                | "mysql\\+pymysql"
                | "mysql\\+mysqldb"
                | "mysql\\+aiomysql"
                | "mysql\\+mysqlconnector"
                | "mariadb"
                | "mariadb\\+pymysql"
        )],
    ),
    kind("MONGODB_URL", "a connection string of MongoDB with its password", &[address!("mongodb" | "mongodb\\+srv")]),
    kind(
        "REDIS_URL",
        "a connection string of Redis or Valkey with its password",
        &[address!("redis" | "rediss" | "valkey" | "valkeys" | "redis-sentinel")],
    ),
    kind("AMQP_URL", "a connection string of AMQP with its password", &[address!("amqp" | "amqps" | "pyamqp" | "stomp")]),
    kind(
        "MSSQL_URL",
        "a connection string of SQL Server with its password",
        &[address!("mssql" | "mssql\\+pyodbc" | "mssql\\+pymssql" | "sqlserver")],
    ),
    kind(
        "CLICKHOUSE_URL",
        "a connection string of ClickHouse with its password",
        &[address!("clickhouse" | "clickhouse\\+native" | "clickhouse\\+http" | "clickhouses" | "ch")],
    ),
    kind(
        "ORACLE_URL",
        "a connection string of Oracle with its password",
        &[address!("oracle" | "oracle\\+cx_oracle" | "oracle\\+oracledb")],
    ),
    kind("SNOWFLAKE_URL", "a connection string of Snowflake with its password", &[address!("snowflake")]),
    kind("CASSANDRA_URL", "a connection string of Cassandra or ScyllaDB with its password", &[address!("cassandra" | "scylla")]),
    kind(
        "NEO4J_URL",
        "a connection string of Neo4j with its password",
        &[address!("neo4j" | "neo4j\\+s" | "neo4j\\+ssc" | "bolt" | "bolt\\+s")],
    ),
    kind(
        "ELASTICSEARCH_URL",
        "a connection string of Elasticsearch or OpenSearch with its password",
        &[address!("elasticsearch" | "opensearch" | "es")],
    ),
    kind(
        "KAFKA_NATS_URL",
        "a connection string of NATS, Kafka or MQTT with its password",
        &[address!("nats" | "kafka" | "mqtt" | "mqtts" | "tls")],
    ),
    kind("LDAP_URL", "an address of LDAP with its password", &[address!("ldap" | "ldaps")]),
    kind("SMTP_URL", "an address of a mail server with its password", &[address!("smtp" | "smtps" | "imap" | "imaps" | "pop3")]),
    kind("FTP_URL", "an address of a file server with its password", &[address!("ftp" | "ftps" | "sftp" | "smb" | "ssh" | "scp")]),
    kind(
        "DATABASE_CONNECTION_PASSWORD",
        "the password of a connection string of ADO.NET, ODBC or libpq",
        &[token(r#"(?i);(?: ?)(?:password|pwd) ?= ?[^;"'\s<>{}$]{4,}"#).whole().without(&[]).check(value_of_pair)],
    ),
    kind(
        "JDBC_PASSWORD",
        "the password in an address of JDBC",
        &[token(r#"(?i)[?&]password=[^&;"'\s<>{}$]{4,}"#).whole().without(&[]).check(value_of_pair)],
    ),
    kind(
        "CLOUDINARY_URL",
        "an address of Cloudinary with its secret",
        &[token(r"cloudinary://[0-9]{10,20}:[A-Za-z0-9_-]{20,}@").whole().check(password_of_url)],
    ),
    kind(
        "MONGODB_ATLAS_SECRET",
        "a secret of a service account of MongoDB Atlas",
        &[word(r"mdb_sa_sk_[A-Za-z0-9_-]{40}"), assigned(&["atlas_private", "mongodb_atlas", "mongodbatlas", "mcli_private"], UUID)],
    ),
    kind("CLICKHOUSE_CLOUD_KEY", "an API key's secret of ClickHouse Cloud", &[exact(r"4b1d[A-Za-z0-9]{38}").entropy(3.0)]),
    kind(
        "DATABRICKS_TOKEN",
        "an access token of Databricks",
        &[exact(r"dapi[a-f0-9]{32}").entropy(3.0), exact(r"dapi[a-f0-9]{32}-[0-9]").entropy(3.0), word(r"dose[a-f0-9]{32}").entropy(3.0)],
    ),
    kind("DBT_TOKEN", "a token of dbt Cloud", &[word(r"dbt[cusp]_[A-Za-z0-9_=-]{30,}").check(random).entropy(3.5)]),
    kind(
        "SNOWFLAKE_PASSWORD",
        "a password of Snowflake in its settings",
        &[assigned(&["snowflake_password", "snowsql_pwd", "snowflake_token"], r#"[^"'\s;,<>{}$()]{8,}"#).check(super::checks::password)],
    ),
    kind("PLANETSCALE_TOKEN", "an API token of PlanetScale", &[word(r"pscale_tkn_[A-Za-z0-9_=.-]{32,}").entropy(3.0)]),
    kind("PLANETSCALE_OAUTH_TOKEN", "an OAuth token of PlanetScale", &[word(r"pscale_oauth_[A-Za-z0-9_=.-]{32,}").entropy(3.0)]),
    kind("PLANETSCALE_PASSWORD", "a password of PlanetScale", &[word(r"(?i)pscale_pw_[a-z0-9_=.-]{32,}").entropy(3.0)]),
    kind("NEON_KEY", "an API key of Neon", &[word(r"napi_[a-z0-9]{40,}")]),
    kind(
        "TURSO_TOKEN",
        "a token of Turso",
        &[assigned(&["turso", "libsql"], r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}")],
    ),
    kind(
        "UPSTASH_TOKEN",
        "a token of Upstash",
        &[
            assigned(&["upstash"], r"A[A-Za-z0-9+/_-]{50,}={0,2}").check(mixed).entropy(4.0),
            assigned(&["upstash", "qstash"], r"eyJ[A-Za-z0-9+/_-]{60,}={0,2}"),
            assigned(&["qstash_current", "qstash_next"], r"sig_[A-Za-z0-9]{28}"),
        ],
    ),
    kind("ASTRA_TOKEN", "a token of DataStax Astra", &[token(r"AstraCS:[A-Za-z]{24}:[a-f0-9]{64}")]),
    kind("COCKROACH_KEY", "an API key of CockroachDB Cloud", &[word(r"CCDB1_[A-Za-z0-9]{22}_[A-Za-z0-9]{40}")]),
    kind("AIVEN_PASSWORD", "a service's password of Aiven", &[word(r"AVNS_[A-Za-z0-9_-]{19}").check(random)]),
    kind(
        "AIVEN_TOKEN",
        "an API token of Aiven",
        &[assigned(&["aiven"], r"[A-Za-z0-9/+=]{256,}").entropy(4.0), word(r"aivenv1[A-Za-z0-9/+=]{60,}")],
    ),
    kind(
        "CONFLUENT_KEY",
        "an API key's id of Confluent",
        &[assigned(names!("confluent", "confluent_cloud"), r"(?i)[a-z0-9]{16}").check(random)],
    ),
    kind(
        "CONFLUENT_SECRET",
        "an API key's secret of Confluent",
        &[assigned(&["confluent"], r"(?i)[a-z0-9]{64}").check(random), word(r"cflt[A-Za-z0-9+/]{60}")],
    ),
    kind(
        "INFLUXDB_TOKEN",
        "an API token of InfluxDB",
        &[assigned(&["influx", "token"], r"[A-Za-z0-9_+/-]{86}==").entropy(4.0), word(r"apiv3_[A-Za-z0-9_-]{60,}")],
    ),
    kind(
        "ELASTIC_KEY",
        "an API key of Elastic",
        &[
            token(r"essu_[A-Za-z0-9+/=_-]{40,}"),
            assigned(&["elastic", "es_api_key", "kibana"], r"[A-Za-z0-9+/]{58}=="),
            word(r"ApiKey [A-Za-z0-9+/]{56,}={0,2}").check(super::checks::basic),
        ],
    ),
    kind("FAUNA_SECRET", "a secret of Fauna", &[exact(r"fn[AE][A-Za-z0-9_-]{37}").entropy(4.0).near(&["fauna"])]),
    kind("XATA_KEY", "an API key of Xata", &[word(r"xau_[A-Za-z0-9]{30,}")]),
    kind("TINYBIRD_TOKEN", "a token of Tinybird", &[word(r"p\.eyJ1IjogI[A-Za-z0-9_-]{40,}\.[A-Za-z0-9_-]{40,}")]),
    kind(
        "CONVEX_KEY",
        "a deploy key of Convex",
        &[token(r"(?:prod|dev|preview):[a-z]{3,20}-[a-z]{3,20}-[0-9]{1,4}\|[A-Za-z0-9+/=_-]{40,}")],
    ),
    kind(
        "HASURA_SECRET",
        "an administrator's secret of Hasura",
        &[assigned(
            &["hasura_graphql_admin_secret", "x-hasura-admin-secret", "hasura-admin-secret", "hasura_admin_secret"],
            r"[A-Za-z0-9!@#%^&*_+=.-]{12,}",
        )
        .check(mixed)],
    ),
    kind(
        "QDRANT_KEY",
        "an API key of Qdrant",
        &[
            assigned(&["qdrant"], r"[A-Za-z0-9_-]{54}").check(mixed),
            assigned(&["qdrant"], r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
        ],
    ),
    kind(
        "WEAVIATE_KEY",
        "an API key of Weaviate",
        &[assigned(&["weaviate", "wcs_api", "wcd_api"], r"[A-Za-z0-9]{36,}={0,2}").check(mixed)],
    ),
    kind("ZILLIZ_KEY", "an API key of Zilliz", &[assigned(&["zilliz", "milvus"], r"[a-f0-9]{72,}")]),
    kind(
        "MEILISEARCH_KEY",
        "a key of Meilisearch",
        &[assigned(&["meili"], r"[a-f0-9]{64}"), assigned(&["meili_master_key", "meili-master-key"], r"[A-Za-z0-9_-]{16,}").check(mixed)],
    ),
    kind("TYPESENSE_KEY", "an API key of Typesense", &[assigned(&["typesense"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind("FIVETRAN_SECRET", "an API key's secret of Fivetran", &[assigned(&["fivetran"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind("AIRBYTE_SECRET", "a client's secret of Airbyte", &[assigned(names!("airbyte"), r"[A-Za-z0-9]{32}").check(mixed)]),
    kind("REDIS_CLOUD_KEY", "an API key of Redis Cloud", &[assigned(&["rediscloud", "redis_cloud"], r"[SA][a-z0-9]{47,53}").check(mixed)]),
    kind(
        "COUCHBASE_SECRET",
        "a secret of Couchbase Capella",
        &[assigned(&["capella", "couchbase"], r"[A-Za-z0-9!@#%^&*/+=]{64}").entropy(4.0)],
    ),
];

/// `;Password=VALUE`.
fn value_of_pair(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let value = behind_equals(bytes)?;
    let begin = value.start + bytes[value.clone()].iter().take_while(|byte| **byte == b' ').count();
    (!super::checks::is_placeholder(&bytes[begin..])).then_some(begin..bytes.len())
}
