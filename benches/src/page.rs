//! A page of results, to which each comparison contributes a section of its own.

use crate::process::said;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::thread::available_parallelism;

/// How a page begins that nobody has written to.
const TITLE: &str = "# Benchmarks\n";
/// How the heading of a section begins. A section ends where the next one begins.
const HEADING: &str = "## ";

/// A section of the page.
pub struct Section {
    heading: &'static str,
    body: String,
}

impl Section {
    /// A section that has only its heading so far. It is known by it.
    pub fn new(heading: &'static str) -> Section {
        Section { heading, body: String::new() }
    }

    /// Adds a paragraph, a table or a list.
    pub fn push(&mut self, block: impl ToString) {
        self.body.push('\n');
        self.body.push_str(block.to_string().trim_end());
        self.body.push('\n');
    }

    /// The section as it stands on the page.
    pub fn text(&self) -> String {
        format!("{HEADING}{}\n{}", self.heading, self.body)
    }

    /// Puts the section into the page of that file, in place of the one that is there, or at its end.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let before = match fs::read_to_string(path) {
            Ok(page) => page,
            Err(e) if e.kind() == io::ErrorKind::NotFound => TITLE.to_owned(),
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        };
        fs::write(path, self.put_into(&before)).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    fn put_into(&self, page: &str) -> String {
        let mut parts = split(page);
        let own = format!("{HEADING}{}", self.heading);
        let text = self.text();
        match parts.iter_mut().find(|part| part.lines().next() == Some(&own)) {
            Some(part) => *part = &text,
            None => parts.push(&text),
        }
        let parts: Vec<&str> =
            parts.iter().map(|part| part.trim_end()).filter(|part| !part.is_empty()).collect();
        parts.join("\n\n") + "\n"
    }
}

/// A page in parts: what stands before the first section, and the sections.
fn split(page: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in page.split_inclusive('\n') {
        if line.starts_with(HEADING) && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().copied().skip(1).chain([page.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &page[start..end]).collect()
}

/// What the numbers depend on, but for who was measured.
pub fn facts() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cpus = available_parallelism().map_or(String::new(), |n| format!(" ({n} usable)"));
    let maps = fs::read_to_string("/proc/sys/vm/max_map_count").ok().map(|maps| maps.trim().to_owned());
    let rustc = env::var("RUSTC").unwrap_or("rustc".to_owned());
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]).map(|commit| {
        let changed = said("git", &["status", "--porcelain"]).is_some_and(|s| !s.is_empty());
        if changed { format!("{commit}, with changes") } else { commit }
    });
    let known = |v: Option<String>| v.unwrap_or("unknown".to_owned());
    format!(
        "{}, at commit {}, on {}{cpus} with {} and vm.max_map_count {}; {}",
        known(said("date", &["-u", "+%Y-%m-%d"])),
        known(commit),
        known(cpu),
        known(said("uname", &["-sr"])),
        known(maps),
        known(said(&rustc, &["--version"])),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(heading: &'static str, text: &str) -> Section {
        let mut section = Section::new(heading);
        section.push(text);
        section
    }

    #[test]
    fn a_section_takes_the_place_of_its_predecessor_and_of_nothing_else() {
        let page = "# Benchmarks\n\nBy hand.\n\n## One\n\nold\n\n### Its part\n\n## Two\n\nkept\n";
        let page = section("One", "new").put_into(page);
        assert_eq!(page, "# Benchmarks\n\nBy hand.\n\n## One\n\nnew\n\n## Two\n\nkept\n");
        let page = section("Two", "new, too").put_into(&page);
        assert_eq!(page, "# Benchmarks\n\nBy hand.\n\n## One\n\nnew\n\n## Two\n\nnew, too\n");
    }

    #[test]
    fn a_section_that_is_not_there_comes_last() {
        let page = section("One", "1").put_into(TITLE);
        assert_eq!(page, "# Benchmarks\n\n## One\n\n1\n");
        assert_eq!(section("On", "2").put_into(&page), "# Benchmarks\n\n## One\n\n1\n\n## On\n\n2\n");
        assert_eq!(section("One", "1").put_into(""), "## One\n\n1\n");
    }

    #[test]
    fn a_section_written_again_is_the_same() {
        let page = section("Two", "b").put_into(&section("One", "a\n").put_into(TITLE));
        assert_eq!(section("One", "a").put_into(&page), page);
        assert_eq!(section("Two", "b").put_into(&page), page);
    }

    #[test]
    fn a_page_that_is_not_there_begins_with_the_title() {
        let path = env::temp_dir().join(format!("gort-page-{}.md", std::process::id()));
        section("One", "1").write(&path).unwrap();
        section("Two", "2").write(&path).unwrap();
        let page = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(page, "# Benchmarks\n\n## One\n\n1\n\n## Two\n\n2\n");
    }
}
