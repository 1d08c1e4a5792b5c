//! Reads archives as streams, of whatever kind, each with a bound of the memory that it takes.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use xz4rust::{XzDecoder, XzError, XzNextBlockResult};

/// The window of zstd and the dictionary of xz are at most this: what `zstd -19` and `xz -6` take.
const LONGEST_WINDOW: usize = 8 << 20;
/// xz begins with less.
const FIRST_DICTIONARY: usize = 64 << 10;

/// The kinds of archive that a log or user data is packed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz file format, version 1.2.
    Xz,
    /// As bzip2(1) writes it.
    Bzip2,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Gzip, Self::Zstd, Self::Xz, Self::Bzip2];

    /// What each begins with.
    pub(super) const fn magic(self) -> &'static [u8] {
        match self {
            // The third byte is the method: deflate, and there is no other.
            Self::Gzip => &[0x1f, 0x8b, 8],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Self::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Self::Bzip2 => b"BZh",
        }
    }

    /// The kind that `bytes` begin with.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let kind = Self::ALL
            .into_iter()
            .find(|kind| bytes.starts_with(kind.magic()))?;
        // A word of text begins like bzip2's: behind the size of the blocks is the first one, or the end.
        let is_right = match bytes {
            _ if kind != Self::Bzip2 => true,
            [_, _, _, b'1'..=b'9', rest @ ..] => {
                let begins =
                    |magic: &[u8; 6]| rest.iter().zip(magic).all(|(one, other)| one == other);
                begins(b"1AY&SY") || begins(b"\x17\x72\x45\x38\x50\x90")
            }
            _ => false,
        };
        is_right.then_some(kind)
    }

    /// What a decoder takes at most, in bytes.
    pub(super) const fn memory(self) -> usize {
        match self {
            Self::Gzip => 128 << 10,
            Self::Zstd | Self::Xz => LONGEST_WINDOW + (1 << 20),
            // 900 kB blocks: bzip2(1), "Memory management".
            Self::Bzip2 => 5 << 20,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// The content of one member (gzip, bzip2), frame (zstd) or stream (xz). Nothing behind it is taken from
/// the input.
pub(super) enum Decoder<R: BufRead> {
    Gzip(GzDecoder<R>),
    Zstd(Box<FrameDecoder>, R),
    Xz(Box<XzDecoder<'static>>, R, bool),
    Bzip2(BzDecoder<R>),
}

impl<R: BufRead> Decoder<R> {
    /// # Errors
    /// It is none, or takes more memory than [`Kind::memory`].
    pub(super) fn new(kind: Kind, mut input: R) -> io::Result<Self> {
        Ok(match kind {
            Kind::Gzip => Self::Gzip(GzDecoder::new(input)),
            Kind::Bzip2 => Self::Bzip2(BzDecoder::new(input)),
            Kind::Zstd => {
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.set_max_window_size(LONGEST_WINDOW as u64);
                decoder.init(&mut input).map_err(|error| match error {
                    FrameDecoderError::WindowSizeTooBig { .. } => io::ErrorKind::OutOfMemory.into(),
                    error => io::Error::other(error),
                })?;
                Self::Zstd(decoder, input)
            }
            Kind::Xz => {
                let decoder =
                    XzDecoder::in_heap_with_alloc_dict_size(FIRST_DICTIONARY, LONGEST_WINDOW);
                Self::Xz(decoder, input, false)
            }
        })
    }

    /// The input, behind what was decoded.
    pub(super) fn into_inner(self) -> R {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::Zstd(_, input) | Self::Xz(_, input, _) => input,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
            Self::Zstd(decoder, input) => {
                while decoder.can_collect() == 0 && !decoder.is_finished() {
                    decoder
                        .decode_blocks(&mut *input, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
                decoder.read(buffer)
            }
            Self::Xz(decoder, input, is_ended) => {
                while !*is_ended && !buffer.is_empty() {
                    let available = input.fill_buf()?;
                    let is_at_end = available.is_empty();
                    let (taken, made) = match decoder.decode(available, buffer) {
                        Ok(XzNextBlockResult::NeedMoreData(taken, made)) => (taken, made),
                        Ok(XzNextBlockResult::EndOfStream(taken, made)) => {
                            *is_ended = true;
                            (taken, made)
                        }
                        Err(XzError::DictionaryTooLarge(_)) => {
                            return Err(io::ErrorKind::OutOfMemory.into());
                        }
                        Err(XzError::NeedsLargerInputBuffer) => {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        Err(error) => return Err(io::Error::other(error.to_string())),
                    };
                    input.consume(taken);
                    if made > 0 {
                        return Ok(made);
                    }
                    if taken == 0 && (is_at_end || !*is_ended) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(0)
            }
        }
    }
}

/// The content of a whole file of one kind: its members one behind the other.
pub(super) struct Members<R: BufRead> {
    kind: Kind,
    at: Option<At<R>>,
    count: usize,
    has_given: bool,
    /// Something else may stand behind it.
    is_embedded: bool,
}

enum At<R: BufRead> {
    Between(R),
    In(Decoder<R>),
}

impl<R: BufRead> Members<R> {
    pub(super) const fn new(kind: Kind, input: R) -> Self {
        Self {
            kind,
            at: Some(At::Between(input)),
            count: 0,
            has_given: false,
            is_embedded: false,
        }
    }

    /// Those inside of something else, which is not looked at.
    pub(super) fn embedded(kind: Kind, input: R) -> Self {
        let mut members = Self::new(kind, input);
        members.is_embedded = true;
        members
    }

    /// Whether there was any content.
    pub(super) const fn has_given(&self) -> bool {
        self.has_given
    }

    /// Begins with the next member, if there is one.
    fn begin(&mut self, mut input: R) -> io::Result<Option<Decoder<R>>> {
        loop {
            let next = input.fill_buf()?;
            if next.is_empty() {
                return Ok(None);
            }
            let is_next = Kind::of(next) == Some(self.kind);
            if self.is_embedded && !is_next {
                return Ok(None);
            }
            // A tape, or the padding of xz.
            let zeros = next.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 && self.count > 0 {
                input.consume(zeros);
                continue;
            }
            if self.kind == Kind::Zstd {
                let skipped = skip_frame(&mut input)?;
                if skipped {
                    continue;
                }
            } else if !is_next {
                return Err(io::Error::other("what stands behind it is none"));
            }
            self.count += 1;
            return Decoder::new(self.kind, input).map(Some);
        }
    }
}

/// Passes over a skippable frame (RFC 8878, section 3.1.2), if `input` is at one.
fn skip_frame(input: &mut impl BufRead) -> io::Result<bool> {
    let next = input.fill_buf()?;
    let Some(([number, 0x2a, 0x4d, 0x18], rest)) = next.split_first_chunk() else {
        return Ok(false);
    };
    if number & 0xf0 != 0x50 || rest.len() < 4 {
        return Ok(false);
    }
    // The decoder of a frame takes its header from the input, and names the length.
    match FrameDecoder::new().init(&mut *input) {
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
            length,
            ..
        })) => {
            let skipped = io::copy(&mut input.take(u64::from(length)), &mut io::sink())?;
            if skipped == u64::from(length) {
                Ok(true)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        _ => Err(io::Error::other("it is no frame")),
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(at) = self.at.take() {
            let mut decoder = match at {
                At::In(decoder) => decoder,
                At::Between(input) => match self.begin(input)? {
                    Some(decoder) => decoder,
                    None => return Ok(0),
                },
            };
            let count = decoder.read(buffer)?;
            self.at = Some(if count > 0 {
                At::In(decoder)
            } else {
                At::Between(decoder.into_inner())
            });
            if count > 0 {
                self.has_given = true;
                return Ok(count);
            }
        }
        Ok(0)
    }
}

/// A buffered reader that shows at least [`Buffered::LEAST`] bytes wherever the input has them: a decoder
/// of xz takes a whole header at once.
pub(super) struct Buffered<R> {
    input: R,
    bytes: Vec<u8>,
    begin: usize,
    is_at_end: bool,
}

impl<R: Read> Buffered<R> {
    const SIZE: usize = 64 << 10;
    const LEAST: usize = 4 << 10;

    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            bytes: Vec::with_capacity(Self::SIZE),
            begin: 0,
            is_at_end: false,
        }
    }
}

impl<R: Read> BufRead for Buffered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.len() - self.begin < Self::LEAST && !self.is_at_end {
            self.bytes.drain(..self.begin);
            self.begin = 0;
            let room = Self::SIZE - self.bytes.len();
            let read = (&mut self.input)
                .take(room as u64)
                .read_to_end(&mut self.bytes)?;
            self.is_at_end = read < room;
        }
        Ok(&self.bytes[self.begin..])
    }

    fn consume(&mut self, count: usize) {
        self.begin = (self.begin + count).min(self.bytes.len());
    }
}

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
