//! What the compiler refuses, so that what belongs to a thread stays on its thread: each bound of the public API that asks for
//! `Send` or `Sync`, and each guard that must not have it.
//!
//! A row is one program and two words for a name in it: with the first it must not compile, with the second it must. So it
//! fails for that word and for nothing else, which the error's code alone does not say (and rustdoc looks at the code on
//! nightly only). `Rc` is neither `Send` nor `Sync`, and `Arc` is both.

macro_rules! refused {
    ($($name:ident: $code:literal $bad:literal $good:literal $program:literal)*) => {$(
        #[doc = concat!("```compile_fail,", $code, "\nuse ", $bad, " as X;\n", $program, "\n```")]
        #[doc = concat!("```no_run\nuse ", $good, " as X;\n", $program, "\n```")]
        struct $name;
    )*};
}

// -- Where a goroutine begins, and what it gives back --

refused! {
    RunTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::run(|| assert_eq!(*x, 1));"
    RunGives: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = gort::run(|| X::new(1)); drop(x);"
    RuntimeRunTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let (x, rt) = (X::new(1), gort::Runtime::builder().build().unwrap()); rt.run(|| assert_eq!(*x, 1));"
    RuntimeRunGives: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = gort::Runtime::builder().build().unwrap().run(|| X::new(1)); drop(x);"
    // A reference is sent if what it points to may be shared.
    RunBorrows: "E0277" "std::cell::Cell" "std::sync::Mutex"
        "let x = X::new(1); let r = &x; gort::run(|| { std::hint::black_box(r); });"
    GoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::go(move || assert_eq!(*x, 1));"
    GoGives: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::go(|| X::new(1));"
    GoMacroTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::go!(drop(x));"
    GoMacroOfABlockTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::go!(name = \"block\", { drop(x) });"
    RuntimeGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let (x, rt) = (X::new(1), gort::Runtime::builder().build().unwrap()); rt.go(move || drop(x));"
    RuntimeGoGives: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::Runtime::builder().build().unwrap().go(|| X::new(1));"
    BuilderGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::Builder::new().go(move || drop(x)).unwrap();"
    BuilderGoGives: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::Builder::new().go(|| X::new(1)).unwrap();"
    ScopeGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::scope(|s| { s.go(|| assert_eq!(*x, 1)); });"
    ScopeGoGives: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::scope(|s| { s.go(|| X::new(1)); });"
    WaitGroupGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::sync::WaitGroup::new().go(move || drop(x));"
    ErrGroupGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::sync::ErrGroup::<()>::new().go(move || { drop(x); Ok(()) });"
    ErrGroupTryGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::sync::ErrGroup::<()>::new().try_go(move || { drop(x); Ok(()) });"
    ErrGroupFails: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::sync::ErrGroup::with_context(&gort::context::background()).0.go(|| Err(X::new(1)));"
    ErrScopeGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); let _ = gort::sync::ErrGroup::<()>::scope(|g| g.go(|| { assert_eq!(*x, 1); Ok(()) }));"
    ErrScopeTryGoTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); let _ = gort::sync::ErrGroup::<()>::scope(|g| g.try_go(|| { assert_eq!(*x, 1); Ok(()) }));"
    ErrScopeFails: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let _ = gort::sync::ErrGroup::scope(|g| g.go(|| Err(X::new(1))));"
    TimeAfterFuncTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::time::after_func(std::time::Duration::MAX, move || assert_eq!(*x, 1));"
    ContextAfterFuncTakes: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); gort::context::after_func(&gort::context::background(), move || drop(x));"
}

// -- What goroutines share --

refused! {
    HandlesAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::JoinHandle<X<u8>>>();"
    HandlesAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::JoinHandle<X<u8>>>();"
    ScopedHandlesAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::ScopedJoinHandle<'static, X<u8>>>();"
    ScopedHandlesAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::ScopedJoinHandle<'static, X<u8>>>();"
    ChanCarries: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::chan::<X<u8>>(1);"
    ChanNewCarries: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::Chan::<X<u8>>::new(1);"
    ChannelCarries: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::channel::<X<u8>>(1);"
    ChansAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::Chan<X<u8>>>();"
    ChansAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::Chan<X<u8>>>();"
    SendersAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::Sender<X<u8>>>();"
    SendersAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::Sender<X<u8>>>();"
    ReceiversAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::Receiver<X<u8>>>();"
    ReceiversAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::Receiver<X<u8>>>();"
    IteratorsAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::IntoIter<X<u8>>>();"
    MutexesAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::sync::Mutex<X<u8>>>();"
    MutexesAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::sync::Mutex<X<u8>>>();"
    RwLocksAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::sync::RwLock<X<u8>>>();"
    // Readers share the value: what may be sent is not enough.
    RwLocksAreShared: "E0277" "std::cell::Cell" "std::sync::Mutex"
        "fn ask<T: Sync>() {} ask::<gort::sync::RwLock<X<u8>>>();"
    OnceLocksAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::sync::OnceLock<X<u8>>>();"
    OnceLocksAreShared: "E0277" "std::cell::Cell" "std::sync::Mutex"
        "fn ask<T: Sync>() {} ask::<gort::sync::OnceLock<X<u8>>>();"
    LazyLocksAreShared: "E0277" "std::cell::Cell" "std::sync::Mutex"
        "fn ask<T: Sync>() {} ask::<gort::sync::LazyLock<X<u8>>>();"
    // Whoever comes first calls the function, and has what it owns.
    LazyLocksCall: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>(_: &T) {} let x = X::new(1); ask(&gort::sync::LazyLock::new(move || *x));"
    SingleFlightsAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::sync::SingleFlight<u8, X<u8>>>();"
    SingleFlightKeysAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::sync::SingleFlight<X<u8>, u8>>();"
    ErrGroupsAreShared: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Sync>() {} ask::<gort::sync::ErrGroup<X<u8>>>();"
    ErrGroupsAreSent: "E0277" "std::rc::Rc" "std::sync::Arc"
        "fn ask<T: Send>() {} ask::<gort::sync::ErrGroup<X<u8>>>();"
    ContextValues: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::context::with_value(&gort::context::background(), X::new(1));"
    ContextValuesAreShared: "E0277" "std::cell::Cell" "std::sync::Mutex"
        "gort::context::with_value(&gort::context::background(), X::new(1));"
    GoroutineLocals: "E0277" "std::rc::Rc" "std::sync::Arc"
        "gort::goroutine_local! { static L: X<u8> = X::new(1); } L.with(|_| ());"
}

// -- What stays on the goroutine or thread where it was made --

refused! {
    OsThreadGuards: "E0277" "gort::OsThreadGuard" "gort::Runtime"
        "fn ask<T: Send>() {} ask::<X>();"
    NoSuspendGuards: "E0277" "gort::NoSuspendGuard" "gort::Runtime"
        "fn ask<T: Send>() {} ask::<X>();"
    MutexGuards: "E0277" "gort::sync::MutexGuard" "gort::Iter"
        "fn ask<T: Send>() {} ask::<X<'static, u8>>();"
    MappedMutexGuards: "E0277" "gort::sync::MappedMutexGuard" "gort::Iter"
        "fn ask<T: Send>() {} ask::<X<'static, u8>>();"
    ReadGuards: "E0277" "gort::sync::RwLockReadGuard" "gort::Iter"
        "fn ask<T: Send>() {} ask::<X<'static, u8>>();"
    MappedReadGuards: "E0277" "gort::sync::MappedRwLockReadGuard" "gort::Iter"
        "fn ask<T: Send>() {} ask::<X<'static, u8>>();"
    WriteGuards: "E0277" "gort::sync::RwLockWriteGuard" "gort::Iter"
        "fn ask<T: Send>() {} ask::<X<'static, u8>>();"
    MappedWriteGuards: "E0277" "gort::sync::MappedRwLockWriteGuard" "gort::Iter"
        "fn ask<T: Send>() {} ask::<X<'static, u8>>();"
    // Their arms may be of any type, sent or not.
    Selects: "E0277" "gort::Select" "std::str::Chars"
        "fn ask<T: Send>() {} ask::<X<'static>>();"
    WhatWasSelected: "E0277" "gort::Selected" "gort::Runtime"
        "fn ask<T: Send>() {} ask::<X>();"
    // `block_on` polls on the goroutine that calls it, and asks for nothing; the future gets there as any value does.
    FuturesOfOthers: "E0277" "std::rc::Rc" "std::sync::Arc"
        "let x = X::new(1); let f = std::future::ready(x); gort::go(move || drop(gort::block_on(f)));"
}

/// As [`refused!`], with two programs.
macro_rules! refused_beside {
    ($($name:ident: $code:literal $bad:literal $good:literal)*) => {$(
        #[doc = concat!("```compile_fail,", $code, "\n", $bad, "\n```")]
        #[doc = concat!("```no_run\n", $good, "\n```")]
        struct $name;
    )*};
}

refused_beside! {
    StdoutIsLockedByAThread: "E0277"
        "let held = std::io::stdout().lock(); gort::run(|| drop(held));"
        "let held = std::io::stdout(); gort::run(|| drop(held));"
}

// -- What borrows does not outlive what it borrows from --

refused_beside! {
    GoBorrows: "E0373"
        "let x = 1; gort::go(|| assert_eq!(x, 1));"
        "let x = 1; gort::go(move || assert_eq!(x, 1));"
    GoGivesABorrow: "E0597"
        "let x = 1; let r = &x; gort::go(move || r);"
        "static X: i32 = 1; let r = &X; gort::go(move || r);"
    BuilderGoBorrows: "E0373"
        "let x = 1; gort::Builder::new().go(|| assert_eq!(x, 1)).unwrap();"
        "let x = 1; gort::Builder::new().go(move || assert_eq!(x, 1)).unwrap();"
    RuntimeGoBorrows: "E0373"
        "let x = 1; gort::Runtime::builder().build().unwrap().go(|| assert_eq!(x, 1));"
        "let x = 1; gort::Runtime::builder().build().unwrap().go(move || assert_eq!(x, 1));"
    WaitGroupGoBorrows: "E0373"
        "let x = 1; gort::sync::WaitGroup::new().go(|| assert_eq!(x, 1));"
        "let x = 1; gort::sync::WaitGroup::new().go(move || assert_eq!(x, 1));"
    ErrGroupGoBorrows: "E0373"
        "let x = 1; gort::sync::ErrGroup::<()>::new().go(|| { assert_eq!(x, 1); Ok(()) });"
        "let x = 1; gort::sync::ErrGroup::<()>::new().go(move || { assert_eq!(x, 1); Ok(()) });"
    RunKeepsWhatIsBorrowed: "E0597"
        "let mut v: Vec<&i32> = vec![]; { let x = 1; gort::run(|| v.push(&x)); } drop(v);"
        "let x = 1; let mut v: Vec<&i32> = vec![]; { gort::run(|| v.push(&x)); } drop(v);"
    ScopesBorrowFromOutside: "E0373"
        "gort::scope(|s| { let x = 1; s.go(|| assert_eq!(x, 1)); });"
        "let x = 1; gort::scope(|s| { s.go(|| assert_eq!(x, 1)); });"
    ErrScopesBorrowFromOutside: "E0373"
        "let _ = gort::sync::ErrGroup::<i32>::scope(|g| { let x = 1; g.go(|| Err(x)); });"
        "let x = 1; let _ = gort::sync::ErrGroup::<i32>::scope(|g| { g.go(|| Err(x)); });"
    ErrScopesGiveWhatLivesOutside: "E0597"
        "let e = { let x = 1; gort::sync::ErrGroup::scope(|g| g.go(|| Err(&x))) }; drop(e);"
        "let x = 1; let e = { gort::sync::ErrGroup::scope(|g| g.go(|| Err(&x))) }; drop(e);"
    ErrScopesStay: "E0521"
        "let mut h = None; let _ = gort::sync::ErrGroup::<()>::scope(|g| h = Some(g));"
        "let _ = gort::sync::ErrGroup::<()>::scope(|g| { let mut h = None; h.replace(g); });"
    ErrScopeContextsStay: "E0521"
        "let (b, mut h) = (gort::context::background(), None);\n\
         let _ = gort::sync::ErrGroup::<()>::scope_context(&b, |_, ctx| h = Some(ctx)); drop(h);"
        "let (b, mut h) = (gort::context::background(), None);\n\
         let _ = gort::sync::ErrGroup::<()>::scope_context(&b, |_, ctx| h = Some(ctx.clone())); drop(h);"
    ScopesGiveWhatLivesOutside: "E0597"
        "let r = { let x = 1; gort::scope(|s| s.go(|| &x).join().unwrap()) }; drop(*r);"
        "let x = 1; let r = { gort::scope(|s| s.go(|| &x).join().unwrap()) }; let _ = *r;"
    ScopedHandlesStay: "E0521"
        "let mut h = None; gort::scope(|s| { h = Some(s.go(|| 1)); });"
        "gort::scope(|s| { let mut h = None; h.replace(s.go(|| 1)); });"
    GoroutineLocalsStay: "E0521"
        "gort::goroutine_local! { static L: u8 = 1; } let mut r = None; L.with(|l| r = Some(l)); drop(r);"
        "gort::goroutine_local! { static L: u8 = 1; } let mut r = None; L.with(|l| r = Some(*l)); let _ = r;"
}
