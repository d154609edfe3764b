//! LIKE patterns: `%` stands for any text, `_` for one character, `\` makes the next character
//! literal. A pattern may end with a lone `\`, which then stands for itself.
//!
//! A pattern is cut at its `%` into segments. The first must match at the start of the text and the
//! last at its end (unless the pattern begins or ends with `%`); those between are found from left
//! to right, each at the first place after the one before: that is enough, because an earlier match
//! of a segment never rules out a match of the rest.

use memchr::memmem::Finder;

/// A compiled pattern; matches bytes of UTF-8 text.
pub(super) struct LikePattern {
    /// At least one. Without any `%` there is one segment, anchored at both ends.
    segments: Vec<Segment>,
    anchored_start: bool,
    anchored_end: bool,
    /// The longest literal; a text without it cannot match.
    required: Option<Finder<'static>>,
    /// Whether the pattern is `%literal%`, so that finding it is enough.
    contains_only: bool,
}

/// What lies between two `%`.
#[derive(Default)]
struct Segment {
    parts: Vec<Part>,
    /// Set when the segment is one literal.
    finder: Option<Finder<'static>>,
}

enum Part {
    Literal(Vec<u8>),
    AnyCharacter,
}

impl LikePattern {
    pub(super) fn new(pattern: &str) -> LikePattern {
        let mut segments = vec![Segment::default()];
        let mut bytes = pattern.bytes();
        while let Some(byte) = bytes.next() {
            let segment = segments.last_mut().expect("there is always a segment");
            match byte {
                b'%' => segments.push(Segment::default()),
                b'_' => segment.parts.push(Part::AnyCharacter),
                b'\\' => segment.push_literal(bytes.next().unwrap_or(b'\\')),
                literal => segment.push_literal(literal),
            }
        }
        let cut = segments.len() > 1;
        let anchored_start = !cut || !segments[0].parts.is_empty();
        let anchored_end = !cut || segments.last().is_some_and(|last| !last.parts.is_empty());
        if cut {
            segments.retain(|segment| !segment.parts.is_empty());
        }
        for segment in &mut segments {
            if let [Part::Literal(literal)] = segment.parts.as_slice() {
                segment.finder = Some(Finder::new(literal).into_owned());
            }
        }
        let parts = segments.iter().flat_map(|segment| &segment.parts);
        let literals = parts.filter_map(|part| match part {
            Part::Literal(literal) => Some(literal),
            Part::AnyCharacter => None,
        });
        let required = literals.max_by_key(|literal| literal.len());
        let required = required.map(|literal| Finder::new(literal).into_owned());
        let contains_only = !anchored_start
            && !anchored_end
            && matches!(segments.as_slice(), [only] if only.finder.is_some());
        LikePattern { segments, anchored_start, anchored_end, required, contains_only }
    }

    /// What every match contains.
    pub(super) fn required(&self) -> Option<&Finder<'static>> {
        self.required.as_ref()
    }

    /// Whether every text that contains [`Self::required`] matches.
    pub(super) fn contains_only(&self) -> bool {
        self.contains_only
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let mut segments = self.segments.as_slice();
        let (mut start, mut end) = (0, text.len());
        if self.anchored_start
            && let Some((first, rest)) = segments.split_first()
        {
            let Some(after) = first.match_forward(text, 0) else { return false };
            if rest.is_empty() && self.anchored_end {
                return after == text.len();
            }
            (start, segments) = (after, rest);
        }
        if self.anchored_end
            && let Some((last, rest)) = segments.split_last()
        {
            let Some(before) = last.match_backward(text) else { return false };
            if before < start {
                return false;
            }
            (end, segments) = (before, rest);
        }
        for segment in segments {
            match segment.find(&text[..end], start) {
                Some(after) => start = after,
                None => return false,
            }
        }
        true
    }
}

impl Segment {
    fn push_literal(&mut self, byte: u8) {
        match self.parts.last_mut() {
            Some(Part::Literal(literal)) => literal.push(byte),
            Some(Part::AnyCharacter) | None => self.parts.push(Part::Literal(vec![byte])),
        }
    }

    /// The end of the match that starts at `start`.
    fn match_forward(&self, text: &[u8], start: usize) -> Option<usize> {
        let mut position = start;
        for part in &self.parts {
            let rest = text.get(position..)?;
            position += match part {
                Part::Literal(literal) => rest.starts_with(literal).then_some(literal.len())?,
                Part::AnyCharacter => character_length(rest)?,
            };
        }
        Some(position)
    }

    /// The start of the match that ends at the end of `text`.
    fn match_backward(&self, text: &[u8]) -> Option<usize> {
        let mut rest = text;
        for part in self.parts.iter().rev() {
            rest = match part {
                Part::Literal(literal) => rest.strip_suffix(literal.as_slice())?,
                Part::AnyCharacter => {
                    let start = rest.iter().rposition(|byte| !is_continuation(*byte))?;
                    &rest[..start]
                }
            };
        }
        Some(rest.len())
    }

    /// The end of the first match that starts at `start` or later.
    fn find(&self, text: &[u8], start: usize) -> Option<usize> {
        if let Some(finder) = &self.finder {
            let found = finder.find(text.get(start..)?)?;
            return Some(start + found + finder.needle().len());
        }
        let mut position = start;
        loop {
            if let Some(end) = self.match_forward(text, position) {
                return Some(end);
            }
            position += character_length(text.get(position..)?)?;
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Bytes of the first character; `None` at the end of the text.
fn character_length(text: &[u8]) -> Option<usize> {
    let rest = text.get(1..)?;
    Some(1 + rest.iter().take_while(|byte| is_continuation(**byte)).count())
}
