use gort::select;

fn main() {
    select! { default => 1, default => 2 };
}
