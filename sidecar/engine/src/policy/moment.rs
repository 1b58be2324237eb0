//! A second of the calendar, as RFC 3339 writes it. Pure: nobody here asks what time it is.
//!
//! The invariant: what [`Moment`] shows reads as the same moment. A part of a second is left out, so that what ends, ends no later than
//! it was written to.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::shown;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The days of the months of a year that is no leap year.
const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

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

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_months(year: u64) -> [u64; 12] {
    let mut months = MONTHS;
    months[1] += u64::from(is_leap(year));
    months
}

/// The days from the first of 1970 to the first of a year that isn't before it.
const fn days_before(year: u64) -> u64 {
    const fn since_the_first(year: u64) -> u64 {
        let whole = year - 1;
        365 * whole + whole / 4 - whole / 100 + whole / 400
    }
    since_the_first(year) - since_the_first(1970)
}

/// Reads a number of so many digits, and what stands behind it.
fn number(text: &str, digits: usize) -> Option<(u64, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    Some((number.parse().ok()?, rest))
}

/// Reads numbers of two digits, with these marks between them.
fn parts<'t, const N: usize>(mut text: &'t str, marks: [&str; N]) -> Option<([u64; N], &'t str)> {
    let mut numbers = [0; N];
    for (part, mark) in numbers.iter_mut().zip(marks) {
        (*part, text) = number(text.strip_prefix(mark)?, 2)?;
    }
    Some((numbers, text))
}

fn read(text: &str) -> Option<Moment> {
    let (year, rest) = number(text, 4)?;
    let ([month, day], rest) = parts(rest, ["-", "-"])?;
    let ([hour, minute, second], rest) = parts(rest.strip_prefix(['T', 't'])?, ["", ":", ":"])?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            (rest.len() < fraction.len()).then_some(rest)?
        }
        None => rest,
    };
    let months = days_of_months(year);
    let of_month = months.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    (year >= 1970 && (1..=*of_month).contains(&day) && hour < 24 && minute < 60 && second < 60).then_some(())?;
    let days = days_before(year) + months.iter().take(usize::try_from(month).ok()? - 1).sum::<u64>() + day - 1;
    let here = days * DAY + hour * HOUR + minute * MINUTE + second;
    if matches!(rest, "Z" | "z") {
        return Some(Moment(here));
    }
    let is_ahead = rest.starts_with('+');
    let ([hours, minutes], "") = parts(rest.strip_prefix(['+', '-'])?, ["", ":"])? else { return None };
    (hours < 24 && minutes < 60).then_some(())?;
    let off = hours * HOUR + minutes * MINUTE;
    if is_ahead { here.checked_sub(off) } else { here.checked_add(off) }.map(Moment)
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        read(text).ok_or_else(|| MomentError(shown(text)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0 / DAY, self.0 % DAY);
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        let (mut day, mut month) = (days - days_before(year), 1);
        for length in days_of_months(year) {
            if day < length {
                break;
            }
            (day, month) = (day - length, month + 1);
        }
        let (hour, minute, second) = (of_day / HOUR, of_day % HOUR / MINUTE, of_day % MINUTE);
        write!(f, "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
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
            ("9999-12-31T23:59:59Z", 253_402_300_799),
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
            "2026-11-22T08:25:00+24:00",
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
        fn a_moment_that_is_shown_reads_as_it_was(seconds in 0_u64..253_402_300_800) {
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
