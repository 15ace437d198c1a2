//! Many keys: each behaves as a token by itself, and all of them together stay within their limits.

mod limits;
