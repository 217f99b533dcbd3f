//! Closing with many senders and many receivers: any of them asks a moderator, who closes the stop channel once.
//!
//! `to_stop` has room for one name, so that the first request is kept even if the moderator is not there yet, and the
//! others find it full and go on: nobody waits to be heard.

use gort::sync::WaitGroup;
use gort::{chan, go, select};
use gort_examples::{Opt, Random, options, say};

fn main() {
    let [senders, receivers, max] = options(
        "Many senders, many receivers: a sender at the value 0 or a receiver at MAX - 1 has a moderator end it.",
        [
            Opt { name: "senders", default: 1000, range: 1..=1_000_000, about: "goroutines that send" },
            Opt { name: "receivers", default: 10, range: 1..=1_000_000, about: "goroutines that receive" },
            Opt { name: "max", default: 100_000, range: 1..=usize::MAX, about: "MAX: values are below this" },
        ],
    );
    gort::run(|| {
        let data = chan::<usize>(100);
        let stop = chan::<()>(0);
        let to_stop = chan::<String>(1);

        let moderator = {
            let (stop, to_stop) = (stop.clone(), to_stop.clone());
            go!(move || {
                let stopped_by = to_stop.recv();
                stop.close();
                stopped_by
            })
        };

        let all = WaitGroup::new();
        for id in 0..senders {
            let (data, stop, to_stop) = (data.clone(), stop.clone(), to_stop.clone());
            all.go(move || {
                let mut random = Random::new();
                loop {
                    let value = random.below(max);
                    if value == 0 {
                        select! {
                            send(to_stop, format!("sender#{id}")) => {}
                            default => {}
                        }
                        return;
                    }
                    select! {
                        recv(stop) -> _ => return,
                        send(data, value) => {}
                    }
                }
            });
        }

        for id in 0..receivers {
            let (data, stop, to_stop) = (data.clone(), stop.clone(), to_stop.clone());
            all.go(move || {
                loop {
                    select! {
                        recv(stop) -> _ => return,
                        recv(data) -> value => {
                            let value = value.expect("nobody closes the data channel");
                            if value == max - 1 {
                                select! {
                                    send(to_stop, format!("receiver#{id}")) => {}
                                    default => {}
                                }
                                return;
                            }
                            say!("{value}");
                        }
                    }
                }
            });
        }

        let stopped_by = moderator.join().expect("the moderator does not panic");
        all.wait();
        say!("stopped by {}", stopped_by.expect("nobody closes the moderator's channel"));
    });
}
