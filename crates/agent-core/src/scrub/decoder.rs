//! Decoders of archives as streams, each with a memory limit.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use xz4rust::{XzDecoder, XzError, XzNextBlockResult};

/// The largest window of zstd and dictionary of xz, in bytes: the sizes of `zstd -19` and `xz -6`.
const LONGEST_WINDOW: usize = 8 << 20;
/// The first size of the dictionary of xz, in bytes.
const FIRST_DICTIONARY: usize = 64 << 10;

/// The kind of archive of a compressed log or compressed user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
    /// xz (the .xz file format, version 1.2).
    Xz,
    /// bzip2 (bzip2(1)).
    Bzip2,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Gzip, Self::Zstd, Self::Xz, Self::Bzip2];

    /// Returns the magic number.
    pub(super) const fn magic(self) -> &'static [u8] {
        match self {
            // The third byte is the method. The only method is deflate.
            Self::Gzip => &[0x1f, 0x8b, 8],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Self::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Self::Bzip2 => b"BZh",
        }
    }

    /// Returns the kind of the archive at the beginning of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let kind = Self::ALL
            .into_iter()
            .find(|kind| bytes.starts_with(kind.magic()))?;
        // A word of text can begin like bzip2. After the block size comes the first block, or the end.
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

    /// Returns the largest memory of a decoder, in bytes.
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

/// The decoder of one member (gzip, bzip2), frame (zstd) or stream (xz). It reads no byte of the input after
/// that.
pub(super) enum Decoder<R: BufRead> {
    Gzip(GzDecoder<R>),
    Zstd(Box<FrameDecoder>, R),
    Xz(Box<XzDecoder<'static>>, R, bool),
    Bzip2(BzDecoder<R>),
}

impl<R: BufRead> Decoder<R> {
    /// Makes a decoder.
    ///
    /// # Errors
    /// An input that is not such an archive, or needs more memory than [`Kind::memory`].
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

    /// Returns the input after the decoded bytes.
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

/// The content of all consecutive members of one kind.
pub(super) struct Members<R: BufRead> {
    kind: Kind,
    at: Option<At<R>>,
    count: usize,
    has_content: bool,
    /// Other bytes may follow.
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
            has_content: false,
            is_embedded: false,
        }
    }

    /// Makes a reader of members that other bytes may follow. Those bytes are not read.
    pub(super) fn embedded(kind: Kind, input: R) -> Self {
        let mut members = Self::new(kind, input);
        members.is_embedded = true;
        members
    }

    /// Returns true when any content was read.
    pub(super) const fn has_content(&self) -> bool {
        self.has_content
    }

    /// Begins the next member, if there is one.
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
            // The zeros after an archive on a tape, or the padding of xz.
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
                return Err(io::Error::other("the bytes after it are not an archive"));
            }
            self.count += 1;
            return Decoder::new(self.kind, input).map(Some);
        }
    }
}

/// Skips a skippable frame (RFC 8878, section 3.1.2), if `input` is at the start of such a frame.
fn skip_frame(input: &mut impl BufRead) -> io::Result<bool> {
    let next = input.fill_buf()?;
    let Some(([number, 0x2a, 0x4d, 0x18], rest)) = next.split_first_chunk() else {
        return Ok(false);
    };
    if number & 0xf0 != 0x50 || rest.len() < 4 {
        return Ok(false);
    }
    // The decoder reads the header of the frame from the input, and its error contains the length.
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
        _ => Err(io::Error::other("not a zstd frame")),
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
                self.has_content = true;
                return Ok(count);
            }
        }
        Ok(0)
    }
}

/// A buffered reader that returns at least [`Buffered::LEAST`] bytes if the input has them: the decoder of xz
/// reads a complete header at once.
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
