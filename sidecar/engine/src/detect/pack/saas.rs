//! Everything else that gives out keys: identity, media, social networks, maps, data, office.

use super::checks::{mixed, random};
use super::{KindSpec, assigned, exact, kind, names, token, word};

const UUID: &str = r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

pub(super) const KINDS: &[KindSpec] = &[
    kind(
        "ADAFRUIT_KEY",
        "an API key of Adafruit IO",
        &[assigned(&["adafruit"], r"(?i)[a-z0-9_-]{32}").check(random), word(r"aio_[A-Za-z0-9]{28}").check(random)],
    ),
    kind("ADOBE_CLIENT_ID", "a client's id of Adobe", &[assigned(&["adobe"], r"(?i)[a-f0-9]{32}").entropy(2.0)]),
    kind("ADOBE_CLIENT_SECRET", "a client's secret of Adobe", &[exact(r"p8e-(?i:[a-z0-9_-]{32})").entropy(2.0).check(mixed)]),
    kind(
        "AIRTABLE_KEY",
        "an API key of Airtable",
        &[assigned(names!("airtable"), r"(?i)[a-z0-9]{17}").check(random), exact(r"key[A-Za-z0-9]{14}").near(&["airtable"]).check(random)],
    ),
    kind("AIRTABLE_TOKEN", "a personal access token of Airtable", &[word(r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}")]),
    kind("ALGOLIA_KEY", "an API key of Algolia", &[assigned(&["algolia"], r"(?i)[a-z0-9]{32}").check(random)]),
    kind(
        "AUTHRESS_KEY",
        "a service client's access key of Authress",
        &[word(r"(?i)(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[a-z0-9+/_=-]{30,}").entropy(2.0)],
    ),
    kind("AUTH0_SECRET", "a client's secret of Auth0", &[assigned(&["auth0"], r"[A-Za-z0-9_-]{64}").check(random).entropy(4.0)]),
    kind(
        "OKTA_TOKEN",
        "an access token of Okta",
        &[
            assigned(
                &["okta_", "oktatoken", "oktakey", "oktaapi", "okta-", "okta.", "okta api", "okta token", "ssws"],
                r"00[A-Za-z0-9_=-]{40}",
            )
            .entropy(3.5),
            token(r"SSWS 00[A-Za-z0-9_-]{40}").check(super::checks::behind_space),
        ],
    ),
    kind("ONELOGIN_SECRET", "a client's secret of OneLogin", &[assigned(&["onelogin"], r"[a-f0-9]{64}")]),
    kind(
        "CLERK_SECRET_KEY",
        "a secret key of Clerk",
        &[exact(r"sk_(?:live|test)_[A-Za-z0-9]{42}").near(&["clerk"]), word(r"ak_clerk_[A-Za-z0-9]{20,}")],
    ),
    kind("STYTCH_SECRET", "a secret of Stytch", &[word(r"secret-(?:live|test)-[A-Za-z0-9_-]{36,}={0,2}")]),
    kind(
        "WORKOS_KEY",
        "an API key of WorkOS",
        &[assigned(&["workos"], r"sk_[A-Za-z0-9_]{40,}"), assigned(&["workos"], r"sk_(?:live|test)_[A-Za-z0-9]{20,}")],
    ),
    kind("DESCOPE_KEY", "a management key of Descope", &[assigned(&["descope"], r"K[A-Za-z0-9]{60,}")]),
    kind(
        "PERSONA_KEY",
        "an API key of Persona",
        &[word(r"persona_(?:production|sandbox)_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("ONFIDO_TOKEN", "an API token of Onfido", &[word(r"api_(?:live|sandbox)(?:_us|_ca)?\.[A-Za-z0-9_-]{11}\.[A-Za-z0-9_-]{32}")]),
    kind(
        "DUO_SECRET",
        "an integration's secret of Duo",
        &[assigned(&["duo_skey", "duo_secret", "duo_sec", "skey"], r"[A-Za-z0-9]{40}").check(mixed)],
    ),
    kind(
        "BOX_SECRET",
        "a client's secret of Box",
        &[assigned(&["box_client", "box_secret", "box_api", "box_developer"], r"[A-Za-z0-9]{32}").check(mixed)],
    ),
    kind(
        "CONTENTFUL_TOKEN",
        "a token of Contentful",
        &[assigned(&["contentful"], r"(?i)[a-z0-9=_-]{43}").check(random), word(r"CFPAT-[A-Za-z0-9_-]{43}")],
    ),
    kind("SANITY_TOKEN", "a token of Sanity", &[exact(r"sk[A-Za-z0-9]{178}"), assigned(&["sanity"], r"sk[A-Za-z0-9]{70,}")]),
    kind(
        "STORYBLOK_TOKEN",
        "a token of Storyblok",
        &[assigned(&["storyblok"], r"[A-Za-z0-9]{22}tt"), assigned(&["storyblok"], r"[A-Za-z0-9]{22}tt-[0-9]{1,8}-[A-Za-z0-9]{20}")],
    ),
    kind("PRISMIC_TOKEN", "a token of Prismic", &[word(r"MC5[A-Za-z0-9]{13}\.[A-Za-z0-9_%-]{30,}")]),
    kind("DATOCMS_TOKEN", "a token of DatoCMS", &[assigned(&["datocms", "dato_cms", "dato_api"], r"[a-f0-9]{30}")]),
    kind("GHOST_KEY", "an administrator's key of Ghost", &[assigned(&["ghost"], r"[a-f0-9]{24}:[a-f0-9]{64}")]),
    kind("STRAPI_TOKEN", "an API token of Strapi", &[assigned(&["strapi"], r"[a-f0-9]{256}")]),
    kind("WEBFLOW_TOKEN", "an API token of Webflow", &[assigned(&["webflow"], r"[a-f0-9]{64}")]),
    kind(
        "WORDPRESS_SALT",
        "a key or a salt of WordPress",
        &[assigned(
            &["auth_key", "secure_auth_key", "logged_in_key", "nonce_key", "auth_salt", "secure_auth_salt", "logged_in_salt", "nonce_salt"],
            r"[!-&(-~ ]{64}",
        )
        .entropy(4.5)],
    ),
    kind("SQUARESPACE_TOKEN", "an access token of Squarespace", &[assigned(&["squarespace"], UUID)]),
    kind("DROPBOX_SECRET", "an API secret of Dropbox", &[assigned(names!("dropbox"), r"(?i)[a-z0-9]{15}").check(random)]),
    kind(
        "DROPBOX_TOKEN",
        "an access token of Dropbox",
        &[
            word(r"sl\.[A-Za-z0-9=_-]{120,}"),
            word(r"sl\.u\.[A-Za-z0-9=_-]{120,}"),
            assigned(&["dropbox"], r"(?i)[a-z0-9]{11}AAAAAAAAAA[a-z0-9=_-]{43}"),
        ],
    ),
    kind("FRAMEIO_TOKEN", "an API token of Frame.io", &[token(r"fio-u-(?i:[a-z0-9=_-]{64})")]),
    kind("HUBSPOT_KEY", "an API key of HubSpot", &[assigned(&["hubspot", "hapikey"], UUID)]),
    kind(
        "HUBSPOT_TOKEN",
        "a private app's access token of HubSpot",
        &[word(r"pat-(?:na1|na2|na3|eu1|ap1)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")],
    ),
    kind("SALESFORCE_TOKEN", "a session of Salesforce", &[word(r"00D[A-Za-z0-9]{12}![A-Za-z0-9._]{60,}")]),
    kind(
        "SALESFORCE_SECRET",
        "a consumer's secret of Salesforce",
        &[
            assigned(&["salesforce", "sfdc", "sf_consumer", "sf_client"], r"[A-F0-9]{64}"),
            assigned(&["salesforce", "sfdc", "consumer_key", "client_id"], r"3MVG9[A-Za-z0-9._]{80}"),
        ],
    ),
    kind("PIPEDRIVE_TOKEN", "an API token of Pipedrive", &[assigned(&["pipedrive"], r"[a-f0-9]{40}")]),
    kind("ZOHO_TOKEN", "a token of Zoho", &[word(r"1000\.[a-f0-9]{32}\.[a-f0-9]{32}")]),
    kind(
        "MONDAY_TOKEN",
        "an API token of monday.com",
        &[assigned(&["monday"], r"eyJhbGciOiJIUzI1NiJ9\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}")],
    ),
    kind("DOCUSIGN_SECRET", "an integration's key or secret of Docusign", &[assigned(&["docusign"], UUID)]),
    kind(
        "CALENDLY_TOKEN",
        "a token of Calendly",
        &[assigned(&["calendly"], r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"), word(r"cal_live_[a-f0-9]{32}")],
    ),
    kind("TYPEFORM_TOKEN", "a token of Typeform", &[word(r"(?i)tfp_[a-z0-9=_.-]{44,}")]),
    kind("JOTFORM_KEY", "an API key of Jotform", &[assigned(&["jotform"], r"[a-f0-9]{32}")]),
    kind("RETOOL_KEY", "an API token of Retool", &[word(r"retool_[0-9a-z]{26}")]),
    kind("APIFY_TOKEN", "an API token of Apify", &[word(r"apify_api_[A-Za-z0-9]{36}")]),
    kind(
        "SCRAPING_KEY",
        "a key of ScraperAPI, ScrapingBee or Bright Data",
        &[
            assigned(&["scraperapi", "scraper_api"], r"[a-f0-9]{32}"),
            assigned(&["scrapingbee", "scraping_bee"], r"[A-Z0-9]{80}"),
            assigned(&["brightdata", "bright_data", "luminati"], UUID),
        ],
    ),
    kind(
        "BROWSERLESS_KEY",
        "a key of Browserbase or BrowserStack",
        &[word(r"bb_(?:live|test)_[A-Za-z0-9_-]{27}"), assigned(names!("browserstack"), r"[A-Za-z0-9]{20}").check(mixed)],
    ),
    kind("SAUCELABS_KEY", "an access key of Sauce Labs", &[assigned(&["saucelabs", "sauce_access", "sauce_labs"], UUID)]),
    kind(
        "LAMBDATEST_KEY",
        "an access key of LambdaTest",
        &[assigned(&["lambdatest", "lt_access_key"], r"[A-Za-z0-9]{50}").check(mixed), word(r"LT_[A-Za-z0-9]{47}")],
    ),
    kind("INTRA42_SECRET", "a client's secret of 42", &[exact(r"s-s4t2(?:ud|af)-(?i:[a-f0-9]{64})")]),
    kind(
        "LINKEDIN_CLIENT_ID",
        "a client's id of LinkedIn",
        &[assigned(names!("linkedin", "linked_in", "linked-in"), r"(?i)[a-z0-9]{14}").entropy(2.0)],
    ),
    kind(
        "LINKEDIN_CLIENT_SECRET",
        "a client's secret of LinkedIn",
        &[
            assigned(names!("linkedin", "linked_in", "linked-in"), r"(?i)[a-z0-9]{16}").entropy(2.0),
            word(r"WPL_AP[01]\.[A-Za-z0-9]{16}\.[A-Za-z0-9+/]{6}==").whole(),
        ],
    ),
    kind("LINKEDIN_TOKEN", "an access token of LinkedIn", &[word(r"AQ[UVWX][A-Za-z0-9_-]{150,}").entropy(4.5)]),
    kind(
        "LOOKER_CLIENT_ID",
        "a client's id of Looker",
        &[assigned(names!("looker", "lookersdk", "looker_sdk"), r"(?i)[a-z0-9]{20}").check(random)],
    ),
    kind(
        "LOOKER_CLIENT_SECRET",
        "a client's secret of Looker",
        &[assigned(names!("looker", "lookersdk", "looker_sdk"), r"(?i)[a-z0-9]{24}").check(random)],
    ),
    kind(
        "TABLEAU_TOKEN",
        "a personal access token of Tableau",
        &[assigned(&["tableau", "pat_secret", "token"], r"[A-Za-z0-9+/]{22}==:[A-Za-z0-9]{32}")],
    ),
    kind(
        "MAPBOX_TOKEN",
        "an access token of Mapbox",
        &[assigned(&["mapbox"], r"(?i)pk\.[a-z0-9]{60}\.[a-z0-9]{22}"), word(r"(?:pk|sk|tk)\.eyJ[A-Za-z0-9_-]{40,}\.[A-Za-z0-9_-]{20,}")],
    ),
    kind(
        "MAXMIND_KEY",
        "a license key of MaxMind",
        &[
            assigned(&["maxmind", "license", "geoip", "geolite"], r"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk").entropy(4.0),
            assigned(&["maxmind", "geoip", "geolite"], r"[A-Za-z0-9]{16}").check(mixed),
        ],
    ),
    kind(
        "HERE_KEY",
        "an API key of HERE",
        &[assigned(&["here_api", "here_key", "here_maps", "hereapikey", "here_app"], r"[A-Za-z0-9_-]{43}").check(mixed)],
    ),
    kind("TOMTOM_KEY", "an API key of TomTom", &[assigned(&["tomtom"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind(
        "MAPTILER_KEY",
        "a key of MapTiler or Stadia",
        &[assigned(&["maptiler"], r"[A-Za-z0-9]{20}").check(mixed), token(r"api\.maptiler\.com/[a-z0-9/.-]{1,80}\?key=[A-Za-z0-9]{20}")],
    ),
    kind("MAPQUEST_KEY", "a key of MapQuest", &[assigned(&["mapquest"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind(
        "GEOAPIFY_KEY",
        "a key of Geoapify, OpenCage or LocationIQ",
        &[assigned(&["geoapify", "opencage"], r"[a-f0-9]{32}"), word(r"pk\.[a-f0-9]{32}")],
    ),
    kind(
        "OPENWEATHER_KEY",
        "an API key of OpenWeather",
        &[assigned(&["openweather", "open_weather", "owm_api", "owm_key", "appid"], r"[a-f0-9]{32}")],
    ),
    kind(
        "WEATHERAPI_KEY",
        "an API key of a weather service",
        &[assigned(
            &["weatherapi", "weather_api", "weatherbit", "tomorrow_io", "tomorrowio", "climacell", "accuweather"],
            r"[A-Za-z0-9]{31,32}",
        )
        .check(mixed)],
    ),
    kind("NASA_KEY", "an API key of NASA", &[assigned(&["nasa"], r"[A-Za-z0-9]{40}").check(mixed)]),
    kind(
        "NYTIMES_TOKEN",
        "an API key of the New York Times",
        &[assigned(&["nytimes", "new-york-times", "newyorktimes", "nyt_api"], r"(?i)[a-z0-9=_-]{32}").check(random)],
    ),
    kind(
        "NEWSAPI_KEY",
        "an API key of News API or The Guardian",
        &[assigned(&["newsapi", "news_api"], r"[a-f0-9]{32}"), assigned(&["guardian_api"], UUID)],
    ),
    kind("RAPIDAPI_KEY", "a key of RapidAPI", &[assigned(&["rapidapi"], r"(?i)[a-z0-9_-]{50}").check(random)]),
    kind("TMDB_KEY", "an API key of TMDB", &[assigned(&["tmdb", "themoviedb"], r"[a-f0-9]{32}")]),
    kind("SPOTIFY_SECRET", "a client's secret of Spotify", &[assigned(&["spotify", "spotipy"], r"[a-f0-9]{32}")]),
    kind("LASTFM_KEY", "an API key of Last.fm", &[assigned(&["lastfm", "last_fm"], r"[a-f0-9]{32}")]),
    kind("SOUNDCLOUD_SECRET", "a client's secret of SoundCloud", &[assigned(&["soundcloud"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind(
        "TWITCH_TOKEN",
        "an access token of Twitch",
        &[assigned(&["twitch"], r"(?i)[a-z0-9]{30}").check(random), token(r"oauth:[a-z0-9]{30}")],
    ),
    kind("STEAM_KEY", "a web API key of Steam", &[assigned(&["steam"], r"[A-F0-9]{32}")]),
    kind("RIOT_KEY", "an API key of Riot Games", &[word(r"RGAPI-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")]),
    kind("ROBLOX_COOKIE", "a session of Roblox", &[token(r"_\|WARNING:-DO-NOT-SHARE-THIS\.[A-Za-z0-9 .,'_-]{20,200}\|_[A-F0-9]{100,}")]),
    kind("TWITTER_KEY", "a consumer's key of X", &[assigned(&["twitter"], r"(?i)[a-z0-9]{25}").check(random)]),
    kind("TWITTER_SECRET", "a consumer's secret of X", &[assigned(&["twitter"], r"(?i)[a-z0-9]{50}").check(random)]),
    kind(
        "TWITTER_ACCESS_TOKEN",
        "an access token of X",
        &[assigned(&["twitter", "tweepy", "x_access", "access_token"], r"[0-9]{15,25}-[A-Za-z0-9]{20,40}")],
    ),
    kind("TWITTER_ACCESS_SECRET", "an access token's secret of X", &[assigned(&["twitter"], r"(?i)[a-z0-9]{45}").check(random)]),
    kind("TWITTER_BEARER_TOKEN", "a bearer token of X", &[word(r"AAAAAAAAAAAAAAAAAAAAAA[A-Za-z0-9%]{80,100}").entropy(3.0)]),
    kind(
        "FACEBOOK_SECRET",
        "an application's secret of Facebook",
        &[assigned(&["facebook", "fb_app", "fb_secret", "meta_app"], r"(?i)[a-f0-9]{32}").entropy(3.0)],
    ),
    kind(
        "FACEBOOK_ACCESS_TOKEN",
        "an application's access token of Facebook",
        &[assigned(&["facebook", "access_token", "access token", "fb_token"], r"[0-9]{15,16}(?:\||%7C)[A-Za-z0-9_-]{27,40}").entropy(3.0)],
    ),
    kind(
        "FACEBOOK_PAGE_TOKEN",
        "a page's or user's access token of Facebook",
        &[word(r"EAA[MC](?i:[a-z0-9]{100,})").entropy(4.0), word(r"EAA[A-Z](?i:[a-z0-9]{140,})").entropy(4.5)],
    ),
    kind("INSTAGRAM_TOKEN", "an access token of Instagram", &[word(r"IG(?:QVJ|QWR|AAT|AAI|AA0)[A-Za-z0-9_-]{90,}").entropy(4.0)]),
    kind(
        "THREADS_TOKEN",
        "a token of Threads or TikTok",
        &[word(r"THAA[A-Za-z0-9_-]{100,}").entropy(4.0), word(r"act\.[A-Za-z0-9!*]{60,}").near(&["tiktok"])],
    ),
    kind("REDDIT_SECRET", "a client's secret of Reddit", &[assigned(names!("reddit"), r"[A-Za-z0-9_-]{27,30}").check(mixed)]),
    kind("PINTEREST_TOKEN", "an access token of Pinterest", &[word(r"pina_[A-Za-z0-9]{40,}"), word(r"pinr\.[A-Za-z0-9._-]{40,}")]),
    kind(
        "STRAVA_SECRET",
        "a client's secret of Strava or Fitbit",
        &[assigned(&["strava"], r"[a-f0-9]{40}"), assigned(&["fitbit"], r"[a-f0-9]{32}")],
    ),
    kind("FLICKR_KEY", "an access key of Flickr", &[assigned(&["flickr"], r"(?i)[a-z0-9]{32}").check(random)]),
    kind("UNSPLASH_KEY", "an access key of Unsplash", &[assigned(&["unsplash"], r"[A-Za-z0-9_-]{43}").check(mixed)]),
    kind(
        "PEXELS_PIXABAY_KEY",
        "an API key of Pexels or Pixabay",
        &[assigned(&["pexels"], r"[A-Za-z0-9]{56}").check(mixed), assigned(&["pixabay"], r"[0-9]{7,8}-[a-f0-9]{25}")],
    ),
    kind("GIPHY_KEY", "an API key of Giphy", &[assigned(&["giphy"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind("CLOUDINARY_SECRET", "an API secret of Cloudinary", &[assigned(&["cloudinary"], r"[A-Za-z0-9_-]{27}").check(mixed)]),
    kind("IMGUR_SECRET", "a client's secret of Imgur", &[assigned(&["imgur"], r"[a-f0-9]{40}")]),
    kind("UPLOADCARE_KEY", "a secret key of Uploadcare", &[assigned(&["uploadcare"], r"[a-f0-9]{20}")]),
    kind(
        "UPLOADTHING_SECRET",
        "a secret of UploadThing",
        &[assigned(&["uploadthing"], r"sk_live_[a-f0-9]{64}"), assigned(&["uploadthing"], r"eyJhcGlLZXkiOi[A-Za-z0-9+/=]{60,}")],
    ),
    kind("MUX_SECRET", "a token's secret of Mux", &[assigned(names!("mux", "mux_token"), r"[A-Za-z0-9+/]{75}").check(mixed)]),
    kind("VIMEO_TOKEN", "an access token of Vimeo", &[assigned(&["vimeo"], r"[a-f0-9]{32}")]),
    kind("AGORA_CERTIFICATE", "a certificate of Agora", &[assigned(&["agora"], r"[a-f0-9]{32}")]),
    kind(
        "CLEARBIT_HUNTER_KEY",
        "a key of Clearbit or Hunter",
        &[assigned(&["clearbit"], r"sk_[a-f0-9]{32}"), assigned(names!("hunter", "hunterio"), r"[a-f0-9]{40}")],
    ),
    kind(
        "APOLLO_KEY",
        "an API key of Apollo GraphQL",
        &[word(r"(?:service|user):[A-Za-z0-9_-]{1,40}:[A-Za-z0-9_-]{22}").near(&["apollo"])],
    ),
    kind(
        "ABSTRACT_KEY",
        "a key of an address service",
        &[
            assigned(
                &[
                    "abstractapi",
                    "ipstack",
                    "ipapi",
                    "currencylayer",
                    "fixer",
                    "numverify",
                    "mailboxlayer",
                    "aviationstack",
                    "mediastack",
                    "positionstack",
                ],
                r"[a-f0-9]{32}",
            ),
            assigned(&["ipinfo"], r"[a-f0-9]{14}"),
            assigned(&["ipgeolocation", "ipdata"], r"[a-f0-9]{32,56}"),
        ],
    ),
    kind("SHODAN_KEY", "an API key of Shodan", &[assigned(&["shodan"], r"[A-Za-z0-9]{32}").check(mixed)]),
    kind("VIRUSTOTAL_KEY", "an API key of VirusTotal", &[assigned(&["virustotal", "virus_total", "vt_api", "x-apikey"], r"[a-f0-9]{64}")]),
    kind("ABUSEIPDB_KEY", "an API key of AbuseIPDB", &[assigned(&["abuseipdb"], r"[a-f0-9]{80}")]),
    kind(
        "CENSYS_SECRET",
        "an API secret of Censys",
        &[assigned(&["censys"], r"[A-Za-z0-9]{32}").check(mixed), word(r"censys_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,}")],
    ),
    kind("HIBP_KEY", "an API key of Have I Been Pwned", &[assigned(&["hibp", "haveibeenpwned", "pwned"], r"[a-f0-9]{32}")]),
    kind(
        "GREYNOISE_KEY",
        "a key of GreyNoise or SecurityTrails",
        &[assigned(&["greynoise"], r"[A-Za-z0-9]{64}").check(mixed), assigned(&["securitytrails"], r"[A-Za-z0-9]{32}").check(mixed)],
    ),
    kind("URLSCAN_KEY", "an API key of urlscan.io", &[assigned(&["urlscan"], UUID)]),
    kind("OTX_KEY", "an API key of AlienVault OTX", &[assigned(&["otx_api", "otx_key", "alienvault"], r"[a-f0-9]{64}")]),
    kind("RECORDED_FUTURE_KEY", "a key of Recorded Future", &[assigned(&["recordedfuture", "recorded_future"], r"[a-f0-9]{32}")]),
    kind("TENABLE_KEY", "a key of Tenable", &[assigned(&["tenable", "nessus"], r"[a-f0-9]{64}"), assigned(&["qualys"], UUID)]),
    kind("WIZ_SECRET", "a client's secret of Wiz", &[assigned(&["wiz_client", "wiz_secret"], r"[A-Za-z0-9]{64}").check(mixed)]),
    kind("KEYGEN_KEY", "a token of Keygen", &[word(r"(?:admin|prod|user|activ|env)-[a-f0-9]{64}v3")]),
    kind(
        "TICKETMASTER_KEY",
        "an API key of an events service",
        &[assigned(&["ticketmaster"], r"[A-Za-z0-9]{32}").check(mixed), assigned(&["eventbrite"], r"[A-Z0-9]{20}").check(mixed)],
    ),
    kind(
        "YELP_FOURSQUARE_KEY",
        "an API key of Yelp or Foursquare",
        &[
            assigned(&["yelp"], r"[A-Za-z0-9_-]{128}").check(mixed),
            assigned(&["foursquare"], r"fsq3[A-Za-z0-9+/=]{44}"),
            assigned(&["foursquare"], r"[A-Z0-9]{48}").check(mixed),
        ],
    ),
    kind(
        "AMADEUS_SECRET",
        "a secret of Amadeus or Skyscanner",
        &[assigned(names!("amadeus"), r"[A-Za-z0-9]{16}").check(mixed), assigned(&["skyscanner"], r"[a-z0-9]{32,}").check(mixed)],
    ),
    kind(
        "HOME_ASSISTANT_TOKEN",
        "a long-lived token of Home Assistant",
        &[assigned(
            &["hass", "home_assistant", "homeassistant", "supervisor_token"],
            r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
        )],
    ),
    kind("PARTICLE_TOKEN", "an access token of Particle", &[assigned(&["particle"], r"[a-f0-9]{40}")]),
    kind(
        "UBIDOTS_TOKEN",
        "a token of Ubidots or Blynk",
        &[word(r"BBFF-[A-Za-z0-9]{30,}"), assigned(&["blynk"], r"[A-Za-z0-9_-]{32}").check(mixed)],
    ),
    kind("CANVAS_TOKEN", "an access token of Canvas", &[assigned(&["canvas"], r"[0-9]{4,5}~[A-Za-z0-9]{64}")]),
    kind(
        "ZOTERO_KEY",
        "a key of Zotero or of another library",
        &[
            assigned(&["zotero"], r"[A-Za-z0-9]{24}").check(mixed),
            assigned(&["elsevier", "scopus"], r"[a-f0-9]{32}"),
            assigned(&["ncbi_api", "entrez_api"], r"[a-f0-9]{36}"),
        ],
    ),
    kind(
        "COMPANIES_HOUSE_KEY",
        "a key of a public register",
        &[
            assigned(&["companies_house", "companieshouse"], UUID),
            assigned(&["data_gov", "datagov", "api_data_gov", "eia_api", "census_api", "congress_api", "fec_api"], r"[A-Za-z0-9]{40}")
                .check(mixed),
        ],
    ),
];
