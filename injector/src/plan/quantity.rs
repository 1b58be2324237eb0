//! Kubernetes' quantities: `100m`, `64Mi`, `1e3`.
//!
//! The invariant: what is read here the API server reads as well, to the same amount.

use std::str::FromStr;

/// An amount of processor time or memory.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Quantity(f64);

/// Text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quantity is a number with a suffix such as m, k, M, G, Ki, Mi or Gi, or with an exponent")]
pub(crate) struct NotAQuantity;

const SUFFIXES: [(&str, f64); 16] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("", 1.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

impl Quantity {
    pub(crate) const ZERO: Self = Self(0.0);
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let exponent = suffix.strip_prefix(['e', 'E']).filter(|digits| {
            let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let factor = match exponent {
            Some(exponent) => exponent.parse().map(|exponent| 10f64.powi(exponent)).map_err(|_| NotAQuantity)?,
            None => SUFFIXES.iter().find(|(name, _)| *name == suffix).ok_or(NotAQuantity)?.1,
        };
        // Rust reads every such number but the lone point.
        let number: f64 = number.parse().map_err(|_| NotAQuantity)?;
        Ok(Self(if text.starts_with('-') { -number * factor } else { number * factor }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_and_exponents_are_amounts() {
        for (text, expected) in [
            ("100m", 0.1),
            ("0.5", 0.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1k", 1e3),
            ("1Ki", 1024.0),
            ("1e3", 1e3),
            ("1E-2", 0.01),
            ("2E", 2e18),
            ("-1", -1.0),
        ] {
            assert!((text.parse::<Quantity>().unwrap().0 - expected).abs() <= expected.abs() * 1e-12, "{text}");
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", ".", "m", "1 Gi", "1KiB", "1mi", "1.2.3", "1e", "1e999", "0x10", "NaN", "inf", "--1", "1,5"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
