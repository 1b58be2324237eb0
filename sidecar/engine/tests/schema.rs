//! The policy's schema and its reference page, made of the types themselves:
//!
//!     LLM_GUARD_WRITE_DOCS=1 cargo test -p llm-guard-engine --features schema --test schema
//!
//! writes both; without the variable they are compared, so that neither can be old.

use std::fmt::Write as _;
use std::path::Path;

use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Spec};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// For each section, in the order of the page, an example that stands below `spec`.
const EXAMPLES: &[(&str, &str)] = &[
    ("promptInjection", "promptInjection: {mode: hard}\n"),
    (
        "redaction",
        "redaction:\n  mode: soft\n  kinds: [keys, cloud, githubToken, personalData]   # topics, a single kind, a group\n  patterns:\n    - {name: employeeNumber, pattern: \"EMP-[0-9]{6}\"}\n    - {name: ward, pattern: \"[0-9]{2}-[A-Z]\", near: [ward, station], ends: word}\n  allow: [\"*@example.com\", \"10.*\", AKIAIOSFODNN7EXAMPLE]\n  replacements:\n    - {kinds: [creditCard, iban], with: lastDigits}\n    - {kinds: [personalData, employeeNumber], with: token}\n  requests: redact   # before a model sees them\n  restore: true\n",
    ),
    ("models", "models:\n  allow: [\"llama3.2:*\", \"qwen3:8b\"]\n  default: \"llama3.2:3b\"\n"),
    ("tools", "tools:\n  allow: [search_docs, send_email]\n  highRisk: [send_email]\n"),
    (
        "rego",
        "rego:\n  mode: soft\n  data:\n    windows: {\"llama3.2:3b\": 8192}\n  modules:\n    context: |\n      package llmguard\n\n      window := object.get(data.windows, input.model, 4096)\n\n      brought := sum([message.tokens | some message in input.messages; message.channel == \"tool_result\"])\n\n      deny contains sprintf(\"what tools brought takes %d of %d tokens\", [brought, window]) if brought > window * 0.6\n",
    ),
    ("management", "management:\n  allow: [pull, create]   # while the pod starts, from its own hooks\n  from: pod\n"),
    ("protocol", "protocol:\n  unknownFields: refuse\n  fields: [top_k, min_p]   # what vLLM takes beyond OpenAI's API\n  images: allow\n"),
    (
        "network",
        "network:\n  from:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: chat}}\n    - ipBlock: {cidr: 10.0.0.0/24}\n",
    ),
];

/// The same for the rules.
const RULES: &str = "\
mode: soft
tools: {allow: [search_docs], highRisk: [send_email]}
rules:
  - name: analysts-model
    when: {models: [\"qwen3:8b\"], tools: true}
    tools: {allow: [search_docs, run_query]}   # highRisk stays as it is above
  - name: retrieved
    when: {documents: true, routes: [/api/chat, \"/v1/*\"]}
    promptInjection: {mode: hard}
  - when: {caller: pod}
    mode: monitor
";

const INTRODUCTION: &str = "\
# GuardPolicy

One document, `llm-guard.io/v1alpha1`, as a file (`--policy`) and as a custom resource. This page is made from the types that read it.

    apiVersion: llm-guard.io/v1alpha1
    kind: GuardPolicy
    metadata: {name: support-bot}
    spec: {}

`spec: {}` is a whole policy: every control with its defaults, in `monitor`. `llm-guard-sidecar check FILE` says whether a policy is
sound, and with `--explain` in which mode each control would run and why. `llm-guard-sidecar check --schema` prints the schema, which an
editor takes by a first line such as `# yaml-language-server: $schema=guardpolicy.v1alpha1.json`.

A key that nobody knows is an error, and so is a bare `yes`, `1.0` or `null` where a text or a list is expected. A section without
anything in it has its defaults.
";

const RULES_IN_WORDS: &str = "
Until a request's body is read, it isn't known which rule it fits. What can't be read, or comes over a route that nobody knows, is held to
the strictest of the rules that it could be meant for. Where a policy has another model answer (`models.default`), the rule is that model's.
A rule's modes stand under the annotations and above the floor as the document's own do. A rule, or an entry of its lists, that an earlier
rule leaves nothing of is an error, and so is one that no route can carry.

A name that versions of the server take for different models (`a:local`) is refused with 400 where another rule holds for each, and with 403
one that stands for a model of another rule; in `monitor` nobody asks the server what a name stands for. A request that names no model fits
no rule that has `models`: where a server runs its one model whatever it is asked for, rules by routes and callers hold. A system prompt has
no digest beside which the model is shown more of the system's, such as a picture or an earlier turn, or which it isn't shown: with
`suffix`, `template`, `raw` or `context`.
";

const REDACTION_IN_WORDS: &str = "
### In words

[kinds.md](kinds.md) has every kind, and so has `llm-guard-sidecar check --kinds`. `kinds` takes their keys (`githubToken`), topics of
secrets (`keys`, `ai`, `cloud`, `code`, `databases`, `messaging`, `monitoring`, `payment`, `saas`, `generic`), `secrets` for all topics, and
`personalData`. What isn't named isn't looked for, and a name that nobody knows is an error. Every kind but one, for `kinds`:

    llm-guard-sidecar check --kinds --format json | jq -c '[.[].key] - [\"phone\"]'

`patterns` are written as regular expressions of the crate `regex`, for bytes: without `^`, `$`, `\\b` and look-around. They are followed
through a stream character by character, so that it has to be plain where each part ends: a class repeats a fixed number of times
(`[a-z]{8}`), or a character follows that it doesn't have (`[a-z]+-`). A pattern that can't be followed is refused with its place and with
what to write instead. One that begins with at least two characters (`EMP-`) is found anywhere; any other (`[0-9]{2}-`) where no letter,
digit or `_` stands before it. For `near` and `(?i)` A to Z alone have a case. Its values are found in the disguises below. A guard remembers 1,024 names of such kinds while it runs;
what a policy names beyond that is `[REDACTED_CUSTOM]`.

`allow` is asked of each value as it was found, from its first character to its last, and of what a disguise says. So an entry keeps
nothing else from being found, not even within the value that stays: where another kind finds a part of it, that part goes.

With `lastDigits` at most four digits stay with which a value ends, if it has at least nine letters and digits. How long it was doesn't
show. With `token` equal values of a kind have equal tokens, in requests and answers: it can be told that two are the same, and not which.
A token is an HMAC-SHA-256 with a key that no policy has. In a pod the guard draws one when it starts, so that tokens are equal as long as
its container runs, and others in each pod. A guard of your own reads one from a file, `--token-key` or `LLM_GUARD_TOKEN_KEY`, and several
with the same key make the same tokens. Who has the key can find out what a token stands for, by trying. In spite of both, the mark stands
in the place of a value that was in a disguise, of several that overlap, and of one that ends in no digit. In a request whose values come
back (`restore`) numbered marks stand for all.

A value is known by its own form (what it begins with, its length, its check digits), by the name to which it is assigned (in the
arguments of a call, its key), or by a word near it. What looks like a placeholder stays (`xxxxxxxx`, `your_…`). Values are found in
disguise, too:

| disguise | what is found |
| --- | --- |
| base64 (either alphabet) and hexadecimal, also behind `0x` | what a run of at least 12 characters says from its first one on, also where it is wrapped in lines of 60 characters or more, indented or not |
| `%41`, `\\u0041`, `\\x41`, `\\u{41}`, `&#65;`, `&#x41;`, wide forms (`Ａ`), a backslash before punctuation | every value, some or all of whose characters are written so; JSON's escapes also in a string within a string, with the backslash doubled; `\\n` and `%20` before a value are none of it |
| invisible characters (zero-width, soft hyphens, tags) | every value, however often they stand in it |
| Markdown's `*`, `` ` `` and `~` | every value that they interrupt behind its third character, but for numbers, and for what stands before an address's `@` |
| ends of lines, with a backslash before, indentation and `>` behind | what a secret lacks yet is looked for on the next line; what follows one that is whole belongs to it where it looks its rest: at least 12 characters, letters and digits among them, and neither a name, an assignment, a call nor a time |

Not found is what is disguised twice, such as base64 in base64 or behind `%`; a base64 text in the middle of a run, behind other letters,
digits or `/`; values in other codes (octal, base32, rot13), between the colours of a terminal, backwards, spelled out, or told in words. A
password of any signs is known between quotes behind its name, if there is no blank nor an escaped quote in it (then what stands before
that), and as what a call's argument of that name says, up to 1,024 bytes; elsewhere only what stands before the first blank, quote, `$`,
`,`, `;` or bracket of it, if that is long enough for one. A name and its value are known where a sign assigns one to the other, or where
they stand apart as `name` and `value`: not in columns of a table, behind a type (`password: string = …`), nor behind an option
(`--password …`). An e-mail address that a line's end breaks may stay, and a number over two lines is found only as far as its groups are
separated there. A number whose groups are separated by `&nbsp;` or by U+3000, or that stands directly behind a number and a colon, as
`grep -n` prints it, may stay, and so may an IPv6 or MAC address directly behind a word and a colon.

A stream holds back what may still become a value: how much of each kind, [kinds.md](kinds.md) says. What looks like one for 16 KiB counts
as one, and is replaced to its end.

Requests are read as a model is shown them: messages with all their parts, tools and their results, arguments of calls as JSON, settings,
and undocumented fields that go on. Names of models and tools, roles and ids stay as they are, since servers and clients find things by
them, and so do pictures. A value that stands there, or only where the server joins texts (a key of which each of two messages has a half),
can't be redacted: under `redact`, and under `refuse` in soft, the request is refused with 400. A refusal names the kinds, never a value.
A number that a model is shown, in the arguments or the result of a call, becomes a text where it is redacted. What is counted is each
value in each field; one that stands in a name or in joined texts alone counts once for its kind. Every other control, and Rego, judges a request as
it came.

With `restore` each value is put behind a mark with a number, `[REDACTED_EMAIL_1]`: equal values behind the same, and none behind a mark
that the request says itself. Where the model's answer names the mark, letter by letter, the client reads the value: in whole answers and
in streams, in content, thinking and the arguments of calls, in each of the copies that `/v1/responses` makes. A mark that another text
interrupts stays a mark, and so do those in error messages. The values belong to one exchange, are kept in memory that is wiped
when it ends, and stand in no log, metric or record. What comes back isn't redacted again; a value that the answer says by itself is, as
ever. At most 4,096 values and 1 MiB of them are kept for a request; more are redacted and don't come back.

`llm_guard_redactions_total` counts what was replaced in requests as well as in answers, by kind; it has no line of a kind before its first
value. Which values there are in monitor, `llm_guard_violations_total{control=\"redaction\"}` says.
";

/// Takes out what says nothing to a reader: that a key may also be null, how wide a number is, and what schemars calls a type.
fn settle(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for key in ["$schema", "title", "default", "format"] {
                // A property may have such a name.
                if !members.get(key).is_some_and(Value::is_object) {
                    members.remove(key);
                }
            }
            if let Some(Value::Array(options)) = members.remove("anyOf") {
                let mut options = options.into_iter().filter(|option| option.get("type") != Some(&json!("null")));
                if let (Some(Value::Object(option)), None) = (options.next(), options.next()) {
                    for (key, value) in option {
                        members.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Value::Array(types)) = members.get("type") {
                let first = types.iter().find(|kind| **kind != json!("null")).cloned().unwrap_or_default();
                members.insert("type".into(), first);
            }
            if let Some(Value::Array(options)) = members.get_mut("enum") {
                options.retain(|option| !option.is_null());
            }
            members.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut spec = settings.into_generator().into_root_schema_for::<Spec>().to_value();
    settle(&mut spec);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "GuardPolicy",
        "description": "A policy for one workload, several, or a guard that runs on its own.",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"const": "llm-guard.io/v1alpha1"},
            "kind": {"const": "GuardPolicy"},
            "metadata": {"type": "object", "description": "As of any Kubernetes object.", "properties": {"name": {"type": "string"}}},
            "spec": spec,
        },
        "additionalProperties": false,
    })
}

fn properties(schema: &Value) -> &Map<String, Value> {
    schema["properties"].as_object().unwrap_or_else(|| panic!("{schema} has no keys"))
}

/// The keys of a section, the mode before all others.
fn in_order(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let (mode, others): (Vec<_>, Vec<_>) = properties(schema).iter().partition(|(key, _)| *key == "mode");
    mode.into_iter().chain(others).map(|(key, field)| (key.as_str(), field))
}

/// A description in one line.
fn said(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Values that a key takes, each with what it means.
type Values = Vec<(String, String)>;

/// The values that a schema takes.
fn values(schema: &Value) -> Values {
    let name = |value: &Value| value.as_str().map(|name| format!("`{name}`"));
    if let Some(options) = schema["oneOf"].as_array() {
        let each = options.iter().flat_map(|option| match &option["const"] {
            Value::Null => values(option),
            value => name(value).map(|name| (name, said(option))).into_iter().collect(),
        });
        return each.collect();
    }
    if let Some(options) = schema["enum"].as_array() {
        return options.iter().filter_map(name).map(|name| (name, String::new())).collect();
    }
    Vec::new()
}

fn kind(schema: &Value) -> String {
    let values = values(schema);
    if !values.is_empty() {
        return values.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
    }
    match schema["type"].as_str() {
        Some("array") => match self::kind(&schema["items"]).as_str() {
            "text" => "list of texts".into(),
            "mapping" => "list of mappings".into(),
            values => format!("list of {values}"),
        },
        Some("string") => "text".into(),
        Some("integer" | "number") => "number".into(),
        Some("boolean") => "`true` `false`".into(),
        Some("object") => "mapping".into(),
        other => panic!("nobody has said how {other:?} is called: {schema}"),
    }
}

fn page(schema: &Value) -> String {
    let mut page = INTRODUCTION.to_owned();
    let spec = properties(&schema["properties"]["spec"]);
    let _ = write!(page, "\n## spec\n\n| key | values | what |\n| --- | --- | --- |\n");
    for (key, section) in in_order(&schema["properties"]["spec"]) {
        let kind = if key == "rules" || section["properties"].is_object() { link(key) } else { kind(section) };
        let _ = writeln!(page, "| `{key}` | {kind} | {} |", said(section));
    }
    for (section, example) in EXAMPLES {
        let of = &spec[*section];
        let _ = write!(page, "\n## {section}\n\n{}\n", said(of));
        keys(of, &mut page);
        yaml(example, &mut page);
        if *section == "redaction" {
            for (key, field) in in_order(of).filter(|(_, field)| field["items"]["properties"].is_object()) {
                let _ = write!(page, "\n### {key}\n\nA list of these. {}\n", said(&field["items"]));
                keys(&field["items"], &mut page);
            }
            page.push_str(REDACTION_IN_WORDS);
        }
    }
    let rule = &spec["rules"]["items"];
    let _ = write!(page, "\n## rules\n\nA list. {}\n", said(rule));
    let mut own = rule.clone();
    let sections: Vec<String> =
        properties(rule).keys().filter(|key| EXAMPLES.iter().any(|(section, _)| section == key)).map(|key| format!("`{key}`")).collect();
    if let Some(properties) = own["properties"].as_object_mut() {
        properties.retain(|key, _| EXAMPLES.iter().all(|(section, _)| section != key));
    }
    keys(&own, &mut page);
    let _ = write!(page, "\nAnd the sections {}, with the keys that they have above.\n", sections.join(", "));
    let _ = write!(page, "\n### when\n\n{}\n", said(&rule["properties"]["when"]));
    keys(&rule["properties"]["when"], &mut page);
    page.push_str(RULES_IN_WORDS);
    yaml(RULES, &mut page);
    page
}

/// Where a section is explained.
fn link(section: &str) -> String {
    format!("[section](#{})", section.to_lowercase())
}

/// The tables of a section's keys, and of their values.
fn keys(of: &Value, page: &mut String) {
    page.push_str("\n| key | values | what |\n| --- | --- | --- |\n");
    for (key, field) in in_order(of) {
        let kind = if key == "when" { link(key) } else { kind(field) };
        let _ = writeln!(page, "| `{key}` | {kind} | {} |", said(field).replace('|', "\\|"));
    }
    // Each table of values once, under all the keys that take them.
    let mut tables: Vec<(Vec<&str>, Values)> = Vec::new();
    for (key, field) in in_order(of).filter(|(key, _)| *key != "mode") {
        let values = values(if field["items"].is_object() { &field["items"] } else { field });
        if values.iter().all(|(_, said)| said.is_empty()) {
            continue;
        }
        match tables.iter_mut().find(|(_, earlier)| *earlier == values) {
            Some((keys, _)) => keys.push(key),
            None => tables.push((vec![key], values)),
        }
    }
    for (keys, values) in tables {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        let _ = write!(page, "\nThe values of {}:\n\n| value | what |\n| --- | --- |\n", keys.join(", "));
        for (name, said) in values {
            let _ = writeln!(page, "| {name} | {said} |");
        }
    }
}

fn yaml(example: &str, page: &mut String) {
    let _ = write!(page, "\n```yaml\nspec:\n");
    for line in example.lines() {
        let _ = writeln!(page, "  {line}");
    }
    page.push_str("```\n");
}

fn is_written(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("LLM_GUARD_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == text, "{} is old: LLM_GUARD_WRITE_DOCS=1 makes it new", path.display());
}

#[test]
fn the_schema_and_the_page_say_what_the_types_say() {
    let schema = schema();
    is_written("sidecar/engine/schema/guardpolicy.v1alpha1.json", &format!("{schema:#}\n"));
    is_written("docs/policy.md", &page(&schema));
}

#[test]
fn every_section_has_an_example_that_is_sound_and_nothing_on_the_page_is_unsaid() {
    let schema = schema();
    for (section, of) in properties(&schema["properties"]["spec"]) {
        assert!(!said(of).is_empty(), "{section} is not explained");
        if !of["properties"].is_object() {
            continue;
        }
        for (key, field) in properties(of) {
            assert!(!said(field).is_empty(), "{section}.{key} is not explained");
        }
        let example = EXAMPLES.iter().find(|(name, _)| name == section).unwrap_or_else(|| panic!("{section} has no example")).1;
        is_sound(section, example);
    }
    let rule = &schema["properties"]["spec"]["properties"]["rules"]["items"];
    for (key, field) in properties(rule).into_iter().chain(properties(&rule["properties"]["when"])) {
        assert!(!said(field).is_empty(), "rules[].{key} is not explained");
        // Who reaches the port is no matter of what is asked there; all else that a policy says, a rule can say.
        assert!(properties(&schema["properties"]["spec"]).contains_key(key) || !field["properties"].is_object() || key == "when");
    }
    let sections = properties(&schema["properties"]["spec"]).keys().filter(|key| !["rules", "network"].contains(&key.as_str()));
    for section in sections {
        assert!(properties(rule).contains_key(section), "no rule can say anything of {section}");
    }
    is_sound("rules", RULES);
}

fn is_sound(section: &str, example: &str) {
    let indented = example.trim_end().replace('\n', "\n  ");
    let yaml = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec:\n  {indented}\n");
    let judged = GuardPolicy::read_and(&yaml, |document| Policy::compile(document, &Standing::default()));
    let (document, _) = judged.unwrap_or_else(|error| panic!("{section}: {error}"));
    assert_ne!(document.spec, Spec::default(), "{section}'s example says nothing");
}
