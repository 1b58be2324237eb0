//! Copies that are behind: what the watches of an injector tell it, is held back, while what it asks for is answered at once.
//!
//! An API server does so by itself when it is busy, for as long as it likes and when nobody looks; a test must say when.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use llm_guard_tests::cluster::wait_until;
use llm_guard_tests::process::Process;
use llm_guard_tests::{cache, records};
use serde_json::json;

use crate::field::{BEGIN, Field, SOON, default_policy};

/// How often it is looked whether what is held may go on.
const STEP: Duration = Duration::from_millis(10);
/// The most connections that are taken.
const MOST: usize = 500;

/// The API server as the injector reaches it: the watches of some kinds can be held back.
struct LateNews {
    address: SocketAddr,
    is_held: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    taker: Option<JoinHandle<()>>,
    _proxy: Process,
}

impl LateNews {
    /// `paths`: of the kinds whose watches can be held.
    fn start(field: &Field, paths: &'static [&'static str]) -> io::Result<Self> {
        let log = records::path("late-news", "log")?;
        let mut command = Command::new(cache::part("kubernetes")?.join("kubectl"));
        command.env_clear().arg("proxy").arg("--kubeconfig").arg(field.kubeconfig()).args(["--address=127.0.0.1", "--port=0"]);
        let mut proxy = Process::start(&mut command, &log)?;
        let server: SocketAddr = proxy.wait_to_say("where it serves", BEGIN, |said| said.trim().rsplit(' ').next()?.parse().ok())?;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (is_held, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let taker = thread::spawn({
            let (is_held, ended) = (Arc::clone(&is_held), Arc::clone(&ended));
            move || {
                for client in listener.incoming().take(MOST).map_while(Result::ok) {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(server) else { return };
                    connect(&client, &server, paths, &is_held);
                }
            }
        });
        Ok(Self { address, is_held, ended, taker: Some(taker), _proxy: proxy })
    }

    fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }
}

impl Drop for LateNews {
    fn drop(&mut self) {
        self.hold(false);
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(taker) = self.taker.take() {
            let _ = taker.join();
        }
    }
}

/// Carries both ways. The two threads end with the connection.
fn connect(client: &TcpStream, server: &TcpStream, paths: &'static [&'static str], is_held: &Arc<AtomicBool>) {
    let is_watch = Arc::new(AtomicBool::new(false));
    let (Ok(from_client), Ok(to_server), Ok(from_server), Ok(to_client)) =
        (client.try_clone(), server.try_clone(), server.try_clone(), client.try_clone())
    else {
        return;
    };
    thread::spawn({
        let is_watch = Arc::clone(&is_watch);
        move || {
            carry(from_client, to_server, |bytes| {
                let text = String::from_utf8_lossy(bytes);
                if let Some(line) = text.lines().next().filter(|line| line.ends_with("HTTP/1.1")) {
                    let is_one = line.contains("watch=") && paths.iter().any(|path| line.starts_with(&format!("GET {path}?")));
                    is_watch.store(is_one, Ordering::Relaxed);
                }
            });
        }
    });
    let is_held = Arc::clone(is_held);
    thread::spawn(move || {
        carry(from_server, to_client, |_| {
            while is_watch.load(Ordering::Relaxed) && is_held.load(Ordering::Relaxed) {
                thread::sleep(STEP);
            }
        });
    });
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        before(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn what_was_tightened_stays_while_the_copies_dont_know_of_it() -> io::Result<()> {
    let field = Field::bare()?;
    field.install_webhooks()?;
    let news = LateNews::start(&field, &["/api/v1/namespaces", "/apis/llm-guard.io/v1alpha1/guardpolicies", "/apis/apps/v1/deployments"])?;
    field.lead_injectors_to(news.address)?;
    let injector = field.injector(field.webhooks(), &[])?;
    injector.wait_until_ready()?;
    let namespace = field.namespace("a", &[])?;
    field.deployment(&namespace, &json!({}))?;
    field.pod_of_deployment(&namespace, "before")?;
    // Once these have arrived, the copies hold the namespace and the workload.
    let annotate = |object: &[&str], annotation: &str| field.api.kubectl(&[&["annotate", "--overwrite"], object, &[annotation]].concat());
    annotate(&["-n", &namespace, "deployment", "ollama"], "llm-guard.io/mode=monitor")?;
    field.wait_for_settings(&namespace, "the workload's mode", |settings| settings["mode"] == "monitor")?;
    annotate(&["namespace", &namespace], "llm-guard.io/minimum-mode=monitor")?;
    field.wait_for_settings(&namespace, "the namespace's floor", |settings| settings["floor"] == "monitor")?;

    news.hold(true);
    let peer = json!({"namespaceSelector": {"matchLabels": {"team": "chat"}}});
    field.create(&namespace, &default_policy(&json!({"network": {"from": [peer]}})))?;
    annotate(&["-n", &namespace, "deployment", "ollama"], "llm-guard.io/mode=soft")?;
    annotate(&["namespace", &namespace], "llm-guard.io/minimum-mode=hard")?;
    field.pod_of_deployment(&namespace, "after")?;
    let (name, admitted) = field.settings(&namespace).map_err(io::Error::other)?;
    assert_eq!((&admitted["mode"], &admitted["floor"]), (&json!("soft"), &json!("hard")));
    let from = || -> Result<_, String> {
        let policy = field.api.json(&["-n", &namespace, "networkpolicy", &name]).map_err(|error| error.to_string())?;
        Ok(policy["spec"]["ingress"][0]["from"].clone())
    };

    // That this one is there again says that the injector has looked at the namespace.
    for _ in 0..3 {
        field.api.kubectl(&["-n", &namespace, "delete", "networkpolicy", "llm-guard-unguarded"])?;
        wait_until("the network policy is there again", SOON, || {
            field.api.json(&["-n", &namespace, "networkpolicy", "llm-guard-unguarded"]).map_err(|error| error.to_string())
        })?;
        let (_, settings) = field.settings(&namespace).map_err(io::Error::other)?;
        assert_eq!(settings["text"], admitted["text"]);
        assert_eq!(from().map_err(io::Error::other)?, json!([peer]));
    }

    // Nor is anything written twice once the news arrives.
    news.hold(false);
    annotate(&["namespace", &namespace], "llm-guard.io/stop=true")?;
    let stopped = field.wait_for_settings(&namespace, "the news has arrived", |settings| settings["stop"] == true)?;
    assert_eq!((&stopped["mode"], &stopped["floor"]), (&json!("soft"), &json!("hard")));
    injector.wait_for_metric("settings_writes_total{result=\"conflict\"}", 0.0, SOON)
}
