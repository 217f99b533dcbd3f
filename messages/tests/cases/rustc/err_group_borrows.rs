use gort::sync::ErrGroup;

fn main() {
    let words = ["a", "b"];
    let group = ErrGroup::<String>::new();
    group.go(|| words.first().map(drop).ok_or_else(String::new));
    let _ = ErrGroup::<String>::scope(|g| {
        for word in words {
            g.go(|| Err(word.to_owned()));
        }
    });
}
