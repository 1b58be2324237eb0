//! `Json::read` takes what is JSON with unique keys and nothing else, and what it has read it writes so that every reader finds the same.

use std::collections::HashSet;

use llm_guard_engine::wire::Json;
use llm_guard_engine::wire::json::{folded, names_field};
use serde_json::Value;

use super::tree::Tree;

/// How deep a value may be nested.
const DEPTH: usize = 128;

pub(crate) fn holds(data: &[u8]) {
    let value: Result<Value, _> = serde_json::from_slice(data);
    let strict = value.is_ok() && Tree::read(data).is_some_and(|tree| !tree.has_twins());
    let read = Json::read(data);
    assert_eq!(read.is_ok(), strict, "two readers disagree on whether it is strict JSON");
    let (Ok(json), Ok(value)) = (read, value) else { return };

    let written = write(&json);
    assert_eq!(Json::read(&written).as_ref(), Ok(&json), "what was written is read as something else");
    assert_eq!(serde_json::from_slice::<Value>(&written).ok(), Some(value), "another reader finds another value in what was written");
    let tree = Tree::read(&written).expect("what was written is JSON");
    assert!(tree.depth() <= DEPTH, "{} deep", tree.depth());

    let mut texts = Vec::new();
    collect(&tree, &mut texts);
    let mut said = Vec::new();
    json.each_text(&mut |text| said.push(text));
    assert_eq!(said, texts, "each text is said, in order");

    let mut same = json.clone();
    same.each_text_mut(&mut |_| {});
    assert_eq!(same, json, "nothing was changed");
    // As many of the texts become equal as can.
    let mut changed = json.clone();
    changed.each_text_mut(&mut |text| text.truncate(0));
    assert!(Json::read(&write(&changed)).is_ok(), "keys stay unique");
    let mut marked = json;
    marked.each_text_mut(&mut |text| *text = "x#2".into());
    assert!(Json::read(&write(&marked)).is_ok(), "keys stay unique");

    if let Tree::Members(members) = &tree {
        for (key, _) in members.iter().take(8) {
            for (other, _) in members.iter().take(8) {
                assert_eq!(names_field(key, other), folded(key) == folded(other), "two ways to fold a key");
            }
        }
        let keys: HashSet<_> = members.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), members.len());
    }
}

fn write(json: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    json.write(&mut out);
    out
}

fn collect<'t>(tree: &'t Tree, texts: &mut Vec<&'t str>) {
    match tree {
        Tree::Other => {}
        Tree::Text(text) => texts.push(text),
        Tree::List(items) => items.iter().for_each(|item| collect(item, texts)),
        Tree::Members(members) => {
            for (key, value) in members {
                texts.push(key);
                collect(value, texts);
            }
        }
    }
}
