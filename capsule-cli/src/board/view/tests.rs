//! Boards as they look.
