//! Makes a failing body smaller, for as long as it fails in the same way.

use std::io;

/// How many smaller bodies are tried at most.
const TRIES: usize = 4000;

/// The smallest body found that `fails` says something about, and what it says; nothing if the body doesn't fail.
pub(super) fn shrink(body: &[u8], fails: &mut dyn FnMut(&[u8]) -> io::Result<Option<String>>) -> io::Result<Option<(Vec<u8>, String)>> {
    let Some(mut said) = fails(body)? else { return Ok(None) };
    let mut body = body.to_vec();
    let mut tries = 0;
    loop {
        let mut smaller = None;
        for candidate in candidates(&body) {
            tries += 1;
            if tries > TRIES {
                break;
            }
            if let Some(said) = fails(&candidate)? {
                smaller = Some((candidate, said));
                break;
            }
        }
        match smaller {
            Some((found, why)) => (body, said) = (found, why),
            None => return Ok(Some((body, said))),
        }
    }
}

/// Smaller bodies: those without a piece that begins and ends where JSON can, the longest pieces first, then with shorter strings.
fn candidates(body: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut cuts: Vec<usize> =
        (0..body.len()).filter(|place| matches!(body[*place], b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"')).collect();
    cuts.extend(cuts.clone().into_iter().map(|place| place + 1));
    cuts.sort_unstable();
    cuts.dedup();
    let mut pieces: Vec<(usize, usize)> = cuts
        .iter()
        .enumerate()
        .flat_map(|(index, from)| cuts[index + 1..].iter().map(|to| (*from, *to)))
        .filter(|(from, to)| is_whole(&body[*from..*to]))
        .collect();
    pieces.sort_unstable_by_key(|(from, to)| std::cmp::Reverse(to - from));
    let single = (0..body.len()).map(|place| (place, place + 1));
    pieces.into_iter().chain(single).map(|(from, to)| [&body[..from], &body[to..]].concat())
}

/// Whether all that the piece opens it also closes, so that there is JSON without it.
fn is_whole(piece: &[u8]) -> bool {
    let (mut open, mut quotes) = (0_i32, 0);
    for byte in piece {
        match byte {
            b'{' | b'[' => open += 1,
            b'}' | b']' => open -= 1,
            b'"' => quotes += 1,
            _ => {}
        }
        if open < 0 {
            return false;
        }
    }
    open == 0 && quotes % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_difference_goes() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"x","bad":"here","content":"so"}],"stream":true}"#;
        let mut fails = |body: &[u8]| {
            let value = serde_json::from_slice::<serde_json::Value>(body).ok();
            Ok(value.filter(|_| body.windows(5).any(|piece| piece == b"\"bad\"")).map(|_| "bad".to_owned()))
        };
        let (body, said) = shrink(body, &mut fails).unwrap().unwrap();
        assert_eq!(said, "bad");
        // What holds the rest can't go, since that would be no JSON then.
        assert_eq!(String::from_utf8(body).unwrap(), r#"{"":[{"bad":""}]}"#);
    }

    #[test]
    fn what_does_not_fail_is_left_alone() {
        assert_eq!(shrink(b"{}", &mut |_| Ok(None)).unwrap(), None);
    }
}
