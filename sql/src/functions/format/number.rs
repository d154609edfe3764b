//! TO_CHAR and TO_NUMBER: numbers by a template.
//!
//! Writing follows the steps of Postgres, because what stands at the edge of a template (the sign,
//! blanks, a leading zero) is the outcome of their order and of nothing simpler.

use datafusion::common::{DataFusionError, Result};

use crate::error::raise;

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// 9
    Digit,
    /// 0
    Zero,
    /// . or D
    Point,
    /// , or G
    Group,
    /// L
    Currency,
    /// MI
    Minus,
    /// PL
    Plus,
    /// SG
    Sign,
    /// TH; in lower case if so written.
    Ordinal {
        /// Whether it was written in capitals.
        upper: bool,
    },
    /// A character that stands for itself.
    Plain(char),
    /// A keyword that only changes how others are written: FM, S, PR, V, B.
    Silent,
}

/// Where S stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignPlace {
    Before,
    After,
}

/// A template for numbers.
#[derive(Debug, Clone)]
pub(super) struct NumberTemplate {
    pieces: Vec<Piece>,
    /// Digits before the point.
    before: usize,
    /// Digits after the point.
    after: usize,
    /// Digits behind V.
    shift: usize,
    /// Where the first 0 before the point stands, counted from 1.
    zero_start: Option<usize>,
    /// How many digits there are up to the last 0.
    zero_end: usize,
    fill: bool,
    has_point: bool,
    has_shift: bool,
    minus: bool,
    plus: bool,
    bracket: bool,
    sign: Option<(SignPlace, usize)>,
    /// RN; in lower case if so written.
    roman: Option<bool>,
}

fn wrong(message: &str) -> DataFusionError {
    raise("42601", message)
}

/// The ending of an ordinal number.
pub(super) fn ordinal_suffix(digits: &str) -> &'static str {
    let mut last = digits.chars().rev();
    let (one, ten) = (last.next(), last.next());
    match (ten, one) {
        (Some('1'), _) => "th",
        (_, Some('1')) => "st",
        (_, Some('2')) => "nd",
        (_, Some('3')) => "rd",
        _ => "th",
    }
}

impl NumberTemplate {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut template = Self {
            pieces: Vec::new(),
            before: 0,
            after: 0,
            shift: 0,
            zero_start: None,
            zero_end: 0,
            fill: false,
            has_point: false,
            has_shift: false,
            minus: false,
            plus: false,
            bracket: false,
            sign: None,
            roman: None,
        };
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let two: String =
                rest.chars().take(2).map(|letter| letter.to_ascii_uppercase()).collect();
            let length = template.keyword(&two, rest)?;
            if length > 0 {
                rest = &rest[length..];
                continue;
            }
            rest = &rest[next.len_utf8()..];
            rest = match next {
                '"' => template.quoted(rest),
                other => {
                    template.pieces.push(Piece::Plain(other));
                    rest
                }
            };
        }
        Ok(template)
    }

    fn quoted<'a>(&mut self, text: &'a str) -> &'a str {
        let (inner, rest) = text.split_once('"').unwrap_or((text, ""));
        self.pieces.extend(inner.chars().map(Piece::Plain));
        rest
    }

    /// Takes the keyword at the start; answers with its length, 0 if there is none.
    fn keyword(&mut self, two: &str, rest: &str) -> Result<usize> {
        let piece = match two {
            "FM" => {
                self.fill = true;
                Piece::Silent
            }
            "MI" => {
                self.minus = true;
                Piece::Minus
            }
            "PL" => {
                self.plus = true;
                Piece::Plus
            }
            "SG" => {
                self.minus = true;
                self.plus = true;
                Piece::Sign
            }
            "PR" => {
                self.bracket = true;
                Piece::Silent
            }
            "RN" => {
                self.roman = Some(rest.starts_with('r'));
                Piece::Silent
            }
            "TH" => Piece::Ordinal { upper: rest.starts_with("TH") },
            "EE" => return Err(raise("0A000", "\"EEEE\" in a number format is not supported")),
            _ => return self.short_keyword(rest),
        };
        self.pieces.push(piece);
        Ok(2)
    }

    fn short_keyword(&mut self, rest: &str) -> Result<usize> {
        let piece = match rest.chars().next().map(|letter| letter.to_ascii_uppercase()) {
            Some('9') => {
                self.count_digit()?;
                Piece::Digit
            }
            Some('0') => {
                self.count_digit()?;
                if !self.has_point {
                    self.zero_start.get_or_insert(self.before);
                }
                self.zero_end = self.before + self.after;
                Piece::Zero
            }
            Some('.' | 'D') => {
                if self.has_point {
                    return Err(wrong("multiple decimal points"));
                }
                if self.has_shift {
                    return Err(wrong("cannot use \"V\" and decimal point together"));
                }
                self.has_point = true;
                Piece::Point
            }
            Some(',' | 'G') => Piece::Group,
            Some('L') => Piece::Currency,
            Some('S') => {
                self.set_sign()?;
                Piece::Silent
            }
            Some('V') => {
                if self.has_point {
                    return Err(wrong("cannot use \"V\" and decimal point together"));
                }
                self.has_shift = true;
                Piece::Silent
            }
            Some('B') => Piece::Silent,
            _ => return Ok(0),
        };
        self.pieces.push(piece);
        Ok(1)
    }

    fn count_digit(&mut self) -> Result<()> {
        if self.bracket {
            return Err(wrong("\"9\" must be ahead of \"PR\""));
        }
        if self.has_shift {
            self.shift += 1;
        } else if self.has_point {
            self.after += 1;
        } else {
            self.before += 1;
        }
        Ok(())
    }

    fn set_sign(&mut self) -> Result<()> {
        if self.sign.is_some() {
            return Err(wrong("cannot use \"S\" twice"));
        }
        if self.plus || self.minus || self.bracket {
            return Err(wrong("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together"));
        }
        let place = if self.has_point { SignPlace::After } else { SignPlace::Before };
        self.sign = Some((place, self.before));
        Ok(())
    }

    /// Digits after the point that a number is rounded to before it is written.
    pub(super) fn scale(&self) -> usize {
        self.after
    }

    /// Powers of ten that a number is multiplied by before it is written.
    pub(super) fn shift(&self) -> usize {
        self.shift
    }

    /// Digits of the numbers that TO_NUMBER reads: in all, and after the point.
    pub(super) fn digits(&self) -> (usize, usize) {
        (self.before + self.after + self.shift, self.after)
    }

    /// Writes a number that was rounded to [`NumberTemplate::scale`], in plain decimal form.
    pub(super) fn write(&self, number: &str) -> String {
        let (negative, digits) = match number.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, number),
        };
        if let Some(lower) = self.roman {
            return roman(number, lower, self.fill);
        }
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return digits.to_owned(); // NaN and infinity
        }
        Writer::new(self, digits, negative).write()
    }
}

/// The state of writing one number.
struct Writer<'a> {
    template: &'a NumberTemplate,
    digits: Vec<u8>,
    /// The next of `digits`.
    next: usize,
    negative: bool,
    /// Blanks before the first digit.
    spaces: usize,
    /// The place in the template, in digits and points.
    place: usize,
    /// The number of digits that the template and the sign take.
    count: usize,
    sign_is_written: bool,
    sign_place: Option<SignPlace>,
    bracket: bool,
    /// Whether a digit was just written.
    in_number: bool,
    /// The last digit that FM leaves.
    last_relevant: Option<usize>,
    out: String,
}

impl<'a> Writer<'a> {
    fn new(template: &'a NumberTemplate, digits: &str, negative: bool) -> Self {
        let before = template.before + template.shift;
        let whole = digits.find('.').unwrap_or(digits.len());
        let (digits, spaces) = if whole > before {
            let mut overflow = vec![b'#'; before + template.after + 1];
            overflow[before] = b'.';
            (overflow, 0)
        } else {
            (digits.as_bytes().to_vec(), before - whole)
        };
        let separate_sign = template.plus || template.minus;
        let bracket = template.bracket && (negative || !template.fill);
        let sign_is_written = if separate_sign {
            !template.plus || template.minus
        } else {
            !negative && template.fill && template.sign.is_none()
        };
        let sign_place = template.sign.map(|(place, digits_before)| {
            if place == SignPlace::Before && digits_before == template.before && !separate_sign {
                SignPlace::After
            } else {
                place
            }
        });
        let mut count = (before + template.after).saturating_sub(1);
        if !sign_is_written && spaces == 0 {
            count += 1;
        }
        let last_relevant = last_relevant(template, &digits, spaces);
        Self {
            template,
            digits,
            next: 0,
            negative,
            spaces,
            place: 0,
            count,
            sign_is_written,
            sign_place,
            bracket,
            in_number: false,
            last_relevant,
            out: String::new(),
        }
    }

    fn write(mut self) -> String {
        for piece in &self.template.pieces {
            match piece {
                Piece::Digit | Piece::Zero | Piece::Point => self.digit(*piece),
                Piece::Group if self.in_number => self.out.push(','),
                Piece::Group if self.template.fill => {}
                Piece::Group | Piece::Currency => self.out.push(' '),
                Piece::Minus if self.negative => self.out.push('-'),
                Piece::Plus if !self.negative => self.out.push('+'),
                Piece::Minus | Piece::Plus if self.template.fill => {}
                Piece::Minus | Piece::Plus => self.out.push(' '),
                Piece::Sign => self.out.push(if self.negative { '-' } else { '+' }),
                Piece::Ordinal { upper } => self.ordinal(*upper),
                Piece::Plain(character) => self.out.push(*character),
                Piece::Silent => {}
            }
        }
        self.out
    }

    fn ordinal(&mut self, upper: bool) {
        if self.digits.first() == Some(&b'#') || self.negative || self.template.has_point {
            return;
        }
        let digits = String::from_utf8_lossy(&self.digits).into_owned();
        let suffix = ordinal_suffix(&digits);
        self.out.push_str(&if upper { suffix.to_uppercase() } else { suffix.to_owned() });
    }

    /// Whether the next digit is the zero before the point, which 9.9 shows as a blank.
    fn is_leading_zero(&self) -> bool {
        self.template.zero_start.is_none()
            && self.next == 0
            && self.digits.first() == Some(&b'0')
            && self.template.after > 0
    }

    fn last_is_point(&self) -> bool {
        self.last_relevant.is_some_and(|index| self.digits[index] == b'.')
    }

    /// The place of the first 0, counted from 0.
    fn first_zero(&self) -> Option<usize> {
        self.template.zero_start.map(|start| start.saturating_sub(1))
    }

    fn digit(&mut self, piece: Piece) {
        self.in_number = false;
        let zero_here = self.first_zero() == Some(self.place);
        if !self.sign_is_written
            && (self.place >= self.spaces || zero_here)
            && (!self.is_leading_zero() || self.last_is_point())
        {
            self.leading_sign();
        }
        let fills_with_zeros = self.first_zero().is_some_and(|start| start <= self.place);
        if self.place < self.spaces && !fills_with_zeros {
            if !self.template.fill {
                self.out.push(' ');
            }
        } else if self.place < self.spaces {
            self.out.push('0');
            self.in_number = true;
        } else {
            self.significant(piece);
        }
        self.trailing_sign();
        self.place += 1;
    }

    fn leading_sign(&mut self) {
        match self.sign_place {
            Some(SignPlace::Before) => {
                self.out.push(if self.negative { '-' } else { '+' });
                self.sign_is_written = true;
            }
            Some(SignPlace::After) => {}
            None if self.bracket => {
                self.out.push(if self.negative { '<' } else { ' ' });
                self.sign_is_written = true;
            }
            None => {
                if self.negative {
                    self.out.push('-');
                } else if !self.template.fill {
                    self.out.push(' ');
                }
                self.sign_is_written = true;
            }
        }
    }

    fn significant(&mut self, piece: Piece) {
        let Some(byte) = self.digits.get(self.next).copied() else { return };
        let behind_last = self.last_relevant.is_some_and(|last| self.next > last);
        if byte == b'.' {
            if !self.last_is_point() || self.template.fill {
                self.out.push('.');
            }
        } else if behind_last && piece != Piece::Zero {
            // FM leaves it out.
        } else if self.is_leading_zero() {
            if !self.template.fill {
                self.out.push(' ');
            } else if self.last_is_point() {
                self.out.push('0');
            }
        } else {
            self.out.push(char::from(byte));
            self.in_number = true;
        }
        self.next += 1;
    }

    fn trailing_sign(&mut self) {
        let mut end = self.count + usize::from(self.spaces > 0);
        end += usize::from(self.template.has_point);
        if self.last_relevant == Some(self.next) {
            end = self.place;
        }
        if self.place + 1 != end {
            return;
        }
        if self.sign_is_written && self.bracket {
            self.out.push(if self.negative { '>' } else { ' ' });
        } else if self.sign_place == Some(SignPlace::After) {
            self.out.push(if self.negative { '-' } else { '+' });
        }
    }
}

fn last_relevant(template: &NumberTemplate, digits: &[u8], spaces: usize) -> Option<usize> {
    if !template.fill || !template.has_point {
        return None;
    }
    let point = digits.iter().position(|byte| *byte == b'.')?;
    let last = digits.iter().rposition(|byte| *byte != b'0').map_or(point, |last| last.max(point));
    let zero_end = template.zero_end;
    if zero_end > spaces {
        return Some(last.max((digits.len() - 1).min(zero_end - spaces)));
    }
    Some(last)
}

/// A Roman number, right-aligned in 15 places; what has none is filled with #.
fn roman(number: &str, lower: bool, fill: bool) -> String {
    const PARTS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let whole = number.split('.').next().unwrap_or_default();
    let Some(mut rest) = whole.parse::<i64>().ok().filter(|value| (1..4000).contains(value)) else {
        return "#".repeat(15);
    };
    let mut out = String::new();
    for (value, letters) in PARTS {
        while rest >= value {
            out.push_str(letters);
            rest -= value;
        }
    }
    if lower {
        out = out.to_lowercase();
    }
    if fill { out } else { format!("{out:>15}") }
}

/// Reads a number by a template: what is neither digit, point nor sign is passed over. The answer is
/// in plain decimal form.
pub(super) fn read(template: &NumberTemplate, text: &str) -> Result<String> {
    let mut digits = String::new();
    let mut negative = false;
    let (mut whole, mut fraction) = (0, 0);
    let mut in_fraction = false;
    for character in text.chars() {
        match character {
            '-' | '<' => negative = true,
            '.' if template.has_point && !in_fraction => {
                in_fraction = true;
                digits.push('.');
            }
            '.' if !template.has_point => break,
            digit if digit.is_ascii_digit() => {
                if in_fraction {
                    fraction += 1;
                } else {
                    whole += 1;
                }
                let fits = if in_fraction {
                    fraction <= template.after
                } else {
                    whole <= template.before + template.shift
                };
                if fits {
                    digits.push(digit);
                }
            }
            _ => {}
        }
    }
    if !digits.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(raise("22P02", format!("invalid input syntax for type numeric: \"{text}\"")));
    }
    Ok(if negative { format!("-{digits}") } else { digits })
}
