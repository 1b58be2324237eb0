//! Settings that somebody signed, in a folder that is swapped as a whole: a projected volume of Kubernetes.
//!
//! The invariant: what is in force was sealed by a known key for this very workload, and its serial never goes back. A pod's own
//! mode comes unsigned, for it can only make things stricter.

use std::path::{Path, PathBuf};

use llm_guard_engine::controls::Policy;
use llm_guard_engine::policy::settings::{OpenError, PublicKey, Settings, Standing, open, to_hex};
use llm_guard_engine::policy::{Mode, PolicyError};
use sha2::{Digest, Sha256};

use super::memory::Memory;
use super::{Current, read};

/// The link that Kubernetes swaps. What it points to never changes.
const SNAPSHOT: &str = "..data";
const SETTINGS: &str = "settings";
const POD_MODE: &str = "pod-mode";

/// Where signed settings come from, and which of them count.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// A folder with the files `settings` and `pod-mode`.
    pub(crate) folder: PathBuf,
    /// Whose settings count.
    pub(crate) audience: String,
    /// Whose signatures count.
    pub(crate) keys: Vec<PublicKey>,
    /// The least serial that counts.
    pub(crate) serial: u64,
    /// The most that any control gets in this pod.
    pub(crate) most: Option<Mode>,
    /// Where the highest serial is kept for a guard that comes after this one.
    pub(crate) memory: Option<Memory>,
}

/// Why a file isn't taken. None of these says anything of what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// It isn't there yet.
    #[error("there are no settings yet: the injector writes them, and the kubelet brings them into the pod")]
    Missing,
    /// It can't be read.
    #[error("the file '{file}' can't be read: {kind}")]
    Unreadable {
        /// Which.
        file: &'static str,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// It is no settings of the injector's.
    #[error(transparent)]
    Seal(OpenError),
    /// They are another workload's.
    #[error("the settings were signed for another workload")]
    Audience,
    /// They were in force before others.
    #[error("the settings have serial {serial}, and this guard takes none below {least}: they are old ones")]
    Old {
        /// Theirs.
        serial: u64,
        /// The least that counts.
        least: u64,
    },
    /// Their policy contradicts itself.
    #[error("the policy in the settings makes no sense: {0}")]
    Policy(String),
    /// Their shadow does.
    #[error("the shadow in the settings makes no sense, and isn't judged: {0}")]
    Shadow(String),
    /// The pod's annotation is no mode.
    #[error("the pod's annotation llm-guard.io/mode is no mode; there are monitor, soft and hard")]
    PodMode,
}

impl Problem {
    /// What becomes of the settings.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Shadow(_) => "the rest of the settings is in force",
            _ => "the settings don't load; what is in force stays",
        }
    }
}

/// What a look at the folder gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    settings: Result<Vec<u8>, std::io::ErrorKind>,
    pod_mode: Result<Vec<u8>, std::io::ErrorKind>,
}

/// What a look changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What is in force from now on.
    pub(super) loaded: Option<Current>,
    /// What was refused, for the first time.
    pub(super) refused: Vec<Problem>,
}

/// Looks at the folder, as often as it is asked.
#[derive(Debug)]
pub(super) struct Looker {
    /// What the snapshot pointed to when it was last read whole.
    snapshot: Option<PathBuf>,
    /// What a folder without snapshots held at the last look.
    before: Option<Look>,
}

impl Looker {
    pub(super) fn new() -> Self {
        Self { snapshot: None, before: None }
    }

    /// What the folder holds, where it may hold something new.
    pub(super) async fn look(&mut self, folder: &Path) -> Option<Look> {
        let link = folder.join(SNAPSHOT);
        let Ok(snapshot) = tokio::fs::read_link(&link).await else {
            // A folder whose files are written one by one: what was seen twice isn't being written any more.
            self.snapshot = None;
            let look = Look::at(folder).await;
            let settled = self.before.as_ref() == Some(&look);
            self.before = Some(look.clone());
            return settled.then_some(look);
        };
        self.before = None;
        if self.snapshot.as_ref() == Some(&snapshot) {
            return None;
        }
        let look = Look::at(&folder.join(&snapshot)).await;
        // One that was swapped meanwhile may be half gone.
        if tokio::fs::read_link(&link).await.ok().as_ref() != Some(&snapshot) {
            return None;
        }
        // What couldn't be read is looked at again.
        self.snapshot = look.is_read().then_some(snapshot);
        Some(look)
    }
}

impl Look {
    async fn at(folder: &Path) -> Self {
        let file = async |name| read(&folder.join(name)).await.map_err(|error| error.kind());
        Self { settings: file(SETTINGS).await, pod_mode: file(POD_MODE).await }
    }

    fn is_read(&self) -> bool {
        let is_read = |file: &Result<_, std::io::ErrorKind>| matches!(file, Ok(_) | Err(std::io::ErrorKind::NotFound));
        is_read(&self.settings) && is_read(&self.pod_mode)
    }
}

/// Decides what counts of what is seen.
#[derive(Debug)]
pub(super) struct Judge {
    audience: String,
    keys: Vec<PublicKey>,
    /// The least serial that counts: it only goes up.
    least: u64,
    most: Option<Mode>,
    /// The settings in force, and the digest of their text.
    settings: Option<(Settings, String)>,
    pod_mode: Option<Mode>,
    seen: Option<Look>,
    problems: [Option<Problem>; 2],
}

impl Judge {
    pub(super) fn new(signed: &Signed) -> Self {
        let Signed { folder: _, audience, keys, serial, most, memory: _ } = signed.clone();
        Self { audience, keys, least: serial, most, settings: None, pod_mode: None, seen: None, problems: [None, None] }
    }

    /// What is wrong with the files as they stand, in words.
    pub(super) fn error(&self) -> Option<String> {
        let said: Vec<String> = self.problems.iter().flatten().map(ToString::to_string).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Takes what was seen.
    pub(super) fn take(&mut self, look: Look) -> Change {
        let mut change = Change::default();
        let seen = self.seen.take();
        let (old_settings, old_pod_mode) = seen.map(|seen| (seen.settings, seen.pod_mode)).unzip();
        let mut loaded = None;
        if old_pod_mode.as_ref() != Some(&look.pod_mode) {
            self.problems[1] = match pod_mode(&look.pod_mode) {
                Ok(mode) => {
                    let is_new = mode != std::mem::replace(&mut self.pod_mode, mode);
                    loaded = self.settings.clone().filter(|_| is_new);
                    None
                }
                Err(problem) => {
                    change.refused.push(problem.clone());
                    Some(problem)
                }
            };
        }
        if old_settings.as_ref() != Some(&look.settings) {
            self.problems[0] = match self.open(&look.settings) {
                Ok(opened) => {
                    loaded = Some(opened);
                    None
                }
                Err(problem) => {
                    // Nothing was there to be refused.
                    if problem != Problem::Missing || self.settings.is_some() {
                        change.refused.push(problem.clone());
                    }
                    Some(problem)
                }
            };
        }
        if let Some((settings, digest)) = loaded {
            match self.compile(&settings, &digest) {
                Ok((current, problem)) => {
                    self.least = self.least.max(settings.serial);
                    change.refused.extend(problem.clone());
                    self.problems[0] = self.problems[0].take().or(problem);
                    change.loaded = Some(current);
                    self.settings = Some((settings, digest));
                }
                Err(error) => {
                    let problem = Problem::Policy(first_line(&error));
                    change.refused.push(problem.clone());
                    self.problems[0] = Some(problem);
                    // The pod's mode may have changed with them.
                    let before = self.settings.as_ref();
                    change.loaded = before.and_then(|(settings, digest)| Some(self.compile(settings, digest).ok()?.0));
                }
            }
        }
        self.seen = Some(look);
        change
    }

    fn open(&self, file: &Result<Vec<u8>, std::io::ErrorKind>) -> Result<(Settings, String), Problem> {
        let bytes = match file {
            Ok(bytes) => bytes,
            Err(std::io::ErrorKind::NotFound) => return Err(Problem::Missing),
            Err(kind) => return Err(Problem::Unreadable { file: SETTINGS, kind: *kind }),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::Seal(OpenError::Unsigned))?;
        let settings = open(text, &self.keys).map_err(Problem::Seal)?;
        if settings.audience != self.audience {
            return Err(Problem::Audience);
        }
        if settings.serial < self.least {
            return Err(Problem::Old { serial: settings.serial, least: self.least });
        }
        Ok((settings, to_hex(&Sha256::digest(bytes))))
    }

    /// What these settings put in force, and what is wrong with their shadow: one that can't be judged holds up nothing.
    fn compile(&self, settings: &Settings, digest: &str) -> Result<(Current, Option<Problem>), PolicyError> {
        let standing = Standing { mode: settings.mode, pod: self.pod_mode, most: self.most, floor: settings.floor };
        let policy = Policy::compile(&settings.policy, &standing)?;
        // It is to say what it would do by itself: modes that stand above the policy in force are none of its business.
        let shadow = settings.shadow.as_ref().map(|shadow| Policy::compile(shadow, &Standing::default())).transpose();
        let (shadow, problem) = match shadow {
            Ok(shadow) => (shadow, None),
            Err(error) => (None, Some(Problem::Shadow(first_line(&error)))),
        };
        Ok((Current { policy, shadow, stop: settings.stop, digest: Some(digest.to_owned()), serial: settings.serial }, problem))
    }
}

/// The place and the reason; what stands there may be no policy at all.
fn first_line(error: &PolicyError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The mode that the pod's own annotation asks for. An annotation that isn't there is an empty file.
fn pod_mode(file: &Result<Vec<u8>, std::io::ErrorKind>) -> Result<Option<Mode>, Problem> {
    match file {
        Ok(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Problem::PodMode)?.trim();
            if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| Problem::PodMode) }
        }
        Err(std::io::ErrorKind::NotFound) => Ok(None),
        Err(kind) => Err(Problem::Unreadable { file: POD_MODE, kind: *kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm_guard_engine::policy::GuardPolicy;
    use llm_guard_engine::policy::settings::{SigningKey, seal};

    const OURS: &str = "cluster/namespace/Deployment/ollama";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn settings(serial: u64, mode: Mode) -> Settings {
        Settings {
            audience: OURS.into(),
            serial,
            mode: Some(mode),
            floor: None,
            stop: false,
            policy: GuardPolicy::built_in(),
            shadow: None,
        }
    }

    fn sealed(serial: u64, mode: Mode) -> String {
        seal(&settings(serial, mode), &key(1))
    }

    fn judge() -> Judge {
        let keys = vec![PublicKey::of(&key(1)), PublicKey::of(&key(2))];
        Judge::new(&Signed { folder: "/".into(), audience: OURS.into(), keys, serial: 5, most: None, memory: None })
    }

    fn look(settings: impl Into<Vec<u8>>, pod_mode: &str) -> Look {
        Look { settings: Ok(settings.into()), pod_mode: Ok(pod_mode.into()) }
    }

    /// The mode and the serial that were loaded, and what was refused.
    fn said(change: Change) -> (Option<(Mode, u64)>, Vec<Problem>) {
        (change.loaded.map(|current| (current.policy.mode, current.serial)), change.refused)
    }

    #[test]
    fn settings_count_only_if_they_are_signed_for_this_workload_and_not_old() {
        let mut judge = judge();
        let foreign = Settings { audience: "cluster/namespace/Deployment/other".into(), ..settings(9, Mode::Hard) };
        for (text, problem) in [
            (String::new(), Problem::Seal(OpenError::Unsigned)),
            (seal(&settings(9, Mode::Hard), &key(3)), Problem::Seal(OpenError::ForeignKey)),
            (sealed(9, Mode::Hard).replace("hard", "soft"), Problem::Seal(OpenError::Signature)),
            (seal(&foreign, &key(1)), Problem::Audience),
            (sealed(4, Mode::Hard), Problem::Old { serial: 4, least: 5 }),
        ] {
            let change = judge.take(look(text.clone(), ""));
            assert_eq!(said(change), (None, vec![problem.clone()]));
            assert_eq!(said(judge.take(look(text, ""))), (None, Vec::new()), "told once");
            assert_eq!(judge.error(), Some(problem.to_string()));
        }
        assert_eq!(said(judge.take(look(sealed(5, Mode::Soft), ""))), (Some((Mode::Soft, 5)), Vec::new()));
        assert_eq!(judge.error(), None);
        assert_eq!(said(judge.take(look(seal(&settings(8, Mode::Hard), &key(2)), ""))), (Some((Mode::Hard, 8)), Vec::new()));
        let replayed = judge.take(look(sealed(5, Mode::Soft), ""));
        assert_eq!(said(replayed), (None, vec![Problem::Old { serial: 5, least: 8 }]));
        assert_eq!(said(judge.take(look(seal(&settings(8, Mode::Hard), &key(2)), ""))), (Some((Mode::Hard, 8)), Vec::new()));
    }

    #[test]
    fn a_pods_own_mode_makes_it_stricter_and_an_odd_one_changes_nothing() {
        let mut judge = judge();
        let text = sealed(7, Mode::Soft);
        assert_eq!(said(judge.take(look(text.clone(), "monitor"))), (Some((Mode::Soft, 7)), Vec::new()));
        assert_eq!(said(judge.take(look(text.clone(), "hard\n"))), (Some((Mode::Hard, 7)), Vec::new()));
        assert_eq!(said(judge.take(look(text.clone(), "hrad"))), (None, vec![Problem::PodMode]));
        assert_eq!(judge.error(), Some(Problem::PodMode.to_string()));
        // The one that was understood last still counts for what is loaded.
        assert_eq!(said(judge.take(look(sealed(8, Mode::Monitor), "hrad"))), (Some((Mode::Hard, 8)), Vec::new()));
        assert_eq!(said(judge.take(look(sealed(8, Mode::Monitor), ""))), (Some((Mode::Monitor, 8)), Vec::new()));
        assert_eq!(judge.error(), None);
    }

    #[test]
    fn a_pods_own_mode_counts_also_while_the_settings_beside_it_are_refused() {
        let mut judge = judge();
        judge.take(look(sealed(7, Mode::Monitor), ""));
        let (loaded, refused) = said(judge.take(look("odd", "hard")));
        assert_eq!((loaded, refused.len()), (Some((Mode::Hard, 7)), 1));
    }

    #[test]
    fn settings_whose_policy_makes_no_sense_leave_the_old_ones_in_force() {
        let mut judge = judge();
        judge.take(look(sealed(7, Mode::Hard), ""));
        let odd = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {models: {allow: [\"a:*\"], default: b}}\n";
        let odd = Settings { policy: GuardPolicy::read(odd).unwrap(), ..settings(9, Mode::Monitor) };
        let change = judge.take(look(seal(&odd, &key(1)), ""));
        assert!(matches!(change.refused[..], [Problem::Policy(_)]), "{change:?}");
        assert_eq!(change.loaded.map(|current| (current.policy.mode, current.serial)), Some((Mode::Hard, 7)));
        // It was never in force, so that its serial doesn't count.
        assert_eq!(said(judge.take(look(sealed(8, Mode::Soft), ""))), (Some((Mode::Soft, 8)), Vec::new()));
    }

    #[test]
    fn what_is_missing_at_the_start_was_not_refused_and_what_goes_missing_later_is() {
        let nothing = Look { settings: Err(std::io::ErrorKind::NotFound), pod_mode: Err(std::io::ErrorKind::NotFound) };
        let mut judge = judge();
        assert_eq!(said(judge.take(nothing.clone())), (None, Vec::new()));
        assert_eq!(judge.error(), Some(Problem::Missing.to_string()));
        judge.take(look(sealed(7, Mode::Hard), ""));
        assert_eq!(said(judge.take(nothing)), (None, vec![Problem::Missing]));
    }

    #[test]
    fn a_shadow_comes_with_the_settings_in_its_own_modes_and_one_that_makes_no_sense_holds_up_nothing() {
        let policy =
            |spec: &str| GuardPolicy::read(&format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {spec}\n")).unwrap();
        let with = |serial, shadow: &str| seal(&Settings { shadow: Some(policy(shadow)), ..settings(serial, Mode::Soft) }, &key(1));
        let modes = |change: &Change| {
            let current = change.loaded.as_ref().unwrap();
            (current.policy.mode, current.shadow.as_ref().map(|shadow| shadow.mode))
        };
        let mut judge = judge();
        assert_eq!(modes(&judge.take(look(with(7, "{mode: monitor}"), ""))), (Mode::Soft, Some(Mode::Monitor)));
        // The pod's own mode is none of its business either.
        assert_eq!(modes(&judge.take(look(with(7, "{mode: monitor}"), "hard"))), (Mode::Hard, Some(Mode::Monitor)));
        let odd = judge.take(look(with(8, "{models: {allow: [\"a:*\"], default: b}}"), "hard"));
        assert!(matches!(odd.refused[..], [Problem::Shadow(_)]), "{odd:?}");
        assert_eq!((modes(&odd), odd.loaded.unwrap().serial), ((Mode::Hard, None), 8));
        assert!(judge.error().unwrap().starts_with("the shadow"), "{:?}", judge.error());
        assert_eq!(modes(&judge.take(look(with(9, "{mode: hard}"), "hard"))), (Mode::Hard, Some(Mode::Hard)));
        assert_eq!(judge.error(), None);
        assert_eq!(modes(&judge.take(look(sealed(10, Mode::Soft), ""))), (Mode::Soft, None));
    }

    #[tokio::test]
    async fn a_snapshot_is_read_once_and_a_plain_folder_until_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let mut looker = Looker::new();
        std::fs::write(folder.path().join(SETTINGS), "one").unwrap();
        assert_eq!(looker.look(folder.path()).await, None);
        let one = Look { settings: Ok(b"one".into()), pod_mode: Err(std::io::ErrorKind::NotFound) };
        assert_eq!(looker.look(folder.path()).await, Some(one));
        std::fs::write(folder.path().join(SETTINGS), "two").unwrap();
        assert_eq!(looker.look(folder.path()).await, None);

        for (name, text) in [("..1", "three"), ("..2", "four")] {
            let snapshot = folder.path().join(name);
            std::fs::create_dir(&snapshot).unwrap();
            std::fs::write(snapshot.join(SETTINGS), text).unwrap();
            std::fs::write(snapshot.join(POD_MODE), "hard").unwrap();
            let (new, link) = (folder.path().join("..new"), folder.path().join(SNAPSHOT));
            std::os::unix::fs::symlink(name, &new).unwrap();
            std::fs::rename(new, link).unwrap();
            assert_eq!(looker.look(folder.path()).await, Some(look(text, "hard")));
            assert_eq!(looker.look(folder.path()).await, None);
        }
    }
}
