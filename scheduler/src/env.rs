//! Switches in the environment that belong to the process and not to one runtime.

use crate::throw::report;

/// What the variable chooses; `None` if it is not set, or empty. A value that is none of the choices is named on stderr, and
/// counts as not set.
pub(crate) fn choice<T: Copy>(name: &str, choices: &[(&str, T)]) -> Option<T> {
    let value = std::env::var_os(name)?;
    let text = value.to_string_lossy();
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
    if chosen.is_none() {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        report(format_args!("gort: {name}={text:?} is not {}; the default is used", words.join(" or ")));
    }
    chosen
}
