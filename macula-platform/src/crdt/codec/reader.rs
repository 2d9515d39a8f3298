//! A walk over bytes.

use super::encoder::ORDERED_BYTE_MAX;
use super::error::DecodeError;

/// The most bytes that a number takes.
const NUMBER_LEN_MAX: u32 = 10;

/// Bytes that are read one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// How many bytes had been read before the first of these.
    start: usize,
    len: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, start: 0, len: bytes.len() }
    }

    /// How many bytes have been read, those among which a part stands included.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.start + self.len - self.rest.len()
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] if there is none.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(|| self.truncated())?;
        self.rest = rest;
        Ok(byte)
    }

    /// A number, in its shortest form.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`], or [`DecodeError::Form`] if it is too long or has no room in 64
    /// bits.
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        let offset = self.offset();
        let mut number = 0;
        for place in 0..NUMBER_LEN_MAX {
            let byte = self.byte()?;
            let digits = u64::from(byte & 0x7f);
            let shifted = digits << (7 * place);
            if shifted >> (7 * place) != digits {
                break;
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                if byte == 0 && place > 0 {
                    break;
                }
                return Ok(number);
            }
        }
        Err(DecodeError::Form { offset, what: "no number in its shortest form" })
    }

    /// A number that [`put_ordered`](super::put_ordered) wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`], or [`DecodeError::Form`] if it is not in its shortest form.
    pub fn ordered(&mut self) -> Result<u64, DecodeError> {
        let offset = self.offset();
        let first = self.byte()?;
        let Some(len) = first.checked_sub(ORDERED_BYTE_MAX).filter(|len| *len > 0) else {
            return Ok(first.into());
        };
        let bytes = self.take(len.into())?;
        let number = bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let is_short = bytes.first() == Some(&0) || number <= u64::from(ORDERED_BYTE_MAX);
        match is_short {
            true => Err(DecodeError::Form { offset, what: "no number in its shortest form" }),
            false => Ok(number),
        }
    }

    /// Some bytes after their length, which is `len_max` at most. `what` they are is said in errors.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`], [`DecodeError::Form`] or [`DecodeError::TooLong`].
    pub fn bytes(&mut self, what: &'static str, len_max: usize) -> Result<&'a [u8], DecodeError> {
        let offset = self.offset();
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if len > len_max {
            return Err(DecodeError::TooLong { offset, what, len, len_max });
        }
        self.take(len)
    }

    /// So many bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.truncated())?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Nothing is left.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`] if something is.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            len => Err(DecodeError::Trailing { offset: self.offset(), len }),
        }
    }

    /// A reader of `part`, which has just been read.
    pub(super) const fn part(&self, part: &'a [u8]) -> Self {
        Self { rest: part, start: self.offset().saturating_sub(part.len()), len: part.len() }
    }

    pub(super) const fn truncated(&self) -> DecodeError {
        DecodeError::Truncated { offset: self.start + self.len }
    }
}
