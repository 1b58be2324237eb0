//! Broken policies, and the exact message that each gets.

use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::GuardPolicy;
use llm_guard_engine::policy::settings::Standing;

const HEAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\n";

fn said(yaml: &str) -> String {
    match GuardPolicy::read_and(yaml, |document| Policy::compile(document, &Standing::default())) {
        Ok(_) => "it is accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// What stands behind the head, from line 4 on, and what is said of it.
const SPECS: &[(&str, &str)] = &[
    (
        "spec: {redacton: {}}",
        "line 4, column 8: spec.redacton: nobody reads this key: did you mean 'redaction'? There are: mode, promptInjection, redaction, models, tools, rego, management, protocol, network, rules",
    ),
    (
        "spec:\n  promptinjection: {mode: hard}",
        "line 5, column 3: spec.promptinjection: nobody reads this key: did you mean 'promptInjection'? There are: mode, promptInjection, redaction, models, tools, rego, management, protocol, network, rules",
    ),
    (
        "spec:\n  prompt_injection: {}",
        "line 5, column 3: spec.prompt_injection: nobody reads this key: did you mean 'promptInjection'? There are: mode, promptInjection, redaction, models, tools, rego, management, protocol, network, rules",
    ),
    (
        "spec:\n  toolz:\n    allow: [a]",
        "line 5, column 3: spec.toolz: nobody reads this key: did you mean 'tools'? There are: mode, promptInjection, redaction, models, tools, rego, management, protocol, network, rules",
    ),
    (
        "spec: {xyzzy: 1}",
        "line 4, column 8: spec.xyzzy: nobody reads this key. There are: mode, promptInjection, redaction, models, tools, rego, management, protocol, network, rules",
    ),
    ("spec: {mode: strict}", "line 4, column 14: spec.mode: nobody knows 'strict'. There are: monitor, soft, hard"),
    ("spec: {mode: Hard}", "line 4, column 14: spec.mode: nobody knows 'Hard': did you mean 'hard'? There are: monitor, soft, hard"),
    ("spec: {mode: sft}", "line 4, column 14: spec.mode: nobody knows 'sft': did you mean 'soft'? There are: monitor, soft, hard"),
    ("spec: {mode: true}", "line 4, column 14: spec.mode: one of monitor, soft, hard is expected, and there is a boolean"),
    ("spec: {mode: 1}", "line 4, column 14: spec.mode: one of monitor, soft, hard is expected, and there is a number"),
    ("spec: {mode: [soft]}", "line 4, column 14: spec.mode: one of monitor, soft, hard is expected, and there is a list"),
    ("spec: {mode: {soft: true}}", "line 4, column 14: spec.mode: one of monitor, soft, hard is expected, and there is a mapping"),
    ("spec: soft", "line 4, column 7: spec: a mapping is expected, and there is a text"),
    ("spec: [soft]", "line 4, column 7: spec: a mapping is expected, and there is a list"),
    ("spec: 7", "line 4, column 7: spec: a mapping is expected, and there is a number"),
    ("spek: {}", "line 4, column 1: spek: nobody reads this key: did you mean 'spec'? There are: apiVersion, kind, metadata, spec"),
    ("spec: {mode: soft}\nstatus: {}", "line 5, column 1: status: nobody reads this key. There are: apiVersion, kind, metadata, spec"),
    (
        "spec:\n  tools:\n    allow:\n    block: [a]",
        "line 6, column 10: spec.tools.allow: there is no list behind the key: [] allows nothing, and leaving the key out allows everything",
    ),
    ("spec: {tools: {allow: search}}", "line 4, column 23: spec.tools.allow: a list is expected, and there is a text"),
    (
        "spec: {tools: {allow: [1]}}",
        "line 4, column 24: spec.tools.allow[0]: a text is expected, and there is a number; as a text it stands in quotes",
    ),
    (
        "spec: {tools: {allow: [true]}}",
        "line 4, column 24: spec.tools.allow[0]: a text is expected, and there is a boolean; as a text it stands in quotes",
    ),
    ("spec: {tools: {allow: [~]}}", "line 4, column 24: spec.tools.allow[0]: a text is expected, and there is nothing"),
    ("spec: {tools: {allow: [{name: a}]}}", "line 4, column 24: spec.tools.allow[0]: a text is expected, and there is a mapping"),
    ("spec: {tools: {allow: [['a']]}}", "line 4, column 24: spec.tools.allow[0]: a text is expected, and there is a list"),
    ("spec: {tools: {allow: {a: b}}}", "line 4, column 23: spec.tools.allow: a list is expected, and there is a mapping"),
    ("spec: {tools: {allow: ['']}}", "line 4, column 24: spec.tools.allow[0]: it is empty"),
    ("spec: {tools: {allow: [a, ' b']}}", "line 4, column 27: spec.tools.allow[1]: ' b' has white space around it, and names are exact"),
    ("spec: {tools: {block: [a], allow: [b, a]}}", "line 4, column 39: spec.tools.allow[1]: 'a' is also in tools.block, which wins"),
    ("spec: {tools: {block: [a], highRisk: [a]}}", "line 4, column 39: spec.tools.highRisk[0]: 'a' is also in tools.block, which wins"),
    ("spec: {tools: {block: ~}}", "line 4, column 23: spec.tools.block: a list is expected, and there is nothing"),
    (
        "spec: {tools: {highrisk: [a]}}",
        "line 4, column 16: spec.tools.highrisk: nobody reads this key: did you mean 'highRisk'? There are: mode, allow, block, highRisk",
    ),
    (
        "spec: {tools: {high_risk: [a]}}",
        "line 4, column 16: spec.tools.high_risk: nobody reads this key: did you mean 'highRisk'? There are: mode, allow, block, highRisk",
    ),
    ("spec: {tools: [a]}", "line 4, column 15: spec.tools: a mapping is expected, and there is a list"),
    ("spec: {tools: a}", "line 4, column 15: spec.tools: a mapping is expected, and there is a text"),
    ("spec: {models: {allow: llama}}", "line 4, column 24: spec.models.allow: a list is expected, and there is a text"),
    (
        "spec: {models: {allow: ~}}",
        "line 4, column 24: spec.models.allow: there is no list behind the key: [] allows nothing, and leaving the key out allows everything",
    ),
    ("spec: {models: {allow: ['']}}", "line 4, column 25: spec.models.allow[0]: it is empty"),
    (
        "spec: {models: {alow: [a]}}",
        "line 4, column 17: spec.models.alow: nobody reads this key: did you mean 'allow'? There are: mode, allow, default, cloud",
    ),
    (
        "spec: {models: {default: 1.0}}",
        "line 4, column 26: spec.models.default: a text is expected, and there is a number; as a text it stands in quotes",
    ),
    ("spec: {models: {default: [a]}}", "line 4, column 26: spec.models.default: a text is expected, and there is a list"),
    ("spec: {models: {default: ''}}", "line 4, column 26: spec.models.default: it is empty: leave it out where there is none"),
    ("spec: {models: {allow: [a], default: b}}", "line 4, column 38: spec.models.default: 'b' is not among models.allow"),
    (
        "spec: {models: {default: 'gpt-oss:120b-cloud'}}",
        "line 4, column 26: spec.models.default: 'gpt-oss:120b-cloud' runs in a cloud, which models.cloud denies",
    ),
    ("spec: {models: {cloud: never}}", "line 4, column 24: spec.models.cloud: nobody knows 'never'. There are: deny, allow"),
    ("spec: {models: {cloud: true}}", "line 4, column 24: spec.models.cloud: one of deny, allow is expected, and there is a boolean"),
    ("spec: {models: {cloud: yes}}", "line 4, column 24: spec.models.cloud: one of deny, allow is expected, and there is a boolean"),
    ("spec: {redaction: {kinds: secrets}}", "line 4, column 27: spec.redaction.kinds: a list is expected, and there is a text"),
    (
        "spec: {redaction: {kinds: []}}",
        "line 4, column 27: spec.redaction.kinds: it is empty: leave it out for every kind, or name those that are meant",
    ),
    (
        "spec: {redaction: {kinds: [emial]}}",
        "line 4, column 28: spec.redaction.kinds[0]: nobody knows 'emial': did you mean 'email'? There are secrets, personalData, and the kinds that `llm-guard-sidecar check --kinds` lists",
    ),
    (
        "spec: {redaction: {kinds: [secrets, creditcard]}}",
        "line 4, column 37: spec.redaction.kinds[1]: nobody knows 'creditcard': did you mean 'creditCard'? There are secrets, personalData, and the kinds that `llm-guard-sidecar check --kinds` lists",
    ),
    (
        "spec: {redaction: {kinds: [postcode]}}",
        "line 4, column 28: spec.redaction.kinds[0]: nobody knows 'postcode'. There are secrets, personalData, and the kinds that `llm-guard-sidecar check --kinds` lists",
    ),
    (
        "spec: {redaction: {kind: [email]}}",
        "line 4, column 20: spec.redaction.kind: nobody reads this key: did you mean 'kinds'? There are: mode, kinds, patterns, allow, replacements, requests, restore",
    ),
    ("spec: {redaction: {patterns: ~}}", "line 4, column 30: spec.redaction.patterns: a list is expected, and there is nothing"),
    (
        "spec: {redaction: {patterns: {employee: 'EMP-[0-9]{6}'}}}",
        "line 4, column 30: spec.redaction.patterns: a list is expected, and there is a mapping",
    ),
    (
        "spec: {redaction: {patterns: ['EMP-[0-9]{6}']}}",
        "line 4, column 31: spec.redaction.patterns[0]: a mapping is expected, and there is a text",
    ),
    ("spec: {redaction: {patterns: [{name: employee}]}}", "line 4, column 31: spec.redaction.patterns[0]: the key 'pattern' is missing"),
    (
        "spec: {redaction: {patterns: [{pattern: 'EMP-[0-9]{6}'}]}}",
        "line 4, column 31: spec.redaction.patterns[0]: the key 'name' is missing",
    ),
    (
        "spec: {redaction: {patterns: [{name: employee, regex: 'EMP-[0-9]{6}'}]}}",
        "line 4, column 48: spec.redaction.patterns[0].regex: nobody reads this key. There are: name, pattern, near, ends, entropy",
    ),
    (
        "spec: {redaction: {patterns: [{name: employee-number, pattern: 'EMP-[0-9]{6}'}]}}",
        "line 4, column 38: spec.redaction.patterns[0].name: 'employee-number' is no name for a kind: a small letter, and letters and digits behind it, at most 40",
    ),
    (
        "spec: {redaction: {patterns: [{name: EMPLOYEE, pattern: 'EMP-[0-9]{6}'}]}}",
        "line 4, column 38: spec.redaction.patterns[0].name: 'EMPLOYEE' is no name for a kind: a small letter, and letters and digits behind it, at most 40",
    ),
    (
        "spec: {redaction: {patterns: [{name: email, pattern: 'EMP-[0-9]{6}'}]}}",
        "line 4, column 38: spec.redaction.patterns[0].name: 'email' is known already: call it otherwise",
    ),
    (
        "spec: {redaction: {patterns: [{name: cloud, pattern: 'EMP-[0-9]{6}'}]}}",
        "line 4, column 38: spec.redaction.patterns[0].name: 'cloud' is known already: call it otherwise",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}'}, {name: emp, pattern: 'E-[0-9]{6}'}]}}",
        "line 4, column 76: spec.redaction.patterns[1].name: there is another pattern of the name 'emp': write both into one, as in (?:ONE|OTHER)",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}'}, {name: other, pattern: '[a-z]+[a-z0-9]'}]}}",
        "line 4, column 92: spec.redaction.patterns[1].pattern: what follows '[abcdefghijkl…]' may begin as that goes on, so that it isn't known where the one ends: repeat a class a fixed number of times, or let a character follow that it doesn't have",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: '^EMP-[0-9]{6}$'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it has an anchor or a word boundary, which can't be looked for in a stream: leave it out, since `ends` says where a value ends",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: '(?<!X)EMP'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it is no regular expression: look-around, including look-ahead and look-behind, is not supported",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it is no regular expression: unclosed character class",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: '(?:EMP)?'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it matches an empty text: a value has at least two characters",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: '[0-9]+'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it matches a single character: a value has at least two",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: '(?:EMP-)+'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it has a group that repeats without an end, or more than 16 times: say how often at most, as in (?:ab){1,8}",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-.{6}'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: it has a class with characters beyond ASCII in it, as . and [^…] have, and a fixed number of them: name those that are meant, as in [A-Za-z0-9], or let it repeat without an end, not in the first place",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: '(?:ab|cd|ef|gh){4}'}]}}",
        "line 4, column 52: spec.redaction.patterns[0].pattern: its alternatives and repetitions come to too much: at most 64 ways to read it, each of at most 192 parts, repeated at most 4096 times",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}', near: []}]}}",
        "line 4, column 74: spec.redaction.patterns[0].near: it is empty: leave it out where no word is needed",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}', near: [badge, x]}]}}",
        "line 4, column 82: spec.redaction.patterns[0].near[1]: 'x' is no word to look for: from 2 to 40 bytes, without white space around them",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}', ends: line}]}}",
        "line 4, column 74: spec.redaction.patterns[0].ends: nobody knows 'line'. There are: run, word, pattern",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}', entropy: 9}]}}",
        "line 4, column 77: spec.redaction.patterns[0].entropy: a byte has from 0 to 8 bits of entropy",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}', entropy: .nan}]}}",
        "line 4, column 77: this is no YAML: non-finite float `.nan` rejected by the configured policy",
    ),
    (
        "spec: {redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}'}], kinds: [emps]}}",
        "line 4, column 78: spec.redaction.kinds[0]: nobody knows 'emps': did you mean 'emp'? There are secrets, personalData, and the kinds that `llm-guard-sidecar check --kinds` lists",
    ),
    ("spec: {redaction: {allow: '*@example.com'}}", "line 4, column 27: spec.redaction.allow: a list is expected, and there is a text"),
    ("spec: {redaction: {allow: [a, '']}}", "line 4, column 31: spec.redaction.allow[1]: it is empty"),
    (
        "spec: {redaction: {allow: ['**']}}",
        "line 4, column 28: spec.redaction.allow[0]: it allows every value: say which stay, or leave kinds out of redaction.kinds",
    ),
    ("spec: {redaction: {allow: ['10.* ']}}", "line 4, column 28: spec.redaction.allow[0]: it has white space around it, and no value has"),
    (
        "spec: {redaction: {replacements: [{kinds: [], with: token}]}}",
        "line 4, column 43: spec.redaction.replacements[0].kinds: it is empty: name the kinds that are meant",
    ),
    (
        "spec: {redaction: {replacements: [{kinds: [emial], with: token}]}}",
        "line 4, column 44: spec.redaction.replacements[0].kinds[0]: nobody knows 'emial': did you mean 'email'? There are secrets, personalData, and the kinds that `llm-guard-sidecar check --kinds` lists",
    ),
    (
        "spec: {redaction: {replacements: [{kinds: [email], with: hash}]}}",
        "line 4, column 58: spec.redaction.replacements[0].with: nobody knows 'hash'. There are: mark, lastDigits, token",
    ),
    (
        "spec: {redaction: {replacements: [{kinds: [email]}]}}",
        "line 4, column 35: spec.redaction.replacements[0]: the key 'with' is missing",
    ),
    (
        "spec: {redaction: {replacements: [{kinds: [personalData], with: token}, {kinds: [iban, email], with: lastDigits}]}}",
        "line 4, column 82: spec.redaction.replacements[1].kinds[0]: an entry before it names all of 'iban', and the first counts: put what is special first",
    ),
    (
        "spec: {rules: [{when: {tools: true}, redaction: {patterns: [{name: emp, pattern: 'EMP-[0-9]{6}'}, {name: other, pattern: '[a-z]+a'}]}}]}",
        "line 4, column 122: spec.rules[0].redaction.patterns[1].pattern: what follows '[abcdefghijkl…]' may begin as that goes on, so that it isn't known where the one ends: repeat a class a fixed number of times, or let a character follow that it doesn't have",
    ),
    (
        "spec: {redaction: {requests: hide}}",
        "line 4, column 30: spec.redaction.requests: nobody knows 'hide'. There are: count, redact, refuse",
    ),
    (
        "spec: {redaction: {requests: ~}}",
        "line 4, column 30: spec.redaction.requests: one of count, redact, refuse is expected, and there is nothing",
    ),
    (
        "spec: {redaction: {restore: true}}",
        "line 4, column 29: spec.redaction.restore: only what was redacted in a request comes back in its answer: that takes requests: redact",
    ),
    (
        "spec: {redaction: {requests: refuse, restore: true}}",
        "line 4, column 47: spec.redaction.restore: only what was redacted in a request comes back in its answer: that takes requests: redact",
    ),
    (
        "spec: {redaction: {requests: redact, restore: true}, rules: [{when: {tools: true}, redaction: {requests: count}}]}",
        "line 4, column 95: spec.rules[0].redaction: only what was redacted in a request comes back in its answer: that takes requests: redact",
    ),
    (
        "spec: {management: {allow: ~}}",
        "line 4, column 28: spec.management.allow: there is no list behind the key: [] allows nothing, and leaving the key out allows pull",
    ),
    (
        "spec: {management: {allow: [sign-out]}}",
        "line 4, column 29: spec.management.allow[0]: nobody knows 'sign-out'. There are: pull, push, create, copy, delete, aliases, account, web",
    ),
    (
        "spec: {management: {allow: [pul]}}",
        "line 4, column 29: spec.management.allow[0]: nobody knows 'pul': did you mean 'pull'? There are: pull, push, create, copy, delete, aliases, account, web",
    ),
    ("spec: {management: {from: nobody}}", "line 4, column 27: spec.management.from: nobody knows 'nobody'. There are: pod, anyone"),
    (
        "spec: {protocol: {unknownFields: pass}}",
        "line 4, column 34: spec.protocol.unknownFields: nobody knows 'pass'. There are: drop, inspect, refuse",
    ),
    (
        "spec: {protocol: {unknownFields: dropp}}",
        "line 4, column 34: spec.protocol.unknownFields: nobody knows 'dropp': did you mean 'drop'? There are: drop, inspect, refuse",
    ),
    ("spec: {protocol: {fields: top_k}}", "line 4, column 27: spec.protocol.fields: a list is expected, and there is a text"),
    ("spec: {protocol: {fields: ['']}}", "line 4, column 28: spec.protocol.fields[0]: it is empty"),
    (
        "spec: {protocol: {images: yes}}",
        "line 4, column 27: spec.protocol.images: one of allow, refuse is expected, and there is a boolean",
    ),
    (
        "spec: {protocol: {image: allow}}",
        "line 4, column 19: spec.protocol.image: nobody reads this key: did you mean 'images'? There are: unknownFields, fields, context, template, images, audio, modelPrompts",
    ),
    (
        "spec: {protocol: {modelprompts: allow}}",
        "line 4, column 19: spec.protocol.modelprompts: nobody reads this key: did you mean 'modelPrompts'? There are: unknownFields, fields, context, template, images, audio, modelPrompts",
    ),
    ("spec: {network: {from: everyone}}", "line 4, column 24: spec.network.from: a list is expected, and there is a text"),
    (
        "spec: {network: {from: ~}}",
        "line 4, column 24: spec.network.from: there is no list behind the key: name peers, or leave the key out",
    ),
    ("spec: {network: {form: []}}", "line 4, column 18: spec.network.form: nobody reads this key: did you mean 'from'? There are: from"),
    ("spec: {mode: soft, mode: hard}", "line 4, column 20: 'mode' stands here twice"),
    (
        "spec:\n  tools:\n    allow:\n      - a\n   block: [b]",
        "line 8, column 4: this is no YAML: while parsing a block mapping, did not find expected key",
    ),
    ("spec:\n\tmode: soft", "line 5, column 2: this is no YAML: tabs disallowed within this context (block indentation)"),
    ("spec: {mode: *nobody}", "line 4, column 14: this is no YAML: alias references unknown anchor"),
    ("spec: {mode: soft", "line 4, column 7: this is no YAML: unclosed bracket '{'"),
    (
        "spec: {models: {allow: ['gpt-oss:120b-cloud']}}",
        "line 4, column 25: spec.models.allow[0]: 'gpt-oss:120b-cloud' runs in a cloud, which models.cloud denies: it would never be allowed",
    ),
    ("spec: {models: {default: ' '}}", "line 4, column 26: spec.models.default: it is empty: leave it out where there is none"),
    (
        "spec: {models: {allow: [a, \"b\\nc\"]}}",
        "line 4, column 28: spec.models.allow[1]: 'b\\nc' fits no name that a model can have: it would allow nothing",
    ),
    (
        "spec: {models: {allow: [\"b\\u212a*\"]}}",
        "line 4, column 25: spec.models.allow[0]: 'b\u{212a}*' fits no name that a model can have: it would allow nothing",
    ),
    ("spec: {models: {default: \"a\\tb\"}}", "line 4, column 26: spec.models.default: 'a\\tb' is no name that a model can have"),
    (
        "spec: {rego: {modules: {a: 1}}}",
        "line 4, column 28: spec.rego.modules.a: a text is expected, and there is a number; as a text it stands in quotes",
    ),
    ("spec: {rego: {modules: [a]}}", "line 4, column 24: spec.rego.modules: a mapping is expected, and there is a list"),
    (
        "spec: {rego: {timeoutMs: 5}}",
        "line 4, column 14: spec.rego.modules: there is none, so that nothing would be asked: leave the section out",
    ),
    (
        "spec:\n  rego:\n    modules:\n      a: |\n        package llmguard\n        deny contains x if { y := 1 }",
        "line 8, column 9: spec.rego.modules.a: line 2, column 15: this is no Rego: Undefined variable: 'x'",
    ),
    ("spec: {rego: {timeoutMs: -1}}", "line 4, column 26: spec.rego.timeoutMs: a whole number is expected, and there is a number"),
    ("spec: {models: {default: \"a\\tb\"}}\n---\nkind: Pod", "line 6, column 1: there is more than one document"),
];

/// The same for rules.
const RULES: &[(&str, &str)] = &[
    ("spec: {rules: {when: {}}}", "line 4, column 15: spec.rules: a list is expected, and there is a mapping"),
    ("spec: {rules: [{mode: hard}]}", "line 4, column 16: spec.rules[0]: the key 'when' is missing"),
    (
        "spec: {rules: [{when: {}, mode: hard}]}",
        "line 4, column 23: spec.rules[0].when: it says nothing, so that every request would fit: what holds for all stands outside of the rules",
    ),
    (
        "spec: {rules: [{when: ~, mode: hard}]}",
        "line 4, column 23: spec.rules[0].when: it says nothing, so that every request would fit: what holds for all stands outside of the rules",
    ),
    (
        "spec: {rules: [{wen: {models: [a]}, mode: hard}]}",
        "line 4, column 17: spec.rules[0].wen: nobody reads this key: did you mean 'when'? There are: name, when, mode, promptInjection, redaction, models, tools, rego, management, protocol",
    ),
    (
        "spec: {rules: [{when: {model: [a]}, mode: hard}]}",
        "line 4, column 24: spec.rules[0].when.model: nobody reads this key: did you mean 'models'? There are: models, routes, caller, tools, documents, systemPrompts",
    ),
    (
        "spec: {rules: [{when: {models: a}, mode: hard}]}",
        "line 4, column 32: spec.rules[0].when.models: a list is expected, and there is a text",
    ),
    ("spec: {rules: [{when: {models: []}, mode: hard}]}", "line 4, column 32: spec.rules[0].when.models: it is empty: nothing would fit"),
    (
        "spec: {rules: [{when: {models: ~}, mode: hard}]}",
        "line 4, column 32: spec.rules[0].when.models: a list is expected, and there is nothing",
    ),
    ("spec: {rules: [{when: {models: ['']}, mode: hard}]}", "line 4, column 33: spec.rules[0].when.models[0]: it is empty"),
    (
        "spec: {rules: [{when: {routes: [/api/chta]}, mode: hard}]}",
        "line 4, column 33: spec.rules[0].when.routes[0]: the guard knows no such route as '/api/chta': did you mean '/api/chat'?",
    ),
    (
        "spec: {rules: [{when: {routes: ['/api/v1/*']}, mode: hard}]}",
        "line 4, column 33: spec.rules[0].when.routes[0]: the guard knows no such route as '/api/v1/*'",
    ),
    (
        "spec: {rules: [{when: {routes: [api/chat]}, mode: hard}]}",
        "line 4, column 33: spec.rules[0].when.routes[0]: the guard knows no such route as 'api/chat': did you mean '/api/chat'?",
    ),
    (
        "spec: {rules: [{when: {caller: analysts}, mode: hard}]}",
        "line 4, column 32: spec.rules[0].when.caller: nobody knows 'analysts'. There are: pod, network",
    ),
    (
        "spec: {rules: [{when: {tools: [search]}, mode: hard}]}",
        "line 4, column 31: spec.rules[0].when.tools: true or false is expected, and there is a list",
    ),
    (
        "spec: {rules: [{when: {documents: 'true'}, mode: hard}]}",
        "line 4, column 35: spec.rules[0].when.documents: true or false is expected, and there is a text",
    ),
    (
        "spec: {rules: [{when: {systemPrompts: [be kind]}, mode: hard}]}",
        "line 4, column 40: spec.rules[0].when.systemPrompts[0]: 'be kind' is no digest: sha256: and 64 digits from 0 to f, as check --explain --request shows it",
    ),
    (
        "spec: {rules: [{when: {routes: [/api/tags], models: [a]}, mode: hard}]}",
        "line 4, column 53: spec.rules[0].when.models: no request can fit: none of the rule's routes names a model",
    ),
    (
        "spec: {rules: [{when: {routes: [/api/generate], tools: true}, mode: hard}]}",
        "line 4, column 56: spec.rules[0].when.tools: no request can fit: none of the rule's routes takes tools",
    ),
    (
        "spec: {rules: [{when: {routes: [/v1/completions], documents: true}, mode: hard}]}",
        "line 4, column 62: spec.rules[0].when.documents: no request can fit: none of the rule's routes takes documents",
    ),
    (
        "spec: {rules: [{when: {routes: ['/api/tags', '/v1/embeddings'], models: [a], tools: true}, mode: hard}]}",
        "line 4, column 85: spec.rules[0].when.tools: no request can fit: none of the rule's routes takes tools",
    ),
    (
        "spec: {rules: [{when: {routes: ['/v1/models/:model', '/api/embed'], documents: true, tools: true}, mode: hard}]}",
        "line 4, column 93: spec.rules[0].when.tools: no request can fit: none of the rule's routes takes tools",
    ),
    (
        "spec: {rules: [{when: {models: [a]}, mode: hard}, {when: {models: [a], tools: true}, mode: soft}]}",
        "line 4, column 58: spec.rules[1].when: nothing reaches this rule: rules[0] fits all that it fits",
    ),
    (
        "spec: {rules: [{name: all, when: {models: ['*']}, mode: hard}, {when: {models: ['a*']}, mode: soft}]}",
        "line 4, column 71: spec.rules[1].when: nothing reaches this rule: all fits all that it fits",
    ),
    (
        "spec: {rules: [{when: {models: ['a:*']}, mode: hard}, {when: {models: [b, 'a:7b']}, mode: soft}]}",
        "line 4, column 75: spec.rules[1].when.models[1]: nothing reaches this: rules[0] fits all of it",
    ),
    (
        "spec: {rules: [{when: {models: [a]}, mode: hard}, {when: {models: ['registry.ollama.ai/library/A:latest']}, mode: soft}]}",
        "line 4, column 58: spec.rules[1].when: nothing reaches this rule: rules[0] fits all that it fits",
    ),
    (
        "spec: {rules: [{when: {routes: ['/api/*']}, mode: hard}, {when: {routes: [/v1/messages, /api/chat]}, mode: soft}]}",
        "line 4, column 89: spec.rules[1].when.routes[1]: nothing reaches this: rules[0] fits all of it",
    ),
    (
        "spec: {rules: [{when: {tools: true}, mode: hard}, {when: {tools: true}, mode: soft}]}",
        "line 4, column 58: spec.rules[1].when: nothing reaches this rule: rules[0] fits all that it fits",
    ),
    (
        "spec: {rules: [{when: {caller: pod}, mode: hard}, {when: {caller: pod, models: [a]}, mode: soft}]}",
        "line 4, column 58: spec.rules[1].when: nothing reaches this rule: rules[0] fits all that it fits",
    ),
    (
        "spec: {rules: [{when: {models: [a]}}]}",
        "line 4, column 16: spec.rules[0]: it changes nothing, and there is no rule behind it that it would keep away",
    ),
    (
        "spec: {rules: [{name: Analysts, when: {models: [a]}, mode: hard}]}",
        "line 4, column 23: spec.rules[0].name: 'Analysts' is no name for a rule: up to 63 of a to z, 0 to 9 and -",
    ),
    (
        "spec: {rules: [{name: a, when: {models: [a]}, mode: hard}, {name: a, when: {models: [b]}, mode: soft}]}",
        "line 4, column 67: spec.rules[1].name: there is another rule of the name 'a'",
    ),
    (
        "spec: {rules: [{name: ~, when: {models: [a]}, mode: hard}]}",
        "line 4, column 23: spec.rules[0].name: a text is expected, and there is nothing",
    ),
    (
        "spec: {rules: [{when: {models: [a]}, network: {from: []}}]}",
        "line 4, column 38: spec.rules[0].network: nobody reads this key. There are: name, when, mode, promptInjection, redaction, models, tools, rego, management, protocol",
    ),
    (
        "spec: {rules: [{when: {models: [a]}, tools: {alow: [b]}}]}",
        "line 4, column 46: spec.rules[0].tools.alow: nobody reads this key: did you mean 'allow'? There are: mode, allow, block, highRisk",
    ),
    (
        "spec: {tools: {block: [b]}, rules: [{when: {models: [a]}, tools: {allow: [a, b]}}]}",
        "line 4, column 78: spec.rules[0].tools.allow[1]: 'b' is also in tools.block, which wins",
    ),
    (
        "spec: {tools: {allow: [b]}, rules: [{when: {models: [a]}, tools: {block: [b]}}]}",
        "line 4, column 66: spec.rules[0].tools: 'b' is also in tools.block, which wins",
    ),
    (
        "spec: {models: {allow: [b], default: b}, rules: [{when: {models: [a]}, models: {allow: [a]}}]}",
        "line 4, column 80: spec.rules[0].models: 'b' is not among models.allow",
    ),
    (
        "spec: {models: {allow: [b]}, rules: [{when: {models: [b, a]}, mode: hard}]}",
        "line 4, column 58: spec.rules[0].when.models[1]: 'a' is not among models.allow, so that no such request passes: the rule can allow it",
    ),
    (
        "spec: {rules: [{when: {models: ['gpt-oss:120b-cloud']}, mode: hard}]}",
        "line 4, column 33: spec.rules[0].when.models[0]: 'gpt-oss:120b-cloud' runs in a cloud, which models.cloud denies: no such request passes",
    ),
    (
        "spec: {models: {cloud: allow, allow: ['gpt-oss:120b-cloud']}, rules: [{when: {tools: true}, models: {cloud: deny}}]}",
        "line 4, column 101: spec.rules[0].models: 'gpt-oss:120b-cloud' runs in a cloud, which models.cloud denies: it would never be allowed",
    ),
    (
        "spec: {rules: [{when: {tools: true}, redaction: {kinds: []}}]}",
        "line 4, column 57: spec.rules[0].redaction.kinds: it is empty: leave it out for every kind, or name those that are meant",
    ),
    ("spec: {tools: {block: [a], highRisk: ~}}", "line 4, column 38: spec.tools.highRisk: a list is expected, and there is nothing"),
    ("spec: {models: {cloud: ~}}", "line 4, column 24: spec.models.cloud: one of deny, allow is expected, and there is nothing"),
    (
        "spec: {rules: [{when: {routes: [/api/embed, /api/generate], documents: true, systemPrompts: ['sha256:0000000000000000000000000000000000000000000000000000000000000000']}, mode: hard}]}",
        "line 4, column 23: spec.rules[0].when: no request can fit: no route takes all of it",
    ),
];

/// Whole documents.
const DOCUMENTS: &[(&str, &str)] = &[
    ("", "line 1, column 1: the key 'apiVersion' is missing"),
    ("# nothing\n", "line 2, column 1: the key 'apiVersion' is missing"),
    ("[]", "line 1, column 1: a mapping is expected, and there is a list"),
    ("text", "line 1, column 1: a mapping is expected, and there is a text"),
    ("kind: GuardPolicy\n", "line 1, column 1: the key 'apiVersion' is missing"),
    ("apiVersion: llm-guard.io/v1alpha1\n", "line 1, column 1: the key 'kind' is missing"),
    (
        "apiVersion: v1\nkind: GuardPolicy\n",
        "line 1, column 13: apiVersion: 'v1' is something else; this guard reads llm-guard.io/v1alpha1",
    ),
    ("apiVersion: llm-guard.io/v1alpha1\nkind: Pod\n", "line 2, column 7: kind: 'Pod' is something else; this guard reads GuardPolicy"),
    (
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: 7}\n",
        "line 3, column 18: metadata.name: a text is expected, and there is a number; as a text it stands in quotes",
    ),
    (
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: p\n",
        "line 3, column 11: metadata: a mapping is expected, and there is a text",
    ),
    ("\u{0}", "line 1, column 1: this is no YAML: unexpected character: `\\u{0}'"),
];

#[test]
fn each_broken_document_gets_its_message() {
    for (document, expected) in DOCUMENTS {
        assert_eq!(said(document), *expected, "{document}");
    }
}

#[test]
fn a_message_is_a_sentence_however_long_what_it_is_about_is() {
    let long = "x".repeat(100_000);
    for spec in [
        format!("{{? {long} : 1}}"),
        format!("{{mode: {long}}}"),
        format!("{{models: {{allow: [{long}]}}}}"),
        format!("{{models: {{allow: [a], default: {long}}}}}"),
        format!("{{tools: {{allow: [{long}], block: [{long}]}}}}"),
        format!("{{tools: {{allow: ['{long} ']}}}}"),
        format!("{{network: {{from: [{{podSelector: {{matchLabels: {{? {long} : '{long}'}}}}}}]}}}}"),
    ] {
        let said = said(&format!("{HEAD}spec: {spec}"));
        assert!(said.len() < 400 && said.starts_with("line 4"), "{} bytes", said.len());
    }
    let said = said(&format!("apiVersion: {long}\nkind: GuardPolicy\n"));
    assert!(said.len() < 400 && said.starts_with("line 1"), "{said}");
}

#[test]
fn what_is_nested_too_deeply_or_too_large_is_an_error() {
    for deep in ["[", "{a: ", "- ", "? "] {
        let said = said(&format!("{HEAD}spec:\n  {}", deep.repeat(100_000)));
        assert!(said.contains("nested more than 32 levels deep"), "{said}");
    }
    assert_eq!(said(&"#".repeat(1024 * 1024 + 1)), "the policy has 1048577 bytes; at most 1048576 are read");
}

#[test]
fn what_is_too_much_of_the_redactions_own_lists_is_an_error() {
    let of = |redaction: &str| said(&format!("{HEAD}spec: {{redaction: {{{redaction}}}}}"));
    let patterns: Vec<String> = (0..65).map(|number| format!("{{name: k{number}, pattern: 'K{number}-[0-9]{{4}}'}}")).collect();
    assert_eq!(of(&format!("patterns: [{}]", patterns[..64].join(", "))), "it is accepted");
    assert!(
        of(&format!("patterns: [{}]", patterns.join(", "))).ends_with("redaction.patterns[64]: there are 65 entries; at most 64 are read")
    );
    let long = of(&format!("patterns: [{{name: k, pattern: 'K{}'}}]", "a".repeat(256)));
    assert!(long.ends_with("redaction.patterns[0].pattern: it has 257 bytes; at most 256 are read"), "{long}");
    let long = of(&format!("patterns: [{{name: k{}, pattern: 'K-[0-9]{{4}}'}}]", "a".repeat(40)));
    assert!(long.contains("at most 40") && long.contains("redaction.patterns[0].name"), "{long}");
    let near = of(&format!("patterns: [{{name: k, pattern: 'K-[0-9]{{4}}', near: [{}]}}]", ["word"; 17].join(", ")));
    assert!(near.ends_with("redaction.patterns[0].near[16]: there are 17 entries; at most 16 are read"), "{near}");
    let allow = of(&format!("allow: [{}]", ["a"; 257].join(", ")));
    assert!(allow.ends_with("redaction.allow[256]: there are 257 entries; at most 256 are read"), "{allow}");
    let allow = of(&format!("allow: [{}]", "a".repeat(257)));
    assert!(allow.ends_with("redaction.allow[0]: it has 257 bytes; at most 256 are read"), "{allow}");
    let replacements = of(&format!("replacements: [{}]", ["{kinds: [email], with: mark}"; 65].join(", ")));
    assert!(replacements.ends_with("redaction.replacements[64]: there are 65 entries; at most 64 are read"), "{replacements}");
}

#[test]
fn each_broken_spec_gets_its_message() {
    for (spec, expected) in SPECS.iter().chain(RULES) {
        assert_eq!(said(&format!("{HEAD}{spec}")), *expected, "{spec}");
    }
}
