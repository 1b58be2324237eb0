//! Settings that somebody signed, in a folder that is swapped as a whole: a projected volume of Kubernetes.
//!
//! The invariant: what is in force was sealed by a known key for this very workload, and its serial never goes back. A pod's own
//! mode comes unsigned, for it can only make things stricter. Whatever the settings say of exceptions, each ends by this guard's clock.

use std::path::{Path, PathBuf};

use llm_guard_engine::controls::Policy;
use llm_guard_engine::detect::secrets::TokenKey;
use llm_guard_engine::policy::settings::{Exception, OpenError, PublicKey, Settings, Standing, open, to_hex};
use llm_guard_engine::policy::{Mode, Moment, PolicyError};
use sha2::{Digest, Sha256};

use super::exceptions::{Exceptions, Now};
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
    /// What tokens are made with that stand in the place of values.
    pub(crate) tokens: Option<&'static TokenKey>,
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
    /// An exception would last too long.
    #[error("the exception '{name}' ends at {expires}, more than 24 hours from now by this guard's clock")]
    Exception {
        /// Which.
        name: String,
        /// When it ends.
        expires: Moment,
    },
}

impl Problem {
    fn too_long(exception: &Exception) -> Self {
        Self::Exception { name: exception.name.clone(), expires: exception.expires }
    }

    /// What becomes of the settings.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Shadow(_) => "the rest of the settings is in force",
            Self::Exception { .. } => "an exception isn't believed; the rest of the settings holds without it",
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

/// What settings put in force, what is known of their exceptions then, and what is wrong with their shadow.
type Loaded = (Current, Exceptions, Option<Problem>);

/// What a look changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What is in force from now on.
    pub(super) loaded: Option<Current>,
    /// What was refused, for the first time.
    pub(super) refused: Vec<Problem>,
    /// The exceptions that run from now on.
    pub(super) begun: Vec<Exception>,
    /// Those that don't any more.
    pub(super) ended: Vec<Exception>,
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
    tokens: Option<&'static TokenKey>,
    /// The settings in force, and the digest of their text.
    settings: Option<(Settings, String)>,
    exceptions: Exceptions,
    pod_mode: Option<Mode>,
    seen: Option<Look>,
    problems: [Option<Problem>; 2],
}

impl Judge {
    pub(super) fn new(signed: &Signed) -> Self {
        let Signed { folder: _, audience, keys, serial, most, memory: _, tokens } = signed.clone();
        let exceptions = Exceptions::default();
        Self { audience, keys, least: serial, most, tokens, settings: None, exceptions, pod_mode: None, seen: None, problems: [None, None] }
    }

    /// What is wrong with the files as they stand, in words.
    pub(super) fn error(&self) -> Option<String> {
        let unbelieved = self.exceptions.unbelieved().map(Problem::too_long);
        let said: Vec<String> = self.problems.iter().flatten().cloned().chain(unbelieved).map(|problem| problem.to_string()).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Time has passed, and nothing was seen.
    pub(super) fn pass(&mut self, now: Now) -> Change {
        let mut change = Change::default();
        if self.exceptions.is_due(now)
            && let Some((settings, digest)) = self.settings.clone()
        {
            self.load(settings, digest, now, &mut change);
        }
        change
    }

    /// Takes what was seen.
    pub(super) fn take(&mut self, look: Look, now: Now) -> Change {
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
        if loaded.is_none() && self.exceptions.is_due(now) {
            loaded.clone_from(&self.settings);
        }
        if let Some((settings, digest)) = loaded {
            self.load(settings, digest, now, &mut change);
        }
        self.seen = Some(look);
        change
    }

    /// Puts settings in force; those that make no sense leave what is in force, by what time it is now and the pod's mode.
    fn load(&mut self, settings: Settings, digest: String, now: Now, change: &mut Change) {
        match self.compile(&settings, &digest, now) {
            Ok((current, exceptions, problem)) => {
                self.least = self.least.max(settings.serial);
                if problem.is_some() && self.problems[0] != problem {
                    change.refused.extend(problem.clone());
                }
                // What is wrong with other settings that were seen since stays; a shadow's trouble ends with the shadow.
                self.problems[0] = self.problems[0].take().filter(|problem| !matches!(problem, Problem::Shadow(_))).or(problem);
                change.loaded = Some(current);
                self.settings = Some((settings, digest));
                self.follow(exceptions, change);
            }
            Err(error) => {
                let problem = Problem::Policy(first_line(&error));
                change.refused.push(problem.clone());
                self.problems[0] = Some(problem);
                // The pod's mode may have changed with them.
                if let Some((settings, digest)) = &self.settings
                    && let Ok((current, exceptions, _)) = self.compile(settings, digest, now)
                {
                    change.loaded = Some(current);
                    self.follow(exceptions, change);
                }
            }
        }
    }

    /// These exceptions are known from now on.
    fn follow(&mut self, exceptions: Exceptions, change: &mut Change) {
        let before = std::mem::replace(&mut self.exceptions, exceptions);
        let only = |these: &Exceptions, others: &Exceptions| -> Vec<Exception> {
            these.running().filter(|one| !others.running().any(|other| other == *one)).cloned().collect()
        };
        change.begun = only(&self.exceptions, &before);
        change.ended = only(&before, &self.exceptions);
        let is_new = |one: &&Exception| !before.unbelieved().any(|known| known == *one);
        change.refused.extend(self.exceptions.unbelieved().filter(is_new).map(Problem::too_long));
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

    /// What these settings put in force. A shadow that can't be judged holds up nothing.
    fn compile(&self, settings: &Settings, digest: &str, now: Now) -> Result<Loaded, PolicyError> {
        let known = self.exceptions.with(&settings.exceptions, now);
        let Settings { mode, floor, stop, serial, .. } = *settings;
        let standing = Standing { mode, pod: self.pod_mode, most: self.most, floor, exception: known.mode(), tokens: self.tokens };
        let policy = Policy::compile(&settings.policy, &standing)?;
        // It is to say what it would do by itself: modes that stand above the policy in force are none of its business.
        let shadow = settings.shadow.as_ref().map(|shadow| Policy::compile(shadow, &Standing::default())).transpose();
        let (shadow, problem) = match shadow {
            Ok(shadow) => (shadow, None),
            Err(error) => (None, Some(Problem::Shadow(first_line(&error)))),
        };
        let exceptions = known.running().cloned().collect();
        Ok((Current { policy, shadow, stop, exceptions, digest: Some(digest.to_owned()), serial }, known, problem))
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
            exceptions: Vec::new(),
            policy: GuardPolicy::built_in(),
            shadow: None,
        }
    }

    fn sealed(serial: u64, mode: Mode) -> String {
        seal(&settings(serial, mode), &key(1))
    }

    fn judge() -> Judge {
        let keys = vec![PublicKey::of(&key(1)), PublicKey::of(&key(2))];
        Judge::new(&Signed { folder: "/".into(), audience: OURS.into(), keys, serial: 5, most: None, memory: None, tokens: None })
    }

    fn look(settings: impl Into<Vec<u8>>, pod_mode: &str) -> Look {
        Look { settings: Ok(settings.into()), pod_mode: Ok(pod_mode.into()) }
    }

    fn take(judge: &mut Judge, look: Look) -> Change {
        judge.take(look, Now::read())
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
            let change = take(&mut judge, look(text.clone(), ""));
            assert_eq!(said(change), (None, vec![problem.clone()]));
            assert_eq!(said(take(&mut judge, look(text, ""))), (None, Vec::new()), "told once");
            assert_eq!(judge.error(), Some(problem.to_string()));
        }
        assert_eq!(said(take(&mut judge, look(sealed(5, Mode::Soft), ""))), (Some((Mode::Soft, 5)), Vec::new()));
        assert_eq!(judge.error(), None);
        assert_eq!(said(take(&mut judge, look(seal(&settings(8, Mode::Hard), &key(2)), ""))), (Some((Mode::Hard, 8)), Vec::new()));
        let replayed = take(&mut judge, look(sealed(5, Mode::Soft), ""));
        assert_eq!(said(replayed), (None, vec![Problem::Old { serial: 5, least: 8 }]));
        assert_eq!(said(take(&mut judge, look(seal(&settings(8, Mode::Hard), &key(2)), ""))), (Some((Mode::Hard, 8)), Vec::new()));
    }

    #[test]
    fn a_pods_own_mode_makes_it_stricter_and_an_odd_one_changes_nothing() {
        let mut judge = judge();
        let text = sealed(7, Mode::Soft);
        assert_eq!(said(take(&mut judge, look(text.clone(), "monitor"))), (Some((Mode::Soft, 7)), Vec::new()));
        assert_eq!(said(take(&mut judge, look(text.clone(), "hard\n"))), (Some((Mode::Hard, 7)), Vec::new()));
        assert_eq!(said(take(&mut judge, look(text.clone(), "hrad"))), (None, vec![Problem::PodMode]));
        assert_eq!(judge.error(), Some(Problem::PodMode.to_string()));
        // The one that was understood last still counts for what is loaded.
        assert_eq!(said(take(&mut judge, look(sealed(8, Mode::Monitor), "hrad"))), (Some((Mode::Hard, 8)), Vec::new()));
        assert_eq!(said(take(&mut judge, look(sealed(8, Mode::Monitor), ""))), (Some((Mode::Monitor, 8)), Vec::new()));
        assert_eq!(judge.error(), None);
    }

    #[test]
    fn a_pods_own_mode_counts_also_while_the_settings_beside_it_are_refused() {
        let mut judge = judge();
        take(&mut judge, look(sealed(7, Mode::Monitor), ""));
        let (loaded, refused) = said(take(&mut judge, look("odd", "hard")));
        assert_eq!((loaded, refused.len()), (Some((Mode::Hard, 7)), 1));
    }

    #[test]
    fn settings_whose_policy_makes_no_sense_leave_the_old_ones_in_force() {
        let mut judge = judge();
        take(&mut judge, look(sealed(7, Mode::Hard), ""));
        let odd = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {models: {allow: [\"a:*\"], default: b}}\n";
        let odd = Settings { policy: GuardPolicy::read(odd).unwrap(), ..settings(9, Mode::Monitor) };
        let change = take(&mut judge, look(seal(&odd, &key(1)), ""));
        assert!(matches!(change.refused[..], [Problem::Policy(_)]), "{change:?}");
        assert_eq!(change.loaded.map(|current| (current.policy.mode, current.serial)), Some((Mode::Hard, 7)));
        // It was never in force, so that its serial doesn't count.
        assert_eq!(said(take(&mut judge, look(sealed(8, Mode::Soft), ""))), (Some((Mode::Soft, 8)), Vec::new()));
    }

    /// A moment so many seconds after noon, and settings in `hard` over a floor with exceptions that end so many seconds after it.
    fn at(begin: tokio::time::Instant, seconds: u64) -> Now {
        let time = std::time::Duration::from_secs(seconds);
        Now { calendar: Moment::from_unix(1_795_348_800).after(time), steady: begin + time }
    }

    fn excepted(serial: u64, exceptions: &[(&str, Mode, u64)]) -> String {
        let exceptions = exceptions.iter().map(|(name, mode, seconds)| Exception {
            name: (*name).into(),
            mode: *mode,
            expires: Moment::from_unix(1_795_348_800 + seconds),
        });
        let settings = Settings { floor: Some(Mode::Hard), exceptions: exceptions.collect(), ..settings(serial, Mode::Hard) };
        seal(&settings, &key(1))
    }

    fn names(exceptions: &[Exception]) -> Vec<&str> {
        exceptions.iter().map(|exception| exception.name.as_str()).collect()
    }

    #[test]
    fn an_exception_holds_above_the_floor_and_the_pods_mode_and_ends_while_nothing_comes() {
        let (begin, mut judge) = (tokio::time::Instant::now(), judge());
        let text = excepted(7, &[("a", Mode::Monitor, 60), ("b", Mode::Soft, 90)]);
        let change = judge.take(look(text.clone(), "hard"), at(begin, 0));
        assert_eq!((names(&change.begun), names(&change.ended)), (vec!["a", "b"], vec![]));
        assert_eq!(said(change), (Some((Mode::Monitor, 7)), Vec::new()));
        assert!(judge.pass(at(begin, 59)).loaded.is_none());
        let change = judge.pass(at(begin, 60));
        assert_eq!((names(&change.begun), names(&change.ended)), (vec![], vec!["a"]));
        let loaded = change.loaded.unwrap();
        assert_eq!((loaded.policy.mode, loaded.serial, names(&loaded.exceptions)), (Mode::Soft, 7, vec!["b"]));
        assert!(loaded.digest.is_some());
        // A look that comes late ends it too, and once.
        let change = judge.take(look(text.clone(), "hard"), at(begin, 90));
        assert_eq!(names(&change.ended), ["b"]);
        assert_eq!(said(change), (Some((Mode::Hard, 7)), Vec::new()));
        assert!(judge.pass(at(begin, 91)).loaded.is_none());
        // The same again doesn't bring it back, whatever the clock says.
        assert_eq!(said(judge.take(look(excepted(8, &[("b", Mode::Soft, 90)]), ""), at(begin, 10))), (Some((Mode::Hard, 8)), Vec::new()));
        // One that is made anew after its end doesn't either.
        let mut anew = self::judge();
        assert_eq!(said(anew.take(look(text, ""), at(begin, 90))), (Some((Mode::Hard, 7)), Vec::new()));
    }

    #[test]
    fn an_exception_that_is_gone_from_the_settings_ends_at_once() {
        let (begin, mut judge) = (tokio::time::Instant::now(), judge());
        judge.take(look(excepted(7, &[("a", Mode::Monitor, 60)]), ""), at(begin, 0));
        let change = judge.take(look(excepted(8, &[]), ""), at(begin, 1));
        assert_eq!(names(&change.ended), ["a"]);
        assert_eq!(said(change), (Some((Mode::Hard, 8)), Vec::new()));
    }

    #[test]
    fn an_exception_that_would_last_too_long_is_refused_once_and_the_rest_of_the_settings_holds() {
        let (begin, mut judge) = (tokio::time::Instant::now(), judge());
        let exceptions = [("long", Mode::Monitor, 25 * 60 * 60), ("a", Mode::Soft, 60)];
        let problem = Problem::Exception { name: "long".into(), expires: Moment::from_unix(1_795_348_800 + 25 * 60 * 60) };
        assert_eq!(said(judge.take(look(excepted(7, &exceptions), ""), at(begin, 0))), (Some((Mode::Soft, 7)), vec![problem.clone()]));
        assert_eq!(judge.error(), Some(problem.to_string()));
        assert_eq!(
            problem.to_string(),
            "the exception 'long' ends at 2026-11-23T13:00:00Z, more than 24 hours from now by this guard's clock"
        );
        assert_eq!(said(judge.take(look(excepted(8, &exceptions), ""), at(begin, 7200))), (Some((Mode::Hard, 8)), Vec::new()));
        judge.take(look(excepted(9, &[]), ""), at(begin, 7200));
        assert_eq!(judge.error(), None);
    }

    #[test]
    fn settings_that_make_no_sense_leave_the_exceptions_as_they_were() {
        let (begin, mut judge) = (tokio::time::Instant::now(), judge());
        judge.take(look(excepted(7, &[("a", Mode::Monitor, 60)]), ""), at(begin, 0));
        let odd = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {models: {allow: [\"a:*\"], default: b}}\n";
        let odd = Settings { policy: GuardPolicy::read(odd).unwrap(), ..settings(9, Mode::Hard) };
        let change = judge.take(look(seal(&odd, &key(1)), ""), at(begin, 1));
        assert_eq!((names(&change.begun), names(&change.ended)), (vec![], vec![]));
        assert_eq!(change.loaded.map(|current| current.policy.mode), Some(Mode::Monitor));
        assert_eq!(judge.pass(at(begin, 60)).loaded.map(|current| current.policy.mode), Some(Mode::Hard));
    }

    #[test]
    fn what_is_missing_at_the_start_was_not_refused_and_what_goes_missing_later_is() {
        let nothing = Look { settings: Err(std::io::ErrorKind::NotFound), pod_mode: Err(std::io::ErrorKind::NotFound) };
        let mut judge = judge();
        assert_eq!(said(take(&mut judge, nothing.clone())), (None, Vec::new()));
        assert_eq!(judge.error(), Some(Problem::Missing.to_string()));
        take(&mut judge, look(sealed(7, Mode::Hard), ""));
        assert_eq!(said(take(&mut judge, nothing)), (None, vec![Problem::Missing]));
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
        assert_eq!(modes(&take(&mut judge, look(with(7, "{mode: monitor}"), ""))), (Mode::Soft, Some(Mode::Monitor)));
        // The pod's own mode is none of its business either.
        assert_eq!(modes(&take(&mut judge, look(with(7, "{mode: monitor}"), "hard"))), (Mode::Hard, Some(Mode::Monitor)));
        let odd = take(&mut judge, look(with(8, "{models: {allow: [\"a:*\"], default: b}}"), "hard"));
        assert!(matches!(odd.refused[..], [Problem::Shadow(_)]), "{odd:?}");
        assert_eq!((modes(&odd), odd.loaded.unwrap().serial), ((Mode::Hard, None), 8));
        assert!(judge.error().unwrap().starts_with("the shadow"), "{:?}", judge.error());
        assert_eq!(modes(&take(&mut judge, look(with(9, "{mode: hard}"), "hard"))), (Mode::Hard, Some(Mode::Hard)));
        assert_eq!(judge.error(), None);
        assert_eq!(modes(&take(&mut judge, look(sealed(10, Mode::Soft), ""))), (Mode::Soft, None));
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
