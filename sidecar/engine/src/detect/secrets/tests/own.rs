//! The same promises with what a policy brings: patterns of its own, values that stay, and other things than marks in the place of values.

use super::*;
use crate::detect::rule::Ends;

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::new(&[7; 32]).unwrap());

/// Patterns of every form there is, each with a value. What finds letters or digits at large finds them in marks, too.
const PATTERNS: &[(&str, &str, &[&str], Ends)] = &[
    ("EMP-[0-9]{6}", "EMP-407311", &[], Ends::Run),
    ("[0-9]{3}-[0-9]{2}", "407-31", &[], Ends::Word),
    ("[a-z]+-[0-9]{4}", "ward-4073", &[], Ends::Run),
    ("(?:PRJ|[A-Z]{2}_)[a-z0-9]{3,}", "QX_a1b2", &[], Ends::Pattern),
    ("(?i)case no\\.? [0-9]{2,4}", "Case No. 17", &[], Ends::Pattern),
    ("[A-Z]{5,}", "ATLASX", &[], Ends::Run),
    ("[0-9]{2,4}", "4073", &[], Ends::Word),
    ("[0-9]{4}", "4073", &["badge", "pin"], Ends::Pattern),
    ("[a-z]{6,}", "marigold", &["codename"], Ends::Pattern),
    ("Größe=[^\\s]+", "Größe=ü4ö", &[], Ends::Pattern),
    ("user=[^,;]+", "user=nobody at all", &[], Ends::Run),
    ("#[0-9a-f]{6}", "#a1b2c3", &[], Ends::Word),
];

fn own(places: &[usize]) -> Patterns {
    let pattern = |place: &usize| {
        let (pattern, _, near, ends) = PATTERNS[*place];
        Pattern { kind: own_kind(*place), pattern, near, ends, entropy: 0.0 }
    };
    Patterns::new(&places.iter().map(pattern).collect::<Vec<_>>()).unwrap()
}

fn own_kind(place: usize) -> Kind {
    Kind::of_own(&format!("ownOfTests{place}"))
}

fn everything() -> Vec<Kind> {
    Kind::all().chain((0..PATTERNS.len()).map(own_kind)).collect()
}

/// Rules with these patterns, and with all that is beside the kinds.
fn rules(places: &[usize], allowed: &[String], replacements: &[(Vec<Kind>, Replacement)]) -> Arc<SecretRules> {
    let rules = SecretRules::new(&Kind::all().collect::<Vec<_>>());
    let rules = if places.is_empty() { rules } else { rules.and(own(places)) };
    let replacements = replacements.iter().map(|(kinds, with)| (kinds.as_slice(), *with));
    Arc::new(rules.but(Allowed::new(allowed.iter().map(String::as_str))).replacing(replacements, Some(&KEY)))
}

fn places() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(0..PATTERNS.len(), 0..5).prop_map(|places| places.into_iter().collect())
}

fn own_texts() -> impl Strategy<Value = String> {
    let value = prop::sample::select(PATTERNS).prop_map(|(_, value, near, _)| format!("{} {value}", near.first().unwrap_or(&"")));
    let hidden = (prop::sample::select(PATTERNS), any::<prop::sample::Index>())
        .prop_map(|((_, value, _, _), index)| index.get(&disguised(value)).1.clone());
    let mark = prop::sample::select(vec![
        "[REDACTED_EMAIL]",
        "[REDACTED_SSN_12]",
        "[REDACTED_EMAIL_bcdfghjlmnqr]",
        "[####1111]",
        "[REDACTED_",
        "[####",
    ]);
    let part = prop_oneof![3 => value, 1 => hidden, 2 => texts(), 1 => mark.prop_map(str::to_owned), 1 => "[ -_.,;\\[\\]#=]{1,2}"];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// Entries that allow some of a text: parts of it, with stars in them.
fn allowed(text: &str, cuts: &[(prop::sample::Index, prop::sample::Index, u8)]) -> Vec<String> {
    let entry = |(from, length, stars): &(prop::sample::Index, prop::sample::Index, u8)| {
        let from = text.floor_char_boundary(from.index(text.len() + 1));
        let part = &text[from..text.floor_char_boundary(from + length.index(24))];
        let part = part.trim_matches('*');
        let (before, after) = (if stars & 1 == 0 { "" } else { "*" }, if stars & 2 == 0 { "" } else { "*" });
        Some(format!("{before}{part}{after}")).filter(|_| !part.is_empty())
    };
    cuts.iter().filter_map(entry).collect()
}

fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8), 0..4)
}

fn replacements() -> impl Strategy<Value = Vec<(Vec<Kind>, Replacement)>> {
    let with = prop::sample::select(vec![Replacement::Mark, Replacement::LastDigits, Replacement::Token]);
    prop::collection::vec((prop::collection::vec(prop::sample::select(everything()), 1..200), with), 0..4)
}

/// What may stand in the place of a value.
fn may_stand(kind: Kind, value: &str) -> Vec<String> {
    let others = [Replacement::LastDigits, Replacement::Token].into_iter().filter_map(|with| with.of(kind, value, Some(&KEY)));
    others.chain([kind.mark().to_owned()]).collect()
}

#[test]
fn an_own_kind_is_found_beside_the_others_and_in_disguise() {
    let rules = rules(&[0], &[], &[]);
    let email = sample("EMAIL");
    let (out, kinds) = in_pieces(&rules, &[&format!("EMP-407311, {email}; XEMP-407311-7")]);
    let own = own_kind(0);
    assert_eq!(out, format!("{0}, {1}; X{0}", own.mark(), mark("EMAIL")));
    assert_eq!(kinds, [own, Kind::of_name("EMAIL").unwrap(), own]);
    for (disguise, text) in disguised("EMP-407311") {
        let (out, kinds) = in_pieces(&rules, &[&format!("it is {text} and more")]);
        // (What is split right behind its beginning, or is short, isn't looked for on the next line.)
        assert!(kinds.contains(&own), "{disguise}: {out}");
    }
}

#[test]
fn what_begins_with_a_class_begins_a_word() {
    let of = |place: usize, text: &str| in_pieces(&rules(&[place], &[], &[]), &[text]).0;
    let mark = |place: usize| own_kind(place).mark();
    assert_eq!(of(1, "407-31, 1407-31, x407-31 407-311"), format!("{}, 1407-31, x407-31 407-311", mark(1)));
    assert_eq!(of(2, "see ward-4073 or x-4073"), format!("see {0} or {0}", mark(2)));
    assert_eq!(
        of(7, "badge 4073, then 4073 pages of anything that is long enough to be far, 4073"),
        format!("badge {0}, then {0} pages of anything that is long enough to be far, 4073", mark(7))
    );
}

#[test]
fn an_allowed_value_of_any_sort_stays_also_in_disguise() {
    let values =
        [sample("EMAIL"), sample("SSN"), sample("CREDIT_CARD"), sample("GITHUB_TOKEN"), "10.1.2.3".to_owned(), "EMP-407311".to_owned()];
    for value in &values {
        let none = rules(&[0], &[], &[]);
        let exact = rules(&[0], std::slice::from_ref(value), &[]);
        let stars = rules(&[0], &[format!("{}*", &value[..5])], &[]);
        let other = rules(&[0], &[format!("{value}7"), value[1..].to_owned()], &[]);
        let text = format!("it is {value}, so");
        assert_ne!(in_pieces(&none, &[&text]).0, text, "{value}");
        assert_eq!(in_pieces(&other, &[&text]).0, in_pieces(&none, &[&text]).0, "{value}");
        for rules in [&exact, &stars] {
            assert_eq!(in_pieces(rules, &[&text]), (text.clone(), vec![]), "{value}");
        }
        for name in ["percent", "zero-width", "base64", "hexadecimal", "JSON escapes"] {
            let hidden = disguised(value).into_iter().find(|(disguise, _)| *disguise == name).unwrap().1;
            let text = format!("it is {hidden} so");
            // (What is very short isn't looked for in base64.)
            assert!(value.len() < 9 || in_pieces(&none, &[&text]).0 != text, "{value} {name}");
            assert_eq!(in_pieces(&exact, &[&text]).0, text, "{value} {name}");
        }
    }
    // One that is longer is another, and hides none.
    let (short, token) = (rules(&[], &[sample("GITHUB_TOKEN")], &[]), sample("GITHUB_TOKEN"));
    assert_eq!(in_pieces(&short, &[&format!("{token}x")]).0, mark("GITHUB_TOKEN"));
    let long = rules(&[], &[format!("{}*", &token[..8])], &[]);
    let hidden = format!("{}{}", &token[..12], token.replace("aB3d", "xY9z"));
    assert_ne!(in_pieces(&long, &[&hidden]).0, hidden);
}

#[test]
fn each_replacement_stands_where_it_is_asked_for_and_the_mark_elsewhere() {
    let kind = |name: &str| vec![Kind::of_name(name).unwrap()];
    let asked =
        [(kind("CREDIT_CARD"), Replacement::LastDigits), (vec![own_kind(0)], Replacement::Token), (kind("EMAIL"), Replacement::LastDigits)];
    let rules = rules(&[0], &[], &asked);
    let of = |text: &str| in_pieces(&rules, &[text]).0;
    assert_eq!(of(&format!("pay {} now", sample("CREDIT_CARD"))), "pay [####1111] now");
    let token = Replacement::Token.of(own_kind(0), "EMP-407311", Some(&KEY)).unwrap();
    assert_eq!(
        of("EMP-407311 EMP-407311 EMP-407312"),
        format!("{token} {token} {}", Replacement::Token.of(own_kind(0), "EMP-407312", Some(&KEY)).unwrap())
    );
    // Nothing to show, another kind, and a disguise.
    assert_eq!(of(&format!("{} {}", sample("EMAIL"), sample("SSN"))), format!("{} {}", mark("EMAIL"), mark("SSN")));
    let hidden = disguised("EMP-407311").into_iter().find(|(disguise, _)| *disguise == "percent").unwrap().1;
    assert_eq!(of(&format!("it is {hidden}.")), format!("it is {}.", own_kind(0).mark()));
    // Two that overlap.
    assert_eq!(of("EMP-407311@mail.example.org "), format!("{} ", mark("EMAIL")));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn streamed_equals_unstreamed_whatever_the_policy_says(
        (text, cuts) in own_texts().prop_flat_map(|text| (Just(text), cuts())),
        places in places(),
        replacements in replacements(),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let rules = rules(&places, &allowed(&text, &cuts), &replacements);
        let whole = in_pieces(&rules, &[&text]);
        prop_assert_eq!(&in_pieces(&rules, &split(&text, &splits)), &whole, "{:?}", text);
        prop_assert_eq!(&in_pieces(&rules, &singly(&text)), &whole, "{:?}", text);
        prop_assert_eq!(rules.is_clean(&text), whole.1.is_empty());
    }

    #[test]
    fn nothing_of_a_value_stays_but_what_its_replacement_keeps(text in own_texts(), places in places(), replacements in replacements()) {
        let rules = rules(&places, &[], &replacements);
        let out = in_pieces(&rules, &[&text]).0;
        let (mut rest, mut given) = (out.as_str(), 0);
        for (kind, place) in rules.find(&text) {
            rest = rest.strip_prefix(&text[given..place.start]).ok_or_else(|| TestCaseError::fail(format!("{text:?} {out}")))?;
            let stands = may_stand(kind, &text[place.clone()]).into_iter().find_map(|instead| rest.strip_prefix(instead.as_str()));
            rest = stands.ok_or_else(|| TestCaseError::fail(format!("{text:?} {out}")))?;
            given = place.end;
        }
        prop_assert_eq!(rest, &text[given..]);
    }

    #[test]
    fn what_stands_in_a_values_place_is_found_no_second_time(
        places in places(),
        with in 0..3usize,
        names in prop::collection::vec(0..NAMES.len() + PATTERNS.len(), 1..5),
    ) {
        let with = [Replacement::Mark, Replacement::LastDigits, Replacement::Token][with];
        let rules = rules(&places, &[], &[(everything(), with)]);
        let value = |name: &usize| NAMES.get(*name).map_or_else(|| PATTERNS[name - NAMES.len()].1.to_owned(), |name| sample(name));
        let text = names.iter().map(value).collect::<Vec<_>>().join(" & ");
        let out = in_pieces(&rules, &[&text]).0;
        prop_assert_eq!(&in_pieces(&rules, &[&out]).0, &out, "{}", text);
        let out = out.split(" & ").filter(|part| part.starts_with('[')).collect::<Vec<_>>().join(" & ");
        // Nor in a disguise that Markdown makes of it, or a model.
        for again in [format!("**{out}**"), format!("`{out}`"), format!("\"token\": \"{out}\""), format!("password={out}")] {
            let found = rules.find(&again);
            let kinds: Vec<Kind> = found.iter().map(|(kind, _)| *kind).collect();
            prop_assert!(found.is_empty(), "{} {:?}", again, kinds);
        }
    }

    #[test]
    fn what_stays_is_allowed_and_all_else_goes(
        (text, cuts) in own_texts().prop_flat_map(|text| (Just(text), cuts())),
        places in places(),
    ) {
        // (What is disguised isn't said in the text itself.)
        let is_plain = |c: &char| c.is_ascii() && !matches!(c, '%' | '\\' | '&' | '*' | '`' | '~' | '\n' | '\r');
        let text: String = text.chars().map(|c| if is_plain(&c) { c } else { ' ' }).collect();
        let entries = allowed(&text, &cuts);
        let allow = Allowed::new(entries.iter().map(String::as_str));
        let (none, some) = (rules(&places, &[], &[]).find(&text), rules(&places, &entries, &[]).find(&text));
        let is_in = |place: usize, ranges: &[(Kind, Range<usize>)]| {
            ranges.iter().map(|(_, range)| range).find(|range| range.contains(&place)).cloned()
        };
        for place in 0..text.len() {
            let (before, now) = (is_in(place, &none), is_in(place, &some));
            prop_assert!(now.is_none() || before.is_some(), "{} goes only since something else may stay: {:?} {:?}", place, text, entries);
            if let (Some(range), None) = (before, now) {
                let mut parts = (range.start..=place).flat_map(|from| (place + 1..=range.end).map(move |to| from..to));
                let is_encoded = text.as_bytes()[range.clone()].iter().filter(|byte| byte.is_ascii_alphanumeric()).count() >= 12;
                prop_assert!(is_encoded || parts.any(|part| allow.has(&text.as_bytes()[part])), "{:?} {:?} {}", text, entries, place);
            }
        }
    }
}
