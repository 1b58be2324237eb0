//! A second of the calendar, as RFC 3339 writes it. Pure: nobody here asks what time it is.
//!
//! The invariant: what [`Moment`] shows reads as the same moment. A part of a second is left out, so that what ends, ends no later than
//! it was written to.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::shown;

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

/// Text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time as RFC 3339 writes it, such as 2026-01-31T18:00:00Z")]
pub struct MomentError(String);

impl Moment {
    /// So many seconds after 1970 began.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The seconds since 1970 began.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub const fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_secs()))
    }
}

/// Whether a text has the form that RFC 3339 gives a time. (The library reads others of ISO 8601 as well.)
fn has_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is = |place: usize, one_of: &[u8]| bytes.get(place).is_some_and(|byte| one_of.contains(byte));
    let zone = matches!(bytes, [.., b'Z' | b'z'] | [.., b'+' | b'-', _, _, b':', _, _]);
    // A second that is put in is no second of this calendar.
    zone && is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":") && is(19, b".Zz+-") && is(17, b"012345")
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let read = |text: &str| u64::try_from(text.parse::<Timestamp>().ok()?.as_second()).ok();
        Some(text).filter(|text| has_form(text)).and_then(read).map(Self).ok_or_else(|| MomentError(shown(text)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is behind the end of the calendar is shown as its end.
        let timestamp = i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX);
        write!(f, "{timestamp:.0}")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Moment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_is_that_of_the_calendar_whatever_the_zone() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.999999999Z", 0),
            ("1972-02-29T23:59:59z", 68_255_999),
            ("2000-02-29t12:00:00Z", 951_825_600),
            ("2026-11-22T08:25:00Z", 1_795_335_900),
            ("2026-11-22T10:25:00.5+02:00", 1_795_335_900),
            ("2026-11-21T23:55:00-08:30", 1_795_335_900),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-30T00:00:00Z", 253_402_128_000),
        ] {
            assert_eq!(text.parse(), Ok(Moment(seconds)), "{text}");
        }
    }

    #[test]
    fn what_the_calendar_doesnt_have_is_no_moment() {
        for text in [
            "",
            "tomorrow",
            "2026-11-22",
            "2026-11-22T08:25Z",
            "2026-11-22T08:25:00",
            "2026-11-22 08:25:00Z",
            "2026-11-22T08:25:00.Z",
            "2026-11-22T08:25:00Z ",
            "2026-11-22T08:25:00+0200",
            "2026-11-22T08:25:00+27:00",
            "2026-11-22T08:25:00Z[UTC]",
            "2026-11-22T24:00:00Z",
            "2026-11-22T08:60:00Z",
            "2026-11-22T08:25:60Z",
            "2026-02-29T08:25:00Z",
            "2100-02-29T08:25:00Z",
            "2026-13-01T08:25:00Z",
            "2026-00-01T08:25:00Z",
            "2026-04-31T08:25:00Z",
            "2026-04-00T08:25:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "+026-11-22T08:25:00Z",
            "2026-11-2²T08:25:00Z",
            "20261122T082500Z",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_that_is_shown_reads_as_it_was(seconds in 0_u64..253_402_128_000) {
            prop_assert_eq!(Moment(seconds).to_string().parse(), Ok(Moment(seconds)));
        }

        #[test]
        fn text_of_any_kind_is_a_moment_or_none(text in "\\PC{0,40}", odd in "[0-9TZ:.+-]{0,30}") {
            for text in [text, odd] {
                let _ = text.parse::<Moment>();
            }
        }
    }
}
