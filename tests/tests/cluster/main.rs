//! The guard in a real cluster: from a label on a namespace to what Prometheus says, each scene in namespaces of its own.
//!
//! One node serves all scenes, which run a few at a time; those that change the installation run alone, at the end.
//! `cargo test --test cluster -- WORD` plays the scenes with WORD in their name.

mod figures;
mod glass;
mod interception;
mod kinds;
mod kit;
mod lifecycle;
mod live;
mod manifests;
mod network;
mod refusals;
mod roll_out;
mod tamper;
mod watching;
mod ways;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use llm_guard_tests::cluster::Node;
use llm_guard_tests::planted::Planted;
use serde_json::json;

use kit::{Scene, Stage};

/// A scene, by its sentence.
type Named = (&'static str, fn(&Stage) -> Scene);

/// Scenes that leave each other alone.
const TOGETHER: &[Named] = &[
    ("the_official_image_is_guarded_from_monitor_to_hard", roll_out::official),
    ("an_ollama_without_root_is_guarded_from_monitor_to_hard", roll_out::non_root),
    ("no_way_around_as_root", ways::as_root),
    ("no_way_around_as_its_user", ways::as_its_user),
    ("no_way_around_as_the_guards_user", ways::as_the_guards_user),
    ("no_way_around_along_an_older_connection", ways::along_an_older_connection),
    ("the_ways_lead_to_a_model_that_nothing_guards", ways::open_without_a_guard),
    ("a_neighbour_that_drops_root_needs_allow_setuid_and_stays_in_monitor", ways::neighbour_that_drops_root),
    ("who_reaches_which_port", network::table),
    ("a_labelled_pod_without_a_guard_is_reached_by_nobody", network::labelled_without_a_guard),
    ("a_baseline_namespace_works_by_port", interception::baseline),
    ("a_restricted_namespace_works_by_port", interception::restricted),
    ("each_refusal_has_its_words_on_the_pod_and_on_its_deployment", refusals::each_with_its_words),
    ("an_unlabelled_pod_is_untouched", refusals::unlabelled),
    ("model_servers_are_found_by_what_they_are", kinds::found_by_the_namespace),
    ("a_job_ends", kinds::a_job_that_ends),
    ("a_pod_deleted_in_mid_stream_lets_the_stream_end", lifecycle::deleted_in_mid_stream),
    ("a_liveness_probe_fails_exactly_when_the_model_is_dead", lifecycle::liveness),
    ("the_guard_has_least_privilege", lifecycle::least_privilege),
    ("twenty_changes_under_load_lose_no_request_and_mix_no_verdict", live::changes_under_load),
    ("a_stop_is_in_force_at_once_and_the_models_probes_go_on", live::stop),
    ("prometheus_says_what_happened", watching::prometheus_says_what_happened),
];

/// Scenes that change what all share.
const ALONE: &[Named] = &[
    ("what_it_costs", figures::what_it_costs),
    ("settings_put_in_by_hand_have_no_effect_and_are_put_right", tamper::by_hand),
    ("broken_glass_is_for_whom_it_is_meant_and_mends_itself", glass::broken_and_mended),
    ("the_injector_may_go", lifecycle::injector_gone),
    ("a_node_with_legacy_iptables_works", interception::legacy),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let wanted = |name: &str| arguments.filter.as_ref().is_none_or(|word| name.contains(word.as_str()));
    if arguments.list || !TOGETHER.iter().chain(ALONE).any(|(name, _)| wanted(name)) {
        return libtest_mimic::run(&arguments, trials(TOGETHER.iter().chain(ALONE), None)).exit_code();
    }
    let stage = match set_the_stage() {
        Ok(stage) => Arc::new(stage),
        Err(error) => {
            eprintln!("the stage can't be set: {error}");
            return ExitCode::FAILURE;
        }
    };
    arguments.test_threads = arguments.test_threads.or(Some(3));
    let together = libtest_mimic::run(&arguments, trials(TOGETHER.iter(), Some(&stage)));
    arguments.test_threads = Some(1);
    let alone = libtest_mimic::run(&arguments, trials(ALONE.iter(), Some(&stage)));
    // The node ends with the last that holds it.
    drop(stage);
    if together.has_failed() || alone.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn trials<'a>(scenes: impl Iterator<Item = &'a Named>, stage: Option<&Arc<Stage>>) -> Vec<Trial> {
    scenes
        .map(|(name, scene)| {
            let stage = stage.cloned();
            let scene = *scene;
            Trial::test(*name, move || match stage {
                Some(stage) => scene(&stage).map_err(Into::into),
                None => Err("this scene has no stage".into()),
            })
        })
        .collect()
}

/// A node, the chart installed, the registry that models are pulled from.
fn set_the_stage() -> Result<Stage, String> {
    let planted = Planted::read().map_err(|error| error.to_string())?;
    let node = Node::start("cluster").map_err(|error| error.to_string())?;
    let before = refusals::untouched(&node)?;
    kit::install(&node, json!({}))?;
    let registry = manifests::registry(&node)?;
    Ok(Stage { node, planted, registry, before })
}
