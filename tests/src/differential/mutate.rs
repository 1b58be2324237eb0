//! What parsers disagree on, done to a body.

use super::grammar::{Node, key, text};
use super::random::Random;

/// Changes a body in none to five places.
pub(super) fn mutate(mut root: Node, random: &mut Random) -> Node {
    let count = match random.below(100) {
        0..12 => 0,
        12..60 => 1,
        60..82 => 2,
        82..94 => 3,
        _ => 5,
    };
    for _ in 0..count {
        root = mutate_once(root, random);
    }
    root
}

fn mutate_once(mut root: Node, random: &mut Random) -> Node {
    match random.below(100) {
        0..14 => in_object(&mut root, random, |members, random| respell_key(members, random)),
        14..24 => in_object(&mut root, random, double_key),
        24..34 => at_any(&mut root, random, |node, _| *node = Node::raw("null")),
        34..44 => at_any(&mut root, random, |node, random| *node = another_type(random)),
        44..50 => in_object(&mut root, random, |members, random| {
            let place = random.below(members.len() + 1);
            members.insert(place, (key(random), another_type(random)));
        }),
        50..56 => at_any(&mut root, random, wrap),
        56..64 => at_any(&mut root, random, number),
        64..72 => at_string(&mut root, random, odd_string),
        72..77 => in_object(&mut root, random, |members, random| {
            if !members.is_empty() {
                members.remove(random.below(members.len()));
            }
        }),
        77..83 => {
            let from = nth(&root, random.below(size(&root))).clone();
            at_any(&mut root, random, |node, _| *node = from);
        }
        83..87 => in_object(&mut root, random, |members, random| {
            if members.len() > 1 {
                let (one, other) = (random.below(members.len()), random.below(members.len()));
                let value = members[one].1.clone();
                members[one].1 = std::mem::replace(&mut members[other].1, value);
            }
        }),
        87..90 => at_any(&mut root, random, nest),
        90..95 => at_any(&mut root, random, |node, random| *node = Node::raw(random.pick(&["\"\"", "[]", "{}", "0", "false", "\" \""]))),
        95..97 => in_array(&mut root, random, |items, random| {
            if !items.is_empty() {
                let copy = items[random.below(items.len())].clone();
                items.insert(random.below(items.len() + 1), copy);
            }
        }),
        _ => return around(&root, random),
    }
    root
}

fn size(node: &Node) -> usize {
    1 + match node {
        Node::Raw(_) => 0,
        Node::Array(items) => items.iter().map(size).sum(),
        Node::Object(members) => members.iter().map(|(_, value)| size(value)).sum(),
    }
}

fn nth(node: &Node, mut place: usize) -> &Node {
    if place == 0 {
        return node;
    }
    place -= 1;
    let children: Vec<&Node> = match node {
        Node::Raw(_) => Vec::new(),
        Node::Array(items) => items.iter().collect(),
        Node::Object(members) => members.iter().map(|(_, value)| value).collect(),
    };
    for child in children {
        let count = size(child);
        if place < count {
            return nth(child, place);
        }
        place -= count;
    }
    node
}

fn nth_mut(node: &mut Node, mut place: usize) -> &mut Node {
    if place == 0 {
        return node;
    }
    place -= 1;
    // Which child it is, found first, since a borrow can't be given back.
    let counts: Vec<usize> = match node {
        Node::Raw(_) => Vec::new(),
        Node::Array(items) => items.iter().map(size).collect(),
        Node::Object(members) => members.iter().map(|(_, value)| size(value)).collect(),
    };
    let mut child = 0;
    while child < counts.len() && place >= counts[child] {
        place -= counts[child];
        child += 1;
    }
    if child == counts.len() {
        return node;
    }
    match node {
        Node::Raw(_) => node,
        Node::Array(items) => nth_mut(&mut items[child], place),
        Node::Object(members) => nth_mut(&mut members[child].1, place),
    }
}

fn at_any(root: &mut Node, random: &mut Random, change: impl FnOnce(&mut Node, &mut Random)) {
    let place = random.below(size(root));
    change(nth_mut(root, place), random);
}

/// How often a place of the wanted kind is looked for.
const TRIES: usize = 20;

fn in_object(root: &mut Node, random: &mut Random, change: impl FnOnce(&mut Vec<(Vec<u8>, Node)>, &mut Random)) {
    let count = size(root);
    for _ in 0..TRIES {
        // Without this the outermost, where most fields stand, would be one of many.
        let place = if random.percent(30) { 0 } else { random.below(count) };
        if let Node::Object(members) = nth_mut(root, place) {
            return change(members, random);
        }
    }
}

fn in_array(root: &mut Node, random: &mut Random, change: impl FnOnce(&mut Vec<Node>, &mut Random)) {
    let count = size(root);
    for _ in 0..TRIES {
        if let Node::Array(items) = nth_mut(root, random.below(count)) {
            return change(items, random);
        }
    }
}

fn at_string(root: &mut Node, random: &mut Random, change: impl FnOnce(&mut Vec<u8>, &mut Random)) {
    let count = size(root);
    for _ in 0..TRIES {
        if let Node::Raw(bytes) = nth_mut(root, random.below(count))
            && bytes.first() == Some(&b'"')
        {
            return change(bytes, random);
        }
    }
}

/// Another spelling of a key: its case, folds of Unicode, escapes.
fn respelt(key: &[u8], random: &mut Random) -> Vec<u8> {
    let spelt = String::from_utf8_lossy(key).into_owned();
    let letters: Vec<char> = spelt.chars().collect();
    let some: Vec<usize> = (0..letters.len()).filter(|place| letters[*place].is_ascii_alphabetic()).collect();
    if some.is_empty() || spelt.contains('\\') {
        return key.to_vec();
    }
    let (way, chosen) = (random.below(5), random.pick(&some));
    let mut out = String::new();
    for (place, c) in letters.into_iter().enumerate() {
        match (way, c) {
            (0, c) if place == chosen => out.push(c.to_ascii_uppercase()),
            (1, c) if place > 0 => out.push(c.to_ascii_uppercase()),
            (2, 's') => out.push('ſ'),
            (2, 'k') => out.push('\u{212a}'),
            (3, c) if place == chosen => out.extend(["\\u", format!("{:04x}", u32::from(c)).as_str()]),
            (4, c) if place == chosen => {
                out.push(c);
                out.push(random.pick(&['\u{301}', '\u{200b}', ' ', '_', '\u{0}', 's']));
            }
            (_, c) => out.push(c),
        }
    }
    out.into_bytes()
}

fn respell_key(members: &mut [(Vec<u8>, Node)], random: &mut Random) {
    if !members.is_empty() {
        let place = random.below(members.len());
        members[place].0 = respelt(&members[place].0, random);
    }
}

/// The same key again, spelt alike or otherwise, with the same value or another.
fn double_key(members: &mut Vec<(Vec<u8>, Node)>, random: &mut Random) {
    if members.is_empty() {
        return;
    }
    let (name, value) = members[random.below(members.len())].clone();
    let name = if random.percent(40) { name } else { respelt(&name, random) };
    let value = match random.below(4) {
        0 => value,
        1 => Node::raw("null"),
        2 => text(random),
        _ => another_type(random),
    };
    members.insert(random.below(members.len() + 1), (name, value));
}

fn another_type(random: &mut Random) -> Node {
    match random.below(9) {
        0 => Node::raw("true"),
        1 => Node::raw("3"),
        2 => Node::raw("2.5"),
        3 | 4 => text(random),
        5 => Node::Array(Vec::new()),
        6 => Node::Array(vec![text(random), text(random)]),
        7 => Node::Object(Vec::new()),
        _ => Node::Object(vec![(key(random), text(random)), (key(random), Node::raw("1"))]),
    }
}

fn wrap(node: &mut Node, random: &mut Random) {
    let value = std::mem::replace(node, Node::raw("null"));
    *node = match (random.below(3), value) {
        (0, Node::Array(mut items)) if !items.is_empty() => items.swap_remove(0),
        (0, Node::Object(mut members)) if !members.is_empty() => members.swap_remove(0).1,
        (1, value) => Node::Object(vec![(key(random), value)]),
        (_, value) => Node::Array(vec![value]),
    };
}

fn number(node: &mut Node, random: &mut Random) {
    const NUMBERS: &[&str] = &[
        "-0",
        "0.0",
        "-0.0",
        "1.0",
        "1e2",
        "1E+2",
        "1e400",
        "-1e400",
        "1e-400",
        "5e-324",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "9007199254740993",
        "0.1e1",
        "123456789012345678901234567890",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "01",
        "+1",
        ".5",
        "1.",
        "NaN",
        "0x10",
        "1_0",
        "2147483648",
        "4294967296",
        "3.4028236e38",
        "1e23",
        "123456.789e3",
        "100000000000000000000000",
        "-1",
        "-0e5",
        "0e99",
    ];
    *node = Node::raw(random.pick(NUMBERS));
}

fn odd_string(bytes: &mut Vec<u8>, random: &mut Random) {
    const ODD: &[&[u8]] = &[
        b"\\ud800",
        b"\\udc00",
        b"\\ud800\\u0041",
        b"\\ud83d\\ude00",
        b"\\ude00\\ud83d",
        b"\\u0000",
        b"\x01",
        b"\x7f",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x80",
        b"\\x41",
        b"\\u12",
        b"\\/",
        b"\\b\\f",
        b"\xef\xbb\xbf",
        b"\xef\xbf\xbd",
        b"\n",
        b"\\",
        b"\"",
        b"\\u2028",
        b"\xe2\x80\xa8",
        b"\\u003c",
        b" ",
        b"\xc2\x85",
    ];
    let place = 1 + random.below(bytes.len().saturating_sub(1).max(1));
    let odd = random.pick(ODD);
    bytes.splice(place.min(bytes.len())..place.min(bytes.len()), odd.iter().copied());
}

fn nest(node: &mut Node, random: &mut Random) {
    let depth = random.pick(&[3, 20, 60, 110, 126, 127, 128, 200]);
    let object = random.percent(50);
    for _ in 0..depth {
        let value = std::mem::replace(node, Node::raw("null"));
        *node = if object { Node::Object(vec![(b"\"a\"".to_vec(), value)]) } else { Node::Array(vec![value]) };
    }
}

/// Something before, behind or between what a body is made of.
fn around(root: &Node, random: &mut Random) -> Node {
    const BEFORE: &[&[u8]] = &[b"\xef\xbb\xbf", b" \t\r\n", b"\x0b", b"\xc2\xa0", b"{}", b"\x00", b"\xff\xfe"];
    const BEHIND: &[&[u8]] =
        &[b" ", b"\n", b"{}", b"x", b",", b"null", b"]", b"}", b"\x00", b"\xef\xbb\xbf", b"{\"model\":\"other\"}", b"//"];
    const SPACES: &[&[u8]] = &[b" ", b"\n", b"\t\r\n ", b",", b"\x0c", b"\xc2\xa0", b"/**/"];
    let mut bytes = root.bytes();
    match random.below(5) {
        0 => bytes.splice(0..0, random.pick(BEFORE).iter().copied()).for_each(drop),
        1 => bytes.extend_from_slice(random.pick(BEHIND)),
        2 => bytes.truncate(random.below(bytes.len().max(1))),
        3 => {
            let places: Vec<usize> = (0..bytes.len()).filter(|place| matches!(bytes[*place], b',' | b':' | b'{' | b'[')).collect();
            if !places.is_empty() {
                let place = random.pick(&places) + 1;
                let space = random.pick(SPACES);
                bytes.splice(place..place, space.iter().copied());
            }
        }
        _ => {
            if !bytes.is_empty() {
                let place = random.below(bytes.len());
                bytes[place] ^= 1 << random.below(8);
            }
        }
    }
    Node::Raw(bytes)
}
