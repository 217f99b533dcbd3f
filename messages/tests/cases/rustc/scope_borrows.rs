fn main() {
    gort::scope(|s| {
        let n = 1;
        s.go(|| println!("{n}"));
    });
    for i in 0..3 {
        gort::scope(|s| {
            for j in 0..3 {
                s.go(|| println!("{i} {j}"));
            }
        });
    }
}
