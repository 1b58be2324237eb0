//! What the fuzz targets state, over all that is kept of their runs: hand-written seeds, what fuzzers made of them, and what once broke.

#[path = "../../../fuzz/properties/mod.rs"]
mod properties;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use llm_guard_engine::wire::routes::ROUTES;

/// Has `holds` judge every input that is kept for a target.
fn replay(target: &str, holds: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for kept in ["seeds", "corpus"] {
        let folder = root.join(kept).join(target);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        files.sort();
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            // The name of the input that breaks the property stands before the panic's own words.
            println!("{}", file.display());
            holds(&bytes);
        }
    }
}

#[test]
fn what_is_forwarded_of_every_kept_request_was_judged() {
    replay("request", properties::request::holds);
}

#[test]
fn every_kept_answer_is_cut_into_the_same_frames_however_it_arrives() {
    replay("frames", properties::frames::holds);
}

#[test]
fn no_kept_stream_gives_a_secret_away() {
    replay("stream", properties::stream::holds);
}

#[test]
fn no_kept_whole_answer_gives_a_secret_away() {
    replay("whole", properties::whole::holds);
}

#[test]
fn every_kept_path_leads_where_the_server_would_go_or_nowhere() {
    replay("path", properties::path::holds);
}

#[test]
fn every_kept_json_is_read_in_one_way() {
    replay("json", properties::json::holds);
}

#[test]
fn every_kept_policy_means_what_it_says() {
    replay("policy", properties::policy::holds);
}

#[test]
fn no_kept_text_gives_a_planted_value_away() {
    replay("redaction", properties::redaction::holds);
}

#[test]
fn every_kept_packed_body_stays_within_its_bounds() {
    replay("zstd", properties::zstd::holds);
}

#[test]
fn the_targets_know_every_kind_of_body() {
    let known: HashSet<_> = properties::request::BODIES.into_iter().collect();
    assert_eq!(ROUTES.iter().map(|route| route.body).collect::<HashSet<_>>(), known);
}
