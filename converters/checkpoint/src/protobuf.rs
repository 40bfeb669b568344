//! Protobuf messages (protobuf.dev/programming-guides/encoding) as they stand, before anything is made of them.
//!
//! An empty message takes two bytes in a file and, decoded, some hundred in memory, so a file is weighed before it is decoded.

/// What a field of a message holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field<'a> {
    /// A number.
    Number,
    /// A message, a text, bytes or a list of numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message with their tags, up to the first that is none, which a decoder refuses.
pub fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let field = match key & 7 {
            0 => varint(&mut rest).map(|_| Field::Number)?,
            1 => take(&mut rest, 8).map(|_| Field::Number)?,
            2 => {
                let len = varint(&mut rest)?;
                Field::Bytes(take(&mut rest, len)?)
            }
            // The begin and the end of a group, whose fields are passed over.
            3 | 4 => Field::Number,
            5 => take(&mut rest, 4).map(|_| Field::Number)?,
            _ => return None,
        };
        Some((key >> 3, field))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).wrapping_shl(7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_where_the_message_is_none() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 9];
        let found: Vec<(u64, Field)> = fields(&message).collect();
        let expected = [(1, Field::Number), (2, Field::Bytes(b"hi")), (3, Field::Number), (4, Field::Number)];
        assert_eq!(found, expected);
        assert_eq!(fields(&[0xff; 32]).count(), 0);
    }
}
