fn main() {
    let mut n = 1;
    gort::scope(|s| {
        s.go(|| n += 1);
        s.go(|| n += 1);
    });
}
