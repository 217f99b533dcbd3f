fn main() {
    let h = gort::scope(|s| s.go(|| 1));
    h.join().unwrap();
}
