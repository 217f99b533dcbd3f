//! Pages to read.

#[doc = include_str!("../docs/crates.md")]
pub mod crates {}

#[doc = include_str!("../docs/phrase-book.md")]
pub mod phrase_book {}

#[doc = include_str!("../docs/safety.md")]
pub mod safety {}
