//! Templates of TO_CHAR, TO_DATE and TO_TIMESTAMP for dates and times: text to a list of fields and
//! plain characters. The keywords are those of Postgres.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A field of a moment.
    Field(Field),
    /// A character that stands for itself.
    Plain(char),
}

/// A field with what stands around its keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// What it shows.
    pub(super) key: Key,
    /// Upper, lower or capitalized, as the keyword was written.
    pub(super) case: Case,
    /// FM: without blanks and zeros that fill.
    pub(super) fill: bool,
    /// TH or th: an ordinal number.
    pub(super) ordinal: Option<Case>,
}

/// How letters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// MONTH
    Upper,
    /// Month
    Capitalized,
    /// month
    Lower,
}

/// What a field shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Y,YYY
    YearWithComma,
    /// YYYY
    Year,
    /// YYY, YY or Y: so many last digits.
    YearEnd(u8),
    /// IYYY
    IsoYear,
    /// IYY, IY or I: so many last digits.
    IsoYearEnd(u8),
    /// CC
    Century,
    /// Q
    Quarter,
    /// MONTH
    MonthName,
    /// MON
    MonthShort,
    /// MM
    Month,
    /// RM
    RomanMonth,
    /// WW
    Week,
    /// W
    WeekOfMonth,
    /// IW
    IsoWeek,
    /// DAY
    DayName,
    /// DY
    DayShort,
    /// DDD
    DayOfYear,
    /// IDDD
    IsoDayOfYear,
    /// DD
    Day,
    /// D: Sunday is 1.
    DayOfWeek,
    /// ID: Monday is 1.
    IsoDayOfWeek,
    /// J
    Julian,
    /// HH24
    Hour,
    /// HH or HH12
    Hour12,
    /// MI
    Minute,
    /// SS
    Second,
    /// MS
    Millisecond,
    /// US
    Microsecond,
    /// SSSS
    SecondOfDay,
    /// AM or PM
    Meridiem,
    /// A.M. or P.M.
    MeridiemDotted,
    /// BC or AD
    Era,
    /// B.C. or A.D.
    EraDotted,
    /// TZ
    Zone,
    /// OF
    Offset,
}

/// Keywords; a longer one stands before its beginnings.
const KEYWORDS: [(&str, Key); 44] = [
    ("Y,YYY", Key::YearWithComma),
    ("YYYY", Key::Year),
    ("YYY", Key::YearEnd(3)),
    ("YY", Key::YearEnd(2)),
    ("Y", Key::YearEnd(1)),
    ("IYYY", Key::IsoYear),
    ("IYY", Key::IsoYearEnd(3)),
    ("IY", Key::IsoYearEnd(2)),
    ("IDDD", Key::IsoDayOfYear),
    ("ID", Key::IsoDayOfWeek),
    ("IW", Key::IsoWeek),
    ("I", Key::IsoYearEnd(1)),
    ("CC", Key::Century),
    ("Q", Key::Quarter),
    ("MONTH", Key::MonthName),
    ("MON", Key::MonthShort),
    ("MM", Key::Month),
    ("MI", Key::Minute),
    ("MS", Key::Millisecond),
    ("RM", Key::RomanMonth),
    ("WW", Key::Week),
    ("W", Key::WeekOfMonth),
    ("DAY", Key::DayName),
    ("DDD", Key::DayOfYear),
    ("DD", Key::Day),
    ("DY", Key::DayShort),
    ("D", Key::DayOfWeek),
    ("J", Key::Julian),
    ("HH24", Key::Hour),
    ("HH12", Key::Hour12),
    ("HH", Key::Hour12),
    ("SSSSS", Key::SecondOfDay),
    ("SSSS", Key::SecondOfDay),
    ("SS", Key::Second),
    ("US", Key::Microsecond),
    ("A.M.", Key::MeridiemDotted),
    ("P.M.", Key::MeridiemDotted),
    ("AM", Key::Meridiem),
    ("PM", Key::Meridiem),
    ("A.D.", Key::EraDotted),
    ("B.C.", Key::EraDotted),
    ("AD", Key::Era),
    ("BC", Key::Era),
    ("TZ", Key::Zone),
];
/// A keyword that begins with a letter that no other has.
const OFFSET: &str = "OF";

/// Splits a template.
pub(super) fn parse(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(next) = rest.chars().next() {
        if let Some((field, after)) = field(rest) {
            pieces.push(Piece::Field(field));
            rest = after;
            continue;
        }
        rest = &rest[next.len_utf8()..];
        match next {
            '"' => rest = quoted(rest, &mut pieces),
            // Only before a quote is a backslash not itself.
            '\\' if rest.starts_with('"') => {
                pieces.push(Piece::Plain('"'));
                rest = &rest[1..];
            }
            other => pieces.push(Piece::Plain(other)),
        }
    }
    pieces
}

/// Takes the text up to the closing quote as it is.
fn quoted<'a>(text: &'a str, pieces: &mut Vec<Piece>) -> &'a str {
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return &text[index + 1..],
            '\\' => pieces.extend(characters.next().map(|(_, escaped)| Piece::Plain(escaped))),
            other => pieces.push(Piece::Plain(other)),
        }
    }
    ""
}

fn field(text: &str) -> Option<(Field, &str)> {
    let (mut rest, mut fill) = (text, false);
    loop {
        if starts_with(rest, "FM") {
            fill = true;
        } else if !starts_with(rest, "FX") && !starts_with(rest, "TM") {
            break;
        }
        rest = &rest[2..];
    }
    let (keyword, key) = KEYWORDS
        .iter()
        .copied()
        .chain([(OFFSET, Key::Offset)])
        .find(|(keyword, _)| is_keyword(rest, keyword))?;
    let case = case_of(&rest[..keyword.len()]);
    rest = &rest[keyword.len()..];
    let mut ordinal = None;
    if starts_with(rest, "TH") {
        ordinal = Some(if rest.starts_with("TH") { Case::Upper } else { Case::Lower });
        rest = &rest[2..];
    }
    Some((Field { key, case, fill, ordinal }, rest))
}

fn starts_with(text: &str, keyword: &str) -> bool {
    text.as_bytes()
        .get(..keyword.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(keyword.as_bytes()))
}

/// A keyword is written in one case; names may begin with a capital.
fn is_keyword(text: &str, keyword: &str) -> bool {
    if !starts_with(text, keyword) {
        return false;
    }
    let written = &text[..keyword.len()];
    let is_name = matches!(keyword, "MONTH" | "MON" | "DAY" | "DY");
    written == keyword
        || written.bytes().all(|byte| !byte.is_ascii_uppercase())
        || (is_name
            && written.starts_with(|first: char| first.is_ascii_uppercase())
            && written[1..].bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn case_of(written: &str) -> Case {
    let mut letters = written.chars().filter(char::is_ascii_alphabetic);
    let first_is_upper = letters.next().is_some_and(|letter| letter.is_ascii_uppercase());
    match letters.next() {
        Some(second) if first_is_upper && second.is_ascii_lowercase() => Case::Capitalized,
        _ if first_is_upper => Case::Upper,
        _ => Case::Lower,
    }
}
