//! Lengths in one piece: seven bits in each byte, the lowest first, and the eighth says that more
//! follow (LEB128). Most lengths have one byte or two.

/// How many bytes a length has at most: 28 bits are more than any payload needs.
const BYTES_MAX: usize = 4;

/// Says that more follow.
const MORE: u8 = 0x80;

/// Writes a length of at most 28 bits.
pub(super) fn write(out: &mut Vec<u8>, len: usize) {
    let mut left = len;
    for _ in 0..BYTES_MAX {
        let low = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        if left == 0 {
            return out.push(low);
        }
        out.push(low | MORE);
    }
}

/// Reads a length; none if there is none.
pub(super) fn read(lens: &mut &[u8]) -> Option<usize> {
    let mut len = 0;
    for place in 0..BYTES_MAX {
        let (byte, rest) = lens.split_first()?;
        *lens = rest;
        len |= usize::from(byte & !MORE) << (7 * place);
        if byte & MORE == 0 {
            return Some(len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{read, write};

    #[test]
    fn a_length_has_as_few_bytes_as_it_needs() {
        for (len, bytes) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (1 << 20, 3)] {
            let mut out = Vec::new();
            write(&mut out, len);
            assert_eq!(out.len(), bytes, "{len}");
        }
    }

    #[test]
    fn what_does_not_end_is_no_length() {
        assert_eq!(read(&mut &[0x80, 0x80][..]), None);
        assert_eq!(read(&mut &[0x80, 0x80, 0x80, 0x80, 0][..]), None);
        assert_eq!(read(&mut &[][..]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lens in prop::collection::vec(0_usize..1 << 28, 0..20)) {
            let mut out = Vec::new();
            lens.iter().for_each(|len| write(&mut out, *len));
            let mut left = out.as_slice();
            let back: Vec<usize> = std::iter::from_fn(|| read(&mut left)).collect();
            prop_assert_eq!(back, lens);
        }
    }
}
