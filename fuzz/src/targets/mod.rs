//! The targets, by what they read.

pub mod apps;
pub mod disk;
pub mod logs;
pub mod peers;
pub mod rpc;
pub mod words;

/// Input as text; what is no text is read as far as it goes.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Takes two bytes as a number off the front; 0 when there are none.
fn number(data: &mut &[u8]) -> usize {
    let Some((head, rest)) = data.split_first_chunk::<2>() else { return 0 };
    *data = rest;
    u16::from_le_bytes(*head).into()
}

/// Takes up to `length` bytes off the front.
fn piece<'a>(data: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (piece, rest) = data.split_at(length.min(data.len()));
    *data = rest;
    piece
}
