//! Streams of gzip members and zstd frames, fed with chunks as they arrive and emptied in bounded
//! pieces, so that a small file that unpacks to terabytes costs time but no memory. Input that
//! ends within a member or frame is an error.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::super::request::Compression;

/// What came out of one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Some bytes were added; there may be more.
    Bytes,
    /// Nothing comes until more input is fed.
    NeedInput,
    /// The end.
    End,
}

/// Turns the bytes of an object into the bytes of its text.
pub(super) enum Decompressor {
    None(Input),
    Gzip(Box<MultiGzDecoder<Input>>),
    Zstd(Box<ZstdFrames>),
}

impl Decompressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(Input::default()),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Input::default()))),
            Compression::Zstd => Self::Zstd(Box::new(ZstdFrames {
                input: Input::default(),
                decoder: Decoder::new()?,
                in_frame: false,
                any_frame: false,
            })),
        })
    }

    /// Adds input.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.input().chunks.push_back(chunk);
    }

    /// Says that no more input comes.
    pub(super) fn finish(&mut self) {
        self.input().complete = true;
    }

    /// Adds at most `bytes_max` bytes of text to `text`.
    pub(super) fn read(&mut self, text: &mut Vec<u8>, bytes_max: usize) -> io::Result<Progress> {
        if let Self::None(input) = self {
            return Ok(input.take(text, bytes_max));
        }
        let start = text.len();
        text.resize(start + bytes_max, 0);
        let result = match self {
            Self::None(_) => Ok(0),
            Self::Gzip(decoder) => decoder.read(&mut text[start..]),
            Self::Zstd(frames) => frames.read(&mut text[start..]),
        };
        let added = *result.as_ref().unwrap_or(&0);
        text.truncate(start + added);
        match result {
            Ok(0) => Ok(Progress::End),
            Ok(_) => Ok(Progress::Bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::NeedInput),
            Err(error) => Err(error),
        }
    }

    fn input(&mut self) -> &mut Input {
        match self {
            Self::None(input) => input,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(frames) => &mut frames.input,
        }
    }
}

/// Chunks that have arrived. As a reader it would block when it is empty and more is to come.
#[derive(Default)]
pub(super) struct Input {
    chunks: VecDeque<Bytes>,
    complete: bool,
}

impl Input {
    fn take(&mut self, text: &mut Vec<u8>, bytes_max: usize) -> Progress {
        match self.chunks.front_mut() {
            Some(chunk) => {
                let taken = chunk.len().min(bytes_max);
                text.extend_from_slice(&chunk[..taken]);
                self.consume(taken);
                Progress::Bytes
            }
            None if self.complete => Progress::End,
            None => Progress::NeedInput,
        }
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
        match self.chunks.front() {
            Some(chunk) => Ok(chunk),
            None if self.complete => Ok(&[]),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn consume(&mut self, amount: usize) {
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.advance(amount);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// One zstd frame after the other.
pub(super) struct ZstdFrames {
    input: Input,
    decoder: Decoder<'static>,
    /// Whether a frame has begun and not ended.
    in_frame: bool,
    any_frame: bool,
}

impl ZstdFrames {
    fn read(&mut self, text: &mut [u8]) -> io::Result<usize> {
        loop {
            let available = self.input.fill_buf()?;
            let ended = available.is_empty();
            if ended && !self.in_frame {
                // An empty object is no zstd stream: a writer always writes a frame.
                return if self.any_frame { Ok(0) } else { Err(truncated()) };
            }
            let mut input = InBuffer::around(available);
            let mut output = OutBuffer::around(&mut *text);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (consumed, written) = (input.pos(), output.pos());
            self.input.consume(consumed);
            self.any_frame = true;
            self.in_frame = hint != 0;
            if written > 0 {
                return Ok(written);
            }
            if ended && self.in_frame {
                return Err(truncated());
            }
            if consumed == 0 && self.in_frame {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no progress in zstd data"));
            }
        }
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "compressed data ends too early")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpack(compression: Compression, packed: &[u8], chunk: usize) -> io::Result<Vec<u8>> {
        let mut decompressor = Decompressor::new(compression)?;
        let mut chunks = packed.chunks(chunk);
        let mut text = Vec::new();
        loop {
            match decompressor.read(&mut text, 1000)? {
                Progress::Bytes => {}
                Progress::End => return Ok(text),
                Progress::NeedInput => match chunks.next() {
                    Some(chunk) => decompressor.feed(Bytes::copy_from_slice(chunk)),
                    None => decompressor.finish(),
                },
            }
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn pack(compression: Compression, text: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => text.to_vec(),
            Compression::Gzip => gzip(text),
            Compression::Zstd => zstd::encode_all(text, 3).unwrap(),
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut packed = pack(compression, &text);
            packed.extend(pack(compression, b""));
            packed.extend(pack(compression, b"end"));
            let expected = [&text[..], b"end"].concat();
            for chunk in [1, 7, 4096, usize::MAX] {
                assert!(unpack(compression, &packed, chunk).unwrap() == expected);
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let packed = pack(compression, b"a line of text, a line of text\nand another\n");
            for length in 0..packed.len() {
                let result = unpack(compression, &packed[..length], 11);
                assert!(result.is_err(), "{compression:?} {length}");
            }
            let mut damaged = packed.clone();
            damaged.extend(b"garbage");
            assert!(unpack(compression, &damaged, 11).is_err());
        }
    }

    #[test]
    fn a_bomb_comes_out_in_pieces() {
        let packed = pack(Compression::Zstd, &vec![0; 50_000_000]);
        assert!(packed.len() < 20_000);
        let mut decompressor = Decompressor::new(Compression::Zstd).unwrap();
        decompressor.feed(packed.into());
        let mut text = Vec::new();
        assert_eq!(decompressor.read(&mut text, 1000).unwrap(), Progress::Bytes);
        assert!(text.len() <= 1000);
    }
}
