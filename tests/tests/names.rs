//! Names of models, each once before a real Ollama behind the guard in hard: whatever the guard lets through runs a model that the policy
//! allows, or is the server's own refusal. And models that run elsewhere, which the guard finds out from the server.
//!
//! The invariant: which model ran is told by what it says; the scripted models each say their own. Nothing here leaves the loopback:
//! the "cloud" is a server of the test's.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use llm_guard_tests::apis::Api;
use llm_guard_tests::faulty::{FaultyServer, Received, well};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::ollama::Ollama;
use llm_guard_tests::plain::{self, Reply};
use llm_guard_tests::planted::Planted;
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// The guard lets it through, and `calm` answers.
    Runs,
    /// The guard lets it through, and the server says that there is no such model.
    Server,
    /// The guard refuses it, with this kind.
    Refused(&'static str),
}

/// What the policy allows in [`NAMES`].
const ALLOWED: &str = "[calm, fine, ghost, chain, 'pre*', stub, tostub, absent, 'h.test/a/b']";

/// The names, and what becomes of each. `leaky` is also installed as `calm:3b`, `calm:local`, `calm:cloud`, `calm:x-cloud` and
/// `other/calm`, so that a name which is mistaken for another says what it shouldn't.
#[rustfmt::skip]
const NAMES: [(&str, Fate); 80] = {
    use Fate::{Refused, Runs, Server};
    [
        // One model in many spellings.
        ("calm", Runs), ("calm:latest", Runs), ("CALM", Runs), ("Calm:Latest", Runs), ("cALM:LATEST", Runs),
        ("library/calm", Runs), ("LIBRARY/calm", Runs), ("library/calm:latest", Runs),
        ("registry.ollama.ai/library/calm", Runs), ("Registry.Ollama.AI/Library/Calm:LATEST", Runs),
        ("http://registry.ollama.ai/library/calm", Runs), ("HTTPS://registry.ollama.ai/library/calm:latest", Runs),
        ("no scheme at all://registry.ollama.ai/library/calm", Runs), ("://registry.ollama.ai/library/calm", Runs),
        ("https:///library/calm", Runs), ("a/b://registry.ollama.ai/library/calm", Runs),
        // Spellings that another version takes for it; this one takes them for nothing.
        (" calm", Server), ("calm ", Server), ("\tcalm\n", Server), ("\u{a0}calm", Server), ("calm: local", Server), ("calm:latest:local", Server),
        // Here one version reads it as calm, and the other as another model, which is installed.
        ("calm:local", Refused("not_allowed")), ("calm:LOCAL", Refused("not_allowed")), ("library/calm:local", Refused("not_allowed")),
        // Others.
        ("calm:3b", Refused("not_allowed")), ("calm:3B", Refused("not_allowed")), ("other/calm", Refused("not_allowed")),
        ("leaky", Refused("not_allowed")), ("LEAKY:latest", Refused("not_allowed")), (" leaky ", Refused("not_allowed")),
        ("library/leaky", Refused("not_allowed")), ("http://registry.ollama.ai/library/leaky", Refused("not_allowed")),
        ("https:///library/leaky", Refused("not_allowed")), ("leaky:local", Refused("not_allowed")), ("evil.test/library/calm", Refused("not_allowed")),
        ("registry.ollama.ai:443/library/calm", Refused("not_allowed")), ("calm-x", Refused("not_allowed")), ("xcalm", Refused("not_allowed")),
        ("calm:latest:3b:local", Refused("invalid_name")), ("calm.", Refused("not_allowed")), ("calm_", Refused("not_allowed")),
        // Models of a cloud, by their names.
        ("calm:cloud", Refused("not_allowed")), ("calm:x-cloud", Refused("not_allowed")), ("calm:latest:cloud", Refused("not_allowed")),
        ("absent:cloud", Refused("not_allowed")), ("prefix:cloud", Refused("cloud")), ("prefix:20b-CLOUD", Refused("cloud")),
        ("prefix:20b:Cloud", Refused("cloud")), ("prefix: cloud ", Refused("cloud")), ("calm :cloud", Refused("invalid_name")),
        // Aliases that were made behind the guard's back.
        ("fine", Runs), ("FINE:latest", Runs), ("library/fine", Runs), ("ghost", Refused("not_allowed")), ("Ghost:latest", Refused("not_allowed")),
        ("chain", Refused("not_allowed")), ("prefix", Refused("not_allowed")), ("PREFIX:7b", Refused("not_allowed")),
        // Models that run elsewhere.
        ("stub", Refused("cloud")), ("STUB:latest", Refused("cloud")), ("http://registry.ollama.ai/library/stub", Refused("cloud")), ("tostub", Refused("cloud")),
        // Allowed and not there.
        ("absent", Server), ("h.test/a/b", Server), ("https://H.test/a/b:latest", Server), ("premise", Refused("not_allowed")),
        // What no server takes for a name.
        ("calm:", Refused("invalid_name")), (":latest", Refused("invalid_name")), ("/calm", Refused("invalid_name")),
        ("library//calm", Refused("invalid_name")), ("a/registry.ollama.ai/library/calm", Refused("invalid_name")),
        ("x://calm", Refused("invalid_name")), ("calm@sha256:00", Refused("invalid_name")), ("calm\u{0}", Refused("invalid_name")),
        ("\u{441}alm", Refused("invalid_name")), ("ca lm", Refused("invalid_name")), ("../calm", Refused("invalid_name")),
        ("-calm", Refused("invalid_name")), ("calm:la/test", Refused("invalid_name")),
    ]
};

/// A policy's `models`.
fn policy(mode: &str, models: &str) -> String {
    format!(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {{name: names}}\nspec:\n  mode: {mode}\n  management: {{mode: monitor}}\n  \
         models: {models}\n"
    )
}

fn guard(ollama: &Ollama, mode: &str, models: &str) -> io::Result<Guard> {
    Guard::before(ollama.url(), "names").policy(policy(mode, models)).start()
}

/// A chat with a model, in a prompt of the tests.
fn chat(planted: &Planted, model: &str) -> Value {
    json!({"model": model, "stream": false, "messages": [{"role": "user", "content": format!("{}: hello", planted.prompt_marker)}]})
}

/// Changes something at the server itself, past the guard.
fn directly(ollama: &Ollama, path: &str, document: &Value) -> io::Result<()> {
    succeeded(plain::post(ollama.address(), path, document)?).map(drop)
}

fn succeeded(reply: Reply) -> io::Result<Reply> {
    // (Some failures come as a line behind a good status.)
    if reply.status.is_success() && !reply.text().contains("\"error\"") { Ok(reply) } else { Err(io::Error::other(format!("{reply:?}"))) }
}

fn remote_stub(name: &str, remote: &FaultyServer) -> Value {
    json!({"model": name, "from": "big", "remote_host": remote.url(), "stream": false})
}

/// A server that would answer in the model's place, elsewhere.
fn cloud() -> io::Result<FaultyServer> {
    FaultyServer::start(|request: &Received| well(request, "Greetings from afar."))
}

/// What a chat's answer says.
fn said(reply: &Reply) -> io::Result<String> {
    Ok(reply.json()?["message"]["content"].as_str().unwrap_or_default().to_owned())
}

/// Ollama with everything that the table needs.
fn furnished(remote: &FaultyServer) -> io::Result<Ollama> {
    let ollama = Ollama::with_remotes()?;
    for copy in ["calm:3b", "calm:local", "calm:cloud", "calm:x-cloud", "other/calm"] {
        directly(&ollama, "/api/copy", &json!({"source": "leaky", "destination": copy}))?;
    }
    directly(&ollama, "/api/create", &remote_stub("stub", remote))?;
    for (alias, target, is_prefix) in
        [("fine", "Calm", false), ("ghost", "leaky", false), ("chain", "ghost", false), ("pre", "leaky", true), ("tostub", "stub", false)]
    {
        directly(&ollama, "/api/experimental/aliases", &json!({"alias": alias, "target": target, "prefix_matching": is_prefix}))?;
    }
    Ok(ollama)
}

fn reason(reply: &Reply) -> Option<&str> {
    reply.headers.get("x-llm-guard-reason").and_then(|value| value.to_str().ok())
}

/// What became of a chat behind the guard, and that it is a fate that the guard may let it have.
fn fate(planted: &Planted, guard: &Guard, name: &str) -> Result<Fate, Box<dyn Error>> {
    let before = counts(guard)?;
    let reply = guard.post("/api/chat", &chat(planted, name))?;
    if reply.status == 200 {
        assert_eq!(said(&reply)?, planted.answer("calm")?, "{name:?}: another model answers");
        assert_eq!(reply.json()?["model"], name, "the answer names the model as it was asked for");
        return Ok(Fate::Runs);
    }
    if reason(&reply).is_none() {
        assert!([400, 404].contains(&reply.status.as_u16()), "{name:?}: {reply:?}");
        return Ok(Fate::Server);
    }
    let after = counts(guard)?;
    let kinds: Vec<_> = KINDS
        .into_iter()
        .filter(|kind| after.contains(*kind) != before.contains(*kind) || count(&after, kind) > count(&before, kind))
        .collect();
    let [kind] = kinds[..] else { return Err(format!("{name:?}: counted are {kinds:?}").into()) };
    let status = match kind {
        "invalid_name" => 400,
        "place_unknown" => 502,
        _ => 403,
    };
    assert_eq!(reply.status, status, "{name:?}");
    let message = reply.json()?["error"].as_str().unwrap_or_default().to_owned();
    assert!(!message.is_empty() && (kind != "invalid_name" || message.starts_with("model: ")), "{name:?}: {message}");
    Ok(Fate::Refused(kind))
}

const KINDS: [&str; 4] = ["invalid_name", "not_allowed", "cloud", "place_unknown"];

fn counts(guard: &Guard) -> io::Result<String> {
    guard.metrics()
}

fn count(metrics: &str, kind: &str) -> u64 {
    let label = format!("control=\"models\",kind=\"{kind}\"");
    metrics.lines().filter(|line| line.contains(&label)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn whatever_a_model_is_called_only_an_allowed_one_runs() -> Outcome {
    let planted = Planted::read()?;
    let remote = cloud()?;
    let ollama = furnished(&remote)?;
    // Without the guard the aliases and copies are what they are said to be.
    for (name, model) in [("ghost", "leaky"), ("prefix", "leaky"), ("chain", "leaky"), ("calm:local", "leaky"), ("fine", "calm")] {
        let reply = plain::post(ollama.address(), "/api/chat", &chat(&planted, name))?;
        assert_eq!(said(&reply)?, planted.answer(model)?, "{name}");
    }
    let guard = guard(&ollama, "hard", &format!("{{allow: {ALLOWED}}}"))?;
    let mut wrong = Vec::new();
    for (name, expected) in NAMES {
        let became = fate(&planted, &guard, name)?;
        if became != expected {
            wrong.push(format!("{name:?} should be {expected:?}, and is {became:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(remote.received().is_empty(), "something left: {:?}", remote.received());
    assert!(guard.stop()?.success());
    Ok(())
}

#[test]
fn over_the_other_routes_a_name_has_no_other_fate() -> Outcome {
    let planted = Planted::read()?;
    let remote = cloud()?;
    let ollama = furnished(&remote)?;
    let guard = guard(&ollama, "hard", &format!("{{allow: {ALLOWED}}}"))?;
    let prompt = format!("{}: hello", planted.prompt_marker);
    for (name, expected) in NAMES {
        let said = json!([{"role": "user", "content": prompt}]);
        for (path, document) in [
            ("/api/generate", json!({"model": name, "prompt": prompt, "stream": false})),
            ("/api/embed", json!({"model": name, "input": prompt})),
            ("/api/embeddings", json!({"model": name, "prompt": prompt})),
            ("/v1/chat/completions", json!({"model": name, "messages": said})),
            ("/v1/completions", json!({"model": name, "prompt": prompt})),
            ("/v1/responses", json!({"model": name, "input": prompt})),
            ("/v1/messages", json!({"model": name, "max_tokens": 4096, "messages": said})),
            ("/v1/embeddings", json!({"model": name, "input": prompt})),
        ] {
            let reply = guard.post(path, &document)?;
            let is_own = path.starts_with("/api");
            match (reason(&reply), expected) {
                // Over the APIs that others speak as well, what is no name to Ollama is only not on the list.
                (Some("models"), Fate::Refused("invalid_name")) => {
                    let control = name.contains('\0');
                    assert_eq!(reply.status, if is_own || control { 400 } else { 403 }, "{path} {name:?}");
                }
                (Some("models"), Fate::Refused(_)) => assert_eq!(reply.status, 403, "{path} {name:?}"),
                // Aliases lead nowhere in embeddings, and case counts in one of its routes.
                (None, Fate::Runs) if path.contains("embed") => {
                    assert!([200, 400, 404, 500].contains(&reply.status.as_u16()), "{path} {name:?}: {reply:?}");
                }
                (None, Fate::Runs) => {
                    assert_eq!(reply.status, 200, "{path} {name:?}: {reply:?}");
                    let answer = planted.answer("calm")?;
                    let last_line = answer.lines().find(|line| line.starts_with("Not secret")).unwrap_or(&answer);
                    assert!(reply.text().contains(last_line), "{path} {name:?}: another model answers");
                }
                (None, Fate::Server) => assert!((400..=500).contains(&reply.status.as_u16()), "{path} {name:?}: {reply:?}"),
                (reason, expected) => panic!("{path} {name:?} should be {expected:?}, and is {reason:?}: {reply:?}"),
            }
        }
    }
    assert!(remote.received().is_empty(), "something left: {:?}", remote.received());
    assert!(guard.stop()?.success());
    Ok(())
}

#[test]
fn what_runs_elsewhere_is_found_out_and_what_is_asked_stays_here() -> Outcome {
    let planted = Planted::read()?;
    let remote = cloud()?;
    let ollama = furnished(&remote)?;
    let left =
        || remote.received().iter().filter(|request| String::from_utf8_lossy(&request.body).contains(&planted.prompt_marker)).count();
    // Without the guard it leaves.
    let reply = plain::post(ollama.address(), "/api/chat", &chat(&planted, "stub"))?;
    assert_eq!((said(&reply)?.as_str(), left()), ("Greetings from afar.", 1));

    for mode in ["soft", "hard"] {
        let guard = guard(&ollama, mode, "{}")?;
        for name in ["stub", "tostub"] {
            assert_eq!(fate(&planted, &guard, name)?, Fate::Refused("cloud"), "{mode}");
        }
        for api in [Api::Generate, Api::OpenAi] {
            let mut document: Value = serde_json::from_slice(&api.request("hello", true))?;
            document["model"] = "stub".into();
            assert_eq!(guard.post(api.path(), &document)?.status, 403, "{mode} {api:?}");
        }
        assert!(guard.stop()?.success());
    }
    let soft = guard(&ollama, "soft", "{default: calm}")?;
    let reply = soft.post("/api/chat", &chat(&planted, "stub"))?;
    assert_eq!((said(&reply)?, reason(&reply)), (planted.answer("calm")?, Some("models")));
    assert!(soft.stop()?.success());
    assert_eq!(left(), 1, "nothing has left since");

    // In monitor it leaves, and its answer tells; nobody asks the server beforehand.
    let shows = |ollama: &Ollama| Ok::<_, io::Error>(ollama.log()?.matches("\"/api/show\"").count());
    let before = shows(&ollama)?;
    let monitor = guard(&ollama, "monitor", "{}")?;
    assert_eq!(said(&monitor.post("/api/chat", &chat(&planted, "stub"))?)?, "Greetings from afar.");
    assert_eq!((count(&counts(&monitor)?, "cloud"), left()), (1, 2));
    assert!(monitor.stop()?.success());
    assert_eq!(shows(&ollama)?, before);
    // So it may where it is allowed, and then nobody asks either.
    let open = guard(&ollama, "hard", "{cloud: allow}")?;
    assert_eq!(said(&open.post("/api/chat", &chat(&planted, "stub"))?)?, "Greetings from afar.");
    assert!(open.stop()?.success());
    assert_eq!(shows(&ollama)?, before);
    Ok(())
}

#[test]
fn a_server_whose_cloud_is_switched_off_tells_of_its_models_all_the_same() -> Outcome {
    let planted = Planted::read()?;
    let remote = cloud()?;
    let ollama = Ollama::start()?;
    directly(&ollama, "/api/create", &remote_stub("stub", &remote))?;
    let guard = guard(&ollama, "hard", "{}")?;
    assert_eq!(fate(&planted, &guard, "stub")?, Fate::Refused("cloud"));
    assert_eq!(fate(&planted, &guard, "calm")?, Fate::Runs);
    assert!(guard.stop()?.success());
    Ok(())
}

#[test]
fn the_server_is_asked_once_and_again_when_somebody_changed_its_models_through_the_guard() -> Outcome {
    let planted = Planted::read()?;
    let remote = cloud()?;
    let ollama = Ollama::with_remotes()?;
    let shows = || Ok::<_, io::Error>(ollama.log()?.matches("\"/api/show\"").count());
    let guard = guard(&ollama, "hard", "{}")?;
    directly(&ollama, "/api/copy", &json!({"source": "calm", "destination": "fresh"}))?;
    let mut times = Vec::new();
    for _ in 0..10 {
        let since = Instant::now();
        assert_eq!(fate(&planted, &guard, "fresh")?, Fate::Runs);
        times.push(since.elapsed());
    }
    assert_eq!(shows()?, 1, "after ten requests");
    println!("first {:?}, then {:?} at least", times[0], times[1..].iter().min().copied().unwrap_or(Duration::MAX));
    // When a caller of the pod changes models through the guard, what was kept counts no longer. (A model that runs elsewhere no policy
    // lets anybody make, so that it is made past the guard.)
    directly(&ollama, "/api/create", &remote_stub("fresh", &remote))?;
    succeeded(guard.post("/api/copy", &json!({"source": "calm", "destination": "another"}))?)?;
    assert_eq!(fate(&planted, &guard, "fresh")?, Fate::Refused("cloud"));
    assert_eq!(fate(&planted, &guard, "fresh")?, Fate::Refused("cloud"));
    assert_eq!(shows()?, 2);
    // A model that isn't there is looked for each time: it may be there the next.
    for _ in 0..2 {
        assert_eq!(fate(&planted, &guard, "later")?, Fate::Server);
    }
    directly(&ollama, "/api/create", &remote_stub("later", &remote))?;
    assert_eq!(fate(&planted, &guard, "later")?, Fate::Refused("cloud"));
    assert_eq!(shows()?, 5);
    assert!(remote.received().is_empty(), "something left: {:?}", remote.received());
    assert!(guard.stop()?.success());
    Ok(())
}
