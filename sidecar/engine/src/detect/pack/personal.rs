//! Kinds of personal data that begin with a letter or a literal, as rules. Those of digits, and e-mail, IPv6 and MAC addresses, are found by
//! `detect::personal`.

use std::ops::Range;

use crate::detect::checks;
use crate::detect::rule::{Ends, KindSpec, Rule, Starts, TOKEN};

/// A word of letters and digits that stands for itself, and whose form or checksum tells it.
const WORD: Rule = Rule { starts: Starts::Word, ends: Ends::Word, ..TOKEN };

fn whole(text: &[u8], right: bool) -> Option<Range<usize>> {
    right.then_some(0..text.len())
}

fn iban(text: &[u8]) -> Option<Range<usize>> {
    checks::iban_end(text).map(|end| 0..end)
}

/// DWP, "NINO format": prefixes that aren't given out.
fn nino(text: &[u8]) -> Option<Range<usize>> {
    let prefix = [text.first()?.to_ascii_uppercase(), text.get(1)?.to_ascii_uppercase()];
    whole(text, !matches!(&prefix, b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ"))
}

fn codice_fiscale(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::italy_codice_fiscale(text))
}

/// The first letter stands for 0, 1 or 2.
fn nie(text: &[u8]) -> Option<Range<usize>> {
    let first = match text.first()?.to_ascii_uppercase() {
        b'X' => 0,
        b'Y' => 1,
        _ => 2,
    };
    let number = text.iter().filter(|byte| byte.is_ascii_digit()).fold(first, |number, digit| number * 10 + u64::from(digit - b'0'));
    whole(text, checks::spain_letter(number) == text.last()?.to_ascii_uppercase())
}

fn nric(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::singapore_nric(text))
}

fn taiwan(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::taiwan_id(text))
}

fn hong_kong(text: &[u8]) -> Option<Range<usize>> {
    let letters = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let mut digits = [0u8; 6];
    for (digit, byte) in digits.iter_mut().zip(text.get(letters..letters + 6)?) {
        *digit = byte.wrapping_sub(b'0');
    }
    let check = text.iter().rev().find(|byte| byte.is_ascii_alphanumeric())?;
    whole(text, checks::hong_kong_id(&text[..letters], &digits, *check))
}

fn curp(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::mexico_curp(text))
}

/// The date of birth or foundation in a RFC: six digits behind three or four letters.
fn rfc(text: &[u8]) -> Option<Range<usize>> {
    let letters = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let two = |place: usize| {
        text.get(letters + place..letters + place + 2)
            .map(|pair| u32::from(pair[0].wrapping_sub(b'0')) * 10 + u32::from(pair[1].wrapping_sub(b'0')))
    };
    whole(text, checks::is_day(two(2)?, two(4)?))
}

fn vin(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::vin(text))
}

fn has_digit(text: &[u8]) -> Option<Range<usize>> {
    whole(text, text.iter().filter(|byte| byte.is_ascii_digit()).count() >= 5)
}

/// P2PKH and P2SH of the main network.
fn bitcoin(text: &[u8]) -> Option<Range<usize>> {
    whole(text, matches!(checks::base_58_check(text), Some(0 | 5)))
}

fn bech_32(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::bech_32(text))
}

fn litecoin(text: &[u8]) -> Option<Range<usize>> {
    whole(text, matches!(checks::base_58_check(text), Some(0x30 | 0x32)))
}

fn dogecoin(text: &[u8]) -> Option<Range<usize>> {
    whole(text, matches!(checks::base_58_check(text), Some(0x1e)))
}

fn dash(text: &[u8]) -> Option<Range<usize>> {
    whole(text, matches!(checks::base_58_check(text), Some(0x4c)))
}

fn tron(text: &[u8]) -> Option<Range<usize>> {
    whole(text, matches!(checks::base_58_check(text), Some(0x41)))
}

fn ripple(text: &[u8]) -> Option<Range<usize>> {
    whole(text, matches!(checks::ripple_58_check(text), Some(0)))
}

fn monero(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::monero(text))
}

fn solana(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::is_key_in_base_58(text))
}

fn ethereum_sure(text: &[u8]) -> Option<Range<usize>> {
    whole(text, checks::ethereum_case(text.get(2..)?) == checks::EthereumCase::Right)
}

fn ethereum_named(text: &[u8]) -> Option<Range<usize>> {
    let digits = text.get(2..)?;
    // Zero is where nobody's are burnt.
    whole(text, checks::ethereum_case(digits) != checks::EthereumCase::Wrong && digits.iter().any(|byte| *byte != b'0'))
}

/// Kinds that begin with a letter or a literal.
pub(crate) const PERSONAL: &[KindSpec] = &[
    KindSpec {
        name: "MAC_ADDRESS",
        about: "A hardware address (EUI-48)",
        // With colons it is found beside the rules, as IPv6 addresses are.
        rules: &[
            Rule { pattern: "(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}", ..WORD },
            Rule { pattern: r"[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}", ..WORD },
        ],
    },
    KindSpec {
        name: "IBAN",
        about: "An international bank account number (ISO 13616), its check digits right",
        rules: &[Rule { pattern: "[A-Za-z]{2}[0-9]{2}[A-Za-z0-9 ]{11,38}", check: Some(iban), ends: Ends::Pattern, ..WORD }],
    },
    KindSpec {
        name: "UK_NINO",
        about: "A national insurance number of the United Kingdom",
        rules: &[
            Rule { pattern: "[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] [0-9]{2} [0-9]{2} [0-9]{2} [A-D]", check: Some(nino), ..WORD },
            Rule {
                pattern: "[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]",
                near: &["national insurance", "nino", "ni number", "ni no", "insurance number"],
                check: Some(nino),
                ..WORD
            },
        ],
    },
    KindSpec {
        name: "ITALY_CODICE_FISCALE",
        about: "A tax code of Italy, its check character right",
        // Letters may stand for digits, where two people would have the same code.
        rules: &[
            Rule {
                pattern: "[A-Z]{6}[0-9L-NP-V]{2}[A-EHLMPRST][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z]",
                check: Some(codice_fiscale),
                ..WORD
            },
            Rule {
                pattern: "[A-Za-z]{6}[0-9]{2}[A-EHLMPRSTa-ehlmprst][0-9]{2}[A-Za-z][0-9]{3}[A-Za-z]",
                check: Some(codice_fiscale),
                ..WORD
            },
        ],
    },
    KindSpec {
        name: "SPAIN_NIE",
        about: "A foreigner's identity number of Spain, its check letter right",
        rules: &[
            Rule { pattern: "[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]", check: Some(nie), ..WORD },
            Rule { pattern: "[xyz]-?[0-9]{7}-?[a-hj-np-tv-z]", near: &["nie", "extranjero"], check: Some(nie), ..WORD },
        ],
    },
    KindSpec {
        name: "INDIA_PAN",
        about: "A permanent account number of India, named as such",
        rules: &[Rule {
            pattern: "[A-Za-z]{3}[ABCFGHJLPTabcfghjlpt][A-Za-z][0-9]{4}[A-Za-z]",
            near: &["pan", "permanent account", "income tax", "pan card", "pan number"],
            ..WORD
        }],
    },
    KindSpec {
        name: "INDIA_VOTER_ID",
        about: "An electoral photo identity number of India, named as such",
        rules: &[Rule { pattern: "[A-Z]{3}[0-9]{7}", near: &["voter", "epic", "electoral"], ..WORD }],
    },
    KindSpec {
        name: "SINGAPORE_NRIC",
        about: "An identity number of Singapore (NRIC, FIN), its check letter right",
        rules: &[
            Rule { pattern: "[STFGM][0-9]{7}[A-Z]", check: Some(nric), ..WORD },
            Rule { pattern: "[stfgm][0-9]{7}[a-z]", near: &["nric", "fin", "singapore", "ic"], check: Some(nric), ..WORD },
        ],
    },
    KindSpec {
        name: "TAIWAN_ID",
        about: "An identity number of Taiwan, named as such",
        rules: &[Rule {
            pattern: "[A-Za-z][1289][0-9]{8}",
            near: &[
                "taiwan",
                "national id",
                "identity card",
                "id number",
                "id card",
                "身分證",
                "身份證",
                "身分證字號",
                "統一編號",
                "居留證",
            ],
            check: Some(taiwan),
            ..WORD
        }],
    },
    KindSpec {
        name: "HONG_KONG_ID",
        about: "An identity card's number of Hong Kong, its check character right",
        rules: &[
            Rule { pattern: r"[A-Z][A-Z]?[0-9]{6}\([0-9A]\)", check: Some(hong_kong), ends: Ends::Pattern, ..WORD },
            Rule {
                pattern: "[A-Z][A-Z]?[0-9]{6}[0-9A]",
                near: &["hkid", "hong kong", "香港身份證", "身份證"],
                check: Some(hong_kong),
                ..WORD
            },
        ],
    },
    KindSpec {
        name: "MEXICO_CURP",
        about: "A population registry code of Mexico, its check digit right",
        rules: &[Rule {
            pattern: "[A-Za-z][AEIOUXaeioux][A-Za-z]{2}[0-9]{6}[HMXhmx][A-Za-z]{2}[B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{3}[0-9A-Za-z][0-9]",
            check: Some(curp),
            ..WORD
        }],
    },
    KindSpec {
        name: "MEXICO_RFC",
        about: "A taxpayer's number of Mexico, named as such",
        rules: &[Rule {
            pattern: "[A-Z]{3}[A-Z]?[0-9]{6}[A-Z0-9]{2}[0-9A]",
            near: &["rfc", "contribuyente", "registro federal"],
            check: Some(rfc),
            ..WORD
        }],
    },
    KindSpec {
        name: "PASSPORT",
        about: "A passport's number with its letters, named as such, or its machine-readable lines",
        rules: &[
            Rule {
                pattern: "[A-Za-z][A-Za-z]?[0-9]{6}[0-9]?[0-9]?[0-9]?",
                near: &["passport", "passport_number", "reisepass", "passeport", "pasaporte", "passaporto", "护照", "パスポート", "여권"],
                ..WORD
            },
            // German passports: consonants and digits.
            Rule {
                pattern: "[CFGHJKcfghjk][CFGHJKLMNPRTVWXYZcfghjklmnprtvwxyz0-9]{8}",
                near: &["passport", "reisepass", "passnummer", "personalausweis", "ausweisnummer"],
                check: Some(has_three_digits),
                ..WORD
            },
            // ICAO Doc 9303, part 4: two lines of 44.
            Rule { pattern: "P[A-Z<][A-Z<]{42}\r?\n[A-Z0-9<]{44}", ..WORD },
        ],
    },
    KindSpec {
        name: "DRIVER_LICENSE_ID",
        about: "A driving licence's number with its letters, named as such",
        rules: &[Rule {
            pattern: "[A-Za-z][A-Za-z0-9][A-Za-z0-9]{5,16}",
            near: &[
                "driver's license number is",
                "driver's license",
                "drivers license",
                "driver license",
                "driver's licence",
                "drivers licence",
                "driving licence",
                "driving license",
                "driver_license",
                "license number",
                "licence number",
                "dl number",
                "dl#",
            ],
            check: Some(has_digit),
            ..WORD
        }],
    },
    KindSpec {
        name: "VEHICLE_ID",
        about: "A vehicle identification number (ISO 3779), named as such, its check digit right",
        rules: &[Rule {
            pattern: "[A-HJ-NPR-Z][A-HJ-NPR-Z0-9]{7}[0-9X][A-HJ-NPR-Z0-9]{8}",
            near: &["vin", "vehicle", "chassis"],
            check: Some(vin),
            ..WORD
        }],
    },
    KindSpec {
        name: "BITCOIN_ADDRESS",
        about: "An address of Bitcoin, its checksum right",
        rules: &[
            Rule { pattern: "[13][1-9A-HJ-NP-Za-km-z]{25,34}", check: Some(bitcoin), ..WORD },
            Rule { pattern: "bc1[02-9ac-hj-np-z]{11,71}", check: Some(bech_32), ..WORD },
            Rule { pattern: "BC1[02-9AC-HJ-NP-Z]{11,71}", check: Some(bech_32), ..WORD },
        ],
    },
    KindSpec {
        name: "ETHEREUM_ADDRESS",
        about: "An address of Ethereum and its kin: with the checksum of its case, or named as such",
        rules: &[
            Rule { pattern: "0x[0-9a-fA-F]{40}", check: Some(ethereum_sure), ..WORD },
            Rule {
                pattern: "0x[0-9a-fA-F]{40}",
                near: &[
                    "eth",
                    "ether",
                    "ethereum",
                    "wallet",
                    "metamask",
                    "erc20",
                    "erc-20",
                    "usdt",
                    "usdc",
                    "polygon",
                    "bnb",
                    "bsc",
                    "crypto",
                    "etherscan.io/address/",
                    "ens",
                ],
                check: Some(ethereum_named),
                ..WORD
            },
        ],
    },
    KindSpec {
        name: "LITECOIN_ADDRESS",
        about: "An address of Litecoin, its checksum right",
        rules: &[
            Rule { pattern: "[LM][1-9A-HJ-NP-Za-km-z]{26,33}", check: Some(litecoin), ..WORD },
            Rule { pattern: "ltc1[02-9ac-hj-np-z]{11,71}", check: Some(bech_32), ..WORD },
        ],
    },
    KindSpec {
        name: "DOGECOIN_ADDRESS",
        about: "An address of Dogecoin, its checksum right",
        rules: &[Rule { pattern: "D[1-9A-HJ-NP-Za-km-z]{33}", check: Some(dogecoin), ..WORD }],
    },
    KindSpec {
        name: "DASH_ADDRESS",
        about: "An address of Dash, its checksum right",
        rules: &[Rule { pattern: "X[1-9A-HJ-NP-Za-km-z]{33}", check: Some(dash), ..WORD }],
    },
    KindSpec {
        name: "TRON_ADDRESS",
        about: "An address of Tron, its checksum right",
        rules: &[Rule { pattern: "T[1-9A-HJ-NP-Za-km-z]{33}", check: Some(tron), ..WORD }],
    },
    KindSpec {
        name: "RIPPLE_ADDRESS",
        about: "A classic address of the XRP Ledger, its checksum right",
        rules: &[Rule { pattern: "r[1-9A-HJ-NP-Za-km-z]{24,34}", check: Some(ripple), ..WORD }],
    },
    KindSpec {
        name: "CARDANO_ADDRESS",
        about: "An address of Cardano, its checksum right",
        rules: &[Rule { pattern: "addr1[02-9ac-hj-np-z]{53,98}", check: Some(bech_32), ..WORD }],
    },
    KindSpec {
        name: "MONERO_ADDRESS",
        about: "An address of Monero, its checksum right",
        rules: &[Rule { pattern: "[48][0-9AB1-9a-zA-Z]{94}", check: Some(monero), ..WORD }],
    },
    KindSpec {
        name: "SOLANA_ADDRESS",
        about: "An address of Solana, named as such",
        rules: &[Rule {
            pattern: "[1-9A-HJ-NP-Za-km-z]{32,44}",
            near: &["solana", "phantom", "spl", "solscan.io/account/"],
            check: Some(solana),
            ..WORD
        }],
    },
];

/// At least three digits, so that a word is none.
fn has_three_digits(text: &[u8]) -> Option<Range<usize>> {
    whole(text, text.iter().filter(|byte| byte.is_ascii_digit()).count() >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that a kind's rules find in a text, as a general library of regular expressions matches their patterns.
    fn found<'t>(kind: &KindSpec, text: &'t str) -> Vec<&'t str> {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let mut values = Vec::new();
        for rule in kind.rules {
            let pattern = regex::bytes::Regex::new(&format!("^(?s-u:{})", rule.pattern)).unwrap();
            for start in (0..text.len()).filter(|start| text.is_char_boundary(*start)) {
                if start > 0 && is_word(&text.as_bytes()[start - 1]) {
                    continue;
                }
                let Some(matched) = pattern.find(&text.as_bytes()[start..]) else { continue };
                let behind = text.as_bytes().get(start + matched.end());
                if rule.ends == Ends::Word && behind.is_some_and(|byte| is_word(byte) || *byte == b'-') {
                    continue;
                }
                let before = text[..start].to_lowercase();
                let near = rule.near.is_empty() || rule.near.iter().any(|word| before.contains(&word.to_lowercase()));
                let range = rule.check.map_or(Some(0..matched.len()), |check| check(matched.as_bytes()));
                if let Some(range) = range.filter(|_| near) {
                    values.push(&text[start + range.start..start + range.end]);
                }
            }
        }
        values.dedup();
        values
    }

    const SAMPLES: &[(&str, &str, &[&str])] = &[
        ("IBAN", "", &["GB82 WEST 1234", " 5698 7654 32"]),
        ("IBAN", "", &["de89", "370400440532013000"]),
        ("UK_NINO", "", &["AB 12 34", " 56 C"]),
        ("UK_NINO", "NI number: ", &["ab123", "456c"]),
        ("ITALY_CODICE_FISCALE", "", &["RSSMRA85", "T10A562S"]),
        ("SPAIN_NIE", "", &["X1234", "567L"]),
        ("INDIA_PAN", "PAN: ", &["ABCPE", "1234F"]),
        ("INDIA_VOTER_ID", "voter id ", &["ABC1", "234567"]),
        ("SINGAPORE_NRIC", "", &["S1234", "567D"]),
        ("TAIWAN_ID", "身分證字號", &["A1234", "56789"]),
        ("HONG_KONG_ID", "", &["A123", "456(3)"]),
        ("HONG_KONG_ID", "HKID ", &["A123", "4563"]),
        ("MEXICO_CURP", "", &["BOXW3108", "20HNERXN09"]),
        ("MEXICO_RFC", "RFC: ", &["GODE5612", "31GR8"]),
        ("PASSPORT", "passport ", &["AB1", "234567"]),
        ("PASSPORT", "Reisepass ", &["C01X0", "0T47"]),
        ("DRIVER_LICENSE_ID", "driver's license ", &["A125", "325867"]),
        ("VEHICLE_ID", "VIN ", &["JHMCM56", "557C404453"]),
        ("BITCOIN_ADDRESS", "", &["1A1zP1eP5QGefi2D", "MPTfTL5SLmv7DivfNa"]),
        ("BITCOIN_ADDRESS", "", &["bc1qw508d6qejxtdg4y5r3", "zarvary0c5xw7kv8f3t4"]),
        ("ETHEREUM_ADDRESS", "", &["0x5aAeb6053F3E94C9b9A0", "9f33669435E7Ef1BeAed"]),
        ("ETHEREUM_ADDRESS", "my wallet ", &["0x5aaeb6053f3e94c9b9a0", "9f33669435e7ef1beaed"]),
        ("RIPPLE_ADDRESS", "", &["rHb9CJAWyB4rj91VRW", "n96DkukG4bwdtyTh"]),
        ("TRON_ADDRESS", "", &["TBoCoiWmH2StScmT", "mSk2PDKHeYFFSJ3aJ8"]),
        ("DOGECOIN_ADDRESS", "", &["D6y6Lv5gRiEDpStR", "um5sQpnkctEEaUUHTn"]),
        ("LITECOIN_ADDRESS", "", &["LM3x4sSsCxZzYFPz", "MK5c95guwxsDQFvaQ8"]),
        ("DASH_ADDRESS", "", &["XcWqdunw61YXSPJR", "34QXibJwa65dHe3PvE"]),
        ("MONERO_ADDRESS", "", &["4AxSQnsnu8L3vR9P9DkWV5iT1CVYRZYFdYLEHCbT69cJ4snj", "CkNKqn6h3UPn6DBQQajGoJSRT9R8Kj54hyGzfGF47omudvt"]),
        ("SOLANA_ADDRESS", "solana ", &["So111111111111111111", "11111111111111111111112"]),
    ];

    #[test]
    fn a_sample_of_each_kind_is_found_whole() {
        for (name, before, parts) in SAMPLES {
            let (kind, value) = (PERSONAL.iter().find(|kind| kind.name == *name).unwrap(), parts.concat());
            assert_eq!(found(kind, &format!("so {before}{value}, and more words")), [&value], "{name}");
            assert_eq!(found(kind, &format!("{before}{value}")), [&value], "{name}");
        }
    }

    #[test]
    fn words_and_names_are_none() {
        let text = "Internationalisation, de12 the quick brown fox jumps over it, ABCDEFGHIJ, X1234567A, S1234567A, 0x5aaeb6053f3e94c9b9a0\
            9f33669435e7ef1beaed, Passport control, rRNAsequencing, TransactionManagerFactoryBean, AB123456C, A123456789";
        for kind in PERSONAL.iter().filter(|kind| kind.name != "PASSPORT") {
            assert_eq!(found(kind, text), [""; 0], "{}", kind.name);
        }
    }

    #[test]
    fn each_kind_has_a_name_of_its_own_and_rules() {
        for (place, kind) in PERSONAL.iter().enumerate() {
            assert!(kind.name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{}", kind.name);
            assert!(!kind.about.is_empty() && !kind.rules.is_empty(), "{}", kind.name);
            assert!(PERSONAL[..place].iter().all(|other| other.name != kind.name), "{}", kind.name);
            assert!(
                kind.rules.iter().all(|rule| rule.starts == Starts::Word && rule.near.iter().all(|word| word.len() <= 48)),
                "{}",
                kind.name
            );
        }
    }
}
