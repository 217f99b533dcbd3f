//! Pages to read.

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[doc = include_str!("../docs/phrase-book.md")]
pub mod phrase_book {}

#[doc = include_str!("../docs/questions.md")]
pub mod questions {}

#[doc = include_str!("../docs/behaviour.md")]
pub mod behaviour {}

#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/safety.md")]
pub mod safety {}

#[doc = include_str!("../docs/crates.md")]
pub mod crates {}
