//! The exceptions in a guard's settings, by the guard's own clock.
//!
//! The invariant: an exception that has ended for this guard stays ended, whatever becomes of its clock, and none lasts longer than a
//! day from when the guard first saw it. Nobody has to be there to end one: neither the injector nor the API server.

use std::time::Duration;

use llm_guard_engine::policy::settings::Exception;
use llm_guard_engine::policy::{LONGEST, Mode, Moment};
use tokio::time::Instant;

/// The most that are remembered as ended once they don't stand in the settings any more.
const REMEMBERED: usize = 64;
/// By how much this clock may be behind the one that an exception was made by.
const SLACK: Duration = Duration::from_mins(5);

/// What time it is: by the calendar, which somebody may set, and by a clock that goes on whatever they do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) calendar: Moment,
    pub(super) steady: Instant,
}

impl Now {
    /// This moment.
    pub(super) fn read() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { calendar: Moment::from_unix(since.as_secs()), steady: Instant::now() }
    }
}

/// What became of an exception here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It runs, until then at the latest.
    Runs(Instant),
    /// It has ended.
    Ended,
    /// It would last longer than any may.
    Unbelieved,
}

/// Those that stand in the settings, and behind them those that have ended and stand there no more.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceptions(Vec<(Exception, State)>);

impl Exceptions {
    /// What is known once the settings have these.
    pub(super) fn with(&self, all: &[Exception], now: Now) -> Self {
        let state = |exception: &Exception| {
            let known = self.0.iter().find(|(known, _)| known == exception).map(|(_, state)| *state);
            let state = known.unwrap_or_else(|| {
                if exception.expires > now.calendar.after(LONGEST + SLACK) {
                    State::Unbelieved
                } else {
                    let left = exception.expires.unix().saturating_sub(now.calendar.unix());
                    State::Runs(now.steady + Duration::from_secs(left))
                }
            });
            match state {
                State::Runs(until) if !exception.runs(now.calendar) || until <= now.steady => State::Ended,
                state => state,
            }
        };
        let ended = |(exception, state): &&(Exception, State)| *state == State::Ended && !all.contains(exception);
        let gone = self.0.iter().filter(ended).take(REMEMBERED).cloned();
        Self(all.iter().map(|exception| (exception.clone(), state(exception))).chain(gone).collect())
    }

    /// Whether one of them has ended since it was last asked.
    pub(super) fn is_due(&self, now: Now) -> bool {
        let due = |(exception, state): &(Exception, State)| match state {
            State::Runs(until) => !exception.runs(now.calendar) || *until <= now.steady,
            State::Ended | State::Unbelieved => false,
        };
        self.0.iter().any(due)
    }

    fn of(&self, wanted: impl Fn(State) -> bool) -> impl Iterator<Item = &Exception> {
        self.0.iter().filter(move |(_, state)| wanted(*state)).map(|(exception, _)| exception)
    }

    /// Those that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Exception> {
        self.of(|state| matches!(state, State::Runs(_)))
    }

    /// Those that would last longer than any may.
    pub(super) fn unbelieved(&self) -> impl Iterator<Item = &Exception> {
        self.of(|state| state == State::Unbelieved)
    }

    /// The most that any control gets because of them.
    pub(super) fn mode(&self) -> Option<Mode> {
        Exception::weakest(self.running())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_348_800;
    const DAY: u64 = 24 * 60 * 60;

    fn exception(name: &str, mode: Mode, seconds: u64) -> Exception {
        Exception { name: name.into(), mode, expires: Moment::from_unix(NOON + seconds) }
    }

    /// So many seconds after noon, by either clock.
    fn at(begin: Instant, calendar: u64, steady: u64) -> Now {
        Now { calendar: Moment::from_unix(NOON + calendar), steady: begin + Duration::from_secs(steady) }
    }

    fn names<'e>(exceptions: impl Iterator<Item = &'e Exception>) -> Vec<&'e str> {
        exceptions.map(|exception| exception.name.as_str()).collect()
    }

    #[test]
    fn each_ends_at_its_own_time_and_the_weakest_that_is_left_counts() {
        let begin = Instant::now();
        let all = [exception("a", Mode::Monitor, 10), exception("b", Mode::Soft, 20), exception("c", Mode::Hard, 30)];
        let mut known = Exceptions::default();
        for (seconds, due, mode) in [
            (0, false, Some(Mode::Monitor)),
            (9, false, Some(Mode::Monitor)),
            (10, true, Some(Mode::Soft)),
            (19, false, Some(Mode::Soft)),
            (29, true, Some(Mode::Hard)),
            (30, true, None),
            (31, false, None),
        ] {
            let now = at(begin, seconds, seconds);
            assert_eq!(known.is_due(now), due, "{seconds}");
            known = known.with(&all, now);
            assert_eq!(known.mode(), mode, "{seconds}");
            assert!(!known.is_due(now));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_lengthens_none_and_brings_none_back() {
        let begin = Instant::now();
        let all = [exception("a", Mode::Monitor, 60)];
        let known = Exceptions::default().with(&all, at(begin, 0, 0));
        // An hour back, and it still ends a minute after it was first seen.
        assert_eq!(known.mode(), Some(Mode::Monitor));
        assert!(!known.is_due(Now { calendar: Moment::from_unix(NOON - 3600), ..at(begin, 0, 59) }));
        let late = Now { calendar: Moment::from_unix(NOON - 3540), ..at(begin, 0, 60) };
        assert!(known.is_due(late));
        let known = known.with(&all, late);
        assert_eq!(known.mode(), None);
        assert_eq!(known.with(&all, late).with(&all, late).mode(), None);
        // Set ahead, it ends by the calendar.
        let known = Exceptions::default().with(&all, at(begin, 0, 0));
        assert!(known.is_due(at(begin, 60, 1)));
    }

    #[test]
    fn what_would_last_longer_than_a_day_is_never_believed_and_the_others_are() {
        let begin = Instant::now();
        let all = [exception("long", Mode::Monitor, DAY + 301), exception("day", Mode::Soft, DAY + 300)];
        let known = Exceptions::default().with(&all, at(begin, 0, 0));
        assert_eq!((known.mode(), names(known.unbelieved())), (Some(Mode::Soft), vec!["long"]));
        // Nor once it has become shorter.
        let known = known.with(&all, at(begin, DAY, DAY));
        assert_eq!((known.mode(), names(known.unbelieved())), (Some(Mode::Soft), vec!["long"]));
        let known = known.with(&all, at(begin, DAY + 300, DAY + 300));
        assert_eq!((known.mode(), names(known.unbelieved())), (None, vec!["long"]));
    }

    #[test]
    fn what_is_gone_from_the_settings_is_gone_and_what_has_ended_before_isnt_begun() {
        let begin = Instant::now();
        let all = [exception("a", Mode::Monitor, 60), exception("over", Mode::Monitor, 0)];
        let known = Exceptions::default().with(&all, at(begin, 0, 0));
        assert_eq!(names(known.running()), ["a"]);
        assert_eq!(known.with(&[], at(begin, 1, 1)).mode(), None);
        // Nor where it was taken out meanwhile, and comes again by a clock that was set back.
        let over = known.with(&all, at(begin, 61, 61)).with(&[], at(begin, 62, 62));
        let back = Now { calendar: Moment::from_unix(NOON), ..at(begin, 0, 63) };
        assert_eq!(over.with(&all, back).mode(), None);
        let mut many = known;
        for number in 0..200 {
            many = many.with(&[exception(&format!("e{number}"), Mode::Monitor, 0)], at(begin, 61, 61));
        }
        assert!(many.0.len() <= REMEMBERED + 1, "{}", many.0.len());
        assert_eq!(Exceptions::default().with(&all, at(begin, 61, 0)).mode(), None, "a guard that was made anew");
    }
}
