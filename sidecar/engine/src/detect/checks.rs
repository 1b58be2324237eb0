//! Check digits: whether a number could have been given out by those who give such numbers out.
//!
//! Each function says of a number, whose form has been looked at before, whether its inner sums are right. Digits come as values from
//! 0 to 9, without what stands between them; a slice of another length than the number has is wrong, never a panic.
//!
//! Sources are named at each: the standard, or the body that gives the numbers out.

use sha2::{Digest, Sha256};

/// The sum of each digit by its weight, as far as both go.
fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// The digits as one number; up to 18 fit.
fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

fn two(digits: &[u8]) -> u32 {
    digits.iter().take(2).fold(0, |sum, digit| sum * 10 + u32::from(*digit))
}

fn all_equal(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

/// Whether there is such a day in some year.
pub(super) fn is_day(month: u32, day: u32) -> bool {
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 29,
        _ => 0,
    };
    (1..=last).contains(&day)
}

/// YYMMDD at the beginning.
fn begins_with_ymd(digits: &[u8]) -> bool {
    digits.len() >= 6 && is_day(two(&digits[2..]), two(&digits[4..]))
}

/// DDMMYY at the beginning.
fn begins_with_dmy(digits: &[u8]) -> bool {
    digits.len() >= 6 && is_day(two(&digits[2..]), two(digits))
}

// === Sums that several kinds use ===

/// ISO/IEC 7812-1, annex B (Luhn).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit) * 2) {
            (0, double) => double / 2,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO/IEC 7064, MOD 11,10.
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((last, rest)) = digits.split_last() else { return false };
    let product = rest.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (product + u32::from(*last)) % 10 == 1
}

/// J. Verhoeff, "Error Detecting Decimal Codes", 1969: products in the dihedral group of ten elements.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const TURNED: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    // 0 to 4 are rotations, 5 to 9 reflections.
    let product = |left: u8, right: u8| match (left < 5, right < 5) {
        (true, true) => (left + right) % 5,
        (true, false) => (left + right) % 5 + 5,
        (false, true) => (left + 5 - right) % 5 + 5,
        (false, false) => (left + 5 - right) % 5,
    };
    let mut state = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let turned = (0..place % 8).fold(digit % 10, |digit, _| TURNED[usize::from(digit)]);
        state = product(state, turned);
    }
    state == 0
}

/// ISO/IEC 7064, MOD 97-10, over digits and letters (A is 10, Z is 35), one after the other.
fn mod_97(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97,
    })
}

// === North America ===

/// Social Security Administration, "Social Security Number Randomization": never 000, 666 and 900 to 999, 00, or 0000.
pub(super) fn us_ssn(digits: &[u8]) -> bool {
    digits.len() == 9
        && !matches!(digits[..3], [0, 0, 0] | [6, 6, 6] | [9, ..])
        && digits[3..5] != [0, 0]
        && digits[5..] != [0, 0, 0, 0]
        && !all_equal(digits)
}

/// Internal Revenue Service, Internal Revenue Manual 3.21.263: 9, and in the fourth and fifth place 50 to 65, 70 to 88, 90 to 92, 94 to 99.
pub(super) fn us_itin(digits: &[u8]) -> bool {
    digits.len() == 9 && digits[0] == 9 && matches!(two(&digits[3..]), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

/// Internal Revenue Service, "How EINs are assigned and valid EIN prefixes": those that aren't prefixes.
pub(super) fn us_ein(digits: &[u8]) -> bool {
    digits.len() == 9 && !matches!(two(digits), 0 | 7..=9 | 17..=19 | 28 | 29 | 49 | 69 | 70 | 78 | 79 | 89 | 96 | 97) && !all_equal(digits)
}

/// American Bankers Association, routing number policy: weights 3, 7, 1, and the Federal Reserve's districts.
pub(super) fn us_routing(digits: &[u8]) -> bool {
    digits.len() == 9
        && matches!(two(digits), 1..=12 | 21..=32 | 61..=72 | 80)
        && weighted(digits, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}

/// Government of Canada: Luhn; 0 begins none, 8 is a business.
pub(super) fn canada_sin(digits: &[u8]) -> bool {
    digits.len() == 9 && !matches!(digits[0], 0 | 8) && luhn(digits)
}

// === South America ===

/// Receita Federal, Cadastro de Pessoas Físicas: two sums modulo 11.
pub(super) fn brazil_cpf(digits: &[u8]) -> bool {
    let check = |digits: &[u8], weights: &[u32]| weighted(digits, weights) * 10 % 11 % 10;
    digits.len() == 11
        && !all_equal(digits)
        && check(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) == u32::from(digits[9])
        && check(&digits[..10], &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) == u32::from(digits[10])
}

/// Receita Federal, Cadastro Nacional da Pessoa Jurídica: two sums modulo 11.
pub(super) fn brazil_cnpj(digits: &[u8]) -> bool {
    let check = |digits: &[u8], weights: &[u32]| weighted(digits, weights) * 10 % 11 % 10;
    digits.len() == 14
        && !all_equal(digits)
        && check(&digits[..12], &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == u32::from(digits[12])
        && check(&digits[..13], &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == u32::from(digits[13])
}

/// ARCA (AFIP), Clave Única de Identificación Tributaria: kinds of holders, modulo 11.
pub(super) fn argentina_cuit(digits: &[u8]) -> bool {
    digits.len() == 11
        && matches!(two(digits), 20 | 23 | 24 | 25 | 26 | 27 | 30 | 33 | 34)
        && (weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) + u32::from(digits[10])).is_multiple_of(11)
}

/// Servicio de Registro Civil, Rol Único Tributario: modulo 11 with the weights 2 to 7 from the right; ten is a K.
pub(super) fn chile_rut(body: &[u8], check: u8) -> bool {
    let weights = [2, 3, 4, 5, 6, 7].iter().cycle();
    let sum: u32 = body.iter().rev().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    let right = match 11 - sum % 11 {
        11 => b'0',
        10 => b'K',
        digit => b'0' + u8::try_from(digit).unwrap_or(0),
    };
    matches!(body.len(), 7 | 8) && !all_equal(body) && check.to_ascii_uppercase() == right
}

/// The same, the check digit being the last.
pub(super) fn chile_rut_digits(digits: &[u8]) -> bool {
    digits.split_last().is_some_and(|(check, body)| chile_rut(body, b'0' + check))
}

// === Asia and Oceania ===

/// Unique Identification Authority of India: twelve digits, not beginning with 0 or 1, Verhoeff.
pub(super) fn india_aadhaar(digits: &[u8]) -> bool {
    digits.len() == 12 && digits[0] > 1 && !all_equal(digits) && verhoeff(digits)
}

/// GB 11643-1999: province, date of birth, and a check character by ISO 7064 MOD 11-2, which may be an X.
pub(super) fn china_resident_id(body: &[u8], check: u8) -> bool {
    const CHECKS: &[u8; 11] = b"10X98765432";
    let sum = weighted(body, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    body.len() == 17
        && matches!(two(body), 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83)
        && matches!(two(&body[6..]), 19 | 20)
        && begins_with_ymd(&body[8..])
        && CHECKS[(sum % 11) as usize] == check.to_ascii_uppercase()
}

/// The same, the check character being a digit.
pub(super) fn china_resident_id_digits(digits: &[u8]) -> bool {
    digits.split_last().is_some_and(|(check, body)| china_resident_id(body, b'0' + check))
}

/// Ministry of Internal Affairs and Communications, ordinance 85 of 2014, article 5.
pub(super) fn japan_my_number(digits: &[u8]) -> bool {
    let rest = weighted(digits, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    digits.len() == 12 && !all_equal(digits) && u32::from(digits[11]) == if rest <= 1 { 0 } else { 11 - rest }
}

/// Ministry of the Interior and Safety: date of birth, and the digit of century and sex. The numbers given out since October 2020 have no
/// check digit.
pub(super) fn korea_rrn_form(digits: &[u8]) -> bool {
    digits.len() == 13 && begins_with_ymd(digits) && (1..=8).contains(&digits[6])
}

/// The same, with the check digit of those given out before.
pub(super) fn korea_rrn(digits: &[u8]) -> bool {
    korea_rrn_form(digits) && (11 - weighted(digits, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10 == u32::from(digits[12])
}

/// Department of Provincial Administration, Thailand: modulo 11.
pub(super) fn thailand_id(digits: &[u8]) -> bool {
    digits.len() == 13
        && (1..=8).contains(&digits[0])
        && !all_equal(digits)
        && (11 - weighted(digits, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 10 == u32::from(digits[12])
}

/// Jabatan Pendaftaran Negara, Malaysia: date and place of birth; no check digit.
pub(super) fn malaysia_nric(digits: &[u8]) -> bool {
    digits.len() == 12 && begins_with_ymd(digits) && !matches!(two(&digits[6..]), 0 | 17..=20 | 69 | 70 | 73 | 80 | 81 | 94..=97)
}

/// Ministry of Home Affairs, Indonesia: region, date of birth (women's days count from 41), serial; no check digit.
pub(super) fn indonesia_nik(digits: &[u8]) -> bool {
    digits.len() == 16
        && (11..=97).contains(&two(digits))
        && is_day(two(&digits[8..]), if digits[6] >= 4 { two(&digits[6..]) - 40 } else { two(&digits[6..]) })
        && digits[12..] != [0, 0, 0, 0]
}

/// Federal Authority for Identity, United Arab Emirates: the country's number 784, year of birth, Luhn.
pub(super) fn emirates_id(digits: &[u8]) -> bool {
    digits.len() == 15 && digits[..3] == [7, 8, 4] && matches!(two(&digits[3..]), 19 | 20) && luhn(digits)
}

/// Ministry of Interior, Saudi Arabia: 1 for citizens, 2 for residents, Luhn.
pub(super) fn saudi_id(digits: &[u8]) -> bool {
    digits.len() == 10 && matches!(digits[0], 1 | 2) && luhn(digits)
}

/// Population and Immigration Authority, Israel: Luhn over nine digits.
pub(super) fn israel_id(digits: &[u8]) -> bool {
    digits.len() == 9 && !all_equal(digits) && luhn(digits)
}

/// Australian Taxation Office, tax file number: modulo 11.
pub(super) fn australia_tfn(digits: &[u8]) -> bool {
    digits.len() == 9 && !all_equal(digits) && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

/// Services Australia, Medicare card number: the ninth digit checks the first eight; ten digits, or eleven with the place on the card.
pub(super) fn australia_medicare(digits: &[u8]) -> bool {
    matches!(digits.len(), 10 | 11)
        && (2..=6).contains(&digits[0])
        && weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == u32::from(digits[8])
}

/// Australian Business Register, "Format of the ABN": one less in the first place, then modulo 89.
pub(super) fn australia_abn(digits: &[u8]) -> bool {
    digits.len() == 11 && digits[0] > 0 && (weighted(digits, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]) - 10).is_multiple_of(89)
}

// === Africa ===

/// Department of Home Affairs, South Africa: date of birth, citizenship, Luhn.
pub(super) fn south_africa_id(digits: &[u8]) -> bool {
    digits.len() == 13 && begins_with_ymd(digits) && digits[10] <= 2 && luhn(digits)
}

/// Civil Status Organization, Egypt: century and date of birth, governorate; the last digit's sum isn't published.
pub(super) fn egypt_id(digits: &[u8]) -> bool {
    digits.len() == 14 && matches!(digits[0], 2 | 3) && begins_with_ymd(&digits[1..]) && matches!(two(&digits[7..]), 1..=35 | 88)
}

// === Europe ===

/// Bundeszentralamt für Steuern: among the first ten digits one stands twice or three times, the others once; ISO 7064 MOD 11,10.
pub(super) fn germany_tax_id(digits: &[u8]) -> bool {
    let mut counts = [0u8; 10];
    for digit in digits.iter().take(10) {
        counts[usize::from(digit % 10)] += 1;
    }
    digits.len() == 11
        && digits[0] != 0
        && counts.iter().filter(|count| **count > 1).count() == 1
        && counts.iter().all(|count| *count <= 3)
        && mod_11_10(digits)
}

/// INSEE, numéro d'inscription au répertoire: sex, year and month of birth, place, and the complement to 97.
pub(super) fn france_nir(digits: &[u8]) -> bool {
    digits.len() == 15
        && matches!(digits[0], 1 | 2)
        && matches!(two(&digits[3..]), 1..=12 | 20)
        && two(&digits[5..]) != 0
        && 97 - value(&digits[..13]) % 97 == value(&digits[13..])
}

/// Ministerstwo Cyfryzacji, PESEL: date of birth with the century in the month, weights 1, 3, 7, 9.
pub(super) fn poland_pesel(digits: &[u8]) -> bool {
    digits.len() == 11
        && is_day(two(&digits[2..]) % 20, two(&digits[4..]))
        && weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
}

/// Rijksdienst voor Identiteitsgegevens, burgerservicenummer: the test of eleven, with -1 in the last place.
pub(super) fn netherlands_bsn(digits: &[u8]) -> bool {
    // -1 is 10 modulo 11.
    digits.len() == 9 && !all_equal(digits) && weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, 10]).is_multiple_of(11)
}

/// Ministerio del Interior, Spain, "Cálculo del dígito de control del NIF-NIE": the rest of 23 as a letter.
pub(super) fn spain_letter(number: u64) -> u8 {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    LETTERS[(number % 23) as usize]
}

/// The documento nacional de identidad: eight digits and their letter.
pub(super) fn spain_dni(digits: &[u8], letter: u8) -> bool {
    digits.len() == 8 && !all_equal(digits) && spain_letter(value(digits)) == letter.to_ascii_uppercase()
}

/// Nüfus ve Vatandaşlık İşleri, T.C. kimlik numarası: two sums modulo 10.
pub(super) fn turkey_tckn(digits: &[u8]) -> bool {
    let odd = weighted(digits, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighted(digits, &[0, 1, 0, 1, 0, 1, 0, 1]);
    digits.len() == 11
        && digits[0] != 0
        && (odd * 7 + 100 - even) % 10 == u32::from(digits[9])
        && (odd + even + u32::from(digits[9])) % 10 == u32::from(digits[10])
}

/// NHS Data Dictionary, NHS number: modulo 11.
pub(super) fn uk_nhs(digits: &[u8]) -> bool {
    let check = 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    digits.len() == 10 && !all_equal(digits) && check != 10 && check % 11 == u32::from(digits[9])
}

/// HM Revenue & Customs, unique taxpayer reference: the first digit checks the others.
pub(super) fn uk_utr(digits: &[u8]) -> bool {
    const CHECKS: [u8; 11] = [2, 1, 9, 8, 7, 6, 5, 4, 3, 2, 1];
    digits.len() == 10 && CHECKS[(weighted(&digits[1..], &[6, 7, 8, 9, 10, 5, 4, 3, 2]) % 11) as usize] == digits[0]
}

/// Skatteverket, SKV 704: date of birth (coordination numbers: day and 60), Luhn over ten digits; with or without the century.
pub(super) fn sweden_personal_id(digits: &[u8]) -> bool {
    let ten = match digits {
        [1, 9, ten @ ..] | [2, 0, ten @ ..] if digits.len() == 12 => ten,
        _ => digits,
    };
    if ten.len() != 10 {
        return false;
    }
    is_day(two(&ten[2..]), two(&ten[4..]) % 60) && luhn(ten)
}

/// Digital and Population Data Services Agency, Finland: date of birth, and the rest of 31 as a character.
pub(super) fn finland_hetu(digits: &[u8], check: u8) -> bool {
    const CHECKS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    digits.len() == 9
        && begins_with_dmy(digits)
        && value(&digits[6..]) >= 2
        && CHECKS[(value(digits) % 31) as usize] == check.to_ascii_uppercase()
}

/// The same, the check character being a digit.
pub(super) fn finland_hetu_digits(digits: &[u8]) -> bool {
    digits.split_last().is_some_and(|(check, body)| finland_hetu(body, b'0' + check))
}

/// Skatteetaten, fødselsnummer: date of birth (D-numbers: day and 40), two sums modulo 11.
pub(super) fn norway_fnr(digits: &[u8]) -> bool {
    digits.len() == 11
        && is_day(two(&digits[2..]), two(digits) % 40)
        && weighted(digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
        && weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// CPR-kontoret: date of birth; since 2007 numbers without a right check digit are given out.
pub(super) fn denmark_cpr(digits: &[u8]) -> bool {
    digits.len() == 10 && begins_with_dmy(digits)
}

/// Rijksregister, Koninklijk Besluit of 3 April 1984: date of birth, complement to 97 (with a 2 in front for those born since 2000).
pub(super) fn belgium_national_number(digits: &[u8]) -> bool {
    let right = |number: u64| 97 - number % 97 == value(&digits[9..]);
    digits.len() == 11 && begins_with_ymd(digits) && (right(value(&digits[..9])) || right(2_000_000_000 + value(&digits[..9])))
}

/// Autoridade Tributária e Aduaneira, número de identificação fiscal: modulo 11.
pub(super) fn portugal_nif(digits: &[u8]) -> bool {
    let check = 11 - weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    digits.len() == 9
        && !matches!(digits[0], 0 | 4 | 7)
        && !all_equal(digits)
        && u32::from(digits[8]) == if check >= 10 { 0 } else { check }
}

/// Pension Fund of Russia, SNILS: modulo 101.
pub(super) fn russia_snils(digits: &[u8]) -> bool {
    digits.len() == 11 && !all_equal(&digits[..9]) && weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, 1]) % 101 % 100 == two(&digits[9..])
}

/// Federal Tax Service of Russia, INN of a person: two sums modulo 11.
pub(super) fn russia_inn(digits: &[u8]) -> bool {
    digits.len() == 12
        && !all_equal(digits)
        && weighted(digits, &[7, 2, 4, 10, 3, 5, 9, 4, 6, 8]) % 11 % 10 == u32::from(digits[10])
        && weighted(digits, &[3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8]) % 11 % 10 == u32::from(digits[11])
}

/// State Tax Service of Ukraine, RNOKPP: modulo 11.
pub(super) fn ukraine_rnokpp(digits: &[u8]) -> bool {
    // -1 is 10 modulo 11.
    digits.len() == 10 && !all_equal(digits) && weighted(digits, &[10, 5, 7, 9, 4, 6, 10, 5, 7]) % 11 % 10 == u32::from(digits[9])
}

/// Direcția pentru Evidența Persoanelor, cod numeric personal: sex and century, date of birth, modulo 11.
pub(super) fn romania_cnp(digits: &[u8]) -> bool {
    let rest = weighted(digits, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    digits.len() == 13 && digits[0] != 0 && begins_with_ymd(&digits[1..]) && u32::from(digits[12]) == if rest == 10 { 1 } else { rest }
}

/// GRAO, Bulgaria, EGN: date of birth with the century in the month, modulo 11.
pub(super) fn bulgaria_egn(digits: &[u8]) -> bool {
    digits.len() == 10
        && is_day(two(&digits[2..]) % 20, two(&digits[4..]))
        && weighted(digits, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10 == u32::from(digits[9])
}

/// Act 133/2000 of the Czech Republic, rodné číslo (also of Slovakia): date of birth (women: month and 50), the rest of 11.
pub(super) fn czech_birth_number(digits: &[u8]) -> bool {
    digits.len() == 10 && is_day(two(&digits[2..]) % 50 % 20, two(&digits[4..])) && value(&digits[..9]) % 11 % 10 == u64::from(digits[9])
}

/// Dachverband der Sozialversicherungsträger, Austria: serial, check digit, date of birth; modulo 11.
pub(super) fn austria_svnr(digits: &[u8]) -> bool {
    digits.len() == 10
        && digits[0] != 0
        && begins_with_dmy(&digits[4..])
        && weighted(digits, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]) % 11 == u32::from(digits[3])
}

/// Zentrale Ausgleichsstelle, Switzerland: 756, and the check digit of EAN-13.
pub(super) fn switzerland_ahv(digits: &[u8]) -> bool {
    digits.len() == 13 && digits[..3] == [7, 5, 6] && weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

/// IDIKA, Greece, AMKA: date of birth, Luhn.
pub(super) fn greece_amka(digits: &[u8]) -> bool {
    digits.len() == 11 && begins_with_dmy(digits) && luhn(digits)
}

/// Porezna uprava, Croatia, OIB: ISO 7064 MOD 11,10.
pub(super) fn croatia_oib(digits: &[u8]) -> bool {
    digits.len() == 11 && !all_equal(digits) && mod_11_10(digits)
}

/// EVS 585:2007 of Estonia, and the same in Lithuania: sex and century, date of birth, modulo 11 in two rounds.
pub(super) fn baltic_personal_code(digits: &[u8]) -> bool {
    let first = weighted(digits, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11;
    let second = weighted(digits, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11;
    let check = if first < 10 { first } else { second % 10 };
    digits.len() == 11 && (1..=8).contains(&digits[0]) && begins_with_ymd(&digits[1..]) && u32::from(digits[10]) == check
}

/// Þjóðskrá, Iceland, kennitala: date of birth, modulo 11, century.
pub(super) fn iceland_kennitala(digits: &[u8]) -> bool {
    digits.len() == 10
        && begins_with_dmy(digits)
        && matches!(digits[9], 0 | 8 | 9)
        && weighted(digits, &[3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// Agenzia delle Entrate, DM 12/03/1974: the values of characters in even and odd places, and the rest of 26 as a letter.
pub(super) fn italy_codice_fiscale(code: &[u8]) -> bool {
    const ODD: [u32; 26] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let Some((check, rest)) = code.split_last() else { return false };
    let place = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => digit - b'0',
        letter => letter.saturating_sub(b'A').min(25),
    };
    let sum: u32 = rest
        .iter()
        .enumerate()
        .map(|(number, byte)| if number % 2 == 0 { ODD[usize::from(place(*byte))] } else { u32::from(place(*byte)) })
        .sum();
    code.len() == 16 && check.is_ascii_alphabetic() && u32::from(place(*check)) == sum % 26
}

// === Letters first ===

/// How many characters an IBAN of a country has. SWIFT, "IBAN Registry", release 99.
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FO" | b"FI" | b"GL" | b"NL" | b"SD" | b"FK" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"TL" | b"SO" | b"OM" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HU" | b"LB" | b"PL" | b"SV" | b"NI" | b"HN" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// Where the IBAN that `text` begins with ends. ISO 13616-1: length by country, MOD 97-10. Blanks between its groups are passed over,
/// one at a time.
pub(super) fn iban_end(text: &[u8]) -> Option<usize> {
    let [first, second, ..] = text else { return None };
    let length = iban_length([first.to_ascii_uppercase(), second.to_ascii_uppercase()])?;
    let mut characters = [0u8; 34];
    let (mut count, mut gap, mut end) = (0, false, None);
    for (place, byte) in text.iter().enumerate() {
        if byte.is_ascii_alphanumeric() {
            if count == length {
                // It goes on without a gap: something longer.
                if !gap {
                    return None;
                }
                break;
            }
            (characters[count], gap) = (*byte, false);
            count += 1;
            if count == length {
                end = Some(place + 1);
            }
        } else if gap {
            break;
        } else {
            gap = true;
        }
    }
    let characters = &characters[..length];
    let rest = mod_97(characters[4..].iter().chain(&characters[..4]).copied());
    // Every country's has eight digits and more; words in a row have fewer.
    let digits = characters[4..].iter().filter(|byte| byte.is_ascii_digit()).count();
    end.filter(|_| rest == 1 && digits >= 8)
}

/// Ministry of Home Affairs, Singapore (NRIC and FIN): weights 2, 7, 6, 5, 4, 3, 2, an offset and letters by series.
pub(super) fn singapore_nric(code: &[u8]) -> bool {
    let [series, digits @ .., check] = code else { return false };
    if digits.len() != 7 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits.iter().zip([2, 7, 6, 5, 4, 3, 2]).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    let (offset, letters): (u32, &[u8; 11]) = match series.to_ascii_uppercase() {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        b'M' => (3, b"XWUTRQPNJLK"),
        _ => return false,
    };
    letters[((sum + offset) % 11) as usize] == check.to_ascii_uppercase()
}

/// Ministry of the Interior, Taiwan: the letter as two digits, modulo 10.
pub(super) fn taiwan_id(code: &[u8]) -> bool {
    // In the order in which the counties got their numbers, from 10 on.
    const ORDER: &[u8; 26] = b"ABCDEFGHJKLMNPQRSTUVXYWZIO";
    let [letter, digits @ ..] = code else { return false };
    let Some(place) = ORDER.iter().position(|known| *known == letter.to_ascii_uppercase()) else { return false };
    let (tens, ones) = ((place + 10) / 10, (place + 10) % 10);
    if digits.len() != 9 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: usize = digits.iter().zip([8, 7, 6, 5, 4, 3, 2, 1, 1]).map(|(digit, weight)| usize::from(digit - b'0') * weight).sum();
    (tens + ones * 9 + sum).is_multiple_of(10)
}

/// Immigration Department, Hong Kong: one or two letters, six digits, and a check character modulo 11; A is ten.
pub(super) fn hong_kong_id(letters: &[u8], digits: &[u8], check: u8) -> bool {
    let letter = |byte: u8| u32::from(byte.to_ascii_uppercase().saturating_sub(b'A')) + 10;
    let head = match letters {
        // A missing first letter counts as a blank, which is 36.
        [only] => 36 * 9 + letter(*only) * 8,
        [first, second] => letter(*first) * 9 + letter(*second) * 8,
        _ => return false,
    };
    let check = match check.to_ascii_uppercase() {
        b'A' => 10,
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        _ => return false,
    };
    digits.len() == 6 && (head + weighted(digits, &[7, 6, 5, 4, 3, 2]) + check).is_multiple_of(11)
}

/// RENAPO, Clave Única de Registro de Población: date of birth, and a check digit modulo 10 over 37 characters (with Ñ, which none has).
pub(super) fn mexico_curp(code: &[u8]) -> bool {
    let Some((check, rest)) = code.split_last() else { return false };
    let number = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        letter @ b'A'..=b'N' => u32::from(letter - b'A') + 10,
        letter => u32::from(letter.saturating_sub(b'A')) + 11,
    };
    if code.len() != 18 || !code[4..10].iter().all(u8::is_ascii_digit) || !check.is_ascii_digit() {
        return false;
    }
    let sum: u32 = rest.iter().zip((2..=18).rev()).map(|(byte, weight)| number(*byte) * weight).sum();
    let day = [code[4] - b'0', code[5] - b'0', code[6] - b'0', code[7] - b'0', code[8] - b'0', code[9] - b'0'];
    begins_with_ymd(&day) && (10 - sum % 10) % 10 == u32::from(check - b'0')
}

/// 49 CFR 565.15: the ninth character is the rest of 11, X being ten.
pub(super) fn vin(code: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let number = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        letter @ b'A'..=b'H' => u32::from(letter - b'A') + 1,
        letter @ b'J'..=b'R' => u32::from(letter - b'J') + 1,
        letter => u32::from(letter.saturating_sub(b'S')) + 2,
    };
    if code.len() != 17 {
        return false;
    }
    let sum: u32 = code.iter().zip(WEIGHTS).map(|(byte, weight)| number(*byte) * weight).sum();
    let right = if sum % 11 == 10 { b'X' } else { b'0' + (sum % 11) as u8 };
    code[8].to_ascii_uppercase() == right
}

// === Addresses of crypto currencies ===

const BITCOIN_58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const RIPPLE_58: &[u8; 58] = b"rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz";

/// The number that `text` writes to the base of 58, in the `N` lowest bytes. None: another character, or a larger number.
fn base_58<const N: usize>(text: &[u8], alphabet: &[u8; 58]) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    for byte in text {
        let mut carry = alphabet.iter().position(|known| known == byte)?;
        for place in bytes.iter_mut().rev() {
            carry += usize::from(*place) * 58;
            *place = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(bytes)
}

/// The version of an address in base58check (version, 20 bytes of hash, 4 bytes of double SHA-256), if its checksum is right.
/// Bitcoin wiki, "`Base58Check` encoding".
pub(super) fn base_58_check(text: &[u8]) -> Option<u8> {
    hash_58(text, BITCOIN_58)
}

/// The same with the alphabet of the XRP Ledger. XRPL documentation, "base58 Encodings".
pub(super) fn ripple_58_check(text: &[u8]) -> Option<u8> {
    hash_58(text, RIPPLE_58)
}

fn hash_58(text: &[u8], alphabet: &[u8; 58]) -> Option<u8> {
    let bytes: [u8; 25] = base_58(text, alphabet)?;
    let (body, sum) = bytes.split_at(21);
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let ones = text.iter().take_while(|byte| **byte == alphabet[0]).count();
    (zeros == ones && Sha256::digest(Sha256::digest(body))[..4] == *sum).then_some(bytes[0])
}

/// Whether the text is 32 bytes in base 58, as a public key of Solana is.
pub(super) fn is_key_in_base_58(text: &[u8]) -> bool {
    base_58::<32>(text, BITCOIN_58)
        .is_some_and(|bytes| bytes.iter().take_while(|byte| **byte == 0).count() == text.iter().take_while(|byte| **byte == b'1').count())
}

/// Monero documentation, "Standard address": blocks of eight bytes in eleven characters each, 69 bytes, the last four of Keccak-256.
pub(super) fn monero(text: &[u8]) -> bool {
    let mut bytes = [0u8; 69];
    if text.len() != 95 {
        return false;
    }
    for (block, out) in text.chunks(11).zip(bytes.chunks_mut(8)) {
        let Some(number) = base_58::<8>(block, BITCOIN_58) else { return false };
        let (over, rest) = number.split_at(8 - out.len());
        if over.iter().any(|byte| *byte != 0) {
            return false;
        }
        out.copy_from_slice(rest);
    }
    matches!(bytes[0], 18 | 42) && keccak_256(&bytes[..65])[..4] == bytes[65..]
}

/// BIP-173 and BIP-350: the checksum of a segregated-witness address, old or new. The part before the last `1` names the chain.
pub(super) fn bech_32(text: &[u8]) -> bool {
    const CHARACTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const STEPS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let lower = text.iter().any(u8::is_ascii_lowercase);
    if lower && text.iter().any(u8::is_ascii_uppercase) {
        return false;
    }
    let Some(one) = text.iter().rposition(|byte| *byte == b'1') else { return false };
    let step = |sum: u32, value: u32| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ value;
        STEPS.iter().enumerate().fold(next, |next, (bit, step)| if top >> bit & 1 == 1 { next ^ step } else { next })
    };
    let (chain, data) = (&text[..one], &text[one + 1..]);
    let mut sum = chain.iter().fold(1, |sum, byte| step(sum, u32::from(byte.to_ascii_lowercase() >> 5)));
    sum = chain.iter().fold(step(sum, 0), |sum, byte| step(sum, u32::from(byte.to_ascii_lowercase() & 31)));
    for byte in data {
        let Some(value) = (0..).zip(CHARACTERS).find_map(|(value, known)| (*known == byte.to_ascii_lowercase()).then_some(value)) else {
            return false;
        };
        sum = step(sum, value);
    }
    data.len() >= 6 && matches!(sum, 1 | 0x2bc8_30a3)
}

/// How far the case of an Ethereum address speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EthereumCase {
    /// Letters of one case only: no checksum.
    Plain,
    /// ERC-55: the case is the checksum, and it is right.
    Right,
    /// Both cases, and the checksum is wrong.
    Wrong,
}

/// ERC-55, "Mixed-case checksum address encoding", of the forty digits in hex behind `0x`.
pub(super) fn ethereum_case(digits: &[u8]) -> EthereumCase {
    let (upper, lower) = (digits.iter().any(u8::is_ascii_uppercase), digits.iter().any(u8::is_ascii_lowercase));
    if !(upper && lower) {
        return EthereumCase::Plain;
    }
    let mut plain = [0u8; 40];
    for (out, byte) in plain.iter_mut().zip(digits) {
        *out = byte.to_ascii_lowercase();
    }
    let hash = keccak_256(&plain);
    let right = digits.iter().enumerate().all(|(place, byte)| {
        let nibble = hash.get(place / 2).map_or(0, |byte| if place % 2 == 0 { byte >> 4 } else { byte & 15 });
        !byte.is_ascii_alphabetic() || byte.is_ascii_uppercase() == (nibble >= 8)
    });
    if right && digits.len() == 40 { EthereumCase::Right } else { EthereumCase::Wrong }
}

/// Keccak-256 with the padding of before FIPS 202, as Ethereum and Monero have it, of a text of less than 136 bytes.
/// G. Bertoni and others, "The Keccak reference", 3.0.
fn keccak_256(text: &[u8]) -> [u8; 32] {
    const RATE: usize = 136;
    let mut block = [0u8; RATE];
    let length = text.len().min(RATE - 1);
    block[..length].copy_from_slice(&text[..length]);
    block[length] ^= 1;
    block[RATE - 1] ^= 0x80;
    let mut state = [[0u64; 5]; 5];
    for (lane, bytes) in block.chunks_exact(8).enumerate() {
        // Lanes go by x first.
        state[lane % 5][lane / 5] = bytes.iter().rev().fold(0, |lane, byte| lane << 8 | u64::from(*byte));
    }
    permute(&mut state);
    let mut hash = [0u8; 32];
    for (lane, out) in hash.chunks_exact_mut(8).enumerate() {
        out.copy_from_slice(&state[lane][0].to_le_bytes());
    }
    hash
}

/// Keccak-f\[1600\]: `state[x][y]`.
fn permute(state: &mut [[u64; 5]; 5]) {
    // The round constants and the rotations are made as the reference defines them, rather than listed: bits of a shift register, and a
    // walk over the lanes.
    let mut register = 1u8;
    for _ in 0..24 {
        // Theta.
        let parity = state.map(|column| column.iter().fold(0, |sum, lane| sum ^ lane));
        for x in 0..5 {
            let mixed = parity[(x + 4) % 5] ^ parity[(x + 1) % 5].rotate_left(1);
            for lane in &mut state[x] {
                *lane ^= mixed;
            }
        }
        // Rho and pi.
        let (mut x, mut y, mut held) = (1, 0, state[1][0]);
        for round in 0..24u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            held = std::mem::replace(&mut state[x][y], held.rotate_left((round + 1) * (round + 2) / 2 % 64));
        }
        // Chi.
        for y in 0..5 {
            let row = state.map(|column| column[y]);
            for (x, column) in state.iter_mut().enumerate() {
                column[y] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]);
            }
        }
        // Iota.
        for bit in 0..7u32 {
            if register & 1 == 1 {
                state[0][0] ^= 1 << ((1u32 << bit) - 1);
            }
            register = if register & 0x80 == 0 { register << 1 } else { register << 1 ^ 0x71 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    type Check = fn(&[u8]) -> bool;

    /// Numbers that those who give them out, or the standards, publish as examples; or made up, with right check digits.
    const EXAMPLES: &[(Check, &str)] = &[
        (luhn, "7992739871 3"),
        (mod_11_10, "0794 5"),
        (verhoeff, "236 3"),
        (us_ssn, "078 05 1120"),
        (us_itin, "912 72 3456"),
        (us_ein, "12 3456789"),
        (us_routing, "021000021"),
        (canada_sin, "193 456 787"),
        (brazil_cpf, "111 444 777 35"),
        (brazil_cnpj, "11 222 333 0001 81"),
        (argentina_cuit, "20 05536168 2"),
        (chile_rut_digits, "12 531 909 2"),
        (india_aadhaar, "2341 2341 2346"),
        (china_resident_id_digits, "110105 19910101 0050"),
        (japan_my_number, "1234 5678 9018"),
        (korea_rrn, "900101 2960761"),
        (thailand_id, "1 2345 67975 06 1"),
        (malaysia_nric, "770305 02 1234"),
        (indonesia_nik, "317101 170845 0001"),
        (emirates_id, "784 1984 1234567 4"),
        (saudi_id, "1 00000000 8"),
        (israel_id, "03933742 3"),
        (australia_tfn, "123 456 782"),
        (australia_medicare, "2123 45670 1"),
        (australia_abn, "51 824 753 556"),
        (south_africa_id, "800101 5009 087"),
        (egypt_id, "2 900101 12 34567"),
        (germany_tax_id, "86 095 742 719"),
        (france_nir, "2 55 08 14 168 025 38"),
        (poland_pesel, "440514 01359"),
        (netherlands_bsn, "111222333"),
        (turkey_tckn, "10000000146"),
        (uk_nhs, "943 476 5919"),
        (uk_utr, "19558 39661"),
        (sweden_personal_id, "811218 9876"),
        (sweden_personal_id, "19 811218 9876"),
        (norway_fnr, "151086 95088"),
        (denmark_cpr, "211062 5629"),
        (iceland_kennitala, "120174 3399"),
        (belgium_national_number, "850730 033 28"),
        (portugal_nif, "501964843"),
        (russia_snils, "112 233 445 95"),
        (russia_inn, "500100732259"),
        (ukraine_rnokpp, "1759013776"),
        (romania_cnp, "1 630615 125401"),
        (bulgaria_egn, "752316 9263"),
        (czech_birth_number, "710319 2745"),
        (austria_svnr, "1237 010180"),
        (switzerland_ahv, "756 9217 0769 85"),
        (greece_amka, "010130 96589"),
        (croatia_oib, "33392005961"),
        (baltic_personal_code, "3 760503 0299"),
    ];

    #[test]
    fn published_numbers_are_right() {
        for (place, (check, number)) in EXAMPLES.iter().enumerate() {
            assert!(check(&digits(number)), "{place}: {number}");
        }
    }

    #[test]
    fn a_slice_of_any_length_is_judged_without_a_panic() {
        for (check, number) in EXAMPLES {
            let digits = digits(&number.repeat(3));
            for length in 0..digits.len() {
                let _ = check(&digits[..length]);
            }
        }
        let text = b"A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4Y5z6".repeat(3);
        for length in 0..text.len() {
            let text = &text[..length];
            let _ = (italy_codice_fiscale(text), singapore_nric(text), taiwan_id(text), mexico_curp(text), vin(text));
            let _ = (iban_end(text), base_58_check(text), ripple_58_check(text), is_key_in_base_58(text), monero(text), bech_32(text));
            let _ = (ethereum_case(text), hong_kong_id(&text[..length.min(3)], &[0; 6], b'A'));
            let _ = (chile_rut(&[1; 40][..length.min(40)], b'K'), finland_hetu(&[1; 40][..length.min(40)], b'K'));
            let _ = (china_resident_id(&[1; 40][..length.min(40)], b'X'), spain_dni(&[1; 40][..length.min(40)], b'X'));
        }
    }

    #[test]
    fn one_wrong_digit_is_noticed_where_the_sum_is_made_for_that() {
        let made_for_that: &[Check] =
            &[luhn, mod_11_10, verhoeff, brazil_cpf, brazil_cnpj, germany_tax_id, netherlands_bsn, uk_nhs, switzerland_ahv, turkey_tckn];
        for (check, number) in EXAMPLES.iter().filter(|(check, _)| made_for_that.iter().any(|made| std::ptr::fn_addr_eq(*made, *check))) {
            let right = digits(number);
            for place in 0..right.len() {
                let mut wrong = right.clone();
                wrong[place] = (wrong[place] + 1) % 10;
                assert!(!check(&wrong), "{number} {place}");
            }
        }
    }

    #[test]
    fn letters_at_the_end_are_checked() {
        assert!(china_resident_id(&digits("110105 19491231 002"), b'X'));
        assert!(!china_resident_id(&digits("110105 19491231 003"), b'X'));
        assert!(chile_rut(&digits("10 160 500"), b'0') ^ chile_rut(&digits("10 160 500"), b'K'));
        assert!(spain_dni(&digits("12345678"), b'Z'));
        assert!(finland_hetu(&digits("131052 308"), b'T'));
    }

    #[test]
    fn codes_of_letters_and_digits_are_checked() {
        assert!(italy_codice_fiscale(["RSSMRA85", "T10A562S"].concat().as_bytes()));
        assert!(!italy_codice_fiscale(["RSSMRA85", "T10A562T"].concat().as_bytes()));
        assert!(singapore_nric(["S1234", "567D"].concat().as_bytes()));
        assert!(!singapore_nric(["S1234", "567E"].concat().as_bytes()));
        assert!(taiwan_id(["A1234", "56789"].concat().as_bytes()));
        assert!(!taiwan_id(["A1234", "56788"].concat().as_bytes()));
        assert!(hong_kong_id(b"A", &digits("123456"), b'3'));
        assert!(!hong_kong_id(b"A", &digits("123456"), b'4'));
        assert!(mexico_curp(["BOXW3108", "20HNERXN09"].concat().as_bytes()));
        assert!(!mexico_curp(["BOXW3108", "20HNERXN08"].concat().as_bytes()));
        assert!(vin(["1M8GDM9A", "XKP042788"].concat().as_bytes()));
        assert!(!vin(["1M8GDM9A", "0KP042788"].concat().as_bytes()));
    }

    #[test]
    fn an_iban_ends_where_its_country_says() {
        let (plain, spaced) = (["GB82WEST", "12345698765432"].concat(), ["GB82 WEST 1234", "5698 7654 32"].join(" "));
        assert_eq!(iban_end(plain.as_bytes()), Some(22));
        assert_eq!(iban_end(plain.to_lowercase().as_bytes()), Some(22));
        assert_eq!(iban_end(format!("{spaced} and some words").as_bytes()), Some(27));
        assert_eq!(iban_end(format!("{plain}1").as_bytes()), None);
        assert_eq!(iban_end(&plain.as_bytes()[..21]), None);
        assert_eq!(iban_end(plain.replace("82", "83").as_bytes()), None);
        assert_eq!(iban_end(["DE89", "370400440532013000"].concat().as_bytes()), Some(22));
        assert_eq!(iban_end(["NO93", "86011117947"].concat().as_bytes()), Some(15));
        assert_eq!(iban_end(["MT84MALT0110000", "12345MTLCAST001S"].concat().as_bytes()), Some(31));
        assert_eq!(iban_end(["ZZ89", "370400440532013000"].concat().as_bytes()), None);
    }

    #[test]
    fn keccak_is_that_of_before_the_standard() {
        let beginning = |text: &[u8]| u64::from_be_bytes(keccak_256(text)[..8].try_into().unwrap());
        assert_eq!(beginning(b""), 0xc5d2_4601_86f7_233c);
        assert_eq!(beginning(b"abc"), 0x4e03_657a_ea45_a94f);
    }

    #[test]
    fn addresses_of_crypto_currencies_are_checked() {
        // Of Bitcoin's first block; of BIP-173 and BIP-350; of ERC-55; of the XRP Ledger's documentation. Monero's is made up.
        let genesis = ["1A1zP1eP5QGefi2D", "MPTfTL5SLmv7DivfNa"].concat();
        assert_eq!(base_58_check(genesis.as_bytes()), Some(0));
        assert_eq!(base_58_check(genesis.replace('Q', "R").as_bytes()), None);
        assert!(bech_32(["bc1qw508d6qejxtdg4y5r3", "zarvary0c5xw7kv8f3t4"].concat().as_bytes()));
        assert!(bech_32(["BC1QW508D6QEJXTDG4Y5R3", "ZARVARY0C5XW7KV8F3T4"].concat().as_bytes()));
        assert!(!bech_32(["bc1qw508d6qejxtdg4y5r3", "zarvary0c5xw7kv8f3t5"].concat().as_bytes()));
        assert!(bech_32(["bc1p0xlxvlhemja6c4dqv22uapctqup", "fhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"].concat().as_bytes()));
        let mixed = ["5aAeb6053F3E94C9b9A0", "9f33669435E7Ef1BeAed"].concat();
        assert_eq!(ethereum_case(mixed.as_bytes()), EthereumCase::Right);
        assert_eq!(ethereum_case(mixed.replace('A', "a").as_bytes()), EthereumCase::Wrong);
        assert_eq!(ethereum_case(mixed.to_lowercase().as_bytes()), EthereumCase::Plain);
        assert_eq!(ripple_58_check(["rHb9CJAWyB4rj91VRW", "n96DkukG4bwdtyTh"].concat().as_bytes()), Some(0));
        let made_up = ["4AxSQnsnu8L3vR9P9DkWV5iT1CVYRZYFdYLEHCbT69cJ4snj", "CkNKqn6h3UPn6DBQQajGoJSRT9R8Kj54hyGzfGF47omudvt"].concat();
        assert!(monero(made_up.as_bytes()));
        assert!(!monero(made_up.replace('G', "H").as_bytes()));
        assert!(is_key_in_base_58(["So111111111111111111", "11111111111111111111112"].concat().as_bytes()));
        assert!(!is_key_in_base_58(&[b'z'; 44]));
    }
}
