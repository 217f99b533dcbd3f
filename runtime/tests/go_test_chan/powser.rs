//! `powser1.go` and `powser2.go`: power series whose coefficients flow through channels on demand, after Doug
//! McIlroy's "Squinting at Power Series". Thousands of small goroutines, most of which wait for each other in
//! circles when the program has seen enough; the runtime is then shut down over them.

use crate::common::{SIZES, Watchdog};
use gort::{Chan, chan, go, select};
use std::ops::{Add, Mul, Neg};
use std::sync::Arc;
use std::time::Duration;

/// A fraction in lowest terms. The denominator is zero at the end of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rat {
    num: i64,
    den: i64,
}

const ZERO: Rat = Rat { num: 0, den: 1 };
const ONE: Rat = Rat { num: 1, den: 1 };
const END: Rat = Rat { num: 1, den: 0 };

fn gcd(a: i64, b: i64) -> i64 {
    if a == 0 { b.abs() } else { gcd(b % a, a) }
}

fn rat(num: i64, den: i64) -> Rat {
    let g = gcd(num, den) * den.signum();
    Rat { num: num / g, den: den / g }
}

impl Rat {
    fn is_end(self) -> bool {
        self.den == 0
    }
}

impl Add for Rat {
    type Output = Rat;
    fn add(self, v: Rat) -> Rat {
        let g = gcd(self.den, v.den);
        rat(self.num * (v.den / g) + v.num * (self.den / g), self.den * (v.den / g))
    }
}

impl Mul for Rat {
    type Output = Rat;
    fn mul(self, v: Rat) -> Rat {
        let (g1, g2) = (gcd(self.num, v.den), gcd(self.den, v.num));
        Rat { num: (self.num / g1) * (v.num / g2), den: (self.den / g2) * (v.den / g1) }
    }
}

impl Neg for Rat {
    type Output = Rat;
    fn neg(self) -> Rat {
        Rat { num: -self.num, den: self.den }
    }
}

/// What flows through the channels.
trait Item: Clone + Send + 'static {
    fn of(r: Rat) -> Self;
    fn rat(&self) -> Rat;
}

impl Item for Rat {
    fn of(r: Rat) -> Rat {
        r
    }
    fn rat(&self) -> Rat {
        *self
    }
}

/// A number of an unknown type, on the heap.
trait Number: Send + Sync {
    fn parts(&self) -> (i64, i64);
}

impl Number for Rat {
    fn parts(&self) -> (i64, i64) {
        (self.num, self.den)
    }
}

impl Item for Arc<dyn Number> {
    fn of(r: Rat) -> Arc<dyn Number> {
        Arc::new(r)
    }
    fn rat(&self) -> Rat {
        let (num, den) = self.parts();
        Rat { num, den }
    }
}

/// A power series, constant term first: who wants a coefficient asks for it first.
struct Series<T> {
    req: Chan<()>,
    dat: Chan<T>,
}

impl<T> Clone for Series<T> {
    fn clone(&self) -> Series<T> {
        Series { req: self.req.clone(), dat: self.dat.clone() }
    }
}

impl<T: Item> Series<T> {
    fn new() -> Series<T> {
        Series { req: chan(0), dat: chan(0) }
    }

    /// A series that a goroutine computes.
    fn from(f: impl FnOnce(Series<T>) + Send + 'static) -> Series<T> {
        let z = Series::new();
        go!(f(z.clone()));
        z
    }

    fn get(&self) -> Rat {
        self.req.send(());
        self.dat.recv().unwrap().rat()
    }

    /// Answers a request that was received.
    fn answer(&self, r: Rat) {
        self.dat.send(T::of(r));
    }

    fn put(&self, r: Rat) {
        self.req.recv();
        self.answer(r);
    }

    fn copy_from(&self, u: &Series<T>) {
        loop {
            self.req.recv();
            self.answer(u.get());
        }
    }
}

/// A coefficient of each, in whichever order they come. What is done with becomes nil.
fn get2<T: Item>(u: &Series<T>, v: &Series<T>) -> (Rat, Rat) {
    let mut req = [u.req.clone(), v.req.clone()];
    let mut dat = [Chan::nil(), Chan::nil()];
    let mut out = [ZERO; 2];
    for _ in 0..4 {
        select! {
            send(req[0], ()) => {
                dat[0] = u.dat.clone();
                req[0] = Chan::nil();
            }
            send(req[1], ()) => {
                dat[1] = v.dat.clone();
                req[1] = Chan::nil();
            }
            recv(dat[0]) -> it => {
                out[0] = it.unwrap().rat();
                dat[0] = Chan::nil();
            }
            recv(dat[1]) -> it => {
                out[1] = it.unwrap().rat();
                dat[1] = Chan::nil();
            }
        }
    }
    out.into()
}

/// Two copies of a series, to be read at different speeds. Each coefficient has a goroutine of its own, which
/// starts the next one, keeps the coefficient for the slower reader, and then tells the next one that the
/// slower reader is its business now.
fn split_step<T: Item>(u: Series<T>, mut out: [Series<T>; 2], wait: Chan<()>) {
    let mut both = false;
    select! {
        recv(out[0].req) -> _ => {}
        recv(wait) -> _ => {
            both = true;
            select! {
                recv(out[0].req) -> _ => {}
                recv(out[1].req) -> _ => out.swap(0, 1),
            }
        }
    }
    u.req.send(());
    let release = chan(0);
    go!(split_step(u.clone(), out.clone(), release.clone()));
    let dat = u.dat.recv().unwrap();
    out[0].dat.send(dat.clone());
    if !both {
        wait.recv();
    }
    out[1].req.recv();
    out[1].dat.send(dat);
    release.send(());
}

fn split_into<T: Item>(u: Series<T>, out: [Series<T>; 2]) {
    let release = chan(0);
    go!(split_step(u, out, release.clone()));
    release.send(());
}

fn split<T: Item>(u: Series<T>) -> [Series<T>; 2] {
    let out = [Series::new(), Series::new()];
    go!(split_into(u, out.clone()));
    out
}

fn rep<T: Item>(c: Rat) -> Series<T> {
    Series::from(move |z| {
        loop {
            z.put(c);
        }
    })
}

fn add<T: Item>(u: Series<T>, v: Series<T>) -> Series<T> {
    Series::from(move |z| {
        loop {
            z.req.recv();
            let (a, b) = get2(&u, &v);
            match (a.is_end(), b.is_end()) {
                (false, false) => z.answer(a + b),
                (true, true) => z.answer(END),
                (true, false) => {
                    z.answer(b);
                    z.copy_from(&v);
                }
                (false, true) => {
                    z.answer(a);
                    z.copy_from(&u);
                }
            }
        }
    })
}

/// By a constant.
fn cmul<T: Item>(c: Rat, u: Series<T>) -> Series<T> {
    Series::from(move |z| {
        loop {
            z.req.recv();
            match u.get() {
                end if end.is_end() => return z.answer(END),
                a => z.answer(c * a),
            }
        }
    })
}

fn sub<T: Item>(u: Series<T>, v: Series<T>) -> Series<T> {
    add(u, cmul(-ONE, v))
}

/// With U = u + xU' and V = v + xV': UV = uv + x(uV' + vU') + xxU'V'.
fn mul<T: Item>(u: Series<T>, v: Series<T>) -> Series<T> {
    Series::from(move |z| {
        z.req.recv();
        let (a, b) = get2(&u, &v);
        if a.is_end() || b.is_end() {
            return z.answer(END);
        }
        z.answer(a * b);
        let ([u0, u1], [v0, v1]) = (split(u), split(v));
        let w = add(cmul(a, v0), cmul(b, u0));
        z.put(w.get());
        z.copy_from(&add(w, mul(u1, v1)));
    })
}

fn diff<T: Item>(u: Series<T>) -> Series<T> {
    Series::from(move |z| {
        z.req.recv();
        if !u.get().is_end() {
            for i in 1.. {
                let a = u.get();
                if a.is_end() {
                    break;
                }
                z.answer(rat(i, 1) * a);
                z.req.recv();
            }
        }
        z.answer(END);
    })
}

/// With its constant term.
fn integ<T: Item>(c: Rat, u: Series<T>) -> Series<T> {
    Series::from(move |z| {
        z.put(c);
        for i in 1.. {
            z.req.recv();
            let a = u.get();
            if a.is_end() {
                return z.answer(END);
            }
            z.answer(rat(1, i) * a);
        }
    })
}

/// Of a series whose constant term is taken for zero: Z' = Z U', integrated, with the result fed back.
fn exp<T: Item>(u: Series<T>) -> Series<T> {
    let zz = [Series::new(), Series::new()];
    split_into(integ(ONE, mul(zz[0].clone(), diff(u))), zz.clone());
    let [_, z] = zz;
    z
}

/// U(c x^n).
fn mon_subst<T: Item>(u: Series<T>, c: Rat, n: usize) -> Series<T> {
    Series::from(move |z| {
        let mut power = ONE;
        loop {
            z.req.recv();
            let a = u.get();
            if a.is_end() {
                return z.answer(END);
            }
            z.answer(a * power);
            power = power * c;
            (1..n).for_each(|_| z.put(ZERO));
        }
    })
}

/// The coefficients that are looked at.
const N: usize = 10;

fn check<T: Item>(what: &str, u: &Series<T>, expected: [Rat; N]) {
    for (i, expected) in expected.into_iter().enumerate() {
        assert_eq!(u.get(), expected, "coefficient {i} of {what}");
    }
}

fn constants_and_sums<T: Item>(ones: &Series<T>, twos: &Series<T>) {
    check("ones", ones, [ONE; N]);
    check("1 + 1", &add(ones.clone(), ones.clone()), [rat(2, 1); N]);
    check("1 + 2", &add(ones.clone(), twos.clone()), [rat(3, 1); N]);
    check("-1 * 2", &cmul(-ONE, twos.clone()), [rat(-2, 1); N]);
    check("1 - 2", &sub(ones.clone(), twos.clone()), [rat(-1, 1); N]);
}

fn products_and_functions<T: Item>(ones: &Series<T>) {
    let counting: [Rat; N] = std::array::from_fn(|i| rat(i as i64 + 1, 1));
    check("diff", &diff(ones.clone()), counting);
    check("mul", &mul(ones.clone(), ones.clone()), counting);
    let harmonic = std::array::from_fn(|i| if i == 0 { ZERO } else { rat(1, i as i64) });
    check("integ", &integ(ZERO, ones.clone()), harmonic);
    let exponential = [
        rat(1, 1),
        rat(1, 1),
        rat(3, 2),
        rat(13, 6),
        rat(73, 24),
        rat(167, 40),
        rat(4051, 720),
        rat(37633, 5040),
        rat(43817, 4480),
        rat(4596553, 362880),
    ];
    check("exp", &exp(ones.clone()), exponential);
    let arc_tangent = std::array::from_fn(|i| match i % 4 {
        1 => rat(1, i as i64),
        3 => rat(-1, i as i64),
        _ => ZERO,
    });
    check("atan", &integ(ZERO, mon_subst(ones.clone(), -ONE, 2)), arc_tangent);
}

/// A series of which there is an end: 1 + x.
fn finite<T: Item>(ones: &Series<T>) {
    let one_and_x = || {
        Series::<T>::from(|z| {
            z.put(ONE);
            z.put(ONE);
            z.put(END);
        })
    };
    let u = add(one_and_x(), ones.clone());
    check("1 + x + ones", &u, std::array::from_fn(|i| rat(if i < 2 { 2 } else { 1 }, 1)));
    let u = diff(one_and_x());
    assert_eq!([u.get(), u.get()], [ONE, END]);
    let u = integ(ZERO, one_and_x());
    assert_eq!([u.get(), u.get(), u.get(), u.get()], [ZERO, ONE, rat(1, 2), END]);
    let u = sub(one_and_x(), one_and_x());
    assert_eq!([u.get(), u.get(), u.get()], [ZERO, ZERO, END]);
}

fn all_series<T: Item>() {
    for procs in SIZES {
        let _watch = Watchdog::arm(&format!("power series, {procs} Ps"));
        let rt = crate::common::builder(procs).build().unwrap();
        rt.run(|| {
            let (ones, twos) = (rep::<T>(ONE), rep::<T>(rat(2, 1)));
            constants_and_sums(&ones, &twos);
            products_and_functions(&ones);
            finite(&ones);
        });
        let abandoned = rt.shutdown_timeout(Duration::ZERO);
        assert!(abandoned >= 2, "the two endless series at least are left, not {abandoned} goroutines");
    }
}

#[test]
fn powser1() {
    all_series::<Rat>();
}

/// With values of an interface type in the channels.
#[test]
fn powser2() {
    all_series::<Arc<dyn Number>>();
}
