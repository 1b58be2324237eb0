//! Secrets of nobody in particular, known by where they stand: an address's password, a header, an assignment to a telling name.
//!
//! These are the ones that text without any secret resembles. So a name has to say what the value is without a doubt, and a value has
//! to look as if a program or a careful person had made it: no variable, no placeholder, no word.

use super::checks::{basic, behind_space, chosen, holds_template, is_placeholder, is_stock, is_template, password, password_of_url, words};
use super::{KindSpec, Rule, Starts, assigned, kind, token, word};
use std::ops::Range;

pub(super) const KINDS: &[KindSpec] = &[
    kind(
        "URL_PASSWORD",
        "the password in an address of any scheme",
        &[token(r"://[A-Za-z0-9._~%!$&*+;=|-]*:[A-Za-z0-9._~%!$&*+;=|^#?,:()-]{3,}@").whole().check(password_of_url)],
    ),
    kind(
        "BASIC_AUTH",
        "the credentials of a header for basic authentication",
        &[
            token(r"(?i)Authorization(?:: | ?: ?|=|: ?')Basic [A-Za-z0-9+/]{8,}={0,3}").whole().without(&[]).check(basic),
            token(r#"(?i)Authorization['"] ?[:,] ?['"]Basic [A-Za-z0-9+/]{8,}={0,3}"#).whole().without(&[]).check(basic),
        ],
    ),
    kind(
        "BEARER_TOKEN",
        "the token of a header for bearer authentication",
        &[
            token(r"(?i)Authorization(?:: |:|=)(?:Bearer|Token|Api-Token|ApiKey) [A-Za-z0-9_=~@.+/-]{16,}").whole().check(credential),
            token(r#"(?i)Authorization['"] ?[:,] ?['"](?:Bearer|Token) [A-Za-z0-9_=~@.+/-]{16,}"#).whole().check(credential),
        ],
    ),
    kind(
        "API_KEY_HEADER",
        "the value of a header for an API key",
        &[token(
            r"(?i)(?:X-Api-Key|X-Auth-Token|X-Access-Token|X-Api-Token|Api-Token|X-Vault-Token|Private-Token): ?[A-Za-z0-9_=~@.+/-]{16,}",
        )
        .whole()
        .check(header)],
    ),
    kind(
        "CURL_USER",
        "the user and password that a command line of curl has",
        &[
            word(r"-u [A-Za-z0-9_.@$-]{1,64}:[A-Za-z0-9_.@%!^&*+=~/-]{3,}").near(&["curl"]).whole().check(curl_user),
            word(r#"-u ["'][A-Za-z0-9_.@$ -]{1,64}:[^"'\s]{3,}"#).near(&["curl"]).whole().check(curl_user),
            word(r"--user [A-Za-z0-9_.@$-]{1,64}:[A-Za-z0-9_.@%!^&*+=~/-]{3,}").near(&["curl"]).whole().check(curl_user),
            word(r#"--user ["'][A-Za-z0-9_.@$ -]{1,64}:[^"'\s]{3,}"#).near(&["curl"]).whole().check(curl_user),
        ],
    ),
    kind(
        "PASSWORD",
        "a password that is assigned to a name",
        &[
            assigned(PASSWORDS, r"[A-Za-z0-9!@#%^&*_+=~?./-]{8,}").entropy(2.5).check(assigned_password),
            quoted(PASSWORDS, b'"', r#"[^"\s]{8,128}""#).entropy(2.5).check(quoted_password),
            quoted(PASSWORDS, b'\'', r"[^'\s]{8,128}'").entropy(2.5).check(quoted_password),
            quoted(PASSWORDS, b'`', r"[^`\s]{8,128}`").entropy(2.5).check(quoted_password),
            argument_of(PASSWORDS, r"[^\x1E]{4,1024}\x1E").check(said_password),
        ],
    ),
    kind(
        "CLIENT_SECRET",
        "a client's secret that is assigned to a name",
        &[assigned(
            &[
                "client_secret",
                "clientsecret",
                "client-secret",
                "consumer_secret",
                "consumersecret",
                "app_secret",
                "appsecret",
                "app-secret",
                "shared_secret",
                "signing_secret",
                "webhook_secret",
                "jwt_secret",
                "session_secret",
                "cookie_secret",
                "hmac_secret",
                "oauth_secret",
                "api_secret",
                "apisecret",
                "api-secret",
            ],
            r"[A-Za-z0-9_+/=~-]{16,}",
        )
        .entropy(3.5)
        .check(chosen)],
    ),
    kind(
        "SECRET_KEY",
        "a secret or private key that is assigned to a name",
        &[assigned(
            &[
                "secret_key",
                "secretkey",
                "secret-key",
                "private_key",
                "privatekey",
                "private-key",
                "encryption_key",
                "encryptionkey",
                "encryption-key",
                "signing_key",
                "signingkey",
                "signing-key",
                "master_key",
                "masterkey",
                "access_key_secret",
                "accesskeysecret",
                "hmac_key",
                "aes_key",
                "account_key",
                "accountkey",
            ],
            r"[A-Za-z0-9_+/=-]{20,}",
        )
        .entropy(3.7)
        .check(chosen)],
    ),
    kind(
        "API_KEY",
        "an API key that is assigned to a name",
        &[assigned(
            &[
                "api_key",
                "apikey",
                "api-key",
                "api key",
                "apitoken",
                "api_token",
                "api-token",
                "subscription-key",
                "subscription_key",
                "access_key",
                "accesskey",
                "access-key",
                "auth_key",
                "authkey",
            ],
            r"[A-Za-z0-9_+/=-]{20,}",
        )
        .entropy(3.7)
        .check(chosen)],
    ),
    kind(
        "ACCESS_TOKEN",
        "a token that is assigned to a name",
        &[assigned(
            &[
                "access_token",
                "accesstoken",
                "access-token",
                "auth_token",
                "authtoken",
                "auth-token",
                "refresh_token",
                "refreshtoken",
                "refresh-token",
                "bearer_token",
                "bearertoken",
                "bearer-token",
                "id_token",
                "session_token",
                "sessiontoken",
                "bot_token",
                "bottoken",
                "deploy_token",
                "deploytoken",
                "secret_token",
                "secrettoken",
                "personal_access_token",
                "private_token",
                "service_token",
            ],
            r"[A-Za-z0-9_+/=-]{20,}",
        )
        .entropy(3.7)
        .check(chosen)],
    ),
    kind(
        "SESSION_COOKIE",
        "the session in a cookie",
        &[token(
            r"(?i)(?:PHPSESSID|JSESSIONID|ASP\.NET_SessionId|connect\.sid|laravel_session|sessionid|_session_id)=[A-Za-z0-9%._~+/-]{20,}",
        )
        .whole()
        .entropy(3.5)
        .check(super::checks::behind_equals)],
    ),
    kind(
        "NETRC_PASSWORD",
        "a password in a file of .netrc",
        &[token(r"machine [A-Za-z0-9.-]{3,80}[ \r\n\t]{1,4}login [A-Za-z0-9@._+-]{1,80}[ \r\n\t]{1,4}password [!-~]{4,}")
            .whole()
            .check(credential)],
    ),
    kind(
        "COMMAND_LINE_PASSWORD",
        "a password on the command line of a program that logs in",
        &[
            token(r"sshpass -p ?[A-Za-z0-9!@#%^&*_+=~?./-]{4,}").whole().check(argument),
            token(r#"sshpass -p ?["'][^"'\s]{4,}"#).whole().check(argument),
            token(r"PGPASSWORD=[A-Za-z0-9!@#%^&*_+=~?./-]{4,}").whole().check(variable),
            token(r#"PGPASSWORD=["'][^"'\s]{4,}"#).whole().check(variable),
            token(r"MYSQL_PWD=[A-Za-z0-9!@#%^&*_+=~?./-]{4,}").whole().check(variable),
        ],
    ),
    kind(
        "OTP_SECRET",
        "the secret of a one-time password",
        &[assigned(&["totp_secret", "totp secret", "otp_secret", "mfa_secret", "2fa_secret", "otpauth"], r"[A-Z2-7]{16,}={0,6}")],
    ),
];

/// Names of passwords.
const PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "db_pass",
    "dbpass",
    "admin_pass",
    "root_pass",
    "user_pass",
    "smtp_pass",
    "ftp_pass",
    "ssh_pass",
    "sudo_pass",
    "mysql_pwd",
    "db_pwd",
    "pgpass",
];

/// A value that is assigned to a name between quotes: all there is up to the second.
const fn quoted(assigned_to: &'static [&'static str], quote: u8, pattern: &'static str) -> Rule<'static> {
    Rule { starts: Starts::Behind(quote), ..assigned(assigned_to, pattern).whole() }
}

/// What a call's argument of a name says.
const fn argument_of(assigned_to: &'static [&'static str], pattern: &'static str) -> Rule<'static> {
    Rule { starts: Starts::Argument, ..assigned(assigned_to, pattern).whole() }
}

/// What stands behind the last white space, if it looks as if it had been made.
fn credential(bytes: &[u8]) -> Option<Range<usize>> {
    let value = behind_space(bytes)?;
    let text = &bytes[value.clone()];
    let digits = text.iter().any(u8::is_ascii_digit);
    (digits && !is_placeholder(text)).then_some(value)
}

/// `Header: VALUE`.
fn header(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.iter().position(|&byte| byte == b':')? + 1;
    let begin = begin + bytes[begin..].iter().take_while(|byte| **byte == b' ').count();
    chosen(&bytes[begin..]).map(|value| begin + value.start..begin + value.end)
}

/// `-u user:VALUE`.
fn curl_user(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.iter().position(|&byte| byte == b':')? + 1;
    (!is_placeholder(&bytes[begin..])).then_some(begin..bytes.len())
}

/// `-p VALUE`.
fn argument(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.windows(2).position(|pair| pair == b"-p")? + 2;
    let begin = begin + bytes[begin..].iter().take_while(|byte| b" \"'".contains(byte)).count();
    (!is_placeholder(&bytes[begin..])).then_some(begin..bytes.len())
}

/// `NAME=VALUE`.
fn variable(bytes: &[u8]) -> Option<Range<usize>> {
    let begin = bytes.iter().position(|&byte| byte == b'=')? + 1;
    let begin = begin + bytes[begin..].iter().take_while(|byte| b"\"'".contains(byte)).count();
    (!is_placeholder(&bytes[begin..])).then_some(begin..bytes.len())
}

/// Behind a name like `password` stand expressions, paths and types more often than passwords.
fn assigned_password(bytes: &[u8]) -> Option<Range<usize>> {
    let is_member = bytes.windows(2).any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic());
    let is_path = bytes.contains(&b'/') && are_names(bytes);
    // `OID_SIG_WITH_SHA256`
    let is_constant = bytes.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
        && bytes.split(|byte| *byte == b'_').nth(2).is_some();
    if is_member || is_path || is_constant || is_name_of_one(bytes) { None } else { password(bytes) }
}

/// `VALUE"`: no template, no reference, no pattern and no rule for passwords.
fn quoted_password(bytes: &[u8]) -> Option<Range<usize>> {
    let value = &bytes[..bytes.len() - 1];
    // In a string within a string the quote has a backslash, or several.
    let value = &value[..value.len() - value.iter().rev().take_while(|byte| **byte == b'\\').count()];
    let holds = |part: &[u8]| value.windows(part.len()).any(|window| window == part);
    let is_pattern = value.first() == Some(&b'^') || holds(b"a-z") && holds(b"[") || holds(b"(?");
    let is_template = is_template(value) || is_pattern || holds_template(value);
    let letters = value.iter().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
    let digits = value.iter().any(u8::is_ascii_digit);
    let is_sign = |byte: &u8| b"!@#%^&*+?~$".contains(byte);
    let signs = value.iter().any(is_sign);
    // `required|min:8`, `a=b,c=1`: words and numbers.
    let is_list = || !signs && value.iter().filter(|byte| b"|:,;=".contains(byte)).nth(1).is_some() && are_names(value);
    let is_address = || holds(b"://") || matches!(value, [b'/', ..] | [b'.' | b'~', b'/', ..]);
    let is_reference = || (!signs || is_address()) && is_reference(value);
    // `Password*`, `Password?`
    let is_label = || !digits && value.split_last().is_some_and(|(_, rest)| !rest.iter().any(is_sign));
    let is_strong = letters && (digits || signs) || digits && signs;
    let stands_for_another = is_stock(value) || is_template || is_name_of_one(value);
    (is_strong && !stands_for_another && !is_reference() && !is_list() && !is_label()).then_some(0..value.len())
}

/// What an argument says that is called so is one, but for what stands in the place of one.
fn said_password(bytes: &[u8]) -> Option<Range<usize>> {
    let value = &bytes[..bytes.len() - 1];
    (!is_stock(value) && !is_template(value)).then_some(0..value.len())
}

/// A path, an address or a member of something: names with points or slashes between them.
fn is_reference(value: &[u8]) -> bool {
    let joins = value.contains(&b'/') || value.windows(2).any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic());
    joins && are_names(value)
}

/// `newPassword1`, `#login-password`, `page.password_2`: what is called one, with a number behind it at most.
fn is_name_of_one(value: &[u8]) -> bool {
    let says = |word: &[u8]| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_joined = value.iter().any(|byte| !byte.is_ascii_alphanumeric())
        || value.windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    let is_bare = value.first().is_some_and(u8::is_ascii_lowercase);
    digits <= 1
        && (is_joined || is_bare)
        && (says(b"password") || says(b"passwd") || says(b"passphrase"))
        && are_names(value)
        && !value.contains(&b'!')
}

/// Names and what stands between them.
fn are_names(value: &[u8]) -> bool {
    value.split(|byte| !byte.is_ascii_alphanumeric()).all(is_name)
}

/// A number, or a word with one behind it: nothing in which letters of both cases are mixed, but as names do.
fn is_name(word: &[u8]) -> bool {
    let letters = word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (letters, digits) = word.split_at(letters);
    let is_of = |case: fn(&u8) -> bool| letters.iter().all(case);
    let is_mixed = || words(letters) < 50 && letters.len() > 1;
    digits.iter().all(u8::is_ascii_digit) && (is_of(u8::is_ascii_lowercase) || is_of(u8::is_ascii_uppercase) || !is_mixed())
}
