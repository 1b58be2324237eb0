//! A model's name, read as the servers read it, so that two spellings of one model are one name here as they are there.
//!
//! Two versions of Ollama read some names in two ways, and each spelling can be read by both: the invariant is that a [`ModelName`]
//! holds every reading by which one of them would run something, in its canonical form. A name without a reading is one that no Ollama
//! takes; other model servers have such names (`/models/llama.gguf`), which mean nothing but themselves.
//!
//! Source: ollama/ollama `types/model/name.go` and `server/aliases.go` of 0.17.4; `internal/modelref/modelref.go` and
//! `server/model_resolver.go` of 0.33.0.

use std::borrow::Cow;

/// Where a name without a host is fetched from.
pub const OWN_REGISTRY: &str = "registry.ollama.ai/";
/// What stands in for parts that a name leaves out.
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";
/// The most bytes of a host, and of every other part.
const HOST_BYTES: usize = 350;
const PART_BYTES: usize = 80;
/// The most bytes of a name that any server gets to see.
const NAME_BYTES: usize = 1024;

/// A version of Ollama whose reading of names differs from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// 0.17.4: a tag is a tag, and a name with blanks around it is none.
    Plain,
    /// From 0.18 on: blanks around a name don't count, and what stands behind the last colon may say where the model runs.
    Sourced,
}

impl Reader {
    /// Every version that reads names in a way of its own.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Sourced];
}

/// Where a name itself says that its model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Unsaid,
    /// `:local`
    Local,
    /// `:cloud`, or a tag that ends in `-cloud`
    Cloud,
}

/// A name with all its readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    plain: Option<String>,
    sourced: Option<String>,
    is_cloud: bool,
}

impl ModelName {
    /// Reads a name.
    #[must_use]
    pub fn read(name: &str) -> Self {
        Self {
            plain: Parts::of(name).and_then(Parts::canonical),
            sourced: read_sourced(name),
            // Said of a name that nobody takes, too: it costs nothing, and a later version may take it.
            is_cloud: is_cloud(name),
        }
    }

    /// The canonical form of the model that this version runs: `host/namespace/model:tag`, in lower case. None: it runs nothing.
    #[must_use]
    pub fn reading(&self, reader: Reader) -> Option<&str> {
        match reader {
            Reader::Plain => self.plain.as_deref(),
            Reader::Sourced => self.sourced.as_deref(),
        }
    }

    /// Every reading that there is.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        Reader::ALL.into_iter().filter_map(|reader| self.reading(reader))
    }

    /// Whether any version takes it for a name.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.plain.is_some() || self.sourced.is_some()
    }

    /// Whether a version takes it, by its end, for a model of its cloud.
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        self.is_cloud
    }

    /// The name as the aliases of 0.17.4 know it: without what goes without saying, in lower case.
    #[must_use]
    pub fn as_alias(&self) -> Option<String> {
        let plain = self.plain.as_deref()?;
        let own = [HOST, "/"].concat();
        let short = plain.strip_prefix(&own).map_or(plain, |rest| rest.strip_prefix("library/").unwrap_or(rest));
        Some(short.strip_suffix(":latest").unwrap_or(short).to_owned())
    }
}

/// Whether a name that no Ollama takes may be another server's. What could make two readers differ can't: control characters, and the
/// two letters that Go takes for ASCII ones when it folds case (0.17.4 folds the names of `/api/embed` before it looks at them).
#[must_use]
pub fn may_be_foreign(name: &str) -> bool {
    name.len() <= NAME_BYTES && !name.chars().any(|c| c.is_control() || matches!(c, '\u{17f}' | '\u{212a}'))
}

/// A pattern as a version reads it: a name in which `*` stands for any characters.
#[must_use]
pub fn canonical_pattern(pattern: &str, reader: Reader) -> String {
    if pattern.trim() == "*" {
        return "*".to_owned();
    }
    let (base, source) = match reader {
        Reader::Plain => (Cow::Borrowed(pattern.trim()), Source::Unsaid),
        Reader::Sourced => split_source(pattern.trim()),
    };
    let last = base.rsplit('/').next().unwrap_or(&base);
    match source {
        // One that ends in a star leaves the tag open as well.
        Source::Unsaid if base.ends_with('*') && !last.contains(':') => canonical_text(&format!("{base}:*")),
        Source::Unsaid | Source::Local => canonical_text(&base),
        Source::Cloud => canonical_text(&cloud_tag(&base)),
    }
}

/// Parts put together whatever stands in them; what has no parts stays as it is, and fits only what is written alike.
fn canonical_text(name: &str) -> String {
    Parts::of(name).map_or_else(|| name.to_ascii_lowercase(), Parts::join)
}

fn read_sourced(name: &str) -> Option<String> {
    let (base, source) = split_source(name.trim());
    if source != Source::Unsaid && split_source(&base).1 != Source::Unsaid {
        return None;
    }
    let parts = Parts::of(&base)?;
    let canonical = parts.canonical()?;
    // In the cloud it is another model than the one of that name which runs here.
    if source == Source::Cloud { Parts::of(&cloud_tag(&base)).map(Parts::join) } else { Some(canonical) }
}

/// Whether the end of a name says the cloud, and says it alone. (What says two places is refused by those who read ends.)
fn is_cloud(name: &str) -> bool {
    let (base, source) = split_source(name.trim());
    source == Source::Cloud && split_source(&base).1 == Source::Unsaid
}

/// A model of the cloud by the tag under which it is pulled.
fn cloud_tag(base: &str) -> String {
    let has_tag = base.rfind(':') > base.rfind('/');
    format!("{base}{}", if has_tag { "-cloud" } else { ":cloud" })
}

/// Takes off what stands behind the last colon and says where the model runs. Blanks around that don't count.
fn split_source(name: &str) -> (Cow<'_, str>, Source) {
    let Some((base, end)) = name.rsplit_once(':') else { return (name.into(), Source::Unsaid) };
    let end = end.trim();
    if end.eq_ignore_ascii_case("cloud") {
        return (base.into(), Source::Cloud);
    }
    if end.eq_ignore_ascii_case("local") {
        return (base.into(), Source::Local);
    }
    let at = end.len().saturating_sub("-cloud".len());
    match (end.get(..at), end.get(at..)) {
        (Some(tag), Some(suffix)) if suffix.eq_ignore_ascii_case("-cloud") && !end.contains('/') => {
            (format!("{base}:{tag}").into(), Source::Cloud)
        }
        _ => (name.into(), Source::Unsaid),
    }
}

/// The parts of a name, defaults filled in, not looked at.
#[derive(Clone, Copy, Debug)]
struct Parts<'n> {
    host: &'n str,
    namespace: &'n str,
    model: &'n str,
    tag: &'n str,
}

impl<'n> Parts<'n> {
    /// Takes a name apart from its end. None where a separator has nothing beside it.
    fn of(name: &'n str) -> Option<Self> {
        // (A colon before the last slash is the host's.)
        let (name, tag) = match name.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
            _ => (name, None),
        };
        let mut parts = Self { host: HOST, namespace: NAMESPACE, model: name, tag: tag.unwrap_or(TAG) };
        if let Some((before, model)) = name.rsplit_once('/') {
            parts.model = model;
            parts.namespace = before;
            if let Some((before, namespace)) = before.rsplit_once('/') {
                parts.namespace = namespace;
                // A scheme says nothing of which model it is, and needn't be one.
                let host = before.split_once("://").map(|(_, host)| if host.is_empty() { HOST } else { host });
                parts.host = host.unwrap_or(before);
            }
        }
        let Self { host, namespace, model, tag } = parts;
        [host, namespace, model, tag].iter().all(|part| !part.is_empty()).then_some(parts)
    }

    fn canonical(self) -> Option<String> {
        let Self { host, namespace, model, tag } = self;
        let is_part = |part: &str, most: usize, more: &[u8]| {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let mut bytes = part.bytes();
            part.len() <= most
                && bytes.next().is_some_and(is_word)
                && bytes.all(|byte| is_word(byte) || byte == b'-' || more.contains(&byte))
        };
        let is_name = is_part(host, HOST_BYTES, b".:")
            && is_part(namespace, PART_BYTES, b"")
            && is_part(model, PART_BYTES, b".")
            && is_part(tag, PART_BYTES, b".");
        is_name.then(|| self.join())
    }

    /// Case is folded when the server looks the name up among those that it has.
    fn join(self) -> String {
        let Self { host, namespace, model, tag } = self;
        format!("{host}/{namespace}/{model}:{tag}").to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> (Option<String>, Option<String>, bool) {
        let ModelName { plain, sourced, is_cloud } = ModelName::read(name);
        let short = |name: Option<String>| name.map(|name| name.strip_prefix("registry.ollama.ai/library/").unwrap_or(&name).to_owned());
        (short(plain), short(sourced), is_cloud)
    }

    #[test]
    fn both_versions_read_a_plain_name_alike() {
        for (name, model) in [
            ("calm", "calm:latest"),
            ("CALM:Latest", "calm:latest"),
            ("library/calm", "calm:latest"),
            ("registry.ollama.ai/library/calm:latest", "calm:latest"),
            ("Registry.Ollama.AI/Library/Calm", "calm:latest"),
            ("http://registry.ollama.ai/library/calm", "calm:latest"),
            ("no scheme at all://registry.ollama.ai/library/calm", "calm:latest"),
            ("://registry.ollama.ai/library/calm", "calm:latest"),
            ("https:///library/calm", "calm:latest"),
            ("calm:3b", "calm:3b"),
            ("other/calm", "registry.ollama.ai/other/calm:latest"),
            ("hf.co/a/b:Q4_0", "hf.co/a/b:q4_0"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("_x", "_x:latest"),
            ("x-cloud", "x-cloud:latest"),
            ("meta-llama/Llama-3.1-8B", "registry.ollama.ai/meta-llama/llama-3.1-8b:latest"),
        ] {
            assert_eq!(read(name), (Some(model.into()), Some(model.into()), false), "{name}");
        }
    }

    #[test]
    fn where_the_versions_differ_both_readings_are_there() {
        for (name, plain, sourced, is_cloud) in [
            (" calm\t", None, Some("calm:latest"), false),
            ("\u{a0}calm\u{2003}", None, Some("calm:latest"), false),
            ("calm:local", Some("calm:local"), Some("calm:latest"), false),
            ("calm: LOCAL", None, Some("calm:latest"), false),
            ("calm:3b:local", None, Some("calm:3b"), false),
            ("calm:cloud", Some("calm:cloud"), Some("calm:cloud"), true),
            ("calm:3b-Cloud", Some("calm:3b-cloud"), Some("calm:3b-cloud"), true),
            ("calm:3b:cloud", None, Some("calm:3b-cloud"), true),
            ("calm: 3b-cloud", None, Some("calm:3b-cloud"), true),
            ("calm: cloud ", None, Some("calm:cloud"), true),
            ("a/calm:cloud", Some("registry.ollama.ai/a/calm:cloud"), Some("registry.ollama.ai/a/calm:cloud"), true),
            ("calm:local:cloud", None, None, false),
            ("calm:local-cloud", Some("calm:local-cloud"), None, false),
            ("calm:cloud:local", None, None, false),
            ("calm :cloud", None, None, true),
        ] {
            assert_eq!(read(name), (plain.map(Into::into), sourced.map(Into::into), is_cloud), "{name}");
        }
    }

    #[test]
    fn what_no_version_takes_has_no_reading() {
        let long = "x".repeat(81);
        for name in [
            "",
            " ",
            ":",
            "calm:",
            ":latest",
            "/calm",
            "library/",
            "//calm",
            "a//calm",
            "a/b/c/d",
            "x://calm",
            "x://library/calm",
            "x://y://h/a/b",
            "-calm",
            ".calm",
            "calm@sha256:00",
            "calm:latest@sha256-00",
            "ca lm",
            "calm\0",
            "c\u{430}lm",
            "thin\u{212a}er",
            "na.me/calm",
            "calm:la:test",
            "/models/llama.gguf",
            "h!/a/b",
            "!MISSING!",
            "calm:+x",
            &long,
            &format!("calm:{long}"),
            &format!("{long}/calm"),
        ] {
            assert!(!ModelName::read(name).is_taken(), "{name}");
        }
        assert!(ModelName::read(&long[1..]).is_taken());
        assert!(
            ModelName::read(&format!("{}/a/b", "h".repeat(350))).is_taken()
                && !ModelName::read(&format!("{}/a/b", "h".repeat(351))).is_taken()
        );
    }

    #[test]
    fn names_of_other_servers_are_told_from_what_two_readers_could_take_for_two() {
        for name in [
            "/models/llama.gguf",
            "./m.gguf",
            "C:\\models\\m.gguf",
            "accounts/x/models/y",
            "ft:gpt-4o:org::1",
            "\u{6a21}\u{578b}",
            "@cf/a/b",
        ] {
            assert!(may_be_foreign(name), "{name}");
        }
        for name in ["thin\u{212a}er", "\u{17f}mall", "a\nb", "a\0", "a\u{85}", &"x".repeat(1025)] {
            assert!(!may_be_foreign(name), "{name}");
        }
    }

    #[test]
    fn a_pattern_is_read_as_its_version_reads_a_name() {
        for (pattern, plain, sourced) in [
            ("calm", "registry.ollama.ai/library/calm:latest", "registry.ollama.ai/library/calm:latest"),
            ("calm*", "registry.ollama.ai/library/calm*:*", "registry.ollama.ai/library/calm*:*"),
            ("calm:*", "registry.ollama.ai/library/calm:*", "registry.ollama.ai/library/calm:*"),
            ("calm:local", "registry.ollama.ai/library/calm:local", "registry.ollama.ai/library/calm:latest"),
            ("calm*:local", "registry.ollama.ai/library/calm*:local", "registry.ollama.ai/library/calm*:latest"),
            ("*:local", "registry.ollama.ai/library/*:local", "registry.ollama.ai/library/*:latest"),
            ("calm:3b:cloud", "registry.ollama.ai/library/calm:3b:cloud", "registry.ollama.ai/library/calm:3b-cloud"),
            (" * ", "*", "*"),
        ] {
            let read = |reader| canonical_pattern(pattern, reader);
            assert_eq!((read(Reader::Plain), read(Reader::Sourced)), (plain.into(), sourced.into()), "{pattern}");
        }
    }

    #[test]
    fn an_alias_is_known_by_the_shortest_form_of_its_name() {
        for (name, alias) in [
            ("Calm:latest", Some("calm")),
            ("calm:3b", Some("calm:3b")),
            ("other/calm", Some("other/calm")),
            ("h/library/calm", Some("h/library/calm")),
            (" calm", None),
        ] {
            assert_eq!(ModelName::read(name).as_alias().as_deref(), alias, "{name}");
        }
    }
}
