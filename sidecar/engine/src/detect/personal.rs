//! stub
use std::ops::Range;
pub(super) const NUMBER_KINDS: &[(&str, &str)] = &[("SSN", "ssn"), ("CREDIT_CARD", "card")];
pub(super) fn is_number_byte(byte: u8) -> bool { byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')' | b'+') }
pub(super) fn numbers(run: &[u8], _before: &[u8], _after: Option<u8>, found: &mut dyn FnMut(&'static str, Range<usize>)) {
    let digits = run.iter().filter(|b| b.is_ascii_digit()).count();
    let end = run.iter().rposition(|b| b.is_ascii_digit()).map_or(0, |p| p + 1);
    if digits == 16 { found("CREDIT_CARD", 0..end); }
    if digits == 9 && run.get(3) == Some(&b'-') && run.get(6) == Some(&b'-') { found("SSN", 0..end); }
}
pub(super) fn email(local_end: usize, text: &[u8]) -> Option<Range<usize>> {
    let domain = &text[local_end + 1..];
    let trimmed = domain.iter().rposition(|b| b.is_ascii_alphanumeric())? + 1;
    domain[..trimmed].contains(&b'.').then_some(0..local_end + 1 + trimmed)
}
pub(super) fn ipv6(_run: &[u8]) -> Option<Range<usize>> { None }
pub(super) fn mac(run: &[u8]) -> Option<Range<usize>> { (run.len() == 17 && run.iter().filter(|b| **b == b':').count() == 5).then_some(0..17) }
