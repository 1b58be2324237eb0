//! The dashboard: Grafana can't be had here, so its form is held to what Grafana reads, and each of its queries is asked of a real
//! Prometheus that reads real guards.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use llm_guard_tests::cluster::{Admission, Version};
use llm_guard_tests::faulty::{FaultyServer, well};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::planted::Planted;
use llm_guard_tests::prometheus::{Prometheus, Target};
use serde_json::{Value, json};

use crate::helm::deploy;
use crate::injector::{Injector, policy};

/// The columns of Grafana's grid.
const COLUMNS: u64 = 24;

fn dashboard() -> io::Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(deploy("dashboards/llm-guard.json"))?)?)
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    value[what].as_array().map_or(&[], Vec::as_slice)
}

/// The panels that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value[what].as_str().unwrap_or_default()
}

#[test]
fn each_panel_says_what_it_shows_and_in_which_unit() -> io::Result<()> {
    let dashboard = dashboard()?;
    let mut titles = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(!title.is_empty() && titles.insert(title.to_owned()), "a title that is empty or there twice: {title}");
        assert!(text(panel, "description").ends_with('.'), "{title}: its description is no sentence");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
        assert!(["timeseries", "stat", "table"].contains(&text(panel, "type")), "{title}: a panel of another type");
        assert!(!list(panel, "targets").is_empty(), "{title}: nothing is asked");
    }
    Ok(())
}

#[test]
fn panels_stand_in_the_grid_without_overlapping() -> io::Result<()> {
    let dashboard = dashboard()?;
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|part| panel["gridPos"][part].as_u64().unwrap_or(u64::MAX));
        assert!(width >= 1 && height >= 1 && width <= COLUMNS && x <= COLUMNS - width, "{title} leaves the grid");
        for cell in (x..x + width).flat_map(|column| (y..y + height).map(move |line| (column, line))) {
            assert!(taken.insert(cell), "{title} overlaps another panel at {cell:?}");
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap_or_default()), "{title}: its id is another's too");
    }
    // No gap either: Grafana would move panels up, and say that the dashboard has changed.
    let lines = taken.iter().map(|(_, line)| line + 1).max().unwrap_or_default();
    for line in 0..lines {
        assert!(taken.contains(&(0, line)), "nothing stands in line {line}");
    }
    Ok(())
}

#[test]
fn everything_is_asked_of_the_chosen_data_source_and_of_the_chosen_guards() -> io::Result<()> {
    let dashboard = dashboard()?;
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert_eq!(panel["datasource"], source, "{title}");
        let mut names = BTreeSet::new();
        for target in list(panel, "targets") {
            assert_eq!(target["datasource"], source, "{title}");
            assert!(names.insert(text(target, "refId")), "{title}: two queries of one name");
            let query = text(target, "expr");
            let guards = query.matches("llm_guard_").count() - query.matches("llm_guard_injector_").count();
            assert_eq!(query.matches("{namespace=~\"$namespace\", pod=~\"$pod\"").count(), guards, "{title}: {query}");
        }
    }
    let variables: Vec<_> = list(&dashboard["templating"], "list").iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(variables, ["datasource", "namespace", "pod"]);
    Ok(())
}

/// A query as Grafana would send it, when one namespace and all pods are chosen.
fn filled_in(query: &str) -> String {
    query.replace("$__rate_interval", "1m").replace("$__range", "5m").replace("$namespace", "llm").replace("$pod", ".*")
}

/// The labels that a legend names.
fn legend(target: &Value) -> Vec<&str> {
    text(target, "legendFormat").split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).collect()
}

/// Why a panel would show nothing, or something else than it says; nothing if it shows what it should.
fn lacks(prometheus: &Prometheus, panel: &Value) -> io::Result<Option<String>> {
    for target in list(panel, "targets") {
        let query = filled_in(text(target, "expr"));
        assert!(!query.contains('$'), "a variable that the test doesn't know: {query}");
        let series = prometheus.query(&query)?;
        // A quantile of nothing is no number.
        if !series.iter().any(|series| series.value.is_finite()) {
            return Ok(Some(format!("{}: no value comes of {query}: {series:?}", text(panel, "title"))));
        }
        for label in legend(target) {
            if let Some(without) = series.iter().find(|series| !series.labels.iter().any(|name| name == label)) {
                return Ok(Some(format!("{}: the legend names {label}, but there is {without:?}", text(panel, "title"))));
            }
        }
    }
    Ok(None)
}

/// One of everything that the guards count.
fn traffic(enforcing: &Guard, monitoring: &Guard, planted: &Planted) -> io::Result<()> {
    let chat = |text: &str| json!({"model": "m", "messages": [{"role": "user", "content": text}], "stream": false});
    enforcing.post("/api/chat", &chat("Hello."))?;
    enforcing.post("/api/chat", &chat(&planted.injection))?;
    monitoring.post("/api/chat", &chat(&planted.injection))?;
    // Nobody knows the route: it passes unread.
    monitoring.post("/api/unheard-of", &json!({"text": "x"}))?;
    Ok(())
}

#[test]
fn each_panel_shows_something_once_guards_have_worked() -> io::Result<()> {
    let planted = Planted::read()?;
    let secret = planted.secrets.get("OPENAI_KEY").cloned().ok_or_else(|| io::Error::other("planted.json has no OPENAI_KEY"))?;
    let server = FaultyServer::start(move |request| well(request, &format!("The key is {secret}, so to speak.")))?;
    let document = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\nspec: {mode: hard}\n";
    let enforcing = Guard::before(server.url(), "dashboard").policy(document).start()?;
    let monitoring = Guard::before(server.url(), "dashboard").mode("monitor").start()?;
    let api = Admission::start(Version::Current)?;
    let injector = Injector::install(&api)?;
    let prometheus = Prometheus::start(&[
        Target { address: enforcing.metrics_address(), namespace: "llm", pod: "ollama-0" },
        Target { address: monitoring.metrics_address(), namespace: "llm", pod: "ollama-1" },
        Target { address: injector.metrics_address(), namespace: "llm-guard-system", pod: "llm-guard-injector-0" },
    ])?;

    let dashboard = dashboard()?;
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        traffic(&enforcing, &monitoring, &planted)?;
        // A review is all that the injector counts of by itself.
        let _ = policy(&api, "bad", &json!({"redacton": {}}))?;
        let lacking = panels(&dashboard).map(|panel| lacks(&prometheus, panel)).collect::<io::Result<Vec<_>>>()?;
        let lacking: Vec<_> = lacking.into_iter().flatten().collect();
        if lacking.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "after a minute:\n{}", lacking.join("\n"));
        // Until Prometheus has read again.
        thread::sleep(Duration::from_millis(500));
    }

    // What nobody counts no alert can tell of.
    let rules = fs::read_to_string(deploy("alerts/llm-guard.yaml"))?;
    let words = rules.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let names: BTreeSet<_> = words.filter(|word| word.starts_with("llm_guard_")).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(!prometheus.query(name)?.is_empty(), "an alert asks for {name}, which isn't there");
    }

    for (variable, expected) in [("namespace", vec!["llm"]), ("pod", vec!["ollama-0", "ollama-1"])] {
        let found = list(&dashboard["templating"], "list").iter().find(|found| found["name"] == variable);
        let definition = found.map(|found| filled_in(text(found, "definition"))).unwrap_or_default();
        let asked =
            definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).and_then(|rest| rest.rsplit_once(", "));
        let (selector, label) = asked.ok_or_else(|| io::Error::other(format!("{variable}: {definition}")))?;
        assert_eq!(prometheus.label_values(selector, label)?, expected, "{variable}");
    }
    Ok(())
}
