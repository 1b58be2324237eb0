//! Finds personal data that is written in digits (cards, telephones, national numbers, dates of birth, IPv4 addresses), and judges what
//! looks like an e-mail, IPv6 or MAC address.
//!
//! The invariant: each function is a pure one of the bytes that it is handed, takes time in proportion to them, allocates nothing, and
//! panics on none.
//!
//! # Numbers
//!
//! The matcher hands over a *number run*: a longest stretch of digits and of what people write between digits. It begins with a digit,
//! `+` or `(` behind a byte that is no letter, digit or `_`; it goes on while [`is_number_byte`] says so, and ends behind
//! [`LONGEST_GAP`] bytes without a digit. Where it is longer than [`LONGEST_RUN`], it is handed over in windows; see [`numbers`].
//!
//! A run is cut once into groups of digits. The lengths of some groups in a row, and what separates them, are a [`Shape`]: 3.3.3-2 is how
//! a Brazilian CPF is written. What a table says of the shape decides: whether the check digits have to be right, and whether a word such
//! as *passport* must stand before it, which is asked of all that a chance number would pass in more than one of some thousand cases.

use std::ops::Range;

use super::checks;

/// The shortest run that holds a value: `1.1.1.1`, or a number of seven digits.
pub(super) const SHORTEST_RUN: usize = 7;

/// The longest run that [`numbers`] looks at as a whole.
pub(super) const LONGEST_RUN: usize = 128;

/// The most bytes without a digit within a run; the next of them ends it. Enough for `) ` and for a dash of three bytes between blanks.
pub(super) const LONGEST_GAP: usize = 5;

/// Where in a run of more than [`LONGEST_RUN`] bytes the next window begins: at the first group of digits from here on.
pub(super) const WINDOW_STEP: usize = 64;

/// How much of the text before a run is looked at.
pub(super) const CONTEXT: usize = 48;

/// Whether a byte continues a run: digits, blanks, `-./()+`, and the bytes of U+00A0, U+2000 to U+2015, U+202F and U+2212. Bytes of other
/// characters that it lets in stand in the run as a gap that no value spans.
pub(super) const fn is_number_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'0'..=b'9' | b' ' | b'\t' | b'\r' | b'\n' | b'-' | b'.' | b'/' | b'(' | b')' | b'+' | 0xC2 | 0xE2 | 0x80..=0x95 | 0xA0 | 0xAF
    )
}

/// Whether a run may begin with this byte, behind one that is no letter, digit or `_`.
pub(super) const fn begins_numbers(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'(')
}

// === Groups and shapes ===

/// The most groups in a run: each takes a digit and what separates it.
const GROUPS: usize = LONGEST_RUN / 2;

/// The most groups that one value has: a French NIR has seven.
const GROUPS_OF_VALUE: usize = 7;

/// What separates two groups of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Gap {
    /// Nothing stands before the first group.
    None = 0,
    /// One blank.
    Blank = 1,
    /// One hyphen, dash or minus.
    Dash = 2,
    Dot = 3,
    Slash = 4,
    /// A tab, or one line break.
    Line = 5,
    /// A parenthesis, and at most two more of `()-./ `.
    Paren = 6,
    /// Anything else: no value spans it.
    Break = 7,
}

impl Gap {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::None,
            [b' '] | [0xC2, 0xA0] | [0xE2, 0x80, 0x80..=0x8B | 0xAF] => Self::Blank,
            [b'-'] | [0xE2, 0x80, 0x90..=0x95] | [0xE2, 0x88, 0x92] => Self::Dash,
            [b'.'] => Self::Dot,
            [b'/'] => Self::Slash,
            [b'\t' | b'\n' | b'\r'] | [b'\r', b'\n'] => Self::Line,
            _ if bytes.len() <= 3
                && bytes.iter().any(|byte| matches!(byte, b'(' | b')'))
                && bytes.iter().all(|byte| matches!(byte, b'(' | b')' | b'-' | b'.' | b'/' | b' ')) =>
            {
                Self::Paren
            }
            _ => Self::Break,
        }
    }

    /// Digits on the other side belong to the same number: it's a part of something longer.
    const fn joins(self) -> bool {
        matches!(self, Self::Dash | Self::Dot | Self::Slash)
    }
}

/// A group of digits, and what stands before it.
#[derive(Clone, Copy)]
struct Group {
    start: u8,
    end: u8,
    gap: Gap,
}

impl Group {
    const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// The lengths of groups in a row and what separates them, a byte each: five bits for the length, three for the gap before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape(u64);

impl Shape {
    const EMPTY: Self = Self(0);

    const fn and(self, gap: Gap, length: usize) -> Self {
        let length = if length > 31 { 31 } else { length as u64 };
        Self(self.0 << 8 | (gap as u64) << 5 | length)
    }

    /// Reads a shape as the tables below write it: `3.3.3-2`.
    const fn read(text: &str) -> Self {
        let (bytes, mut place, mut shape, mut gap, mut length) = (text.as_bytes(), 0, Self::EMPTY, Gap::None, 0);
        while place < bytes.len() {
            let byte = bytes[place];
            if byte.is_ascii_digit() {
                length = length * 10 + (byte - b'0') as usize;
            } else {
                shape = shape.and(gap, length);
                length = 0;
                gap = match byte {
                    b' ' => Gap::Blank,
                    b'-' => Gap::Dash,
                    b'.' => Gap::Dot,
                    b'/' => Gap::Slash,
                    _ => panic!("a shape has digits, blanks, and `-./`"),
                };
            }
            place += 1;
        }
        shape.and(gap, length)
    }

    /// The place of the shape in a filter of 1,024 bits.
    const fn bit(self) -> (usize, u64) {
        let hash = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        ((hash / 64) as usize, 1 << (hash % 64))
    }
}

// === The kinds ===

/// A kind of number that a shape, its check digits and the words before it tell.
struct Number {
    name: &'static str,
    forms: &'static [Form],
    /// Words one of which stands before a value, for the forms that need one.
    words: &'static [&'static str],
}

/// One way to write a number.
#[derive(Clone, Copy)]
struct Form {
    shape: Shape,
    /// Whether it needs a word before it.
    near: bool,
    check: Check,
}

#[derive(Clone, Copy)]
enum Check {
    /// Of all digits.
    Digits(fn(&[u8]) -> bool),
    /// Of the digits, and of the letter that follows them, straight or behind a hyphen.
    Letter(fn(&[u8], u8) -> bool),
    /// The same, but only behind a hyphen, which is no part of the shape.
    DashLetter(fn(&[u8], u8) -> bool),
}

const fn alone(shape: &str, check: fn(&[u8]) -> bool) -> Form {
    Form { shape: Shape::read(shape), near: false, check: Check::Digits(check) }
}

const fn near(shape: &str, check: fn(&[u8]) -> bool) -> Form {
    Form { shape: Shape::read(shape), near: true, check: Check::Digits(check) }
}

fn whatever(_: &[u8]) -> bool {
    true
}

/// A day, the first two numbers being day and month in either order, or the year being first.
fn date(digits: &[u8]) -> bool {
    let two = |place: usize| digits.get(place..place + 2).map_or(0, |pair| u32::from(pair[0]) * 10 + u32::from(pair[1]));
    let year = |place: usize| matches!(two(place), 19 | 20);
    match digits.len() {
        8 => (year(0) && checks::is_day(two(4), two(6))) || (year(4) && (checks::is_day(two(0), two(2)) || checks::is_day(two(2), two(0)))),
        6 => checks::is_day(two(0), two(2)) || checks::is_day(two(2), two(0)) || checks::is_day(two(2), two(4)),
        // One or both without a leading zero, the year last or first.
        7 => year(3) || year(0),
        _ => false,
    }
}

fn short_date(digits: &[u8]) -> bool {
    matches!(digits, [_, _, 1, 9, _, _] | [_, _, 2, 0, _, _] | [1, 9, ..] | [2, 0, ..])
}

/// In the order in which they are tried: what tells more comes first.
#[rustfmt::skip]
const NUMBERS: &[Number] = &[
    Number { name: "SSN", words: SSN_WORDS, forms: &[near("9", checks::us_ssn), near("3 2 4", checks::us_ssn)] },
    Number { name: "US_ITIN", words: &["itin", "taxpayer", "tax id", "tin"], forms: &[alone("3-2-4", checks::us_itin), near("3 2 4", checks::us_itin), near("9", checks::us_itin)] },
    Number { name: "US_EIN", words: &["ein", "fein", "employer identification", "employer id", "federal tax id"], forms: &[near("2-7", checks::us_ein), near("9", checks::us_ein)] },
    Number { name: "US_BANK_ROUTING", words: &["routing", "aba", "rtn", "transit number"], forms: &[near("9", checks::us_routing), near("4-4-1", checks::us_routing)] },
    Number { name: "CANADA_SIN", words: &["social insurance", "sin number", "sin no", "sin #", "sin is", "sin:", "s.i.n", "assurance sociale", "nas:"], forms: &[near("3-3-3", checks::canada_sin), near("3 3 3", checks::canada_sin), near("9", checks::canada_sin)] },
    Number { name: "BRAZIL_CPF", words: &["cpf", "cadastro de pessoas"], forms: &[alone("3.3.3-2", checks::brazil_cpf), near("9-2", checks::brazil_cpf), near("3 3 3 2", checks::brazil_cpf), near("11", checks::brazil_cpf)] },
    Number { name: "BRAZIL_CNPJ", words: &["cnpj"], forms: &[alone("2.3.3/4-2", checks::brazil_cnpj), near("8/4-2", checks::brazil_cnpj), near("14", checks::brazil_cnpj)] },
    Number { name: "ARGENTINA_CUIT", words: &["cuit", "cuil"], forms: &[alone("2-8-1", checks::argentina_cuit), near("2 8 1", checks::argentina_cuit), near("11", checks::argentina_cuit)] },
    Number { name: "CHILE_RUT", words: &["rut", "r.u.t", "rol único", "rol unico"], forms: &[
        alone("2.3.3-1", checks::chile_rut_digits), alone("1.3.3-1", checks::chile_rut_digits),
        near("8-1", checks::chile_rut_digits), near("7-1", checks::chile_rut_digits),
        Form { shape: Shape::read("2.3.3"), near: false, check: Check::DashLetter(checks::chile_rut) },
        Form { shape: Shape::read("1.3.3"), near: false, check: Check::DashLetter(checks::chile_rut) },
        Form { shape: Shape::read("8"), near: true, check: Check::DashLetter(checks::chile_rut) },
        Form { shape: Shape::read("7"), near: true, check: Check::DashLetter(checks::chile_rut) },
    ] },
    Number { name: "INDIA_AADHAAR", words: &["aadhaar", "aadhar", "adhaar", "uidai", "आधार"], forms: &[near("4 4 4", checks::india_aadhaar), near("4-4-4", checks::india_aadhaar), near("12", checks::india_aadhaar)] },
    Number { name: "CHINA_RESIDENT_ID", words: &[], forms: &[
        alone("18", checks::china_resident_id_digits),
        alone("6 8 4", checks::china_resident_id_digits),
        Form { shape: Shape::read("17"), near: false, check: Check::Letter(checks::china_resident_id) },
    ] },
    Number { name: "JAPAN_MY_NUMBER", words: &["my number", "mynumber", "my-number", "individual number", "マイナンバー", "個人番号"], forms: &[near("4 4 4", checks::japan_my_number), near("4-4-4", checks::japan_my_number), near("12", checks::japan_my_number)] },
    Number { name: "KOREA_RRN", words: &["주민등록번호", "주민번호", "외국인등록번호", "resident registration", "rrn", "alien registration"], forms: &[alone("6-7", checks::korea_rrn), near("6-7", checks::korea_rrn_form), near("13", checks::korea_rrn_form)] },
    Number { name: "THAILAND_ID", words: &["thai", "เลขประจำตัว", "บัตรประชาชน", "national id"], forms: &[alone("1-4-5-2-1", checks::thailand_id), alone("1 4 5 2 1", checks::thailand_id), near("13", checks::thailand_id)] },
    Number { name: "MALAYSIA_NRIC", words: &["mykad", "nric", "kad pengenalan", "ic no", "ic number", "no. kp"], forms: &[near("6-2-4", checks::malaysia_nric), near("12", checks::malaysia_nric)] },
    Number { name: "INDONESIA_NIK", words: &["nik", "ktp", "nomor induk"], forms: &[near("16", checks::indonesia_nik)] },
    Number { name: "EMIRATES_ID", words: &["emirates id", "eid"], forms: &[alone("3-4-7-1", checks::emirates_id), near("15", checks::emirates_id)] },
    Number { name: "SAUDI_ID", words: &["saudi", "iqama", "absher", "الهوية", "الإقامة"], forms: &[near("10", checks::saudi_id)] },
    Number { name: "ISRAEL_ID", words: &["teudat zehut", "israeli id", "israel id", "ת.ז", "ת\"ז", "תעודת זהות", "מספר זהות"], forms: &[near("9", checks::israel_id), near("8-1", checks::israel_id)] },
    Number { name: "AUSTRALIA_TFN", words: &["tfn", "tax file"], forms: &[near("3 3 3", checks::australia_tfn), near("3-3-3", checks::australia_tfn), near("9", checks::australia_tfn)] },
    Number { name: "AUSTRALIA_MEDICARE", words: &["medicare"], forms: &[near("4 5 1", checks::australia_medicare), near("4-5-1", checks::australia_medicare), near("4 5 1 1", checks::australia_medicare), near("4 5 1/1", checks::australia_medicare), near("10", checks::australia_medicare), near("11", checks::australia_medicare)] },
    Number { name: "AUSTRALIA_ABN", words: &["abn", "australian business"], forms: &[near("2 3 3 3", checks::australia_abn), near("11", checks::australia_abn)] },
    Number { name: "SOUTH_AFRICA_ID", words: &["south african", "sa id", "rsa id", "id number", "identity number", "id no"], forms: &[near("13", checks::south_africa_id), near("6 4 3", checks::south_africa_id), near("6 4 2 1", checks::south_africa_id), near("6 4 1 1 1", checks::south_africa_id)] },
    Number { name: "EGYPT_ID", words: &["egypt", "egyptian", "national id", "الرقم القومي"], forms: &[near("14", checks::egypt_id)] },
    Number { name: "GERMANY_TAX_ID", words: &["steuer-id", "steuerid", "steuer id", "identifikationsnummer", "idnr", "id-nr", "steuernummer", "steuerliche", "german tax", "tax id", "tin"], forms: &[near("11", checks::germany_tax_id), near("2 3 3 3", checks::germany_tax_id), near("2/3/3/3", checks::germany_tax_id)] },
    Number { name: "FRANCE_NIR", words: &["sécurité sociale", "securite sociale", "nir", "insee", "numéro de sécu", "n° sécu"], forms: &[alone("1 2 2 2 3 3 2", checks::france_nir), alone("15", checks::france_nir), near("13 2", checks::france_nir), near("1-2-2-2-3-3-2", checks::france_nir), near("1.2.2.2.3.3.2", checks::france_nir)] },
    Number { name: "POLAND_PESEL", words: &["pesel"], forms: &[near("11", checks::poland_pesel)] },
    Number { name: "NETHERLANDS_BSN", words: &["bsn", "burgerservicenummer", "burger service", "sofinummer", "sofi", "citizen service number"], forms: &[near("9", checks::netherlands_bsn), near("4.2.3", checks::netherlands_bsn), near("3 3 3", checks::netherlands_bsn), near("4 2 3", checks::netherlands_bsn), near("4-2-3", checks::netherlands_bsn), near("3.3.3", checks::netherlands_bsn)] },
    Number { name: "SPAIN_DNI", words: &["dni", "nif", "documento nacional", "identidad"], forms: &[
        Form { shape: Shape::read("8"), near: true, check: Check::Letter(checks::spain_dni) },
        Form { shape: Shape::read("2.3.3"), near: false, check: Check::DashLetter(checks::spain_dni) },
        Form { shape: Shape::read("2.3.3"), near: true, check: Check::Letter(checks::spain_dni) },
    ] },
    Number { name: "TURKEY_TCKN", words: &["tckn", "t.c.", "tc no", "tc kimlik", "kimlik", "turkish id"], forms: &[near("11", checks::turkey_tckn)] },
    Number { name: "UK_NHS", words: &["nhs"], forms: &[near("3 3 4", checks::uk_nhs), near("3-3-4", checks::uk_nhs), near("10", checks::uk_nhs)] },
    Number { name: "UK_UTR", words: &["utr", "unique taxpayer"], forms: &[near("5 5", checks::uk_utr), near("10", checks::uk_utr)] },
    Number { name: "SWEDEN_PERSONAL_ID", words: &["personnummer", "samordningsnummer", "personal identity", "person nr", "pnr", "swedish"], forms: &[alone("8-4", checks::sweden_personal_id), near("6-4", checks::sweden_personal_id), near("10", checks::sweden_personal_id), near("12", checks::sweden_personal_id)] },
    Number { name: "FINLAND_HETU", words: &["hetu", "henkilötunnus", "personbeteckning", "finnish"], forms: &[
        Form { shape: Shape::read("6-3"), near: false, check: Check::Letter(checks::finland_hetu) },
        near("6-4", checks::finland_hetu_digits),
    ] },
    Number { name: "NORWAY_FNR", words: &["fødselsnummer", "fodselsnummer", "personnummer", "fnr", "d-nummer", "norwegian"], forms: &[alone("6 5", checks::norway_fnr), near("11", checks::norway_fnr)] },
    Number { name: "DENMARK_CPR", words: &["cpr", "personnummer", "danish"], forms: &[near("6-4", checks::denmark_cpr), near("10", checks::denmark_cpr), near("6 4", checks::denmark_cpr)] },
    Number { name: "ICELAND_KENNITALA", words: &["kennitala", "kt.", "kt:", "icelandic"], forms: &[near("6-4", checks::iceland_kennitala), near("10", checks::iceland_kennitala)] },
    Number { name: "BELGIUM_NATIONAL_NUMBER", words: &["rijksregister", "registre national", "niss", "insz", "numéro national", "national number"], forms: &[alone("2.2.2-3.2", checks::belgium_national_number), near("2.2.2 3.2", checks::belgium_national_number), near("2 2 2 3 2", checks::belgium_national_number), near("6-3-2", checks::belgium_national_number), near("11", checks::belgium_national_number)] },
    Number { name: "PORTUGAL_NIF", words: &["nif", "contribuinte", "identificação fiscal"], forms: &[near("9", checks::portugal_nif), near("3 3 3", checks::portugal_nif)] },
    Number { name: "RUSSIA_SNILS", words: &["снилс", "СНИЛС", "snils"], forms: &[alone("3-3-3 2", checks::russia_snils), near("3-3-3-2", checks::russia_snils), near("11", checks::russia_snils)] },
    Number { name: "RUSSIA_INN", words: &["инн", "ИНН", "russian tax"], forms: &[near("12", checks::russia_inn)] },
    Number { name: "RUSSIA_PASSPORT", words: &["паспорт", "Паспорт", "ПАСПОРТ", "паспорта", "russian passport"], forms: &[near("4 6", whatever), near("2 2 6", whatever), near("10", whatever)] },
    Number { name: "UKRAINE_RNOKPP", words: &["рнокпп", "РНОКПП", "іпн", "ІПН", "rnokpp"], forms: &[near("10", checks::ukraine_rnokpp)] },
    Number { name: "ROMANIA_CNP", words: &["cnp", "cod numeric"], forms: &[near("13", checks::romania_cnp)] },
    Number { name: "BULGARIA_EGN", words: &["егн", "ЕГН", "egn"], forms: &[near("10", checks::bulgaria_egn)] },
    Number { name: "CZECH_BIRTH_NUMBER", words: &["rodné číslo", "rodne cislo", "rodného čísla", "birth number", "r.č", "rč"], forms: &[alone("6/4", checks::czech_birth_number), near("10", checks::czech_birth_number)] },
    Number { name: "AUSTRIA_SVNR", words: &["svnr", "sv-nummer", "sv-nr", "versicherungsnummer", "e-card"], forms: &[near("4 6", checks::austria_svnr), near("10", checks::austria_svnr), near("4-6", checks::austria_svnr)] },
    Number { name: "SWITZERLAND_AHV", words: &["ahv", "avs", "ahvn13"], forms: &[alone("3.4.4.2", checks::switzerland_ahv), near("13", checks::switzerland_ahv)] },
    Number { name: "GREECE_AMKA", words: &["amka", "αμκα", "ΑΜΚΑ"], forms: &[near("11", checks::greece_amka)] },
    Number { name: "CROATIA_OIB", words: &["oib", "osobni identifikacijski"], forms: &[near("11", checks::croatia_oib)] },
    Number { name: "BALTIC_PERSONAL_CODE", words: &["isikukood", "asmens kodas", "personal code", "estonian", "lithuanian"], forms: &[near("11", checks::baltic_personal_code)] },
    Number { name: "IMEI", words: &["imei"], forms: &[near("15", checks::luhn), near("2-6-6-1", checks::luhn), near("2 6 6 1", checks::luhn), near("6-2-6-1", checks::luhn)] },
    Number { name: "PASSPORT_NUMBER", words: PASSPORT_WORDS, forms: &[near("9", whatever), near("8", whatever), near("7", whatever)] },
    Number { name: "DRIVER_LICENSE", words: DRIVER_WORDS, forms: &[near("7", whatever), near("8", whatever), near("9", whatever), near("10", whatever), near("12", whatever), near("3 3 3", whatever), near("3-3-3", whatever)] },
    Number { name: "DATE_OF_BIRTH", words: BIRTH_WORDS, forms: &[
        near("4-2-2", date), near("4/2/2", date), near("4.2.2", date), near("2/2/4", date), near("2-2-4", date), near("2.2.4", date),
        near("1/2/4", date), near("2/1/4", date), near("1.2.4", date), near("2.1.4", date), near("1-2-4", date), near("2-1-4", date),
        near("1/1/4", short_date), near("1.1.4", short_date), near("1-1-4", short_date), near("4/1/1", short_date), near("4/1/2", date), near("4/2/1", date),
        near("2/2/2", date), near("2.2.2", date), near("2-2-2", date), near("2 2 4", date), near("8", date),
    ] },
];

const SSN_WORDS: &[&str] = &["ssn", "social security", "soc sec", "social sec", "ss#", "ss #", "ssn#"];
const PASSPORT_WORDS: &[&str] = &["passport", "passport_number", "reisepass", "passeport", "pasaporte", "passaporto"];
const DRIVER_WORDS: &[&str] = &[
    "driver's license",
    "drivers license",
    "driver license",
    "driver’s license",
    "driver's licence",
    "drivers licence",
    "driving licence",
    "driving license",
    "driver's lic",
    "driver_license",
    "license number",
    "licence number",
    "dl number",
    "dl#",
];
const BIRTH_WORDS: &[&str] = &[
    "dob",
    "date of birth",
    "date_of_birth",
    "dateofbirth",
    "date-of-birth",
    "birth date",
    "birthdate",
    "birth_date",
    "birthday",
    "d.o.b",
    "geburtsdatum",
    "geboren am",
    "date de naissance",
    "fecha de nacimiento",
    "data di nascita",
    "data de nascimento",
    "geboortedatum",
    "födelsedatum",
    "data urodzenia",
    "дата рождения",
    "生年月日",
    "出生日期",
    "생년월일",
];
const CARD_WORDS: &[&str] = &[
    "card",
    "credit",
    "debit",
    "visa",
    "mastercard",
    "amex",
    "american express",
    "discover",
    "diners",
    "jcb",
    "unionpay",
    "maestro",
    "pan",
    "cc",
    "ccn",
    "cc#",
    "kreditkarte",
    "kartennummer",
    "carte",
    "tarjeta",
    "cartão",
    "carta",
    "kaart",
    "карты",
    "карта",
    "卡号",
];
/// After these, any plausible number is one.
const PHONE_WORDS: &[&str] = &[
    "phone",
    "telephone",
    "tel",
    "phone number",
    "phones",
    "mobile",
    "cell",
    "cellphone",
    "fax",
    "whatsapp",
    "telefon",
    "telefono",
    "teléfono",
    "téléphone",
    "telefone",
    "telefoon",
    "handy",
    "handynummer",
    "móvil",
    "celular",
    "rufnummer",
    "телефон",
    "тел",
    "电话",
    "手机",
    "電話",
    "携帯",
    "전화",
    "휴대폰",
    "phone_number",
    "hotline",
];
/// After these, one that is written as such.
const CALL_WORDS: &[&str] = &["call", "reach", "dial", "answering", "contact", "text", "sms", "anrufen", "appelez", "llama"];
/// An address follows, though it may look like a version or a section.
const ADDRESS_WORDS: &[&str] = &[
    "ip",
    "ips",
    "ipv4",
    "address",
    "addr",
    "host",
    "server",
    "dns",
    "nameserver",
    "resolver",
    "gateway",
    "ping",
    "from",
    "to",
    "peer",
    "client",
    "remote",
];
/// What looks like an address is a number of a version or of a section.
const VERSION_WORDS: &[&str] = &[
    "version",
    "ver",
    "versions",
    "release",
    "releases",
    "v",
    "build",
    "firmware",
    "driver",
    "section",
    "sections",
    "chapter",
    "appendix",
    "clause",
    "rfc",
    "oid",
    "identifier",
    "upgrade",
    "bump",
    "update",
    "kernel",
    "sdk",
    "figure",
    "table",
    "§",
    "tag",
    "since",
    "revision",
    "asn",
];

/// How many forms the table has.
const FORMS: usize = {
    let (mut forms, mut number) = (0, 0);
    while number < NUMBERS.len() {
        forms += NUMBERS[number].forms.len();
        number += 1;
    }
    forms
};

/// Every form by its shape: the shape, the place of its kind in the table, and its place there. Sorted, so that those of a shape stand
/// together, in the table's order.
#[expect(clippy::cast_possible_truncation, reason = "there are at most 64 kinds, each of a few forms")]
const BY_SHAPE: [(u64, u8, u8); FORMS] = {
    let (mut rows, mut count, mut number) = ([(0, 0, 0); FORMS], 0, 0);
    while number < NUMBERS.len() {
        let mut form = 0;
        while form < NUMBERS[number].forms.len() {
            let shape = NUMBERS[number].forms[form].shape.0;
            let mut place = count;
            while place > 0 && rows[place - 1].0 > shape {
                rows[place] = rows[place - 1];
                place -= 1;
            }
            rows[place] = (shape, number as u8, form as u8);
            (count, form) = (count + 1, form + 1);
        }
        number += 1;
    }
    rows
};

/// The shapes in the table as bits, so that all others are passed over at the cost of one look.
const FILTER: [u64; 16] = {
    let (mut filter, mut row) = ([0; 16], 0);
    while row < FORMS {
        let (word, bit) = Shape(BY_SHAPE[row].0).bit();
        filter[word] |= bit;
        row += 1;
    }
    let (word, bit) = SSN_SHAPE.bit();
    filter[word] |= bit;
    filter
};

/// The names of what [`numbers`] finds, and what they are.
#[rustfmt::skip]
pub(super) const NUMBER_KINDS: &[(&str, &str)] = &[
    ("CREDIT_CARD", "The number of a payment card (ISO/IEC 7812), its check digit right"),
    ("SSN", "A social security number of the United States"),
    ("PHONE", "A telephone number: international, or as it is written in a country"),
    ("IP_ADDRESS", "An address of the Internet Protocol, version 4 or 6"),
    ("US_ITIN", "An individual taxpayer identification number of the United States"),
    ("US_EIN", "An employer identification number of the United States, named as such"),
    ("US_BANK_ROUTING", "A routing number of a bank of the United States, named as such"),
    ("CANADA_SIN", "A social insurance number of Canada, named as such"),
    ("BRAZIL_CPF", "A taxpayer's number of Brazil (CPF)"),
    ("BRAZIL_CNPJ", "A company's number of Brazil (CNPJ)"),
    ("ARGENTINA_CUIT", "A taxpayer's number of Argentina (CUIT, CUIL)"),
    ("CHILE_RUT", "A national number of Chile (RUT)"),
    ("INDIA_AADHAAR", "An Aadhaar number of India, named as such"),
    ("CHINA_RESIDENT_ID", "A resident identity number of China"),
    ("JAPAN_MY_NUMBER", "An individual number of Japan (My Number), named as such"),
    ("KOREA_RRN", "A resident registration number of South Korea"),
    ("THAILAND_ID", "A national identity number of Thailand"),
    ("MALAYSIA_NRIC", "An identity card number of Malaysia (MyKad), named as such"),
    ("INDONESIA_NIK", "A national identity number of Indonesia (NIK), named as such"),
    ("EMIRATES_ID", "An identity number of the United Arab Emirates"),
    ("SAUDI_ID", "An identity or residence number of Saudi Arabia, named as such"),
    ("ISRAEL_ID", "An identity number of Israel, named as such"),
    ("AUSTRALIA_TFN", "A tax file number of Australia, named as such"),
    ("AUSTRALIA_MEDICARE", "A Medicare card number of Australia, named as such"),
    ("AUSTRALIA_ABN", "A business number of Australia, named as such"),
    ("SOUTH_AFRICA_ID", "An identity number of South Africa, named as such"),
    ("EGYPT_ID", "A national identity number of Egypt, named as such"),
    ("GERMANY_TAX_ID", "A tax identification number of Germany, named as such"),
    ("FRANCE_NIR", "A social security number of France (NIR)"),
    ("POLAND_PESEL", "A national number of Poland (PESEL), named as such"),
    ("NETHERLANDS_BSN", "A citizen service number of the Netherlands (BSN), named as such"),
    ("SPAIN_DNI", "A national identity number of Spain (DNI)"),
    ("TURKEY_TCKN", "A national identity number of Turkey, named as such"),
    ("UK_NHS", "A number of the National Health Service, named as such"),
    ("UK_UTR", "A unique taxpayer reference of the United Kingdom, named as such"),
    ("SWEDEN_PERSONAL_ID", "A personal or coordination number of Sweden"),
    ("FINLAND_HETU", "A personal identity code of Finland"),
    ("NORWAY_FNR", "A national identity number of Norway"),
    ("DENMARK_CPR", "A personal number of Denmark (CPR), named as such"),
    ("ICELAND_KENNITALA", "A national number of Iceland, named as such"),
    ("BELGIUM_NATIONAL_NUMBER", "A national register number of Belgium"),
    ("PORTUGAL_NIF", "A taxpayer's number of Portugal, named as such"),
    ("RUSSIA_SNILS", "An insurance account number of Russia (SNILS)"),
    ("RUSSIA_INN", "A person's taxpayer number of Russia (INN), named as such"),
    ("RUSSIA_PASSPORT", "The number of an internal passport of Russia, named as such"),
    ("UKRAINE_RNOKPP", "A taxpayer's number of Ukraine, named as such"),
    ("ROMANIA_CNP", "A personal numeric code of Romania, named as such"),
    ("BULGARIA_EGN", "A civil number of Bulgaria, named as such"),
    ("CZECH_BIRTH_NUMBER", "A birth number of Czechia or Slovakia"),
    ("AUSTRIA_SVNR", "A social insurance number of Austria, named as such"),
    ("SWITZERLAND_AHV", "A social insurance number of Switzerland (AHV, AVS)"),
    ("GREECE_AMKA", "A social security number of Greece (AMKA), named as such"),
    ("CROATIA_OIB", "A personal number of Croatia (OIB), named as such"),
    ("BALTIC_PERSONAL_CODE", "A personal code of Estonia or Lithuania, named as such"),
    ("IMEI", "The number of a mobile device, named as such"),
    ("PASSPORT_NUMBER", "A passport's number, named as such"),
    ("DRIVER_LICENSE", "A driving licence's number, named as such"),
    ("DATE_OF_BIRTH", "A date of birth, named as such"),
];

// === Finding ===

/// Finds what stands in a number run: tells `found` each value's kind and its bytes in the run.
///
/// `before` is the text before the run, up to [`CONTEXT`] bytes of it, and `after` the byte behind, `None` at the end of the text.
///
/// Where a check letter ends a value (`12345678-Z`), its range ends at `run.len() + 1`, taking `after` in. Such a value holds only if the
/// byte behind is no letter, digit or `_`, which is the caller's to see.
///
/// # Longer runs
///
/// Of a run longer than [`LONGEST_RUN`] bytes the caller hands over the first so many, with the next byte as `after`, and keeps only what
/// begins before [`WINDOW_STEP`]. The next window begins with the first digit, from there on, behind a byte that is none; `before` is the
/// text before it. A value has at most 52 bytes (19 digits, and gaps of up to three bytes between groups), so each lies in the window in
/// whose first half it begins, together with the gap behind it.
pub(super) fn numbers(run: &[u8], before: &[u8], after: Option<u8>, found: &mut dyn FnMut(&'static str, Range<usize>)) {
    if run.len() < SHORTEST_RUN {
        return;
    }
    let (run, after) = match run.get(LONGEST_RUN) {
        Some(next) => (&run[..LONGEST_RUN], Some(*next)),
        None => (run, after),
    };
    let mut groups = [Group { start: 0, end: 0, gap: Gap::Break }; GROUPS];
    let count = split(run, before, &mut groups);
    let text = Text {
        run,
        before: &before[before.len().saturating_sub(CONTEXT)..],
        after,
        groups: &groups[..count],
        words: None,
        asked: 0,
        named: 0,
    };
    text.find(found);
}

/// Fills in the groups of a run; how many there are.
fn split(run: &[u8], before: &[u8], groups: &mut [Group; GROUPS]) -> usize {
    let (mut count, mut place, mut gap_start) = (0, 0, 0);
    while count < GROUPS {
        while place < run.len() && !run[place].is_ascii_digit() {
            place += 1;
        }
        if place == run.len() {
            break;
        }
        let start = place;
        while place < run.len() && run[place].is_ascii_digit() {
            place += 1;
        }
        let gap = if count == 0 { edge(&run[..start], before) } else { Gap::of(&run[gap_start..start]) };
        groups[count] = Group { start: byte_place(start), end: byte_place(place), gap };
        (count, gap_start) = (count + 1, place);
    }
    count
}

/// A place in a run, which has at most 128 bytes.
fn byte_place(place: usize) -> u8 {
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// What separates the first group from the text before the run.
fn edge(lead: &[u8], before: &[u8]) -> Gap {
    if !lead.is_empty() {
        return Gap::Break;
    }
    match before {
        // The window of a longer run: what stands before is a group, too.
        [.., b'0'..=b'9', b'-'] => Gap::Dash,
        [.., b'0'..=b'9', b'.'] => Gap::Dot,
        [.., b'0'..=b'9', b'/'] => Gap::Slash,
        [.., b'0'..=b'9', b' '] => Gap::Blank,
        // `part-123`, `x.123`, `1,234` are one, and an address goes on.
        [.., byte, b'-' | b'.' | b'/' | b'\\'] if byte.is_ascii_alphanumeric() || *byte == b'_' => Gap::Dash,
        [.., b'0'..=b'9', b':'] | [.., b'%' | b'$' | b'=' | b'&', b'.'] => Gap::Dash,
        _ => Gap::None,
    }
}

struct Text<'t> {
    run: &'t [u8],
    before: &'t [u8],
    after: Option<u8>,
    groups: &'t [Group],
    words: Option<Words>,
    /// The kinds of the table whose words were looked for, and those whose words were found, as bits.
    asked: u64,
    named: u64,
}

const _: () = assert!(NUMBERS.len() <= 64, "a kind of the table is a bit");

impl Text<'_> {
    fn find(mut self, found: &mut dyn FnMut(&'static str, Range<usize>)) {
        let mut taken = 0u64;
        let mut first = 0;
        while first < self.groups.len() {
            match self.strong(first) {
                Some((name, next, range)) => {
                    for group in first..next {
                        taken |= 1 << group;
                    }
                    found(name, range);
                    first = next;
                }
                None => first += 1,
            }
        }
        self.phones(taken, found);
    }

    /// The value that begins with a group, telephones aside: its kind, the group behind it, and its bytes.
    fn strong(&mut self, first: usize) -> Option<(&'static str, usize, Range<usize>)> {
        let start = self.groups[first];
        let (mut shape, mut total) = (Shape::EMPTY, 0);
        let mut best = None;
        for last in first..self.groups.len().min(first + GROUPS_OF_VALUE) {
            let group = self.groups[last];
            if last > first && matches!(group.gap, Gap::Break | Gap::Paren) {
                break;
            }
            shape = shape.and(if last == first { Gap::None } else { group.gap }, group.len());
            total += group.len();
            if total > 19 {
                break;
            }
            let range = usize::from(start.start)..usize::from(group.end);
            if (13..=19).contains(&total) && self.is_card(first, last, total) {
                best = Some(("CREDIT_CARD", last + 1, range));
            } else if total >= LEAST_DIGITS
                && let Some((name, end)) = self.listed(first, last, shape)
            {
                best = Some((name, last + 1, range.start..end));
            } else if last == first + 3 && group.gap == Gap::Dot && self.is_address(first) {
                best = Some(("IP_ADDRESS", last + 1, range));
            }
        }
        best
    }

    fn digits<'d>(&self, first: usize, last: usize, digits: &'d mut [u8; 19]) -> &'d [u8] {
        let mut count = 0;
        for group in &self.groups[first..=last] {
            for byte in &self.run[usize::from(group.start)..usize::from(group.end)] {
                if let Some(digit) = digits.get_mut(count) {
                    (*digit, count) = (byte - b'0', count + 1);
                }
            }
        }
        &digits[..count]
    }

    /// What separates a group from the next one, or from what ends the run.
    fn gap_behind(&self, last: usize) -> Gap {
        if let Some(next) = self.groups.get(last + 1) {
            return next.gap;
        }
        let goes_on = self.after.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (&self.run[usize::from(self.groups[last].end)..], goes_on) {
            (_, false) => Gap::None,
            ([], true) => Gap::Dash,
            (tail, true) => Gap::of(tail),
        }
    }

    /// A value of the table: its kind and its end.
    fn listed(&mut self, first: usize, last: usize, shape: Shape) -> Option<(&'static str, usize)> {
        let (word, bit) = shape.bit();
        if FILTER[word] & bit == 0 || self.groups[first].gap.joins() {
            return None;
        }
        let mut digits = [0; 19];
        let digits = self.digits(first, last, &mut digits);
        let end = usize::from(self.groups[last].end);
        // Between blanks, it could as well be some numbers in a row of more.
        let spaced = last > first && self.groups[first + 1].gap == Gap::Blank;
        let behind = self.gap_behind(last);
        if spaced && (self.groups[first].gap == Gap::Blank || last + 1 < self.groups.len() && behind == Gap::Blank) {
            return None;
        }
        // Social security numbers are the one kind that is written out in three groups and has no check digit.
        if shape == SSN_SHAPE && !behind.joins() && !matches!(digits[..], [9, ..] | [0, 0, 0, ..] | [6, 6, 6, ..]) && checks::us_ssn(digits)
        {
            return Some(("SSN", end));
        }
        let from = BY_SHAPE.partition_point(|row| row.0 < shape.0);
        for (_, number, form) in BY_SHAPE[from..].iter().take_while(|row| row.0 == shape.0) {
            let form = &NUMBERS[usize::from(*number)].forms[usize::from(*form)];
            let letter =
                |between: &[u8], check: fn(&[u8], u8) -> bool| self.letter(last, between).is_some_and(|letter| check(digits, letter));
            let end = match form.check {
                Check::Digits(check) => (!behind.joins() && check(digits)).then_some(end),
                Check::Letter(check) if letter(b"", check) => Some(end + 1),
                Check::Letter(check) | Check::DashLetter(check) => letter(b"-", check).then_some(end + 2),
            };
            if let Some(end) = end
                && (!form.near || self.is_named(*number))
            {
                return Some((NUMBERS[usize::from(*number)].name, end));
            }
        }
        None
    }

    /// The letter that ends the run, behind the last group and `between`.
    fn letter(&self, last: usize, between: &[u8]) -> Option<u8> {
        let ends_run = last + 1 == self.groups.len() && &self.run[usize::from(self.groups[last].end)..] == between;
        self.after.filter(|byte| ends_run && byte.is_ascii_alphabetic())
    }

    /// Whether a word of a kind of the table stands before the run. Asked once of each, however many numbers the run has.
    fn is_named(&mut self, number: u8) -> bool {
        let bit = 1 << number;
        if self.asked & bit == 0 {
            self.asked |= bit;
            if self.near(NUMBERS[usize::from(number)].words, CONTEXT) {
                self.named |= bit;
            }
        }
        self.named & bit != 0
    }

    fn near(&mut self, words: &[&str], within: usize) -> bool {
        let before = self.before;
        self.words.get_or_insert_with(|| Words::of(before)).any(words, within)
    }
}

/// The shortest form of the table is a date: `1/1/1990`.
const LEAST_DIGITS: usize = 6;

const SSN_SHAPE: Shape = Shape::read("3-2-4");

// === Cards ===

impl Text<'_> {
    fn is_card(&mut self, first: usize, last: usize, total: usize) -> bool {
        let groups = &self.groups[first..=last];
        if matches!(self.groups[first].gap, Gap::Dot | Gap::Slash) {
            return false;
        }
        // A month often follows behind a slash.
        if matches!(self.gap_behind(last), Gap::Dash | Gap::Dot) {
            return false;
        }
        let dotted = groups.len() == 4 && groups[1..].iter().all(|group| group.gap == Gap::Dot);
        if !dotted && groups[1..].iter().any(|group| matches!(group.gap, Gap::Dot | Gap::Slash)) {
            return false;
        }
        let bare = groups.len() == 1;
        let lengths =
            |wanted: &[usize]| groups.len() == wanted.len() && groups.iter().zip(wanted).all(|(group, length)| group.len() == *length);
        let written = match total {
            // Breaks at any of the three places where there may be one.
            16 => groups.iter().all(|group| group.len() % 4 == 0),
            15 => bare || lengths(&[4, 6, 5]),
            14 => bare || lengths(&[4, 6, 4]),
            13 => bare || lengths(&[4, 3, 3, 3]),
            17 => bare || lengths(&[4, 4, 4, 4, 1]),
            18 => bare || lengths(&[4, 4, 4, 4, 2]),
            19 => bare || lengths(&[4, 4, 4, 4, 3]) || lengths(&[6, 13]),
            _ => false,
        };
        if !written {
            return false;
        }
        let mut digits = [0; 19];
        let digits = self.digits(first, last, &mut digits);
        let issued = issuer(digits, bare);
        if !checks::luhn(digits) || digits.iter().all(|digit| *digit == digits[0]) {
            return false;
        }
        // Of unbroken numbers of other lengths, and of those behind a hyphen, one in ten passes by chance.
        let certain = issued && self.groups[first].gap != Gap::Dash && (!bare || matches!(total, 15 | 16));
        certain || self.near(CARD_WORDS, CONTEXT)
    }
}

/// Whether a network issues numbers that begin like this with this length. ISO/IEC 7812 leaves it to the networks; as published by Visa,
/// Mastercard, American Express, Discover (with Diners Club and its partners), JCB, `UnionPay`, Mir, `RuPay` and Troy. `bare`: written without a gap.
fn issuer(digits: &[u8], bare: bool) -> bool {
    let head = digits.iter().take(4).fold(0, |head, digit| head * 10 + u32::from(*digit));
    match digits.len() {
        13 => head / 1000 == 4,
        14 => matches!(head / 10, 300..=305 | 309) || matches!(head / 100, 36 | 38 | 39),
        15 => matches!(head / 100, 34 | 37),
        16 => {
            matches!(head, 4000..=4999 | 5100..=5599 | 2200..=2204 | 2221..=2720 | 3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 9792)
                // What few have, an unbroken number has rather by chance.
                || (!bare && (matches!(head / 100, 50 | 56..=69 | 81 | 82 | 36 | 38 | 39) || matches!(head / 10, 300..=305 | 309)))
        }
        17..=19 => matches!(head / 1000, 4) || matches!(head / 100, 50 | 56..=69) || matches!(head, 2200..=2204 | 3528..=3589),
        _ => false,
    }
}

// === IPv4 addresses ===

impl Text<'_> {
    /// RFC 3986, section 3.2.2: four decimal octets, none with a leading zero.
    ///
    /// Not reported are those that are no one's: networks and the versions that look like them (`10.0.0.0`), netmasks, multicast, and the
    /// loopback network's usual addresses. Private ones are.
    fn is_address(&mut self, first: usize) -> bool {
        let groups = &self.groups[first..first + 4];
        if groups.iter().any(|group| group.len() > 3) || groups[1..].iter().any(|group| group.gap != Gap::Dot) {
            return false;
        }
        let start = usize::from(groups[0].start);
        let mut octets = [0u32; 4];
        for (octet, group) in octets.iter_mut().zip(groups) {
            let digits = &self.run[usize::from(group.start)..usize::from(group.end)];
            *octet = digits.iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
            if *octet > 255 || (digits.len() > 1 && digits[0] == b'0') {
                return false;
            }
        }
        // A range of addresses (`10.0.0.1-10.0.0.9`) and a prefix (`/24`) may follow.
        let behind = self.gap_behind(first + 3);
        if behind == Gap::Dot || (first + 4 == self.groups.len() && behind == Gap::Dash) {
            return false;
        }
        let ranged = first > 0 && matches!(self.groups[first].gap, Gap::Dash | Gap::Slash);
        if self.groups[first].gap.joins() && !ranged && !(first == 0 && is_port_or_path(self.before)) {
            return false;
        }
        if is_nobodys(octets) || (octets[3] == 0 && behind == Gap::Slash) {
            return false;
        }
        if first > 0 {
            return octets[0] == 10 || octets.iter().any(|octet| *octet > 31);
        }
        let lead = if start == 0 { self.before } else { b"" };
        match lead {
            // `Chrome/120.0.6099.1`, `pkg==1.2.3.4`, `^1.2.3.4`.
            [.., byte, b'/'] if byte.is_ascii_alphanumeric() && self.after != Some(b':') => return false,
            [.., b'=' | b'>' | b'<' | b'~' | b'!', b'='] | [.., b'^' | b'~'] => return false,
            _ => {}
        }
        if self.near(VERSION_WORDS, 24) {
            return false;
        }
        // All small: rather the number of a section or a version, unless it is of the private network 10, or a prefix follows.
        octets[0] == 10
            || octets.iter().any(|octet| *octet > 31)
            || behind == Gap::Slash
            || matches!(lead, [.., b'@'] | [.., b'/', b'/'])
            || self.near(ADDRESS_WORDS, 24)
    }
}

/// IANA, IPv4 special-purpose address registry: this network, loopback as it is used, multicast, netmasks; and networks of a class A.
const fn is_nobodys(octets: [u32; 4]) -> bool {
    matches!(octets, [0 | 224..=255, ..] | [127, 0, ..] | [_, 0, 0, 0])
}

/// Whether what stands right before may be an authority's or a path's, rather than the rest of a word.
fn is_port_or_path(before: &[u8]) -> bool {
    matches!(before, [.., b'/' | b':' | b','])
}

// === Telephones ===

impl Text<'_> {
    /// Telephones among the groups that aren't taken: each stretch of groups without a wide gap is one, or has one.
    fn phones(&mut self, taken: u64, found: &mut dyn FnMut(&'static str, Range<usize>)) {
        let mut first = 0;
        while first < self.groups.len() {
            if taken >> first & 1 == 1 {
                first += 1;
                continue;
            }
            let mut last = first;
            while last + 1 < self.groups.len()
                && taken >> (last + 1) & 1 == 0
                && !matches!(self.groups[last + 1].gap, Gap::Break | Gap::Line)
                && !(self.is_open(last + 1) && last > first + 1)
            {
                last += 1;
            }
            let mut place = first;
            while place <= last {
                match self.phone(place, first, last) {
                    Some(end) => {
                        found("PHONE", self.start_of_phone(place)..usize::from(self.groups[end].end));
                        place = end + 1;
                    }
                    None => place += 1,
                }
            }
            first = last + 1;
        }
    }

    fn byte_before(&self, group: usize) -> Option<u8> {
        match usize::from(self.groups[group].start).checked_sub(1) {
            Some(place) => self.run.get(place).copied(),
            None => self.before.last().copied(),
        }
    }

    fn is_open(&self, group: usize) -> bool {
        self.byte_before(group) == Some(b'(') && self.groups[group].start > 0
    }

    fn is_closed(&self, group: usize) -> bool {
        self.is_open(group) && self.run.get(usize::from(self.groups[group].end)) == Some(&b')')
    }

    fn has_plus(&self, group: usize) -> bool {
        let start = usize::from(self.groups[group].start);
        match start {
            0 => false,
            1 => self.run[0] == b'+',
            _ => self.run[start - 1] == b'+' && !self.run[start - 2].is_ascii_digit(),
        }
    }

    /// Where a telephone begins: with its plus or its parenthesis.
    fn start_of_phone(&self, group: usize) -> usize {
        let start = usize::from(self.groups[group].start);
        let with_plus = if self.has_plus(group) { start - 1 } else { start };
        let open = with_plus > 0 && self.run[with_plus - 1] == b'(';
        if open && (self.is_closed(group) || self.has_plus(group)) { with_plus - 1 } else { with_plus }
    }

    /// The last group of a telephone that begins with a group, within a stretch.
    fn phone(&mut self, place: usize, first: usize, last: usize) -> Option<usize> {
        if self.has_plus(place) {
            return self.international(place, last);
        }
        if place > first && self.groups[place].gap.joins() {
            return None;
        }
        if place == 0 && self.groups[0].gap == Gap::Dash {
            return None;
        }
        if let Some(end) = self.american(place, last) {
            return Some(end);
        }
        // Everything else is less certain: a whole stretch only, or what begins with a parenthesis.
        if place != first && !self.is_closed(place)
            || last - place >= GROUPS_OF_VALUE
            || self.gap_behind(last).joins() && !self.dash_then_word(last)
        {
            return None;
        }
        let total: usize = self.groups[place..=last].iter().map(|group| group.len()).sum();
        let written = self.is_written_as_phone(place, last, total);
        (written || self.is_named_phone(place, last, total)).then_some(last)
    }

    /// `040 123 4567-Office`: the hyphen that ends the run begins a word.
    fn dash_then_word(&self, last: usize) -> bool {
        last + 1 == self.groups.len() && &self.run[usize::from(self.groups[last].end)..] == b"-"
    }

    /// ITU-T E.164: a country code and at most fifteen digits in all.
    fn international(&self, place: usize, last: usize) -> Option<usize> {
        let head = &self.run[usize::from(self.groups[place].start)..usize::from(self.groups[place].end)];
        let american = head[0] == b'1';
        // `+9999-12-31`: a year.
        if let [_, month, day, ..] = &self.groups[place..=last]
            && head.len() >= 4
            && (month.gap, month.len(), day.gap, day.len()) == (Gap::Dash, 2, Gap::Dash, 2)
        {
            return None;
        }
        let (mut total, mut best) = (0, None);
        for end in place..=last.min(place + GROUPS_OF_VALUE) {
            if end > place && self.has_plus(end) {
                break;
            }
            total += self.groups[end].len();
            if total > 15 {
                break;
            }
            let enough = if american { total == 11 && (end > place || head[1] > b'1') } else { total >= if end == place { 10 } else { 8 } };
            // `+35236450.68`: a decimal fraction.
            let fraction = end > place && (self.groups[end].len() == 1 || (end == place + 1 && self.groups[end].gap == Gap::Dot));
            if enough && !fraction && (!self.gap_behind(end).joins() || self.extends(end)) {
                best = Some(end);
            }
        }
        let last_joined = self.dash_then_word(last) && (8..=15).contains(&total);
        best.or(last_joined.then_some(last)).filter(|_| is_country_code(head))
    }

    /// The North American Numbering Plan: 3-3-4, with what may stand before it.
    fn american(&self, place: usize, last: usize) -> Option<usize> {
        let lengths =
            |at: usize| at + 2 <= last && self.groups[at].len() == 3 && self.groups[at + 1].len() == 3 && self.groups[at + 2].len() == 4;
        // A 1, or 001, may come first.
        let head = &self.run[usize::from(self.groups[place].start)..usize::from(self.groups[place].end)];
        let area =
            if matches!(head, b"1" | b"001") && place < last && self.groups[place + 1].gap != Gap::Slash { place + 1 } else { place };
        if !lengths(area) {
            return None;
        }
        let (second, third) = (self.groups[area + 1].gap, self.groups[area + 2].gap);
        let digit = |group: usize| self.run[usize::from(self.groups[group].start)];
        let well_formed = match (second, third) {
            (Gap::Dash | Gap::Slash, Gap::Dash) | (Gap::Dot, Gap::Dot) => true,
            (Gap::Paren, Gap::Dash | Gap::Blank | Gap::Dot) => self.is_closed(area),
            // Three numbers in a row of a table look the same but for what the plan says: an area and an exchange begin with 2 to 9.
            (Gap::Blank, Gap::Dash) => digit(area) > b'1' && digit(area + 1) > b'1',
            _ => false,
        };
        let end = area + 2;
        let alone = !self.gap_behind(end).joins() || self.dash_then_word(end) || self.extends(end);
        (well_formed && alone).then_some(end)
    }

    /// `555-123-4567x89`: an extension follows.
    fn extends(&self, last: usize) -> bool {
        usize::from(self.groups[last].end) == self.run.len() && matches!(self.after, Some(b'x' | b'X' | b'e' | b'E'))
    }

    /// Whether these groups are written as few but telephones are.
    fn is_written_as_phone(&self, place: usize, last: usize, total: usize) -> bool {
        let groups = &self.groups[place..=last];
        let head = &self.run[usize::from(groups[0].start)..usize::from(groups[0].end)];
        let rest = &groups[1..];
        let even = rest.iter().all(|group| group.len() >= 2);
        if rest.is_empty() || !even {
            return false;
        }
        let gap = rest[0].gap;
        if self.is_closed(place) {
            let year = matches!(head, [b'1', b'9', _, _] | [b'2', b'0', _, _]);
            let dashed = rest.iter().any(|group| group.gap == Gap::Dash);
            let joined = rest[1..].iter().all(|group| matches!(group.gap, Gap::Dash | Gap::Blank));
            return (2..=5).contains(&head.len()) && (8..=12).contains(&total) && !year && joined && (dashed || head[0] == b'0');
        }
        // `0044 20 7946 0958`: as one dials abroad.
        if let [b'0', b'0', code @ ..] = head
            && rest.len() >= 2
            && gap != Gap::Dot
            && matches!(code.len(), 1..=3)
            && is_country_code(code)
        {
            return (10..=15).contains(&total) && code != b"0";
        }
        // A trunk prefix. Years in a row are none.
        let year =
            |group: &Group| matches!(&self.run[usize::from(group.start)..usize::from(group.end)], [b'1', b'9', _, _] | [b'2', b'0', _, _]);
        if rest.iter().any(year) {
            return false;
        }
        // Bytes in hex that happen to have no letters (`02 03 01 00 01`).
        if rest.iter().filter(|group| group.len() == 2 && self.run[usize::from(group.start)] == b'0').count() > 1 {
            return false;
        }
        let trunk = matches!(head, [b'0', b'1'..=b'9', ..]) && (2..=5).contains(&head.len());
        let uniform = rest.iter().all(|group| group.gap == gap);
        let mixed = rest.iter().all(|group| matches!(group.gap, Gap::Dash | Gap::Blank | Gap::Slash));
        let long_enough = match (rest.len(), gap) {
            (1, Gap::Dash | Gap::Slash) => (10..=11).contains(&total),
            (1, Gap::Blank) => head.len() >= 4 && (10..=11).contains(&total),
            (2, _) => (10..=11).contains(&total) && rest[0].len() > 2,
            (3 | 4, _) => (9..=11).contains(&total) && (uniform || head.len() > 2),
            _ => false,
        };
        trunk && mixed && long_enough
    }

    /// Whether a word before the run says that a telephone follows, and the groups don't say otherwise.
    fn is_named_phone(&mut self, place: usize, last: usize, total: usize) -> bool {
        let groups = &self.groups[place..=last];
        if groups[0].start > 8
            || !(6..=13).contains(&total)
            || groups.iter().any(|group| matches!(group.gap, Gap::Slash if groups[0].start != group.start))
        {
            return false;
        }
        let lengths = |place: usize| groups.get(place).map_or(0, |group| group.len());
        let head = &self.run[usize::from(groups[0].start)..usize::from(groups[0].end)];
        let dotted = groups.len() > 1 && groups[1..].iter().all(|group| group.gap == Gap::Dot);
        // Dates, decimal fractions and addresses.
        let year = matches!(head, [b'1', b'9', _, _] | [b'2', b'0', _, _]);
        let dated = (year && lengths(1) <= 2 && lengths(2) <= 2)
            || (lengths(2) == 4 && lengths(0) <= 2 && lengths(1) <= 2 && groups[1].gap != Gap::Blank);
        if groups.len() >= 3 && dated {
            return false;
        }
        if dotted && (groups.len() == 2 || groups.iter().all(|group| group.len() == 3) || (groups.len() == 4 && total > 8)) {
            return false;
        }
        if groups.len() > 1 && groups.iter().any(|group| group.len() < 2 && group.start != groups[0].start) {
            return false;
        }
        let called = self.near(CALL_WORDS, 16);
        if groups.len() > 1 {
            let long_enough = total >= 7 || groups.len() == 3;
            return long_enough && (called || self.near(PHONE_WORDS, 32));
        }
        // An unbroken number is one only on the same line, and right behind the word.
        let near_by = &self.before[self.before.len().saturating_sub(20)..];
        total >= 7 && !near_by.contains(&b'\n') && (self.near(PHONE_WORDS, 20) || (called && total >= 10 && !near_by.contains(&b'=')))
    }
}

/// ITU-T, list of country codes (annex to Operational Bulletin 1114): what none begins with.
fn is_country_code(digits: &[u8]) -> bool {
    !matches!(
        digits,
        [b'0', ..]
            | [b'2', b'1', b'0' | b'4' | b'5' | b'7' | b'9', ..]
            | [b'2', b'8', ..]
            | [b'2', b'5', b'9', ..]
            | [b'3', b'8', b'4' | b'8', ..]
            | [b'4', b'2', b'2' | b'4'..=b'9', ..]
            | [b'6', b'9', b'3'..=b'9', ..]
            | [b'8', b'3' | b'9', ..]
            | [b'9', b'7', b'8', ..]
    )
}

// === Words before a run ===

/// The text before a run in lower case, and where words begin in it.
struct Words {
    lower: [u8; CONTEXT],
    length: usize,
    /// A bit for each byte with which a word begins, and for each behind which one may end.
    begins: u64,
    ends: u64,
    /// The first two bytes of the words in it, as bits, so that most words are passed over at the cost of one look.
    heads: [u64; 4],
}

impl Words {
    fn of(before: &[u8]) -> Self {
        let mut words = Self { lower: [0; CONTEXT], length: before.len().min(CONTEXT), begins: 0, ends: 0, heads: [0; 4] };
        let before = &before[before.len() - words.length..];
        // Digits, and letters of two bytes (Latin, Greek, Cyrillic, Hebrew, Arabic) make words as letters of ASCII do; what has three is
        // written without gaps, or nearly, so that a word begins and ends at any character.
        let (mut letters, mut upper, mut lower, mut plural) = (0u64, 0u64, 0u64, 0u64);
        for (place, byte) in before.iter().enumerate() {
            words.lower[place] = byte.to_ascii_lowercase();
            letters |= (if byte.is_ascii_alphanumeric() { 1 } else { u64::from(matches!(byte, 0xC3..=0xDF)) * 3 }) << place;
            upper |= u64::from(byte.is_ascii_uppercase()) << place;
            lower |= u64::from(byte.is_ascii_lowercase()) << place;
            plural |= u64::from(*byte == b's') << place;
        }
        // `userSsn`, though not `iPhone`; `ssnNumber`; and `cards`.
        words.begins = !letters | !(letters << 1) | (upper & lower << 1 & letters << 2);
        words.ends = !letters | !(letters >> 1) | (lower & upper >> 1) | (plural >> 1 & !(letters >> 2));
        words.begins &= (1 << words.length) - 1;
        for place in 0..words.length.saturating_sub(1) {
            if words.begins >> place & 1 == 1 {
                let (word, bit) = Self::head(words.lower[place], words.lower[place + 1]);
                words.heads[word] |= bit;
            }
        }
        words
    }

    const fn head(first: u8, second: u8) -> (usize, u64) {
        let hash = first.wrapping_mul(37).wrapping_add(second);
        ((hash / 64) as usize, 1 << (hash % 64))
    }

    /// Whether one of the words ends within so many bytes before the run.
    fn any(&self, words: &[&str], within: usize) -> bool {
        words.iter().any(|word| self.has(word.as_bytes(), within))
    }

    fn has(&self, word: &[u8], within: usize) -> bool {
        if let [first, second, ..] = word {
            let (place, bit) = Self::head(*first, *second);
            if self.heads[place] & bit == 0 {
                return false;
            }
        }
        let text = &self.lower[..self.length];
        let nearest = self.length.saturating_sub(within);
        let mut begins = self.begins;
        while begins != 0 {
            let place = begins.trailing_zeros() as usize;
            begins &= begins - 1;
            let end = place + word.len();
            if end > nearest && text[place..].starts_with(word) && self.ends >> (end - 1) & 1 == 1 {
                return true;
            }
        }
        false
    }
}

// === E-mail, IPv6 and MAC addresses ===

/// File endings that are no top-level domains: `icon@2x.png` is a file.
const FILE_ENDINGS: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "bmp", "avif", "tiff", "css", "scss", "js", "mjs", "cjs", "jsx", "ts", "tsx",
    "json", "html", "htm", "xml", "yaml", "yml", "toml", "txt", "woff", "woff2", "ttf", "wasm", "exe", "dll", "jar", "tgz", "whl", "lock",
    "service", "timer", "socket", "mount", "target", "go", "java", "cpp", "swift", "kt", "cs", "rb", "php", "vue", "conf", "cfg", "ini",
    "log", "csv", "sql", "dts", "map", "length", "value", "name", "key", "data", "size", "self",
];

/// The bytes of the address in `text`, which is a local part, `@` at `local_end`, and as many of `A-Za-z0-9.-` as follow.
///
/// RFC 5321 in ASCII: the local part as a dot-string of `A-Za-z0-9._%+-` (what else stands before it is left out), at most 128 bytes of it;
/// a domain of two labels or more, the last of letters. What follows the last such label (dots, hyphens, the digits of a list) is no part.
pub(super) fn email(local_end: usize, text: &[u8]) -> Option<Range<usize>> {
    let local = text.get(..local_end)?;
    let domain = text.get(local_end + 1..)?;
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
    let mut start = local.iter().rposition(|byte| !is_local(*byte)).map_or(0, |place| place + 1);
    start = local[start..].windows(2).rposition(|pair| pair == b"..").map_or(start, |place| start + place + 2);
    start += local[start..].iter().position(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')?;
    start = start.max(local_end.saturating_sub(128));
    let local = &local[start..];
    // `tools@v0.1.0-x.y` is a module.
    if matches!(domain, [b'v', b'0'..=b'9', ..]) {
        return None;
    }
    // `git@` is how one clones; nobody reads what is sent there.
    if local.ends_with(b".") || local.eq_ignore_ascii_case(b"git") || !local.iter().any(u8::is_ascii_alphanumeric) {
        return None;
    }
    let (mut place, mut end, mut labels) = (0, None, 0);
    for label in domain.split(|byte| *byte == b'.') {
        if label.is_empty() || label.len() > 63 || label[0] == b'-' || place + label.len() > 255 {
            break;
        }
        // `example.com-and-more`: the address may have ended before the hyphen.
        let word = label.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let top = if label.len() > 4 && label[..4].eq_ignore_ascii_case(b"xn--") { label.len() } else { word };
        if labels > 0 && top >= 2 && (top == label.len() || label[top] == b'-') {
            end = Some((place, place + top));
        }
        if label.ends_with(b"-") {
            break;
        }
        place += label.len() + 1;
        labels += 1;
    }
    let (last, end) = end?;
    let top = &domain[last..end];
    if FILE_ENDINGS.iter().any(|ending| top.eq_ignore_ascii_case(ending.as_bytes())) || matches!(domain, [b'1'..=b'9', b'x', b'.', ..]) {
        return None;
    }
    Some(start..local_end + 1 + end)
}

/// The IPv6 address in a longest run of hex digits, colons and dots that no letter, digit or `_` stands next to.
///
/// RFC 4291, section 2.2: eight groups, or fewer with one `::`, the last two of which may be written as an IPv4 address. Loopback and
/// unspecified addresses are no one's. A short one with `::` has to begin as those in use do (`2000::/3`, `fc00::/7`, `fe80::/10`, or
/// `::ffff:` before an IPv4 address), since source code has `::` as well; times and eight pairs, as in fingerprints, are none.
pub(super) fn ipv6(run: &[u8]) -> Option<Range<usize>> {
    let mut range = 0..run.len();
    // The end of a sentence, or a colon that stands before or behind.
    while matches!(run[range.clone()], [.., b'.']) || (matches!(run[range.clone()], [.., b':']) && !run[range.clone()].ends_with(b"::")) {
        range.end -= 1;
    }
    if matches!(run[range.clone()], [b':', next, ..] if next != b':') {
        range.start += 1;
    }
    let text = &run[range.clone()];
    if text.len() < 6 || text.len() > 45 || text.split(|byte| *byte == b':').count() < 3 {
        return None;
    }
    let double = text.windows(2).position(|pair| pair == b"::");
    let (head, tail) = match double {
        Some(place) => (&text[..place], &text[place + 2..]),
        None => (text, &text[..0]),
    };
    if tail.windows(2).any(|pair| pair == b"::") {
        return None;
    }
    let (mut count, mut written, mut pairs, mut quad, mut digit) = (0, 0, true, false, false);
    for (part, last) in [(head, double.is_none()), (tail, true)] {
        if part.is_empty() {
            continue;
        }
        let mut groups = part.split(|byte| *byte == b':').peekable();
        while let Some(group) = groups.next() {
            written += 1;
            digit |= group.iter().any(u8::is_ascii_digit);
            if last && groups.peek().is_none() && group.contains(&b'.') {
                if quad_of(group).is_none_or(is_nobodys) {
                    return None;
                }
                quad = true;
                count += 2;
                continue;
            }
            if group.is_empty() || group.len() > 4 || !group.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            pairs &= group.len() == 2;
            count += 1;
        }
    }
    let first = head.split(|byte| *byte == b':').next().unwrap_or(head);
    let right = match double {
        None => count == 8 && !pairs && digit,
        Some(_) if quad => count <= 7 && head.is_empty() && (tail.len() > 5 && tail[..5].eq_ignore_ascii_case(b"ffff:")),
        Some(_) => {
            let group = first.iter().fold(0u32, |value, byte| value << 4 | char::from(*byte).to_digit(16).unwrap_or(0));
            let in_use = first.len() >= 3 && matches!(group, 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf);
            // A prefix (`2001:db8::`) is a network's.
            count <= 7 && digit && written >= 2 && !tail.is_empty() && (in_use || written >= 5)
        }
    };
    right.then_some(range)
}

/// Four decimal octets.
fn quad_of(text: &[u8]) -> Option<[u32; 4]> {
    let mut parts = text.split(|byte| *byte == b'.');
    let mut octets = [0; 4];
    for octet in &mut octets {
        let part = parts.next().filter(|part| matches!(part.len(), 1..=3) && part.iter().all(u8::is_ascii_digit))?;
        *octet = part.iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    }
    (parts.next().is_none() && octets.iter().all(|octet| *octet <= 255)).then_some(octets)
}

/// The MAC address in a longest run of hex digits, colons, hyphens and dots that no letter, digit or `_` stands next to.
///
/// IEEE 802: six pairs between colons or hyphens, or three groups of four between dots. All zeros and all ones are no one's; with hyphens or
/// dots a letter must be among them, since dates and telephones are written so, too.
pub(super) fn mac(run: &[u8]) -> Option<Range<usize>> {
    let mut end = run.len();
    while end > 0 && matches!(run[end - 1], b'.' | b':' | b'-') {
        end -= 1;
    }
    let start = usize::from(matches!(run.first(), Some(b':' | b'-' | b'.')));
    let text = run.get(start..end)?;
    let (width, separator) = match text.len() {
        17 => (2, text[2]),
        14 => (4, text[4]),
        _ => return None,
    };
    let groups = text.chunks(width + 1);
    let formed = groups.clone().all(|group| {
        group[..width.min(group.len())].iter().all(u8::is_ascii_hexdigit) && group.get(width).is_none_or(|byte| *byte == separator)
    });
    let fitting = if width == 2 { matches!(separator, b':' | b'-') } else { separator == b'.' };
    let mut hex = text.iter().filter(|byte| **byte != separator);
    let first = *hex.next()?;
    let varied = hex.any(|byte| !byte.eq_ignore_ascii_case(&first)) || !matches!(first, b'0' | b'f' | b'F');
    let lettered = separator == b':' || text.iter().any(u8::is_ascii_alphabetic);
    (formed && fitting && varied && lettered).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What stands in a text, its runs cut as the matcher cuts them: kinds and texts.
    fn found(text: &str) -> Vec<(&'static str, String)> {
        let bytes = text.as_bytes();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let (mut values, mut place) = (Vec::new(), 0);
        while place < bytes.len() {
            if !begins_numbers(bytes[place]) || (place > 0 && is_word(bytes[place - 1])) {
                place += 1;
                continue;
            }
            let (mut end, mut gap) = (place, 0);
            while end < bytes.len() && is_number_byte(bytes[end]) && gap < LONGEST_GAP + usize::from(bytes[end].is_ascii_digit()) {
                gap = if bytes[end].is_ascii_digit() { 0 } else { gap + 1 };
                end += 1;
            }
            let mut start = place;
            loop {
                let last = end - start <= LONGEST_RUN;
                let stop = if last { end } else { start + LONGEST_RUN };
                let before = &bytes[start.saturating_sub(CONTEXT)..start];
                numbers(&bytes[start..stop], before, bytes.get(stop).copied(), &mut |kind, range| {
                    let behind = bytes.get(start + range.end).copied();
                    let takes_after_in = range.end > stop - start;
                    if (last || range.start < WINDOW_STEP) && !(takes_after_in && behind.is_some_and(is_word)) {
                        values.push((kind, text[start + range.start..start + range.end].to_owned()));
                    }
                });
                let next = (start + WINDOW_STEP..end).find(|place| bytes[*place].is_ascii_digit() && !bytes[place - 1].is_ascii_digit());
                match next {
                    Some(next) if !last => start = next,
                    _ => break,
                }
            }
            place = end;
        }
        values
    }

    fn kinds(text: &str) -> Vec<&'static str> {
        found(text).into_iter().map(|(kind, _)| kind).collect()
    }

    fn only(text: &str) -> (&'static str, String) {
        let mut values = found(text);
        assert_eq!(values.len(), 1, "{text}: {values:?}");
        values.remove(0)
    }

    #[test]
    fn every_kind_of_the_table_has_a_name_and_every_name_a_kind() {
        let listed: Vec<&str> = NUMBERS.iter().map(|number| number.name).collect();
        let besides = ["CREDIT_CARD", "SSN", "PHONE", "IP_ADDRESS"];
        for (place, (name, about)) in NUMBER_KINDS.iter().enumerate() {
            assert!(listed.contains(name) || besides.contains(name), "{name}");
            assert!(!about.is_empty() && NUMBER_KINDS[..place].iter().all(|(other, _)| other != name), "{name}");
        }
        let least = |shape: u64| shape.to_be_bytes().iter().map(|byte| usize::from(byte & 31)).sum::<usize>() >= LEAST_DIGITS;
        assert!(BY_SHAPE.iter().all(|(shape, _, _)| least(*shape)));
        assert!(listed.iter().all(|name| NUMBER_KINDS.iter().any(|(other, _)| other == name)));
    }

    #[test]
    fn a_word_in_the_table_is_in_lower_case_so_that_it_can_be_found() {
        for words in NUMBERS.iter().map(|number| number.words).chain([CARD_WORDS, PHONE_WORDS, CALL_WORDS, ADDRESS_WORDS, VERSION_WORDS]) {
            assert!(words.iter().all(|word| !word.bytes().any(|byte| byte.is_ascii_uppercase()) && word.len() <= CONTEXT), "{words:?}");
        }
    }

    #[test]
    fn a_card_is_found_however_people_write_it() {
        let groups = ["4111", "1111", "1111", "1111"];
        for separator in ["", " ", "-", "\n", "\t", "\u{a0}", "\u{2011}", "\u{2212}", "\u{202f}", "."] {
            let card = groups.join(separator);
            assert_eq!(only(&format!("pay with {card}, please")), ("CREDIT_CARD", card.clone()), "{separator:?}");
            assert_eq!(only(&card), ("CREDIT_CARD", card.clone()));
            assert_eq!(only(&format!("({card}).")), ("CREDIT_CARD", card));
        }
        assert_eq!(only("4111 11111111 1111").0, "CREDIT_CARD");
        let american = ["3782", "822463", "10005"];
        assert_eq!(only(&american.join(" ")).0, "CREDIT_CARD");
        assert_eq!(only(&american.concat()).0, "CREDIT_CARD");
        let diners = ["3056", "930902", "5904"];
        assert_eq!(only(&diners.join("-")).0, "CREDIT_CARD");
        assert_eq!(only(&format!("Diners card {}", diners.concat())).0, "CREDIT_CARD");
        assert_eq!(kinds(&diners.concat()), [""; 0]);
    }

    #[test]
    fn a_card_is_found_between_other_numbers() {
        let card = ["4111", "1111", "1111", "1111"].join(" ");
        assert_eq!(only(&format!("1 {card} 12/27 123")), ("CREDIT_CARD", card.clone()));
        assert_eq!(found(&format!("{card} {card}")).len(), 2);
        assert_eq!(only(&format!("{} {card}", "7 ".repeat(60))), ("CREDIT_CARD", card));
    }

    #[test]
    fn what_only_looks_like_a_card_is_none() {
        for text in [
            "4111 1111 1111 1112",
            "1234567890123456",
            "0000 0000 0000 0000",
            "94111111111111111",
            "4111111111111111a",
            "0.4111111111111111",
            "4111-1111-1111-1111-1111",
            "1700000000000000",
            "4611686018427387904",
            "5105105105105100.25",
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_social_security_number_is_found() {
        let ssn = ["078", "05", "1120"];
        for separator in ["-", "\u{2010}", "\u{2013}", "\u{2212}"] {
            let ssn = ssn.join(separator);
            assert_eq!(only(&format!("it's {ssn}.")), ("SSN", ssn));
        }
        assert_eq!(only(&format!("SSN: {}", ssn.concat())).0, "SSN");
        assert_eq!(only(&format!("customerSsn={}", ssn.concat())).0, "SSN");
        assert_eq!(only(&format!("social security number {}", ssn.join(" "))).0, "SSN");
        for text in ["078051120", "078 05 1120", "000-12-3456", "666-12-3456", "078-00-1120", "1078-05-1120", "078-05-11201", "2024-05-11"]
        {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn national_numbers_are_found_as_they_are_written() {
        for (kind, parts, separators, before) in [
            ("US_ITIN", &["912", "72", "3456"] as &[_], "--", ""),
            ("US_EIN", &["12", "3456789"], "-", "EIN "),
            ("US_BANK_ROUTING", &["021000021"], "", "routing number: "),
            ("CANADA_SIN", &["193", "456", "787"], "--", "Social Insurance Number "),
            ("BRAZIL_CPF", &["111", "444", "777", "35"], "..-", ""),
            ("BRAZIL_CPF", &["11144477735"], "", "CPF: "),
            ("BRAZIL_CNPJ", &["11", "222", "333", "0001", "81"], "../-", ""),
            ("ARGENTINA_CUIT", &["20", "05536168", "2"], "--", ""),
            ("CHILE_RUT", &["12", "531", "909", "2"], "..-", ""),
            ("INDIA_AADHAAR", &["2341", "2341", "2346"], "  ", "Aadhaar no. "),
            ("CHINA_RESIDENT_ID", &["11010519491231", "002X"], "", ""),
            ("JAPAN_MY_NUMBER", &["1234", "5678", "9018"], "  ", "マイナンバーは"),
            ("KOREA_RRN", &["900101", "2345670"], "-", "주민등록번호: "),
            ("THAILAND_ID", &["1", "2345", "67890", "12", "1"], "----", ""),
            ("MALAYSIA_NRIC", &["770305", "02", "1234"], "--", "MyKad "),
            ("INDONESIA_NIK", &["3171011708450001"], "", "NIK: "),
            ("SAUDI_ID", &["1000000008"], "", "Saudi ID "),
            ("ISRAEL_ID", &["039337423"], "", "תעודת זהות "),
            ("AUSTRALIA_TFN", &["123", "456", "782"], "  ", "my TFN is "),
            ("AUSTRALIA_MEDICARE", &["2123", "45670", "1"], "  ", "Medicare "),
            ("AUSTRALIA_ABN", &["51", "824", "753", "556"], "   ", "ABN "),
            ("SOUTH_AFRICA_ID", &["8001015009087"], "", "ID number "),
            ("EGYPT_ID", &["29001011234567"], "", "Egyptian national ID "),
            ("GERMANY_TAX_ID", &["86", "095", "742", "719"], "   ", "Steuer-ID: "),
            ("FRANCE_NIR", &["2", "55", "08", "14", "168", "025", "38"], "      ", ""),
            ("POLAND_PESEL", &["44051401359"], "", "PESEL "),
            ("NETHERLANDS_BSN", &["111222333"], "", "BSN: "),
            ("SPAIN_DNI", &["12345678", "Z"], "", "DNI "),
            ("SPAIN_DNI", &["12345678", "Z"], "-", "DNI "),
            ("TURKEY_TCKN", &["10000000146"], "", "TC Kimlik No: "),
            ("UK_NHS", &["943", "476", "5919"], "  ", "NHS number "),
            ("SWEDEN_PERSONAL_ID", &["811218", "9876"], "-", "personnummer "),
            ("SWEDEN_PERSONAL_ID", &["19811218", "9876"], "-", ""),
            ("FINLAND_HETU", &["131052", "308T"], "-", ""),
            ("NORWAY_FNR", &["151086", "95088"], " ", ""),
            ("DENMARK_CPR", &["211062", "5629"], "-", "CPR-nummer: "),
            ("ICELAND_KENNITALA", &["120174", "3399"], "-", "kennitala "),
            ("BELGIUM_NATIONAL_NUMBER", &["85", "07", "30", "033", "28"], "..-.", ""),
            ("PORTUGAL_NIF", &["501964843"], "", "NIF "),
            ("RUSSIA_SNILS", &["112", "233", "445", "95"], "-- ", ""),
            ("RUSSIA_INN", &["500100732259"], "", "ИНН "),
            ("UKRAINE_RNOKPP", &["1759013776"], "", "РНОКПП: "),
            ("ROMANIA_CNP", &["1630615123457"], "", "CNP "),
            ("BULGARIA_EGN", &["7523169263"], "", "ЕГН "),
            ("CZECH_BIRTH_NUMBER", &["710319", "2745"], "/", ""),
            ("AUSTRIA_SVNR", &["1237", "010180"], " ", "SVNR "),
            ("SWITZERLAND_AHV", &["756", "9217", "0769", "85"], "...", ""),
            ("GREECE_AMKA", &["01013099997"], "", "AMKA: "),
            ("CROATIA_OIB", &["33392005961"], "", "OIB "),
            ("BALTIC_PERSONAL_CODE", &["37605030299"], "", "isikukood "),
            ("IMEI", &["490154203237518"], "", "IMEI "),
            ("PASSPORT_NUMBER", &["123456789"], "", "passport no. "),
            ("DATE_OF_BIRTH", &["1990", "10", "11"], "--", "\"dob\": \""),
            ("DATE_OF_BIRTH", &["8", "31", "1970"], "//", "date of birth is "),
        ] {
            let mut value = parts[0].to_owned();
            for (part, separator) in parts[1..].iter().zip(separators.chars().map(Some).chain([None; 4])) {
                value.extend(separator);
                value += part;
            }
            for after in ["", ".", ", and", " (mine)"] {
                assert_eq!(only(&format!("{before}{value}{after}")), (kind, value.clone()), "{before}{value}{after}");
            }
        }
    }

    #[test]
    fn numbers_that_need_a_word_stay_without_one() {
        for text in ["44051401359", "111222333", "86 095 742 719", "10000000146", "2341 2341 2346", "021000021", "1990-10-11", "12345678L"]
        {
            assert_eq!(kinds(&format!("the sum of {text} items")), [""; 0], "{text}");
        }
        // A part of another word isn't one, and what stands too far away isn't near.
        assert_eq!(kinds("the nonbsnish 111222333"), [""; 0]);
        assert_eq!(kinds(&format!("BSN {} 111222333", "and so on ".repeat(5))), [""; 0]);
    }

    #[test]
    fn telephones_are_found_as_they_are_written() {
        for phone in [
            ["+1 415 555", "2671"].join(" "),
            ["+1415555", "2671"].concat(),
            ["+44 (0)20 7946", "0958"].join(" "),
            ["+49 30", "901820"].join(" "),
            ["(978) 645", "9740"].join("-"),
            ["978-249", "9678"].join("-"),
            ["978.249", "9678"].join("."),
            ["1-800-555", "0199"].join("-"),
            ["001-668-040", "8670"].join("-"),
            ["06 12 34 56", "78"].join(" "),
            ["(03) 5327", "5996"].join(" "),
            ["0348", "2102744"].join(" "),
        ] {
            assert_eq!(only(&format!("so {phone}, or")), ("PHONE", phone.clone()));
            assert_eq!(only(&format!("{phone}.")), ("PHONE", phone));
        }
        for (before, phone) in
            [("Phone: ", "481 7531"), ("you can call ", "20-32-85-26"), ("电话", "13800138000"), ("iPhone, phone ", "9747 6578")]
        {
            assert_eq!(only(&format!("{before}{phone}")), ("PHONE", phone.to_owned()));
        }
    }

    #[test]
    fn dates_tables_and_counts_are_no_telephones() {
        for text in [
            "2024-01-15 10:30:45",
            "call me on 2024-01-15 at 10",
            "Mobile 2024-01-15 10",
            "12 345 678",
            "1 234 567 890",
            "100 200 3000",
            "00 01 02 03 04 05",
            "1-2-3-4-5-6-7-8",
            "(2019) 123-145",
            "+1 and +12 and 3 + 4",
            "call 12345",
            "0.5 0.25 0.125",
            "08 2004 2002",
            "iPhone 1689009508",
            "10,000,000",
            "550e8400-e29b-41d4-a716-446655440000",
            "02 03 01 00 01",
            "+9999-12-31 23:59",
            "+6073641856.9 and +35236450.68",
            "CALL: u32 = 2147790711",
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_versions() {
        for text in
            ["109.38.226.13", "host=10.218.6.131:8080", "http://1.2.3.4/", "[192.168.0.1]", "ip 1.1.1.1", "10.0.0.12/24", "from 8.8.8.8."]
        {
            assert_eq!(kinds(text), ["IP_ADDRESS"], "{text}");
        }
        assert_eq!(kinds("10.0.0.41-10.0.0.49"), ["IP_ADDRESS"; 2]);
        for text in [
            "version 1.2.3.4",
            "Chrome/120.0.6099.109",
            "Chrome/120.0.99.109",
            "pkg==1.22.33.44",
            "v1.22.33.44",
            "1.2.3.4.5",
            "10.0.0.0/8",
            "255.255.255.0",
            "127.0.0.1",
            "0.0.0.0",
            "256.1.1.1",
            "01.22.33.44",
            "see 4.1.2.3",
            "lib-1.22.33.44",
            "10.20.30.40-beta",
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    fn email_in(text: &str) -> Option<&str> {
        email(text.find('@')?, text.as_bytes()).map(|range| &text[range])
    }

    #[test]
    fn an_email_address_is_cut_out_of_what_stands_around_it() {
        for (text, address) in [
            ("nobody@example.org", "nobody@example.org"),
            ("nobody.at+all%x@mail.example.co.uk", "nobody.at+all%x@mail.example.co.uk"),
            ("nobody@example.org.", "nobody@example.org"),
            ("nobody@example.org-", "nobody@example.org"),
            ("nobody@example.org...", "nobody@example.org"),
            ("nobody@example.org-Office", "nobody@example.org"),
            ("nobody@example.org.5", "nobody@example.org"),
            ("...nobody@example.org", "nobody@example.org"),
            ("wait..nobody@example.org", "nobody@example.org"),
            ("_x@example.org", "_x@example.org"),
            ("a@xn--bcher-kva.xn--p1ai", "a@xn--bcher-kva.xn--p1ai"),
            ("\u{e9}a@example.org", "a@example.org"),
        ] {
            assert_eq!(email_in(text), Some(address), "{text}");
        }
        let long = format!("{}@example.org", "a".repeat(300));
        assert_eq!(email_in(&long).map(str::len), Some(128 + "@example.org".len()));
    }

    #[test]
    fn what_only_has_an_at_sign_is_no_email_address() {
        for text in [
            "user@host",
            "@example.org",
            "a@",
            "a@.org",
            "a@b.c",
            "a.@example.org",
            "icon@2x.png",
            "photo@example.jpg",
            "git@github.com",
            "tools@v0.1.0-go1.2.linux",
            "react@18.2.0",
            "root@10.0.0.1",
            "a@-b.org",
            "...@example.org",
        ] {
            assert_eq!(email_in(text), None, "{text}");
        }
        assert_eq!(email(9, b"short"), None);
        assert_eq!(email(5, b"short"), None);
    }

    #[test]
    fn ipv6_addresses_are_found_in_their_text_forms() {
        for (run, address) in [
            ("3b20:9a3a:1b2f:7ce:9ef1:4787:85fc:261e", "3b20:9a3a:1b2f:7ce:9ef1:4787:85fc:261e"),
            ("2001:DB8::8:800:200C:417A", "2001:DB8::8:800:200C:417A"),
            ("2001:db8::1", "2001:db8::1"),
            ("fe80::1.", "fe80::1"),
            ("fd12:3456::1:", "fd12:3456::1"),
            (":2001:db8::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
            ("64:1:2:3:4:5:192.0.2.1", "64:1:2:3:4:5:192.0.2.1"),
        ] {
            assert_eq!(ipv6(run.as_bytes()).map(|range| &run[range]), Some(address), "{run}");
        }
        for run in [
            "10:30:45",
            "2024:01:15:10:30:45",
            "::",
            "::1",
            "a::b",
            "dead::beef",
            "fe80::",
            "2001:db8::",
            "1::2::3",
            "00:11:22:33:44:55:66:77",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "12345:1:1:1:1:1:1:1",
            "::ffff:127.0.0.1",
            "::ffff:300.0.2.1",
            "2001:db8:::1",
            "192.168.0.1:8080",
            ":::::::",
            ".",
            "",
        ] {
            assert_eq!(ipv6(run.as_bytes()), None, "{run}");
        }
    }

    #[test]
    fn mac_addresses_are_found() {
        for (run, address) in [
            ("52:54:00:9d:0e:67", "52:54:00:9d:0e:67"),
            ("52-54-00-9D-0E-67.", "52-54-00-9D-0E-67"),
            (":52:54:00:9d:0e:67", "52:54:00:9d:0e:67"),
            ("5254.009d.0e67", "5254.009d.0e67"),
        ] {
            assert_eq!(mac(run.as_bytes()).map(|range| &run[range]), Some(address), "{run}");
        }
        for run in [
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01-02-03-04-05-06",
            "1234.5678.9012",
            "52:54-00:9d:0e:67",
            "52:54:00:9d:0e:6",
            "-",
            "",
        ] {
            assert_eq!(mac(run.as_bytes()), None, "{run}");
        }
    }

    #[test]
    fn a_value_in_a_long_run_is_found_wherever_it_stands() {
        let (card, phone) = (["4111", "1111", "1111", "1111"].join(" "), ["978-249", "9678"].join("-"));
        for filler in ["7 ", "12\n", "3.14 ", "2024-01-15 "] {
            for count in 0..90 {
                let text = format!("{}\n{card}\n{phone}\n{}", filler.repeat(count), filler.repeat(40));
                let values: Vec<String> = found(&text).into_iter().map(|(_, value)| value).collect();
                assert!(values.contains(&card) && values.contains(&phone), "{filler:?} {count} {values:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn no_bytes_panic_and_values_lie_within(run in prop::collection::vec(any::<u8>(), 0..200), before in prop::collection::vec(any::<u8>(), 0..60), after in any::<Option<u8>>()) {
            numbers(&run, &before, after, &mut |_, range| assert!(range.start < range.end && range.end <= run.len().min(LONGEST_RUN) + 1));
            let _ = (email(before.len(), &run), ipv6(&run), mac(&run));
        }

        #[test]
        fn no_run_panics_and_values_begin_and_end_well(run in "[0-9+(][0-9 .()/+\u{2011}\u{a0}-]{0,100}", before in "(phone |cpf |dob |ssn |rut )?", after in prop::option::of(prop::sample::select(b"xKZ7.,".to_vec()))) {
            numbers(run.as_bytes(), before.as_bytes(), after, &mut |_, range| {
                assert!(matches!(run.as_bytes()[range.start], b'0'..=b'9' | b'+' | b'('));
                assert!(range.end > run.len() || run.as_bytes()[range.end - 1].is_ascii_digit());
            });
        }

        #[test]
        fn no_address_panics(run in "[0-9a-fA-F:.-]{0,50}", text in "[a-z0-9._%+-]{0,20}@[a-zA-Z0-9.-]{0,30}") {
            for range in [ipv6(run.as_bytes()), mac(run.as_bytes())].into_iter().flatten() {
                assert!(range.end <= run.len() && range.start < range.end);
            }
            let at = text.find('@').unwrap_or(0);
            if let Some(range) = email(at, text.as_bytes()) {
                assert!(range.start < at && range.end > at + 3 && range.end <= text.len());
            }
        }
    }
}
