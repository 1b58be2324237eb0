//! Chats, mail, telephony and notifications: tokens, and addresses that whoever knows them can write to.

use super::checks::{mixed, random};
use super::{KindSpec, assigned, exact, kind, names, token, word};

const UUID: &str = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

pub(super) const KINDS: &[KindSpec] = &[
    kind(
        "SLACK_BOT_TOKEN",
        "a bot's token of Slack",
        &[token(r"xoxb-[0-9]{10,13}-[0-9]{10}[A-Za-z0-9-]*").entropy(3.0), token(r"xoxb-[0-9]{8,14}-[A-Za-z0-9]{18,}").entropy(2.0)],
    ),
    kind(
        "SLACK_USER_TOKEN",
        "a user's token of Slack",
        &[token(r"xox[pe]-[0-9]{10,13}-[0-9]{10,13}-[0-9]{10,13}-[A-Za-z0-9-]{28,}").entropy(2.0)],
    ),
    kind("SLACK_APP_TOKEN", "an app-level token of Slack", &[token(r"(?i)xapp-[0-9]-[A-Z0-9]{1,}-[0-9]{1,}-[a-z0-9]{8,}").entropy(2.0)]),
    kind(
        "SLACK_CONFIGURATION_TOKEN",
        "a configuration token of Slack",
        &[token(r"(?i)xoxe\.xox[bp]-[0-9]-[A-Z0-9]{150,}").entropy(2.0), token(r"(?i)xoxe-[0-9]-[A-Z0-9]{146,}").entropy(2.0)],
    ),
    kind("SLACK_LEGACY_TOKEN", "a legacy token of Slack", &[token(r"xox[os]-[0-9]{1,}-[0-9]{1,}-[0-9]{1,}-[a-fA-F0-9]{1,}").entropy(2.0)]),
    kind(
        "SLACK_WORKSPACE_TOKEN",
        "a legacy workspace token of Slack",
        &[token(r"xox[ar]-[0-9]-[A-Za-z0-9]{8,}").entropy(2.0), token(r"xox[ar]-[A-Za-z0-9]{8,}").entropy(2.0)],
    ),
    kind(
        "SLACK_COOKIE",
        "the cookie of a session of Slack",
        &[token(r"xoxd-[A-Za-z0-9%+/=]{40,}"), token(r"xoxc-[0-9]{10,13}-[0-9]{10,13}-[0-9]{10,13}-[a-f0-9]{60,}")],
    ),
    kind(
        "SLACK_WEBHOOK",
        "a webhook of Slack",
        &[token(r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{43,}").entropy(3.0)],
    ),
    kind(
        "DISCORD_TOKEN",
        "a token of Discord",
        &[
            assigned(&["discord"], r"(?i)[a-f0-9]{64}"),
            assigned(&["discord", "bot", "token"], r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
            token(r"mfa\.[A-Za-z0-9_-]{84}"),
        ],
    ),
    kind("DISCORD_CLIENT_ID", "a client's id of Discord", &[assigned(names!("discord"), r"[0-9]{18}").entropy(2.0)]),
    kind(
        "DISCORD_CLIENT_SECRET",
        "a client's secret of Discord",
        &[assigned(&["discord"], r"(?i)[a-z0-9=_-]{32}").entropy(2.0).check(random)],
    ),
    kind("DISCORD_WEBHOOK", "a webhook of Discord", &[token(r"(?:discord|discordapp)\.com/api/webhooks/[0-9]{17,20}/[A-Za-z0-9_-]{60,}")]),
    kind(
        "TELEGRAM_BOT_TOKEN",
        "a bot's token of Telegram",
        &[
            assigned(&["telegr", "bot_token", "tg_token", "tg_bot"], r"[0-9]{5,16}:A(?i:[a-z0-9_-]{34})"),
            token(r"api\.telegram\.org/bot[0-9]{5,16}:A[A-Za-z0-9_-]{34}"),
        ],
    ),
    kind(
        "TEAMS_WEBHOOK",
        "a webhook of Microsoft Teams",
        &[token(
            r"webhook\.office\.com/webhookb2/[a-z0-9]{8}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{12}@[a-z0-9]{8}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{12}/IncomingWebhook/[a-z0-9]{32}/[a-z0-9]{8}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{12}",
        )],
    ),
    kind(
        "POWER_AUTOMATE_URL",
        "an address that starts a flow of Power Automate or Logic Apps",
        &[token(r"logic\.azure\.com(?::443)?/workflows/[a-f0-9]{32}/triggers/[A-Za-z0-9_-]{1,60}/[A-Za-z0-9/_?&.=%~-]{20,}").whole()],
    ),
    kind(
        "GOOGLE_CHAT_WEBHOOK",
        "a webhook of Google Chat",
        &[token(r"chat\.googleapis\.com/v1/spaces/[A-Za-z0-9_-]{4,20}/messages\?key=[A-Za-z0-9_-]{30,50}&token=[A-Za-z0-9_%-]{30,}")],
    ),
    kind("DINGTALK_WEBHOOK", "a webhook of DingTalk", &[token(r"oapi\.dingtalk\.com/robot/send\?access_token=[a-f0-9]{64}")]),
    kind(
        "FEISHU_WEBHOOK",
        "a webhook of Feishu or Lark",
        &[token(
            r"open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/(?:v2/)?hook/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        )],
    ),
    kind(
        "WECOM_WEBHOOK",
        "a webhook of WeCom",
        &[token(r"qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key=[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind(
        "WECHAT_SECRET",
        "an application's secret of WeChat",
        &[assigned(&["wechat", "weixin", "wx_secret", "wx_app_secret"], r"[a-f0-9]{32}")],
    ),
    kind("ZAPIER_WEBHOOK", "a webhook of Zapier", &[token(r"hooks\.zapier\.com/hooks/catch/[0-9]{5,9}/[a-z0-9]{6,10}")]),
    kind(
        "MAKE_WEBHOOK",
        "a webhook of Make",
        &[token(r"hook\.(?:eu1|eu2|us1|us2|integromat)\.(?:make\.)?(?:com|celonis\.com)/[a-z0-9]{32}")],
    ),
    kind(
        "IFTTT_KEY",
        "a key of IFTTT's webhooks",
        &[token(r"maker\.ifttt\.com/trigger/[A-Za-z0-9_{}-]{1,60}/with/key/[A-Za-z0-9_-]{20,}")],
    ),
    kind("N8N_KEY", "an API key of n8n", &[word(r"n8n_api_[a-f0-9]{60,}")]),
    kind("MATTERMOST_TOKEN", "an access token of Mattermost", &[assigned(&["mattermost"], r"(?i)[a-z0-9]{26}").check(random)]),
    kind(
        "ROCKETCHAT_TOKEN",
        "a token of Rocket.Chat",
        &[assigned(&["rocketchat", "rocket_chat", "rocket.chat"], r"[A-Za-z0-9_-]{43}").check(mixed)],
    ),
    kind("ZULIP_KEY", "an API key of Zulip", &[assigned(&["zulip"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind(
        "MATRIX_TOKEN",
        "an access token of Matrix",
        &[word(r"syt_[A-Za-z0-9+/=]{2,80}_[A-Za-z]{20}_[A-Za-z0-9]{6}"), word(r"m[ac]t_[A-Za-z0-9]{30}_[A-Za-z0-9]{6}")],
    ),
    kind("GITTER_TOKEN", "an access token of Gitter", &[assigned(&["gitter"], r"(?i)[a-z0-9_-]{40}").check(random)]),
    kind("ZOOM_SECRET", "a client's secret of Zoom", &[assigned(names!("zoom"), r"[A-Za-z0-9]{32}").check(mixed).entropy(3.5)]),
    kind(
        "WEBEX_TOKEN",
        "a token of Webex",
        &[
            assigned(&["webex"], r"[A-Za-z0-9]{64}_[A-Za-z0-9]{4}_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
            assigned(&["webex"], r"[a-f0-9]{64}"),
        ],
    ),
    kind(
        "LINE_TOKEN",
        "a channel's access token of LINE",
        &[
            assigned(&["line_channel", "line_access", "channel_access_token", "channelaccesstoken"], r"[A-Za-z0-9+/]{100,}={0,2}")
                .entropy(4.0),
            assigned(&["line_notify", "line_token"], r"[A-Za-z0-9]{43}").check(mixed),
        ],
    ),
    kind("TWILIO_KEY", "an API key of Twilio", &[word(r"SK[0-9a-fA-F]{32}").entropy(3.0)]),
    kind("TWILIO_AUTH_TOKEN", "an account's auth token of Twilio", &[assigned(&["twilio"], r"[a-f0-9]{32}").entropy(3.0)]),
    kind("SENDGRID_KEY", "an API key of SendGrid", &[word(r"SG\.(?i:[a-z0-9=_.-]{66})").entropy(2.0)]),
    kind("MAILGUN_KEY", "a private API key of Mailgun", &[assigned(&["mailgun"], r"(?i)key-[a-f0-9]{32}"), exact(r"key-[a-f0-9]{32}")]),
    kind("MAILGUN_PUBLIC_KEY", "a public validation key of Mailgun", &[assigned(&["mailgun"], r"(?i)pubkey-[a-f0-9]{32}")]),
    kind(
        "MAILGUN_SIGNING_KEY",
        "a webhook's signing key of Mailgun",
        &[assigned(&["mailgun"], r"(?i)[a-h0-9]{32}-[a-h0-9]{8}-[a-h0-9]{8}")],
    ),
    kind(
        "MAILCHIMP_KEY",
        "an API key of Mailchimp",
        &[
            assigned(&["mailchimp"], r"(?i)[a-f0-9]{32}-us[0-9]{2}"),
            assigned(&["mailchimp", "api_key", "apikey"], r"(?i)[a-f0-9]{32}-us[0-9]{1,2}").near(&["mailchimp"]),
        ],
    ),
    kind(
        "MANDRILL_KEY",
        "an API key of Mandrill",
        &[exact(r"md-[A-Za-z0-9_-]{22}").near(&["mandrill"]), assigned(&["mandrill"], r"[A-Za-z0-9_-]{22}").check(mixed)],
    ),
    kind(
        "BREVO_KEY",
        "an API key of Brevo",
        &[word(r"xkeysib-[a-f0-9]{64}-(?i:[a-z0-9]{16})").entropy(2.0), word(r"xsmtpsib-[a-f0-9]{64}-(?i:[a-z0-9]{16})")],
    ),
    kind("POSTMARK_TOKEN", "a token of Postmark", &[assigned(&["postmark"], UUID)]),
    kind("SPARKPOST_KEY", "an API key of SparkPost", &[assigned(&["sparkpost"], r"[a-f0-9]{40}")]),
    kind("MAILJET_KEY", "a key of Mailjet", &[assigned(&["mailjet", "mj_apikey"], r"[a-f0-9]{32}")]),
    kind("RESEND_KEY", "an API key of Resend", &[exact(r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}").check(random)]),
    kind("MAILERSEND_TOKEN", "an API token of MailerSend", &[word(r"mlsn\.[a-f0-9]{64}")]),
    kind("ELASTIC_EMAIL_KEY", "an API key of Elastic Email", &[assigned(&["elasticemail", "elastic_email"], r"[A-F0-9]{96}")]),
    kind("KLAVIYO_KEY", "a private API key of Klaviyo", &[exact(r"pk_[a-f0-9]{34}"), word(r"pk_[A-Za-z0-9]{6}_[a-f0-9]{34}")]),
    kind(
        "CONVERTKIT_SECRET",
        "an API secret of Kit",
        &[word(r"kit_[a-f0-9]{32}"), assigned(&["convertkit"], r"[A-Za-z0-9_-]{43}").check(mixed)],
    ),
    kind(
        "CUSTOMERIO_KEY",
        "a key of Customer.io",
        &[
            assigned(&["customerio", "customer_io", "customer.io"], r"[a-f0-9]{32}"),
            assigned(&["customerio", "customer_io"], r"[a-z0-9]{20}").check(mixed),
        ],
    ),
    kind("BRAZE_KEY", "an API key of Braze", &[assigned(&["braze"], UUID)]),
    kind("ITERABLE_KEY", "an API key of Iterable", &[assigned(names!("iterable"), r"[a-f0-9]{32}")]),
    kind(
        "MESSAGEBIRD_TOKEN",
        "an API token of MessageBird",
        &[assigned(&["messagebird", "message_bird", "message-bird"], r"(?i)[a-z0-9]{25}").check(random)],
    ),
    kind(
        "MESSAGEBIRD_CLIENT_ID",
        "a client's id of MessageBird",
        &[assigned(&["messagebird", "message_bird", "message-bird"], r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("VONAGE_SECRET", "an API secret of Vonage", &[assigned(names!("vonage", "nexmo"), r"[A-Za-z0-9]{16}").check(mixed)]),
    kind("PLIVO_TOKEN", "an auth token of Plivo", &[assigned(names!("plivo", "plivo_auth"), r"[A-Za-z0-9]{40}").check(mixed)]),
    kind("TELNYX_KEY", "an API key of Telnyx", &[exact(r"KEY[0-9A-F]{32}_[A-Za-z0-9]{22}")]),
    kind("SINCH_SECRET", "a key's secret of Sinch", &[assigned(names!("sinch"), r"[A-Za-z0-9~._-]{24,34}").check(mixed)]),
    kind("PUSHOVER_TOKEN", "a token of Pushover", &[assigned(&["pushover"], r"[a-z0-9]{30}").check(mixed)]),
    kind("PUSHBULLET_TOKEN", "an access token of Pushbullet", &[exact(r"o\.[A-Za-z0-9]{32}").check(super::checks::scattered)]),
    kind(
        "ONESIGNAL_KEY",
        "an API key of OneSignal",
        &[word(r"os_v2_(?:app|org)_[a-z0-9]{100,}"), assigned(&["onesignal"], r"[A-Za-z0-9]{48}").check(mixed)],
    ),
    kind("NTFY_TOKEN", "an access token of ntfy", &[exact(r"tk_[a-z0-9]{29}").check(random)]),
    kind("GOTIFY_TOKEN", "a token of Gotify", &[assigned(&["gotify"], r"[AC][A-Za-z0-9._-]{14}").check(random)]),
    kind(
        "PUBNUB_KEY",
        "a key of PubNub",
        &[token(r"sec-c-[A-Za-z0-9]{48}"), token(r"(?:pub|sub)-c-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("PUSHER_SECRET", "a secret of Pusher", &[assigned(names!("pusher", "pusher_app"), r"[a-f0-9]{20}")]),
    kind("ABLY_KEY", "an API key of Ably", &[assigned(&["ably"], r"[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{6}:[A-Za-z0-9_-]{40,}")]),
    kind("LIVEKIT_KEY", "an API key's id of LiveKit", &[exact(r"API[A-Za-z0-9]{12,14}").near(&["livekit"]).check(random)]),
    kind(
        "STREAM_SECRET",
        "an API secret of Stream",
        &[assigned(names!("getstream", "stream_io", "stream_chat"), r"[a-z0-9]{64}").check(mixed)],
    ),
    kind(
        "SENDBIRD_ACCESS_ID",
        "an application's id of Sendbird",
        &[assigned(&["sendbird"], r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("SENDBIRD_TOKEN", "an API token of Sendbird", &[assigned(&["sendbird"], r"(?i)[a-f0-9]{40}")]),
    kind(
        "INTERCOM_TOKEN",
        "an access token of Intercom",
        &[assigned(&["intercom"], r"(?i)[a-z0-9=_-]{60}").check(random), word(r"dG9rO[A-Za-z0-9+/]{50,}={0,2}")],
    ),
    kind("ZENDESK_KEY", "a secret key or API token of Zendesk", &[assigned(&["zendesk"], r"(?i)[a-z0-9]{40}").check(random)]),
    kind("FRESHDESK_KEY", "an API key of Freshdesk", &[assigned(&["freshdesk", "freshservice"], r"[A-Za-z0-9]{20}").check(mixed)]),
    kind("HELPSCOUT_SECRET", "a secret of Help Scout", &[assigned(&["helpscout", "help_scout"], r"[A-Za-z0-9]{32,40}").check(mixed)]),
    kind(
        "FRONT_TOKEN",
        "an API token of Front",
        &[assigned(names!("frontapp", "front_api"), r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}")],
    ),
    kind(
        "AWS_SES_SMTP_PASSWORD",
        "a password of Amazon SES for SMTP",
        &[assigned(&["ses_smtp", "smtp_pass", "ses_pass", "email_host_password", "mail_password"], r"B[A-Za-z0-9+/]{43}")
            .entropy(4.0)
            .check(mixed)],
    ),
    kind("WHATSAPP_TOKEN", "a token of WhatsApp's API", &[assigned(&["whatsapp", "wa_token"], r"EAA[A-Za-z0-9]{60,}").entropy(3.5)]),
];
