//! A walk over a body before anything is made of it.

use super::Limits;
use super::error::BodyError;

/// The deepest nesting that can be allowed: the walk keeps a counter for each level on its stack.
pub(super) const DEPTH_CAP: usize = 64;

/// What follows the first bytes of a value.
enum Follows {
    /// This many bytes.
    Bytes(usize),
    /// This many values.
    Values(usize),
}

/// Checks that a body is exactly one MessagePack value within the caps.
///
/// It allocates nothing and does not recurse, and a text or a blob of any length costs it one step.
/// Whatever it accepts, a serde reader can walk to its end. That texts are UTF-8, and that maps have
/// the keys which a type needs, is for the reader to say.
///
/// # Errors
///
/// [`BodyError`] with the offset, in bytes; never [`BodyError::Invalid`].
pub fn scan(body: &[u8], limits: &Limits) -> Result<(), BodyError> {
    if body.len() > limits.frame_len_max {
        return Err(BodyError::TooLong { len: body.len(), max: limits.frame_len_max });
    }
    let max = limits.depth_max.min(DEPTH_CAP);
    let mut walk = Walk { rest: body, len: body.len() };
    // How many values each open level still lacks, but for the innermost, which is `left`.
    let mut open = [0_usize; DEPTH_CAP];
    let (mut depth, mut count, mut left) = (0_usize, 0_usize, 1_usize);
    loop {
        while left == 0 {
            let Some(outer) = depth.checked_sub(1) else {
                return walk.finish();
            };
            depth = outer;
            left = open.get(depth).copied().unwrap_or_default();
        }
        left -= 1;
        let offset = walk.offset();
        match walk.value()? {
            Follows::Bytes(len) => walk.skip(len)?,
            Follows::Values(values) => {
                count = count.saturating_add(values);
                if count > limits.count_max {
                    return Err(BodyError::TooMany { offset, max: limits.count_max });
                }
                if depth >= max {
                    return Err(BodyError::TooDeep { offset, max });
                }
                // Each value has one byte at least.
                walk.holds(values)?;
                if let Some(level) = open.get_mut(depth) {
                    *level = left;
                }
                depth += 1;
                left = values;
            }
        }
    }
}

/// The bytes that were not walked over yet.
struct Walk<'a> {
    rest: &'a [u8],
    /// How many there were.
    len: usize,
}

impl Walk<'_> {
    const fn offset(&self) -> usize {
        self.len - self.rest.len()
    }

    const fn finish(&self) -> Result<(), BodyError> {
        match self.rest.len() {
            0 => Ok(()),
            len => Err(BodyError::Trailing { offset: self.offset(), len }),
        }
    }

    const fn holds(&self, len: usize) -> Result<(), BodyError> {
        match len.saturating_sub(self.rest.len()) {
            0 => Ok(()),
            missing => Err(BodyError::Truncated { offset: self.offset(), missing }),
        }
    }

    fn skip(&mut self, len: usize) -> Result<(), BodyError> {
        self.holds(len)?;
        self.rest = self.rest.get(len..).unwrap_or_default();
        Ok(())
    }

    /// A big-endian number of this many bytes.
    fn number<const N: usize>(&mut self) -> Result<usize, BodyError> {
        let Some((digits, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(BodyError::Truncated {
                offset: self.offset(),
                missing: N - self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(digits.iter().fold(0, |number, digit| (number << 8) | usize::from(*digit)))
    }

    /// Walks over the first byte of a value and over its length, if it has one.
    fn value(&mut self) -> Result<Follows, BodyError> {
        let offset = self.offset();
        let first = self.number::<1>()?;
        Ok(match first {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Follows::Bytes(0),
            0x80..=0x8f => Follows::Values((first & 0x0f) * 2),
            0x90..=0x9f => Follows::Values(first & 0x0f),
            0xa0..=0xbf => Follows::Bytes(first & 0x1f),
            0xc4 | 0xd9 => Follows::Bytes(self.number::<1>()?),
            0xc5 | 0xda => Follows::Bytes(self.number::<2>()?),
            0xc6 | 0xdb => Follows::Bytes(self.number::<4>()?),
            // Extensions have a byte for their type.
            0xc7 => Follows::Bytes(self.number::<1>()?.saturating_add(1)),
            0xc8 => Follows::Bytes(self.number::<2>()?.saturating_add(1)),
            0xc9 => Follows::Bytes(self.number::<4>()?.saturating_add(1)),
            0xcc | 0xd0 => Follows::Bytes(1),
            0xcd | 0xd1 | 0xd4 => Follows::Bytes(2),
            0xd5 => Follows::Bytes(3),
            0xca | 0xce | 0xd2 => Follows::Bytes(4),
            0xd6 => Follows::Bytes(5),
            0xcb | 0xcf | 0xd3 => Follows::Bytes(8),
            0xd7 => Follows::Bytes(9),
            0xd8 => Follows::Bytes(17),
            0xdc => Follows::Values(self.number::<2>()?),
            0xdd => Follows::Values(self.number::<4>()?),
            0xde => Follows::Values(self.number::<2>()?.saturating_mul(2)),
            0xdf => Follows::Values(self.number::<4>()?.saturating_mul(2)),
            _ => return Err(BodyError::Reserved { offset }),
        })
    }
}
